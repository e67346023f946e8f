"""The page's other side on the shipped weights: what a person does, and that it stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from backend.field.desk import BusyError, Desk
from backend.field.journal import Journal
from backend.field.kit import Kit
from backend.field.merging import field_work
from backend.field.regions_out import merged_result
from backend.field.starting import Project
from backend.field.work import Work
from edgetam_model import InputError
from tests.backend.field.conftest import desk_on, settle
from tests.backend.field.kits import HEIGHT, WIDTH, Box, make_kit, rectangle, square
from tests.backend.field.kits import clip as make_clip
from tests.backend.video_json import keyframe, region, shown


def work_of(kit: Kit) -> Work:
    return Work(Journal(kit.work(1) / "journal.jsonl"), kit.project().objects(kit.task(1)))


def result_of(kit: Kit) -> list[Any]:
    project = Project.read(kit.project_text())
    return merged_result(field_work(kit, project, 1), project)


def click(frame: int = 0) -> dict[str, Any]:
    x0, y0, x1, y1 = square(frame)
    return {"points": [[(x0 + x1) / 2, (y0 + y1) / 2, 1]]}


def pointed(desk: Desk, frame: int = 0, **more: Any) -> dict[str, Any]:
    return desk.act(1, {"do": "prompt", "labels": ["Ball"], "frame": frame, "spec": click(frame), **more})


def near(box: Any, expected: Box, pixels: float = 2.5) -> bool:
    return all(abs(a - b) <= pixels for a, b in zip(box, expected, strict=True))


def lines(desk: Desk) -> dict[str, str]:
    return {one["id"]: "." * one["first"] + one["line"] for one in desk.task(1)["objects"]}


def test_an_image_is_clicked_corrected_and_comes_back(tmp_path: Path, still: Path, weights: Path) -> None:
    kit = make_kit(tmp_path / "kit", still, weights, result=[rectangle("r1"), {"type": "choices", "id": "c"}])
    with desk_on(kit) as desk:
        name = pointed(desk)["object"]
        (_, drawn) = desk.frame(1, 0)["objects"]
        assert near(drawn["box"], square(0))
        assert drawn["outlines"]
        desk.act(1, {"do": "label", "object": "r1", "labels": ["Ball"]})
        desk.act(1, {"do": "prompt", "object": name, "spec": {"points": [[90, 5, 0]]}})
        assert len(desk.frame(1, 0)["objects"][1]["points"]) == 2
        before = desk.task(1)
    first, choice, made = result_of(kit)
    assert first == rectangle("r1", "Ball")
    assert choice == {"type": "choices", "id": "c"}
    assert (made["id"], made["type"], made["value"]["brushlabels"]) == (name, "brushlabels", ["Ball"])
    assert (made["original_width"], made["original_height"]) == (WIDTH, HEIGHT)
    with desk_on(kit) as desk:  # in another process it would be the same
        again = desk.task(1)
        assert again["objects"] == before["objects"]
        desk.act(1, {"do": "delete", "object": "r1"})
        desk.act(1, {"do": "delete", "object": name})
    assert result_of(kit) == [{"type": "choices", "id": "c"}]


def test_the_same_clicks_give_the_same_mask_in_another_process(
    tmp_path: Path, still: Path, weights: Path
) -> None:
    masks = []
    for cut in (False, True):
        kit = make_kit(tmp_path / f"kit{cut}", still, weights)
        with desk_on(kit) as desk:
            name = pointed(desk)["object"]
            if not cut:
                desk.act(1, {"do": "prompt", "object": name, "spec": {"points": [[12, 24, 1]]}})
        if cut:
            with desk_on(kit) as desk:
                desk.act(1, {"do": "prompt", "object": name, "spec": {"points": [[12, 24, 1]]}})
        masks.append(work_of(kit).object(name).rows[0])
    assert masks[0] == masks[1]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, clip: Path, weights: Path) -> Kit:
    """A kit with a region that nobody touched, and an object that was tracked from its middle both ways."""
    root = tmp_path_factory.mktemp("tracked") / "kit"
    kit = make_kit(root, clip, weights, result=[region(keyframe(1, 70), name="kept")], video=True)
    with desk_on(kit) as desk:
        pointed(desk, 2)
        for reverse in (False, True):
            desk.act(1, {"do": "track", "reverse": reverse})
            settle(desk)
    return kit


@pytest.fixture
def mine(tracked: Kit, tmp_path: Path) -> Kit:
    """A copy to work on."""
    return Kit.open(Path(shutil.copytree(tracked.root, tmp_path / "mine")))


def test_tracks_go_both_ways_and_leave_others_alone(mine: Kit) -> None:
    untouched, made = result_of(mine)
    assert untouched == region(keyframe(1, 70), name="kept")
    for frame in range(6):
        seen = shown(made, frame + 1)
        assert seen is not None
        x, y, w, h = seen
        box = x * WIDTH, y * HEIGHT, (x + w) * WIDTH, (y + h) * HEIGHT
        assert near([edge / 100 for edge in box], square(frame))
    assert made["value"]["labels"] == ["Ball"]
    work = work_of(mine)
    assert {one.id: "".join(one.code(f) for f in range(6)) for one in work.now.objects.values()} == {
        "kept": "kkkkkk",
        made["id"]: "vvpvvv",
    }


def test_a_correction_tracks_its_stretch_anew_and_undo_takes_it_back(mine: Kit) -> None:
    name = result_of(mine)[1]["id"]
    before = work_of(mine).object(name).rows
    with desk_on(mine) as desk:
        view = desk.act(1, {"do": "prompt", "object": name, "frame": 4, "spec": {"box": list(square(4))}})
        assert view["object"] == name
        settle(desk)
        assert lines(desk)[name] == "vvpvpv"
        after = work_of(mine).object(name).rows
        assert [after[frame] == before[frame] for frame in range(3)] == [True] * 3
        desk.act(1, {"do": "undo"})
        assert work_of(mine).object(name).rows == before
        desk.act(1, {"do": "track"})  # the session has to follow
        settle(desk)
        assert lines(desk)[name] == "vvpvvv"
    keyframes = [k["frame"] for k in result_of(mine)[1]["value"]["sequence"]]
    assert keyframes == sorted(set(keyframes))


@pytest.mark.parametrize("lost", ["session.checkpoint", "session.json", "both"])
def test_without_its_checkpoint_the_work_goes_on(mine: Kit, lost: str) -> None:
    for name in ("session.checkpoint", "session.json") if lost == "both" else (lost,):
        (mine.work(1) / name).unlink()
    name = result_of(mine)[1]["id"]
    with desk_on(mine) as desk:
        assert lines(desk)[name] == "vvpvvv"
        negative = {"points": [[3, 3, 0]]}
        desk.act(1, {"do": "prompt", "object": name, "frame": 4, "spec": negative})
        settle(desk)
        assert desk.task(1)["problem"] == ""
        assert lines(desk)[name] == "vvpvpv"
        assert near(desk.frame(1, 4)["objects"][1]["box"], square(4))


def test_a_region_that_came_along_takes_part_when_it_is_tracked(mine: Kit) -> None:
    with desk_on(mine) as desk:
        desk.act(1, {"do": "track", "object": "kept"})
        settle(desk)
        assert lines(desk)["kept"][0] == "k"
        assert "k" not in lines(desk)["kept"][1:]
    kept = result_of(mine)[0]
    assert kept["id"] == "kept"
    assert kept["value"]["sequence"][0]["x"] == 70  # the person's own keyframe


def test_tracking_that_was_cut_off_can_go_on(mine: Kit) -> None:
    path = mine.work(1) / "journal.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[: next(i for i, line in enumerate(whole) if '"begun"' in line) + 1]))
    for name in ("session.checkpoint", "session.json"):
        (mine.work(1) / name).unlink()
    with desk_on(mine) as desk:
        assert desk.task(1)["unfinished"]
        desk.act(1, {"do": "resume"})
        settle(desk)
        view = desk.task(1)
        made = view["objects"][1]
        assert (view["unfinished"], made["first"], made["line"]) == (False, 2, "pvvv")
        with pytest.raises(InputError, match="nothing was cut off"):
            desk.act(1, {"do": "resume"})


@pytest.mark.parametrize("stop", [True, False])
def test_what_a_person_stops_is_over_and_what_the_end_stops_is_not(
    stop: bool, tmp_path: Path, weights: Path
) -> None:
    kit = make_kit(tmp_path / "kit", make_clip(tmp_path / "clip.mp4", 30), weights, video=True)
    with desk_on(kit) as desk:
        pointed(desk)
        desk.act(1, {"do": "track"})
        with pytest.raises(BusyError):
            desk.act(1, {"do": "undo"})
        if stop:
            desk.act(1, {"do": "stop"})
            settle(desk)
    work = work_of(kit)
    (one,) = work.now.objects.values()
    assert len(one.rows) < 30
    assert bool(work.unfinished) is not stop


def test_pictures_are_files_that_browsers_show(
    tracked: Kit, tmp_path: Path, still: Path, weights: Path
) -> None:
    with desk_on(tracked) as desk:
        content, kind = desk.picture(1, 5)
        assert (content[:3], kind) == (b"\xff\xd8\xff", "image/jpeg")
        with pytest.raises(InputError, match="frame"):
            desk.picture(1, 6)
    with desk_on(make_kit(tmp_path / "kit", still, weights)) as desk:
        assert desk.picture(1, 0) == (still.read_bytes(), "image/png")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ({"do": "fly"}, "body"),
        ({"do": "prompt", "frame": 99, "spec": click()}, "frame"),
        ({"do": "prompt", "object": "nobody", "spec": click()}, "object"),
        ({"do": "prompt", "spec": {"points": [[1e9, 1, 1]]}}, "prompt"),
        ({"do": "prompt", "spec": {"points": [[90000, 1, 1]]}}, "points"),
        ({"do": "prompt", "spec": {"points": [[1, 1, 0]]}}, "labels"),
        ({"do": "prompt", "spec": {}}, "prompt"),
        ({"do": "prompt", "labels": ["Track"], "spec": click()}, "labels"),
        ({"do": "delete", "object": "nobody"}, "object"),
        ({"do": "resume"}, "resume"),
        ({"do": "done", "done": True, "extra": 1}, "done"),
    ],
)
def test_bad_actions_are_refused_and_change_nothing(mine: Kit, body: object, field: str) -> None:
    before = (mine.work(1) / "journal.jsonl").read_bytes()
    with desk_on(mine) as desk, pytest.raises(InputError) as refusal:
        desk.act(1, body)
    assert refusal.value.field.startswith(field), refusal.value
    assert (mine.work(1) / "journal.jsonl").read_bytes() == before


def test_doubtful_and_undone_tasks_come_first(mine: Kit) -> None:
    with desk_on(mine) as desk:
        assert desk.overview()["tasks"][0]["touched"]
        desk.act(1, {"do": "done", "done": True})
        assert desk.overview()["tasks"][0]["done"]
