"""The deployed function through Nuclio's own SDK: edge cases one by one, and fuzzed requests.

More of them: `EDGETAM_FUZZ=6000 python -m pytest --timeout=0 tests/cvat_function/interactor -k fuzz`
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cvat_function.interactor.main import handler, init_context
from tests.cvat_function.nuclio_fixtures import Function, Reply, base64_of, picture, tiny_weights

IMAGE = base64_of(picture())
GREY = np.linspace(0, 60_000, 64 * 40).reshape(40, 64).astype(np.uint16)
CLICK = {"image": IMAGE, "pos_points": [[30.5, 20.1]], "neg_points": [], "obj_bbox": None}
FUZZED = int(os.environ.get("EDGETAM_FUZZ", "300"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def deployed(weights: Path, **environment: str) -> Function:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETAM_WEIGHTS", str(weights))
        patch.setenv("EDGETAM_DEVICE", "cpu")
        patch.setenv("EDGETAM_MAX_PIXELS", "100000")
        for name, value in environment.items():
            patch.setenv(name, value)
        return Function(handler).start(init_context)


@pytest.fixture(scope="module")
def function(weights: Path) -> Function:
    return deployed(weights)


def check_mask(reply: Reply, height: int = 40, width: int = 64) -> np.ndarray[Any, Any]:
    """The rules that CVAT's browser side follows: rows of equal length, two values, the whole frame."""
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert set(reply.body) == {"mask"}
    mask = np.array(reply.body["mask"])
    assert mask.shape == (height, width)
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.dtype == np.int64
    return mask


def refused(reply: Reply, field: str) -> None:
    assert (reply.status, reply.content_type) == (400, "application/json")
    assert set(reply.body) == {"error"}
    assert reply.body["error"].startswith(f"{field}")
    assert "Traceback" not in reply.text


def test_the_model_is_there_before_the_first_request(function: Function) -> None:
    assert "the model is ready" in function.log.getvalue()
    assert check_mask(function.post(CLICK)).any()


def test_shapes_where_they_are_asked_for(weights: Path) -> None:
    function = deployed(weights, EDGETAM_CVAT_REPLY="shapes")
    reply = function.post(CLICK | {"obj_bbox": [[2, 2], [20, 20], [40, 10], [60, 38]], "pos_points": []})
    assert (reply.status, set(reply.body)) == (200, {"shapes"})
    for shape in reply.body["shapes"]:
        assert shape["type"] == "mask"
        assert all(type(number) is int for number in shape["points"])
        (confidence,) = shape["attributes"]
        assert (confidence["spec_id"], type(confidence["value"])) == (0, str)
        assert 0 <= float(confidence["value"]) <= 1


def test_a_wrong_setting_fails_the_deployment(weights: Path) -> None:
    with pytest.raises(ValueError, match="EDGETAM_CVAT_REPLY"):
        deployed(weights, EDGETAM_CVAT_REPLY="both")


def test_a_model_that_is_missing_is_a_503_until_it_comes(tmp_path: Path, weights: Path) -> None:
    later = tmp_path / "later.safetensors"
    function = deployed(later)
    assert "the model is not ready" in function.log.getvalue()
    reply = function.post(CLICK)
    assert reply.status == 503
    assert "cannot be loaded" in reply.body["error"]
    later.write_bytes(weights.read_bytes())
    check_mask(function.post(CLICK))


# The edge cases, row by row ----------------------------------------------------------------------------


def test_nothing_selected(function: Function) -> None:
    refused(function.post({"image": IMAGE, "pos_points": [], "neg_points": [], "obj_bbox": []}), "pos_points")


def test_negatives_alone(function: Function) -> None:
    refused(function.post(CLICK | {"pos_points": [], "neg_points": [[5, 5]]}), "pos_points")


def test_a_box_alone_in_any_order_of_corners(function: Function) -> None:
    boxes = ([[10, 5], [50, 35]], [[50, 35], [10, 5]], [[50, 5], [10, 35]], [10, 5, 50, 35])
    first, *others = [check_mask(function.post(CLICK | {"pos_points": [], "obj_bbox": box})) for box in boxes]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("box", [[[10, 10], [10, 30]], [[10, 10], [10, 10]], [[90, 90], [99, 99]]])
def test_a_box_without_an_area(function: Function, box: object) -> None:
    refused(function.post(CLICK | {"pos_points": [], "obj_bbox": box}), "obj_bbox")
    alone = check_mask(function.post(CLICK))
    np.testing.assert_array_equal(check_mask(function.post(CLICK | {"obj_bbox": box})), alone)


@pytest.mark.parametrize("box", [None, []])
def test_no_box(function: Function, box: object) -> None:
    check_mask(function.post(CLICK | {"obj_bbox": box}))


def test_older_servers_leave_keys_out(function: Function) -> None:
    check_mask(function.post({"image": IMAGE, "pos_points": [[30, 20]]}))


def test_several_boxes(function: Function) -> None:
    check_mask(function.post(CLICK | {"pos_points": [], "obj_bbox": [[2, 2], [20, 20], [40, 10], [60, 38]]}))


@pytest.mark.parametrize("box", [[[1, 2]], [[1, 2], [3, 4], [5, 6]], [[1, 2], [3]], "box", [1, 2, 3]])
def test_boxes_of_no_known_form(function: Function, box: object) -> None:
    refused(function.post(CLICK | {"obj_bbox": box}), "obj_bbox")


def test_points_at_and_beyond_the_edge(function: Function) -> None:
    for point in ([0, 0], [64, 40], [-1.5, 20], [65, 41]):
        check_mask(function.post(CLICK | {"pos_points": [point]}))
    refused(function.post(CLICK | {"pos_points": [[-5, 900]]}), "pos_points")
    check_mask(function.post(CLICK | {"pos_points": [[30, 20], [-5, 900]]}))
    check_mask(function.post(CLICK | {"pos_points": [], "obj_bbox": [[-50, -50], [30, 20]]}))


@pytest.mark.parametrize("value", ["30", None, True, [1], {}])
def test_numbers_that_are_none(function: Function, value: object) -> None:
    refused(function.post(CLICK | {"pos_points": [[value, 20]]}), "pos_points[0]")


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 400])
def test_numbers_that_python_reads_and_no_picture_has(function: Function, value: bytes) -> None:
    body = b'{"image": "%s", "pos_points": [[%s, 20]]}' % (IMAGE.encode(), value)
    for content_type in ("application/json", "text/plain"):
        refused(function.send(body, content_type), "pos_points[0]")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_image(function: Function, mode: str) -> None:
    image = Image.fromarray(GREY) if mode == "I;16" else Image.fromarray(picture()).convert(mode)
    assert image.mode == mode
    name = "TIFF" if mode in ("CMYK", "I", "F") else "PNG"
    check_mask(function.post(CLICK | {"image": base64_of(image, name)}))


def test_an_exif_note_turns_the_frame(function: Function) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = base64_of(np.ascontiguousarray(np.rot90(picture(), k=3)))
    lying, upright = (
        check_mask(function.post(CLICK | {"image": image, "pos_points": [[20, 30]]}), height=64, width=40)
        for image in (base64_of(picture(), exif=exif), turned)
    )
    np.testing.assert_array_equal(lying, upright)


def test_too_many_pixels(function: Function) -> None:
    refused(function.post(CLICK | {"image": base64_of(np.zeros((400, 300, 3), np.uint8))}), "image")


@pytest.mark.parametrize("image", ["@@@@", "", IMAGE[:101], IMAGE[:100], "aGk=", None, 7, [IMAGE], {"a": 1}])
def test_images_that_are_none(function: Function, image: object) -> None:
    refused(function.post(CLICK | {"image": image}), "image")


def test_bodies_that_are_none(function: Function) -> None:
    for body in (b"", b"[]", b"null", b"{", b"\xff"):
        refused(function.send(body), "body")
    refused(function.post({}), "pos_points")
    refused(function.post({"pos_points": [[1, 1]]}), "image")
    check_mask(function.post(CLICK, "application/json; charset=utf-8"))


def test_the_reason_stands_in_the_log_and_the_image_does_not(function: Function) -> None:
    function.post(CLICK | {"obj_bbox": [[1, 2]]})
    log = function.log.getvalue()
    assert "two corners for each box" in log
    assert IMAGE[:40] not in log


# Fuzzed requests ---------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.integers(-9, 70)
    | st.floats(-9, 70)
    | st.text(max_size=6)
)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
coordinates = st.floats(-20, 90) | st.integers(-20, 90)
pairs = st.lists(st.tuples(coordinates, coordinates), max_size=5)
images = st.sampled_from([IMAGE, base64_of(picture(7, 90)), base64_of(picture(1, 1)), IMAGE[:200], "@@@@"])
requests = st.fixed_dictionaries(
    {},
    optional={
        "image": images | junk,
        "pos_points": pairs | junk,
        "neg_points": pairs | junk,
        "obj_bbox": pairs | st.lists(coordinates, max_size=8) | junk,
        "roi": st.lists(coordinates, min_size=4, max_size=4) | junk,
        "threshold": st.floats(-0.2, 1.2) | junk,
        "extra": junk,
    },
)
likely = st.fixed_dictionaries(
    {"image": images, "pos_points": pairs, "neg_points": pairs, "obj_bbox": st.none() | pairs},
    optional={
        "roi": st.lists(coordinates, min_size=4, max_size=4),
        "threshold": st.floats(0, 1) | st.none(),
    },
)
contents = st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain", ""])


@pytest.fixture(scope="module")
def both(weights: Path) -> Iterator[list[Function]]:
    functions = [deployed(weights, EDGETAM_CVAT_REPLY=reply) for reply in ("mask", "shapes")]
    yield functions
    for function in functions:  # whatever came before, the workers live
        assert function.post(CLICK).status == 200


@settings(max_examples=FUZZED, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=likely | requests | junk, content_type=contents, reply=st.integers(0, 1))
def test_fuzzed_requests_are_answered_or_refused(
    both: list[Function], request: Any, content_type: str, reply: int
) -> None:
    answer = both[reply].post(request, content_type)
    assert answer.status in (200, 400), both[reply].log.getvalue()[-3000:]
    assert set(answer.body) == {("mask", "shapes")[reply] if answer.status == 200 else "error"}


@settings(max_examples=max(FUZZED // 3, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=60), content_type=contents)
def test_fuzzed_bytes_are_refused(both: list[Function], body: bytes, content_type: str) -> None:
    assert both[0].send(body, content_type).status == 400
