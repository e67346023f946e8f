"""The texture bank: contact sheets are cut as they are laid out, photographs into squares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.training.procedural import procedural_tiles
from edgetam_model.training.textures import TextureBank, cut_tiles, is_sheet, load_textures


def sheet(rows: int = 2, across: int = 7) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """A contact sheet of tiles with colours of their own, the last one only half as high, a caption each."""
    random = np.random.default_rng(0)
    page = np.full((16 + 176 * rows, 16 + 144 * across, 3), 255, np.uint8)
    tiles = []
    for row in range(rows):
        for column in range(across):
            y, x = 16 + 176 * row, 16 + 144 * column
            tile = random.integers(0, 200, (128, 128, 3), dtype=np.uint8)
            if row == rows - 1 and column == across - 1:
                tile = tile[:64]
            page[y : y + len(tile), x : x + 128] = tile
            page[y + 136 : y + 146, x + 30 : x + 90] = 40
            tiles.append(tile)
    return page, tiles


def test_a_contact_sheet_is_cut_into_its_pictures() -> None:
    page, tiles = sheet()
    assert is_sheet(page)
    cut = cut_tiles(page)
    assert len(cut) == 14
    for found, tile in zip(cut[:-1], tiles[:-1], strict=True):
        assert np.array_equal(found, tile)
    assert cut[-1].shape == (128, 128, 3)  # the half one: its left square, enlarged
    assert cut[-1].min(axis=2).mean() < 200


def test_empty_places_and_pictures_too_small_are_left_out() -> None:
    page, _ = sheet(rows=1)
    page[16:144, 16:144] = 255
    page[16 + 30 : 144, 160 : 160 + 128] = 255
    assert len(cut_tiles(page)) == 5


def test_photographs_become_squares() -> None:
    random = np.random.default_rng(1)
    photo = random.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    assert not is_sheet(photo)
    tiles = cut_tiles(photo)
    assert len(tiles) == 6
    assert np.array_equal(tiles[0], photo[:128, :128])
    assert 12 <= len(cut_tiles(random.integers(0, 255, (1500, 2000, 3), dtype=np.uint8))) <= 24
    assert len(cut_tiles(random.integers(0, 255, (60, 70, 3), dtype=np.uint8))) == 1
    assert cut_tiles(random.integers(0, 255, (40, 900, 3), dtype=np.uint8)) == []


def test_a_folder_and_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.fromarray(sheet()[0]).save(tmp_path / "sheet.png")
    Image.fromarray(np.full((128, 256, 3), (200, 10, 10), np.uint8)).save(tmp_path / "more" / "red.png")
    (tmp_path / "notes.txt").write_text("no picture")
    bank = load_textures(tmp_path, procedural=5)
    assert len(bank) == 14 + 2 + 5
    assert bank.photographs == 16
    assert bank.tiles[0, :, 5, 5].tolist() == [200, 10, 10]  # "more/red.png" comes before "sheet.png"
    assert load_textures(tmp_path, procedural=5) is bank


def test_pictures_with_transparent_surroundings_are_things(tmp_path: Path) -> None:
    layer = np.zeros((160, 160, 4), np.uint8)
    layer[30:130, 40:120] = (200, 10, 10, 255)
    layer[30:60, 40:70, 3] = 0
    Image.fromarray(layer).save(tmp_path / "thing.webp", lossless=True)
    bank = load_textures(tmp_path, procedural=5)
    assert bank.photographs == 0
    assert bank.cutouts.shape == (1, 4, 128, 128)
    assert bank.cutouts[0, :, 64, 64].tolist() == [200, 10, 10, 255]
    assert bank.to("cpu").cutouts.shape == (1, 4, 128, 128)


def test_procedural_tiles_are_the_seed_s_and_varied() -> None:
    tiles = procedural_tiles(40, seed=3)
    assert tiles.shape == (40, 3, 128, 128)
    assert torch.equal(tiles, procedural_tiles(40, seed=3))
    assert not torch.equal(tiles, procedural_tiles(40, seed=4))
    assert tiles.float().std((1, 2, 3)).gt(1).float().mean() > 0.9
    assert tiles.float().mean((2, 3)).std() > 20
    assert procedural_tiles(0, seed=0).shape == (0, 3, 128, 128)


def test_what_is_no_bank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="textures: expected a folder"):
        load_textures(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures"):
        load_textures(tmp_path)
    with pytest.raises(InputError, match="procedural"):
        load_textures(procedural=-1)
    with pytest.raises(InputError, match="tiles"):
        load_textures(procedural=0)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match="image"):
        load_textures(tmp_path)
    with pytest.raises(InputError, match="tiles"):
        TextureBank(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 0)
    with pytest.raises(InputError, match="photographs"):
        TextureBank(torch.zeros(2, 3, 128, 128, dtype=torch.uint8), 3)
