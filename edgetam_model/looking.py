"""Where to look for what a prompt shows: models with windows see an object best in a window of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgetam_model.engine import Engine, View
from edgetam_model.first_looks import first_windows, merit, shown_window
from edgetam_model.memory import Recall
from edgetam_model.model_io import Decoded
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window

See = Callable[[Window | None], View]


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
    windows of several sizes, of which the best one is kept.

    A second look with the first answer as a prompt was tried and left out: on whole photographs it took the
    IoU from a box from .73 to .71, and from a click, in a window around that answer, from .47 to .42.

    Args:
        engine: of the frames' size.
        see: gives a window of the frame.
        prompt: in pixels of the frame.
        recall, multimask: see `Engine.decode_prompt`.
    """

    def answer(window: Window | None) -> Answer:
        view = see(window)
        return Answer(view, engine.decode_prompt(view, prompt, recall=recall, multimask=multimask))

    if not engine.windowed:
        return answer(None)
    window = shown_window(prompt, engine.size, engine.model.config.window_scale)
    if window is not None:
        return answer(window)
    windows = first_windows(prompt, engine.size)
    return max((answer(window) for window in windows), key=lambda found: worth(found, engine.size))


def worth(answer: Answer, size: tuple[int, int]) -> float:
    """`merit` of an answer on a frame of size (H, W)."""
    mask = (answer.decoded.logits[0] > 0).cpu().numpy()
    return merit(float(answer.decoded.iou[0]), mask, answer.view.window, size)
