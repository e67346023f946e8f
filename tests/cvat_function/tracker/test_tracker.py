"""The tracker behind Nuclio's own SDK: every row of CVAT's edge cases that concerns trackers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_model.packing import unseal
from tests.cvat_function.nuclio_fixtures import Function, base64_of, file_of, tiny_weights
from tests.cvat_function.tracker.tracker_fixtures import (
    EACH,
    MASK,
    POLYGON,
    RECTANGLE,
    begun,
    blind_weights,
    deploy,
    forged,
    frames,
    init,
    refused,
    track,
)

FRAMES = frames(4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def function(weights: Path) -> Function:
    return deploy(weights)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(blind_weights(tmp_path_factory.mktemp("weights")))


# What CVAT sends ----------------------------------------------------------------------------------------


def test_shapes_begin_and_states_follow(function: Function) -> None:
    reply = function.post(init(EACH, FRAMES[0]))
    assert reply.status == 200
    assert reply.body["shapes"] == [{**shape, "points": list(shape["points"])} for shape in EACH]
    for frame in FRAMES[1:]:
        states = reply.body["states"]
        assert len(states) == 3
        assert all(isinstance(state, dict) for state in states), "never null: it could not be gone on from"
        reply = function.post(track(states, frame))
        assert reply.status == 200, reply.text
        assert [s["type"] for s in reply.body["shapes"]] == ["rectangle", "polygon", "mask"]
        assert len(reply.body["shapes"][0]["points"]) == 4
        assert all(type(number) is int for number in reply.body["shapes"][2]["points"])


def test_servers_of_old_speak_in_bare_numbers(function: Function) -> None:
    """TransT's and SiamMask's protocol: no types, and the states come back alone."""
    reply = function.post(init([[25, 25, 56, 56], [98, 48, 123, 73]], FRAMES[0]))
    assert reply.body["shapes"] == [[25, 25, 56, 56], [98, 48, 123, 73]]
    reply = function.post(track(reply.body["states"], FRAMES[1]))
    assert reply.status == 200
    for points in reply.body["shapes"]:
        assert isinstance(points, list)
        assert len(points) == 4
    assert function.post(track(reply.body["states"], FRAMES[2])).body["shapes"][0][0] >= 0


def test_a_mixed_request_begins_what_has_no_state(function: Function) -> None:
    """The UI of old: one call for new objects and known ones."""
    (known,) = begun(function, [RECTANGLE])
    alone = function.post(track([known], FRAMES[1])).body
    fresh = function.post(init([POLYGON], FRAMES[1])).body
    for shapes, states in (
        ([RECTANGLE, POLYGON], [known, None]),
        ([None, POLYGON], [known]),
    ):
        reply = function.post({"image": base64_of(FRAMES[1]), "shapes": shapes, "states": states})
        assert reply.body["shapes"] == alone["shapes"] + fresh["shapes"]
        assert reply.body["states"] == alone["states"] + fresh["states"]
    swapped = {"image": base64_of(FRAMES[1]), "shapes": [POLYGON, None], "states": [None, known]}
    assert function.post(swapped).body["shapes"] == fresh["shapes"] + alone["shapes"]


def test_the_same_step_again_gives_the_same_answer(function: Function) -> None:
    states = begun(function, EACH)
    first = function.post(track(states, FRAMES[1]))
    function.post(track(first.body["states"], FRAMES[2]))
    again = function.post(track(states, FRAMES[1]))
    assert first.status == 200
    assert again.text == first.text


def test_twenty_objects_in_one_call(function: Function) -> None:
    shapes = [{"type": "rectangle", "points": [5 * i, 20, 5 * i + 20, 50]} for i in range(20)]
    states = begun(function, shapes)
    reply = function.post(track(states, FRAMES[1]))
    assert len(reply.body["shapes"]) == len(reply.body["states"]) == 20
    for i in (0, 7, 19):
        (alone,) = function.post(track([states[i]], FRAMES[1])).body["shapes"]
        assert np.abs(np.subtract(alone["points"], reply.body["shapes"][i]["points"])).max() <= 1


def test_more_objects_than_the_setting_are_refused(weights: Path) -> None:
    function = deploy(weights, EDGETAM_CVAT_MAX_OBJECTS="2")
    assert len(begun(function, EACH[:2])) == 2
    assert "1 to 2 shapes or states, got 3" in refused(function.post(init(EACH, FRAMES[0])))


@pytest.mark.parametrize(
    "picture",
    [
        *(Image.fromarray(FRAMES[0]).convert(mode) for mode in ("RGBA", "LA", "P", "L", "CMYK", "1")),
        Image.fromarray(FRAMES[0][..., 0].astype(np.uint16) * 64),
    ],
    ids=lambda picture: picture.mode,
)
def test_every_kind_of_picture(function: Function, picture: Image.Image) -> None:
    image = base64_of(picture, "TIFF")
    reply = function.post({"image": image, "shapes": [RECTANGLE], "states": []})
    assert function.post({"image": image, "shapes": [None], "states": reply.body["states"]}).status == 200


def test_a_turned_picture_is_the_same_as_the_frame_it_shows(function: Function) -> None:
    note = Image.Exif()
    note[0x0112] = 6  # to be turned clockwise
    turned = base64_of(np.rot90(FRAMES[1]), exif=note)
    states = begun(function, [RECTANGLE])
    reply = function.post({"image": turned, "shapes": [None], "states": states})
    assert reply.text == function.post(track(states, FRAMES[1])).text


def test_bodies_that_nuclio_leaves_as_bytes(function: Function) -> None:
    payload = init([RECTANGLE], FRAMES[0])
    assert function.post(payload, "application/json; charset=utf-8").text == function.post(payload).text


# What is wrong as a whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe", b"[" * 5000])
def test_a_body_that_is_no_object_is_refused(function: Function, body: bytes) -> None:
    assert refused(function.send(body)).startswith("body: ")


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (None, "expected base64"),
        ("", "expected base64"),
        (7, "expected base64"),
        ("@@@@", "not base64"),
        (base64.b64encode(b"no picture").decode(), "not an image"),
        (base64.b64encode(file_of(FRAMES[0])[:-200]).decode(), "damaged, cut off"),
    ],
)
def test_a_request_without_a_picture_is_refused(function: Function, image: object, problem: str) -> None:
    message = refused(function.post({"image": image, "shapes": [RECTANGLE], "states": []}))
    assert message.startswith("image: ")
    assert problem in message
    assert refused(function.post({"shapes": [RECTANGLE]})).startswith("image: ")


def test_a_picture_beyond_the_limit_is_refused_before_it_is_decoded(weights: Path) -> None:
    small = deploy(weights, EDGETAM_MAX_PIXELS="1000")
    assert "more than the limit of 1,000" in refused(small.post(init([RECTANGLE], FRAMES[0])))


NAN = float("nan")
RLE = MASK["points"]


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ({"type": "rectangle", "points": [10, 10, 10, 40]}, "area"),
        ({"type": "rectangle", "points": [200, 10, 300, 40]}, "area inside the image (160×90)"),
        ({"type": "rectangle", "points": [1, 2, 3]}, "got 3 numbers"),
        ({"type": "rectangle", "points": [1, 2, 3, NAN]}, "finite"),
        ({"type": "rectangle", "points": [1, 2, 3, "40"]}, "got str"),
        ({"type": "rectangle", "points": [1, 2, 3, None]}, "got NoneType"),
        ({"type": "rectangle", "points": None}, "expected a list"),
        ({"type": "rectangle", "points": [25, 25, 56, 56], "rotation": 30}, "rotat"),
        ({"type": "polygon", "points": [1, 2, 3, 4]}, "three points"),
        ({"type": "polygon", "points": [1, 2, 3, 4, 5]}, "three points"),
        ({"type": "polygon", "points": [300, 5, 310, 5, 310, 10]}, "pixels of the image"),
        ({"type": "mask", "points": [1, 0, 0, 0, 0]}, "pixels of the image"),
        ({"type": "mask", "points": RLE[:-2]}, "expected"),
        ({"type": "mask", "points": [RLE[0] + 1, *RLE[1:]]}, "add up"),
        ({"type": "mask", "points": [0.5, *RLE[1:]]}, "whole numbers"),
        ({"type": "mask", "points": [*RLE[:-2], 500, 500]}, "box inside"),
        *(({"type": kind, "points": [1, 2, 3, 4, 5, 6]}, "got") for kind in ("ellipse", "points", "cuboid")),
        ({"type": "skeleton", "elements": []}, "skeleton"),
        ({"points": [1, 2, 3, 4]}, "expected rectangle, polygon, mask"),
        ("rectangle", "expected an object"),
        (5, "expected an object"),
        ([1, 2, 3], "got 3 numbers"),
        ([1, 2, 3, True], "got bool"),
    ],
)
def test_a_malformed_shape_is_refused_with_its_place(function: Function, shape: Any, problem: str) -> None:
    message = refused(function.post(init([RECTANGLE, shape], FRAMES[0])))
    assert message.startswith("shapes[1]")
    assert problem in message


def test_corners_in_any_order_begin_the_same_object(function: Function) -> None:
    turned = {"type": "rectangle", "points": [56, 56, 25.5, 25.5]}
    reply = function.post(init([RECTANGLE, turned], FRAMES[0])).body
    assert reply["states"][0]["memory"] == reply["states"][1]["memory"]
    beyond = function.post(init([{"type": "rectangle", "points": [-20, -5.5, 60, 2000]}], FRAMES[0]))
    assert beyond.status == 200


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({}, "shapes: expected 1 to 256 shapes or states, got 0"),
        ({"shapes": [], "states": []}, "got 0"),
        ({"shapes": None, "states": None}, "got 0"),
        ({"shapes": [None], "states": [None]}, "states[0]: expected a state, or else a shape"),
        ({"shapes": [None], "states": []}, "states[0]: expected a state, or else a shape"),
        ({"shapes": {"0": RECTANGLE}}, "shapes: expected a list, got dict"),
        ({"shapes": [RECTANGLE], "states": "none"}, "states: expected a list, got str"),
        ({"shapes": [RECTANGLE] * 257}, "got 257"),
    ],
)
def test_lists_that_say_nothing_are_refused(
    function: Function, request_: dict[str, Any], problem: str
) -> None:
    assert problem in refused(function.post({"image": base64_of(FRAMES[0])} | request_))


def test_a_state_that_is_not_of_this_tracker_is_refused(function: Function, blind: str) -> None:
    good, state = begun(function, [RECTANGLE, POLYGON])
    (foreign,) = begun(deploy(blind), [RECTANGLE])
    wrong: list[tuple[object, str]] = [
        ("a key", "expected a state of this function, got str"),
        ({}, "version 1, got None"),
        (state | {"v": 0}, "version 1, got 0: start tracking anew"),
        (state | {"memory": "@@@@"}, "no base64"),
        (state | {"memory": ""}, "damaged"),
        (state | {"memory": state["memory"][:-8]}, "damaged"),
        (state | {"memory": base64.b64encode(b"x" * 500).decode()}, "damaged"),
        (foreign, "made with other weights than this tracker has: start tracking anew"),
    ]
    for given, problem in wrong:
        message = refused(function.post(track([good, given], FRAMES[1])))
        assert message.startswith("states[1]")
        assert problem in message
        assert len(message) < 300
    message = refused(function.post(track([good, state], FRAMES[1][:80])))
    assert message == (
        "states[0]: made on an image of 160×90 pixels, this one has 160×80: start tracking anew"
    )


# What happens on the way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "kept"), [("auto", [True, False, False]), ("last", [True] * 3), ("null", [False] * 3)]
)
def test_objects_out_of_sight(blind: str, setting: str, kept: list[bool]) -> None:
    function = deploy(blind, EDGETAM_CVAT_LOST=setting)
    states = begun(function, EACH)
    for frame in FRAMES[1:]:
        reply = function.post(track(states, frame)).body
        assert [shape is not None for shape in reply["shapes"]] == kept
        for given, shape in zip(EACH, reply["shapes"], strict=True):
            assert shape is None or shape == {**given, "points": list(given["points"])}
        states = reply["states"]
        assert all(isinstance(state, dict) for state in states), "it may be found again"


def test_an_object_that_fails_keeps_its_shape_and_state(function: Function) -> None:
    first, second, third = begun(function, EACH)
    _, tensors = unseal("state", base64.b64decode(second["memory"]))
    broken = forged(second, latents=torch.full_like(tensors["latents"], 3e38, dtype=torch.float32))
    reply = function.post(track([first, broken, third], FRAMES[1]))
    assert reply.status == 200
    assert reply.body["shapes"][1] == POLYGON
    assert reply.body["states"][1] == broken
    others = function.post(track([first, third], FRAMES[1])).body
    assert [reply.body["shapes"][i] for i in (0, 2)] == others["shapes"]
    assert "an object keeps its last shape and state" in function.log.getvalue()


def test_a_batch_that_fails_is_taken_apart(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that no state can cause: the engine itself gives up over one of the objects."""
    tracker = function.context.user_data.tracker
    states = begun(function, EACH)
    expected = function.post(track(states, FRAMES[1])).body
    step, unlucky = tracker._tracker.step, tracker._tracker.restore(base64.b64decode(states[0]["memory"]))

    def failing(frame: np.ndarray, given: list[Any]) -> list[Any]:
        if any(state.to_bytes() == unlucky.to_bytes() for state in given):
            raise RuntimeError("a kernel of one object")
        return step(frame, given)

    monkeypatch.setattr(tracker._tracker, "step", failing)
    reply = function.post(track(states, FRAMES[1]))
    assert reply.status == 200
    assert reply.body["states"][0] == states[0]
    assert reply.body["shapes"][1:] == expected["shapes"][1:]
    assert all(reply.body["states"][i] != states[i] for i in (1, 2))

    def exhausted(frame: np.ndarray, given: list[Any]) -> list[Any]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(tracker._tracker, "step", exhausted)
    assert function.post(track(states, FRAMES[1])).status == 503


def test_without_weights_it_starts_and_says_503() -> None:
    function = deploy("/nowhere/weights.safetensors")
    reply = function.post(init([RECTANGLE], FRAMES[0]))
    assert reply.status == 503
    assert "the model cannot be loaded" in reply.body["error"]
    assert "not ready" in function.log.getvalue()


def test_a_refusal_is_logged_since_cvat_shows_none(function: Function) -> None:
    states = begun(function, [RECTANGLE])
    function.post(track([states[0] | {"v": 9}], FRAMES[1]))
    line = json.loads(function.log.getvalue().splitlines()[-1])
    assert "states[0]: expected a state of version 1, got 9" in json.dumps(line)
    assert states[0]["memory"][:60] not in function.log.getvalue(), "no body in a log"


def test_redis_out_of_reach_is_503(weights: Path) -> None:
    lonely = deploy(
        weights,
        EDGETAM_CVAT_STATE="redis",
        CVAT_FUNCTIONS_REDIS_HOST="127.0.0.1",
        CVAT_FUNCTIONS_REDIS_PORT="1",
    )
    reply = lonely.post(init([RECTANGLE], FRAMES[0]))
    assert reply.status == 503
    assert "Redis" in reply.body["error"]


def test_starting_reads_the_environment_once_and_refuses_bad_values() -> None:
    with pytest.raises(ValueError, match="EDGETAM_CVAT_STATE"):
        deploy("default", EDGETAM_CVAT_STATE="memcached")
