"""Weight files of Core ML packages: tensors behind 64-byte heads, numbers of 1 to 32 bits. Own reader."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import WeightsError

Array = NDArray[Any]

HEAD = struct.Struct("<IIQQQ")  # mark, kind, bytes, where they are, bits unused in the last byte
MARK = 0xDEADBEEF
FILE_HEAD, VERSION = struct.Struct("<II"), 2

# By the name of the type: its code in a weight file, its bits, NumPy's type that holds it.
KINDS: dict[str, tuple[int, int, str]] = {
    "float16": (1, 16, "<f2"),
    "float32": (2, 32, "<f4"),
    "uint8": (3, 8, "u1"),
    "int8": (4, 8, "i1"),
    "int16": (6, 16, "<i2"),
    "uint16": (7, 16, "<u2"),
    "uint1": (9, 1, "u1"),
    "uint2": (10, 2, "u1"),
    "uint4": (11, 4, "u1"),
    "uint3": (12, 3, "u1"),
    "uint6": (13, 6, "u1"),
    "int32": (14, 32, "<i4"),
    "uint32": (15, 32, "<u4"),
}


class BlobFile:
    """`weight.bin` of a package.

    Raises:
        WeightsError: it is missing or of another format.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path.name} is missing") from error
        if len(self.data) < FILE_HEAD.size or FILE_HEAD.unpack_from(self.data)[1] != VERSION:
            raise WeightsError(f"{path.name} is damaged or of another version")

    def tensor(self, offset: int, kind: str, shape: tuple[int, ...]) -> Array:
        """The tensor whose head is at `offset`.

        Raises:
            WeightsError: no tensor of this type and shape is there.
        """
        if kind not in KINDS:
            raise WeightsError(f"weights of type {kind} are not known here")
        code, bits, _ = KINDS[kind]
        if offset < 0 or offset + HEAD.size > len(self.data):
            raise WeightsError(f"no weights at {offset}")
        mark, found, size, start, _ = HEAD.unpack_from(self.data, offset)
        expected = (int(np.prod(shape)) * bits + 7) // 8
        if (mark, found, size) != (MARK, code, expected) or start + size > len(self.data):
            raise WeightsError(f"the weights at {offset} are damaged")
        return numbers(self.data[start : start + size], kind, shape)


def numbers(raw: bytes, kind: str, shape: tuple[int, ...]) -> Array:
    """Stored bytes as an array; numbers of less than 8 bits are packed, lowest bits first."""
    _, bits, stored = KINDS[kind]
    values = np.frombuffer(raw, stored)
    return (unpacked(values, bits, int(np.prod(shape))) if bits < 8 else values).reshape(shape)


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """uint8 → `count` numbers of so many bits."""
    singles = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    whole: Array = (singles << np.arange(bits, dtype=np.uint8)).sum(axis=1).astype(np.uint8)
    return whole
