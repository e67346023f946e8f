"""What came of an evaluation: for machines as one document, for people as tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from edgetam_model.commands.report import CANCELLED
from edgetam_model.commands.terminal import UNTRAINED, complain, print_json, say
from edgetam_model.interactive import Interaction
from edgetam_model.scores import EARLY_FRAMES, Evaluation, Summary
from edgetam_model.weights import WeightsInfo

_WIDTH = 120  # columns where the reader is a file or a pipe
_NO_CSRT = """\
This build of OpenCV has no CSRT (the contrib builds do); MIL stands in, and differs from run to run."""


@dataclass(frozen=True)
class EvaluationReport:
    """What came of a job.

    Attributes:
        weights: which weights ran.
        evaluations: the model's, then the floors'.
        interaction: the interactive protocols, where they were wanted.
        cancelled: whether Ctrl-C ended it before the last clip.
        outputs: name → path of what was written.
    """

    weights: WeightsInfo
    evaluations: tuple[Evaluation, ...]
    interaction: Interaction | None
    cancelled: bool
    outputs: Mapping[str, Path]

    def document(self) -> dict[str, Any]:
        """The report for machines: figures from 0 to 1, frames 0-based."""
        weights, (own, *floors) = self.weights, self.evaluations
        return {
            "state": "cancelled" if self.cancelled else "done",
            "weights": {"name": weights.name, "trained": weights.trained, "fingerprint": weights.fingerprint},
            **own.to_dict(),
            "floors": [floor.to_dict() for floor in floors],
            "interactive": None if self.interaction is None else self.interaction.to_dict(),
            "outputs": {name: str(path) for name, path in self.outputs.items()},
        }

    def print(self, *, as_json: bool) -> int:
        """Say it all, what is wrong on stderr; the exit code of the verb."""
        if self.cancelled:
            complain(f"cancelled: {len(self.evaluations[0].clips)} clips are finished")
        if as_json:
            print_json(self.document())
            return CANCELLED if self.cancelled else 0
        console = Console(file=sys.stdout, highlight=False)
        if not console.is_terminal:
            console.width = _WIDTH
        for table in self.tables():
            console.print(table)
        if any("MIL" in floor.method for floor in self.evaluations[1:]):
            say(_NO_CSRT)
        for name, path in self.outputs.items():
            say(f"{name:<6} {path}")
        return CANCELLED if self.cancelled else 0

    def tables(self) -> list[Table]:
        """The report for people."""
        own = self.evaluations[0]
        trained = "" if self.weights.trained else f": {UNTRAINED}"
        tables = [_clip_table(own, f"weights {self.weights.name}, prompt {own.prompt}{trained}")]
        if len(self.evaluations) > 1:
            tables.append(_method_table(self.evaluations))
        if self.interaction is not None:
            tables.append(_interaction_table(self.interaction))
        return tables


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _clip_table(evaluation: Evaluation, title: str) -> Table:
    """A row per clip, below it one per object where it has several, and the means."""
    columns = ("J&F", "J", "F", "recall", "decay", f"J {EARLY_FRAMES}", "first", "fps")
    table = _table(title, "clip", columns)
    several = False
    for clip in evaluation.clips:
        table.add_row(clip.name, *_figures(clip.summary), f"{clip.fps:.1f}")
        if len(clip.objects) > 1:
            several = True
            for found in clip.objects:
                table.add_row(f"  object {found.object_id}", *_figures(found.summary), "")
    table.add_section()
    table.add_row("mean", *_figures(evaluation.summary), f"{evaluation.fps:.1f}", style="bold")
    if several:
        table.add_row("mean over objects", *_figures(evaluation.over_objects), "")
    return table


def _figures(summary: Summary) -> list[str]:
    region = summary.region
    values = (summary.jf, region.mean, summary.boundary.mean, region.recall, region.decay)
    return [f"{value:.3f}" for value in (*values, summary.early, summary.first_iou)]


def _method_table(evaluations: Sequence[Evaluation]) -> Table:
    """J of every method side by side, and their means."""
    prompts = {evaluation.prompt for evaluation in evaluations}
    names = [e.method if len(prompts) == 1 else f"{e.method} ({e.prompt})" for e in evaluations]
    table = _table("J beside what works without a network", "clip", names)
    for row in zip(*(evaluation.clips for evaluation in evaluations), strict=True):
        table.add_row(row[0].name, *(f"{clip.summary.region.mean:.3f}" for clip in row))
    table.add_section()
    means = [evaluation.summary for evaluation in evaluations]
    table.add_row("mean J", *(f"{mean.region.mean:.3f}" for mean in means), style="bold")
    table.add_row("mean F", *(f"{mean.boundary.mean:.3f}" for mean in means))
    table.add_row("mean J&F", *(f"{mean.jf:.3f}" for mean in means))
    table.add_row(f"J, first {EARLY_FRAMES}", *(f"{mean.early:.3f}" for mean in means))
    table.add_row("fps", *(f"{evaluation.fps:.1f}" for evaluation in evaluations))
    return table


def _interaction_table(interaction: Interaction) -> Table:
    options = interaction.options
    table = _table("with corrections by a simulated annotator", "", ("",))
    for count in interaction.click_counts:
        table.add_row(f"clicks on stills to IoU {count.target:g}", f"{count.mean:.2f}")
        table.add_row(f"  not reached in {options.still_clicks} clicks", f"{count.failures:.1%}")
    for number, jf in enumerate(interaction.offline, start=1):
        table.add_row(
            f"J&F, {number} frame{'s' if number > 1 else ''} × {options.clicks} clicks", f"{jf:.3f}"
        )
    table.add_row(f"J&F in one pass, stops below IoU {options.threshold:g}", f"{interaction.online_jf:.3f}")
    table.add_row("  stops per object", f"{interaction.interventions:.2f}")
    return table
