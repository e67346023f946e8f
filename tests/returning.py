"""A small video of something that goes away and comes back."""

from __future__ import annotations

import numpy as np

BOX = (28, 48, 53, 73)  # of the disc on frame 0


def returning_disc() -> list[np.ndarray]:
    """14 frames: a disc moves for 4, vanishes beside another one for 6, and comes back elsewhere."""
    frames = [scene((40 + 2 * t, 60)) for t in range(4)]
    return frames + [scene(None)] * 6 + [scene((150, 50))] * 4


def scene(disc: tuple[int, int] | None) -> np.ndarray:
    """A quiet background with a look-alike in it, and the disc at (x, y) unless it is away."""
    rows, columns = np.mgrid[:160, :200]
    frame = np.stack(
        [90 + 20 * np.sin(rows / 9), 110 + 15 * np.cos(columns / 7), np.full(rows.shape, 80.0)], -1
    )
    for centre, colour in (((70, 130), (60, 90, 200)), (disc, (220, 60, 50))):
        if centre is not None:
            frame[(columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 <= 12**2] = colour
    return frame.astype(np.uint8)
