"""Segmentation mask 1.1 as CVAT exports it: one picture of all objects, one of all classes. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvat_function.export_archive import ExportArchive
from cvat_function.export_drawn import Drawn, Gathering
from cvat_function.pictures import DAMAGE
from edgetam_model import InputError, MediaLimits
from edgetam_model.training.annotations import MaskShape

OBJECTS, CLASSES, LABELS = "SegmentationObject/", "SegmentationClass/", "labelmap.txt"
MAX_OBJECTS = 2_000  # of one image; more colours are no masks
MAX_LABELS = 2**20  # bytes of the list of labels
Colours = NDArray[np.uint32]  # (H, W): red, green and blue as one number; 0 is background
BACKGROUND = 0


def read_masks(archive: ExportArchive, gathering: Gathering) -> None:
    """Read every picture of objects; one that is damaged is left out and counted.

    A colour is an object; its class is that of most of its pixels.

    Raises:
        InputError: a list of labels that is damaged.
    """
    labels = _labels(archive)
    members = set(archive.members)
    for member in sorted(members):
        if not member.startswith(OBJECTS) or not member.lower().endswith(".png"):
            continue
        name = member.removeprefix(OBJECTS)[: -len(".png")]
        try:
            colours = _colours(archive.read(member), member)
            beside = CLASSES + member.removeprefix(OBJECTS)
            classes = _colours(archive.read(beside), beside) if beside in members else None
            drawn = list(_drawn(colours, classes, labels))
        except InputError:
            gathering.ignored["damaged masks"] += 1
            continue
        gathering.add_image(name, drawn)


def _labels(archive: ExportArchive) -> dict[int, str]:
    """Colour → label: lines of `label:red,green,blue:parts:actions`."""
    if LABELS not in archive.members:
        return {}
    text = archive.read(LABELS, MAX_LABELS).decode("utf-8", "replace")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            label, _, rest = line.partition(":")
            numbers = rest.partition(":")[0].split(",")
            if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) <= 3 for n in numbers):
                raise InputError(LABELS, f"expected label:red,green,blue::, got {line!r:.80}")
            red, green, blue = (int(n) for n in numbers)
            found[red << 16 | green << 8 | blue] = label
    return found


def _colours(data: bytes, name: str) -> Colours:
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            MediaLimits().check_size(name, *image.size)
            rgb = np.asarray(image.convert("RGB"), np.uint32)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(name, f"damaged: {' '.join(str(error).split()):.200}") from error
    return np.asarray(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], np.uint32)


def _drawn(colours: Colours, classes: Colours | None, labels: dict[int, str]) -> Iterator[Drawn]:
    if classes is not None and classes.shape != colours.shape:
        raise InputError(CLASSES, f"expected {colours.shape} pixels as the objects, got {classes.shape}")
    found = [int(colour) for colour in np.unique(colours) if colour != BACKGROUND]
    if len(found) > MAX_OBJECTS:
        raise InputError(OBJECTS, f"expected at most {MAX_OBJECTS} colours, got {len(found)}")
    for colour in found:
        mask = colours == colour
        label = ""
        if classes is not None:
            values, counts = np.unique(classes[mask], return_counts=True)
            label = labels.get(int(values[counts.argmax()]), "")
        yield Drawn(MaskShape.of(mask), label)
