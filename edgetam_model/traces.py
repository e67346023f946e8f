"""What memories say in pixels of the frame: where an object was, and what it looked like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.config import LOW_RES_STRIDE
from edgetam_model.memory import Recall
from edgetam_model.model_io import ImageFeatures
from edgetam_model.nn.evidence import Trace
from edgetam_model.outlines import Outline
from edgetam_model.windows import Window, next_window


def recalled_window(recall: Recall, size: tuple[int, int], scale: float) -> Window:
    """Where to look for an object on the next frame; its memories alone say so.

    Args:
        recall: from `MemoryBank.recall`, of a model with windows.
        size: (H, W) of the frames.
        scale: `EdgeTAMConfig.window_scale`.
    """
    trace = recall.recent
    assert trace is not None, "the frame before, or else a conditioning frame, keeps its trace"
    return next_window(traced_window(trace), traced_mask(trace), size, scale)


def traced_window(trace: Trace) -> Window:
    """The window that a trace was made of."""
    x0, y0, x1, y1 = (round(corner) for corner in trace.window.tolist())
    return Window(x0, y0, x1, y1)


def traced_mask(trace: Trace) -> NDArray[np.bool_]:
    """(S, S): the mask that a trace was made of, as its window shows it."""
    labels = F.pixel_shuffle(trace.labels[None], LOW_RES_STRIDE)[0, 0]
    return (labels > 0).cpu().numpy()


def seen_before(recall: Recall) -> tuple[Outline, Outline]:
    """The object's masks on the frame before and on the nearest prompted one."""
    last, shown = recall.recent, recall.shown
    assert last is not None, "models with windows leave traces"
    assert shown is not None, "tracking begins with a prompt"
    return outline(last), outline(shown)


def outlines(image: ImageFeatures, windows: Sequence[Window | None], logits: Tensor) -> list[Outline]:
    """What windows show of B objects, by their (B, S, S) logits."""
    detail, masks = image.detail, (logits > 0).cpu().numpy()
    assert detail is not None, "models with windows keep what places look like"
    seen = zip(masks, windows, detail.keys.cpu().numpy(), strict=True)
    return [Outline(mask, window, keys) for mask, window, keys in seen if window is not None]


def outline(trace: Trace) -> Outline:
    """The object as a trace has it."""
    return Outline(traced_mask(trace), traced_window(trace), trace.keys.cpu().numpy())
