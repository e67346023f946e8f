"""Exports of small models, and a runtime that executes their parts in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.export.describing import describe, part_file, wanted_graphs
from edgetam_model.export.manifest import Manifest
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import make_parts


@cache
def torch_runtime(model: EdgeTAM, objects: int = 1) -> TorchRuntime:
    """The model's parts for one object, and for so many."""
    return TorchRuntime(model, objects)


class TorchRuntime:
    """Parts run as they are, with the shapes and types that the manifest lists, and no others."""

    def __init__(self, model: EdgeTAM, objects: int) -> None:
        here = Path(__file__)  # stands for the graphs that nobody writes here
        files = [
            part_file(name, spec, slots, here)
            for name, (spec, slots) in wanted_graphs(model, (objects,), prompts=8).items()
        ]
        self.manifest: Manifest = describe(model, files, "onnx", "test", prompts=8)
        self.calls: list[str] = []
        self._parts = make_parts(model)

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        file = self.manifest.file(part)
        self.calls.append(part)
        assert set(inputs) == {one.name for one in file.inputs}
        for one in file.inputs:
            value = inputs[one.name]
            assert value.shape == one.shape, (part, one.name, value.shape, one.shape)
            assert value.dtype == one.kind, (part, one.name, value.dtype)
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.array(inputs[one.name])) for one in file.inputs]
            outputs = self._parts[file.part](*tensors)
        return {one.name: value.numpy() for one, value in zip(file.outputs, outputs, strict=True)}
