"""The parts as graphs of fixed shapes, and the one thing that a backend has to do: run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from torch import Tensor

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.parts.specs import (
    IMAGE_ENCODER,
    MASK_DECODER,
    UNMASKED_DECODER,
    PartSpec,
    Slots,
    runtime_specs,
)


@dataclass(frozen=True)
class Graph:
    """One part with its fixed numbers."""

    part: str
    slots: Slots

    def spec(self, config: EdgeTAMConfig) -> PartSpec:
        """Inputs and outputs in a model of these sizes."""
        return _specs(config, self.slots)[self.part]

    @property
    def name(self) -> str:
        """Short, for files and logs."""
        slots = self.slots
        return f"{self.part}-{slots.objects}-{slots.conditioning}-{slots.prompts}"


_specs = lru_cache(runtime_specs)  # a frame asks for them ten times


def kept_single(config: EdgeTAMConfig) -> frozenset[str]:
    """Parts that stay in float32 where others compute in bfloat16.

    The mask decoder's error is the masks'. Evidence weighs places by differences of keys, which come from the
    image encoder: in bfloat16 the weights that ship keep an IoU of .953 with their own masks over six clips,
    without the encoder .9999.
    """
    decoders = frozenset((MASK_DECODER, UNMASKED_DECODER))
    return decoders | {IMAGE_ENCODER} if config.evidence_width else decoders


class Backend(Protocol):
    """Runs graphs; calls may come from several threads."""

    @property
    def name(self) -> str:
        """What it is, and in which precision, for people."""

    @property
    def batches(self) -> tuple[int, ...]:
        """Numbers of objects that it runs at once, largest first, 1 last."""

    @property
    def own_threads(self) -> bool:
        """Whether it computes with other threads than PyTorch's."""

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Outputs in the order of the graph's spec, float32.

        Args:
            graph: prepared when it is first run, which can take seconds.
            inputs: in the order, shapes and types of its spec.
        """
