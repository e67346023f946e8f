"""Core ML's operations on pictures (B, C, H, W) in NumPy; convolutions go place by place of the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_blobs import Array


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Any = 1,
) -> Array:
    """Weight (D, C / groups, h, w)."""
    _no_dilation(dilations)
    step = (1, 1) if strides is None else tuple(strides.tolist())
    x = _padded(x, pad_type, pad)
    (batch, _, height, width), (outputs, _, rows, columns) = x.shape, weight.shape
    high, wide, groups = (height - rows) // step[0] + 1, (width - columns) // step[1] + 1, int(groups)
    out = np.zeros((batch, groups, outputs // groups, high * wide), np.float32)
    kernel = weight.reshape(groups, outputs // groups, -1, rows, columns)
    for row in range(rows):
        for column in range(columns):
            seen = x[:, :, row : row + high * step[0] : step[0], column : column + wide * step[1] : step[1]]
            seen = seen[:, :, :high, :wide].reshape(batch, groups, -1, high * wide)
            taps = kernel[..., row, column]
            out += taps * seen if taps.shape[1:] == (1, 1) else taps @ seen
    out = out.reshape(batch, outputs, high, wide)
    return out if bias is None else out + bias[:, None, None]


def conv_transpose(  # noqa: PLR0913, PLR0917 - the operation has so many inputs
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: Any = 1,
) -> Array:
    """Weight (C, D, h, w), one group, nothing cut off."""
    _no_dilation(dilations)
    if int(groups) != 1 or pad_type not in ("valid", "custom") or (pad is not None and pad.any()):
        raise WeightsError("conv_transpose: groups and padding are not known here")
    step = (1, 1) if strides is None else tuple(strides.tolist())
    (batch, _, height, width), (_, outputs, rows, columns) = x.shape, weight.shape
    size = ((height - 1) * step[0] + rows, (width - 1) * step[1] + columns)
    out = np.zeros((batch, outputs, *size), np.float32)
    if output_shape is not None and tuple(output_shape.tolist()) != out.shape:
        raise WeightsError(f"conv_transpose: expected {output_shape.tolist()}, comes to {list(out.shape)}")
    flat = x.reshape(batch, len(weight), -1)
    for row in range(rows):
        for column in range(columns):
            part = (weight[:, :, row, column].T @ flat).reshape(batch, outputs, height, width)
            out[:, :, row : size[0] - rows + row + 1 : step[0], column :: step[1]][..., :width] += part
    return out if bias is None else out + bias[:, None, None]


def avg_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array,
    pad_type: str = "valid",
    pad: Array | None = None,
    exclude_padding_from_average: Any = False,  # noqa: ARG001 - there is no padding
    ceil_mode: Any = False,
) -> Array:
    """Blocks side by side; padding makes no sense of them."""
    plain = pad_type in ("valid", "custom") and not (pad is not None and pad.any()) and not ceil_mode
    blocks = plain and kernel_sizes.tolist() == strides.tolist()
    rows, columns = kernel_sizes.tolist()
    batch, channels, height, width = x.shape
    if not blocks or height % rows or width % columns:
        raise WeightsError("avg_pool: blocks that overlap or do not fill the picture are not known here")
    cells = x.reshape(batch, channels, height // rows, rows, width // columns, columns)
    return np.asarray(cells.mean(axis=(3, 5)))


def upsample_nearest_neighbor(x: Array, scale_factor_height: Any, scale_factor_width: Any) -> Array:
    """Whole factors."""
    rows, columns = _whole(scale_factor_height), _whole(scale_factor_width)
    return x.repeat(rows, axis=2).repeat(columns, axis=3)


def upsample_bilinear(
    x: Array,
    scale_factor_height: Any,
    scale_factor_width: Any,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:
    """Whole factors, centres at half pixels, as PyTorch without aligned corners."""
    if align_corners or half_pixel_centers is False:
        raise WeightsError("upsample_bilinear: aligned corners are not known here")
    down = _stretching(x.shape[2], _whole(scale_factor_height))
    across = _stretching(x.shape[3], _whole(scale_factor_width))
    return np.asarray(down @ (x @ across.T))


def _stretching(count: int, factor: int) -> Array:
    """(count · factor, count) weights."""
    place = ((np.arange(count * factor) + 0.5) / factor - 0.5).clip(0, count - 1)
    low = np.floor(place).astype(np.intp)
    share = (place - low).astype(np.float32)
    weights, rows = np.zeros((count * factor, count), np.float32), np.arange(count * factor)
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, count - 1)] += share
    return weights


def _padded(x: Array, pad_type: str, pad: Array | None) -> Array:
    if pad_type == "valid" or pad is None:
        pad = np.zeros(4, np.int32)
    if pad_type not in ("valid", "custom"):
        raise WeightsError(f"conv: its pad_type {pad_type} is not known here")
    top, bottom, left, right = pad.tolist()
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


def _whole(factor: Any) -> int:
    if float(factor) != int(factor):
        raise WeightsError(f"a factor of {float(factor):g} is not known here")
    return int(factor)


def _no_dilation(dilations: Array | None) -> None:
    if dilations is not None and (dilations != 1).any():
        raise WeightsError("convolutions with holes are not known here")
