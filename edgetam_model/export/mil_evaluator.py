"""Evaluates Core ML programs in NumPy, operation by operation, as a `Runtime` of the reference host.

No kernel is shared with PyTorch. Every result is rounded to the type that the program declares, so that
float16 arithmetic shows; sums within one operation are float32, where a device may do better or worse.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import WeightsError
from edgetam_model.export.manifest import FILE_NAME, Manifest, read_manifest
from edgetam_model.export.mil_blobs import Array
from edgetam_model.export.mil_ops import OPERATIONS
from edgetam_model.export.mil_program import Operation, Program, read_program


class MilEvaluator:
    """One program that can be run.

    Args:
        program: from `read_program`.
        rounding: round results to float16 where the program says so; False shows the graph alone.

    Raises:
        WeightsError: an operation, or an input of one, that is not known here; none is ever skipped.
    """

    def __init__(self, program: Program, *, rounding: bool = True) -> None:
        self.program, self.rounding = program, rounding
        self._steps = [(operation, _function(operation)) for operation in program.operations]
        self._last = {name: step for step, (op, _) in enumerate(self._steps) for name in _read_by(op)}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name."""
        known: dict[str, Any] = dict(self.program.constants)
        known |= {one.name: _given(one.name, inputs, one.shape) for one in self.program.inputs}
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, as on a device
            for step, (operation, function) in enumerate(self._steps):
                arguments = {key: _argument(names, key, known) for key, names in operation.inputs.items()}
                results = function(**arguments)
                results = results if isinstance(results, list) else [results]
                for one, value in zip(operation.outputs, results, strict=True):
                    known[one.name] = self._typed(value, one.kind)
                    if known[one.name].shape != one.shape:
                        got = known[one.name].shape
                        raise WeightsError(f"{operation.type}: {one.name} has {got}, expected {one.shape}")
                self._forget(operation, step, known)
        return {name: known[name].astype(np.float32) for name in self.program.outputs}

    def _typed(self, value: Array, kind: str) -> Array:
        if kind == "float16":
            rounded = value.astype(np.float16) if self.rounding else value
            return rounded.astype(np.float32)
        return np.asarray(value, kind)

    def _forget(self, operation: Operation, step: int, known: dict[str, Any]) -> None:
        """Drop what nothing reads any more: the published size would fill gigabytes."""
        for name in _read_by(operation):
            if self._last[name] == step and name not in self.program.outputs:
                known.pop(name, None)


class PackageRuntime:
    """A `Runtime` over a folder that `export_coreml` wrote.

    Raises:
        InputError: coremltools is not installed.
        WeightsError: the folder holds no whole export of this kind.
    """

    def __init__(self, folder: Path | str, *, rounding: bool = True) -> None:
        self.folder, self.rounding = Path(folder), rounding
        self.manifest: Manifest = read_manifest(self.folder)
        if self.manifest.kind != "coreml":
            raise WeightsError(f"{self.folder.name} holds parts for {self.manifest.kind}, not for Core ML")
        self._parts: dict[str, MilEvaluator] = {}

    def part(self, name: str) -> MilEvaluator:
        """A part, parsed when first asked for."""
        if name not in self._parts:
            file = self.manifest.file(name)
            program = read_program(self.folder / file.path)
            given, made = {one.name for one in program.inputs}, set(program.outputs)
            if given != {one.name for one in file.inputs} or made != {one.name for one in file.outputs}:
                raise WeightsError(f"{file.path} has other inputs or outputs than {FILE_NAME} says")
            self._parts[name] = MilEvaluator(program, rounding=self.rounding)
        return self._parts[name]

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name; see `host.Runtime`."""
        return self.part(part).run(inputs)


def _function(operation: Operation) -> Callable[..., Any]:
    function = OPERATIONS.get(operation.type)
    if function is None:
        raise WeightsError(f"{operation.type} is no operation that is known here")
    known = inspect.signature(function).parameters
    for name in operation.inputs:
        if name not in known:
            raise WeightsError(f"{operation.type}: its input {name} is not known here")
    return function


def _argument(names: tuple[str, ...], key: str, known: Mapping[str, Any]) -> Any:
    """One value; a list for the input that takes several; float16 as float32, in which sums are made."""
    values = [known[name] for name in names]
    values = [v.astype(np.float32) if getattr(v, "dtype", None) == np.float16 else v for v in values]
    return values if key == "values" else values[0]


def _given(name: str, inputs: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> Array:
    value = np.asarray(inputs[name])
    if value.shape != shape:
        raise WeightsError(f"{name}: expected shape {shape}, got {value.shape}")
    return value


def _read_by(operation: Operation) -> tuple[str, ...]:
    return tuple(name for names in operation.inputs.values() for name in names)
