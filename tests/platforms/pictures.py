"""Screenshots made small enough for a README, kept where EDGETAM_PICTURES says."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

LARGEST = 150_000  # bytes of one picture
COLOURS = 256  # of a screenshot: text stays sharp, and what the octree picks keeps small things' colours


def wanted_in() -> Path | None:
    """The folder that pictures go to; None: they are made and looked at, and not kept."""
    named = os.environ.get("EDGETAM_PICTURES")
    return Path(named) if named else None


def keep(shot: Path, name: str) -> None:
    """Keep a screenshot as `name`.png, in few colours.

    Raises:
        AssertionError: it is larger than `LARGEST`.
    """
    small = shot.with_name(f"{name}.small.png")
    with Image.open(shot) as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(small, optimize=True)
    _keep(small, f"{name}.png")


def keep_photo(picture: Image.Image, folder: Path, name: str) -> None:
    """Keep a picture without text as `name`.jpg; raises as `keep`."""
    small = folder / f"{name}.jpg"
    picture.save(small, quality=82, optimize=True)
    _keep(small, small.name)


def _keep(small: Path, name: str) -> None:
    size = small.stat().st_size
    assert size < LARGEST, f"{name} has {size:,} bytes"
    folder = wanted_in()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(small.read_bytes())
