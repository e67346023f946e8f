"""Positions of a grid as two small tables, of columns and of rows, in place of one of all places.

The published size would carry 8 MB of them. A table that the graph itself put together would be folded into
one again by any exporter, so both are applied to the tokens, one after the other: what a table does not
concern, it multiplies by one or adds nothing to, and every number stays exactly what it was.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn


class GridSum(nn.Module):
    """Adds a position encoding (N, C) of a square grid, whose rows fill the first half of the channels."""

    columns: Tensor
    rows: Tensor

    def __init__(self, position: Tensor) -> None:
        super().__init__()
        rows, columns = _tables(position, rows_first=True, neutral=0.0)
        self.register_buffer("rows", rows[:, None], persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) → the same."""
        grid = x.reshape(-1, len(self.rows), *self.columns.shape)
        return (grid + self.rows + self.columns).flatten(1, 2)


class GridTurn(nn.Module):
    """Turns channels i and i + C / 2 by `axial_angles` (2, N, C / 2): the same as `rotate` of neighbours."""

    columns: Tensor
    rows: Tensor

    def __init__(self, angles: Tensor) -> None:
        super().__init__()
        tables = [_tables(table, rows_first=False, neutral=1.0) for table in angles]
        self.register_buffer("rows", torch.stack([rows[:, None] for rows, _ in tables]), persistent=False)
        self.register_buffer("columns", torch.stack([columns for _, columns in tables]), persistent=False)

    def forward(self, even: Tensor, odd: Tensor) -> Tensor:
        """Halves (..., N, C / 2) of the channels → (..., N, C)."""
        shape, grid = even.shape, (-1, self.rows.shape[1], self.columns.shape[1], even.shape[-1])
        even, odd = even.reshape(grid), odd.reshape(grid)
        cos, sin = zip(self.rows, self.columns, strict=True)
        turned = (_scaled(even, cos) - _scaled(odd, sin), _scaled(even, sin) + _scaled(odd, cos))
        return torch.cat(turned, dim=-1).reshape(*shape[:-1], 2 * shape[-1])


def _scaled(grid: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    rows, columns = tables
    return grid * rows * columns


def _tables(table: Tensor, *, rows_first: bool, neutral: float) -> tuple[Tensor, Tensor]:
    """(N, C) of a square grid → (side, C) of its rows and of its columns, neutral in the other's half."""
    side, half = isqrt(len(table)), table.shape[1] // 2
    grid = table.reshape(side, side, -1)
    rows, columns = grid[:, 0].clone(), grid[0].clone()
    first, second = (rows, columns) if rows_first else (columns, rows)
    first[:, half:], second[:, :half] = neutral, neutral
    return rows, columns
