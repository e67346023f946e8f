"""The bank of textures that synthetic scenes are made of: photographs from a folder, and procedural tiles."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.errors import InputError
from edgetam_model.images import SUFFIXES, natural_key, read_layer
from edgetam_model.training.cutouts import cut_thing
from edgetam_model.training.procedural import TILE, procedural_tiles

PROCEDURAL_TILES = 256  # beside photographs; 12.6 MB, 1 s to make
MIN_SIDE = 48  # pixels; a smaller picture, enlarged to a tile, shows no texture
CLEAR, SURROUNDINGS = 16, 0.02  # opacity of nothing, and the share of it that makes a picture a cut-out
TILES_PER_PHOTO = 24  # of one large photograph, so that it does not crowd out the others

# A contact sheet is white; its pictures have at most 128 × 128 pixels and begin every 144 pixels across and
# 176 down (a caption stands below each), 16 from the edges.
SHEET_MARGIN, SHEET_ACROSS, SHEET_DOWN = 16, 144, 176
_WHITE = 250  # of a sheet's paper, at least
_GUTTER = 248  # mean of a gutter: captions and compression darken it a little

# Of scikit-image's photographs those that are free for any use: CC0, public domain, or no known restrictions.
SKIMAGE_PHOTOS = ("astronaut", "rocket", "chelsea", "coffee", "retina", "brick", "grass", "gravel", "camera")

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class TextureBank:
    """Tiles to cut textures from.

    Attributes:
        tiles: uint8 (N, 3, 128, 128) RGB; photographs first.
        photographs: how many of them are photographs.
        cutouts: uint8 (M, 4, 128, 128) things as `cut_thing` makes them.

    Raises:
        InputError: tiles or cut-outs of another shape or type, or no tiles.
    """

    tiles: Tensor
    photographs: int
    cutouts: Tensor = field(default_factory=lambda: torch.zeros(0, 4, TILE, TILE, dtype=torch.uint8))

    def __post_init__(self) -> None:
        shape = tuple(self.tiles.shape)
        if shape[1:] != (3, TILE, TILE) or self.tiles.dtype != torch.uint8 or not shape[0]:
            raise InputError("tiles", f"expected uint8 (N, 3, {TILE}, {TILE}) with N > 0, got {shape}")
        if not 0 <= self.photographs <= shape[0]:
            raise InputError("photographs", f"expected 0 to {shape[0]}, got {self.photographs}")
        shape = tuple(self.cutouts.shape)
        if shape[1:] != (4, TILE, TILE) or self.cutouts.dtype != torch.uint8:
            raise InputError("cutouts", f"expected uint8 (M, 4, {TILE}, {TILE}), got {shape}")

    def __len__(self) -> int:
        return int(self.tiles.shape[0])

    def to(self, device: torch.device | str) -> TextureBank:
        """The same bank on another device."""
        return TextureBank(self.tiles.to(device), self.photographs, self.cutouts.to(device))


@lru_cache(maxsize=2)  # cutting 47 sheets takes 3 s, and trainers ask for the same folder again
def load_textures(
    folder: str | Path | None = None,
    *,
    procedural: int = PROCEDURAL_TILES,
    skimage: bool = False,
    seed: int = 0,
) -> TextureBank:
    """The bank of a folder's pictures, its subfolders included, and of procedural tiles beside them.

    A picture with the layout of a contact sheet is cut into its pictures, one with transparent surroundings
    gives the thing in it, any other is cut into squares.

    Args:
        folder: images and contact sheets; None: procedural tiles alone.
        procedural: how many procedural tiles.
        skimage: take scikit-image's free photographs too, where that package is installed.
        seed: of the procedural tiles.

    Raises:
        InputError: no such folder, nothing in it that is a picture large enough, or an empty bank.
        MediaError: a picture that cannot be read.
    """
    if procedural < 0:
        raise InputError("procedural", f"expected 0 or more tiles, got {procedural}")
    photos, things = ([], []) if folder is None else _folder_tiles(Path(folder))
    if skimage:
        photos += _skimage_tiles()
    tiles = [torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)] if photos else []
    tiles.append(procedural_tiles(procedural, seed))
    bank = TextureBank(torch.cat(tiles).contiguous(), len(photos))
    return replace(bank, cutouts=torch.from_numpy(np.stack(things))) if things else bank


def cut_tiles(picture: Rgb) -> list[Rgb]:
    """The tiles (128, 128, 3) of a picture (H, W, 3) or contact sheet; none where it is too small."""
    parts = sheet_pictures(picture) if is_sheet(picture) else _squares(picture)
    return [_tile(part) for part in parts if min(part.shape[:2]) >= MIN_SIDE]


def is_sheet(picture: Rgb) -> bool:
    """Whether the picture has a contact sheet's white margins and gutters."""
    height, width = picture.shape[:2]
    if height < SHEET_DOWN or width < SHEET_MARGIN + SHEET_ACROSS or (width - SHEET_MARGIN) % SHEET_ACROSS:
        return False
    gutters = [picture[:, x : x + SHEET_MARGIN] for x in range(0, width, SHEET_ACROSS)]
    return all(gutter.mean() >= _GUTTER for gutter in (picture[:SHEET_MARGIN], *gutters))


def sheet_pictures(sheet: Rgb) -> list[Rgb]:
    """A contact sheet's pictures, row by row, without the white beside those that do not fill their place."""
    height, width = sheet.shape[:2]
    cells = (
        sheet[y : y + TILE, x : x + TILE]
        for y in range(SHEET_MARGIN, height, SHEET_DOWN)
        for x in range(SHEET_MARGIN, width, SHEET_ACROSS)
    )
    return [picture for cell in cells if (picture := _trimmed(cell)).size]


def _trimmed(cell: Rgb) -> Rgb:
    inked = cell.min(axis=2) < _WHITE
    # A fifth of a line: compression leaves single specks on the paper just beside a picture.
    rows, columns = (np.flatnonzero(inked.mean(axis=axis) > 0.2) for axis in (1, 0))
    return cell[: rows[-1] + 1, : columns[-1] + 1] if rows.size and columns.size else cell[:0]


def _squares(picture: Rgb) -> list[Rgb]:
    """Squares side by side; a large photograph is first scaled down to give TILES_PER_PHOTO of them."""
    height, width = picture.shape[:2]
    shrink = min(1.0, (TILES_PER_PHOTO * TILE * TILE / (height * width)) ** 0.5)
    shrink = max(shrink, min(1.0, TILE / min(height, width)))
    if shrink < 1:
        size = (round(width * shrink), round(height * shrink))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = picture.shape[:2]
    side = min(TILE, height, width)
    return [
        picture[y : y + side, x : x + side]
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]


def _tile(picture: Rgb) -> Rgb:
    side = min(picture.shape[:2])
    square = np.ascontiguousarray(picture[:side, :side])
    if side == TILE:
        return square
    return np.asarray(cv2.resize(square, (TILE, TILE), interpolation=cv2.INTER_CUBIC), np.uint8)


def _folder_tiles(folder: Path) -> tuple[list[Rgb], list[Rgb]]:
    """The tiles and the cut-outs of a folder's pictures."""
    if not folder.is_dir():
        raise InputError("textures", f"expected a folder of images or contact sheets, got {folder}")
    tiles: list[Rgb] = []
    things: list[Rgb] = []
    for path in _pictures(folder):
        layer = read_layer(path)
        if (layer[..., 3] < CLEAR).mean() < SURROUNDINGS:
            tiles += cut_tiles(layer[..., :3])
        elif (thing := cut_thing(layer)) is not None:
            things.append(thing)
    if not tiles and not things:
        raise InputError("textures", f"no pictures of at least {MIN_SIDE}×{MIN_SIDE} pixels in {folder}")
    return tiles, things


def _pictures(folder: Path) -> Iterator[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return iter(sorted(found, key=lambda p: natural_key(p.relative_to(folder).as_posix())))


def _skimage_tiles() -> list[Rgb]:
    """Nothing where scikit-image is not installed: the photographs only add to the folder's."""
    if importlib.util.find_spec("skimage") is None:
        return []
    data = importlib.import_module("skimage.data")
    tiles: list[Rgb] = []
    for name in SKIMAGE_PHOTOS:
        photo = np.asarray(getattr(data, name)(), np.uint8)
        tiles += cut_tiles(photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, axis=2))
    return tiles
