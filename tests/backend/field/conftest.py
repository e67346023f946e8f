"""A kit's weights and media, made once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.field.desk import Desk
from backend.field.kit import Kit
from edgetam_model import load_model, save_png
from tests.backend.field import kits


@pytest.fixture(scope="session")
def weights() -> Path:
    return kits.shipped()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kits.clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_png(tmp_path_factory.mktemp("still") / "still.png", kits.picture())


@contextmanager
def desk_on(kit: Kit) -> Iterator[Desk]:
    """Everything behind the page, on the kit's own weights."""
    desk = Desk(kit, lambda: load_model(kit.path(kit.manifest.weights), "cpu").fuse())
    try:
        yield desk
    finally:
        desk.close()


def settle(desk: Desk) -> None:
    """Wait until nothing is tracked any more."""
    deadline = time.monotonic() + 60
    while desk.overview()["running"]:
        assert time.monotonic() < deadline, desk.overview()
        time.sleep(0.02)
