"""Whose threads compute: two pools that wait for work in a loop take the cores from each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgetam_model.model import EdgeTAM
from edgetam_model.runtime.static_parts import StaticParts


class _Inside:
    """Who is in `one_thread` now, and how many threads PyTorch had before they came."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.callers = 0
        self.usual = 1
        self.own = threading.local()  # whether this thread is


_inside = _Inside()


@contextmanager
def one_thread(model: EdgeTAM) -> Iterator[None]:
    """What PyTorch has to do around a model whose parts are run by other threads, it does in this one.

    Its workers go on looking for work for some milliseconds after each operation that they shared. Around a
    frame of the fast mode on two cores that took 50 of 200 core-ms, and kept OpenVINO waiting; what they
    shared, resizing and copies, takes 3 in one thread.
    """
    if _elsewhere(model) and not getattr(_inside.own, "here", False):
        with _alone():
            yield
    else:
        yield


def _elsewhere(model: EdgeTAM) -> bool:
    return isinstance(model.runtime, StaticParts) and model.runtime.backend.own_threads


@contextmanager
def _alone() -> Iterator[None]:
    """PyTorch tells the number to threads that are new to it: what it was before anyone came here counts."""
    with _inside.lock:
        if not _inside.callers:
            _inside.usual = torch.get_num_threads()
        _inside.callers += 1
    _inside.own.here = True
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_inside.usual)
        _inside.own.here = False
        with _inside.lock:
            _inside.callers -= 1
