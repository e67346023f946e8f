from __future__ import annotations

import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetam_model.errors import EdgeTAMError
from edgetam_model.training.fit_report import PAGE, Example, FitReport, Panel, write_report
from edgetam_model.training.fit_scores import Kind, ObjectScore
from edgetam_model.training.judging import Judgement, judge

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """What a browser would see: elements, text, and every address; it complains about what is left open."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.classes: set[str] = set()
        self.feed((folder / PAGE).read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [value for name in ("src", "href") if (value := values.get(name))]
        self.classes |= set((values.get("class") or "").split())
        assert not any(name.startswith("on") or name == "style" for name in values)  # for strict servers
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def scores(*values: float, kind: Kind = "image", first: int = 1) -> list[ObjectScore]:
    return [ObjectScore(str(first + i), 1, kind, "box", value) for i, value in enumerate(values)]


BEFORE = scores(0.4, 0.5, 0.6) + scores(0.8, 0.7, 0.75, kind="track", first=8)
AFTER = scores(0.7, 0.8, 0.8) + scores(0.8, 0.72, 0.75, kind="track", first=8)
BETTER = judge(BEFORE, AFTER, [0.8, 0.9], [0.8, 0.9])
WORSE = judge(AFTER, BEFORE, [0.8, 0.9], [0.7, 0.9])


def report(judgement: Judgement = BETTER) -> FitReport:
    return FitReport("project-7", "project-7/v0003", judgement, "v0004", BEFORE, AFTER)


def panel(caption: str, width: int = 60, height: int = 40) -> Panel:
    return Panel(caption, f"{caption}, for the ear", np.full((height, width, 3), 90, np.uint8))


def example(columns: int = 4, rows: int = 1, kind: Kind = "image") -> Example:
    panels = tuple(tuple(panel(f"{row} {column}") for column in range(columns)) for row in range(rows))
    return Example("gained most", "task 1, object 2", kind, 0.25, 0.75, panels)


def test_the_decision_comes_first_in_one_sentence(tmp_path: Path) -> None:
    assert BETTER.promoted
    write_report(tmp_path, report())
    page = Page(tmp_path)
    top = page.words.partition("Figures")[0]
    assert "project-7: v0004" in top
    assert "trained from project-7/v0003 Promoted. Held-out score rose from 0.625 to 0.762 (" in top
    assert "Tracking is kept: mean J on 2 fixed clips" in top
    assert "good" in page.classes
    assert "edgetam versions rollback project-7" in page.words
    assert "versions promote" not in page.words


def test_a_candidate_says_why_and_how_to_take_it_all_the_same(tmp_path: Path) -> None:
    assert not WORSE.promoted
    write_report(tmp_path, report(WORSE))
    page = Page(tmp_path)
    top, _, rest = page.words.partition("Figures")
    assert "Kept as a candidate. Held-out score fell from 0.762 to 0.625" in top
    assert "It forgot: mean J on 2 fixed clips of the forgetting set fell from 0.850 to 0.800" in top
    assert "held" in page.classes
    assert "edgetam versions promote project-7/v0004 edgetam versions rollback project-7" in rest


def test_the_table_has_every_figure_and_its_interval(tmp_path: Path) -> None:
    write_report(tmp_path, report())
    words = Page(tmp_path).words
    image, held = BETTER.kinds["image"], BETTER.held_out
    assert f"Images, IoU330.5000.767+0.267+{image.low:.3f} to +{image.high:.3f}" in words
    assert "Tracks, mean J330.7500.757+0.007" in words
    assert f"All held out660.6250.762+0.137+{held.low:.3f} to +{held.high:.3f}" in words
    assert "Forgetting set, mean J2 clips–0.8500.850+0.000" in words
    assert "90% certainty" in words


def test_every_object_is_a_dot(tmp_path: Path) -> None:
    write_report(tmp_path, report())
    page = Page(tmp_path)
    assert page.tags.count("circle") == 3
    assert page.tags.count("rect") == 1 + 3  # the frame, and the tracks
    assert "4 of 6 objects got better" in page.words
    assert "task 8, object 1: 0.80 → 0.80" in page.words


def test_pictures_are_files_beside_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    shown = [example(), example(columns=3, rows=3, kind="track")]
    write_report(folder, replace(report(), examples=shown))
    page = Page(folder)
    pictures = [link for link in page.links if link.endswith(".jpg")]
    assert len(pictures) == len(set(pictures)) == 4 + 9
    for name in pictures:
        with Image.open(folder / name) as image:
            assert image.size == (60, 40)
    assert "gained most task 1, object 2 IoU 0.25 → 0.75 +0.500" in page.words
    assert "mean J 0.25 → 0.75" in page.words


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    curves, table = tmp_path / "curves.png", tmp_path / "losses & more.csv"
    Image.new("RGB", (30, 20)).save(curves)
    table.write_text("step,total\n1,0.5\n")
    full = replace(report(), examples=[example()], curves=curves, tables=[table])
    write_report(tmp_path / "report", full)
    for path in (curves, table):
        path.unlink()
    moved = (tmp_path / "report").rename(tmp_path / "moved")
    page = Page(moved)
    assert "script" not in page.tags
    local = [link.replace("%20", " ").replace("%26", "&") for link in page.links if link != "data:,"]
    assert {"curves.png", "losses & more.csv"} < set(local)
    assert all((moved / link).is_file() for link in local)
    assert "http" not in (moved / PAGE).read_text(encoding="utf-8")


def test_facts_are_listed_in_words(tmp_path: Path) -> None:
    facts = replace(
        report(),
        data={"tasks to learn from": 1234, "tasks held out": 10},
        ignored={"skipped annotations": 3, "boxes alone": 12_000},
        training={"mode": "adapter", "rate": 0.00025, "early": True},
    )
    write_report(tmp_path, facts)
    words = Page(tmp_path).words
    assert "modeadapter rate0.00025 earlyTrue" in words
    assert "tasks to learn from1,234" in words
    assert "12,000 boxes alone3 skipped annotations" in words


def test_a_report_without_anything_to_show_is_a_page_too(tmp_path: Path) -> None:
    nothing = judge([], [], [0.8], [0.8])
    write_report(tmp_path, FitReport("p", "default", nothing))
    page = Page(tmp_path)
    assert "p: a new version" in page.words
    assert "Kept as a candidate. 0 held-out tasks can be scored" in page.words
    assert "All held out00–––" in page.words
    assert "edgetam versions promote p/vNNNN" in page.words
    assert "svg" not in page.tags


@settings(max_examples=60)
@given(st.text(st.characters(blacklist_characters="\r"), min_size=1, max_size=40))
def test_any_text_stays_text(text: str) -> None:
    """Names come from annotations: whatever they are, the page has the same elements."""
    shown = Example(text, text, "image", 0.1, 0.2, ((panel(text),),))
    with tempfile.TemporaryDirectory() as place:
        plain, odd = Path(place, "plain"), Path(place, "odd")
        write_report(
            plain, replace(report(), parent="x", examples=[example(1)], ignored={"x": 1}, data={"x": "y"})
        )
        write_report(
            odd, replace(report(), parent=text, examples=[shown], ignored={text: 1}, data={text: text})
        )
        expected, found = Page(plain), Page(odd)
    assert found.tags == expected.tags
    assert found.classes == expected.classes
    assert f"trained from {text.encode('utf-8', 'replace').decode()}" in "".join(found.text)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeTAMError, match=r"file: the report cannot be written"):
        write_report(tmp_path / "file", report())
    with pytest.raises(EdgeTAMError, match="cannot be written: No such file"):
        write_report(tmp_path / "report", replace(report(), curves=tmp_path / "missing.png"))
