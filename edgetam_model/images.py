"""Still images as people see them, and folders of images as sources of frames."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgetam_model.errors import MediaError
from edgetam_model.sources import NOMINAL_RATE, Frame, FrameSource, MediaLimits, VideoInfo
from edgetam_model.timetable import TimeTable

# Raster formats that Pillow decodes itself; EPS and the like would start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"})

# What Pillow raises over damaged files: 60,000 of them met the first three, its readers' code the others.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
)
# Raised while the header is read, by Pillow's own limit; the second one only where warnings are errors.
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(source: str | Path | bytes, limits: MediaLimits | None = None) -> Frame:
    """An image file, or its bytes, as uint8 (H, W, 3) RGB the way a browser shows it.

    EXIF rotation is applied. Transparency is laid over white. Palettes, grey, CMYK and YCbCr become
    RGB; 16-bit samples keep their upper 8 bits. Colour profiles are not applied. Of several pages or
    animation frames the first is read. Formats: JPEG, PNG, WebP, TIFF, BMP, GIF, PPM.

    Raises:
        MediaError: missing, not an image, damaged, cut off, or larger than the limits allow.
    """
    return _decoded(source, limits or MediaLimits(), _rgb)


def read_layer(source: str | Path | bytes, limits: MediaLimits | None = None) -> Frame:
    """The same as uint8 (H, W, 4): RGB and opacity, 255 throughout where the file has none.

    Raises:
        MediaError: as `read_image`.
    """
    return _decoded(source, limits or MediaLimits(), _rgba)


def _decoded(
    source: str | Path | bytes, limits: MediaLimits, convert: Callable[[Image.Image], Frame]
) -> Frame:
    data = source if isinstance(source, bytes) else _read_bytes(Path(source), limits)
    limits.check_bytes("image", len(data))
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            limits.check_size("image", *image.size)
            image.load()
            return convert(image)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError("image", f"not an image of a known format ({', '.join(FORMATS)})") from error
    except BOMBS as error:
        raise MediaError("image", f"more pixels than can be held: {_one_line(error)}") from error
    except DAMAGE as error:
        raise MediaError("image", f"damaged or cut off: {_one_line(error)}") from error


def looks_like_image(path: Path) -> bool:
    """Whether the file begins like an image that `read_image` reads, however large or damaged it is."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except BOMBS:
        return True
    except DAMAGE:
        return False


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which frame 10 follows frame 9: digits compare as numbers, letters without case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p.isascii() and p.isdigit() else (1, 0, p.lower()) for p in parts)


class ImageSource(FrameSource):
    """Image files as frames, in the order given, read when they are asked for.

    Every frame has the size of the first; an image of another size is scaled to it, with a warning.
    There is no clock: times count NOMINAL_RATE frames per second.

    Raises:
        MediaError: the first image cannot be read, no images, or more than the limits allow.
    """

    def __init__(self, paths: list[Path], limits: MediaLimits) -> None:
        if not paths:
            raise MediaError("source", f"no images in the folder (looked for {', '.join(sorted(SUFFIXES))})")
        limits.check_frames("source", len(paths))
        self._paths = paths
        self._limits = limits
        height, width = read_image(paths[0], limits).shape[:2]
        table = TimeTable.constant(len(paths), NOMINAL_RATE)
        super().__init__(VideoInfo(width, height, table, "images"))

    def _read(self, index: int) -> Frame | None:
        try:
            frame = read_image(self._paths[index], self._limits)
        except MediaError as error:
            self._warn(f"{self._paths[index].name}: {error.problem}")
            return None
        size = (self.info.width, self.info.height)
        if frame.shape[1::-1] == size:
            return frame
        self._warn(f"{self._paths[index].name}: scaled to {size[0]}×{size[1]} pixels like frame 0")
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


def open_folder(folder: Path, limits: MediaLimits) -> ImageSource:
    """The images directly in a folder, in natural order of their names; hidden files are left out.

    Raises:
        MediaError: see ImageSource.
    """
    paths = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]
    return ImageSource(sorted(paths, key=lambda p: natural_key(p.name)), limits)


def _read_bytes(path: Path, limits: MediaLimits) -> bytes:
    try:
        limits.check_bytes("image", path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise MediaError("image", f"cannot read {path.name}: {error.strerror or error}") from error


def _rgb(image: Image.Image) -> Frame:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return _from_grey16(np.asarray(upright))
    if upright.mode == "F":
        raise MediaError("image", "floating-point samples have no agreed brightness; save it as 8 or 16 bit")
    if "transparency" in upright.info or upright.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(white, layer)
    return np.array(upright.convert("RGB"))


def _rgba(image: Image.Image) -> Frame:
    if image.mode.startswith("I") or image.mode == "F":  # no opacity in such files
        rgb = _rgb(image)
        return np.dstack((rgb, np.full(rgb.shape[:2], 255, np.uint8)))
    return np.array(ImageOps.exif_transpose(image).convert("RGBA"))


def _from_grey16(grey: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Frame:
    """Pillow holds 16-bit grey in 16 or 32 bits; beyond 16 bits nothing says what white is."""
    if grey.size and (grey.min() < 0 or grey.max() > 0xFFFF):
        raise MediaError("image", "samples of more than 16 bits; save it as 8 or 16 bit")
    return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
