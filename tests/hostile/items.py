"""What a hostile file is, and the words with which each door must refuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

READ = ""  # a door that may read it: what it holds is what it says
NEITHER = "is neither an image nor a video that can be opened"
NO_PICTURE = "not an image of a known format"
NOT_VIDEO = "expected a video, got an image"
NOT_IMAGE = "expected an image, got a video"


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        make: its bytes; called when it is needed.
        image, video, cvat: regular expressions that the refusals of Label Studio's image requests, of video
            jobs and of CVAT's functions must match; READ where there is nothing to refuse.
    """

    name: str
    make: Callable[[], bytes]
    image: str = NEITHER
    video: str = NEITHER
    cvat: str = NO_PICTURE


def picture(name: str, make: Callable[[], bytes], why: str, cvat: str | None = None) -> Item:
    """A file that begins like an image."""
    return Item(name, make, why, NOT_VIDEO, why if cvat is None else cvat)


def film(name: str, make: Callable[[], bytes], why: str, image: str = NOT_IMAGE) -> Item:
    """A file that begins like a video."""
    return Item(name, make, image, why, NO_PICTURE)
