"""The README's pictures: there, small, and all of them shown."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "docs" / "pictures"
LARGEST, ALL = 150_000, 600_000  # bytes


def test_every_picture_is_shown_with_words_for_who_cannot_see_it() -> None:
    shown = dict(re.findall(r"!\[([^\]]+)\]\((docs/pictures/[^)]+)\)", (ROOT / "README.md").read_text()))
    assert set(shown.values()) == {f"docs/pictures/{path.name}" for path in PICTURES.iterdir()}
    assert all(len(words) > 20 for words in shown)


def test_pictures_are_small_and_can_be_opened() -> None:
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert max(sizes.values()) < LARGEST, sizes
    assert sum(sizes.values()) < ALL, sizes
    for path in PICTURES.iterdir():
        with Image.open(path) as picture:
            picture.load()
            assert picture.width <= 1400
            assert not picture.getexif(), path.name
