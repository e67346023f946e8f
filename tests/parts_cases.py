"""Inputs for the parts and what the model itself makes of them, so that the two can be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import IMAGE_MEAN, IMAGE_STD
from edgetam_model.memory import Recall, gather
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Choice, ImageFeatures, Seen
from edgetam_model.nn.evidence import Trace
from edgetam_model.parts.making import DTYPES, make_parts, runtime_parts
from edgetam_model.parts.specs import (
    ABSENT,
    FRAME_ATTENTION,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    OBJECT_ATTENTION,
    UNMASKED_DECODER,
    PartSpec,
    Slots,
    part_specs,
    runtime_specs,
)

FRAME = (1080, 1920)


@dataclass
class Errors:
    """Largest error and largest value of every output, over all calls."""

    error: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    value: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def see(self, name: str, got: Tensor, wanted: Tensor) -> None:
        assert got.shape == wanted.shape, (name, got.shape, wanted.shape)
        assert torch.isfinite(wanted).all(), name
        self.error[name] = max(self.error[name], float((got - wanted).abs().max()))
        self.value[name] = max(self.value[name], float(wanted.abs().max()))

    @property
    def shares(self) -> dict[str, float]:
        return {name: self.error[name] / self.value[name] for name in self.error}


class Cases:
    """A model, its parts, and random inputs for both."""

    def __init__(self, model: EdgeTAM, slots: Slots, seed: int = 0, *, runtime: bool = False) -> None:
        self.model, self.slots, self.config, self.runtime = model, slots, model.config, runtime
        self.specs: Mapping[str, PartSpec] = part_specs(model.config, slots)
        self.parts: Mapping[str, nn.Module] = runtime_parts(model) if runtime else make_parts(model)
        self.errors = Errors()
        self.random = torch.Generator().manual_seed(seed)
        views = slots.views(model.config)
        side = model.config.image_size
        self.pixels = torch.randint(0, 256, (views, 3, side, side), generator=self.random).float()
        # Neighbouring pixels are alike, as in a picture.
        self.pixels = F.avg_pool2d(self.pixels, 5, 1, 2).round()
        self.windows = torch.stack([self._window() for _ in range(views)])

    def run(self, part: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part's outputs by name; inputs are checked against its description."""
        spec = self.specs[part]
        for one in spec.inputs:
            got = inputs[one.name]
            assert tuple(got.shape) == one.shape, (one.name, tuple(got.shape), one.shape)
            assert str(got.dtype) == f"torch.{one.kind}", (one.name, got.dtype)
        assert set(inputs) == {one.name for one in spec.inputs}
        if not self.runtime:
            out = self.parts[part](*(inputs[one.name] for one in spec.inputs))
            return dict(zip((one.name for one in spec.outputs), out, strict=True))
        if part == MEMORY_ATTENTION:
            return self._as_runtimes(
                OBJECT_ATTENTION, {**inputs, **self._as_runtimes(FRAME_ATTENTION, inputs)}
            )
        if part == MASK_DECODER and not inputs["has_mask"].any():
            return self._as_runtimes(UNMASKED_DECODER, inputs)
        return self._as_runtimes(part, inputs)

    def _as_runtimes(self, part: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps are turned about on the way, as `StaticParts` does."""
        spec, given = runtime_specs(self.config, self.slots)[part], []
        for one in spec.inputs:
            value = inputs[one.name].to(DTYPES[one.kind])
            given.append(value.permute(0, 2, 3, 1) if one.channels_last else value)
            assert tuple(given[-1].shape) == one.shape, (one.name, tuple(given[-1].shape), one.shape)
        pairs = zip(spec.outputs, self.parts[part](*given), strict=True)
        return {one.name: out.permute(0, 3, 1, 2) if one.channels_last else out for one, out in pairs}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def _window(self) -> Tensor:
        side = int(torch.randint(60, 500, (1,), generator=self.random))
        x = int(torch.randint(0, FRAME[1] - side, (1,), generator=self.random))
        y = int(torch.randint(0, FRAME[0] - side, (1,), generator=self.random))
        return torch.tensor((x, y, x + side, y + side), dtype=torch.float32)

    # Image encoder ------------------------------------------------------------------------------------

    def image(self) -> ImageFeatures:
        mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGE_MEAN, IMAGE_STD))
        return self.model.encode_image((self.pixels / 255 - mean) / std, self.windows)

    def check_image(self) -> None:
        wanted, got = self.image(), self.run(IMAGE_ENCODER, {"pixels": self.pixels})
        for name in ("stride16", "stride4", "stride8"):
            self.errors.see(name, got[name], getattr(wanted, name))
        if wanted.detail is not None:
            for name in ("pyramid4", "pyramid8", "keys"):
                self.errors.see(name, got[name], getattr(wanted.detail, name))

    # Memory attention ---------------------------------------------------------------------------------

    def recall(self, conditioning: int, recent: int, pointers: int) -> Recall:
        config = self.config
        # Where memories are missing: the farthest in odd rows, the nearest in even ones.
        every = list(range(config.recent_memories, 0, -1))
        ages = every[len(every) - recent :] if pointers % 2 else every[:recent]
        latents = [self.normal(config.latents, config.memory_width) for _ in range(conditioning + recent)]
        return Recall(
            latents, [0] * conditioning + ages, [self.normal(config.width) for _ in range(pointers)]
        )

    def attention_inputs(self, recalls: Sequence[Recall], stride16: Tensor) -> dict[str, Tensor]:
        inputs = self._zeros(MEMORY_ATTENTION) | {"stride16": stride16}
        for row, recall in enumerate(recalls):
            count, pointers = len(recall.latents), len(recall.pointers)
            inputs["memories"][row, :count] = torch.stack(recall.latents)
            inputs["ages"][row, :count] = torch.tensor(recall.ages, dtype=torch.int32)
            inputs["memory_valid"][row, :count] = 1
            if pointers:
                inputs["pointers"][row, :pointers] = torch.stack(recall.pointers)
                inputs["pointer_valid"][row, :pointers] = 1
                inputs["pointer_present"][row, :pointers] = 1
        return inputs

    def check_attention(self, recalls: Sequence[Recall], absent: int | None = None) -> None:
        """`absent`: the pointer's place, in every object, of a frame without the object."""
        image = self.image()
        inputs = self.attention_inputs(recalls, image.stride16)
        if absent is not None:
            inputs["pointer_present"][:, absent] = 0
            for recall in recalls:
                recall.pointers[absent] = self.model.no_obj_ptr[0]
        wanted = self.model.with_memory(image, gather(self.model, recalls))
        self.errors.see("features", self.run(MEMORY_ATTENTION, inputs)["features"], wanted)

    # Memory encoder -----------------------------------------------------------------------------------

    def check_memory(self, *, binarize: bool, absent: bool) -> None:
        image, side = self.image(), self.config.mask_size
        logits = 4 * self.normal(self.slots.objects, side, side)
        if absent:
            logits[0] = -1024.0
        wanted = self.model.encode_memory(image, logits, binarize=binarize)
        gate = torch.full((self.slots.objects,), float(binarize))
        got = self.run(MEMORY_ENCODER, {"stride16": image.stride16, "logits": logits, "binarize": gate})
        self.errors.see("latents", got["latents"], wanted)
        trace = self.model.trace(image, logits)
        if trace is not None:
            self.errors.see("labels", got["labels"], trace.labels)

    # Mask decoder -------------------------------------------------------------------------------------

    def trace(self) -> Trace:
        config, objects, side = self.config, self.slots.objects, self.config.low_res
        keys = self.image().detail.keys + 0.2 * self.normal(objects, config.evidence_width, side, side)  # type: ignore[union-attr]
        windows = self.windows + torch.tensor((5.0, -7.0, 11.0, 9.0))
        return Trace(keys, self.normal(objects, 16, side, side).tanh(), windows)

    def seen(self) -> Seen | None:
        return Seen(self.trace(), self.trace()) if self.config.evidence_width else None

    def prompts(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Every mix: points, labels and mask logits; at most the slots there are."""
        objects, side, most = self.slots.objects, self.config.mask_size, self.slots.prompts
        mixes: list[list[int]] = [[1], [0], [1, 0], [2, 3], [2, 3, 1], [2, 3, 0, 1]]
        mixes += [[1] * (most // 2), [2, 3] + [1, 0] * ((most - 2) // 2)]
        for labels in mixes:
            points = torch.rand(objects, len(labels), 2, generator=self.random) * self.config.image_size
            marks = torch.tensor(labels).expand(objects, -1)
            for mask in (None, 5 * self.normal(objects, 1, side, side)):
                yield points, marks, mask

    def check_decoder(self, *, remembered: bool, every: int = 1) -> None:
        """`every`: which part of the calls is made, for large models."""
        image, objects = self.image(), self.slots.objects
        seen = self.seen() if remembered else None
        grid = self.config.grid
        features = (
            self.normal(objects, self.config.width, grid, grid)
            if remembered
            else self.model.without_memory(image).expand(objects, -1, -1, -1)
        )
        state = {
            "features": features if remembered else image.stride16.expand(objects, -1, -1, -1),
            "unremembered": torch.full((objects,), float(not remembered)),
        } | self.seen_inputs(image, seen)
        prompts = [(None, None, None), (None, None, self._logits()), *self.prompts()]
        for points, labels, mask in prompts[::every]:
            for multimask, dynamic in ((False, True), (True, False), (False, False))[::every]:
                out = self.model.offer(features, image, points, labels, mask, seen)
                # Shown, so that the pointer is the decoder's own whatever the score says.
                choice = Choice(multimask, dynamic, shown=True)
                wanted = self.model.refine(self.model.choose(out, choice), out, image, choice)
                gates = {
                    "multimask": torch.full((objects,), float(multimask)),
                    "dynamic_multimask": torch.full((objects,), float(dynamic)),
                }
                inputs = state | gates | self.prompt_inputs(points, labels, mask)
                got = self.run(MASK_DECODER, inputs)
                self.errors.see("candidates", got["candidates"], out.logits)
                self.errors.see("candidate_ious", got["candidate_ious"], out.ious)
                self.errors.see("object_score", got["object_score"], out.object_score[:, 0])
                self.errors.see("logits", got["logits"], wanted.raw)
                self.errors.see("iou", got["iou"], wanted.iou)
                self.errors.see("pointer", got["pointer"], wanted.pointer)

    def check_given_mask(self) -> None:
        """A mask that is given: only its pointer comes from the decoder."""
        image, objects, side = self.image(), self.slots.objects, self.config.image_size
        mask = (F.avg_pool2d(self.normal(objects, 1, side, side), 15, 1, 7) > 0).float()
        # Models with windows answer for every view; others for the mask's own batch.
        wanted = self.model.from_mask(image, mask)
        prompt = self.model.mask_downsample(mask)
        repeated = F.interpolate(prompt, size=(self.config.mask_size,) * 2, mode="nearest")
        inputs = self._zeros(MASK_DECODER) | self.prompt_inputs(None, None, repeated)
        inputs |= {"features": image.stride16.expand(objects, -1, -1, -1)} | self.seen_inputs(image, None)
        got = self.run(MASK_DECODER, inputs)
        present = (got["object_score"] > 0)[:, None]
        pointer = torch.where(present, got["pointer"], self.model.no_obj_ptr)
        self.errors.see("pointer", pointer, wanted.pointer)

    def _logits(self) -> Tensor:
        side = self.config.mask_size
        return 5 * self.normal(self.slots.objects, 1, side, side)

    def prompt_inputs(
        self, points: Tensor | None, labels: Tensor | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        objects, slots, side = self.slots.objects, self.slots.prompts, self.config.mask_size
        xy, marks = torch.zeros(objects, slots, 2), torch.full((objects, slots), ABSENT, dtype=torch.int32)
        if points is None or labels is None:
            marks[:, 0] = -1
        else:
            xy[:, : points.shape[1]] = points
            marks[:, : labels.shape[1]] = labels
        return {
            "points": xy,
            "labels": marks,
            "mask_logits": torch.zeros(objects, side, side) if mask is None else mask[:, 0],
            "has_mask": torch.full((objects,), float(mask is not None)),
        }

    def seen_inputs(self, image: ImageFeatures, seen: Seen | None) -> dict[str, Tensor]:
        inputs = {"stride4": image.stride4, "stride8": image.stride8}
        if image.detail is None:
            return inputs
        names = ("recent_keys", "recent_labels", "recent_place", "shown_keys", "shown_labels", "shown_place")
        zeros = self._zeros(MASK_DECODER)
        inputs |= {name: zeros[name] for name in (*names, "seen")}
        inputs |= {name: getattr(image.detail, name) for name in ("pyramid4", "pyramid8", "keys")}
        if seen is not None:
            inputs["seen"] = torch.ones(self.slots.objects)
            for name, trace in (("recent", seen.recent), ("shown", seen.shown)):
                inputs |= {f"{name}_keys": trace.keys, f"{name}_labels": trace.labels}
                inputs[f"{name}_place"] = place(trace.window, image.detail.window)
        return inputs

    def _zeros(self, part: str) -> dict[str, Tensor]:
        dtypes = {"float32": torch.float32, "int32": torch.int32}
        return {one.name: torch.zeros(one.shape, dtype=dtypes[one.kind]) for one in self.specs[part].inputs}


def place(window: Tensor, unit: Tensor) -> Tensor:
    """(B, 4) windows in units of others, as the parts take them."""
    size = unit[:, 2:] - unit[:, :2]
    return torch.cat(((window[:, :2] - unit[:, :2]) / size, (window[:, 2:] - window[:, :2]) / size), dim=1)
