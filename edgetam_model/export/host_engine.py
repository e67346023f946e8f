"""The calls of the parts: pixels and prompts in, masks and memories out. NumPy only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetam_model.answering import Scene
from edgetam_model.config import LOW_RES_STRIDE
from edgetam_model.credence import Sighting
from edgetam_model.errors import InputError, PromptError
from edgetam_model.export.bank import Array, Memory, Recall, Trace
from edgetam_model.export.manifest import Manifest, PartFile
from edgetam_model.export.pixels import binary_mask, blocks, repeated, stretched, to_pixels
from edgetam_model.options import TrackerOptions
from edgetam_model.outlines import Outline
from edgetam_model.parts.specs import IMAGE_ENCODER, MASK_DECODER, MEMORY_ATTENTION, MEMORY_ENCODER
from edgetam_model.pieces import foreign
from edgetam_model.prompts import Prompt
from edgetam_model.searching import Search, further
from edgetam_model.windows import Window, next_window, resampled

CACHED_VIEWS = 16  # encoded frames or windows kept: what several clicks look through

Rgb = NDArray[np.uint8]
Tensors = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """Whoever executes the parts: ONNX Runtime, Core ML, a phone."""

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name.

        Args:
            part: name of a file in the manifest.
            inputs: by name, in the shapes and types that the manifest lists.
        """


@dataclass(frozen=True, eq=False)
class Views:
    """B pictures that the model has seen, or one for all objects.

    Attributes:
        features: outputs of the image encoder.
        windows: what each object's picture shows; None: the whole frame.
        pixels: uint8 (B, S, S, 3) RGB.
    """

    features: Mapping[str, Array]
    windows: list[Window | None]
    pixels: Rgb


@dataclass(frozen=True, eq=False)
class Answer:
    """One object's mask.

    Attributes:
        logits: (S, S); those of an absent object are all far below 0.
        iou, object_score: as in `MaskResult`.
        pointer: (C,).
        pointed: whether the decoder found what the pointer stands for.
        window: as in `MaskResult`.
    """

    logits: Array
    iou: float
    object_score: float
    pointer: Array
    pointed: bool
    window: Window | None

    @property
    def present(self) -> bool:
        """Whether the object is there."""
        return self.object_score > 0

    def showing(self, logits: Array) -> Answer:
        """The same with another mask."""
        return replace(self, logits=logits)


@dataclass(frozen=True, eq=False)
class Tracked:
    """One object tracked to a frame, and what to remember of it."""

    answer: Answer
    memory: Memory


class HostEngine:
    """Runs the parts on frames of one size.

    Args:
        runtime: executes them.
        manifest: says which there are, and the constants.
        options: how to track.
        size: (H, W) of the frames.
    """

    def __init__(
        self, runtime: Runtime, manifest: Manifest, options: TrackerOptions, size: tuple[int, int]
    ) -> None:
        self.runtime, self.manifest, self.options, self.size = runtime, manifest, options, size
        self.config, self.constants = manifest.sizes, manifest.constants
        self.windowed = self.config.window_scale > 0
        self.traces = self.config.evidence_width > 0
        self.own_view = self.windowed or self.config.refine_width > 0  # every object brings its own features
        self._views: OrderedDict[tuple[int, Window | None], Views] = OrderedDict()

    # Views --------------------------------------------------------------------------------------------

    def view(self, frame: int, read: Callable[[], Rgb], window: Window | None = None) -> Views:
        """One picture of a frame, encoded unless that was done a moment ago."""
        if self.windowed and window is None:
            window = Window.whole(self.size)
        key = frame, window
        if key not in self._views:
            self._views[key] = self._encode(read(), [window])
            if len(self._views) > CACHED_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

    def _encode(self, rgb: Rgb, windows: Sequence[Window | None]) -> Views:
        cuts = [rgb if window is None else window.cut(rgb) for window in windows]
        pixels = np.stack([to_pixels(cut, self.config.image_size) for cut in cuts])
        features = self._run(IMAGE_ENCODER, {"pixels": pixels})
        return Views(features, list(windows), pixels.transpose(0, 2, 3, 1).astype(np.uint8))

    # Prompts ------------------------------------------------------------------------------------------

    def answer(self, see: Callable[[Window | None], Views], prompt: Prompt, recall: Recall | None) -> Answer:
        """Decode a prompt in the window in which its object is seen best."""
        if not self.windowed:
            return self._prompted(see(None), prompt, recall)
        scene = Scene(
            self.size,
            self.config.window_scale,
            ask=lambda window, prompt: self._prompted(see(window), prompt, recall),
            pixels=lambda window: see(window).pixels[0],
        )
        return scene.answer(prompt)

    def _prompted(self, views: Views, prompt: Prompt, recall: Recall | None) -> Answer:
        window = views.windows[0]
        if prompt.mask is not None:
            return self._given(views, prompt.mask if window is None else window.cut(prompt.mask))
        clicks, count = self._clicks(prompt, window)
        logits = None if prompt.logits is None else self._earlier(prompt, window)
        gates = {"multimask": float(count <= 1), "dynamic_multimask": float(self.options.dynamic_multimask)}
        recalls = None if recall is None else [recall]
        answer = self._decode(views, recalls, clicks | self._mask(logits) | _rows(gates, 1))[0]
        if self.windowed and prompt.has_positive:  # what someone points at is there
            score = max(answer.object_score, self.constants.shown_score)
            answer = replace(answer, object_score=score)
        return self._absent(answer)

    def _clicks(self, prompt: Prompt, window: Window | None) -> tuple[Tensors, int]:
        """Slots filled with box corners and clicks, and how many there are."""
        corners, labels = np.zeros((0, 2), np.float32), list[int]()
        if prompt.box is not None:
            corners = prompt.box.reshape(2, 2).clip(0, (self.size[1], self.size[0]))
            labels += self.constants.box_labels
        if prompt.points is not None:
            corners = np.concatenate((corners, prompt.points))
            labels += prompt.labels.tolist()
        slots, count = self.manifest.prompts, len(labels)
        if count > slots:
            raise PromptError(
                "points", f"expected at most {slots} clicks, a box counting as two, got {count}"
            )
        points = np.zeros((1, slots, 2), np.float32)
        marks = np.full((1, slots), self.constants.unused_label, np.int32)
        shown = window or Window.whole(self.size)
        points[0, :count] = shown.to_window(corners, self.config.image_size)
        marks[0, : max(count, 1)] = labels or self.constants.no_click_label
        return {"points": points, "labels": marks}, count

    def _no_clicks(self, count: int) -> Tensors:
        slots = self.manifest.prompts
        marks = np.full((count, slots), self.constants.unused_label, np.int32)
        marks[:, 0] = self.constants.no_click_label
        return {"points": np.zeros((count, slots, 2), np.float32), "labels": marks}

    def _earlier(self, prompt: Prompt, window: Window | None) -> Array:
        """(1, S, S) the logits of an earlier result as this window shows them."""
        logits, side = prompt.logits, self.config.mask_size
        if logits.shape != (side, side):
            raise InputError("logits", f"expected shape ({side}, {side}), got {logits.shape}")
        whole, limit = Window.whole(self.size), self.constants.logit_limit
        given, wanted = prompt.window or whole, window or whole
        if given != wanted:
            logits = resampled(logits, given, wanted)
        return np.asarray(logits.clip(-limit, limit)[None], np.float32)

    def _mask(self, logits: Array | None, count: int = 1) -> Tensors:
        side = self.config.mask_size
        dense = np.zeros((count, side, side), np.float32) if logits is None else logits
        return {"mask_logits": dense} | _rows({"has_mask": float(logits is not None)}, count)

    def _given(self, views: Views, mask: NDArray[np.bool_]) -> Answer:
        """A mask that is given is the answer; only its pointer comes from the decoder."""
        constants, side = self.constants, self.config.mask_size
        binary = binary_mask(mask, self.config.image_size)
        kernel = np.array(constants.mask_prompt.weight, np.float32)
        small = (blocks(binary, len(kernel)) * kernel).sum((2, 3)) + np.float32(constants.mask_prompt.bias)
        dense = repeated(small.astype(np.float32), side // len(small))
        inputs = self._no_clicks(1) | self._mask(dense[None])
        inputs |= _rows({"multimask": 0.0, "dynamic_multimask": 0.0}, 1)
        decoded = self._decode(views, None, inputs, unremembered=0.0)[0]
        logits = binary * constants.mask_gain + constants.mask_offset
        if len(logits) != side:
            logits = stretched(logits, side)
        shown = bool(binary.any())
        score = -constants.mask_offset if shown else constants.mask_offset
        pointed = shown and decoded.present
        return replace(decoded, logits=logits, iou=1.0, object_score=score, pointed=pointed)

    # Tracking -----------------------------------------------------------------------------------------

    def track(self, frame: int, read: Callable[[], Rgb], recalls: Sequence[Recall]) -> list[Tracked]:
        """Track B objects to a frame, each with its own history, and make their new memories."""
        tracked, start = list[Tracked](), 0
        while start < len(recalls):
            chunk = recalls[start : start + self._most(len(recalls) - start)]
            views = self._views_of(frame, read, chunk)
            tracked += self._tracked(frame, read, chunk, views)
            start += len(chunk)
        return tracked

    def _most(self, waiting: int) -> int:
        """Objects that go through the parts at once."""
        counts = sorted({one.objects for one in self.manifest.files})
        return min(waiting, next((count for count in counts if count >= waiting), counts[-1]))

    def _views_of(self, frame: int, read: Callable[[], Rgb], recalls: Sequence[Recall]) -> Views:
        if not self.windowed:
            views = self.view(frame, read)
            count = len(recalls)
            features = views.features
            if self.own_view:
                features = {name: value.repeat(count, axis=0) for name, value in features.items()}
            return Views(features, views.windows * count, views.pixels)
        return self._encode(read(), [self._next_window(recall) for recall in recalls])

    def _next_window(self, recall: Recall) -> Window:
        assert recall.recent is not None, "models with windows leave traces"
        return next_window(recall.recent.window, recall.recent.mask, self.size, self.config.window_scale)

    def _tracked(
        self, frame: int, read: Callable[[], Rgb], recalls: Sequence[Recall], views: Views
    ) -> list[Tracked]:
        answers = self._recalled(views, recalls)
        if not (self.windowed and self.options.verify):
            return self._remembered(frame, views, [self._absent(answer) for answer in answers])
        kept, best, looks = list[Answer](), list[Sighting | None](), list[tuple[int, Window]]()
        for row, seen in enumerate(zip(recalls, answers, views.features["keys"], strict=True)):
            answer, one, search = self._searched(*seen)
            best.append(one if one.credible and search.first_counts else None)
            kept.append(self._settled(answer, believed=best[row] is not None))
            looks += [(row, window) for window in search.windows]
        tracked = self._remembered(frame, views, kept)
        for row, window in looks:
            near = self._encode(read(), [window])
            answer = self._recalled(near, [recalls[row]])[0]
            answer, one = self._judged(recalls[row], answer, near.features["keys"][0], anew=True)
            if one.outdoes(best[row]):
                found = self._settled(answer, believed=True)
                best[row], tracked[row] = one, self._remembered(frame, near, [found])[0]
        return tracked

    def _searched(self, recall: Recall, answer: Answer, keys: Array) -> tuple[Answer, Sighting, Search]:
        """The first look, judged, and where else to look."""
        answer, sighting = self._judged(recall, answer, keys)
        assert answer.window is not None, "models with windows alone verify"
        now, shown = Outline(answer.logits > 0, answer.window, keys), _outline(recall.shown)
        return answer, sighting, further(now, shown, sighting, self.size, self.config.window_scale)

    def _recalled(self, views: Views, recalls: Sequence[Recall]) -> list[Answer]:
        count = len(recalls)
        inputs = self._no_clicks(count) | self._mask(None, count)
        inputs |= _rows({"multimask": 1.0, "dynamic_multimask": 0.0}, count)
        return self._decode(views, recalls, inputs)

    def _judged(
        self, recall: Recall, answer: Answer, keys: Array, *, anew: bool = False
    ) -> tuple[Answer, Sighting]:
        """A mask without pieces of other things, and what speaks for it; `anew`: as after an absence."""
        assert answer.window is not None, "models with windows alone verify"
        now = Outline(answer.logits > 0, answer.window, keys)
        last, shown = _outline(recall.recent), _outline(recall.shown)
        last = last.emptied if anew else last
        wrong = foreign(now, last, shown)
        kept = replace(answer, logits=np.where(wrong, -answer.logits, answer.logits))
        left = replace(now, mask=now.mask & ~wrong)
        return kept, Sighting.of(answer.object_score, answer.iou, left, last, shown)

    def _settled(self, answer: Answer, *, believed: bool) -> Answer:
        """An answer of which is said whether its object is there."""
        constants, score = self.constants, answer.object_score
        score = max(score, constants.shown_score) if believed else min(score, constants.denied_score)
        return self._absent(replace(answer, object_score=score))

    def _absent(self, answer: Answer) -> Answer:
        if answer.present:
            return replace(answer, pointed=True)
        nowhere = np.full_like(answer.logits, self.constants.absent_logit)
        return replace(answer, logits=nowhere, pointed=False)

    # Memories -----------------------------------------------------------------------------------------

    def remember(self, frame: int, views: Views, answer: Answer, logits: Array) -> Memory:
        """The memory of a prompted frame, of its final logits."""
        shown = [replace(answer, logits=logits)]
        binarize = self.options.binarize_prompted_memory
        return self._remembered(frame, views, shown, binarize=binarize)[0].memory

    def _remembered(
        self, frame: int, views: Views, answers: Sequence[Answer], *, binarize: bool = False
    ) -> list[Tracked]:
        inputs = {"stride16": views.features["stride16"], "logits": np.stack([a.logits for a in answers])}
        out = self._run(MEMORY_ENCODER, inputs | _rows({"binarize": float(binarize)}, len(answers)))
        tracked = []
        for row, answer in enumerate(answers):
            trace = None
            if self.traces:
                window = answer.window or Window.whole(self.size)
                trace = Trace(views.features["keys"][row], out["labels"][row], window)
            memory = Memory(frame, answer.pointer, answer.pointed, out["latents"][row], trace)
            tracked.append(Tracked(answer, memory))
        return tracked

    # Parts --------------------------------------------------------------------------------------------

    def _decode(
        self, views: Views, recalls: Sequence[Recall] | None, prompts: Tensors, unremembered: float = 1.0
    ) -> list[Answer]:
        """Answers as the decoder has them, with nothing said about absence."""
        features, count = views.features, len(views.windows)
        if recalls is None:
            stride16 = np.broadcast_to(features["stride16"], (count, *features["stride16"].shape[1:]))
            inputs = {"features": stride16} | _rows({"unremembered": unremembered}, count)
        else:
            inputs = {"features": self._attend(views, recalls)} | _rows({"unremembered": 0.0}, count)
        inputs |= {name: features[name] for name in ("stride4", "stride8")} | prompts
        if self.traces:
            inputs |= {name: features[name] for name in ("pyramid4", "pyramid8", "keys")}
            inputs |= self._seen(views, recalls)
        out = self._run(MASK_DECODER, inputs)
        return [
            Answer(
                out["logits"][row],
                float(out["iou"][row]),
                float(out["object_score"][row]),
                out["pointer"][row],
                pointed=float(out["object_score"][row]) > 0,
                window=window,
            )
            for row, window in enumerate(views.windows)
        ]

    def _seen(self, views: Views, recalls: Sequence[Recall] | None) -> Tensors:
        keys = views.features["keys"]
        count, side = len(keys), self.config.low_res
        seen: Tensors = _rows({"seen": float(recalls is not None)}, count)
        for name in ("recent", "shown"):
            seen[f"{name}_keys"] = np.zeros_like(keys)
            seen[f"{name}_labels"] = np.zeros((count, LOW_RES_STRIDE**2, side, side), np.float32)
            seen[f"{name}_place"] = np.zeros((count, 4), np.float32)
            for row, recall in enumerate(recalls or ()):
                trace = recall.recent if name == "recent" else recall.shown
                assert trace is not None, "memories of such models have traces"
                seen[f"{name}_keys"][row] = trace.keys
                seen[f"{name}_labels"][row] = trace.labels
                seen[f"{name}_place"][row] = trace.place(views.windows[row] or Window.whole(self.size))
        return seen

    def _attend(self, views: Views, recalls: Sequence[Recall]) -> Array:
        memories = max(len(recall.latents) for recall in recalls)
        pointers = max(len(recall.pointers) for recall in recalls)
        file = self._file(MEMORY_ATTENTION, len(recalls), (memories, pointers))
        inputs = _empty(file, len(recalls)) | {"stride16": views.features["stride16"]}
        for row, recall in enumerate(recalls):
            used, pointed = len(recall.latents), len(recall.pointers)
            inputs["memories"][row, :used] = recall.latents
            inputs["ages"][row, :used] = recall.ages
            inputs["memory_valid"][row, :used] = 1
            if pointed:
                inputs["pointers"][row, :pointed] = recall.pointers
                inputs["pointer_valid"][row, :pointed] = 1
                inputs["pointer_present"][row, :pointed] = recall.present
        return self._call(file, inputs, len(recalls))["features"]

    def _run(self, part: str, inputs: Tensors) -> Mapping[str, Array]:
        count = max(len(value) for value in inputs.values())
        return self._call(self._file(part, count), inputs, count)

    def _file(self, part: str, count: int, slots: tuple[int, int] = (0, 0)) -> PartFile:
        """The smallest graph of a part with room for so many objects, memories and pointers."""
        fitting = [
            one
            for one in self.manifest.files
            if one.part == part and one.objects >= count and _room(one, slots)
        ]
        if not fitting:
            raise InputError("part", f"no {part} for {count} objects and {slots[0]} memories in this export")
        return min(fitting, key=lambda one: (one.objects, one.conditioning))

    def _call(self, file: PartFile, inputs: Tensors, count: int) -> Mapping[str, Array]:
        """Rows that the graph has beyond `count` repeat the last one, and are dropped again."""
        filled = {}
        for one in file.inputs:
            value = inputs[one.name]
            missing = one.shape[0] - len(value)
            filled[one.name] = np.concatenate((value, value[-1:].repeat(missing, 0))) if missing else value
        out = self.runtime.run(file.name, filled)
        return {name: value[:count] for name, value in out.items()}


def _outline(trace: Trace | None) -> Outline:
    assert trace is not None, "models with windows leave traces"
    return Outline(trace.mask, trace.window, trace.keys)


def _room(file: PartFile, slots: tuple[int, int]) -> bool:
    if file.part != MEMORY_ATTENTION:
        return True
    shapes = {one.name: one.shape for one in file.inputs}
    return shapes["memories"][1] >= slots[0] and shapes["pointers"][1] >= slots[1]


def _empty(file: PartFile, count: int) -> Tensors:
    """Zeros for `count` rows of every input."""
    return {one.name: np.zeros((count, *one.shape[1:]), one.kind) for one in file.inputs}


def _rows(gates: Mapping[str, float], count: int) -> Tensors:
    return {name: np.full(count, value, np.float32) for name, value in gates.items()}
