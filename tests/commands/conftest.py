"""Small weights and a short video for the verbs, made once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from edgetam_model.weights import save_weights
from tests.models import tiny_model
from tests.video_fixtures import Recipe, constant, write_video

FRAMES = 12


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the `tiny` config, marked as trained."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(), tiny_model().config)
    return path


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, marked as what they are."""
    path = tmp_path_factory.mktemp("weights") / "nothing.safetensors"
    save_weights(path, tiny_model(), tiny_model().config, trained=False)
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FRAMES frames of 160×96 at 29.97 per second, with B-frames."""
    pts, base = constant(FRAMES, Fraction(30000, 1001))
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return write_video(path, Recipe(pts, base, rate=1 / base, b_frames=2))
