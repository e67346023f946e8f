"""The demo's parts: what its editor sends, what its results say, and what it starts and installs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import demo_editor, demo_label_studio, demo_results
from backend.demo import Outcome, correct, server_environment, summary
from backend.demo_editor import CONFIG, Editor, Task, drawn, press_until_complete
from backend.demo_label_studio import Site, connected, install
from backend.demo_programs import ProgramFailed, call, free_port, running
from backend.demo_results import BoxOnFrame, BoxTrack, box_iou, outline, shown, to_correct, tracks_of
from backend.frame_map import FrameMap
from backend.label_config import parse_label_config
from backend.video_plan import plan_request
from backend.video_prompts import VideoControl, read_regions
from edgetam_model import DemoClip, EdgeTAMError, InputError, open_source, render_demo_clip
from edgetam_model.masks import decode_rle, mask_box
from tests.backend import video_json
from tests.backend.test_label_studio import LEGACY, Imitation, reply
from tests.backend.web_fixtures import Asked, WebServer, serving

FRAMES, SIZE = 12, (96, 160)  # H, W


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DemoClip:
    folder = tmp_path_factory.mktemp("clip")
    return render_demo_clip(folder / "clip.mp4", frames=FRAMES, width=SIZE[1], height=SIZE[0])


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def true_box(clip: DemoClip, frame: int, number: int) -> tuple[float, float, float, float]:
    box = mask_box(decode_rle(clip.masks[frame][number]))
    assert box is not None
    return box


def followed(clip: DemoClip, wrong: range = range(0)) -> Editor:
    """The editor after a press: every frame right, but for the ball on some frames."""
    editor = Editor("http://127.0.0.1:1", Task(1, "clip.mp4"), drawn(clip, SIZE))
    for number, label in clip.labels.items():
        for frame in range(1, FRAMES):
            box = true_box(clip, frame, number)
            if label == "ball" and frame in wrong:
                box = (0, 0, 10, 10)
            editor.move(label, frame + 1, box, SIZE)
    return editor


def test_the_regions_are_what_label_studio_sends(clip: DemoClip) -> None:
    regions = list(drawn(clip, SIZE).values())
    config = parse_label_config(CONFIG).video
    assert config is not None
    assert config.action is not None
    read = read_regions(json.loads(json.dumps(regions)), VideoControl(config.rectangle.name, "video", "cmd"))
    with open_source(clip.path) as source:
        frames = FrameMap.of_video(source.info, Fraction(demo_editor.FPS), FRAMES)
    plans = plan_request(read, frames, SIZE)
    for plan, prompt in zip(plans, clip.prompts.values(), strict=True):
        assert prompt.box is not None
        assert plan.prompts[0] == pytest.approx(prompt.box.tolist(), abs=0.01)


def test_a_moved_box_keeps_its_other_keys_and_a_new_one_is_put_in_order(clip: DemoClip) -> None:
    editor = followed(clip)
    sequence = editor.regions["ball"]["value"]["sequence"]
    sequence[3]["edgetam"] = {"sum": "x"}
    before = json.dumps(editor.regions["ladybird"])
    editor.move("ball", 4, (16, 24, 32, 48), SIZE)
    moved = editor.regions["ball"]["value"]["sequence"]
    assert [k["frame"] for k in moved] == list(range(1, FRAMES + 1))
    assert moved[3] == {
        "frame": 4,
        "enabled": True,
        "rotation": 0,
        "time": 4 / 25,
        "edgetam": {"sum": "x"},
        "x": 10.0,
        "y": 25.0,
        "width": 10.0,
        "height": 25.0,
    }
    assert json.dumps(editor.regions["ladybird"]) == before


@given(
    numbers=st.lists(st.integers(1, 30), min_size=1, max_size=8, unique=True).map(sorted),
    places=st.lists(st.integers(0, 40), min_size=8, max_size=8),
    enabled=st.lists(st.booleans(), min_size=8, max_size=8),
    number=st.integers(1, 32),
)
def test_boxes_are_shown_as_label_studio_does(
    numbers: list[int], places: list[int], enabled: list[bool], number: int
) -> None:
    sequence = [
        video_json.keyframe(n, x, enabled=on) for n, x, on in zip(numbers, places, enabled, strict=False)
    ]
    expected = video_json.shown(video_json.region(*sequence), number)
    box, _ = shown(sequence, number, (200, 400))
    if expected is None or box is None:
        assert expected is box is None
        return
    x, y, w, h = expected
    assert box == pytest.approx((4 * x, 2 * y, 4 * (x + w), 2 * (y + h)))


def test_a_box_has_the_confidence_of_its_last_keyframe_if_that_was_tracked() -> None:
    sequence = [video_json.keyframe(1), video_json.keyframe(3, edgetam={"score": 0.5})]
    assert [shown(sequence, n, SIZE)[1] for n in (1, 2, 3, 4)] == [None, None, 0.5, 0.5]


boxes = st.none() | st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(21, 40)] * 2)


@given(a=boxes, b=boxes)
def test_box_iou_counts_pixels(a: Any, b: Any) -> None:
    def filled(box: Any) -> Any:
        mask = np.zeros((40, 40), np.bool_)
        if box is not None:
            mask[box[1] : box[3], box[0] : box[2]] = True
        return mask

    union = (filled(a) | filled(b)).sum()
    expected = (filled(a) & filled(b)).sum() / union if union else 1.0
    assert box_iou(a, b) == box_iou(b, a) == pytest.approx(expected)


def test_right_tracks_have_an_iou_of_one_and_nothing_to_correct(clip: DemoClip) -> None:
    tracks = tracks_of(followed(clip).regions, clip)
    assert [(t.label, t.seen, t.iou) for t in tracks] == [("ball", 12, 1.0), ("ladybird", 12, 1.0)]
    assert demo_results.mean_iou(tracks) == 1
    assert [to_correct(track, clip) for track in tracks] == [None, None]
    assert tracks[0].frames[5].time == pytest.approx(0.2)


def test_a_person_puts_a_box_right_where_all_of_the_object_is_seen(clip: DemoClip) -> None:
    areas = [decode_rle(truth[1]).sum() for truth in clip.masks]
    enough = [frame for frame in range(4, FRAMES) if areas[frame] >= 0.8 * np.median(areas)]
    assert enough[-1] > 4
    editor = followed(clip, wrong=range(4, FRAMES))
    tracks, lines = tracks_of(editor.regions, clip), list[str]()
    assert to_correct(tracks[0], clip) == (enough[0], true_box(clip, enough[0], 1))
    assert correct(editor, tracks, clip, SIZE, lines.append) == (f"ball on frame {enough[0]}",)
    assert len(lines) == 1
    corrected = tracks_of(editor.regions, clip)[0]
    assert corrected.frames[enough[0]].iou == pytest.approx(1, abs=1e-3)
    assert corrected.iou > tracks[0].iou


def test_what_is_written(clip: DemoClip, tmp_path: Path) -> None:
    editor = followed(clip)
    editor.regions["ball"]["value"]["sequence"] = editor.regions["ball"]["value"]["sequence"][:1]
    editor.regions["ball"]["value"]["sequence"][0]["enabled"] = False
    tracks = tracks_of(editor.regions, clip)
    assert (tracks[0].seen, tracks[1].seen) == (1, FRAMES)
    demo_results.write_tracks(tracks, clip, tmp_path)
    demo_results.draw(tracks, clip, tmp_path)
    written = json.loads((tmp_path / "tracks.json").read_text())
    assert [len(track["frames"]) for track in written["objects"]] == [FRAMES, FRAMES]
    assert written["objects"][0]["frames"][1]["box"] is None
    with open_source(tmp_path / "overlay.mp4") as overlay, open_source(clip.path) as plain:
        assert len(overlay) == FRAMES
        box = true_box(clip, 6, 2)
        difference = np.abs(overlay.read(6).astype(int) - plain.read(6)).max(axis=2)
        assert difference[outline(box, SIZE)].mean() > 30
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


def test_an_outline_is_hollow_and_stays_in_the_frame() -> None:
    mask = outline((-5, 10, 40, 30), SIZE)
    assert mask_box(mask) == (0, 10, 40, 30)
    assert not mask[20, 20]
    assert outline((10, 10, 12, 12), SIZE).sum() == 4


def outcome(clip: DemoClip, site: Site | None) -> Outcome:
    editor = followed(clip)
    editor.answer = {"results": [{"model_version": "edgetam-x"}]}
    frames = tuple(BoxOnFrame(i, i / 25, None, None, 0.5) for i in range(3))
    return Outcome(editor, [BoxTrack(1, "ball", frames)], 0.25, ("ball on frame 7",), site, 12.34)


def test_the_report_for_people_and_for_machines(clip: DemoClip) -> None:
    document = json.loads(json.dumps(outcome(clip, None).document(Path("out"))))
    assert (document["mean_iou"], document["before_corrections"]) == (0.5, 0.25)
    text = summary(document, kept=False)
    assert "0.500 (0.250 before a box was moved: ball on frame 7)" in text
    assert "out/overlay.mp4" in text
    assert "status page  " not in text
    assert "status page               http://127.0.0.1:1/" in summary(document, kept=True)
    with_site = outcome(clip, Site("http://127.0.0.1:2", "u@x", "geheim", "t0ken")).document(Path("out"))
    text = summary(with_site, kept=True)
    assert "http://127.0.0.1:2/projects/1/data?task=1" in text
    assert "u@x with the password geheim" in text
    assert "t0ken" not in json.dumps(with_site)
    assert "geheim" not in repr(outcome(clip, Site("u", "u", "geheim", "t0ken")))


def job(job_id: str, state: str, **more: Any) -> dict[str, Any]:
    rest = {"done": 0, "total": 0, "rate": 0, "note": "", "error": ""}
    return {"id": job_id, "kind": "track", "state": state, **rest, **more}


def tracking(web: WebServer, jobs: list[list[dict[str, Any]]]) -> None:
    """A server that tells these jobs, one list each time it is asked, the last one for ever."""
    told = iter(jobs)

    def next_jobs(_asked: Asked) -> Any:
        return reply({"jobs": next(told, jobs[-1])})

    web.routes["/api/jobs"] = next_jobs
    result = {"id": "ball", "type": "videorectangle", "value": {"sequence": [{"frame": 1}]}}
    answer = reply({"results": [{"result": [result], "model_version": "edgetam-x"}]})
    web.routes["/predict"] = answer


def pressing(web: WebServer) -> Editor:
    region = {"id": "ball", "type": "videorectangle", "value": {"sequence": [{"frame": 1}]}}
    return Editor(web.url, Task(1, "clip.mp4"), {"ball": region})


def test_it_presses_until_a_press_after_the_end(web: WebServer) -> None:
    old, new = job("old", "done"), job("new", "running", done=3, total=9, rate=2.5)
    tracking(web, [[old], [old], [new, old], [new, old], [job("new", "done"), old]])
    lines: list[str] = []
    editor = pressing(web)
    assert press_until_complete(editor, lines.append) == "new"
    assert editor.presses == 3
    assert lines[0] == "t pressed: 3 of 9 frames, 2.5 frames/s, up to 1 keyframes in the editor"
    asked = json.loads(next(asked.body for asked in web.asked if asked.path == "/predict"))
    assert asked["params"]["context"]["result"][0]["id"] == "ball"
    assert asked["tasks"][0]["data"] == {"video": "clip.mp4"}


def test_a_track_that_fails_or_stands_still_ends_it(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking(web, [[], [], [job("new", "failed", error="no such file")]])
    with pytest.raises(EdgeTAMError, match="the track was failed: no such file"):
        press_until_complete(pressing(web), lambda line: None)
    monkeypatch.setattr(demo_editor, "PATIENCE", 0.0)
    tracking(web, [[], [job("new", "queued")]])
    with pytest.raises(EdgeTAMError, match="did not get on"):
        press_until_complete(pressing(web), lambda line: None)


def test_refusals_are_told(web: WebServer) -> None:
    web.routes["/predict"] = reply({"error": {"problem": "no prompt"}}, 400)
    with pytest.raises(ProgramFailed, match=r"answered 400: .*no prompt"):
        pressing(web).press()
    with pytest.raises(ProgramFailed, match="does not answer"):
        call(f"http://127.0.0.1:{free_port()}/health")


SERVER = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_program_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    log = tmp_path / "log"
    with running("it", command, os.environ, log, f"http://127.0.0.1:{port}", 20):
        child = psutil.Process(int(log.read_text().split()[1]))
        assert child.is_running()
    end = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "seconds", "reason"),
    [
        ("raise SystemExit('no room')", 20, "it does not start: no room"),
        ("print('thinking', flush=True); import time; time.sleep(30)", 1, "did not answer within 1 s"),
    ],
)
def test_a_program_that_does_not_start_tells_why(
    tmp_path: Path, script: str, seconds: float, reason: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command, log = [sys.executable, "-c", script], tmp_path / "log"
    with (
        pytest.raises(ProgramFailed, match=reason),
        running("it", command, os.environ, log, url, seconds),
    ):
        pytest.fail("it did start")


def test_the_server_is_told_of_nobody_elses_queue() -> None:
    others = {"REDIS_URL": "redis://x", "LABEL_STUDIO_API_KEY": "k", "BASIC_AUTH_USER": "u", "PORT": "1"}
    kept = {"EDGETAM_WEIGHTS": "default", "EDGETAM_OFFLINE": "1", "PATH": "/bin", "OMP_NUM_THREADS": "1"}
    assert server_environment(others | kept) == kept


def test_an_environment_that_is_there_is_used_and_another_folder_is_not_touched(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (ready / "bin").mkdir(parents=True)
    (ready / "bin" / "label-studio").touch()
    (ready / "installed").touch()
    assert install(ready, lambda line: None) == ready / "bin" / "label-studio"
    with pytest.raises(InputError, match="environment: expected a new folder"):
        install(tmp_path, lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready"]


def test_label_studio_is_told_nothing_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_DATABASE", "theirs")
    site = Site("http://127.0.0.1:8", "u@x", "p", "t")
    environ = demo_label_studio.environment(site, Path("data"))
    assert "LABEL_STUDIO_DATABASE" not in environ
    assert environ["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert environ["LABEL_STUDIO_USER_TOKEN"] == "t"


def test_the_project_is_connected_and_holds_the_clip(web: WebServer, clip: DemoClip, tmp_path: Path) -> None:
    imitation = Imitation(web)
    lines: list[str] = []
    site = Site(web.url, "u", "p", LEGACY)
    task = connected(site, "http://127.0.0.1:9090", clip.path, tmp_path, lines.append)
    assert task == Task(7, "x", 1, web.url, LEGACY)
    project = imitation.items["projects"][0]
    assert project["label_config"] == CONFIG
    assert [backend["url"] for backend in imitation.items["ml"]] == ["http://127.0.0.1:9090"]
    assert [hook["url"] for hook in imitation.items["webhooks"]] == ["http://127.0.0.1:9090/webhook"]
    upload = next(asked for asked in web.asked if "/import" in asked.path)
    assert clip.path.read_bytes() in upload.body
