"""A training on disk, so that it goes on as if it had never stopped: one safetensors file, no pickle.

Random numbers need no place in it: all are drawn from the seed and the number of the update.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgetam_model.errors import EdgeTAMError, WeightsError

FORMAT, VERSION = "edgetam-training", "1"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that later updates depend on.

    Attributes:
        step: updates done.
        facts: plain JSON values: the recipe, the model's config and whatever else must be the same.
        tensors: by part and name: "model/…", "average/…", "adapters/…", "optimizer/exp_avg/…".
    """

    step: int
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def plain_facts(self) -> dict[str, Any]:
        """The facts as they come back from JSON, where tuples are lists."""
        plain: dict[str, Any] = json.loads(json.dumps(self.facts))
        return plain

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of a part, by their names in it."""
        start = name + "/"
        return {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}


def save_state(path: Path, state: TrainingState) -> None:
    """Write the file, whole or not at all.

    Raises:
        EdgeTAMError: it cannot be written.
    """
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.tensors.items()
    }
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "step": str(state.step),
        "facts": json.dumps(state.facts, sort_keys=True),
    }
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        save_file(own, beside, metadata)
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise EdgeTAMError(f"{path}: cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def read_state(path: Path) -> TrainingState:
    """Read a file of `save_state`.

    Raises:
        WeightsError: not such a file, damaged, or of a later version.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a training's state: {error}") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise WeightsError(f"{path}: not a training's state of this release")
    try:
        return TrainingState(int(metadata["step"]), json.loads(metadata["facts"]), tensors)
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: damaged: {error}") from error


def named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their part's name."""
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """What the optimiser knows of each parameter, as "exp_avg/NAME" and so on."""
    return {
        f"{key}/{name}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`; AdamW keeps its counts on the CPU and the rest like the weight."""
    for key_and_name, value in tensors.items():
        key, name = key_and_name.split("/", 1)
        parameter = parameters[name]
        alike = value if key == "step" else torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][key] = alike
