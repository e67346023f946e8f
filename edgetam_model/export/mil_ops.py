"""Core ML's operations in NumPy, as the specification of iOS 15 to 18 has them, with its names of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_blobs import Array
from edgetam_model.export.mil_images import (
    avg_pool,
    conv,
    conv_transpose,
    upsample_bilinear,
    upsample_nearest_neighbor,
)

CASTS = {"fp16": "float16", "fp32": "float32", "int32": "int32", "int16": "int16", "bool": "bool"}
CASTS |= {"uint8": "uint8", "int8": "int8", "uint16": "uint16"}
ERF_REACH, ERF_DEGREE = 4.0, 47  # beyond, erf is 1 in float32; so many terms give 1e-12


def cast(x: Array, dtype: str) -> Array:
    """Types by the specification's names; int32 cuts towards zero."""
    return x.astype(CASTS[dtype])


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(…, C) and (D, C) → (…, D)."""
    out = x @ weight.T
    return out if bias is None else out + bias


def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """Batched product."""
    left = x.swapaxes(-1, -2) if transpose_x else x
    right = y.swapaxes(-1, -2) if transpose_y else y
    return np.asarray(left @ right)


def softmax(x: Array, axis: Any) -> Array:
    """Along an axis."""
    powers = np.exp(x - x.max(axis=int(axis), keepdims=True))
    return np.asarray(powers / powers.sum(axis=int(axis), keepdims=True))


def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """iOS 18's fused attention; the mask is added to the scores."""
    scores = (query / np.float32(math.sqrt(query.shape[-1]))) @ key.swapaxes(-1, -2)
    if attn_mask is not None:
        if attn_mask.dtype == np.bool_:
            raise WeightsError("scaled_dot_product_attention: masks of truth values are not known here")
        scores = scores + attn_mask
    return np.asarray(softmax(scores, -1) @ value)


def layer_norm(
    x: Array, axes: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Over some axes, the last ones."""
    over = tuple(int(axis) for axis in axes)
    centred = x - x.mean(axis=over, keepdims=True)
    normed = centred / np.sqrt((centred * centred).mean(axis=over, keepdims=True) + np.float32(epsilon))
    normed = normed if gamma is None else normed * gamma
    return np.asarray(normed if beta is None else normed + beta)


def rsqrt(x: Array, epsilon: Any = 1e-12) -> Array:
    """One over the square root."""
    return np.asarray(1 / np.sqrt(x + np.float32(epsilon)), np.float32)


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """The exact one only."""
    if mode != "EXACT":
        raise WeightsError(f"gelu: its mode {mode} is not known here")
    return np.asarray(x * 0.5 * (1 + _erf(x * math.sqrt(0.5))), np.float32)


def _erf(x: Array) -> Array:
    near = np.clip(np.abs(x), 0, ERF_REACH).astype(np.float64)
    return np.sign(x) * np.polynomial.chebyshev.chebval(near * (2 / ERF_REACH) - 1, _erf_terms())


@cache
def _erf_terms() -> Array:
    exact = np.vectorize(lambda place: math.erf((place + 1) * ERF_REACH / 2))
    return np.asarray(np.polynomial.chebyshev.chebinterpolate(exact, ERF_DEGREE))


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    return np.asarray(np.logaddexp(np.float32(0), x))


def sigmoid(x: Array) -> Array:
    """Without overflow on either side."""
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -x)))


def concat(values: Sequence[Array], axis: Any, interleave: Any = False) -> Array:
    """Along an axis, one after the other."""
    if interleave:
        raise WeightsError("concat: interleaved values are not known here")
    return np.concatenate(values, axis=int(axis))


def stack(values: Sequence[Array], axis: Any) -> Array:
    """Along a new axis."""
    return np.stack(values, axis=int(axis))


def split(x: Array, axis: Any, split_sizes: Array | None = None, num_splits: Any = None) -> list[Array]:
    """Into pieces of given sizes or of equal ones."""
    if split_sizes is None:
        return np.split(x, int(num_splits), axis=int(axis))
    return np.split(x, np.cumsum(split_sizes)[:-1], axis=int(axis))


def reshape(x: Array, shape: Array) -> Array:
    """0 keeps a size, −1 is what remains."""
    return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def transpose(x: Array, perm: Array) -> Array:
    """Axes in another order."""
    return x.transpose(perm.tolist())


def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of size 1."""
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Drops axes of size 1."""
    return x.squeeze(None if axes is None else tuple(int(axis) for axis in axes))


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """A box of x; masks mean: from the start, to the end, and one place whose axis goes."""
    index: list[slice | int] = []
    for axis in range(x.ndim):
        step = 1 if stride is None else int(stride[axis])
        first = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        last = None if end_mask is not None and end_mask[axis] else int(end[axis])
        single = squeeze_mask is not None and bool(squeeze_mask[axis])
        index.append(int(begin[axis]) if single else slice(first, last, step))
    return np.asarray(x[tuple(index)])


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """The last axes, before and after each."""
    if mode != "constant":
        raise WeightsError(f"pad: its mode {mode} is not known here")
    pairs = pad.reshape(-1, 2).tolist()
    return np.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, constant_values=constant_val)


def tile(x: Array, reps: Array) -> Array:
    """Repeated as a whole."""
    return np.tile(x, reps.tolist())


def fill_like(ref_tensor: Array, value: Any) -> Array:
    """One number in a tensor's shape."""
    return np.full(ref_tensor.shape, value)


def clip(x: Array, alpha: Any, beta: Any) -> Array:
    """Between two numbers."""
    return np.asarray(np.clip(x, alpha, beta))


def select(cond: Array, a: Array, b: Array) -> Array:
    """a where the condition holds, else b."""
    return np.where(cond, a, b)


def reduce_argmax(x: Array, axis: Any, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
    """The first place of the largest number."""
    places = np.argmax(x, axis=int(axis), keepdims=bool(keep_dims))
    return np.asarray(places, CASTS[output_dtype])


def _reduced(how: Callable[..., Any], x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
    over = None if axes is None else tuple(int(axis) for axis in axes)
    return np.asarray(how(x, axis=over, keepdims=bool(keep_dims)))


def _of_one(how: Callable[..., Any]) -> Callable[..., Array]:
    def operation(x: Array) -> Array:
        return np.asarray(how(x))

    return operation


def _of_two(how: Callable[..., Any]) -> Callable[..., Array]:
    def operation(x: Array, y: Array) -> Array:
        return np.asarray(how(x, y))

    return operation


_WHOLE = (
    *(cast, linear, matmul, softmax, scaled_dot_product_attention, layer_norm, rsqrt, gelu),
    *(softplus, sigmoid),
    *(concat, stack, split, reshape, transpose, expand_dims, squeeze, slice_by_index, pad, tile, fill_like),
    *(clip, select, reduce_argmax),
    *(avg_pool, conv, conv_transpose, upsample_bilinear, upsample_nearest_neighbor),
)
_ONES: dict[str, Callable[..., Any]] = {"relu": partial(np.maximum, 0), "tanh": np.tanh, "exp": np.exp}
_ONES |= {"sin": np.sin, "cos": np.cos, "square": np.square, "sqrt": np.sqrt, "abs": np.abs}
_TWOS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "real_div": np.divide}
_TWOS |= {"minimum": np.minimum, "maximum": np.maximum, "equal": np.equal, "not_equal": np.not_equal}
_TWOS |= {"less": np.less, "less_equal": np.less_equal}
_TWOS |= {"greater": np.greater, "greater_equal": np.greater_equal, "pow": np.power}
_REDUCTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}

OPERATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {function.__name__: function for function in _WHOLE}
    | {name: _of_one(how) for name, how in _ONES.items()}
    | {name: _of_two(how) for name, how in _TWOS.items()}
    | {f"reduce_{name}": partial(_reduced, how) for name, how in _REDUCTIONS.items()}
)
