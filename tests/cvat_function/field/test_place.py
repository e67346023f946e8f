"""`edgetam field` with a server that behaves as CVAT does, through CVAT's own SDK, on shipped weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.field.kit import Kit
from edgetam_model import InputError, read_image
from edgetam_model.cli import main
from edgetam_model.demo_clip import BALL, LADYBIRD
from edgetam_model.masks import mask_box
from tests.backend.field.conftest import desk_on, settle
from tests.cvat_function.field.image_server import SIZES, ImageTask, image_task, square
from tests.cvat_function.task_scene import FIRST, HEIGHT, WIDTH, box_shape, polygon_track, scene, task
from tests.cvat_function.task_server import BIRD, CAR, PLATE, TOKEN, TaskServer, serving

Json = dict[str, Any]
ELLIPSE: Json = {"type": "ellipse", "label_id": 9, "frame": 2, "points": [5.0, 5.0, 6.0, 6.0]}
SCALE = 0.75  # of the kit


@pytest.fixture(autouse=True)
def _access(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CVAT_HOST", "CVAT_USERNAME", "CVAT_PASSWORD", "PASS", "CVAT_ORG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("EDGETAM_WEIGHTS", "default")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def server() -> Iterator[TaskServer]:
    """A ball's rectangle, a ladybird's track, and an ellipse that nothing here can edit, in job 31."""
    with serving(task()) as state:
        shapes = [box_shape(FIRST, BALL), ELLIPSE]
        state.create(31, {"shapes": shapes, "tracks": [polygon_track(FIRST, LADYBIRD)]})
        yield state


def pack(server: TaskServer, kit: Path, *words: str) -> int:
    return main(["field", "pack", "--from", "cvat:7", "--server", server.url, "--out", str(kit), *words])


def merge(kit: Path, *words: str) -> int:
    return main(["field", "merge", str(kit), *words])


def ids(desk_view: Json, word: str) -> str:
    return next(str(one["id"]) for one in desk_view["objects"] if word in one["id"])


def boxed(frame: int, number: int) -> Json:
    box = mask_box(scene().masks[frame][number])
    assert box is not None
    return {"box": [edge * SCALE for edge in box]}


def worked(kit: Path) -> None:
    """The ladybird is tracked through all frames, and a leaf is drawn on one."""
    with desk_on(Kit.open(kit)) as desk:
        desk.act(7, {"do": "track", "object": ids(desk.task(7), "track")})
        settle(desk)
        spec = boxed(2, BALL)
        desk.act(7, {"do": "prompt", "frame": 2, "labels": ["tree"], "spec": spec})


def test_a_task_goes_out_is_worked_on_and_comes_back_once(server: TaskServer, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    before = server.annotations([31, 32])
    assert pack(server, kit, "--max-side", str(int(WIDTH * SCALE))) == 0
    packed = Kit.open(kit).manifest.task(7)
    assert (packed.media.kind, packed.media.original) == ("video", (HEIGHT, WIDTH))
    assert packed.media.numbers == (0, 1, 2, *range(4, 14))  # 3 is deleted
    assert merge(kit) == 0  # nothing was done yet
    worked(kit)
    assert merge(kit, "--dry-run") == 0
    assert server.patches == []
    assert merge(kit) == 0
    assert server.patches == [(31, "create"), (31, "delete"), (32, "create")]
    _stands_there(server, before)
    now = server.annotations([31, 32])
    copy = Path(shutil.copytree(kit, tmp_path / "copy"))
    (copy / "work/merged.jsonl").unlink()
    assert merge(kit) == merge(copy) == 0
    assert server.annotations([31, 32]) == now
    # More work goes to what the first merge made.
    with desk_on(Kit.open(kit)) as desk:
        view = desk.task(7)
        new = next(one["id"] for one in view["objects"] if not one["given"])
        desk.act(7, {"do": "label", "object": new, "labels": ["bird"]})
    assert merge(kit) == 0
    later = server.annotations([31, 32])
    assert [s["label_id"] for s in later["shapes"]] == [BIRD, 9, BIRD]
    assert later["tracks"] == now["tracks"]


def _stands_there(server: TaskServer, before: Json) -> None:
    now = server.annotations([31, 32])
    assert now["shapes"][:2] == before["shapes"]  # nobody touched them
    (drawn,) = now["shapes"][2:]
    assert (drawn["type"], drawn["frame"], drawn["label_id"], drawn["source"]) == (
        "polygon",
        2,
        9,
        "semi-auto",
    )
    expected = mask_box(scene().masks[2][BALL])
    assert expected is not None
    xs, ys = drawn["points"][0::2], drawn["points"][1::2]
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(expected, abs=5)
    first, second = now["tracks"]
    assert first["shapes"][0]["points"] == before["tracks"][0]["shapes"][0]["points"]  # what a person drew
    for track in (first, second):
        assert (track["label_id"], track["source"]) == (CAR, "semi-auto")
        assert track["attributes"] == [{"spec_id": PLATE, "value": "B-1234"}]
    assert [s["frame"] for s in first["shapes"] if s["outside"]] == [6]  # behind the screen until 8
    assert second["frame"] == 9


def test_what_others_did_is_shown_and_never_overwritten(
    server: TaskServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    assert pack(server, kit, "--max-side", str(int(WIDTH * SCALE))) == 0
    worked(kit)
    (theirs,) = server.tracks[31].values()
    moved = server.edit(31, {**theirs, "shapes": [{**theirs["shapes"][0], "occluded": True}]})
    capsys.readouterr()
    assert merge(kit, "--json") == 1
    told = {one["object"]: one["what"] for one in json.loads(capsys.readouterr().out)["tasks"]}
    assert told == {
        "job 31, track:50 car": "conflict",
        "job 31, new 3 tree": "create",
        "job 32, track:50 car": "create",
    }
    assert list(server.tracks[31].values()) == [moved]
    assert merge(kit) == 1  # still, and nothing is made twice
    assert len(server.patches) == 2
    assert merge(kit, "--as-new") == 0
    assert next(iter(server.tracks[31].values()))["id"] == moved["id"]
    assert len(server.tracks[31]) == 2
    assert merge(kit) == merge(kit, "--as-new") == 0
    assert len(server.tracks[31]) == 2


def test_a_lost_answer_costs_nothing(server: TaskServer, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    assert pack(server, kit, "--max-side", str(int(WIDTH * SCALE))) == 0
    worked(kit)
    server.lose_answers = True
    assert merge(kit) == 1
    assert server.patches == [(31, "create")]
    server.lose_answers = False
    assert merge(kit) == 0
    assert server.patches == [(31, "create"), (31, "delete"), (32, "create")]
    assert (len(server.tracks[31]), len(server.shapes[31])) == (1, 3)


def test_a_stretch_of_a_job_and_a_deleted_object(server: TaskServer, tmp_path: Path) -> None:
    kit = tmp_path / "kit.zip"
    words = ["--from", "cvat:job:31", "--server", server.url, "--out", str(kit), "--range", "1-4"]
    assert main(["field", "pack", *words]) == 0
    opened = Kit.open(kit)
    assert opened.manifest.task(7).media.numbers == (1, 2, 4)
    assert sorted(set(server.downloads)) == [1, 2, 4]
    with desk_on(opened) as desk:
        view = desk.task(7)
        assert view["labels"] == ["car", "bird", "tree"]
        desk.act(7, {"do": "delete", "object": ids(view, "shape")})
    assert merge(opened.root) == 0
    assert [one["type"] for one in server.shapes[31].values()] == ["ellipse"]
    assert len(server.tracks[31]) == 1
    assert merge(opened.root) == 0
    assert server.patches == [(31, "delete")]


def test_a_job_that_is_gone_takes_nothing_with_it(server: TaskServer, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    assert pack(server, kit, "--range", "1-2") == 0
    with desk_on(Kit.open(kit)) as desk:
        desk.act(7, {"do": "delete", "object": ids(desk.task(7), "shape")})
    server.jobs = server.jobs[1:]
    assert merge(kit) == merge(kit, "--as-new") == 1
    assert server.patches == []


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--from", "cvat:8"], "task"),
        (["--from", "cvat:x"], "from"),
        (["--from", "cvat"], "from"),
        (["--from", "nowhere:1"], "from"),
        (["--range", "5-99"], "range"),
        (["--tasks", "1"], "tasks"),
    ],
)
def test_bad_wishes_are_said_in_words(
    server: TaskServer, tmp_path: Path, words: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack(server, tmp_path / "kit", *words) == 2
    said = capsys.readouterr().err
    assert field in said
    assert TOKEN not in said
    assert list(tmp_path.glob("*kit*")) == []


@pytest.fixture
def images() -> Iterator[ImageTask]:
    with image_task() as state:
        rectangle = {"type": "rectangle", "label_id": CAR, "frame": 1, "points": list(square(1))}
        state.create(31, {"shapes": [rectangle]})
        yield state


def test_images_of_several_sizes_are_walked_through(images: ImageTask, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    assert pack(images, kit) == 0
    packed = Kit.open(kit).manifest.task(7)
    assert (packed.media.kind, packed.media.frames) == ("images", 3)
    assert [(w, h) for h, w in packed.media.sizes] == list(SIZES)
    for frame, file in enumerate(packed.media.files):
        assert (kit / file.path).read_bytes() == images.images[frame]
        assert read_image(kit / file.path).shape[:2] == packed.media.size_of(frame)
    with desk_on(Kit.open(kit)) as desk:
        assert desk.picture(7, 2) == (images.images[2], "image/jpeg")
        x0, y0, x1, y1 = square(2)
        click = {"points": [[(x0 + x1) / 2, (y0 + y1) / 2, 1]]}
        new = desk.act(7, {"do": "prompt", "frame": 2, "labels": ["bird"], "spec": click})["object"]
        with pytest.raises(InputError, match="another image"):
            desk.act(7, {"do": "prompt", "frame": 0, "object": new, "spec": click})
        with pytest.raises(InputError, match="track"):
            desk.act(7, {"do": "track", "object": new})
        view = desk.task(7)
        assert [(one["first"], one["line"]) for one in view["objects"]] == [(1, "k"), (2, "p")]
        assert view["sizes"] == [list(size) for size in SIZES]
    assert merge(kit, "--shape", "rectangle") == 0
    old, made = images.annotations([31])["shapes"]
    assert old["id"] == 50
    assert (made["type"], made["frame"], made["label_id"]) == ("rectangle", 2, BIRD)
    assert made["points"] == pytest.approx(square(2), abs=6)


def test_images_of_one_size_can_be_a_clip(images: ImageTask, tmp_path: Path) -> None:
    assert pack(images, tmp_path / "a", "--clip") == 2  # they have several sizes
    assert pack(images, tmp_path / "b", "--clip", "--range", "1-1") == 0
    assert Kit.open(tmp_path / "b").manifest.task(7).media.kind == "video"
