"""Memory is used again when its borrower is gone, and never before."""

from __future__ import annotations

import numpy as np
import torch

from edgetam_model.runtime.buffers import KEPT, Buffers

SHAPE = (3, 5)


def place(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_what_nobody_holds_is_lent_again() -> None:
    buffers = Buffers()
    first = buffers.lend(SHAPE)
    where = place(first)
    del first
    assert place(buffers.lend(SHAPE)) == where


def test_what_somebody_holds_is_not() -> None:
    buffers = Buffers()
    one, two = buffers.lend(SHAPE), buffers.lend(SHAPE)
    one[:], two[:] = 1, 2
    assert place(one) != place(two)
    assert (one == 1).all()


def test_a_tensor_and_its_views_hold_it() -> None:
    buffers = Buffers()
    view = torch.from_numpy(buffers.lend(SHAPE)).permute(1, 0)[1:]
    view.fill_(7)
    buffers.lend(SHAPE)[:] = 0
    assert (view == 7).all()


def test_shapes_do_not_mix_and_few_arrays_wait() -> None:
    buffers = Buffers()
    lent = [buffers.lend(SHAPE) for _ in range(KEPT + 3)]
    other = buffers.lend((5, 3))
    assert other.shape == (5, 3)
    lent.clear()
    again = {place(buffers.lend(SHAPE)) for _ in range(3)}
    assert len(again) == 1
    held = [buffers.lend(SHAPE) for _ in range(KEPT)]
    assert len({place(one) for one in held}) == KEPT
    assert not buffers._free[SHAPE], "no more than those were kept"
