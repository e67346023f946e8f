"""What goes into the model and what comes out of it: features, memories, prompts, masks. All batch first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from edgetam_model.nn.evidence import Trace


@dataclass(frozen=True)
class Detail:
    """The pyramid's finer maps at full width, and what evidence goes by.

    Attributes:
        pyramid4, pyramid8: (B, C, S/4 …) and (B, C, S/8 …).
        keys: (B, K, S/4, S/4) float32, what places look like.
        window: (B, 4) x0, y0, x1, y1 in pixels of the frame: what the view shows.
    """

    pyramid4: Tensor
    pyramid8: Tensor
    keys: Tensor
    window: Tensor

    def rows(self, index: Tensor) -> Detail:
        """See `ImageFeatures.rows`."""
        return Detail(self.pyramid4[index], self.pyramid8[index], self.keys[index], self.window[index])


@dataclass(frozen=True)
class Seen:
    """Traces of B objects: of the frame before, and of the nearest conditioning frame."""

    recent: Trace
    shown: Trace


@dataclass(frozen=True)
class Remembered:
    """What B objects remember, in slots; objects with fewer memories leave slots unused.

    Attributes:
        latents: (B, M, L, Cm) compressed memories, in order: conditioning frames, then recent ones.
        ages: (B, M) int64, 0 for conditioning frames, else frames back from now.
        pointers: (B, P, C) object pointers.
        used, pointed: (B, M) and (B, P) bool, which slots count; None where all do.
    """

    latents: Tensor
    ages: Tensor
    pointers: Tensor
    used: Tensor | None = None
    pointed: Tensor | None = None


@dataclass(frozen=True)
class ImageFeatures:
    """One image, encoded once for all objects and prompts; or B views of it, one for each object.

    Attributes:
        stride4: (1, C/8, S/4, S/4) for the mask decoder.
        stride8: (1, C/4, S/8, S/8) for the mask decoder.
        stride16: (1, C, S/16, S/16) for memories and decoder.
        detail: what a refiner needs besides; None without one.
    """

    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    detail: Detail | None = None

    def rows(self, index: Tensor) -> ImageFeatures:
        """Some of B views, or all anew in another order."""
        detail = None if self.detail is None else self.detail.rows(index)
        return ImageFeatures(self.stride4[index], self.stride8[index], self.stride16[index], detail)


@dataclass(frozen=True)
class Decoded:
    """The decoder's answer for B objects. S = side of the low-resolution logits.

    Attributes:
        logits: (B, S, S) the chosen mask, S = `config.mask_size`.
        raw: (B, S, S) the same as it was drawn, whether the object is there or not.
        iou: (B,) its estimated IoU.
        pointer: (B, C) object pointer.
        object_score: (B,) logit; ≤ 0 means absent.
        candidates: (B, M, S, S) the masks it was chosen from, in the decoder's order.
        candidate_ious: (B, M).
    """

    logits: Tensor
    raw: Tensor
    iou: Tensor
    pointer: Tensor
    object_score: Tensor
    candidates: Tensor
    candidate_ious: Tensor


@dataclass(frozen=True)
class Choice:
    """Which of the masks offered is the answer.

    Attributes:
        multimask: the one of masks 1–3 with the highest estimated IoU; else mask 0.
        dynamic_multimask: where mask 0 is taken and unstable, the best of 1–3 after all.
        shown: someone points at the objects, so that they are there whatever their score says.
        open: masks and pointers are as if the objects were there; `EdgeTAM.believe` says which of them are.
    """

    multimask: bool
    dynamic_multimask: bool = False
    shown: bool = False
    open: bool = False

    def present(self, object_score: Tensor) -> Tensor:
        """Which masks and pointers are shown, bool in the scores' shape."""
        return (object_score > 0) | self.open


class Runtime(Protocol):
    """Computes the heavy parts in the model's place; arguments and results are those of its methods."""

    def encode_pixels(self, pixels: Tensor, window: Tensor | None) -> ImageFeatures:
        """See `EdgeTAM.encode_pixels`."""

    def with_memory(self, image: ImageFeatures, remembered: Remembered) -> Tensor:
        """See `EdgeTAM.with_memory`."""

    def decode(
        self,
        features: Tensor,
        image: ImageFeatures,
        points: Tensor | None,
        labels: Tensor | None,
        mask_logits: Tensor | None,
        *,
        choice: Choice,
        seen: Seen | None,
    ) -> Decoded:
        """See `EdgeTAM.decode`."""

    def encode_memory(self, image: ImageFeatures, logits: Tensor, *, binarize: bool) -> Tensor:
        """See `EdgeTAM.encode_memory`."""
