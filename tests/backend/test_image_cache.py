from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from backend.image_cache import held_bytes
from edgetam_model import CONFIGS, EdgeTAM, ImagePredictor, Prompt


def tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(tensor_bytes(inner) for inner in vars(value).values()) if hasattr(value, "__dict__") else 0


@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_the_estimate_covers_what_a_predictor_keeps(name: str) -> None:
    torch.manual_seed(0)
    predictor = ImagePredictor(EdgeTAM(CONFIGS[name]).eval())
    rgb = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    predictor.set_image(rgb)
    for x in range(10, 150, 10):
        predictor.predict(Prompt(points=[[x, 60]], labels=[1]))
    assert predictor._engine is not None
    kept = sum(tensor_bytes(view.image) for view in predictor._engine._views.values())
    estimate = held_bytes(CONFIGS[name], rgb.nbytes)
    assert kept <= estimate <= 1.5 * kept + rgb.nbytes
