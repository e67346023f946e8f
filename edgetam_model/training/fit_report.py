"""What came of a fine-tuning as a page for people: the decision, figures, pictures. No torch, no script."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image

from edgetam_model.errors import EdgeTAMError
from edgetam_model.render import Rgb
from edgetam_model.training.judging import Change, Forgetting, Judgement

if TYPE_CHECKING:
    from edgetam_model.training.fit_scores import Kind, ObjectScore

PAGE, PICTURES = "index.html", "pictures"

_QUALITY = 85  # of JPEG: a panel takes 10 to 40 KB
_PLOT, _AXIS = 260, 46  # side of the diagram's square, and what its labels take, in SVG units
_NO_VALUE = "–"


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture. `caption` stands below it, `alt` is for who cannot see it; `image` is uint8 (H, W, 3)."""

    caption: str
    alt: str
    image: Rgb


@dataclass(frozen=True, eq=False)
class Example:
    """An object before and after.

    Attributes:
        why: it is shown: "gained most".
        title: which object it is.
        kind: image or track.
        before, after: its scores.
        rows: of panels, all of one length.
    """

    why: str
    title: str
    kind: Kind
    before: float
    after: float
    rows: tuple[tuple[Panel, ...], ...]


@dataclass(frozen=True, eq=False)
class FitReport:
    """What a report says.

    Attributes:
        project: such as "project-7".
        parent: what was trained from, as a person calls it.
        judgement: the decision.
        version: "v0004", or empty where it has no number yet.
        before, after: held-out scores, for the diagram of all objects.
        examples: see `fit_pictures.draw_examples`.
        data: what the annotations were, by name: "tasks to learn from" → 32.
        ignored: what was left out and how often, as `AnnotationSet.ignored` has it.
        training: how it was trained, by name.
        curves: picture of a training's curves.
        tables: files with a training's figures, such as its CSVs.
    """

    project: str
    parent: str
    judgement: Judgement
    version: str = ""
    before: Sequence[ObjectScore] = ()
    after: Sequence[ObjectScore] = ()
    examples: Sequence[Example] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    curves: Path | None = None
    tables: Sequence[Path] = ()


def write_report(folder: Path, report: FitReport) -> None:
    """Write a folder that can be moved and opened anywhere: `index.html`, and beside it all that it shows.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        report: what to say. Text in it may be anything: it goes into the page as text.

    Raises:
        EdgeTAMError: something cannot be read or written.
    """
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        for path in (*([report.curves] if report.curves else []), *report.tables):
            shutil.copyfile(path, folder / path.name)
        examples = [_example(folder, number, each) for number, each in enumerate(report.examples, start=1)]
        (folder / PAGE).write_bytes(_page(report, examples).encode("utf-8", "replace"))
    except OSError as error:
        raise EdgeTAMError(f"{folder}: the report cannot be written: {error.strerror}") from error


def _page(report: FitReport, examples: Sequence[str]) -> str:
    title = f"{report.project}: {report.version or 'a new version'}"
    sections = (
        _section("Figures", _figures(report)),
        _section("Before and after", "".join(examples)) if examples else "",
        _section("Training", _training(report)),
        _section("Annotations", _annotations(report)),
        _section("What now", _what_now(report)),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="soft">trained from {escape(report.parent)}</p>
{_decision(report.judgement)}
</header>
<main>
{"".join(sections)}</main>
</body>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}</section>\n" if content else ""


def _decision(judgement: Judgement) -> str:
    """One sentence on top, and what else there is to say below it."""
    decided, _, why = judgement.reasons[0].partition(": ")
    look = "good" if judgement.promoted else "held"
    others = "".join(f"<li>{escape(_sentence(reason))}</li>" for reason in judgement.reasons[1:])
    more = f"<ul>{others}</ul>" if others else ""
    first = f"<p><strong>{escape(_sentence(decided))}</strong> {escape(_sentence(why))}</p>"
    return f'<div class="decision {look}">{first}{more}</div>'


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


# Figures ----------------------------------------------------------------------------------------------


def _figures(report: FitReport) -> str:
    judgement = report.judgement
    named: tuple[tuple[Kind, str], ...] = (("image", "Images, IoU"), ("track", "Tracks, mean J"))
    rows = [_change_row(title, judgement.kinds[kind]) for kind, title in named if kind in judgement.kinds]
    if len(rows) != 1:
        rows.append(_change_row("All held out", judgement.held_out))
    rows.append(_forgetting_row(judgement.forgetting))
    heads = ("", "objects", "tasks", "before", "after", "change")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    confidence = 2 * judgement.rules.confidence - 1
    return f"""<div class="figures">
<div class="wide" tabindex="0" role="region" aria-label="Table of figures">
<table>
<thead><tr>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody>
</table>
<p class="soft">0 is nothing, 1 is perfect; no figure is from a task that was learned from. The small ones say
where a change lies with {confidence:.0%} certainty (a bootstrap over tasks). The forgetting set is made up:
what the model could track before it must still track.</p>
</div>
{_scatter(report.before, report.after)}</div>
"""


def _change_row(title: str, change: Change) -> str:
    counts = (f"{change.objects:,}", f"{change.tasks:,}")
    if not change.objects:
        return _row(title, *counts, *[_NO_VALUE] * 3)
    noise = f"<small>{_signed(change.low)} to {_signed(change.high)}</small>" if change.is_known else ""
    return _row(title, *counts, f"{change.before:.3f}", f"{change.after:.3f}", _signed(change.gain) + noise)


def _forgetting_row(kept: Forgetting) -> str:
    figures = (f"{kept.before:.3f}", f"{kept.after:.3f}", _signed(-kept.fall))
    return _row("Forgetting set, mean J", f"{kept.clips:,} clips", _NO_VALUE, *figures)


def _row(title: str, *figures: str) -> str:
    cells = "".join(f"<td>{figure}</td>" for figure in figures)
    return f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>'


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # + 0.0: no −0.000


def _scatter(before: Sequence[ObjectScore], after: Sequence[ObjectScore]) -> str:
    """Every object as a dot: above the diagonal it got better."""
    later = {(each.task, each.object): each for each in after}
    pairs = [(old, later[old.task, old.object]) for old in before if (old.task, old.object) in later]
    if not pairs:
        return ""
    marks = "".join(_mark(old, new) for old, new in pairs)
    better = sum(new.score > old.score for old, new in pairs)
    said = f"{better:,} of {len(pairs):,} objects got better"
    end, ticks = _AXIS + _PLOT, "".join(_tick(value) for value in (0.0, 0.5, 1.0))
    return f"""<figure class="scatter">
<svg viewBox="0 0 {end + 12} {end + 12}" role="img" aria-label="{said}">
<rect x="{_AXIS}" y="8" width="{_PLOT}" height="{_PLOT}"/>
<line x1="{_AXIS}" y1="{8 + _PLOT}" x2="{end}" y2="8"/>
{ticks}<text x="{_AXIS + _PLOT / 2}" y="{end + 8}">before</text>
<text transform="translate(14 {8 + _PLOT / 2}) rotate(-90)">after</text>
{marks}</svg>
<figcaption>{said}: dots above the line. Circles are images, squares tracks.</figcaption>
</figure>
"""


def _mark(old: ObjectScore, new: ObjectScore) -> str:
    x, y = _AXIS + _PLOT * old.score, 8 + _PLOT * (1 - new.score)
    title = f"<title>{escape(_name_of(old))}: {old.score:.2f} → {new.score:.2f}</title>"
    look = "up" if new.score >= old.score else "down"
    if old.kind == "image":
        return f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
    return f'<rect class="{look}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{title}</rect>'


def _name_of(score: ObjectScore) -> str:
    return f"task {score.task}, object {score.object}"


def _tick(value: float) -> str:
    across, down = _AXIS + _PLOT * value, 8 + _PLOT * (1 - value)
    return (
        f'<text x="{across}" y="{_PLOT + 22}">{value:g}</text>'
        f'<text x="{_AXIS - 12}" y="{down + 4}">{value:g}</text>\n'
    )


# Pictures ---------------------------------------------------------------------------------------------


def _example(folder: Path, number: int, example: Example) -> str:
    """Its pictures as files, and the piece of the page that shows them."""
    measure = "IoU" if example.kind == "image" else "mean J"
    rows = []
    for at, row in enumerate(example.rows, start=1):
        names = [f"{PICTURES}/{number:02d}-{at}-{place}.jpg" for place in range(1, len(row) + 1)]
        panels = "".join(_panel(folder, name, panel) for name, panel in zip(names, row, strict=True))
        rows.append(f'<div class="strip {example.kind}">\n{panels}</div>\n')
    gain = example.after - example.before
    look = "up" if gain >= 0 else "down"
    return f"""<article>
<h3><span class="why">{escape(example.why)}</span> {escape(example.title)}</h3>
<p>{measure} {example.before:.2f} → {example.after:.2f} <span class="{look}">{_signed(gain)}</span></p>
{"".join(rows)}</article>
"""


def _panel(folder: Path, name: str, panel: Panel) -> str:
    height, width = panel.image.shape[:2]
    Image.fromarray(panel.image).save(folder / name, format="JPEG", quality=_QUALITY)
    size = f'width="{width}" height="{height}"'
    return (
        f'<figure><img src="{name}" alt="{escape(panel.alt)}" {size} loading="lazy">'
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>\n"
    )


# Facts ------------------------------------------------------------------------------------------------


def _training(report: FitReport) -> str:
    parts = [_list(report.training)]
    if report.curves:
        alt = "The loss over the updates, and below it the scores of the validations"
        parts.append(f'<p><img class="curves" src="{_link(report.curves)}" alt="{alt}"></p>\n')
    if report.tables:
        links = ", ".join(f'<a href="{_link(path)}">{escape(path.name)}</a>' for path in report.tables)
        parts.append(f"<p>The figures behind the curves: {links}.</p>\n")
    return "".join(parts)


def _link(path: Path) -> str:
    return escape(quote(path.name))


def _annotations(report: FitReport) -> str:
    ignored = "".join(f"<li>{count:,} {escape(what)}</li>" for what, count in sorted(report.ignored.items()))
    left_out = f"<p>Left out:</p>\n<ul>{ignored}</ul>\n" if ignored else ""
    return _list(report.data) + left_out


def _list(facts: Mapping[str, object]) -> str:
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_said(value))}</dd>\n" for name, value in facts.items()
    )
    return f"<dl>\n{lines}</dl>\n" if lines else ""


def _said(value: object) -> str:
    return f"{value:,}" if type(value) is int else f"{value:.4g}" if isinstance(value, float) else str(value)


def _what_now(report: FitReport) -> str:
    back = escape(f"edgetam versions rollback {report.project}")
    if report.judgement.promoted:
        return f"""<p>If you like the old masks better:</p>
<pre>{back}</pre>
<p>At once the model before this one serves again and gives its masks bit for bit; this version is kept.</p>
"""
    forth = escape(f"edgetam versions promote {report.project}/{report.version or 'vNNNN'}")
    return f"""<p>Nothing has changed: {escape(report.parent)} goes on to serve. To let this version serve
all the same, and to take that back:</p>
<pre>{forth}
{back}</pre>
"""


_STYLE = """
:root {
  --paper: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #586274; --line: #d8dde5;
  --accent: #0b63c5; --good: #1b7a3d; --held: #8a5a00; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --card: #1b2129; --ink: #e6eaf0; --soft: #a3adbb; --line: #333c48;
    --accent: #6fb1ff; --good: #6fd08c; --held: #f0c060; --bad: #ff8f87;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
header, main { max-width: 70rem; margin: 0 auto; padding: 1rem; }
header { padding-bottom: 0; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .3rem 0; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.soft, figcaption { color: var(--soft); font-size: .88rem; }
.decision { background: var(--card); border: 1px solid var(--line); border-left: .4rem solid;
  border-radius: .5rem; padding: .7rem 1rem; margin-top: .8rem; }
.decision.good { border-left-color: var(--good); } .decision.good strong { color: var(--good); }
.decision.held { border-left-color: var(--held); } .decision.held strong { color: var(--held); }
.decision ul { margin: .4rem 0 0; padding-left: 1.2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.wide { flex: 1 1 34rem; min-width: 0; overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; border: 1px solid var(--line); white-space: nowrap;
  font-weight: inherit; vertical-align: top; }
thead th { color: var(--soft); font-size: .88rem; }
th[scope=row] { text-align: left; white-space: normal; }
td small { display: block; color: var(--soft); font-size: .78rem; }
.scatter { flex: 0 1 20rem; margin: 0; }
.scatter svg { width: 100%; background: var(--card); border: 1px solid var(--line); }
svg > rect:first-child { fill: none; stroke: var(--line); }
svg line { stroke: var(--line); }
svg text { fill: var(--soft); font-size: 11px; text-anchor: middle; }
svg .up { fill: var(--good); } svg .down { fill: var(--bad); } svg .up, svg .down { fill-opacity: .65; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin-bottom: .8rem; }
.why { border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem; color: var(--accent);
  font-size: .85rem; font-weight: 400; white-space: nowrap; }
span.up { color: var(--good); } span.down { color: var(--bad); }
.strip { display: grid; gap: .6rem; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr);
  margin-top: .4rem; }
.strip figure { margin: 0; }
.strip img { display: block; width: 100%; height: auto; border-radius: .25rem; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .2rem 1.2rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
.curves { margin-top: .8rem; max-width: 100%; height: auto; border-radius: .5rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem;
  white-space: pre-wrap; }
@media (max-width: 42rem) {
  .strip { gap: .35rem; }
  .strip.image { grid-auto-flow: row; grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .strip.track figcaption { font-size: .75rem; }
  th, td { padding: .3rem .35rem; font-size: .85rem; }
}
"""
