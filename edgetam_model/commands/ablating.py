"""From a comparison to its table: what `ablate` does. Every run is a process of its own, with one thread."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.outputs import make_folder
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.report import CANCELLED
from edgetam_model.commands.terminal import complain, print_json, say
from edgetam_model.config import CONFIGS
from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.training.ablation.calibration import make_plan
from edgetam_model.training.ablation.plan import PLAN, AblationOptions, Plan, read_plan, write_text
from edgetam_model.training.ablation.runs import read_compute, read_result, train_run
from edgetam_model.training.ablation.scores import attention_milliseconds, measure_cost
from edgetam_model.training.ablation.table import TableRow, make_row, to_document, to_markdown
from edgetam_model.training.ablation.variants import PERCEIVER, plain, variants_of
from edgetam_model.training.recipe import read_recipe

RUNS, TABLE, DOCUMENT, LOG = "runs", "table.md", "ablation.json", "log.txt"
POLL_SECONDS = 0.5
PUBLISHED_REPEATS = 3  # of a measurement that takes seconds
_SAVING = "finishing the updates and saving (Ctrl-C again: at once)"


@dataclass(frozen=True)
class AblateJob:
    """What to compare, as it was typed.

    Attributes:
        kind: "perceiver" or "distillation".
        out: folder for the results.
        config: the base's name.
        recipe: name or file.
        minutes, seeds, only: see `AblationOptions`.
        jobs: runs at a time.
        textures: photographs for the clips.
        teacher: weights, for distillation.
        force: replace another ablation.
    """

    kind: str
    out: Path
    config: str = "nano"
    recipe: str = "ablation"
    minutes: float = 20.0
    seeds: int = 2
    jobs: int = 1
    textures: Path | None = None
    teacher: str | None = None
    only: tuple[str, ...] = ()
    force: bool = False

    def options(self) -> AblationOptions:
        """The same for the engine. Raises InputError where it cannot be."""
        if self.config not in CONFIGS:
            raise InputError("config", f"expected one of {', '.join(CONFIGS)}, got {self.config!r}")
        return AblationOptions(
            kind=self.kind,
            base=plain(CONFIGS[self.config]),
            recipe=read_recipe(self.recipe),
            minutes=self.minutes,
            seeds=self.seeds,
            textures="" if self.textures is None else str(self.textures.resolve()),
            teacher=self.teacher or "",
            only=self.only,
        )


@dataclass(frozen=True)
class AblateReport:
    """The table, whole or of the runs that are finished."""

    plan: Plan
    rows: tuple[TableRow, ...]
    finished: bool
    out: Path

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        return to_document(self.plan.options, self.rows, finished=self.finished)

    def print(self, *, as_json: bool) -> int:
        """Say it all; the exit code of the verb."""
        if not self.finished:
            complain("cancelled; the same command goes on from here")
        if as_json:
            print_json(self.document())
        elif self.rows:
            say(f"{to_markdown(self.rows)}\n{TABLE:<14} {self.out / TABLE}")
        return 0 if self.finished else CANCELLED


def run_job(job: AblateJob, meter: Meter) -> AblateReport:
    """Train what is not trained yet, and sum up.

    Raises:
        InputError: options that cannot be used, or another ablation in the folder.
        WeightsError: a teacher that cannot be read.
        EdgeTAMError: a run failed.
    """
    plan = _plan(job, meter)
    total = sum(run.recipe.steps for run in plan.runs)
    names = [run.name for run in plan.runs if read_result(job.out / RUNS / run.name) is None]
    meter.stage("training", total, "updates", begun=_updates(plan, job.out))
    with Interrupts(lambda: meter.retitle(_SAVING)) as interrupts:
        _train_all(job, names, interrupts.requested, lambda: meter.reach(_updates(plan, job.out)))
    meter.stage("measuring what the variants cost")
    rows = tuple(_rows(plan, job.out))
    finished = all(read_result(job.out / RUNS / run.name) is not None for run in plan.runs)
    report = AblateReport(plan, rows, finished, job.out)
    if rows:
        write_text(job.out / TABLE, to_markdown(rows))
        write_text(job.out / DOCUMENT, json.dumps(report.document(), indent=1))
    return report


def run_one(out: Path, name: str) -> int:
    """Train one run of the plan in `out` in this process; the exit code of the verb."""
    plan = read_plan(out)
    plan.run(name)
    folder = out / RUNS / name
    make_folder(folder)
    with Interrupts(lambda: None) as interrupts:
        result = train_run(plan, name, folder, interrupts.requested)
    return CANCELLED if result is None else 0


def _plan(job: AblateJob, meter: Meter) -> Plan:
    """The folder's plan where it is the same ablation, else a new one."""
    options = job.options()
    if (job.out / PLAN).exists() and not job.force:
        plan = read_plan(job.out)
        if plan.options != options:
            raise InputError("out", f"another ablation is in {job.out}; give --force to replace it")
        return plan
    meter.stage("measuring how long an update takes")
    plan = make_plan(options)
    shutil.rmtree(job.out / RUNS, ignore_errors=True)
    for name in (TABLE, DOCUMENT):
        (job.out / name).unlink(missing_ok=True)
    make_folder(job.out)
    plan.save(job.out)
    return plan


def _updates(plan: Plan, out: Path) -> int:
    """Done in all runs; finished ones count as planned."""
    done = 0
    for run in plan.runs:
        folder = out / RUNS / run.name
        rows = read_compute(folder)
        finished = read_result(folder) is not None
        done += run.recipe.steps if finished else rows[-1][0] if rows else 0
    return done


def _train_all(
    job: AblateJob, names: Sequence[str], stop: Callable[[], bool], show: Callable[[], None]
) -> None:
    """Run the processes, `job.jobs` at a time; asked to stop, they save and end.

    Raises:
        EdgeTAMError: one failed, with its last line.
    """
    left, told = list(names), False
    with _children() as running:
        while running or (left and not stop()):
            while left and len(running) < job.jobs and not stop():
                name = left.pop(0)
                running[name] = _start(job, name)
            if stop() and not told:
                told = True
                for child in running.values():
                    child.send_signal(signal.SIGINT)
            for name in [name for name, child in running.items() if child.poll() is not None]:
                _check(job, name, running.pop(name).returncode)
            show()
            time.sleep(POLL_SECONDS)


@contextmanager
def _children() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """None of the processes outlives the block."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        yield running
    finally:
        for child in running.values():
            child.terminate()
        for child in running.values():
            child.wait()


def _start(job: AblateJob, name: str) -> subprocess.Popen[bytes]:
    """A process of its own session: Ctrl-C reaches it once, through us."""
    folder = job.out / RUNS / name
    make_folder(folder)
    words = ["ablate", job.kind, "--out", str(job.out), "--run", name]
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 (our own program, and words of our own)
            [sys.executable, "-m", "edgetam_model.cli", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _check(job: AblateJob, name: str, code: int) -> None:
    if code in (0, CANCELLED, -signal.SIGINT):  # the last: asked to stop before it was set up
        return
    lines = (job.out / RUNS / name / LOG).read_text("utf-8", "replace").strip().splitlines()
    why = lines[-1] if lines else f"exit code {code}"
    raise EdgeTAMError(f"run {name}: {why}")


def _rows(plan: Plan, out: Path) -> Iterator[TableRow]:
    """Of the variants with a finished run."""
    for variant in plan.options.variants:
        own = [run.name for run in plan.runs if run.variant == variant]
        results = [read_result(out / RUNS / name) for name in own]
        finished = [result for result in results if result is not None]
        if finished:
            published = _published(variant.name) if plan.options.kind == PERCEIVER else None
            yield make_row(variant.name, finished, measure_cost(variant.config), published)


def _published(name: str) -> float:
    """Milliseconds of the memory attention at the published sizes."""
    variants = variants_of(PERCEIVER, CONFIGS["edgetam"])
    config = next(variant.config for variant in variants if variant.name == name)
    return attention_milliseconds(config, PUBLISHED_REPEATS)
