"""Pictures and masks come out as PyTorch resizes them, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.export.pixels import binary_mask, blocks, repeated, stretched, to_pixels

SIDES = st.integers(1, 300)


def resized(values: torch.Tensor, side: int) -> np.ndarray:
    out = F.interpolate(values[None], size=(side, side), mode="bilinear", antialias=True)
    return np.asarray(out[0].numpy())


@given(SIDES, SIDES, st.sampled_from([32, 64, 128, 160]), st.integers(0, 9))
def test_bytes_are_pytorchs(height: int, width: int, side: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = resized(torch.from_numpy(rgb).permute(2, 0, 1), side)
    assert np.array_equal(to_pixels(rgb, side), expected)


@given(SIDES, SIDES, st.sampled_from([32, 64, 128, 160]), st.integers(0, 9))
def test_numbers_are_pytorchs_to_rounding(height: int, width: int, side: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    expected = resized(torch.from_numpy(values)[None], side)[0]
    assert np.abs(stretched(values, side) - expected).max() <= 5e-6


@pytest.mark.parametrize(("height", "width"), [(90, 160), (64, 64), (31, 47), (600, 20)])
def test_masks_are_pytorchs(height: int, width: int) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((height // 5 + 1, width // 5 + 1)).repeat(5, 0).repeat(5, 1)[:height, :width] > 0.5
    expected = resized(torch.from_numpy(mask).float()[None], 64)[0] >= 0.5
    assert np.array_equal(binary_mask(mask, 64), expected)
    assert expected.any() != expected.all(), "else this shows nothing"


def test_blocks_and_their_means() -> None:
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(blocks(values, 4)[1, 0], values[4:, :4])
    assert np.array_equal(blocks(repeated(values, 4), 4).mean((2, 3)), values)
