"""Segment what is clicked or boxed on one image, or everything on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetam_model.engine import Engine, Image
from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.looking import Answer, See, look
from edgetam_model.masks import fill_holes, remove_islands
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Decoded
from edgetam_model.options import Quality, check_quality
from edgetam_model.prompts import Prompt
from edgetam_model.results import MaskResult, State
from edgetam_model.runtime.choosing import in_quality
from edgetam_model.windows import Window


@dataclass(frozen=True)
class ImageOptions:
    """Options of an `ImagePredictor`.

    Attributes:
        dynamic_multimask: an unstable single mask gives way to the best of three.
        fill_hole_area: holes of at most this many low-resolution pixels are filled; 0: none.
        island_area: separate regions of at most this many low-resolution pixels are removed; 0: none.
        batch: prompts that go through the decoder at once.
        quality: as in `TrackerOptions`.

    Raises:
        InputError: `quality`, not known.
    """

    dynamic_multimask: bool = True
    fill_hole_area: int = 8
    island_area: int = 0
    batch: int = 16
    quality: Quality | None = None

    def __post_init__(self) -> None:
        check_quality(self.quality)


@dataclass(frozen=True)
class EverythingOptions:
    """Options of `ImagePredictor.everything`.

    Attributes:
        points_per_side: clicks in a square grid over the image.
        min_iou: masks with a lower predicted IoU are dropped.
        min_stability: masks whose area changes more when the threshold moves are dropped (area above
            + `stability_offset` over area above - `stability_offset`).
        stability_offset: in logits.
        max_overlap: of two masks whose boxes overlap more (IoU), the one with the lower predicted IoU goes.
        min_area: smallest mask in pixels of the image.

    Source of the procedure and its defaults: Segment Anything (arXiv 2304.02643), automatic masks.
    """

    points_per_side: int = 32
    min_iou: float = 0.8
    min_stability: float = 0.95
    stability_offset: float = 1.0
    max_overlap: float = 0.7
    min_area: int = 16

    def __post_init__(self) -> None:
        if self.points_per_side < 1:
            raise InputError("points_per_side", f"expected at least 1, got {self.points_per_side}")


class ImagePredictor:
    """Predicts masks on one image at a time; the image is encoded once, by `set_image`.

    Models with windows encode each object's part of it once besides.

    Args:
        model: in eval mode.
        options: quality and post-processing.

    Raises:
        InputError: `quality`, the weights have no fast mode.
    """

    def __init__(self, model: EdgeTAM, options: ImageOptions | None = None) -> None:
        self.options = options or ImageOptions()
        self.model = in_quality(model, self.options.quality)
        self._engine: Engine | None = None
        self._see: See | None = None
        self._known: dict[bytes, Answer] = {}  # so that the next click is all that is computed

    def set_image(self, rgb: Image) -> None:
        """Encode an image, uint8 (H, W, 3) RGB.

        Raises:
            InputError: not such an array.
        """
        if getattr(rgb, "ndim", 0) != 3 or rgb.size == 0:
            raise InputError("image", "expected uint8 (H, W, 3)")
        height, width = rgb.shape[:2]
        engine = Engine(
            self.model,
            (height, width),
            dynamic_multimask=self.options.dynamic_multimask,
            object_batch=self.options.batch,
            still=True,
        )
        pixels = rgb.copy() if engine.windowed else rgb  # windows are cut from it later
        see = partial(engine.view, 0, lambda: pixels)
        see(None)
        self._engine, self._see, self._known = engine, see, {}

    def predict(self, prompt: Prompt, *, candidates: bool | None = None) -> MaskResult:
        """The mask of one prompt.

        Args:
            prompt: clicks, a box, both, a mask, or any of the first two with logits to refine.
            candidates: offer three masks, best first, in `MaskResult.candidates`; None: for one click.

        Raises:
            PromptError: outside the image, or nothing positive in it.
            SessionError: no image is set.
        """
        engine, see = self._ready()
        prompt.check_inside(*engine.size)
        if not prompt.has_positive:
            raise PromptError("labels", "expected a positive click, a box or a mask: nothing is selected yet")
        known = self._known if candidates is None else None
        answer = look(engine, see, prompt, multimask=candidates, known=known)
        return self._results(answer.decoded, answer.view.window)[0]

    def predict_boxes(self, boxes: Sequence[Sequence[float]]) -> list[MaskResult]:
        """One mask per box (x0, y0, x1, y1 in pixels), in their order; the image is encoded once.

        Raises:
            PromptError: a box that is not one or lies outside the image.
            SessionError: no image is set.
        """
        engine, see = self._ready()
        prompts = [Prompt(box=box) for box in boxes]
        for prompt in prompts:
            prompt.check_inside(*engine.size)
        if engine.windowed:  # each box has a view of its own
            return [self.predict(prompt) for prompt in prompts]
        return [
            result
            for decoded in engine.decode_many(see(None), prompts, multimask=False)
            for result in self._results(decoded, None)
        ]

    def everything(
        self,
        options: EverythingOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[MaskResult]:
        """All masks of the image, largest first: a grid of clicks, filtered and freed of duplicates.

        Args:
            options: grid and filters.
            progress: called with (clicks done, clicks in all).

        Raises:
            SessionError: no image is set.
        """
        engine, see = self._ready()
        view = see(None)
        options = options or EverythingOptions()
        prompts = _grid(options.points_per_side, *engine.size)
        found: list[MaskResult] = []
        done = 0
        for decoded in engine.decode_many(view, prompts, multimask=True):
            done += len(decoded.logits)
            found += [r for r in self._all_candidates(decoded, view.window) if _good(r, options)]
            if progress is not None:
                progress(done, len(prompts))
        kept = _without_duplicates(found, options)
        return sorted(kept, key=lambda result: -int(result.mask.sum()))

    def _ready(self) -> tuple[Engine, See]:
        if self._engine is None or self._see is None:
            raise SessionError("no image is set: call set_image first")
        return self._engine, self._see

    def _results(self, decoded: Decoded, window: Window | None) -> list[MaskResult]:
        """One result per object; where several masks were offered, they come with it."""
        results = []
        for row, logits in enumerate(decoded.logits.float().cpu().numpy()):
            iou, score = float(decoded.iou[row]), float(decoded.object_score[row])
            result = self._result(logits, iou, score, window)
            offered = self._candidates(decoded, row, window) if decoded.candidates.shape[1] > 1 else ()
            results.append(replace(result, candidates=offered))
        return results

    def _all_candidates(self, decoded: Decoded, window: Window | None) -> list[MaskResult]:
        rows = range(len(decoded.logits))
        return [result for row in rows for result in self._candidates(decoded, row, window)]

    def _candidates(self, decoded: Decoded, row: int, window: Window | None) -> tuple[MaskResult, ...]:
        score = float(decoded.object_score[row])
        masks = zip(
            decoded.candidates[row].float().cpu().numpy(), decoded.candidate_ious[row].tolist(), strict=True
        )
        results = (self._result(logits, iou, score, window) for logits, iou in masks)
        return tuple(sorted(results, key=lambda result: -result.iou))

    def _result(
        self, logits: NDArray[np.float32], iou: float, score: float, window: Window | None
    ) -> MaskResult:
        assert self._engine is not None
        if self.options.fill_hole_area:
            logits = fill_holes(logits, self.options.fill_hole_area)
        if self.options.island_area:
            logits = remove_islands(logits, self.options.island_area)
        state: State = "visible" if score > 0 else "absent"
        return MaskResult(logits, self._engine.size, iou, score, state, window=window)


def _grid(side: int, height: int, width: int) -> list[Prompt]:
    """One click in the middle of each cell of a side × side grid, row by row."""
    centres = (np.arange(side) + 0.5) / side
    return [Prompt(points=[[x * width, y * height]], labels=[1]) for y in centres for x in centres]


def _good(result: MaskResult, options: EverythingOptions) -> bool:
    """Confident, stable, and large enough at the image's size."""
    if result.state != "visible" or result.iou < options.min_iou:
        return False
    inner = int((result.logits > options.stability_offset).sum())
    outer = int((result.logits > -options.stability_offset).sum())
    if not outer or inner / outer < options.min_stability:
        return False
    scale = result.size[0] * result.size[1] / result.logits.size
    return int((result.logits > 0).sum()) * scale >= options.min_area and result.box is not None


def _without_duplicates(results: Sequence[MaskResult], options: EverythingOptions) -> list[MaskResult]:
    """Non-maximum suppression by predicted IoU over the masks' boxes."""
    if not results:
        return []
    corners = [result.box for result in results]
    boxes = [(b[0], b[1], b[2] - b[0], b[3] - b[1]) for b in corners if b is not None]
    scores = [result.iou for result in results]
    kept = cv2.dnn.NMSBoxes(boxes, scores, score_threshold=0.0, nms_threshold=options.max_overlap)
    return [results[int(i)] for i in np.asarray(kept).flatten()]
