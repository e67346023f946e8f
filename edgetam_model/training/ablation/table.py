"""The outcome of an ablation as one table: for people, for a document, and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgetam_model.training.ablation.plan import AblationOptions
from edgetam_model.training.ablation.runs import RunResult
from edgetam_model.training.ablation.scores import Cost

FIGURES = ("jf", "j", "f", "box", "click")
_HEAD = (
    *("variant", "seeds", "J&F", "J", "F", "IoU box", "IoU click"),
    *("weights", "tokens a frame", "attention ms", "at 1024 px", "compression ms", "frame ms"),
    *("updates", "CPU s"),
)


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclass(frozen=True)
class TableRow:
    """One variant.

    Attributes:
        variant: its name.
        seeds: runs that are finished.
        figures: by their names in `FIGURES`.
        cost: of running it.
        published: milliseconds of the memory attention at the published model's sizes, with its memories
            compressed in the same way; None where variants do not differ in that.
        updates: mean over the runs.
        seconds: of the processor for training, mean over the runs.
    """

    variant: str
    seeds: int
    figures: Mapping[str, Spread]
    cost: Cost
    published: float | None
    updates: float
    seconds: float

    def cells(self) -> list[str]:
        """As text, in the order of the head."""
        cost = self.cost
        return [
            *(self.variant, str(self.seeds)),
            *(str(self.figures[name]) for name in FIGURES),
            *(f"{cost.parameters / 1e6:.2f} M", str(cost.tokens)),
            f"{cost.attention:.2f}",
            "" if self.published is None else f"{self.published:.0f}",
            *(f"{cost.compression:.2f}", f"{cost.step:.1f}"),
            *(f"{self.updates:.0f}", f"{self.seconds:.0f}"),
        ]


def make_row(
    variant: str, results: Sequence[RunResult], cost: Cost, published: float | None = None
) -> TableRow:
    """Sum up a variant's finished runs, of which there is at least one."""
    figures = {name: _spread([getattr(r.scores, name) for r in results]) for name in FIGURES}
    updates = sum(r.updates for r in results) / len(results)
    seconds = sum(r.seconds for r in results) / len(results)
    return TableRow(variant, len(results), figures, cost, published, updates, seconds)


def to_markdown(rows: Sequence[TableRow]) -> str:
    """A Markdown table whose columns are padded, so that it can be read as it stands."""
    cells = [list(_HEAD), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(line, widths) for line in cells) + "\n"


def to_document(options: AblationOptions, rows: Sequence[TableRow], *, finished: bool) -> dict[str, Any]:
    """Plain values for JSON."""
    equal = "compute" if options.equal_compute else "updates"
    table = [asdict(row) for row in rows]
    return {"options": options.to_dict(), "equal": equal, "finished": finished, "rows": table}


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _spread(values: Sequence[float]) -> Spread:
    return Spread(sum(values) / len(values), min(values), max(values))
