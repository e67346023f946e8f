"""What each part costs in bfloat16: `python -m tests.long.bf16_parts tame`, on a processor with units for it.

Weights: `golden` and `tame` are the parity tests' (published size; the golden ones multiply rounding), others
are what `load_model` takes. By OpenVINO one part at a time is computed in bfloat16 and the others in float32,
also parts that the product keeps in float32; a box and a click are tracked over four frames. Prints the
largest differences of mask logits from all in float32, on the first tracked frame and at worst, and the least
IoU of masks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgetam_model.masks import mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import runtime_parts
from edgetam_model.results import FrameResult
from edgetam_model.runtime.choosing import has_bf16_units
from edgetam_model.runtime.graphs import Graph, kept_single
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.weights import load_model
from tests.parity.references import PUBLISHED, box_and_click, published, tame

FRAMES = 4


@dataclass(frozen=True)
class Mixed:
    """A backend that computes some parts by another one."""

    exact: OpenVinoBackend
    half: OpenVinoBackend
    in_half: frozenset[str]

    name = "OpenVINO, mixed"
    own_threads = True

    @property
    def batches(self) -> tuple[int, ...]:
        """See `Backend`."""
        return self.exact.batches

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Backend`."""
        return (self.half if graph.part in self.in_half else self.exact).run(graph, inputs)


def main(name: str) -> None:
    """Every part alone, then those of the product, then all."""
    if not has_bf16_units():
        raise SystemExit("this processor has no units for bf16")
    torch.set_num_threads(1)
    model = {"golden": published, "tame": tame}.get(name, lambda: load_model(name, "cpu"))()
    model.fuse()
    exact, half = OpenVinoBackend(model, threads=1), OpenVinoBackend(model, bf16=True, threads=1)
    half._single = frozenset()  # the product never asks for that
    parts = frozenset(runtime_parts(model))
    tried = {"none": frozenset[str](), **{part: frozenset((part,)) for part in parts}}
    tried |= {"as offered": parts - kept_single(model.config), "all": parts}
    wanted = tracked(model, Mixed(exact, half, tried.pop("none")))
    said = {}
    for what, in_half in tried.items():
        said[what] = compared(tracked(model, Mixed(exact, half, in_half)), wanted)
        first, worst, iou = said[what].values()
        print(f"{what:16} logits {first:.1e}, at worst {worst:.1e}, IoU {iou:.4f}", flush=True)  # noqa: T201
    print(json.dumps({"weights": name, "bf16": said}))  # noqa: T201


def tracked(model: EdgeTAM, backend: Mixed) -> list[FrameResult]:
    """Both objects on every frame."""
    model.runtime = StaticParts(model, backend)
    with box_and_click(model, FRAMES, **PUBLISHED) as session:
        return list(session.propagate())


def compared(found: list[FrameResult], wanted: list[FrameResult]) -> dict[str, float]:
    """Largest error of logits on frame 1 and on any, and the least IoU."""
    pairs = [
        (one.frame, one.objects[i], two.objects[i])
        for one, two in zip(found, wanted, strict=True)
        for i in two.objects
    ]
    errors = [(frame, float(np.abs(one.logits - two.logits).max())) for frame, one, two in pairs]
    return {
        "frame_1": max(error for frame, error in errors if frame == 1),
        "worst": max(error for _, error in errors),
        "least_iou": min(mask_iou(one.mask, two.mask) for _, one, two in pairs),
    }


if __name__ == "__main__":
    main(sys.argv[1])
