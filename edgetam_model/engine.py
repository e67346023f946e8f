"""Between pixels and the model: frames in, prompts in, masks out. Predictors share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.errors import InputError
from edgetam_model.memory import Memory, Recall, gather
from edgetam_model.model import Decoded, EdgeTAM, ImageFeatures
from edgetam_model.prompts import Prompt

IMAGE_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0 … 1, as the published encoder expects
IMAGE_STD = (0.229, 0.224, 0.225)
BOX_LABELS = (2, 3)  # labels of a box's two corners given as points
LOGIT_LIMIT = 32.0  # earlier logits are clamped to ± this before they serve as a prompt
CACHED_FRAMES = 3  # encoded frames kept: the one being clicked on and its neighbours

Image = NDArray[np.uint8]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Tracked:
    """One object tracked to a frame.

    Attributes:
        logits: (S, S) float32 as decoded.
        iou, object_score: as in `MaskResult`.
        memory: what to remember of it.
    """

    logits: NDArray[np.float32]
    iou: float
    object_score: float
    memory: Memory


class Engine:
    """Runs the model on frames of one size, encoding each frame once.

    Args:
        model: in eval mode.
        size: (H, W) of the frames.
        dynamic_multimask: see `EdgeTAM.decode`.
        object_batch: objects that go through the model at once; more are taken in turns, which bounds memory.
    """

    def __init__(
        self, model: EdgeTAM, size: tuple[int, int], *, dynamic_multimask: bool, object_batch: int = 16
    ) -> None:
        self.model = model
        self.size = size
        self.dynamic_multimask = dynamic_multimask
        self.object_batch = object_batch
        self._encoded: OrderedDict[int, ImageFeatures] = OrderedDict()

    @torch.inference_mode()
    def encode(self, key: int, read: Callable[[], Image]) -> ImageFeatures:
        """The features of frame `key`, read and encoded unless that was done a moment ago."""
        if key in self._encoded:
            self._encoded.move_to_end(key)
        else:
            self._encoded[key] = self.model.encode_image(to_input(read(), self.model))
            if len(self._encoded) > CACHED_FRAMES:
                self._encoded.popitem(last=False)
        return self._encoded[key]

    @torch.inference_mode()
    def decode_prompt(
        self,
        image: ImageFeatures,
        prompt: Prompt,
        *,
        recall: Recall | None = None,
        previous: NDArray[np.float32] | None = None,
        multimask: bool | None = None,
    ) -> Decoded:
        """One object's mask from its prompt.

        Args:
            image: the frame.
            prompt: in pixels of the frame.
            recall: the object's memories, where it was tracked to this frame before.
            previous: logits of an earlier result to refine, unless the prompt brings its own.
            multimask: choose among three masks; None: when there is at most one click and no box.
        """
        if prompt.mask is not None:
            return self.model.from_mask(image, self._mask_input(prompt.mask))
        points, labels = self._clicks([prompt])
        refine = prompt.logits if prompt.logits is not None else previous
        if multimask is None:
            multimask = points is None or points.shape[1] <= 1
        features = self.model.without_memory(image)
        if recall is not None:
            features = self.model.with_memory(image, gather(self.model, [recall]))
        return self.model.decode(
            features,
            image,
            points,
            labels,
            self._dense(refine),
            multimask=multimask,
            dynamic_multimask=self.dynamic_multimask,
        )

    @torch.inference_mode()
    def decode_many(
        self, image: ImageFeatures, prompts: Sequence[Prompt], *, multimask: bool
    ) -> Iterator[Decoded]:
        """Independent prompts of the same kind (all clicks of one count, or all boxes), in batches."""
        features = self.model.without_memory(image)
        for chunk in _chunks(prompts, self.object_batch):
            points, labels = self._clicks(chunk)
            yield self.model.decode(
                features,
                image,
                points,
                labels,
                multimask=multimask,
                dynamic_multimask=self.dynamic_multimask,
            )

    @torch.inference_mode()
    def track(self, frame: int, image: ImageFeatures, recalls: Sequence[Recall]) -> list[Tracked]:
        """Track B objects to a frame, each with its own history, and make their new memories."""
        tracked: list[Tracked] = []
        for chunk in _chunks(recalls, self.object_batch):
            features = self.model.with_memory(image, gather(self.model, chunk))
            out = self.model.decode(features, image, multimask=True)
            latents = self.model.encode_memory(image, out.logits)
            logits = out.logits.float().cpu().numpy()
            for row in range(len(chunk)):
                memory = Memory(frame, out.pointer[row].clone(), latents[row].clone())
                tracked.append(
                    Tracked(logits[row], float(out.iou[row]), float(out.object_score[row]), memory)
                )
        return tracked

    @torch.inference_mode()
    def remember(self, image: ImageFeatures, logits: NDArray[np.float32], *, binarize: bool) -> Tensor:
        """(L, Cm): the compressed memory of one object's final logits on a prompted frame."""
        mask = torch.from_numpy(logits.copy()).to(self.model.device, self.model.dtype)[None]
        return self.model.encode_memory(image, mask, binarize=binarize)[0]

    def _clicks(self, prompts: Sequence[Prompt]) -> tuple[Tensor | None, Tensor | None]:
        rows = [self._points(prompt) for prompt in prompts]
        if not len(rows[0][1]):
            return None, None
        points = torch.from_numpy(np.stack([points for points, _ in rows]))
        labels = torch.from_numpy(np.stack([labels for _, labels in rows]))
        return points.to(self.model.device, self.model.dtype), labels.to(self.model.device)

    def _points(self, prompt: Prompt) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(N, 2) pixels of the network's input and (N,) labels, box corners first."""
        points = np.zeros((0, 2), np.float32)
        labels = np.zeros(0, np.int64)
        height, width = self.size
        if prompt.box is not None:
            corners = prompt.box.reshape(2, 2).clip(0, (width, height))
            points, labels = np.concatenate((points, corners)), np.append(labels, BOX_LABELS)
        if prompt.points is not None:
            points, labels = np.concatenate((points, prompt.points)), np.append(labels, prompt.labels)
        scale = np.float32(self.model.config.image_size) / np.array((width, height), np.float32)
        return (points * scale).astype(np.float32), labels.astype(np.int64)

    def _dense(self, logits: NDArray[np.float32] | None) -> Tensor | None:
        if logits is None:
            return None
        side = self.model.config.low_res
        if logits.shape != (side, side):
            raise InputError("logits", f"expected shape ({side}, {side}), got {logits.shape}")
        clamped = logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
        return torch.from_numpy(clamped).to(self.model.device, self.model.dtype)[None, None]

    def _mask_input(self, mask: NDArray[np.bool_]) -> Tensor:
        """(1, 1, S, S) of 0 and 1: the mask at the network's input size."""
        side = self.model.config.image_size
        pixels = torch.from_numpy(mask.copy()).to(self.model.device, self.model.dtype)[None, None]
        if mask.shape == (side, side):
            return pixels
        resized = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        return (resized >= 0.5).to(self.model.dtype)


def to_input(rgb: Image, model: EdgeTAM) -> Tensor:
    """uint8 (H, W, 3) → float32 (1, 3, S, S), stretched to the square and normalised.

    Bilinear with antialiasing, as SAM 2's image predictor resizes.

    Raises:
        InputError: not an RGB image.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError("image", f"expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
    side = model.config.image_size
    pixels = torch.from_numpy(np.array(rgb)).to(model.device).permute(2, 0, 1)[None]
    if pixels.shape[2:] != (side, side):
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    mean = torch.tensor(IMAGE_MEAN, device=model.device)[:, None, None]
    std = torch.tensor(IMAGE_STD, device=model.device)[:, None, None]
    return ((pixels.float() / 255 - mean) / std).to(model.dtype)


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[i : i + size] for i in range(0, len(items), size))
