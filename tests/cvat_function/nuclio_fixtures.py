"""What Nuclio's Python wrapper does around a handler, with its own SDK, and frames as CVAT sends them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nuclio_sdk
import numpy as np
from nuclio_sdk.event import EventDeserializerKinds
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.config import CONFIGS
from edgetam_model.weights_file import save_weights
from tests.models import tiny_model

Handler = Callable[[Any, Any], Any]
encode = nuclio_sdk.json_encoder.Encoder().encode


@dataclass(frozen=True)
class Reply:
    """What Nuclio's HTTP trigger sends: the status, its type, and the text of the body."""

    status: int
    content_type: str
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclass
class Function:
    """A deployed function: its context lives as long as its worker."""

    handler: Handler
    log: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        logger = nuclio_sdk.Logger(10, name=f"nuclio-{id(self)}")
        logger.set_handler("test", self.log, nuclio_sdk.logger.JSONFormatter())
        platform = nuclio_sdk.Platform("local", namespace="nuclio")
        self.context = nuclio_sdk.Context(logger, platform, 0, nuclio_sdk.TriggerInfo("http", "trigger"))

    def start(self, init_context: Callable[[Any], None]) -> Function:
        init_context(self.context)
        return self

    def post(self, payload: object, content_type: str = "application/json") -> Reply:
        return self.send(json.dumps(payload).encode(), content_type)

    def send(self, body: bytes, content_type: str = "application/json") -> Reply:
        """One HTTP request, through the SDK's own event and response."""
        event = nuclio_sdk.Event.deserialize(
            _message(body, content_type), kind=EventDeserializerKinds.msgpack
        )
        made = self.handler(self.context, event)
        assert not isinstance(made, list), "Nuclio takes a list for a batch and sends its first entry"
        answer = nuclio_sdk.Response.from_entrypoint_output(encode, made)
        json.loads(encode(answer))  # the line that the wrapper writes to its socket
        assert answer["body_encoding"] == "text"
        return Reply(answer["status_code"], answer["content_type"], answer["body"])


def tiny_weights(folder: Path) -> Path:
    """A file of the smallest model's seeded weights, as EDGETAM_WEIGHTS takes it."""
    path = folder / "tiny.safetensors"
    save_weights(path, tiny_model().state_dict(), CONFIGS["tiny"], trained=False)
    return path


def picture(width: int = 64, height: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def file_of(image: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:  # noqa: A002
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def base64_of(image: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> str:  # noqa: A002
    """A frame as CVAT's payload has it."""
    return base64.b64encode(file_of(image, format, **options)).decode("ascii")


def _message(body: bytes, content_type: str) -> dict[str, Any]:
    """The map that Nuclio's processor sends to its Python worker."""
    return {
        "body": body,
        "content_type": content_type,
        "trigger": {"kind": "http", "name": "trigger"},
        "fields": {},
        "headers": {"Content-Type": content_type},
        "id": "1",
        "method": "POST",
        "path": "/",
        "size": len(body),
        "timestamp": 1_700_000_000,
        "url": "",
        "shard_id": 0,
        "num_shards": 0,
        "type": "",
        "type_version": "",
        "version": "",
    }
