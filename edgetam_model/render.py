"""Tracks that a person can look at: overlays on frames, an mp4 of them, a contact sheet."""

from __future__ import annotations

import colorsys
import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgetam_model.errors import InputError, MediaError
from edgetam_model.masks import Mask, decode_rle, mask_box
from edgetam_model.results import FrameResult, State
from edgetam_model.tracks import FrameTracks

Rgb = NDArray[np.uint8]
Colour = tuple[int, int, int]

FILL = 0.42  # opacity of a mask: the object's texture stays readable below it
# Ticks per second of the overlay: 24, 25, 29.97, 30, 59.94 and 60 fps are whole ticks, 23.976 is half a tick
# off (8 µs); MPEG-4 part 2 allows no more than 65,535.
CLOCK = 60_000

# Vivid, and apart from each other also for colour-blind eyes; later objects get hues by the golden angle.
_COLOURS: tuple[Colour, ...] = (
    (255, 120, 0),
    (0, 170, 255),
    (120, 220, 40),
    (240, 60, 160),
    (255, 215, 0),
    (140, 90, 255),
    (0, 205, 165),
    (240, 60, 50),
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """One object as it is drawn on a frame. `mask` is (H, W) bool, or None where there is none."""

    object_id: int
    label: str
    mask: Mask | None
    state: State
    score: float

    @property
    def caption(self) -> str:
        """Id, label, and either the probability that the object is there or what is wrong."""
        note = f"{_probability(self.score):.0%}" if self.state == "visible" else self.state
        return " ".join(part for part in (str(self.object_id), self.label, note) if part)


def drawn_result(result: FrameResult, labels: dict[int, str]) -> list[Drawn]:
    """What to draw of a tracker's result; `labels` by object id, missing ones are left out."""
    return [
        Drawn(number, labels.get(number, ""), found.mask, found.state, found.object_score)
        for number, found in sorted(result.objects.items())
    ]


def drawn_tracks(shown: FrameTracks) -> list[Drawn]:
    """What to draw of one frame of a tracks file."""
    return [
        Drawn(
            track.id,
            track.label,
            decode_rle(record.mask.rle()) if record.mask else None,
            record.state,
            record.score,
        )
        for track, record in shown.objects
    ]


def object_colour(object_id: int) -> Colour:
    """RGB of an object, the same in every frame and file."""
    if 0 < object_id <= len(_COLOURS):
        return _COLOURS[object_id - 1]
    red, green, blue = colorsys.hsv_to_rgb(object_id * 0.618034 % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_overlay(rgb: Rgb, objects: Iterable[Drawn], *, captions: bool = True) -> Rgb:
    """A copy of the frame (H, W, 3) with each object's mask, outline and, if wanted, caption.

    Objects without a mask are listed in the top-left corner.

    Raises:
        InputError: a mask of another size than the frame.
    """
    canvas = rgb.copy()
    placed: list[tuple[int, int, Drawn]] = []
    for drawn in objects:
        box = None if drawn.mask is None else mask_box(drawn.mask)
        if drawn.mask is None or box is None:
            placed.append((0, 0, drawn))
            continue
        if drawn.mask.shape != rgb.shape[:2]:
            raise InputError("mask", f"expected the frame's {rgb.shape[:2]}, got {drawn.mask.shape}")
        _draw_mask(canvas, drawn.mask, box, object_colour(drawn.object_id))
        placed.append((box[0], box[1], drawn))
    if captions:
        _draw_captions(canvas, placed)
    return canvas


def _draw_mask(canvas: Rgb, mask: Mask, box: tuple[int, int, int, int], colour: Colour) -> None:
    thickness = max(1, round(min(canvas.shape[:2]) / 360))
    margin = thickness + 1  # the outline reaches over the mask's box
    y0, x0 = max(0, box[1] - margin), max(0, box[0] - margin)
    part = np.ascontiguousarray(canvas[y0 : box[3] + margin, x0 : box[2] + margin])
    inside = np.ascontiguousarray(mask[y0 : box[3] + margin, x0 : box[2] + margin])
    tinted = cv2.addWeighted(part, 1 - FILL, np.full_like(part, colour), FILL, 0)
    part[inside] = tinted[inside]
    contours, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(part, contours, -1, colour, thickness, cv2.LINE_AA)
    canvas[y0 : box[3] + margin, x0 : box[2] + margin] = part


def _draw_captions(canvas: Rgb, captions: Sequence[tuple[int, int, Drawn]]) -> None:
    """Each caption above its object where there is room, moved down past those already there."""
    height, width = canvas.shape[:2]
    size = max(11, round(min(height, width) / 26))
    taken: list[tuple[int, int, int, int]] = []
    for left, top, drawn in captions:
        chip = _chip(drawn.caption, size, object_colour(drawn.object_id))
        chip = chip[:height, :width]
        tall, wide = chip.shape[:2]
        x = min(left, width - wide)
        y = min(max(0, top - tall - 2), height - tall)
        for x0, y0, x1, y1 in sorted(taken, key=lambda place: place[1]):
            if x < x1 and x + wide > x0 and y < y1 and y + tall > y0 and y1 + tall <= height:
                y = y1
        canvas[y : y + tall, x : x + wide] = chip
        taken.append((x, y, x + wide, y + tall))


@lru_cache(maxsize=256)
def _chip(text: str, size: int, colour: Colour) -> Rgb:
    """A line of text on a plate of the object's colour. The font has ASCII only: accents are dropped."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    return _text(text, size, (20, 20, 20) if bright else (255, 255, 255), colour)


def _text(text: str, size: int, ink: Colour, paper: Colour) -> Rgb:
    font = ImageFont.load_default(size)
    pad = max(2, size // 4)
    wide = math.ceil(font.getlength(text)) + 2 * pad
    image = Image.new("RGB", (wide, size + 2 * pad), paper)
    ImageDraw.Draw(image).text((pad, pad + size / 2), text, ink, font, anchor="lm")
    return np.asarray(image)


def _probability(score: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))


def _codec() -> str:
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


class OverlayWriter:
    """Streams frames into an H.264 mp4 (MPEG-4 part 2 where x264 is missing) with their real times.

    The file appears under its name at `close`, which also an exception or Ctrl-C in the `with` block
    runs: it then holds the frames so far. Odd sizes grow by one repeated row or column, as the pixel
    format needs.

    Args:
        path: the file to write; an existing one is replaced.
        width, height: pixels of the frames.
        fps: nominal frames per second; it gives the last frame its duration.

    Raises:
        InputError: a size or rate that is not positive, or no such folder.
        MediaError: the video cannot be written.
    """

    def __init__(self, path: str | Path, width: int, height: int, fps: float) -> None:
        self.path = Path(path)
        if width < 1 or height < 1 or not 0 < fps < CLOCK:
            raise InputError("fps", f"expected a positive size and rate, got {width}×{height} at {fps}")
        if not self.path.parent.is_dir():
            raise InputError("path", f"no such folder: {self.path.parent}")
        self._size = (height, width)
        self._step = max(1, round(CLOCK / fps))
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._start: float | None = None
        self._last = -1
        self._closed = False
        try:
            self._container = av.open(str(self._partial), "w", format="mp4")
            self._stream = self._add_stream(Fraction(fps).limit_denominator(1001))
        except av.FFmpegError as error:
            raise MediaError("path", f"cannot write {self.path}: {error}") from error

    def _add_stream(self, rate: Fraction) -> Any:
        codec = _codec()
        stream: Any = self._container.add_stream(codec, rate=rate)
        height, width = self._size
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = (
            Colorspace.ITU709
        )  # said in the file: players guess by size otherwise
        stream.codec_context.color_range = ColorRange.MPEG
        stream.time_base = Fraction(1, CLOCK)
        stream.codec_context.time_base = Fraction(1, CLOCK)
        if codec == "libx264":
            # Without B-frames frames are stored as shown, and the length is right for any times.
            stream.options = {"preset": "veryfast", "crf": "20", "bf": "0"}
        else:
            stream.bit_rate = 8 * width * height  # about 4 Mbit/s at 960×540, clean at 25 fps
        return stream

    def write(self, rgb: Rgb, time: float) -> None:
        """Add a frame, uint8 (H, W, 3), shown at `time` seconds; the first one starts the video.

        Raises:
            InputError: another size, times that do not ascend, or a writer that is closed.
            MediaError: the video cannot be written.
        """
        if self._closed:
            raise InputError("frame", f"{self.path.name} is closed")
        if rgb.shape != (*self._size, 3) or rgb.dtype != np.uint8:
            raise InputError("frame", f"expected uint8 {(*self._size, 3)}, got {rgb.dtype} {rgb.shape}")
        start = time if self._start is None else self._start
        ticks = round((time - start) * CLOCK)
        if ticks <= self._last:
            raise InputError(
                "time", f"expected times that ascend, got {time} after {self._last / CLOCK + start}"
            )
        odd_rows, odd_columns = (n % 2 for n in self._size)
        if odd_rows or odd_columns:
            rgb = np.pad(rgb, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = picture.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = ticks, Fraction(1, CLOCK)
        self._encode(frame)
        self._start, self._last = start, ticks

    def _encode(self, frame: Any) -> None:
        """Encode a frame, or with None what is still in the encoder."""
        try:
            for packet in self._stream.encode(frame):
                if not packet.duration:
                    packet.duration = self._step
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise MediaError("path", f"cannot write {self.path}: {error}") from error

    def close(self) -> None:
        """Finish the video and put it under its name; without frames there is none. Again: nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._last >= 0:
                self._encode(None)
            self._container.close()
            if self._last >= 0:
                self._partial.replace(self.path)
        except av.FFmpegError as error:
            raise MediaError("path", f"cannot write {self.path}: {error}") from error
        finally:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ContactSheet:
    """Keeps at most `limit` evenly spaced frames of a stream of unknown length, scaled down on arrival.

    Starts with every frame; whenever it is full, every second one is dropped and half as many taken from
    then on: between `limit / 2` and `limit` frames stay, and memory with them.
    """

    def __init__(self, limit: int = 20, tile_width: int = 400) -> None:
        if limit < 2 or tile_width < 1:
            raise InputError("limit", f"expected at least 2 tiles of 1 pixel, got {limit} of {tile_width}")
        self._limit = limit
        self._tile_width = tile_width
        self._stride = 1
        self._seen = 0
        self._kept: list[tuple[int, float, Rgb]] = []

    def wants_next(self) -> bool:
        """Whether the next frame will be kept: drawing it can be spared otherwise."""
        return self._seen % self._stride == 0

    def add(self, frame: int, time: float, rgb: Rgb) -> None:
        """Offer the stream's next frame: 0-based index, time in seconds, uint8 (H, W, 3)."""
        wanted = self.wants_next()
        if wanted and len(self._kept) == self._limit:
            self._kept = self._kept[::2]
            self._stride *= 2
            wanted = self.wants_next()
        self._seen += 1
        if wanted:
            self._kept.append((frame, time, _scaled(rgb, self._tile_width)))

    def render(self) -> Rgb:
        """The sheet of the frames kept, in the video's order. Raises InputError where there are none."""
        ordered = sorted(self._kept, key=lambda kept: kept[0])
        return contact_sheet([(f"frame {frame}   {time:.2f} s", rgb) for frame, time, rgb in ordered])


def contact_sheet(tiles: Sequence[tuple[str, Rgb]], max_width: int = 1600) -> Rgb:
    """A grid of captioned frames, uint8 RGB, 3 to 5 columns and at most `max_width` pixels wide.

    Args:
        tiles: caption and frame, uint8 (H, W, 3); frames of other sizes are scaled to the first's width.

    Raises:
        InputError: no tiles.
    """
    if not tiles:
        raise InputError("tiles", "expected at least one frame")
    gap = 8
    height, width = tiles[0][1].shape[:2]
    most = 5 if height > width else 4  # upright frames leave room for one more
    columns = min(max(3, math.ceil(math.sqrt(len(tiles)))), most)
    columns = min(columns, len(tiles))
    wide = min(width, (max_width - gap) // columns - gap)
    pictures = [_captioned(caption, _scaled(rgb, wide), wide) for caption, rgb in tiles]
    tall = max(picture.shape[0] for picture in pictures)
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((gap + rows * (tall + gap), gap + columns * (wide + gap), 3), _PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        y, x = gap + row * (tall + gap), gap + column * (wide + gap)
        sheet[y : y + picture.shape[0], x : x + wide] = picture
    return sheet


_PAPER = (24, 24, 28)
_INK = (225, 225, 230)


def _captioned(caption: str, rgb: Rgb, width: int) -> Rgb:
    line = _text(caption, max(11, round(width / 26)), _INK, _PAPER)[:, :width]
    plate = np.full((line.shape[0], width, 3), _PAPER, np.uint8)
    plate[:, : line.shape[1]] = line
    return np.concatenate((rgb, plate))


def _scaled(rgb: Rgb, width: int) -> Rgb:
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    if width == rgb.shape[1]:
        return rgb.copy()
    method = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def save_png(path: str | Path, image: NDArray[Any]) -> Path:
    """Write a PNG: uint8 RGB (H, W, 3), uint8 grey (H, W), or a bool mask (H, W) as 0 and 255.

    It appears under its name only when it is complete; an existing file is replaced.
    """
    target = Path(path)
    pixels = image.astype(np.uint8) * 255 if image.dtype == np.bool_ else image
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        Image.fromarray(pixels).save(partial, format="PNG")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
