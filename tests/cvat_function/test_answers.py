from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cvat_function.answers import dumps, respond
from cvat_function.engine import ModelNotReady
from edgetam_model import InputError
from tests.cvat_function.nuclio_fixtures import Function, Reply

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def echo(request: Mapping[str, Any]) -> dict[str, Any]:
    return dict(request)


def function(work: Any) -> Function:
    return Function(lambda context, event: respond(context, event, work))


def failing(error: BaseException) -> tuple[Reply, str]:
    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        raise error

    one = function(work)
    return one.post({}), one.log.getvalue()


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "", "text/plain"]
)
def test_bodies_are_read_whatever_they_are_called(content_type: str) -> None:
    """Nuclio parses those of one content type only; others arrive as bytes or text."""
    reply = function(echo).post({"a": ["ä", 1, None]}, content_type)
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert reply.body == {"a": ["ä", 1, None]}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[1, 2]", b'"text"', b"7", b"null", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 50_000],
)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/octet-stream"])
def test_anything_but_an_object_is_refused(body: bytes, content_type: str) -> None:
    reply = function(echo).send(body, content_type)
    assert reply.status == 400
    assert reply.body["error"].startswith("body: ")


def test_wrong_input_is_a_400_that_names_the_field_and_stands_in_the_log() -> None:
    reply, log = failing(InputError("shapes[2]", "expected a mask"))
    assert (reply.status, reply.body) == (400, {"error": "shapes[2]: expected a mask"})
    assert "expected a mask" in log
    assert "Traceback" not in log


def test_a_model_that_is_not_there_is_a_503() -> None:
    reply, log = failing(ModelNotReady("the model cannot be loaded: no such file"))
    assert (reply.status, reply.body) == (503, {"error": "the model cannot be loaded: no such file"})
    assert "no such file" in log


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory"),
        cv2.error("OpenCV(5.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_memory_is_a_503(error: Exception) -> None:
    reply, log = failing(error)
    assert reply.status == 503
    assert "memory" in reply.body["error"]
    assert "Traceback" in log


def test_pytorch_without_memory_is_recognised() -> None:
    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        torch.empty(2**46, dtype=torch.float64)
        return {}

    assert function(work).post({}).status == 503


@pytest.mark.parametrize("error", [RuntimeError("secret of /root"), KeyError("x"), AssertionError()])
def test_our_own_mistakes_are_a_500_without_a_word_about_the_inside(error: Exception) -> None:
    reply, log = failing(error)
    assert (reply.status, reply.content_type) == (500, "application/json")
    assert reply.body == {"error": "internal error; the function's log says more"}
    assert "Traceback" in log


@given(masks)
def test_masks_are_rows_of_0_and_1(mask: NDArray[np.bool_]) -> None:
    text = dumps({"mask": mask, "more": [1, "ä"]})
    assert json.loads(text) == {"mask": mask.astype(int).tolist(), "more": [1, "ä"]}
    assert text == json.dumps({"mask": mask.astype(int).tolist(), "more": [1, "ä"]}, separators=(",", ":"))


def test_a_part_of_a_mask_is_written_as_its_own_rows() -> None:
    mask = np.zeros((6, 8), np.bool_)
    mask[2:4, 3:5] = True
    assert json.loads(dumps({"mask": mask[1:5:2, ::-1]}))["mask"] == mask[1:5:2, ::-1].astype(int).tolist()


@pytest.mark.parametrize("value", [float("nan"), np.int64(3), {"a": np.float32(1)}])
def test_what_is_no_json_is_our_mistake(value: object) -> None:
    reply = function(lambda request: {"value": value}).post({})
    assert reply.status == 500
