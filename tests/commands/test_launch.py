"""Several processes of one `edgetam train`: they start, end, fail and are stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path

import psutil
import pytest
import torch

from edgetam_model.commands import launch, training
from edgetam_model.commands.progress import LineMeter
from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training import processes
from edgetam_model.training.journal import LossRow
from edgetam_model.training.trainer import OUTPUTS, STATE, WEIGHTS, Trainer
from edgetam_model.weights import read_weights
from tests.commands.test_train import edgetam_train

RECIPE = """
checkpoint_every = 0
[image]
steps = 3
batch = 1
accumulation = 2
[video]
steps = 0
[validation]
clips = 1
frames = 2
"""


@pytest.fixture
def job(tmp_path: Path) -> training.TrainJob:
    torch.set_num_threads(1)
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    return training.TrainJob(str(path), tmp_path / "out", config="tiny", device="cpu", processes=2)


def run(job: training.TrainJob) -> training.TrainReport:
    return training.run_job(job, LineMeter(StringIO()))


def children() -> list[psutil.Process]:
    return [c for c in psutil.Process().children() if launch.FOLLOWER in c.cmdline()]


def assert_nothing_is_left(out: Path) -> None:
    assert not children()
    assert not [path.name for path in out.iterdir() if path.name not in OUTPUTS]


def at_update(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first process do something after an update."""
    note = Trainer._note

    def acting(self: Trainer, row: LossRow) -> None:
        note(self, row)
        if isinstance(row, LossRow) and row.step == number:
            act()

    monkeypatch.setattr(Trainer, "_note", acting)


def test_from_the_command_line_to_weights(job: training.TrainJob) -> None:
    words = ("--recipe", job.recipe, "--config", "tiny", "--out", job.out, "--processes", "2")
    assert edgetam_train(*words) == 0
    assert read_weights(job.out / WEIGHTS).trained
    assert_nothing_is_left(job.out)
    with pytest.raises(InputError, match=r"processes: expected a divisor of image\.accumulation"):
        edgetam_train(*words[:-1], "3", "--force")
    with pytest.raises(InputError, match="processes: expected at least 1"):
        edgetam_train(*words[:-1], "0", "--force")
    assert (job.out / WEIGHTS).exists(), "refused before anything is replaced"


def test_a_process_that_is_killed_ends_the_training(
    job: training.TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_update(1, lambda: [child.kill() for child in children()], monkeypatch)
    with pytest.raises(EdgeTAMError, match=r"process 1 of the training ended \(signal 9\)"):
        run(job)
    assert_nothing_is_left(job.out)


def test_a_process_that_hangs_ends_the_training(
    job: training.TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", timedelta(seconds=8))
    monkeypatch.setattr(launch, "ENDING_SECONDS", 0.5)
    at_update(1, lambda: [child.suspend() for child in children()], monkeypatch)
    with pytest.raises(EdgeTAMError, match="another process of the training does not answer"):
        run(job)
    assert_nothing_is_left(job.out)


def test_a_process_that_cannot_begin_says_why(job: training.TrainJob, tmp_path: Path) -> None:
    tmp_path.joinpath("out").mkdir()
    broken = training.TrainJob("nowhere.toml", job.out, config="tiny", processes=2)
    with (
        pytest.raises(
            EdgeTAMError, match=r"process 1 of the training ended \(exit code 1\): recipe: expected"
        ),
        launch.launched(broken, 2, job.out),
    ):
        pass
    assert_nothing_is_left(job.out)


def test_ctrl_c_stops_all_and_one_process_goes_on(job: training.TrainJob) -> None:
    """Ctrl-C as a terminal sends it, to the whole group of processes."""
    script = "import sys; from tests.commands.test_launch import stopped; sys.exit(stopped(sys.argv[1:]))"
    words = ["--recipe", job.recipe, "--config", "tiny", "--out", str(job.out)]
    ended = subprocess.run(
        [sys.executable, "-c", script, *words, "--processes", "2"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert ended.returncode == 130, ended.stderr
    assert "cancelled after update 1 of 3" in ended.stderr
    assert (job.out / STATE).exists()
    assert_nothing_is_left(job.out)
    assert edgetam_train(*words, "--resume") == 0


def stopped(words: list[str]) -> int:
    """Train, with Ctrl-C after the first update; run in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        at_update(1, lambda: os.killpg(0, signal.SIGINT), patch)
        return edgetam_train(*words)


def test_the_others_end_with_the_first_even_when_it_is_killed(job: training.TrainJob) -> None:
    script = "import sys; from tests.commands.test_launch import killed; sys.exit(killed(sys.argv[1:]))"
    words = ["--recipe", job.recipe, "--config", "tiny", "--out", str(job.out), "--processes", "2"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    other = int(ended.stdout)
    until = time.monotonic() + 20
    while psutil.pid_exists(other) and psutil.Process(other).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the other process goes on"
        time.sleep(0.05)


def killed(words: list[str]) -> int:
    """Train, and be killed after the first update, having said who else is there."""

    def die() -> None:
        sys.stdout.write(str(children()[0].pid))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        at_update(1, die, patch)
        return edgetam_train(*words)


def test_devices_are_dealt_out(job: training.TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(device: str, rank: int) -> str:
        words = {"recipe": "r", "out": job.out, "device": device, "processes": 3}
        return training.TrainJob(**words).placed(rank).device  # type: ignore[arg-type]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [on("cuda", rank) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [on("cpu", rank) for rank in range(3)] == ["cpu"] * 3
    for device in ("cuda:1", "mps"):
        with pytest.raises(InputError, match="device: expected cpu or cuda"):
            on(device, 0)
