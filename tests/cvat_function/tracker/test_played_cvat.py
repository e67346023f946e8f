"""CVAT, played: what its server and its browser do with the tracker's answers, on the weights that ship."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvat_function.rle import decode_mask
from cvat_function.shapes import parse_shape, shape_of_mask, shape_prompt
from edgetam_model import VideoTracker
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoScene
from edgetam_model.masks import mask_box, mask_iou
from tests.cvat_function.nuclio_fixtures import Function, base64_of, tiny_weights
from tests.cvat_function.tracker.played_cvat import Browser, Server, Tracked
from tests.cvat_function.tracker.tracker_fixtures import EACH, RECTANGLE, deploy, frames, init, track

ROOT = Path(__file__).parent.parent.parent.parent
WIDTH, HEIGHT = 320, 180


@pytest.fixture(scope="module")
def shipped() -> Function:
    return deploy("default")


def test_thirty_frames_as_the_video_tracker_has_them(shipped: Function) -> None:
    scene = DemoScene(30, WIDTH, HEIGHT)
    clip, truth = zip(*(scene.frame(i) for i in range(30)), strict=True)
    ladybird = shape_of_mask(truth[0][LADYBIRD], "mask")
    box = mask_box(truth[0][BALL])  # it goes out of sight on its way
    assert ladybird is not None
    assert box is not None
    browser = Browser(Server(shipped.post), (HEIGHT, WIDTH))
    shapes = [ladybird.to_json(), {"type": "rectangle", "points": [float(n) for n in box]}]
    browser.objects = [Tracked(shape) for shape in shapes]
    model = shipped.context.user_data.tracker._engine.model
    with VideoTracker(model).open(clip) as session:
        for i, shape in enumerate(shapes):
            session.add_prompt(0, i, shape_prompt(parse_shape(shape, "shape"), WIDTH, HEIGHT))
        expected = list(session.propagate())
    scores, last = [], box
    for i in range(1, 30):
        mask, rectangle = browser.next_frame(clip[i - 1], clip[i])
        ours = np.zeros((HEIGHT, WIDTH), bool) if mask is None else decode_mask(mask["points"], WIDTH, HEIGHT)
        video = expected[i].objects
        assert rectangle is not None
        scores.append((mask_iou(ours, truth[i][LADYBIRD]), mask_iou(video[0].mask, truth[i][LADYBIRD])))
        assert mask_iou(ours, video[0].mask) > 0.98
        last = video[1].box or last
        assert np.abs(np.subtract(rectangle["points"], last)).max() <= 2
        assert max(len(one.state) for one in browser.objects) <= 1_000_000
    assert browser.begun == 2, "each object once"
    ours_mean, video_mean = np.mean(scores, axis=0)
    assert abs(ours_mean - video_mean) < 0.02
    assert video_mean > 0.5, "there is something to compare"


def test_an_edited_object_begins_anew(tmp_path: Path) -> None:
    function = deploy(tiny_weights(tmp_path))
    clip = frames(5)
    browser = Browser(Server(function.post), (90, 160))
    browser.objects = [Tracked(dict(shape)) for shape in EACH]
    browser.next_frame(clip[0], clip[1])
    assert browser.begun == 3
    browser.objects[0].shape = {"type": "rectangle", "points": [10.0, 10.0, 50.0, 60.0]}
    browser.objects.append(Tracked(dict(RECTANGLE)))
    browser.next_frame(clip[1], clip[2])
    assert browser.begun == 5, "the edited one and the new one"
    browser.next_frame(clip[2], clip[3])
    assert browser.begun == 5


def test_a_server_of_old(tmp_path: Path) -> None:
    function = deploy(tiny_weights(tmp_path))
    clip = frames(4)
    old, new = (Browser(Server(function.post, types), (90, 160)) for types in ((), ("rectangle",)))
    for browser in (old, new):
        browser.objects = [Tracked(dict(RECTANGLE))]
    for i in range(1, 4):
        assert old.next_frame(clip[i - 1], clip[i]) == new.next_frame(clip[i - 1], clip[i])


def test_a_new_process_for_every_call_changes_nothing(shipped: Function) -> None:
    """A restart, another replica, a function deployed anew: all that is known came with the request."""
    clip = frames(3)
    here = elsewhere = init(EACH, clip[0])
    for frame in (*clip[1:], None):
        ours, theirs = shipped.post(here).text, in_a_new_process(elsewhere)
        assert theirs == ours
        if frame is not None:
            here, elsewhere = (track(json.loads(text)["states"], frame) for text in (ours, theirs))


def in_a_new_process(payload: object) -> str:
    script = """
import sys
from tests.cvat_function.tracker.tracker_fixtures import deploy
function = deploy("default")
reply = function.send(sys.stdin.buffer.read())
assert reply.status == 200, function.log.getvalue()
print(reply.text, end="")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(payload).encode(), capture_output=True, check=True
    )
    return done.stdout.decode()


def test_twenty_objects_with_their_states_fit_a_request(shipped: Function) -> None:
    clip = frames(2)
    shapes = [{"type": "rectangle", "points": [5.0 * i, 20.0, 5.0 * i + 40.0, 70.0]} for i in range(20)]
    states = shipped.post(init(shapes, clip[0])).body["states"]
    reply = shipped.post(track(states, clip[1]))
    assert reply.status == 200
    assert len(reply.body["shapes"]) == len(reply.body["states"]) == 20
    assert max(len(json.dumps(state)) for state in reply.body["states"]) <= 1_000_000
    body = {"image": base64_of(clip[1]), "shapes": [None] * 20, "states": reply.body["states"]}
    assert len(json.dumps(body)) < 20_000_000, "function.yaml allows 256 MiB"
    assert base64.b64decode(reply.body["states"][0]["memory"])[:1]
