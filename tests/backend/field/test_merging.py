from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.field.content import KnownAnnotation, content_hash
from backend.field.kit import Kit
from backend.field.site import StoredAnnotation
from backend.field.studio_merging import Merged, decide
from edgetam_model.cli import main
from edgetam_model.field_places import Outcome
from tests.backend.field.conftest import desk_on
from tests.backend.field.kits import CLIP_CONFIG, rectangle, square
from tests.backend.field.kits import clip as make_clip
from tests.backend.field.studio import PROJECT, Studio, studio

PNG = "/data/upload/3/0a1b2c3d-still.png"


@pytest.fixture
def site(still: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Studio]:
    """Two tasks with the same picture; the second one is annotated."""
    with studio() as made:
        for number in (1, 2):
            made.add_task(number, PNG, still.read_bytes())
        made.store(2, [rectangle("r1")])
        for name, text in {**made.environment, "EDGETAM_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setenv("EDGETAM_WEIGHTS", "default")
        yield made


def pack(out: Path, *words: str) -> int:
    return main(["field", "pack", "--from", f"label-studio:{PROJECT}", "--out", str(out), *words])


def merge(kit: Path, *words: str) -> int:
    return main(["field", "merge", str(kit), *words])


def draw(folder: Path, task: int) -> str:
    """Click the square; the new object's id."""
    x0, y0, x1, y1 = square(0)
    spec = {"points": [[(x0 + x1) / 2, (y0 + y1) / 2, 1]]}
    with desk_on(Kit.open(folder)) as desk:
        return str(desk.act(task, {"do": "prompt", "labels": ["Ball"], "spec": spec})["object"])


def test_new_and_known_annotations_come_back_once(site: Studio, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    assert pack(kit) == 0
    assert merge(kit) == 0  # nothing was done yet
    new, beside = draw(kit, 1), draw(kit, 2)
    assert merge(kit, "--dry-run") == 0
    assert site.writes == 0
    assert merge(kit) == 0
    (created,) = site.of(1)
    assert [entry["id"] for entry in created["result"]] == [new]
    (updated,) = site.of(2)
    assert updated["id"] == 101
    assert updated["result"][0] == rectangle("r1")
    assert [entry["id"] for entry in updated["result"]] == ["r1", beside]
    assert merge(kit) == 0
    copy = Path(shutil.copytree(kit, tmp_path / "copy"))
    (copy / "work/merged.jsonl").unlink()
    assert merge(copy) == 0
    assert site.writes == 2
    # More work after the merge goes to the same annotations.
    again = draw(kit, 1)
    assert merge(kit) == 0
    assert [entry["id"] for entry in site.of(1)[0]["result"]] == [new, again]
    assert len(site.annotations) == 2


def test_what_others_did_is_never_overwritten(
    site: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    assert pack(kit) == 0
    beside = draw(kit, 2)
    theirs = [rectangle("r1"), rectangle("r2")]
    site.store(2, theirs, 101)
    capsys.readouterr()
    assert merge(kit, "--json") == 1
    (outcome,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (outcome["what"], outcome["annotation"]) == ("conflict", 101)
    assert outcome["packed_at"] < outcome["server_at"]
    assert [one["result"] for one in site.of(2)] == [theirs]
    assert merge(kit, "--as-new") == 0
    assert [one["id"] for one in site.of(2)[1]["result"]] == ["r1", beside]
    assert site.of(2)[0]["result"] == theirs
    assert merge(kit) == merge(kit, "--as-new") == 0
    assert site.writes == 1


def test_deleted_annotations_and_tasks_are_conflicts(site: Studio, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    assert pack(kit) == 0
    draw(kit, 1)
    draw(kit, 2)
    del site.annotations[101]
    site.tasks[1] = {"id": 1, "data": {"image": "/data/upload/3/other.png"}}
    assert merge(kit) == 1
    del site.tasks[1]
    assert merge(kit, "--as-new") == 1  # a task that is gone takes none
    assert [one["task"] for one in site.annotations.values()] == [2]


def test_packing_names_what_it_leaves_out(
    site: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.add_task(4, "/data/upload/3/page.png", b"<html>")
    (tmp_path / "build/x.mlpackage/Data").mkdir(parents=True)
    (tmp_path / "build/x.mlpackage/Data/w.bin").write_bytes(b"1234")
    words = ["--tasks", "1,4,9", "--max-side", "64", "--build", str(tmp_path / "build"), "--json"]
    assert pack(tmp_path / "kit.zip", *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == [1]
    assert len(told["left_out"]) == 2
    kit = Kit.open(tmp_path / "kit.zip")
    kit.verify()
    assert [file.path for file in kit.manifest.model] == ["model/x.mlpackage/Data/w.bin"]
    task = kit.manifest.task(1)
    assert (task.name, task.media.size, task.media.original) == ("still.png", (43, 64), (64, 96))
    assert kit.manifest.source.url == site.web.url + "/"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert pack(tmp_path / "kit.zip") == 2  # nothing is overwritten
    assert pack(tmp_path / "other", "--tasks", "4") == 2
    assert pack(tmp_path / "other", "--tasks", "x") == 2
    assert pack(tmp_path / "other", "--max-side", "3") == 2
    assert not (tmp_path / "other").exists()


def test_a_smaller_video_comes_back_in_percent(site: Studio, tmp_path: Path) -> None:
    site.config = CLIP_CONFIG
    content = make_clip(tmp_path / "clip.mp4").read_bytes()
    site.tasks.clear()
    site.annotations.clear()
    site.add_task(5, "/data/upload/3/clip.mp4", content, "video")
    assert pack(tmp_path / "kit", "--max-side", "72") == 0
    spec = {"box": [edge * 0.75 for edge in square(0)]}
    with desk_on(Kit.open(tmp_path / "kit")) as desk:
        desk.act(5, {"do": "prompt", "labels": ["Ball"], "spec": spec})
    assert merge(tmp_path / "kit") == 0
    (region,) = site.of(5)[0]["result"]
    (keyframe,) = region["value"]["sequence"]
    assert (keyframe["frame"], region["value"]["labels"]) == (1, ["Ball"])
    assert keyframe["x"] == pytest.approx(100 * 10 / 96, abs=2.5)
    assert keyframe["width"] == pytest.approx(100 * 20 / 96, abs=3)


RESULTS = st.lists(st.builds(lambda name, x: {"id": name, "x": x}, st.sampled_from("abc"), st.integers(0, 1)))
SERVER = st.dictionaries(st.integers(1, 3), RESULTS, max_size=3)


def stored(results: dict[int, list[Any]]) -> list[StoredAnnotation]:
    return [StoredAnnotation(id=number, result=tuple(result)) for number, result in results.items()]


def carried_out(outcome: Outcome, wanted: list[Any], server: dict[int, list[Any]]) -> dict[int, list[Any]]:
    """What stands on the server after the merge."""
    if outcome.what == "create":
        return {**server, max(server, default=0) + 1: wanted}
    if outcome.what == "update":
        assert outcome.annotation is not None
        return {**server, outcome.annotation: wanted}
    return server


@given(st.none() | st.tuples(st.integers(1, 3), RESULTS), RESULTS, SERVER)
def test_deciding_never_loses_what_is_there_and_is_settled_after_one_merge(
    packed: tuple[int, list[Any]] | None, wanted: list[Any], server: dict[int, list[Any]]
) -> None:
    base = None
    if packed is not None:
        number, result = packed
        base = KnownAnnotation(number, None, content_hash(result))
    ids = [entry["id"] for entry in wanted]
    outcome = decide(base, None, wanted, ids, stored(server))
    after = carried_out(outcome, wanted, server)
    for number, result in server.items():
        unchanged = packed is not None and packed[0] == number and packed[1] == result
        assert after[number] == result or unchanged
    if outcome.what in ("create", "update"):
        (number,) = [n for n in after if after[n] != server.get(n)]
        noted = Merged(
            task=1,
            annotation=number,
            sent=content_hash(wanted),
            stored=content_hash(wanted),
            updated_at=None,
            at="",
        )
        for memory in (noted, None):
            assert decide(base, memory, wanted, ids, stored(after)).what == "nothing"
    if outcome.what == "nothing":
        assert wanted in after.values()
    if packed is not None and server.get(packed[0]) == packed[1]:
        assert after[packed[0]] == wanted  # whatever stands beside it


def test_what_label_studio_stores_differently_is_known_by_the_memory() -> None:
    wanted, kept = [{"id": "a"}], [{"id": "a", "added": True}]
    memory = Merged(
        task=1, annotation=1, sent=content_hash(wanted), stored=content_hash(kept), updated_at=None, at=""
    )
    assert decide(None, memory, wanted, ["a"], stored({1: kept})).what == "nothing"
    assert decide(None, None, wanted, ["a"], stored({1: kept})).what == "conflict"
    assert decide(None, memory, [{"id": "b"}], ["b"], stored({1: kept})).what == "update"
    assert decide(None, memory, wanted, ["a"], stored({})).what == "conflict"
