"""The one mask encoder: COCO run lengths, boxes, polygons, small regions, overlap. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
Counts = NDArray[np.int64]

MAX_PIXELS = 2**27  # 134 megapixels, above any camera; a run-length mask of 20 bytes can claim any size
HOLE_LOGIT = 0.1  # SAM 2's value for a filled hole: object, but barely
ISLAND_LOGIT = -0.1  # and for a removed island

_MAX_GROUPS = 7  # 35 bits hold any difference of two counts below 2³³ pixels


class Rle(TypedDict):
    """A mask as COCO writes it: `size` is [H, W], `counts` the compressed column-major run lengths."""

    size: list[int]
    counts: str


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected region of a mask.

    Attributes:
        outline: (N, 2) float32 x, y in pixels; pixel (0, 0) covers the square from (0, 0) to (1, 1).
        holes: the outlines of what is cut out of it, each (M, 2).
    """

    outline: NDArray[np.float32]
    holes: tuple[NDArray[np.float32], ...] = ()


def mask_box(mask: Mask) -> Box | None:
    """x0, y0, x1, y1 in pixels around the mask (H, W), the far edges excluded; None for an empty mask."""
    rows = np.logical_or.reduce(mask, axis=1)
    y0 = int(rows.argmax()) if rows.size else 0
    if not rows.size or not rows[y0]:
        return None
    y1 = rows.size - int(rows[::-1].argmax())
    columns = np.logical_or.reduce(mask[y0:y1], axis=0)
    x0 = int(columns.argmax())
    x1 = columns.size - int(columns[::-1].argmax())
    return x0, y0, x1, y1


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks (H, W), 0 to 1; two empty masks agree: 1.

    Raises:
        InputError: masks of different shapes.
    """
    if a.shape != b.shape:
        raise InputError("mask", f"expected two of one shape, got {a.shape} and {b.shape}")
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


# Run lengths ------------------------------------------------------------------------------------------


def mask_counts(mask: Mask) -> Counts:
    """Uncompressed COCO counts of a mask (H, W): lengths of 0-run, 1-run, 0-run … down the columns.

    Raises:
        InputError: not a two-dimensional array with at least one pixel.
    """
    bits = np.asarray(mask)
    if bits.ndim != 2 or bits.size == 0:
        raise InputError("mask", f"expected shape (H, W) with at least one pixel, got {bits.shape}")
    columns = cv2.transpose(np.ascontiguousarray(bits, dtype=np.bool_).view(np.uint8)).ravel()
    changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    leading = [0, 0] if columns[0] else [0]  # the first run is of zeros, even when it is empty
    return np.diff(np.concatenate((leading, changes, [columns.size])))


def encode_rle(mask: Mask) -> Rle:
    """COCO's compressed run lengths of a mask (H, W), byte for byte as pycocotools writes them.

    Raises:
        InputError: not a two-dimensional array with at least one pixel.
    """
    counts = mask_counts(mask)
    return {"size": [int(n) for n in np.shape(mask)], "counts": compress_counts(counts)}


def decode_rle(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> Mask:
    """The mask (H, W) of run lengths: `counts` compressed (str, bytes) or a list of lengths.

    Raises:
        InputError: a size beyond `max_pixels`, or counts that do not describe a mask of that size;
            nothing larger than the stated size is allocated before that is known.
    """
    height, width = rle_size(rle, max_pixels)
    counts = rle_counts(rle, max_pixels)
    values = np.arange(counts.size, dtype=np.uint8) & 1
    columns = np.repeat(values, counts).reshape(width, height)
    return cv2.transpose(columns).view(np.bool_).reshape(height, width)


def rle_area(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> int:
    """Pixels of the mask, without decoding it. Raises as `decode_rle`."""
    return int(rle_counts(rle, max_pixels)[1::2].sum())


def rle_box(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> Box | None:
    """`mask_box` of the mask, without decoding it. Raises as `decode_rle`."""
    height, _ = rle_size(rle, max_pixels)
    ends = np.cumsum(rle_counts(rle, max_pixels))
    first, last = ends[:-1:2], ends[1::2] - 1  # first and last pixel of each run of ones
    first = first[: last.size]
    runs = last >= first
    first, last = first[runs], last[runs]
    if not first.size:
        return None
    x0, x1 = int(first[0] // height), int(last[-1] // height)
    if (first // height != last // height).any():  # a run over a column's end touches top and bottom
        return x0, 0, x1 + 1, height
    return x0, int((first % height).min()), x1 + 1, int((last % height).max()) + 1


def rle_size(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(H, W) of the mask. Raises InputError for anything but two positive integers within the limit."""
    size = rle.get("size")
    if not isinstance(size, (list, tuple)) or len(size) != 2 or any(type(n) is not int for n in size):
        raise InputError("size", f"expected [height, width] in pixels, got {size!r:.80}")
    height, width = size
    if height < 1 or width < 1 or height * width > max_pixels:
        raise InputError("size", f"expected 1 to {max_pixels} pixels, got {height}×{width}")
    return height, width


def rle_counts(rle: Mapping[str, Any], max_pixels: int = MAX_PIXELS) -> Counts:
    """Uncompressed counts of the mask, checked against its size. Raises as `decode_rle`."""
    height, width = rle_size(rle, max_pixels)
    pixels = height * width
    given = rle.get("counts")
    if isinstance(given, (str, bytes)):
        counts = decompress_counts(given, pixels)
    elif isinstance(given, (list, tuple)):
        counts = _listed_counts(given, pixels)
    else:
        raise InputError("counts", f"expected a string or a list of integers, got {type(given).__name__}")
    if counts.size and (counts.min() < 0 or counts.max() > pixels):
        raise InputError("counts", f"expected lengths of 0 to {pixels} pixels")
    total = int(counts.sum())
    if total != pixels:
        raise InputError("counts", f"expected lengths that add up to {pixels} pixels, got {total}")
    return counts


def _listed_counts(given: Sequence[Any], pixels: int) -> Counts:
    if len(given) > pixels + 1:
        raise InputError("counts", f"expected at most {pixels + 1} lengths, got {len(given)}")
    if any(type(n) is not int or not 0 <= n <= pixels for n in given):
        raise InputError("counts", f"expected integers of 0 to {pixels}")
    return np.array(given, dtype=np.int64)


def compress_counts(counts: Counts) -> str:
    """COCO's string of counts: from the fourth on the difference to the count two before, in groups of
    5 bits, lowest first, sign-extended; bit 5 says that more follow; 48 is added to reach ASCII."""
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    groups = np.stack([deltas >> (5 * k) for k in range(_MAX_GROUPS)])  # (groups, counts)
    low = groups & 31
    rest = groups >> 5
    more = np.where(low & 16, rest != -1, rest != 0)
    used = np.ones_like(more)
    used[1:] = np.logical_and.accumulate(more[:-1], axis=0)
    letters = (low + 32 * more + 48).astype(np.uint8)
    return str(letters.T[used.T].tobytes(), "ascii")


def decompress_counts(text: str | bytes, pixels: int) -> Counts:
    """The counts of COCO's string, for a mask of so many pixels; `compress_counts` is its inverse.

    Raises:
        InputError: other characters, a cut-off string, or more counts than pixels allow.
    """
    if len(text) > _MAX_GROUPS * (pixels + 1):
        raise InputError("counts", f"expected at most {pixels + 1} lengths, got {len(text)} characters")
    if isinstance(text, str):
        if not text.isascii():
            raise InputError("counts", "expected ASCII characters from '0' to 'o'")
        text = text.encode("ascii")
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not letters.size:
        raise InputError("counts", "expected run lengths, got an empty string")
    if letters.min() < 0 or letters.max() > 63:
        raise InputError("counts", "expected characters from '0' to 'o'")
    ends = np.flatnonzero(letters < 32)
    if not ends.size or ends[-1] != letters.size - 1:
        raise InputError("counts", "the string is cut off in the middle of a length")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise InputError("counts", f"a length takes more than {_MAX_GROUPS} characters")
    place = np.arange(letters.size) - np.repeat(starts, lengths)
    counts = np.add.reduceat((letters & 31) << (5 * place), starts)
    counts -= np.where(letters[ends] & 16, np.int64(1) << (5 * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


# Polygons ---------------------------------------------------------------------------------------------
# Outlines run along the pixels' edges, so that a polygon has the area of its mask. They are traced on a
# grid of twice the size whose even coordinates are pixel corners and whose odd ones are pixel centres.


def mask_to_polygons(mask: Mask, tolerance: float = 0.0) -> list[Polygon]:
    """The regions of a mask (H, W), largest first; regions that touch at a corner count as one.

    Args:
        mask: (H, W) bool.
        tolerance: pixels by which the outline may leave the mask's; 0 keeps the mask exactly.
    """
    box = mask_box(mask)
    if box is None:
        return []
    x0, y0, x1, y1 = box
    grid = _corner_grid(mask[y0:y1, x0:x1])
    contours, tree = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    origin = np.array([x0, y0], np.float32)
    holes: dict[int, list[NDArray[np.float32]]] = {}
    for contour, parent in zip(contours, tree[0, :, 3].tolist(), strict=True):
        outline = _simplified(contour, tolerance)
        if parent >= 0 and len(outline) >= 3:  # a hole thinner than the tolerance is dropped
            holes.setdefault(parent, []).append(outline + origin)
    regions = [index for index, parent in enumerate(tree[0, :, 3].tolist()) if parent < 0]
    regions.sort(key=lambda index: -cv2.contourArea(contours[index]))
    return [
        Polygon(_outer(contours[index], tolerance) + origin, tuple(holes.get(index, ()))) for index in regions
    ]


def polygons_to_mask(polygons: Sequence[Polygon], height: int, width: int) -> Mask:
    """The mask (height, width): pixels whose centre lies inside a polygon and outside its holes, to within
    a quarter of a pixel; outlines from `mask_to_polygons` at tolerance 0 give back their mask exactly.

    Raises:
        InputError: an outline that is not (N, 2) finite numbers with at least three points.
    """
    mask = np.zeros((height, width), np.bool_)
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    for polygon in polygons:
        grid[:] = 0
        outlines = [_grid_points(ring, height, width) for ring in (polygon.outline, *polygon.holes)]
        cv2.fillPoly(grid, outlines, 1, lineType=cv2.LINE_8, shift=_GRID_SHIFT)
        mask |= grid[1::2, 1::2].view(np.bool_)
    return mask


_GRID_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates: 1/32 of a pixel


def _corner_grid(mask: Mask) -> NDArray[np.uint8]:
    """(2H + 1, 2W + 1): each pixel as its centre, its edges and its corners."""
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    grid[1::2, 1::2] = mask
    cv2.dilate(grid, np.ones((3, 3), np.uint8), dst=grid)
    return grid


def _simplified(contour: NDArray[Any], tolerance: float) -> NDArray[np.float32]:
    points = cv2.approxPolyDP(contour, 2 * tolerance, True) if tolerance > 0 else contour
    return points[:, 0].astype(np.float32) / np.float32(2)


def _outer(contour: NDArray[Any], tolerance: float) -> NDArray[np.float32]:
    """A region is never lost to the tolerance: one too small for it keeps its own outline."""
    points = _simplified(contour, tolerance)
    return points if len(points) >= 3 else _simplified(contour, 0)


def _grid_points(ring: NDArray[np.float32], height: int, width: int) -> NDArray[np.int32]:
    points = np.asarray(ring, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise InputError("polygon", f"expected at least three finite points (N, 2), got shape {points.shape}")
    limit = 2 * max(height, width) + 1  # far outside is as good as farther: keeps the integers small
    scaled = np.clip(2 * points, -limit, 2 * limit) * 2**_GRID_SHIFT
    integers: NDArray[np.int32] = np.rint(scaled).astype(np.int32)
    return integers


# Small regions ----------------------------------------------------------------------------------------


def fill_holes(logits: NDArray[np.float32], area: int) -> NDArray[np.float32]:
    """Low-resolution logits (S, S) with background regions of at most `area` pixels set to 0.1.

    Regions are 8-connected, as SAM 2 fills them; a small corner that the object cuts off counts too.
    The input is not written to, and is itself the answer where nothing changes.
    """
    small = _small_regions(logits <= 0, area, keep_largest=False)
    return logits if small is None else np.where(small, np.float32(HOLE_LOGIT), logits)


def remove_islands(logits: NDArray[np.float32], area: int) -> NDArray[np.float32]:
    """Low-resolution logits (S, S) with object regions of at most `area` pixels set to −0.1.

    Regions are 8-connected; the object's largest region stays, however small it is.
    The input is not written to, and is itself the answer where nothing changes.
    """
    small = _small_regions(logits > 0, area, keep_largest=True)
    return logits if small is None else np.where(small, np.float32(ISLAND_LOGIT), logits)


def _small_regions(mask: Mask, area: int, *, keep_largest: bool) -> Mask | None:
    """Pixels of the mask's regions of at most `area` pixels; None where there are none."""
    if area <= 0 or not mask.any():
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    small = sizes <= area
    small[0] = False  # label 0 is the rest of the image
    if keep_largest and count > 1:
        small[1 + int(sizes[1:].argmax())] = False
    return small[labels] if small.any() else None
