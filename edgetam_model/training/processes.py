"""One training on several processes of a machine: who learns from which part, and how they stay one model.

The parts of an update, `Stage.accumulation` batches, are shared out. Gradients, losses and statistics are
added up over all processes, on the CPU by gloo whatever the device: unlike nccl it takes several processes
on one GPU, and tells at once when another process ends. Every process then takes the same step.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.recipe import Recipe

PATIENCE = timedelta(minutes=10)  # the first process's with the others, which have as much to do as it has
FOREVER = timedelta(days=30)  # the others wait while the first validates, and end when it ends
INTERFACE = "GLOO_SOCKET_IFNAME"


class LostProcessError(EdgeTAMError):
    """Another process of the training has ended, or does not answer."""


@dataclass(frozen=True)
class Seat:
    """A process's place in a training.

    Attributes:
        rank: 0 leads: it validates, writes and reports.
        count: of processes.
        meeting: file through which they find each other; it does not exist before.
    """

    rank: int
    count: int
    meeting: Path


class Processes:
    """What the processes of a training do together; a process alone does nothing of it.

    All of them must call the same methods in the same order.

    Args:
        rank: from 0.
        count: of processes.
        group: what connects them, where there are several; torch's default group stays the caller's.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: dist.ProcessGroupGloo | None = None) -> None:
        self.rank = rank
        self.count = count
        self._group = group

    @property
    def leads(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    def share(self, parts: int) -> range:
        """Which parts of an update this process learns from."""
        return range(self.rank, parts, self.count)

    def add(self, table: Tensor) -> None:
        """Replace a tensor on the CPU by the sum of all processes' tensors, the same bits everywhere.

        Raises:
            LostProcessError: a process has ended, or does not answer.
        """
        if self._group is not None:
            with _translated():
                self._group.allreduce([table]).wait()  # type: ignore[attr-defined] # not in torch's stubs

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add gradients up over the processes; a parameter without one everywhere stays without.

        Raises:
            LostProcessError: see `add`.
        """
        if self.count == 1:
            return
        own = list(parameters)
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        there = torch.tensor([float(p.grad is not None) for p in own])
        flat = torch.cat([piece.reshape(-1).cpu() for piece in pieces] + [there])
        self.add(flat)
        *sums, there = flat.split([*(p.numel() for p in own), len(own)])
        for parameter, summed, number in zip(own, sums, there.tolist(), strict=True):
            if number:
                parameter.grad = torch.empty_like(parameter).copy_(summed.view(parameter.shape))

    def agree(self, flag: bool) -> bool:
        """Whether any process says so.

        Raises:
            LostProcessError: see `add`.
        """
        votes = torch.tensor([float(flag)])
        self.add(votes)
        return bool(votes.item())


class SharedNorms:
    """Batch norms' statistics after an update whose parts are shared out: those that one process would have.

    A norm moves its statistics s towards a batch's b, s ← (1 - m) s + m b. Starting each part at s = 0
    leaves what the part adds; with all parts known, they are put together in their order. Training does
    not read the statistics, so that their absence during the update changes nothing.

    Args:
        model: its norms that are in training mode.
        parts: of the update.
        processes: who share them; a process alone keeps the norms' own way.
    """

    def __init__(self, model: nn.Module, parts: int, processes: Processes) -> None:
        self._processes = processes
        several = processes.count > 1
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] if several else []
        self._norms = [norm for norm in norms if norm.training]
        self._before = [_statistics(norm) for norm in self._norms]
        self._added = [values.new_zeros(parts, len(values)) for values in self._before]

    def begin(self) -> None:
        """A part begins."""
        for norm in self._norms:
            _set_statistics(norm, torch.zeros_like(_statistics(norm)))

    def end(self, part: int) -> None:
        """The part is done."""
        for norm, added in zip(self._norms, self._added, strict=True):
            added[part] = _statistics(norm)

    def put_together(self) -> None:
        """All parts are done, here and in the other processes.

        Raises:
            LostProcessError: see `Processes.add`.
        """
        if not self._norms:
            return
        flat = torch.cat([added.flatten() for added in self._added])
        self._processes.add(flat)
        tables = flat.split([added.numel() for added in self._added])
        for norm, values, table in zip(self._norms, self._before, tables, strict=True):
            assert norm.momentum is not None
            total = values.clone()
            for added in table.view(-1, len(values)):
                total[:-1] *= (1 - norm.momentum) ** added[-1]
                total += added
            _set_statistics(norm, total)


def _statistics(norm: nn.BatchNorm2d) -> Tensor:
    """Means, variances and the number of batches, one after the other, on the CPU."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    number = norm.num_batches_tracked.double().reshape(1)
    return torch.cat((norm.running_mean.double(), norm.running_var.double(), number)).cpu()


def _set_statistics(norm: nn.BatchNorm2d, values: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.copy_(values[: norm.num_features])
    norm.running_var.copy_(values[norm.num_features : -1])
    norm.num_batches_tracked.copy_(values[-1])


def check_shares(recipe: Recipe, count: int) -> None:
    """Raise where the updates of a recipe cannot be shared out evenly.

    Raises:
        InputError: fewer than one process, or a stage whose accumulation is no multiple of them.
    """
    if count < 1:
        raise InputError("processes", f"expected at least 1, got {count}")
    for name, stage in zip(("image", "video"), recipe.stages, strict=True):
        if stage.steps and stage.accumulation % count:
            raise InputError(
                "processes",
                f"expected a divisor of {name}.accumulation in the recipe, {stage.accumulation}, got {count}",
            )


@contextmanager
def joined(seat: Seat) -> Iterator[Processes]:
    """The processes of a training, all of them there, within the block.

    Raises:
        LostProcessError: they did not find each other.
    """
    here = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if here:  # else gloo looks the machine's name up, and may find an address that others can reach
        os.environ.setdefault(INTERFACE, here[0])
    patience = PATIENCE if seat.rank == 0 else FOREVER
    with _translated():
        store = dist.FileStore(str(seat.meeting), seat.count)  # type: ignore[attr-defined] # likewise
        store.set_timeout(patience)
        group = dist.ProcessGroupGloo(store, seat.rank, seat.count, patience)
    try:
        yield Processes(seat.rank, seat.count, group)
    finally:
        group.shutdown()


def mean_losses(
    processes: Processes, parts: Sequence[int], losses: Sequence[dict[str, float]], total: int
) -> dict[str, float]:
    """Means over all `total` parts of an update of the losses by name; `losses` are those of `parts`.

    Raises:
        LostProcessError: see `Processes.add`.
    """
    names = list(losses[0])
    table = torch.zeros(total, len(names), dtype=torch.float64)
    for part, values in zip(parts, losses, strict=True):
        table[part] = torch.tensor([values[name] for name in names], dtype=torch.float64)
    processes.add(table)
    return {name: sum(column) / total for name, column in zip(names, table.T.tolist(), strict=True)}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's; its text names its own source files
        raise LostProcessError("another process of the training has ended, or does not answer") from error
