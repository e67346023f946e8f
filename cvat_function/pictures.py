"""Pictures out of JSON, as CVAT shows them. No torch."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgetam_model import InputError, MediaLimits

Rgb = NDArray[np.uint8]
FIELD = "image"

# Raster formats that Pillow decodes itself, of those that CVAT takes; EPS and the like would start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "TGA", "PCX")
# What Pillow's readers raise over damaged files, and its own limits.
DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def decode_picture(text: object, limits: MediaLimits) -> Rgb:
    """The pixels of an image as CVAT sends it, uint8 (H, W, 3) RGB: `read_picture` of `picture_bytes`.

    Args:
        text: base64 of an image file; a data URL is taken too.
        limits: bytes of the file and pixels, both checked before anything is decoded.

    Raises:
        InputError: field "image"; not base64, not an image, damaged, or larger than the limits allow.
    """
    return read_picture(picture_bytes(text, limits), limits)


def picture_bytes(text: object, limits: MediaLimits) -> bytes:
    """The file inside the JSON. Raises as `decode_picture`."""
    if not isinstance(text, str) or not text:
        raise InputError(
            FIELD, f"expected base64 of an image file, got {type(text).__name__ if text else text!r}"
        )
    if text.startswith("data:"):
        text = text.partition(",")[2]
    limits.check_bytes(FIELD, len(text) // 4 * 3)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # the second one for letters outside ASCII
        raise InputError(FIELD, f"not base64: {error}") from error


def read_picture(data: bytes, limits: MediaLimits) -> Rgb:
    """The pixels of an image file, uint8 (H, W, 3) RGB, turned by its EXIF note, as CVAT shows them.

    Transparency is dropped, not laid over white. Palettes, grey and CMYK become RGB. Samples of more than 8
    bits are stretched from the lowest to the highest and equalised.

    Raises:
        InputError: field "image"; not an image, damaged, or larger than the limits allow.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            limits.check_size(FIELD, *image.size)
            image.load()
            return picture_pixels(image)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(FIELD, f"not an image of a known format ({', '.join(FORMATS)})") from error
    except DAMAGE as error:
        raise InputError(FIELD, f"damaged, cut off or too large: {' '.join(str(error).split())}") from error


def picture_pixels(image: Image.Image) -> Rgb:
    """The pixels of an open image, see `read_picture`."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        upright = _equalised(np.asarray(upright))
    return np.array(upright.convert("RGB"))


def _equalised(samples: NDArray[np.generic]) -> Image.Image:
    """Grey of any depth in 8 bits."""
    values = np.nan_to_num(samples.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    values -= low  # in place: a large frame takes 700 MB here
    values *= 255.0 / (high - low) if high > low else 0.0
    return ImageOps.equalize(Image.fromarray(values.astype(np.uint8)))
