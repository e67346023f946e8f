"""A training shared out among processes is the training of one: same losses, same weights, one model."""

from __future__ import annotations

import copy
import csv
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgetam_model.errors import InputError
from edgetam_model.training import processes
from edgetam_model.training.journal import LOSSES
from edgetam_model.training.processes import (
    Processes,
    Seat,
    SharedNorms,
    check_shares,
    joined,
    mean_losses,
)
from edgetam_model.training.recipe import Recipe, Stage, Validation
from edgetam_model.training.state import read_state
from edgetam_model.training.trainer import OUTPUTS, STATE, Sources, Trainer
from tests.models import tiny_model
from tests.training.clips import Discs

RECIPE = Recipe(
    seed=3,
    checkpoint_every=0,
    image=Stage(steps=1, batch=1, warmup=1, accumulation=4),
    video=Stage(steps=2, batch=1, frames=3, warmup=1, accumulation=2, objects=2, reuse=2),
    validation=Validation(every=0, clips=1, frames=2),
)
SOURCES = Sources(Discs, Discs)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def train(folder: Path, among: Processes, *, resume: bool = False, stop_at: int = 0) -> Trainer:
    folder.mkdir(exist_ok=True)
    model = copy.deepcopy(tiny_model())
    trainer = Trainer(model, RECIPE, SOURCES, folder, resume=resume, processes=among)
    trainer.run(stop=lambda: trainer.step == stop_at)
    return trainer


def follow(seat: Seat, folder: Path) -> None:
    """Process 1: a training in two halves, as the one that leads does; the weights are left to compare.

    It is the one that asks to stop.
    """
    torch.set_num_threads(1)
    with joined(seat) as among:
        train(folder, among, stop_at=2)
        among.agree(True)  # now the other has saved too
        trainer = train(folder, among, resume=True)
    torch.save(trainer.model.state_dict(), seat.meeting.with_name("followed.pt"))


def losses(folder: Path) -> list[dict[str, float]]:
    with (folder / LOSSES).open() as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k not in {"stage", "seconds"}} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, Processes())
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training by two, stopped after update 2 and resumed by two."""
    folder = tmp_path_factory.mktemp("shared")
    seats = [Seat(rank, 2, folder / "meeting") for rank in range(2)]
    other = multiprocessing.get_context("spawn").Process(target=follow, args=(seats[1], folder / "run"))
    other.start()
    with joined(seats[0]) as among:
        stopped = train(folder / "run", among)
        assert stopped.step == 2, "asked by the other"
        assert among.agree(False)
        train(folder / "run", among, resume=True)
    other.join(60)
    assert other.exitcode == 0
    return folder


def test_every_process_has_the_same_weights(shared: Path) -> None:
    led = read_state(shared / "run" / STATE).part("model")
    followed: dict[str, Tensor] = torch.load(shared / "followed.pt", weights_only=True)
    assert led.keys() == followed.keys()
    for name, tensor in led.items():
        assert torch.equal(tensor, followed[name]), name


def test_only_the_one_that_leads_writes(shared: Path) -> None:
    assert {path.name for path in (shared / "run").iterdir()} == set(OUTPUTS)
    assert [row["step"] for row in losses(shared / "run")] == [1, 2, 3]


def test_two_train_as_one_does(alone: Path, shared: Path) -> None:
    """Weights, averages, batch norms' statistics and the optimiser's."""
    for one, two in zip(losses(alone), losses(shared / "run"), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    first = tiny_model().state_dict()
    one_state, two_state = (read_state(folder / STATE).tensors for folder in (alone, shared / "run"))
    assert one_state.keys() == two_state.keys(), "a parameter without gradients has no state either"
    for part in ("model", "average", "optimizer"):  # as a whole: AdamW makes a step of a rounding error too
        names = [name for name in one_state if name.startswith(part)]
        one_all, two_all = (
            torch.cat([state[name].flatten().double() for name in names]) for state in (one_state, two_state)
        )
        assert (two_all - one_all).norm() < 1e-4 * one_all.norm(), part
    for name in (name for name in one_state if "running_" in name or "tracked" in name):
        torch.testing.assert_close(two_state[name], one_state[name], rtol=1e-3, atol=1e-4, msg=name)
    mean = next(name for name in first if name.endswith("running_mean"))
    assert not torch.allclose(one_state[f"model/{mean}"], first[mean]), "there is something to compare"


def test_one_goes_on_where_two_stopped(shared: Path, alone: Path, tmp_path: Path) -> None:
    """The number of processes is no part of what must be the same."""
    (tmp_path / STATE).write_bytes((shared / "run" / STATE).read_bytes())
    assert Trainer(copy.deepcopy(tiny_model()), RECIPE, SOURCES, tmp_path, resume=True).step == 3
    (tmp_path / STATE).write_bytes((alone / STATE).read_bytes())
    resumed = Trainer(
        copy.deepcopy(tiny_model()), RECIPE, SOURCES, tmp_path, resume=True, processes=Processes(1, 2)
    )
    assert resumed.step == 3


class Twins(Processes):
    """Two processes in one that do exactly the same."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def add(self, table: Tensor) -> None:
        table *= 2


def test_gradients_are_added_up_and_none_stays_none() -> None:
    used = nn.Parameter(torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last))
    unused = nn.Parameter(torch.randn(3))
    gradient = torch.randn(4, 3, 2, 5)  # of another layout than its weight
    used.grad = gradient.clone()
    Twins().add_gradients([unused, used])
    assert unused.grad is None
    torch.testing.assert_close(used.grad, 2 * gradient)
    assert used.grad.stride() == used.stride()


class Half(Processes):
    """The first of two, whose other's additions are known beforehand."""

    def __init__(self, others: Tensor | None = None) -> None:
        super().__init__(0, 2)
        self.others = others
        self.added = torch.zeros(0)

    def add(self, table: Tensor) -> None:
        self.added = table.clone()
        if self.others is not None:
            table += self.others


def test_norms_end_where_one_process_would_leave_them() -> None:
    batches = torch.randn(4, 6, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    norm = nn.BatchNorm2d(3)
    norm(batches[0])
    alone, first, second = (copy.deepcopy(norm) for _ in range(3))
    for batch in batches:
        alone(batch)
        alone(batch + 1)  # a norm may see several batches in a part
    other = Half()
    for model, among, parts in ((second, other, (1, 3)), (first, Half(), (0, 2))):
        if model is first:
            among.others = other.added
        norms = SharedNorms(model, 4, among)
        for part in parts:
            norms.begin()
            model(batches[part])
            model(batches[part] + 1)
            norms.end(part)
        norms.put_together()
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_frozen_norms_are_left_alone() -> None:
    norm = nn.BatchNorm2d(2).eval()
    norms = SharedNorms(norm, 2, Twins())
    norms.begin()
    norms.put_together()
    assert torch.equal(norm.state_dict()["running_var"], torch.ones(2))


def test_losses_are_means_over_all_parts() -> None:
    parts = [{"total": 1.0, "dice": 3.0}, {"total": 2.0, "dice": 0.5}]
    assert mean_losses(Processes(), range(2), parts, 2) == {"total": 1.5, "dice": 1.75}
    assert mean_losses(Twins(), [0, 2], parts, 4) == {"total": 1.5, "dice": 1.75}


def test_every_part_is_learned_from_once() -> None:
    for count in (1, 2, 3, 6):
        shares = [part for rank in range(count) for part in Processes(rank, count).share(6)]
        assert sorted(shares) == list(range(6))
        assert {len(Processes(rank, count).share(6)) for rank in range(count)} == {6 // count}


@pytest.mark.parametrize("count", [0, -1, 3, 4])
def test_updates_that_cannot_be_shared_out(count: int) -> None:
    with pytest.raises(InputError, match=r"processes: expected (at least 1|a divisor of \w+\.accumulation)"):
        check_shares(RECIPE, count)
    if count == 4:
        check_shares(replace(RECIPE, video=replace(RECIPE.video, steps=0)), count)


def test_one_that_never_comes_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", processes.PATIENCE / 600)  # a second
    with (
        pytest.raises(processes.LostProcessError, match="does not answer"),
        joined(Seat(0, 2, tmp_path / "meeting")),
    ):
        pass
