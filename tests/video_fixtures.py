"""Small videos whose frames carry their own number in their pixels, written with PyAV and a few own bytes."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 96  # upright; a 5 × 3 grid of 32-pixel blocks holds 15 bits
BLOCK = 32


def numbered_frame(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """RGB frame with the number's 15 bits as light and dark blocks."""
    bits = [(number >> k) & 1 for k in range(15)]
    grid = np.array(bits, np.uint8).reshape(3, 5) * 150 + 50
    frame = np.repeat(np.repeat(grid, BLOCK, axis=0), BLOCK, axis=1)
    rgb = np.repeat(frame[..., None], 3, axis=2)
    if (width, height) != (WIDTH, HEIGHT):
        rows = np.arange(height) * HEIGHT // height
        columns = np.arange(width) * WIDTH // width
        rgb = rgb[rows][:, columns]
    return np.ascontiguousarray(rgb)


def read_number(frame: NDArray[np.uint8]) -> int:
    """The number that `numbered_frame` painted, read from the middle of every block."""
    height, width = frame.shape[:2]
    rows = (np.arange(3) * 2 + 1) * height // 6
    columns = (np.arange(5) * 2 + 1) * width // 10
    bits = (frame[rows][:, columns].mean(axis=2) > 125).ravel()
    return int(sum(1 << k for k, bit in enumerate(bits) if bit))


@dataclass(frozen=True)
class Recipe:
    """How to write one video; frame k carries the number k and is shown at pts[k] × time_base."""

    pts: Sequence[int]
    time_base: Fraction
    codec: str = "libx264"
    rate: Fraction = Fraction(25)
    gop: int = 12
    b_frames: int = 0
    options: dict[str, str] = field(default_factory=dict)
    mux: dict[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    sound_seconds: float = 0.0
    numbers: Sequence[int] | None = None  # what the pixels say, where it is not 0, 1, 2 …
    turn: int = 0  # clockwise quarter turns that a player must apply
    mirrored: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)


def constant(count: int, rate: Fraction | int, *, first: int = 0) -> tuple[list[int], Fraction]:
    """pts and time base of `count` frames at a rate whose tick is one frame."""
    return list(range(first, first + count)), 1 / Fraction(rate)


def write_video(path: Path, recipe: Recipe) -> Path:
    """Encode and mux the recipe; the container follows from the path's suffix."""
    with _patient(), av.open(str(path), "w", options=recipe.mux) as out:
        stream = out.add_stream(recipe.codec, rate=recipe.rate, options=_encoder_options(recipe))
        assert isinstance(stream, VideoStream)
        stored = recipe.size[::-1] if recipe.turn % 2 else recipe.size
        stream.width, stream.height = stored
        stream.pix_fmt = recipe.pixel_format
        stream.gop_size = recipe.gop
        stream.max_b_frames = recipe.b_frames
        stream.codec_context.time_base = recipe.time_base
        stream.time_base = recipe.time_base
        sound = out.add_stream("aac", rate=48000, layout="mono") if recipe.sound_seconds else None
        for frame in _frames(recipe):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            for block in _silence(recipe.sound_seconds):
                out.mux(sound.encode(block))
            out.mux(sound.encode(None))
    if recipe.turn or recipe.mirrored:
        patch_display_matrix(path, recipe.turn, recipe.mirrored)
    return path


@contextmanager
def _patient() -> Iterator[None]:
    """Where root runs it, SVT-AV1 takes a priority above all other programs and never gives it back."""
    yield
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _encoder_options(recipe: Recipe) -> dict[str, str]:
    fast = {"preset": "ultrafast", "threads": "1"} if recipe.codec == "libx264" else {}
    return {**fast, **recipe.options}


def _frames(recipe: Recipe) -> Iterable[av.VideoFrame]:
    numbers = recipe.numbers if recipe.numbers is not None else range(len(recipe.pts))
    for number, pts in zip(numbers, recipe.pts, strict=True):
        upright = numbered_frame(number, *recipe.size)
        stored = np.rot90(upright, recipe.turn)
        if recipe.mirrored:
            stored = stored[:, ::-1]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
        frame.pts, frame.time_base = pts, recipe.time_base
        yield frame


def _silence(seconds: float) -> Iterable[av.AudioFrame]:
    for start in range(0, int(seconds * 48000), 1024):
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts = 48000, start
        block.time_base = Fraction(1, 48000)
        yield block


def patch_display_matrix(path: Path, turn: int, mirrored: bool) -> None:
    """Overwrite the matrix in the first track header (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, flags, times, ids, duration, layer, volume
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turn % 4]
    flip = -1 if mirrored else 1
    one = 1 << 16
    matrix = (flip * cos * one, flip * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


def replace_edit_list(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Give the first track other edits: (duration in movie ticks, start in media ticks; -1 is empty).

    The movie header must lie at the file's end, so that no offset into the media moves.
    """
    data = path.read_bytes()
    moov = data.index(b"moov") - 4
    track = data.index(b"trak", moov) - 4
    edit_box = data.index(b"edts", track) - 4
    old = struct.unpack(">I", data[edit_box : edit_box + 4])[0]
    entries = b"".join(struct.pack(">IiI", duration, start, 1 << 16) for duration, start in edits)
    body = struct.pack(">II", 0, len(edits)) + entries
    edit_list = struct.pack(">I4s", 8 + len(body), b"elst") + body
    new = struct.pack(">I4s", 8 + len(edit_list), b"edts") + edit_list
    grown = bytearray(data[:edit_box] + new + data[edit_box + old :])
    for box in (moov, track):
        size = struct.unpack(">I", grown[box : box + 4])[0]
        grown[box : box + 4] = struct.pack(">I", size + len(new) - old)
    path.write_bytes(grown)


def hide_vp8_frames(path: Path, frames: set[int]) -> None:
    """Clear the bit that has a frame shown (RFC 6386, 9.1), as encoders do for alternate references."""
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    place = 0
    for number, packet in enumerate(packets):
        place = data.index(packet, place)
        if number in frames:
            data[place] &= 0xEF
    path.write_bytes(data)
