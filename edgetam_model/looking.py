"""Where to look for what a prompt shows: models with windows see an object best in a window of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgetam_model.engine import Engine, View
from edgetam_model.memory import Recall
from edgetam_model.model import Decoded
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window, object_box, window_around, window_at

See = Callable[[Window | None], View]

FIRST_LOOKS = (1 / 2, 1 / 4)  # sides of the windows around clicks alone, in shorter sides of the frame
TINY = 0.001  # share of its window below which a mask is a speck: 16 of 128 × 128 pixels
NO_OBJECT = 1.0  # taken off the predicted IoU of a mask that is a speck or that its window cuts off


@dataclass(frozen=True, eq=False)
class Answer:
    """What a prompt shows.

    Attributes:
        view: where it was found.
        decoded: one object's masks.
    """

    view: View
    decoded: Decoded


def look(
    engine: Engine, see: See, prompt: Prompt, *, recall: Recall | None = None, multimask: bool | None = None
) -> Answer:
    """Decode a prompt in the window in which its object is seen best.

    A box, a mask or an earlier result says which one that is. Clicks alone do not: they are answered in
    windows of several sizes, and the best answer's mask says where to look closer. Every answer to a box or
    to clicks is looked at a second time, with itself as a prompt.

    Args:
        engine: of the frames' size.
        see: gives a window of the frame.
        prompt: in pixels of the frame.
        recall, multimask: see `Engine.decode_prompt`.
    """

    def answer(window: Window | None, prompt: Prompt) -> Answer:
        view = see(window)
        return Answer(view, engine.decode_prompt(view, prompt, recall=recall, multimask=multimask))

    if not engine.windowed:
        return answer(None, prompt)
    scale = engine.model.config.window_scale
    window = shown_window(prompt, engine.size, scale)
    if window is not None:
        first = answer(window, prompt)
        if prompt.mask is not None or prompt.logits is not None:
            return first
        return answer(window, refining(prompt, first))
    first = max((answer(window, prompt) for window in first_windows(prompt, engine.size)), key=merit)
    closer = found_window(first, engine.size, scale)
    if closer is None:
        return first
    return answer(closer.including(prompt.points, engine.size), refining(prompt, first))


def refining(prompt: Prompt, answer: Answer) -> Prompt:
    """The prompt with its first answer beside it: a second look is closer to the object's outline."""
    logits = answer.decoded.logits[0].float().cpu().numpy()
    return replace(prompt, logits=logits, window=answer.view.window)


def shown_window(prompt: Prompt, size: tuple[int, int], scale: float) -> Window | None:
    """The window that a mask, a box or an earlier result asks for, its clicks included; else None."""
    if prompt.mask is not None:
        box = object_box(prompt.mask)
        return Window.whole(size) if box is None else window_around(box, size, scale)
    window = None
    if prompt.box is not None:
        window = window_around(prompt.box, size, scale)
    elif prompt.logits is not None:
        window = prompt.window or Window.whole(size)
    return window if window is None or prompt.points is None else window.including(prompt.points, size)


def first_windows(prompt: Prompt, size: tuple[int, int]) -> list[Window]:
    """The whole frame, and smaller windows in the middle of the positive clicks, with all clicks in them."""
    positive = prompt.points[prompt.labels == 1]
    middle = (positive.min(axis=0) + positive.max(axis=0)) / 2
    closer = [window_at(middle, share * min(size), size) for share in FIRST_LOOKS]
    return [Window.whole(size), *(window for window in closer if window.contains(prompt.points))]


def merit(answer: Answer) -> float:
    """How much an answer is worth: its predicted IoU, if it looks like an object at all."""
    iou, mask = float(answer.decoded.iou[0]), _mask(answer)
    return iou - NO_OBJECT if mask.mean() < TINY or _cut_off(mask) else iou


def found_window(answer: Answer, size: tuple[int, int], scale: float) -> Window | None:
    """The window around an answer's mask; None where it is empty."""
    box = object_box(_mask(answer))
    if box is None:
        return None
    shown = answer.view.window or Window.whole(size)
    corners = shown.from_window(box.reshape(2, 2), answer.decoded.logits.shape[-1])
    return window_around(corners, size, scale)


def _cut_off(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask goes from border to border."""
    left, right, top, bottom = (bool(edge.any()) for edge in (mask[:, 0], mask[:, -1], mask[0], mask[-1]))
    return (left and right) or (top and bottom)


def _mask(answer: Answer) -> NDArray[np.bool_]:
    return (answer.decoded.logits[0] > 0).cpu().numpy()
