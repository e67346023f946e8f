"""The edge of every function: whatever happens inside, CVAT gets a status and a JSON object."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import cv2
import numpy as np

from cvat_function.engine import ModelNotReady
from edgetam_model import InputError
from edgetam_model.masks import Mask

Body = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Body]

NO_MEMORY = "out of memory; try again with fewer objects or a smaller image"
INTERNAL = "internal error; the function's log says more"
# In errors of PyTorch and OpenCV, which have no class of their own for it on the processor.
MEMORY_SIGNS = (
    "out of memory",
    "allocate memory",
    "enough memory",
    "insufficient memory",
    "failed to allocate",
)


class Logger(Protocol):
    """The part of Nuclio's `context.logger` that is used."""

    def info_with(self, message: str, *args: Any, **kw_args: Any) -> Any: ...
    def warn_with(self, message: str, *args: Any, **kw_args: Any) -> Any: ...
    def error_with(self, message: str, *args: Any, **kw_args: Any) -> Any: ...


class Context(Protocol):
    """The part of Nuclio's context that is used."""

    Response: Any
    user_data: Any

    @property
    def logger(self) -> Any: ...


class Event(Protocol):
    """The part of Nuclio's event that is used."""

    body: Any


def respond(context: Context, event: Event, work: Work) -> Any:
    """Run a function's work on an event: what a Nuclio handler returns.

    Returns:
        `context.Response` with JSON, always an object, and its content type.
    """
    status, body = answer(context.logger, event.body, work)
    return context.Response(body=body, headers={}, content_type="application/json", status_code=status)


def answer(logger: Logger, raw: object, work: Work) -> tuple[int, str]:
    """Run `work` on a request's body.

    Args:
        logger: told what went wrong, since CVAT shows its user the status alone.
        raw: the body: an object, or the bytes or text of one (Nuclio parses bodies of one content type only).
        work: makes the answer, a dict for `dumps`.

    Returns:
        The status and the JSON: 200 with the answer; 400 with "error" that names the field; 503 without
        memory or without a model; 500 for a mistake of ours, whose traceback stays in the log.
    """
    try:
        return 200, dumps(work(_object(raw)))
    except InputError as error:
        logger.warn_with("the request is refused", error=str(error))
        return 400, dumps({"error": str(error)})
    except ModelNotReady as error:
        logger.error_with("the model is not ready", error=str(error))
        return 503, dumps({"error": str(error)})
    except Exception as error:  # noqa: BLE001  the edge: CVAT gets an answer, and the worker lives on
        logger.error_with("the request failed", error=repr(error), traceback=traceback.format_exc())
        if out_of_memory(error):
            return 503, dumps({"error": NO_MEMORY})
        return 500, dumps({"error": INTERNAL})


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: for Python, PyTorch (known by name: no torch here) or OpenCV."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | cv2.error) and any(sign in text for sign in MEMORY_SIGNS)


def dumps(body: Body) -> str:
    """JSON without spaces; a bool array (H, W) among the values is written as rows of 0 and 1.

    Such a mask is what the handlers answer with, and 1080 × 1920 of it take `json` 0.4 s.
    """
    values = (_rows(v) if isinstance(v, np.ndarray) else _json(v) for v in body.values())
    return "{" + ",".join(f"{_json(key)}:{value}" for key, value in zip(body, values, strict=True)) + "}"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _rows(mask: Mask) -> str:
    """`[[0,1],[1,0]]` of a mask (H, W)."""
    height, width = mask.shape
    letters = np.full((height, 2 * width + 2), ord(","), np.uint8)
    letters[:, 0] = ord("[")
    letters[:, 1:-1:2] = mask.view(np.uint8) + ord("0")
    letters[:, -2] = ord("]")
    return f"[{letters.tobytes()[:-1].decode('ascii')}]"


def _object(raw: object) -> Mapping[str, Any]:
    """The request, parsed where Nuclio has not done it."""
    if isinstance(raw, bytes | bytearray | str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise InputError("body", "expected JSON") from error
    if not isinstance(raw, Mapping):
        raise InputError("body", f"expected a JSON object, got {type(raw).__name__}")
    return raw
