"""`edgetam cvat` against a server that behaves as CVAT does, with the weights that ship."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvat_function.commands import cvat
from cvat_function.rle import decode_mask, encode_mask
from cvat_function.video.receipt import JobUpload, Receipt
from cvat_function.video.records import Annotations
from edgetam_model import EdgeTAMError, InputError
from edgetam_model.demo_clip import BALL, LADYBIRD
from edgetam_model.masks import Mask, Polygon, mask_box, mask_iou, polygons_to_mask
from tests.cvat_function import task_server
from tests.cvat_function.task_scene import FIRST, HEIGHT, HIDDEN, WIDTH, box_shape, polygon_track, scene, task
from tests.cvat_function.task_server import BIRD, CAR, PLATE, SPEED, TOKEN, TaskServer, serving

Capture = pytest.CaptureFixture[str]
KEPT = (1, 2, 4, 5, 6, 7, 8, 9, 10)  # 1 to 10 without the deleted 3
SECRETS = (TOKEN, task_server.PASSWORD)


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cvat.register(parser.add_subparsers(dest="verb"))
    args = parser.parse_args(["cvat", *words])
    return int(args.run(args))


@pytest.fixture(autouse=True)
def _access(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CVAT_HOST", "CVAT_USERNAME", "CVAT_PASSWORD", "PASS", "CVAT_ORG", "EDGETAM_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # no profiles of whoever runs the tests
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[TaskServer]:
    """A ball as a rectangle and a ladybird as a polygon's track, on frame 1 of job 31."""
    with serving(task()) as state:
        state.create(31, {"shapes": [box_shape(FIRST, BALL)], "tracks": [polygon_track(FIRST, LADYBIRD)]})
        yield state


def tracking(server: TaskServer, *words: str) -> int:
    return call("track", "--server", server.url, "--weights", "default", *words)


@dataclass(frozen=True)
class Whole:
    """A run over both jobs, and the server as it was and is."""

    server: TaskServer
    before: dict[str, Any]
    document: dict[str, Any]
    folder: Path
    said: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Tracked once for the tests that only look."""
    folder = tmp_path_factory.mktemp("whole")
    with serving(task()) as state, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        state.create(31, {"shapes": [box_shape(FIRST, BALL)], "tracks": [polygon_track(FIRST, LADYBIRD)]})
        before = state.annotations([31, 32, 39])
        heard = _Heard(patch)
        assert tracking(state, "--task", "7", "--range", "1-10", "--json") == 0
        yield Whole(state, before, json.loads(heard.out), folder, heard.out + heard.err)


class _Heard:
    """stdout and stderr, for a fixture that outlives a test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.out = self.err = ""
        patch.setattr("sys.stdout.write", lambda text: self._add("out", text), raising=False)
        patch.setattr("sys.stderr.write", lambda text: self._add("err", text), raising=False)

    def _add(self, name: str, text: str) -> int:
        setattr(self, name, getattr(self, name) + text)
        return len(text)


def new_tracks(whole: Whole, job: int) -> list[dict[str, Any]]:
    old = {track["id"] for track in whole.before["tracks"]}
    return [track for track in whole.server.annotations([job])["tracks"] if track["id"] not in old]


def test_tracks_arrive_on_the_frames_of_the_task(whole: Whole) -> None:
    """Every key frame lies on the object as the media's frame 5 + 3 · n shows it."""
    ladybird = next(track for track in new_tracks(whole, 31) if track["label_id"] == CAR)
    ball = next(track for track in new_tracks(whole, 31) if track["label_id"] == BIRD)
    for shape in (s for s in ladybird["shapes"] if not s["outside"]):
        assert mask_iou(mask_of(shape), scene().masks[shape["frame"]][LADYBIRD]) > 0.9, shape["frame"]
    for shape in (s for s in ball["shapes"] if s["frame"] < 5):
        truth = mask_box(scene().masks[shape["frame"]][BALL])
        assert truth is not None
        assert mask_iou(filled(shape["points"]), filled(truth)) > 0.6, shape["frame"]


def mask_of(polygon: dict[str, Any]) -> Mask:
    outline = np.array(polygon["points"], np.float32).reshape(-1, 2)
    return polygons_to_mask([Polygon(outline)], HEIGHT, WIDTH)


def filled(box: Sequence[float]) -> Mask:
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_lost_object_is_outside_until_it_is_back(whole: Whole) -> None:
    """Behind the screen on frames 6 and 7; the job ends with frame 9; the range with 10, job 32 with 13."""
    (ladybird,) = [track for track in new_tracks(whole, 31) if track["label_id"] == CAR]
    assert [(s["frame"], s["outside"]) for s in ladybird["shapes"]] == [
        *((1, False), (2, False), (4, False), (5, False)),
        *((HIDDEN[0], True), (8, False), (9, False)),
    ]
    (going_on,) = [track for track in new_tracks(whole, 32) if track["label_id"] == CAR]
    assert [(s["frame"], s["outside"]) for s in going_on["shapes"]] == [
        *((9, False), (10, False), (11, True)),
    ]


def test_the_type_label_and_attributes_are_the_seeds(whole: Whole) -> None:
    for track in new_tracks(whole, 31) + new_tracks(whole, 32):
        assert track["source"] == "auto"
        assert track["frame"] == track["shapes"][0]["frame"]
        if track["label_id"] == CAR:
            assert track["attributes"] == [{"spec_id": PLATE, "value": "B-1234"}]
            assert all(s["attributes"] == [{"spec_id": SPEED, "value": "fast"}] for s in track["shapes"])
            assert {(s["type"], s["z_order"]) for s in track["shapes"]} == {("polygon", 2)}
        else:
            assert {s["type"] for s in track["shapes"]} == {"rectangle"}


def test_what_people_drew_stays_and_is_where_they_drew_it(whole: Whole) -> None:
    now = whole.server.annotations([31, 32, 39])
    assert all(shape in now["shapes"] for shape in whole.before["shapes"])
    assert all(track in now["tracks"] for track in whole.before["tracks"])
    assert {action for _, action in whole.server.patches} == {"create"}
    (seed,) = whole.before["tracks"]
    (ladybird,) = [track for track in new_tracks(whole, 31) if track["label_id"] == CAR]
    assert ladybird["shapes"][0]["points"] == pytest.approx(seed["shapes"][0]["points"], abs=0.006)


def test_only_the_frames_asked_for_are_fetched(whole: Whole) -> None:
    """None that is deleted; a frame with a seed is read twice, for its prompt and in passing."""
    assert sorted(set(whole.server.downloads)) == list(KEPT)
    assert len(whole.server.downloads) <= len(KEPT) + 2


def test_the_document_names_what_was_made(whole: Whole) -> None:
    document = whole.document
    assert document["task"] == 7
    assert document["job"] is None
    assert document["frames"] == {
        "first": 1,
        "last": 10,
        "count": 9,
        "source_first": 8,
        "source_last": 35,
        "finished": 10,
    }
    assert {seed["label"] for seed in document["seeds"]} == {"bird", "car"}
    assert [job["job"] for job in document["jobs"]] == [31, 32]  # the ground truth job is nobody's to fill
    for job in document["jobs"]:
        assert {t["id"] for t in job["tracks"]} == {t["id"] for t in new_tracks(whole, job["job"])}
    assert not any(secret in whole.said for secret in SECRETS)


def test_undo_takes_back_exactly_the_upload(
    whole: Whole, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test with `whole`: a rehearsal, the undo, and a second one that is refused."""
    monkeypatch.chdir(whole.folder)
    (receipt,) = whole.folder.glob("*.json")
    assert call("undo", str(receipt), "--dry-run") == 0
    assert len(new_tracks(whole, 31)) == 2
    assert call("undo", "--task", "7", "--server", whole.server.url, "--json") == 0
    assert json.loads(capsys.readouterr().out.rpartition("\n{")[2].join(["{", ""]))["removed"] == len(
        [track for job in whole.document["jobs"] for track in job["tracks"]]
    )
    assert whole.server.annotations([31, 32, 39]) == whole.before
    with pytest.raises(InputError, match="taken back already"):
        call("undo", str(receipt))


def test_a_rehearsal_tracks_and_changes_nothing(server: TaskServer, capsys: Capture, tmp_path: Path) -> None:
    assert tracking(server, "--task", "7", "--range", "1-11", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "frames 1 to 11 (8 to 38 of the media), 10 of them, 1 deleted" in said
    assert "shape:50 bird, rectangle, drawn on frame 1" in said
    assert "track:50 car, polygon, drawn on frame 1" in said
    assert not server.downloads
    assert not server.patches
    assert not list(tmp_path.glob("*.json"))


def test_one_job_alone_and_a_mask_per_frame(server: TaskServer, capsys: Capture) -> None:
    """Masks have no tracks in CVAT; the person's own frame gets no second one. Only the job is asked."""
    mask = {"type": "mask", "label_id": CAR, "frame": 10, "points": encode_mask(scene().masks[10][LADYBIRD])}
    made = server.create(32, {"shapes": [mask | {"attributes": [{"spec_id": PLATE, "value": "X"}]}]})
    (seed,) = made["shapes"]
    assert tracking(server, "--job", "32", "--range", "10-12", "--seed", f"shape:{seed['id']}") == 0
    assert "2 masks, one per frame" in capsys.readouterr().out
    new = [shape for shape in server.annotations([32])["shapes"] if shape["id"] != seed["id"]]
    assert [shape["frame"] for shape in new] == [11, 12]
    for shape in new:
        assert {a["spec_id"]: a["value"] for a in shape["attributes"]} == {PLATE: "X", SPEED: "still"}
        found = decode_mask(shape["points"], WIDTH, HEIGHT)
        assert mask_iou(found, scene().masks[shape["frame"]][LADYBIRD]) > 0.9
    assert not any("/api/tasks/" in line for line in server.log)
    with pytest.raises(InputError, match="expected frames 9 to 13 of job 32"):
        tracking(server, "--job", "32", "--range", "8-12")


def test_what_a_person_edited_is_not_taken_back(server: TaskServer, capsys: Capture) -> None:
    assert tracking(server, "--task", "7", "--range", "1-2", "--receipt", "r.json") == 0
    mine = {t["label_id"]: t for t in server.annotations([31])["tracks"] if t["source"] == "auto"}
    moved = mine[CAR]
    moved["shapes"][1]["points"][0] += 5
    edited = server.edit(31, moved)
    with pytest.raises(InputError, match=f"edited in CVAT since the upload: track:{edited['id']}"):
        call("undo", "r.json")
    assert len(server.tracks[31]) == 3
    assert call("undo", "r.json", "--keep-edited") == 0
    assert "left as edited" in capsys.readouterr().out
    assert [t["source"] for t in server.annotations([31])["tracks"]] == ["manual", "semi-auto"]
    assert len(server.shapes[31]) == 1


def test_an_upload_without_an_answer_is_finished_and_not_doubled(server: TaskServer, capsys: Capture) -> None:
    server.lose_answers = True
    with pytest.raises(EdgeTAMError, match=r"504.*edgetam cvat upload .*r\.json"):
        tracking(server, "--task", "7", "--range", "1-2", "--receipt", "r.json")
    assert server.patches == [(31, "create")]  # sent once: nobody knows whether it arrived
    there = server.annotations([31])
    server.lose_answers = False
    assert call("upload", "r.json") == 0
    assert "all 2 tracks and masks are there" in capsys.readouterr().out
    assert server.annotations([31]) == there
    server.delete(31, {"tracks": [t for t in there["tracks"] if t["source"] == "auto"][:1]})
    assert call("upload", "r.json") == 0
    assert len(server.tracks[31]) == len(there["tracks"])
    assert call("undo", "r.json") == 0
    assert [t["source"] for t in server.annotations([31])["tracks"]] == ["manual"]


def test_a_server_that_goes_away_while_tracking_costs_nothing(
    server: TaskServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt holds the tracks before the server is asked for anything else."""
    monkeypatch.setattr("cvat_function.video.server.TRIES", 1)  # the SDK's own tries take three seconds
    server.away_after = 2  # frames
    with pytest.raises(EdgeTAMError, match=r"503.*nothing is lost: `edgetam cvat upload .*r\.json"):
        tracking(server, "--task", "7", "--range", "1-2", "--receipt", "r.json")
    assert not server.patches
    server.away_after = None
    assert call("upload", "r.json") == 0
    assert [t["source"] for t in server.annotations([31])["tracks"]] == ["manual", "auto", "auto"]


def test_a_second_run_does_not_double_what_is_there(server: TaskServer) -> None:
    words = ("--task", "7", "--range", "1-1", "--label", "bird")
    assert tracking(server, *words) == 0
    with pytest.raises(InputError, match="is there from an earlier upload"):
        tracking(server, *words)
    assert call("undo", "--task", "7", "--server", server.url) == 0
    assert tracking(server, *words) == 0


def test_a_frame_that_cannot_be_had_keeps_what_is_finished(server: TaskServer, capsys: Capture) -> None:
    server.broken = frozenset({4})
    assert tracking(server, "--task", "7", "--range", "1-9", "--label", "bird", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert "400" in document["failure"]
    assert document["frames"]["finished"] == 2
    (track,) = document["jobs"][0]["tracks"]
    assert (track["first"], track["last"], track["outside"]) == (1, 4, [4])


def test_ctrl_c_uploads_what_is_finished(server: TaskServer, capsys: Capture) -> None:
    """Pressed while the third frame is on its way."""

    def press() -> None:
        while len(set(server.downloads)) < 4:
            time.sleep(0.005)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    assert tracking(server, "--task", "7", "--range", "1-11", "--label", "bird") == 130
    assert "cancelled after frame" in capsys.readouterr().out
    (track,) = [t for t in server.annotations([31])["tracks"] if t["source"] == "auto"]
    assert track["shapes"][-1]["outside"]
    assert track["shapes"][-1]["frame"] < 11


def test_a_large_upload_goes_in_parts(server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvat_function.video.work.PART_NUMBERS", 10)
    assert tracking(server, "--task", "7", "--range", "1-2", "--receipt", "r.json") == 0
    assert server.patches == [(31, "create"), (31, "create")]
    assert len(server.tracks[31]) == 3
    assert call("undo", "r.json") == 0
    assert len(server.tracks[31]) == 1


def test_a_busy_server_is_asked_again(server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK tries again where there is no server behind the proxy, we where there are too many requests."""
    monkeypatch.setattr("cvat_function.video.server.PAUSE", 0.01)
    server.failing = [503, 429]
    assert tracking(server, "--task", "7", "--range", "1-1") == 0


def test_a_password_from_the_environment(
    server: TaskServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.delenv("CVAT_ACCESS_TOKEN")
    with pytest.raises(InputError, match="set CVAT_ACCESS_TOKEN"):
        tracking(server, "--task", "7", "--range", "1-1", "--dry-run")
    monkeypatch.setenv("CVAT_USERNAME", task_server.USER)
    with pytest.raises(InputError, match="there is no terminal to ask on"):
        tracking(server, "--task", "7", "--range", "1-1", "--dry-run")
    monkeypatch.setenv("CVAT_PASSWORD", "wrong")
    with pytest.raises(InputError, match=r"credentials: the server does not accept them \(400\)"):
        tracking(server, "--task", "7", "--range", "1-1", "--dry-run")
    monkeypatch.setenv("CVAT_PASSWORD", task_server.PASSWORD)
    assert tracking(server, "--task", "7", "--range", "1-1", "--dry-run") == 0
    assert "/api/auth/login" in caplog.text
    assert task_server.PASSWORD not in "".join(capsys.readouterr()) + caplog.text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--task", "8", "--range", "1-2"), "task 8"),
        (("--job", "99", "--range", "1-2"), "the server has no job 99"),
        (("--job", "32", "--task", "8", "--range", "9-9"), "job 32 belongs to task 7"),
        (("--task", "7", "--range", "5-8"), "nothing to track from frame 5 on"),
        (("--task", "7", "--range", "0-99"), "expected frames 0 to 13 of the task"),
        (("--task", "7", "--range", "1-2", "--label", "dog"), "the task has no 'dog'"),
        (("--task", "7", "--range", "1-2", "--seed", "track:1"), "there is no track:1"),
        (("--range", "1-2"), "expected a task or a job"),
    ],
)
def test_what_does_not_fit_is_said(server: TaskServer, words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        tracking(server, *words)
    assert not server.patches


def a_receipt(path: Path, server: str) -> None:
    job = JobUpload(job=31, annotations=Annotations(), begun=True)
    Receipt(server=server, task=7, created="", weights="", first=0, last=1, jobs=(job,)).save(path)


@pytest.mark.parametrize(
    ("level", "retries"), [(logging.ERROR, 0), (logging.INFO, 3)], ids=["as it is", "-v"]
)
@pytest.mark.parametrize(
    "words",
    [("track", "--task", "7", "--range", "1-2"), ("undo", "r.json"), ("upload", "r.json")],
    ids=lambda w: w[0],
)
@pytest.mark.parametrize("with_password", [False, True], ids=["token", "password"])
def test_a_server_that_is_not_there_is_one_line_without_the_sdks_noise(
    words: tuple[str, ...],
    level: int,
    retries: int,
    with_password: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The SDK sets the level of urllib3's log itself, so that the root's does not hold it back."""
    caplog.set_level(level)
    caplog.handler.setLevel(logging.NOTSET)
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    if with_password:
        monkeypatch.delenv("CVAT_ACCESS_TOKEN")
        monkeypatch.setenv("CVAT_USERNAME", "ann")
    a_receipt(Path("r.json"), "http://127.0.0.1:9")
    said = r"CVAT at http://127\.0\.0\.1:9 cannot be reached: Connection refused\. Is it running"
    with pytest.raises(EdgeTAMError, match=said):
        call(words[0], "--server", "http://127.0.0.1:9", *words[1:])
    assert len([record for record in caplog.records if "Retry" in record.getMessage()]) == retries


def test_small_weights_refuse_the_fast_mode_before_anything_is_sent(server: TaskServer) -> None:
    before = server.annotations([31])
    with pytest.raises(InputError, match="quality: expected exact: these weights have no fast mode"):
        tracking(server, "--job", "31", "--range", "1-3", "--quality", "fast")
    assert server.annotations([31]) == before
