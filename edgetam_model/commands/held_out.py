"""From weights to figures on held-out made-up clips: what `evaluate synthetic` does and says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.loading import load
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.report import CANCELLED
from edgetam_model.commands.terminal import UNTRAINED, complain, print_json, say
from edgetam_model.training.held_out import Reentry, RollOut, reentries, roll_outs
from edgetam_model.training.held_out_clips import HeldOutOptions
from edgetam_model.training.textures import load_textures
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import WeightsInfo

_WIDTH = 120  # columns where the reader is a file or a pipe
_ROWS = 16  # frames that are listed; of longer clips these are spread evenly
_STOPPING = "stopping after this clip (Ctrl-C again: at once)"
_WAY_TITLES = {"outside": "outside the frame", "behind": "behind something"}

Scored = TypeVar("Scored")


@dataclass(frozen=True)
class HeldOutJob:
    """What to measure.

    Attributes:
        options: the clips.
        textures: folder of photographs for them; None: procedural textures alone.
        weights, device: as `load_model` takes them.
    """

    options: HeldOutOptions
    textures: Path | None = None
    weights: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class HeldOutReport:
    """What came of a job.

    Attributes:
        job: what was asked for.
        weights: which weights ran.
        rollout: objects that stay in view.
        reentry: objects that come back; None where Ctrl-C came before the first clip.
        cancelled: whether Ctrl-C ended it before the last clip.
    """

    job: HeldOutJob
    weights: WeightsInfo
    rollout: RollOut
    reentry: Reentry | None
    cancelled: bool

    def document(self) -> dict[str, Any]:
        """The report for machines: figures from 0 to 1; `per_frame` begins with frame 1."""
        weights, textures = self.weights, self.job.textures
        return {
            "state": "cancelled" if self.cancelled else "done",
            "weights": {"name": weights.name, "trained": weights.trained, "fingerprint": weights.fingerprint},
            "options": {**asdict(self.job.options), "textures": None if textures is None else str(textures)},
            "rollout": self.rollout.to_dict(),
            "reentry": None if self.reentry is None else self.reentry.to_dict(),
        }

    def print(self, *, as_json: bool) -> int:
        """Say it all, what is wrong on stderr; the exit code of the verb."""
        if self.cancelled:
            returned = 0 if self.reentry is None else len(self.reentry.clips)
            complain(f"cancelled: {len(self.rollout.clips)} roll-outs and {returned} re-entries are finished")
        if as_json:
            print_json(self.document())
            return CANCELLED if self.cancelled else 0
        console = Console(file=sys.stdout, highlight=False)
        if not console.is_terminal:
            console.width = _WIDTH
        trained = "" if self.weights.trained else f": {UNTRAINED}"
        say(f"weights {self.weights.name}{trained}, prompt mask, {self._clips()}\n")
        for table in self.tables():
            console.print(table)
        return CANCELLED if self.cancelled else 0

    def tables(self) -> list[Table]:
        """The report for people."""
        tables = [_rollout_table(self.rollout)]
        if self.reentry is not None:
            tables.append(_reentry_table(self.reentry))
        return tables

    def _clips(self) -> str:
        options, textures = self.job.options, self.job.textures
        painted = "procedural textures" if textures is None else f"textures of {textures}"
        return f"{options.size} px, seed {options.seed}, {painted}"


def run_job(job: HeldOutJob, meter: Meter) -> HeldOutReport:
    """Measure roll-outs, then re-entries.

    The first Ctrl-C ends it after the clip at hand; the clips that are finished are reported.

    Raises:
        InputError: no such textures, or clips that cannot be made.
        WeightsError: no such weights.
        KeyboardInterrupt: Ctrl-C before the first clip is finished, or twice.
    """
    meter.stage("reading the textures")
    bank = load_textures(job.textures)
    model, weights = load(job.weights, job.device, meter)
    tracker, total = VideoTracker(model), job.options.clips
    with Interrupts(lambda: meter.retitle(_STOPPING)) as interrupts:
        meter.stage("roll-out", total, "clips")
        rolled = _collect(roll_outs(tracker, job.options, bank), meter, interrupts)
        if not interrupts.requested():
            meter.stage("re-entry", total, "clips")
        returned = _collect(reentries(tracker, job.options, bank), meter, interrupts)
    if not rolled:
        raise KeyboardInterrupt
    reentry = Reentry(returned) if returned else None
    return HeldOutReport(job, weights, RollOut(rolled), reentry, cancelled=len(returned) < total)


def _collect(clips: Iterator[Scored], meter: Meter, interrupts: Interrupts) -> tuple[Scored, ...]:
    """What comes until there is no more, or Ctrl-C."""
    found: list[Scored] = []
    while not interrupts.requested():
        scored = next(clips, None)
        if scored is None:
            break
        found.append(scored)
        meter.reach(len(found))
    return tuple(found)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _rollout_table(rollout: RollOut) -> Table:
    """J by frame, the last one always among those that are listed."""
    per_frame, still = rollout.per_frame, rollout.still
    title = f"objects in view: {len(rollout.clips)} clips of {len(per_frame) + 1} frames"
    table = _table(title, "frame", "J", "first mask copied")
    shown = np.linspace(1, len(per_frame), min(_ROWS, len(per_frame))).round().astype(int)
    for frame in shown.tolist():
        table.add_row(str(frame), f"{per_frame[frame - 1]:.3f}", f"{still[frame - 1]:.3f}")
    table.add_section()
    table.add_row("mean", f"{rollout.mean:.3f}", f"{np.mean(still):.3f}", style="bold")
    return table


def _reentry_table(reentry: Reentry) -> Table:
    table = _table(
        "objects that come back after 10 to 12 frames", "hidden", "clips", "found again", "masks while hidden"
    )
    for way, part in reentry.by_way.items():
        table.add_row(_WAY_TITLES[way], *_shares(part))
    table.add_section()
    table.add_row("all", *_shares(reentry), style="bold")
    return table


def _shares(part: Reentry) -> tuple[str, str, str]:
    return str(len(part.clips)), f"{part.found:.1%}", f"{part.false_masks:.1%}"
