"""Asking an engine what a prompt shows: models with windows see an object best in a window of its own."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.answering import Scene
from edgetam_model.engine import Engine, View
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

    @property
    def window(self) -> Window | None:
        """See `Seen`."""
        return self.view.window

    @property
    def iou(self) -> float:
        """See `Seen`."""
        return float(self.decoded.iou[0])

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """See `Seen`."""
        return np.asarray(self.decoded.logits[0].float().cpu().numpy())

    def showing(self, logits: NDArray[np.float32]) -> Answer:
        """See `Seen`."""
        mask = torch.from_numpy(logits.copy())[None].to(self.decoded.logits)
        return replace(self, decoded=replace(self.decoded, logits=mask))


def look(
    engine: Engine,
    see: See,
    prompt: Prompt,
    *,
    recall: Recall | None = None,
    multimask: bool | None = None,
    known: MutableMapping[bytes, Answer] | None = None,
) -> Answer:
    """Decode a prompt in the window in which its object is seen best, see `Scene.answer`.

    Args:
        engine: of the frames' size.
        see: gives a window of the frame.
        prompt: in pixels of the frame.
        recall, multimask: see `Engine.decode_prompt`.
        known: of the same frame, asked in the same way; see `Scene`.
    """

    def ask(window: Window | None, prompt: Prompt) -> Answer:
        view = see(window)
        return Answer(view, engine.decode_prompt(view, prompt, recall=recall, multimask=multimask))

    if not engine.windowed:
        return ask(None, prompt)
    scale = engine.model.config.window_scale
    known = {} if known is None else known
    return Scene(engine.size, scale, ask, lambda window: see(window).pixels, known).answer(prompt)
