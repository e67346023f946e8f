"""A deployed tracker, what CVAT sends it, and a clip to send."""

from __future__ import annotations

import base64
import copy
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch
from numpy.typing import NDArray

from backend.embedded_redis import server_program
from cvat_function.shapes import Shape, shape_of_mask
from cvat_function.tracker.main import handler, init_context
from edgetam_model.config import CONFIGS
from edgetam_model.packing import seal, unseal
from edgetam_model.weights_file import save_weights
from tests.cvat_function.nuclio_fixtures import Function, Reply, base64_of
from tests.models import OBJECT_SCORE_BIAS, clip, tiny_model

SQUARE = np.zeros((90, 160), bool)
SQUARE[48:73, 98:123] = True

RECTANGLE = {"type": "rectangle", "points": [25.5, 25.5, 56, 56]}
POLYGON = {"type": "polygon", "points": [98, 48, 123, 48, 123, 73, 98, 73]}
MASK = Shape.to_json(shape_of_mask(SQUARE, "mask"))  # type: ignore[arg-type]
PASSWORD = "a secret"
EACH = (RECTANGLE, POLYGON, MASK)


def deploy(weights: Path | str, **environment: str) -> Function:
    """A worker that has started; the environment is read then, and not again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETAM_WEIGHTS", str(weights))
        patch.setenv("EDGETAM_DEVICE", "cpu")
        for name, value in environment.items():
            patch.setenv(name, value)
        return Function(handler).start(init_context)


def blind_weights(folder: Path) -> Path:
    """Weights that find no object anywhere."""
    model = copy.deepcopy(tiny_model())
    with torch.inference_mode(False), torch.no_grad():
        model.state_dict()[OBJECT_SCORE_BIAS].fill_(-1000)
    path = folder / "blind.safetensors"
    save_weights(path, model.state_dict(), CONFIGS["tiny"], trained=False)
    return path


def init(shapes: object, frame: NDArray[np.uint8]) -> dict[str, Any]:
    """As today's server sends it."""
    return {"image": base64_of(frame), "shapes": shapes, "states": []}


def track(states: list[Any], frame: NDArray[np.uint8]) -> dict[str, Any]:
    return {"image": base64_of(frame), "shapes": [None] * len(states), "states": states}


def frames(count: int) -> list[NDArray[np.uint8]]:
    return clip(count)


def begun(function: Function, shapes: object) -> list[Any]:
    reply = function.post(init(shapes, frames(1)[0]))
    assert reply.status == 200, reply.text
    states: list[Any] = reply.body["states"]
    return states


def refused(reply: Reply) -> str:
    """The message of a 400."""
    assert (reply.status, reply.content_type) == (400, "application/json"), reply.text
    assert set(reply.body) == {"error"}
    message: str = reply.body["error"]
    assert "Traceback" not in message
    return message


def forged(state: dict[str, Any], **tensors: torch.Tensor) -> dict[str, Any]:
    """A state whose memory says something else, under a checksum that is right."""
    header, kept = unseal("state", base64.b64decode(state["memory"]))
    blob = seal("state", header, kept | tensors)
    return state | {"memory": base64.b64encode(blob).decode()}


@contextmanager
def redis_server(folder: Path) -> Iterator[dict[str, str]]:
    """A Redis with a password, as the environment of a function that may use it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--requirepass",
        PASSWORD,
        "--save",
        "",
        "--dir",
        folder,
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server_program(), *options], stdout=log, stderr=log)
    try:
        with redis.Redis(port=port, password=PASSWORD) as client:
            _wait_for(client)
        yield {
            "CVAT_FUNCTIONS_REDIS_HOST": "127.0.0.1",
            "CVAT_FUNCTIONS_REDIS_PORT": str(port),
            "CVAT_FUNCTIONS_REDIS_PASSWORD": PASSWORD,
        }
    finally:
        process.terminate()
        process.wait()


def _wait_for(client: redis.Redis, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            client.ping()
        except redis.RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
