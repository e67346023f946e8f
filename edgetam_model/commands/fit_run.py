"""From annotations to a version: what `fit` does and says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from edgetam_model.commands.fit_from import opened
from edgetam_model.commands.interrupt import Interrupts
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.terminal import complain, print_json, say
from edgetam_model.training.annotations import ReadOptions
from edgetam_model.training.fit_options import FITS, FitJob, FitOptions, FitOutcome
from edgetam_model.training.fit_plan import FitPlan, plan_fit
from edgetam_model.training.fitting import run_fit
from edgetam_model.training.version_store import VersionStore

CANCELLED = 130
SAVING = "finishing this step and saving (Ctrl-C again: at once)"
_KINDS = {"image": "images, IoU", "track": "tracks, J"}
_WIDTH = 120  # columns where the reader is a file or a pipe


@dataclass(frozen=True)
class FitRequest:
    """What was typed.

    Attributes:
        source: where the annotations are.
        options: how to learn from them.
        media: folder of images and videos.
        project: name of the project; None: the source's own.
        weights, device: as `load_model` takes them.
        model_dir: the server's folder; None: where `VersionStore` looks.
        interpolated: learn from frames between key frames too.
        dry_run: plan alone.
    """

    source: str
    options: FitOptions
    media: Path | None = None
    project: str | None = None
    weights: str | None = None
    device: str = "auto"
    model_dir: Path | None = None
    interpolated: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class FitReport:
    """What came of it.

    Attributes:
        plan: what was to be done.
        outcome: None where that was all that was asked.
        report: the page about the new version.
    """

    plan: FitPlan
    outcome: FitOutcome | None
    report: Path | None

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        outcome = self.outcome
        return {
            "plan": self.plan.to_dict(),
            "outcome": outcome
            and {
                "finished": outcome.finished,
                "version": str(outcome.version) if outcome.version else None,
                "promoted": outcome.promoted,
                "reasons": list(outcome.reasons),
                "metrics": dict(outcome.metrics),
                "report": str(self.report) if self.report else None,
            },
        }

    def print(self, *, as_json: bool) -> int:
        """Say it all; the exit code of the verb."""
        if as_json:
            print_json(self.document())
        if self.outcome is None:
            if not as_json:
                say("\n".join(self.plan.sentences()))
            self.plan.check()
            return 0
        if not self.outcome.finished:
            complain(", ".join(self.outcome.reasons))
            return CANCELLED
        if not as_json:
            self._show(self.outcome)
        return 0

    def _show(self, outcome: FitOutcome) -> None:
        if "before" in outcome.metrics:
            console = Console(file=sys.stdout, highlight=False)
            if not console.is_terminal:
                console.width = _WIDTH
            console.print(_table(outcome.metrics))
        for reason in outcome.reasons:
            say(reason)
        if outcome.version is None:
            return
        say(f"version    {outcome.version} ({'serves now' if outcome.promoted else 'a candidate'})")
        if self.report is not None:
            say(f"report     {self.report}")
        if outcome.promoted:
            say(f"roll back  edgetam versions rollback {outcome.version.project}")
        else:
            say(f"let serve  edgetam versions promote {outcome.version}")


def run_request(request: FitRequest, meter: Meter) -> FitReport:
    """Read, plan and, unless that is all, fit.

    Raises:
        InputError: annotations or media that cannot be used, or too few.
        WeightsError: no such weights, or a damaged version.
        FitBusyError: another fit of the project is under way.
        EdgeTAMError: see `run_fit`.
    """
    store = VersionStore(request.model_dir / "versions" if request.model_dir else None)
    meter.stage("reading the annotations")
    reading = ReadOptions(interpolated=request.interpolated)
    with opened(request.source, request.media, request.project, reading) as project:
        job = FitJob(
            project=project.name,
            found=project.found,
            media=project.media,
            work=store.root.parent / FITS,
            store=store,
            options=request.options,
            weights=request.weights,
            device=request.device,
        )
        plan = plan_fit(job)
        if request.dry_run:
            return FitReport(plan, None, None)
        plan.check()
        for line in plan.sentences():
            meter.note(line)
        if plan.needs.is_tight:
            meter.note("warning: this may be more memory than the machine has to spare")
        if not plan.unchanged:
            meter.stage("fitting", 100, "%")
        outcome = _fit(job, meter)
        return FitReport(plan, outcome, _page(store, outcome))


def _fit(job: FitJob, meter: Meter) -> FitOutcome:
    """To the end or to the first Ctrl-C, with the meter."""
    with Interrupts(lambda: meter.retitle(SAVING)) as interrupts:
        return run_fit(job, _Shown(meter, interrupts))


@dataclass(frozen=True)
class _Shown:
    """The listener of a fit: a meter, and Ctrl-C."""

    meter: Meter
    interrupts: Interrupts

    def progress(self, done: float, total: float, note: str) -> None:
        """See FitListener."""
        self.meter.reach(int(100 * done / total))
        if not self.interrupts.requested():
            self.meter.retitle(note)

    def cancelled(self) -> bool:
        """See FitListener."""
        return self.interrupts.requested()


def _page(store: VersionStore, outcome: FitOutcome) -> Path | None:
    """The page of a version, unless the rules of retention gave it up at once."""
    if outcome.version is None or outcome.version not in store.names(outcome.version.project):
        return None
    return store.get(outcome.version).folder / "report" / "index.html"


def _table(metrics: Mapping[str, Any]) -> Table:
    """Held-out scores and the forgetting set, before and after."""
    table = Table(title="held out", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in ("", "before", "after", "gain", "beyond chance between", "objects"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    kinds: Mapping[str, Mapping[str, Any]] = metrics.get("kinds", {})
    for kind, change in kinds.items():
        table.add_row(_KINDS.get(kind, kind), *_cells(change))
    if len(kinds) > 1:
        table.add_row("all", *_cells(metrics), style="bold")
    kept = metrics["forgetting"]
    table.add_section()
    fall = f"{-kept['fall']:+.3f}"
    table.add_row(
        "not forgotten, J", f"{kept['before']:.3f}", f"{kept['after']:.3f}", fall, "", f"{kept['clips']}"
    )
    return table


def _cells(change: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    between = f"{change['low']:+.3f} and {change['high']:+.3f}" if "low" in change else "unknown"
    return (
        f"{change['before']:.3f}",
        f"{change['after']:.3f}",
        f"{change['gain']:+.3f}",
        between,
        f"{change['objects']} of {change['tasks']} tasks",
    )
