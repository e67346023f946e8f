"""A saved Core ML package as plain data: what it computes, and every constant decompressed. No Core ML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_model.errors import WeightsError
from edgetam_model.export.describing import check_installed
from edgetam_model.export.mil_blobs import Array, BlobFile, numbers, unpacked
from edgetam_model.export.quiet import quiet

DATA = Path("Data") / "com.apple.CoreML"
MODEL, WEIGHTS = DATA / "model.mlmodel", DATA / "weights" / "weight.bin"
TYPES = {  # of MIL.proto
    1: "bool",
    2: "string",
    10: "float16",
    11: "float32",
    21: "int8",
    22: "int16",
    23: "int32",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
Constant = Array | str | list[str]


@dataclass(frozen=True)
class Named:
    """A value: its name, type and shape."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One step; inputs are names of values, several where the input is a list."""

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[Named, ...]


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant tensor as the graph sees it.

    Attributes:
        name: of the value.
        values: decompressed.
        step: how far a number may lie from the model's by its storage, for each number or for all; for a
            palette, see `palette`.
        palette: (…, K) the numbers that it could have been; None without a palette.
    """

    name: str
    values: Array
    step: Array | float = 0.0
    palette: Array | None = None

    @property
    def compressed(self) -> bool:
        """Whether it has fewer bits than float16."""
        return self.palette is not None or bool(np.any(self.step))


@dataclass(frozen=True, eq=False)
class Program:
    """What a package holds.

    Attributes:
        inputs, outputs: in order.
        operations: in order, without constants.
        constants: by name of the value.
        weights: those constants that come from the weight file.
    """

    inputs: tuple[Named, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]
    weights: tuple[Weight, ...]


def read_program(package: Path) -> Program:
    """Parse a package.

    Raises:
        InputError: coremltools, which has the format's definition, is not installed.
        WeightsError: the package is damaged, or is of a kind that this reader does not know.
    """
    check_installed("coremltools")
    with quiet():
        from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = Model_pb2.Model()
    try:
        model.ParseFromString((package / MODEL).read_bytes())
    except (OSError, DecodeError) as error:
        raise WeightsError(f"{package.name} holds no model that can be read") from error
    try:
        return _program(model, BlobFile(package / WEIGHTS))
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{package.name} holds a program that does not fit together") from error


def _program(model: Any, blobs: BlobFile) -> Program:
    functions = dict(model.mlProgram.functions)
    function = functions["main"]
    block = dict(function.block_specializations)[function.opset]
    reader = _Reader(blobs)
    operations = tuple(reader.read(block))
    inputs = tuple(_named(one) for one in function.inputs)
    return Program(inputs, tuple(block.outputs), operations, reader.constants, tuple(reader.weights))


class _Reader:
    """Goes through a block, keeping constants."""

    def __init__(self, blobs: BlobFile) -> None:
        self.blobs = blobs
        self.constants: dict[str, Constant] = {}
        self.weights: list[Weight] = []

    def read(self, block: Any) -> Iterator[Operation]:
        for op in block.operations:
            if op.blocks:
                raise WeightsError(f"{op.type}: operations with blocks of their own are not known here")
            name = op.outputs[0].name
            if op.type == "const":
                value = self.constants[name] = self._value(op.attributes["val"])
                if op.attributes["val"].WhichOneof("value") == "blobFileValue":
                    assert isinstance(value, np.ndarray)
                    self.weights.append(Weight(name, value))
            elif op.type.startswith("constexpr_"):
                weight = self._compressed(op, name)
                self.constants[name] = weight.values
                # What it is made of is no weight of the graph.
                parts = {one for names in self._inputs(op).values() for one in names}
                self.weights = [one for one in self.weights if one.name not in parts] + [weight]
            else:
                yield Operation(op.type, self._inputs(op), tuple(_named(one) for one in op.outputs))

    def _inputs(self, op: Any) -> dict[str, tuple[str, ...]]:
        """Names by input; values that stand in the operation itself get names here."""
        inputs = {}
        for key, given in op.inputs.items():
            names = []
            for index, argument in enumerate(given.arguments):
                name = argument.name
                if argument.WhichOneof("binding") == "value":
                    name = f"{op.outputs[0].name}.{key}.{index}"
                    self.constants[name] = self._value(argument.value)
                names.append(name)
            inputs[key] = tuple(names)
        return inputs

    def _value(self, value: Any) -> Constant:
        kind, shape = _type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            return self.blobs.tensor(value.blobFileValue.offset, kind, shape)
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            return numbers(tensor.bytes.values, kind, shape)
        values = list(getattr(tensor, field).values)
        if kind == "string":
            return values if shape else str(values[0])
        return np.array(values, kind).reshape(shape)

    def _compressed(self, op: Any, name: str) -> Weight:
        """A weight that is computed from smaller numbers, once."""
        given: dict[str, Array] = {}
        for key, value in op.attributes.items():
            if key != "name":
                given[key] = np.asarray(self._value(value))
        for key, names in self._inputs(op).items():
            given[key] = np.asarray(self.constants[names[0]])
        out = _named(op.outputs[0])
        if op.type == "constexpr_affine_dequantize":
            return _affine(name, given)
        if op.type == "constexpr_blockwise_shift_scale":
            return _blockwise(name, given)
        if op.type == "constexpr_lut_to_dense":
            return _palette(name, given, out.shape)
        raise WeightsError(f"{op.type} is no way to store weights that is known here")


def _affine(name: str, given: Mapping[str, Array]) -> Weight:
    """iOS 17: a scale and a zero for each slice along an axis."""
    data, axis = given["quantized_data"].astype(np.float32), int(given["axis"])
    shape = [1] * data.ndim
    if given["scale"].ndim:
        shape[axis] = data.shape[axis]
    scale, zero = (given[key].astype(np.float32).reshape(shape) for key in ("scale", "zero_point"))
    return Weight(name, (data - zero) * scale, np.abs(scale) / 2)


def _blockwise(name: str, given: Mapping[str, Array]) -> Weight:
    """iOS 18: scales and offsets for blocks of numbers."""
    data = given["data"].astype(np.float32)
    scale = _spread(given["scale"].astype(np.float32), data.shape)
    offset = _spread(given["offset"].astype(np.float32), data.shape) if "offset" in given else np.float32(0)
    return Weight(name, (data - offset) * scale, np.abs(scale) / 2)


def _palette(name: str, given: Mapping[str, Array], shape: tuple[int, ...]) -> Weight:
    """Each number is one of a few."""
    lut = given["lut"].astype(np.float32)
    indices = given["indices"]
    if lut.ndim == 1:  # iOS 17: one palette, packed indices
        bits = int(np.log2(len(lut)))
        indices = unpacked(indices, bits, int(np.prod(shape))).reshape(shape)
        return Weight(name, lut[indices], palette=lut)
    if lut.shape[-1] != 1 or any(size != 1 for size in lut.shape[:-2]):
        raise WeightsError(f"{name}: palettes of vectors or of groups are not known here")
    palette = lut.reshape(-1)
    return Weight(name, palette[indices], palette=palette)


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    """Each number repeated over its block."""
    for axis, size in enumerate(shape):
        values = values.repeat(size // values.shape[axis], axis=axis)
    return values


def _named(value: Any) -> Named:
    return Named(value.name, *_type(value.type))


def _type(value: Any) -> tuple[str, tuple[int, ...]]:
    tensor = value.tensorType
    if tensor.dataType not in TYPES:
        raise WeightsError(f"values of type {tensor.dataType} are not known here")
    return TYPES[tensor.dataType], tuple(one.constant.size for one in tensor.dimensions)
