"""Parts in PyTorch with the numbers that packages store: what fewer bits cost, at PyTorch's speed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgetam_model.errors import WeightsError
from edgetam_model.export.manifest import Manifest, PartFile, read_manifest
from edgetam_model.export.mil_program import Program, Weight, read_program
from edgetam_model.export.verify_weights import ROUNDING_ULPS, bounds
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import make_parts


def with_stored_weights(part: nn.Module, program: Program) -> nn.Module:
    """A copy of a part whose compressed tensors have the package's numbers.

    What is not compressed stays as it is: in float32, the package's rounded to float16.

    Args:
        part: of the fused model that the package was written from.
        program: of the package.

    Raises:
        WeightsError: a compressed tensor that comes from none of the part's.
    """
    part = copy.deepcopy(part)
    tensors = dict(part.named_parameters()) | dict(part.named_buffers())
    for weight in program.weights:
        if weight.compressed:
            _put(weight, tensors)
    return part


def _put(weight: Weight, tensors: Mapping[str, Tensor]) -> None:
    """Into the tensor that the weight comes from; equal ones get equal numbers."""
    low, high = bounds(weight, ROUNDING_ULPS)
    values, found = torch.from_numpy(weight.values.astype(np.float32)), False
    for tensor in tensors.values():
        if tensor.numel() != values.numel():
            continue
        # Converters may store a matrix the other way round.
        views = (tensor, tensor.T) if tensor.ndim == 2 else (tensor,)
        for view in views:
            old = view.detach().numpy().reshape(values.shape)
            if ((old >= low) & (old <= high)).all():
                with torch.no_grad():
                    view.copy_(values.reshape(view.shape))
                found = True
                break
    if not found:
        raise WeightsError(f"{weight.name}: of none of the part's tensors")


class StoredRuntime:
    """A `Runtime` in PyTorch and float32, each part with its own choice of stored numbers.

    Args:
        model: in eval mode and float32, on the CPU; it is not changed.
        manifest: of an export of this model: shapes, names and rules.
        folders: by name of the file, where it takes its weights from; others have the model's own.

    Raises:
        WeightsError: an export of other weights, or one that is damaged.
    """

    def __init__(self, model: EdgeTAM, manifest: Manifest, folders: Mapping[str, Path]) -> None:
        self.manifest = manifest
        made = make_parts(copy.deepcopy(model).fuse())
        self._parts: dict[str, nn.Module] = {}
        for file in manifest.files:
            self._parts[file.name] = made[file.part]
            if file.name in folders:
                program = _program(folders[file.name], file, model.fingerprint())
                self._parts[file.name] = with_stored_weights(made[file.part], program)

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name; see `host.Runtime`."""
        return run_part(self._parts[part], self.manifest.file(part), inputs)


def run_part(
    part: nn.Module, file: PartFile, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """A part's outputs by name."""
    with torch.inference_mode():
        # A copy: frames may be arrays that cannot be written to, which PyTorch warns of.
        tensors = part(*(torch.from_numpy(np.array(inputs[one.name])) for one in file.inputs))
    return {one.name: tensor.numpy() for one, tensor in zip(file.outputs, tensors, strict=True)}


def _program(folder: Path, file: PartFile, fingerprint: str) -> Program:
    found = read_manifest(folder)
    if found.weights.fingerprint != fingerprint:
        raise WeightsError(f"the export is of {found.weights.name}, and these weights are others")
    return read_program(folder / found.file(file.name).path)
