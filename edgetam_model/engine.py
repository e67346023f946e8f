"""Between pixels and the model: frames in, prompts in, masks out. Predictors share it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.credence import Sighting
from edgetam_model.errors import InputError
from edgetam_model.memory import Memory, Recall, gather, gather_seen
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Choice, Decoded, ImageFeatures
from edgetam_model.pieces import foreign
from edgetam_model.prompts import Prompt
from edgetam_model.runtime.threads import one_thread
from edgetam_model.searching import further
from edgetam_model.traces import outlines, recalled_window, seen_before
from edgetam_model.windows import Window, resampled

BOX_LABELS = (2, 3)  # labels of a box's two corners given as points
LOGIT_LIMIT = 32.0  # earlier logits are clamped to ± this before they serve as a prompt
CACHED_FRAMES = 3  # encoded frames kept: the one being clicked on and its neighbours
CACHED_WINDOWS = 16  # or windows, which several objects on those frames look through

Image = NDArray[np.uint8]
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class View:
    """A frame as the model sees it.

    Attributes:
        image: its features, a batch of 1.
        window: what it shows; None: the whole frame, always so for models without windows.
        pixels: uint8 (S, S, 3) RGB, what the network sees in a window; None: of a whole frame nobody asks.
    """

    image: ImageFeatures
    window: Window | None
    pixels: Image | None = None


@dataclass(frozen=True)
class Tracked:
    """One object tracked to a frame.

    Attributes:
        logits: (S, S) float32 as decoded.
        iou, object_score, window: as in `MaskResult`.
        memory: what to remember of it.
    """

    logits: NDArray[np.float32]
    iou: float
    object_score: float
    memory: Memory
    window: Window | None


@dataclass(frozen=True, eq=False)
class Shown:
    """B objects on one frame.

    Attributes:
        image: features of the frame, or of everyone's window.
        windows: B; None: the whole frame.
        decoded: their masks.
    """

    image: ImageFeatures
    windows: Sequence[Window | None]
    decoded: Decoded


class Engine:
    """Runs the model on frames of one size, encoding each frame, or window of one, once.

    Args:
        model: in eval mode.
        size: (H, W) of the frames.
        dynamic_multimask: see `EdgeTAM.decode`.
        object_batch: objects that go through the model at once; more are taken in turns, which bounds memory.
        verify: whether tracked masks must be credible; see `TrackerOptions`.
        still: the frames are images of their own: what someone points at is there, as the published image
            predictor, which reads no object score, has it. Models with windows believe it in videos as well.
    """

    def __init__(
        self,
        model: EdgeTAM,
        size: tuple[int, int],
        *,
        dynamic_multimask: bool,
        object_batch: int = 16,
        verify: bool = False,
        still: bool = False,
    ) -> None:
        self.model = model
        self.size = size
        self.dynamic_multimask = dynamic_multimask
        self.object_batch = object_batch
        self.windowed = model.config.window_scale > 0
        self.verify = verify and self.windowed
        self.trusting = still or self.windowed
        self._views: OrderedDict[tuple[int, Window | None], View] = OrderedDict()
        self._last_read: tuple[int, Image] | None = None

    @torch.inference_mode()
    def view(self, key: int, read: Callable[[], Image], window: Window | None = None) -> View:
        """Frame `key`, read and encoded unless that was done a moment ago.

        Args:
            key: the caller's number of the frame.
            read: called when its pixels are needed.
            window: for models with windows: what to look at; None: the whole frame.
        """
        if self.windowed and window is None:
            window = Window.whole(self.size)
        if (key, window) in self._views:
            self._views.move_to_end((key, window))
        else:
            with one_thread(self.model):
                self._views[key, window] = self._encode(key, read, window)
            if len(self._views) > (CACHED_WINDOWS if self.windowed else CACHED_FRAMES):
                self._views.popitem(last=False)
        return self._views[key, window]

    def _encode(self, key: int, read: Callable[[], Image], window: Window | None) -> View:
        if window is None:
            return View(self.model.encode_pixels(to_pixels(read(), self.model)), None)
        pixels = to_pixels(window.cut(self._pixels(key, read)), self.model)
        seen = pixels[0].permute(1, 2, 0).cpu().numpy()
        return View(self._encode_pixels(pixels, [window]), window, seen)

    def _encode_windows(self, rgb: Image, windows: Sequence[Window]) -> ImageFeatures:
        """A batch of views of one frame."""
        return self._encode_pixels(
            torch.cat([to_pixels(window.cut(rgb), self.model) for window in windows]), windows
        )

    def _encode_pixels(self, pixels: Tensor, windows: Sequence[Window]) -> ImageFeatures:
        corners = torch.tensor([window.corners for window in windows], dtype=torch.float32)
        return self.model.encode_pixels(pixels, corners.to(self.model.device))

    def _pixels(self, key: int, read: Callable[[], Image]) -> Image:
        """A frame that several windows are cut from is read once."""
        if self._last_read is None or self._last_read[0] != key:
            self._last_read = (key, read())
        return self._last_read[1]

    @torch.inference_mode()
    def decode_prompt(
        self,
        view: View,
        prompt: Prompt,
        *,
        recall: Recall | None = None,
        multimask: bool | None = None,
    ) -> Decoded:
        """One object's mask from its prompt; `looking.look` finds the view first.

        Args:
            view: the frame, or the part with the object.
            prompt: in pixels of the frame.
            recall: the object's memories, where it was tracked to this frame before.
            multimask: choose among three masks; None: when there is at most one click and no box.
        """
        with one_thread(self.model):
            if prompt.mask is not None:
                return self.model.from_mask(view.image, self._mask_input(prompt.mask, view.window))
            return self._decode_prompt(view, prompt, recall, multimask)

    def _decode_prompt(
        self, view: View, prompt: Prompt, recall: Recall | None, multimask: bool | None
    ) -> Decoded:
        image = view.image
        points, labels = self._clicks([prompt], view.window)
        if multimask is None:
            multimask = points is None or points.shape[1] <= 1
        features = self.model.without_memory(image)
        if recall is not None:
            features = self.model.with_memory(image, gather(self.model, [recall]))
        seen = None if recall is None else gather_seen([recall])
        dense = self._dense(prompt, view.window)
        choice = self._choice(multimask, self.trusting and prompt.has_positive)
        return self.model.decode(features, image, points, labels, dense, choice=choice, seen=seen)

    @torch.inference_mode()
    def decode_many(self, view: View, prompts: Sequence[Prompt], *, multimask: bool) -> Iterator[Decoded]:
        """Independent prompts of the same kind (all clicks of one count, or all boxes), in batches."""
        image = view.image
        features = self.model.without_memory(image)
        for chunk in _chunks(prompts, self.object_batch):
            points, labels = self._clicks(chunk, view.window)
            choice = self._choice(multimask, self.trusting)
            with one_thread(self.model):
                decoded = self.model.decode(features, image, points, labels, choice=choice)
            yield decoded

    def _choice(self, multimask: bool, shown: bool) -> Choice:
        return Choice(multimask, self.dynamic_multimask, shown)

    @torch.inference_mode()
    def track(self, frame: int, read: Callable[[], Image], recalls: Sequence[Recall]) -> list[Tracked]:
        """Track B objects to a frame, each with its own history, and make their new memories.

        Args:
            frame: 0-based index, which the new memories get; or any number that stands for its pixels, where
                the caller counts the frames of each object itself.
            read: called when its pixels are needed.
            recalls: the objects' memories, which also say where to look for them.
        """
        with one_thread(self.model):
            chunks = _chunks(recalls, self.object_batch)
            return [tracked for chunk in chunks for tracked in self._tracked(frame, read, chunk)]

    def _tracked(self, frame: int, read: Callable[[], Image], recalls: Sequence[Recall]) -> list[Tracked]:
        """As many objects as go through the model at once."""
        image, windows = self._views_of(frame, read, recalls)
        shown = Shown(image, windows, self._decode_recalled(image, recalls))
        if self.verify:
            return self._believed(frame, read, recalls, shown)
        return self._remembered(frame, shown)

    def _decode_recalled(self, image: ImageFeatures, recalls: Sequence[Recall]) -> Decoded:
        features = self.model.with_memory(image, gather(self.model, recalls))
        choice = Choice(multimask=True, open=self.verify)
        return self.model.decode(features, image, choice=choice, seen=gather_seen(recalls))

    def _believed(
        self, frame: int, read: Callable[[], Image], recalls: Sequence[Recall], shown: Shown
    ) -> list[Tracked]:
        """Tracked objects without masks that are not credible; further looks may find them elsewhere."""
        shown, sightings = self._judged(recalls, shown)
        looks, best = list[tuple[int, Window]](), list[Sighting | None]()
        seen = outlines(shown.image, shown.windows, shown.decoded.logits)
        for row, (now, recall, one) in enumerate(zip(seen, recalls, sightings, strict=True)):
            search = further(now, seen_before(recall)[1], one, self.size, self.model.config.window_scale)
            looks += [(row, window) for window in search.windows]
            best.append(one if one.credible and search.first_counts else None)
        tracked = self._remembered(frame, self._only([one is not None for one in best], shown))
        for some in _chunks(looks, self.object_batch):
            again, windows = [recalls[row] for row, _ in some], [window for _, window in some]
            image = self._encode_windows(self._pixels(frame, read), windows)
            near = Shown(image, windows, self._decode_recalled(image, again))
            near, sightings = self._judged(again, near, anew=True)
            found = self._remembered(frame, self._only([one.credible for one in sightings], near))
            for (row, _), one, instead in zip(some, sightings, found, strict=True):
                if one.outdoes(best[row]):
                    best[row], tracked[row] = one, instead
        return tracked

    def _only(self, believed: Sequence[bool], shown: Shown) -> Shown:
        """`shown` without the objects that are not believed."""
        rows = torch.tensor(believed, device=shown.decoded.logits.device)
        return replace(shown, decoded=self.model.believe(shown.decoded, rows))

    def _judged(
        self, recalls: Sequence[Recall], shown: Shown, *, anew: bool = False
    ) -> tuple[Shown, list[Sighting]]:
        """Masks without pieces of other things, and what speaks for them; `anew`: as after an absence."""
        decoded = shown.decoded
        scores, ious = decoded.object_score.tolist(), decoded.iou.tolist()
        wrong, sightings = [], []
        seen = outlines(shown.image, shown.windows, decoded.logits)
        for recall, now, score, iou in zip(recalls, seen, scores, ious, strict=True):
            last, prompted = seen_before(recall)
            last = last.emptied if anew else last
            wrong.append(foreign(now, last, prompted))
            left = replace(now, mask=now.mask & ~wrong[-1])
            sightings.append(Sighting.of(score, iou, left, last, prompted))
        there = torch.from_numpy(np.stack(wrong)).to(decoded.logits.device)
        logits = torch.where(there, -decoded.logits, decoded.logits)
        return replace(shown, decoded=replace(decoded, logits=logits)), sightings

    def _remembered(self, frame: int, shown: Shown) -> list[Tracked]:
        """What is kept of every object, with the memories that its mask leaves."""
        image, decoded = shown.image, shown.decoded
        latents = self.model.encode_memory(image, decoded.logits)
        traces = self.model.trace(image, decoded.logits)
        logits = decoded.logits.float().cpu().numpy()
        tracked = []
        for row, window in enumerate(shown.windows):
            trace = None if traces is None else traces.at(row)
            memory = Memory(frame, decoded.pointer[row].clone(), latents[row].clone(), trace)
            score = float(decoded.object_score[row])
            tracked.append(Tracked(logits[row], float(decoded.iou[row]), score, memory, window))
        return tracked

    def _views_of(
        self, frame: int, read: Callable[[], Image], recalls: Sequence[Recall]
    ) -> tuple[ImageFeatures, Sequence[Window | None]]:
        """What B objects are tracked on: one image for all, or a batch with everyone's window."""
        if not self.windowed:
            image = self.view(frame, read).image
            if image.detail is not None:
                image = image.rows(torch.zeros(len(recalls), dtype=torch.long, device=self.model.device))
            return image, [None] * len(recalls)
        windows = [recalled_window(recall, self.size, self.model.config.window_scale) for recall in recalls]
        return self._encode_windows(self._pixels(frame, read), windows), windows

    @torch.inference_mode()
    def remember(self, view: View, memory: Memory, logits: NDArray[np.float32], *, binarize: bool) -> Memory:
        """The memory of a prompted frame, completed by what one object's final logits there leave."""
        mask = torch.from_numpy(logits.copy()).to(self.model.device, self.model.dtype)[None]
        with one_thread(self.model):
            latents = self.model.encode_memory(view.image, mask, binarize=binarize)
            trace = self.model.trace(view.image, mask)
        return replace(memory, latents=latents[0], trace=None if trace is None else trace.at(0))

    def _clicks(
        self, prompts: Sequence[Prompt], window: Window | None
    ) -> tuple[Tensor | None, Tensor | None]:
        rows = [self._points(prompt, window) for prompt in prompts]
        if not len(rows[0][1]):
            return None, None
        points = torch.from_numpy(np.stack([points for points, _ in rows]))
        labels = torch.from_numpy(np.stack([labels for _, labels in rows]))
        return points.to(self.model.device, self.model.dtype), labels.to(self.model.device)

    def _points(self, prompt: Prompt, window: Window | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(N, 2) pixels of the network's input and (N,) labels, box corners first."""
        points = np.zeros((0, 2), np.float32)
        labels = np.zeros(0, np.int64)
        height, width = self.size
        if prompt.box is not None:
            corners = prompt.box.reshape(2, 2).clip(0, (width, height))
            points, labels = np.concatenate((points, corners)), np.append(labels, BOX_LABELS)
        if prompt.points is not None:
            points, labels = np.concatenate((points, prompt.points)), np.append(labels, prompt.labels)
        shown = window or Window.whole(self.size)
        return shown.to_window(points, self.model.config.image_size), labels.astype(np.int64)

    def _dense(self, prompt: Prompt, window: Window | None) -> Tensor | None:
        if prompt.logits is None:
            return None
        logits, side = prompt.logits, self.model.config.mask_size
        if logits.shape != (side, side):
            raise InputError("logits", f"expected shape ({side}, {side}), got {logits.shape}")
        whole = Window.whole(self.size)
        given, wanted = prompt.window or whole, window or whole
        if given != wanted:
            logits = resampled(logits, given, wanted)
        clamped = logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
        return torch.from_numpy(clamped).to(self.model.device, self.model.dtype)[None, None]

    def _mask_input(self, mask: NDArray[np.bool_], window: Window | None) -> Tensor:
        """(1, 1, S, S) of 0 and 1: the mask, or what the window shows of it, at the network's input size."""
        side = self.model.config.image_size
        if window is not None:
            mask = window.cut(mask)
        pixels = torch.from_numpy(mask.copy()).to(self.model.device, self.model.dtype)[None, None]
        if mask.shape == (side, side):
            return pixels
        resized = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        return (resized >= 0.5).to(self.model.dtype)


def to_pixels(rgb: Image, model: EdgeTAM) -> Tensor:
    """uint8 (H, W, 3) → uint8 (1, 3, S, S), stretched to the square.

    Bilinear with antialiasing, as SAM 2's image predictor resizes.

    Raises:
        InputError: not an RGB image.
    """
    check_rgb(rgb)
    side = model.config.image_size
    # A batch first, permuted then: otherwise PyTorch misses that channels are last, and takes thrice as long.
    pixels = torch.from_numpy(np.array(rgb))[None].to(model.device).permute(0, 3, 1, 2)
    if pixels.shape[2:] != (side, side):
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return pixels


def check_rgb(rgb: Image) -> None:
    """Raise where an array is no picture.

    Raises:
        InputError: not uint8 (H, W, 3), or without pixels.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError("image", f"expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[i : i + size] for i in range(0, len(items), size))
