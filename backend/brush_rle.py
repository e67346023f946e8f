"""Label Studio's brush format: the run-length packed RGBA pixels of a mask, as numbers of one byte each.

A stream of bits, highest first: 32 bits count the values (four per pixel, row by row), 5 bits hold the size
of a value in bits less 1, four times 4 bits hold four sizes of counts less 1. Then come chunks: 1 bit (1 for
a run, 0 for single values), 2 bits that choose the size of the count, the count less 1, and one value or as
many as were counted. Source: the format of @thi.ng/rle-pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetam_model import InputError
from edgetam_model.masks import MAX_PIXELS, Mask

Bits = NDArray[np.int64]

MAX_BYTES = 4 * 2**20  # of a packed mask: a drawn one of 4K takes some 100 kB, and this many are read in 4 s

_WORD = 8  # bits of a value
_COUNT_SIZES = (3, 4, 8, 16)  # what Label Studio itself writes
_LONGEST_RUN = 1 << _COUNT_SIZES[-1]
_HEADER = 32 + 5 + 4 * 4
_LONGEST_CHUNK = 1 + 2 + 16 + _WORD


def encode_brush(mask: Mask) -> list[int]:
    """A mask (H, W) as Label Studio's brush regions hold it: 255 in all four channels where the object is.

    The bytes are those that label-studio-sdk's `mask2rle` writes for 255 and 0.

    Raises:
        InputError: not a two-dimensional array with 1 to 2²⁷ pixels.
    """
    bits = np.asarray(mask)
    if bits.ndim != 2 or not 0 < bits.size <= MAX_PIXELS:
        raise InputError("mask", f"expected shape (H, W) with 1 to {MAX_PIXELS} pixels, got {bits.shape}")
    values, lengths = _runs(np.ascontiguousarray(bits, np.bool_).ravel())
    chosen = np.searchsorted(np.array([1 << size for size in _COUNT_SIZES]), lengths)
    count_bits = np.array(_COUNT_SIZES)[chosen]
    codes = ((((4 | chosen) << count_bits) | (lengths - 1)) << _WORD) | values
    return _pack(bits.size * 4, codes, 3 + count_bits + _WORD)


def decode_brush(rle: Sequence[Any], height: int, width: int) -> Mask:
    """The mask (H, W) of a brush region: the pixels that are not fully transparent.

    Raises:
        InputError: anything but bytes that describe an image of that size; nothing larger than that size
            is allocated.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise InputError("rle", f"expected 1 to {MAX_PIXELS} pixels, got {height}×{width}")
    if not isinstance(rle, (list, tuple, bytes)) or not 0 < len(rle) <= MAX_BYTES:
        raise InputError("rle", f"expected a list of 1 to {MAX_BYTES} bytes")
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise InputError("rle", "expected integers of 0 to 255") from error
    chunks = _read_chunks(data, 4 * height * width)
    values = np.repeat(_chunk_values(data, chunks), chunks.repeats)
    return values.reshape(height, width, 4)[:, :, 3] > 0


def _runs(pixels: NDArray[np.bool_]) -> tuple[Bits, Bits]:
    """Values (0 or 255) and lengths in values, four per pixel, of the runs, none longer than the format's."""
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1, pixels.size)
    lengths = 4 * np.diff(ends, prepend=0)
    values = np.where(pixels[ends - 1], 255, 0)
    pieces = -(-lengths // _LONGEST_RUN)
    last = np.cumsum(pieces) - 1
    split = np.full(int(pieces.sum()), _LONGEST_RUN)
    split[last] = lengths - (pieces - 1) * _LONGEST_RUN
    return np.repeat(values, pieces), split


def _pack(count: int, codes: Bits, sizes: Bits) -> list[int]:
    """The header and the codes, each in its number of bits."""
    starts = _HEADER + np.cumsum(sizes) - sizes
    total = _HEADER + int(sizes.sum())
    bits = np.zeros(8 * (total // 8 + 1), np.uint8)  # as the SDK: a whole byte of padding where none is due
    header = f"{count:032b}{_WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in _COUNT_SIZES)
    bits[:_HEADER] = [int(bit) for bit in header]
    for place in range(_LONGEST_CHUNK):
        there = sizes > place
        bits[starts[there] + place] = codes[there] >> (sizes[there] - 1 - place) & 1
    return np.packbits(bits).tolist()


class _Chunks(NamedTuple):
    """The values of a stream in order: where each begins, and how often it is repeated."""

    positions: Bits
    repeats: Bits


def _read_chunks(data: bytes, expected: int) -> _Chunks:
    if 8 * len(data) < _HEADER:
        raise InputError("rle", "expected at least the header's 7 bytes")
    header = int.from_bytes(data[:7]) >> (56 - _HEADER)
    count, word = header >> 21, (header >> 16 & 31) + 1
    if count != expected:
        raise InputError("rle", f"expected {expected} values, four per pixel, got {count}")
    if word != _WORD:
        raise InputError("rle", f"expected values of {_WORD} bits, got {word}")
    count_sizes = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    positions, runs, singles = _scan(data + bytes(8), expected, count_sizes, 8 * len(data))
    return _spread(np.array(positions), np.array(runs), np.array(singles))


def _scan(
    data: bytes, expected: int, count_sizes: list[int], end: int
) -> tuple[list[int], list[int], list[int]]:
    """Where each chunk's values begin, how often its value is repeated, and how many values it has."""
    positions: list[int] = []
    runs: list[int] = []
    singles: list[int] = []
    at, done = _HEADER, 0
    while done < expected:
        byte = at >> 3
        window = int.from_bytes(data[byte : byte + 4]) >> (7 - (at & 7))  # 25 bits from here, 19 are needed
        size = count_sizes[window >> 22 & 3]
        count = (window >> (22 - size) & ((1 << size) - 1)) + 1
        is_run = window >> 24 & 1
        at += 3 + size
        positions.append(at)
        runs.append(count if is_run else 1)
        singles.append(1 if is_run else count)
        at += _WORD if is_run else _WORD * count
        done += count
        if at > end or done > expected:
            raise InputError("rle", f"expected chunks that make up {expected} values, got other ones")
    return positions, runs, singles


def _spread(positions: Bits, runs: Bits, singles: Bits) -> _Chunks:
    """Chunks of single values become as many values, each repeated once."""
    first = np.repeat(np.cumsum(singles) - singles, singles)
    within = np.arange(first.size) - first
    return _Chunks(np.repeat(positions, singles) + _WORD * within, np.repeat(runs, singles))


def _chunk_values(data: bytes, chunks: _Chunks) -> NDArray[np.uint8]:
    """The value of 8 bits at each position."""
    padded = np.frombuffer(data + b"\0", np.uint8).astype(np.uint16)
    byte, bit = chunks.positions >> 3, (chunks.positions & 7).astype(np.uint16)
    pairs = padded[byte] << 8 | padded[byte + 1]
    values: NDArray[np.uint8] = (pairs >> (8 - bit) & 255).astype(np.uint8)
    return values
