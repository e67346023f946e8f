"""What a person tells the model: clicks, a box, a mask, or the logits to refine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError, PromptError
from edgetam_model.windows import Window

Points = NDArray[np.float32] | Sequence[Sequence[float]]


class Drawn(Protocol):
    """An earlier answer, see `MaskResult`."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(S, S)."""

    @property
    def window(self) -> Window | None:
        """What they cover."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """One object's prompt on one image. Coordinates are pixels (x, y) of the original image, origin top-left.

    Args:
        points: (N, 2) clicks.
        labels: (N,) 1 for a positive click, 0 for a negative one.
        box: (4,) x0, y0, x1, y1.
        mask: (H, W) bool of the image; it is the output, so it excludes clicks and a box.
        logits: (S, S) float32, the logits of an earlier result, to refine (see `refining`).
        window: the part of the image that the logits cover, as `MaskResult.window`; None: all of it.

    Raises:
        PromptError: wrong shapes or values, with the field named.
    """

    points: Any = None
    labels: Any = None
    box: Any = None
    mask: Any = None
    logits: Any = None
    window: Any = None

    def __post_init__(self) -> None:
        points, labels = _clicks(self.points, self.labels)
        set_field = object.__setattr__  # the one write: what came in becomes arrays
        set_field(self, "points", points)
        set_field(self, "labels", labels)
        set_field(self, "box", _box(self.box))
        set_field(self, "mask", _mask(self.mask))
        set_field(self, "logits", _logits(self.logits))
        set_field(self, "window", _window(self.window, self.logits))
        if self.mask is not None and (self.points is not None or self.box is not None):
            raise PromptError("mask", "excludes points and box: a mask given is the output")
        if self.mask is None and self.points is None and self.box is None and self.logits is None:
            raise PromptError("prompt", "expected points, a box, a mask or logits, got none of them")

    @property
    def has_positive(self) -> bool:
        """Whether anything says where the object is (a negative click alone does not)."""
        clicked = self.labels is not None and bool((self.labels == 1).any())
        return clicked or self.box is not None or self.mask is not None or self.logits is not None

    def refining(self, result: Drawn) -> Prompt:
        """This prompt with a result's logits and their window, to be refined instead of begun anew."""
        return replace(self, logits=result.logits, window=result.window)

    def extended(self, later: Prompt) -> Prompt:
        """This prompt with `later`'s clicks added; `later`'s box and logits win where it has them.

        Raises:
            PromptError: either of the two is a mask, which cannot be extended.
        """
        if self.mask is not None or later.mask is not None:
            raise PromptError("extend", "a mask prompt cannot be extended by clicks; replace it instead")
        clicks = [p for p in (self, later) if p.points is not None]
        drawn = later if later.logits is not None else self
        return Prompt(
            points=np.concatenate([p.points for p in clicks]) if clicks else None,
            labels=np.concatenate([p.labels for p in clicks]) if clicks else None,
            box=later.box if later.box is not None else self.box,
            logits=drawn.logits,
            window=drawn.window,
        )

    def check_inside(self, height: int, width: int) -> None:
        """Raise where the prompt does not fit an image of this size.

        Clicks may lie on the right and bottom edge (x = width); a box must overlap the image.

        Raises:
            PromptError: a click, box or window outside the image, a mask of another size.
        """
        size = f"the image ({width}×{height} pixels)"
        if self.points is not None:
            outside = (self.points < 0).any(axis=1) | (self.points > (width, height)).any(axis=1)
            if outside.any():
                x, y = self.points[int(outside.argmax())].tolist()
                raise PromptError("points", f"expected clicks inside {size}, got ({x:g}, {y:g})")
        if self.box is not None:
            x0, y0, x1, y1 = self.box.tolist()
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                raise PromptError(
                    "box", f"expected one that overlaps {size}, got {x0:g},{y0:g},{x1:g},{y1:g}"
                )
        if self.mask is not None and self.mask.shape != (height, width):
            raise PromptError("mask", f"expected {height}×{width} rows × columns, got {self.mask.shape}")
        if self.window is not None and not self.window.fits((height, width)):
            raise PromptError("window", f"expected one inside {size}, got {self.window.corners}")


def _array(field: str, value: Any, kind: type[np.generic] | None = None) -> NDArray[Any]:
    try:
        return np.asarray(value, dtype=kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(field, "expected numbers") from error


def _floats(field: str, value: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is not finite, and is refused as that
        array = _array(field, value, np.float32)
    if not np.isfinite(array).all():
        raise PromptError(field, "expected finite numbers")
    return _frozen(array)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy: a prompt stays as it was when its caller goes on writing."""
    array = array.copy()
    array.setflags(write=False)
    return array


def _clicks(points: Any, labels: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.int32] | None]:
    if points is None:
        if labels is not None and _array("labels", labels).size:
            raise PromptError("labels", "given without points")
        return None, None
    xy = _floats("points", points)
    if xy.size == 0:
        return None, None
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError("points", f"expected shape (N, 2), got {xy.shape}")
    if labels is None:
        raise PromptError("labels", "expected one label per point, 1 positive or 0 negative")
    marks = _array("labels", labels)
    if marks.shape != (len(xy),):
        raise PromptError("labels", f"expected {len(xy)} labels, one per point, got shape {marks.shape}")
    if not np.isin(marks, (0, 1)).all():
        raise PromptError("labels", f"expected 1 positive or 0 negative, got {marks.tolist()}")
    return xy, _frozen(marks.astype(np.int32))


def _box(box: Any) -> NDArray[np.float32] | None:
    if box is None:
        return None
    corners = _floats("box", box)
    if corners.shape != (4,):
        raise PromptError("box", f"expected x0, y0, x1, y1, got shape {corners.shape}")
    x0, y0, x1, y1 = corners.tolist()
    if x1 <= x0 or y1 <= y0:
        raise PromptError("box", f"expected x0 < x1 and y0 < y1, got {x0:g},{y0:g},{x1:g},{y1:g}")
    return corners


def _mask(mask: Any) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    array = _array("mask", mask)
    if array.ndim != 2 or array.size == 0:
        raise PromptError("mask", f"expected shape (H, W), got {array.shape}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise PromptError("mask", "expected booleans, or the numbers 0 and 1")
    return _frozen(array.astype(np.bool_))


def _logits(logits: Any) -> NDArray[np.float32] | None:
    if logits is None:
        return None
    array = _floats("logits", logits)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise PromptError("logits", f"expected the (S, S) logits of an earlier result, got {array.shape}")
    return array


def _window(window: Any, logits: Any) -> Window | None:
    if window is None or isinstance(window, Window):
        made = window
    else:
        corners = _floats("window", window)
        if corners.shape != (4,) or (corners != corners.round()).any():
            raise PromptError("window", f"expected whole pixels x0, y0, x1, y1, got {window!r:.80}")
        try:
            made = Window(*(int(corner) for corner in corners))
        except InputError as error:
            raise PromptError(error.field, error.problem) from error
    if made is not None and logits is None:
        raise PromptError("window", "given without logits: it says what they cover")
    return made
