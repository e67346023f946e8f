"""PyTorch keeps to one thread around parts that others compute, and has its own back afterwards."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edgetam_model.model import EdgeTAM
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.runtime.threads import one_thread
from edgetam_model.runtime.torch_parts import TorchBackend
from tests.models import tiny_model


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tmp_path: Path) -> EdgeTAM:
    made = copy.deepcopy(tiny_model())
    made.runtime = StaticParts(made, OpenVinoBackend(made, threads=1, folder=tmp_path))
    return made


def test_one_thread_until_the_outermost_is_left(model: EdgeTAM) -> None:
    with one_thread(model):
        with one_thread(model):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_an_error_gives_them_back(model: EdgeTAM) -> None:
    with pytest.raises(KeyError), one_thread(model):
        raise KeyError
    assert torch.get_num_threads() == 3


def test_a_model_that_pytorch_computes_keeps_them() -> None:
    model = copy.deepcopy(tiny_model())
    with one_thread(model):
        assert torch.get_num_threads() == 3
    model.runtime = StaticParts(model, TorchBackend(model))
    with one_thread(model):
        assert torch.get_num_threads() == 3


def test_threads_that_come_meanwhile_have_them_afterwards(model: EdgeTAM) -> None:
    seen: list[int] = []

    def work() -> None:
        with one_thread(model):
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    with one_thread(model):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [1, 3]
