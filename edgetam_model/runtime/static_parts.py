"""Calls of the model become runs of static graphs: rows in turns, what may be missing as slots and gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetam_model.config import LOW_RES_STRIDE
from edgetam_model.model import ABSENT_LOGIT, SHOWN_SCORE, WHOLE, EdgeTAM
from edgetam_model.model_io import Choice, Decoded, Detail, ImageFeatures, Remembered, Seen
from edgetam_model.nn.evidence import Trace
from edgetam_model.nn.prompt_encoder import NOT_A_POINT
from edgetam_model.parts.specs import (
    ABSENT,
    FEW_CONDITIONING,
    FRAME_ATTENTION,
    IMAGE_ENCODER,
    LABELS_PER_TOKEN,
    MANY_CONDITIONING,
    MASK_DECODER,
    MEMORY_ENCODER,
    OBJECT_ATTENTION,
    UNMASKED_DECODER,
    Slots,
    TensorSpec,
)
from edgetam_model.runtime.graphs import Backend, Graph

# Slots for prompts. Most frames are tracked and have none, which the model wants to be told in one slot;
# with four the decoder takes 19 in place of 16 ms. A box and two clicks fill four; more get twice as many.
NO_PROMPTS, FEW_PROMPTS = 1, 4

Tensors = Mapping[str, Tensor]


class StaticParts:
    """`model_io.Runtime` by a backend that knows graphs of fixed shapes only.

    Args:
        model: fused, in eval mode; its sizes and constants are read.
        backend: runs the graphs.
    """

    def __init__(self, model: EdgeTAM, backend: Backend) -> None:
        self.backend = backend
        self.config = model.config
        self.no_obj_ptr = model.no_obj_ptr.detach()
        self.traces = bool(model.config.evidence_width)
        self.own_views = Slots(objects=2).views(model.config) > 1
        self._known: tuple[Tensor, Tensor] | None = None  # a frame's features, and what they attended to

    def encode_pixels(self, pixels: Tensor, window: Tensor | None) -> ImageFeatures:
        """See `EdgeTAM.encode_pixels`."""
        out = self._run(IMAGE_ENCODER, len(pixels), {"pixels": pixels})
        detail = None
        if self.traces:
            if window is None:
                window = torch.tensor(WHOLE, device=pixels.device).expand(len(pixels), -1)
            detail = Detail(out["pyramid4"], out["pyramid8"], out["keys"], window)
        return ImageFeatures(out["stride4"], out["stride8"], out["stride16"], detail)

    def with_memory(self, image: ImageFeatures, remembered: Remembered) -> Tensor:
        """See `EdgeTAM.with_memory`."""
        count, memories = remembered.ages.shape
        pointers = remembered.pointers.shape[1]
        slots = Slots(conditioning=self._conditioning(memories, pointers))
        used, pointed = remembered.used, remembered.pointed
        spare, unpointed = slots.memories(self.config) - memories, slots.pointers(self.config) - pointers
        like = remembered.latents
        memory_valid = like.new_ones(count, memories) if used is None else used.to(like)
        pointer_valid = like.new_ones(count, pointers) if pointed is None else pointed.to(like)
        inputs = {
            "attended": self._attended(image),
            "memories": F.pad(remembered.latents, (0, 0, 0, 0, 0, spare)),
            "ages": F.pad(remembered.ages, (0, spare)).int(),
            "memory_valid": F.pad(memory_valid, (0, spare)),
            "pointers": F.pad(remembered.pointers, (0, 0, 0, unpointed)),
            "pointer_valid": F.pad(pointer_valid, (0, unpointed)),
            "pointer_present": like.new_ones(1, pointers + unpointed).expand(count, -1),
        }
        return self._run(OBJECT_ATTENTION, count, inputs, conditioning=slots.conditioning)["features"]

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
        count = max(len(features), *(0 if one is None else len(one) for one in (points, mask_logits)))
        if self.own_views:
            count = max(count, len(image.stride16))
        prompts = NO_PROMPTS if points is None and mask_logits is None else FEW_PROMPTS
        while points is not None and prompts < points.shape[1]:
            prompts *= 2
        gate = features.new_ones(count)
        inputs = {
            "features": features,
            "unremembered": gate * 0,  # features of `EdgeTAM.without_memory` say so already
            "stride4": image.stride4,
            "stride8": image.stride8,
            "multimask": gate * choice.multimask,
            "dynamic_multimask": gate * choice.dynamic_multimask,
            **_clicks(points, labels, prompts, features),
            **self._details(image, seen, gate),
        }
        part = UNMASKED_DECODER
        if mask_logits is not None:
            part = MASK_DECODER
            inputs |= {"mask_logits": self._dense(mask_logits), "has_mask": gate}
        return self._decoded(self._run(part, count, inputs, prompts=prompts), choice)

    def encode_memory(self, image: ImageFeatures, logits: Tensor, *, binarize: bool) -> Tensor:
        """See `EdgeTAM.encode_memory`."""
        binary = logits.new_full((len(logits),), float(binarize))
        inputs = {"stride16": image.stride16, "logits": logits, "binarize": binary}
        return self._run(MEMORY_ENCODER, len(logits), inputs)["latents"]

    def _attended(self, image: ImageFeatures) -> Tensor:
        """(V, N, C) of the frame alone, computed when its first objects ask for it."""
        known = self._known
        if known is None or known[0] is not image.stride16:
            attended = self._run(FRAME_ATTENTION, len(image.stride16), {"stride16": image.stride16})
            known = self._known = (image.stride16, attended["attended"])
        return known[1]

    def _conditioning(self, memories: int, pointers: int) -> int:
        """Conditioning slots of the smallest attention with room for so many memories and pointers."""
        recent, previous = self.config.recent_memories, self.config.max_pointers - 1
        needed = max(memories - recent, pointers - previous, FEW_CONDITIONING)
        return needed if needed == FEW_CONDITIONING else max(needed, MANY_CONDITIONING)

    def _dense(self, mask_logits: Tensor) -> Tensor:
        """(B, S, S); prompts at the decoder's resolution are spread, from which its mean makes them again."""
        dense = mask_logits[:, 0]
        if dense.shape[-1] != self.config.mask_size:
            dense = dense.repeat_interleave(LOW_RES_STRIDE, 1).repeat_interleave(LOW_RES_STRIDE, 2)
        return dense

    def _details(self, image: ImageFeatures, seen: Seen | None, gate: Tensor) -> Tensors:
        if image.detail is None:
            return {}
        detail, side = image.detail, self.config.low_res
        inputs = {"pyramid4": detail.pyramid4, "pyramid8": detail.pyramid8, "keys": detail.keys}
        traces = (None, None) if seen is None else (seen.recent, seen.shown)
        for name, trace in zip(("recent", "shown"), traces, strict=True):
            if trace is None:
                inputs[f"{name}_keys"] = torch.zeros_like(detail.keys[:1])
                inputs[f"{name}_labels"] = gate.new_zeros(1, LABELS_PER_TOKEN, side, side)
                inputs[f"{name}_place"] = gate.new_zeros(1, 4)
            else:
                inputs[f"{name}_keys"], inputs[f"{name}_labels"] = trace.keys, trace.labels
                inputs[f"{name}_place"] = _place(trace, detail.window)
        return {**inputs, "seen": gate * (seen is not None)}

    def _decoded(self, out: Tensors, choice: Choice) -> Decoded:
        score = out["object_score"]
        score = score.clamp(min=SHOWN_SCORE) if choice.shown else score
        present = choice.present(score)
        offered = slice(1, None) if choice.multimask else slice(0, 1)
        candidates = torch.where(present[:, None, None, None], out["candidates"][:, offered], ABSENT_LOGIT)
        return Decoded(
            logits=torch.where(present[:, None, None], out["logits"], ABSENT_LOGIT),
            raw=out["logits"],
            iou=out["iou"],
            pointer=torch.where(present[:, None], out["pointer"], self.no_obj_ptr),
            object_score=score,
            candidates=candidates,
            candidate_ious=out["candidate_ious"][:, offered],
        )

    def _run(self, part: str, count: int, inputs: Tensors, **slots: int) -> Tensors:
        """A part for `count` rows; an input with one row serves them all."""
        pieces, start = [], 0
        for size in self._turns(part, count):
            graph = Graph(part, Slots(objects=size, **_slots(slots)))
            spec = graph.spec(self.config)
            rows = [_rows(inputs[one.name], one, start, size) for one in spec.inputs]
            pieces.append(self.backend.run(graph, rows))
            start += size
        joined = pieces[0] if len(pieces) == 1 else [torch.cat(piece) for piece in zip(*pieces, strict=True)]
        pairs = zip(spec.outputs, joined, strict=True)
        return {one.name: out.permute(0, 3, 1, 2) if one.channels_last else out for one, out in pairs}

    def _turns(self, part: str, count: int) -> Iterator[int]:
        """The backend's batches that make up the count: by fours and ones, 10 objects are 4, 4, 1 and 1."""
        one_image = part in (IMAGE_ENCODER, FRAME_ATTENTION) and not self.own_views
        for size in (1,) if one_image else self.backend.batches:
            while count >= size:
                yield size
                count -= size


def _slots(given: Mapping[str, int]) -> dict[str, int]:
    """Numbers that a part does not depend on stay the same, so that it is not made twice."""
    return {"conditioning": FEW_CONDITIONING, "prompts": FEW_PROMPTS, **given}


def _rows(tensor: Tensor, spec: TensorSpec, start: int, size: int) -> Tensor:
    """The rows of this turn as the graph takes them; a single row as often as it is wanted."""
    rows = tensor[start : start + size]
    if len(tensor) == 1:
        rows = tensor.expand(spec.shape[0], *tensor.shape[1:])
    return (rows.permute(0, 2, 3, 1) if spec.channels_last else rows).contiguous()


def _clicks(points: Tensor | None, labels: Tensor | None, slots: int, like: Tensor) -> Tensors:
    if points is None or labels is None:
        marks = torch.full((1, slots), ABSENT, dtype=torch.int32, device=like.device)
        marks[:, 0] = NOT_A_POINT
        return {"points": like.new_zeros(1, slots, 2), "labels": marks}
    spare = slots - points.shape[1]
    return {
        "points": F.pad(points, (0, 0, 0, spare)),
        "labels": F.pad(labels.int(), (0, spare), value=ABSENT),
    }


def _place(trace: Trace, window: Tensor) -> Tensor:
    """(B, 4) where a trace's window lies in this one, in its sides: see `specs`."""
    x0, y0, x1, y1 = window.unbind(-1)
    left, top, right, bottom = trace.window.unbind(-1)
    wide, high = x1 - x0, y1 - y0
    return torch.stack(
        ((left - x0) / wide, (top - y0) / high, (right - left) / wide, (bottom - top) / high), dim=-1
    )
