"""What CVAT keeps of a tracked object between two frames: JSON that goes to the browser and comes back.

CVAT's server signs states and takes them back for eight hours. So they are ours, but perhaps of before an
upgrade; and whoever has the server's key can write any. They are checked like everything else, and nothing
is unpickled. No torch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvat_function.shapes import Shape, parse_shape
from edgetam_model import InputError

VERSION = 1
ANEW = "start tracking anew"
MAX_POINTS = (
    40_000  # numbers of a last shape, 0.25 MB of JSON; a mask with more is remembered by the model alone
)
MAX_TEXT = 8 << 20  # letters of base64; the largest state takes 0.6 million


class States(Protocol):
    """Where the model's part of a state is between two frames."""

    def put(self, blob: bytes) -> str:
        """The text that stands for it in CVAT's state."""

    def get(self, text: str) -> bytes:
        """The inverse of `put`.

        Raises:
            InputError: not such a text, or nothing is kept under it any more.
        """

    def replace(self, text: str) -> None:
        """A newer state has taken its place: it is asked for again only where an answer got lost."""


class TravellingStates:
    """The whole state goes along with CVAT's: restarts, replicas and other machines lose nothing."""

    def put(self, blob: bytes) -> str:
        """Base64."""
        return base64.b64encode(blob).decode("ascii")

    def get(self, text: str) -> bytes:
        """The bytes.

        Raises:
            InputError: not base64.
        """
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:  # the second one for letters outside ASCII
            raise InputError("state", f"damaged, no base64: {ANEW}") from error

    def replace(self, text: str) -> None:
        """Nothing is kept here."""


@dataclass(frozen=True)
class CvatState:
    """One object's state.

    Attributes:
        kind: what CVAT calls the shape's type; answers are of the same.
        legacy: whether CVAT speaks of shapes as bare lists of numbers.
        shape: the object's last shape; None: too long to be sent to and fro.
        memory: what `States.put` made of the model's part.
    """

    kind: str
    legacy: bool
    shape: Shape | None
    memory: str

    def to_json(self) -> dict[str, Any]:
        """For CVAT; `parse_state` is the inverse, but for shapes that are too long."""
        shape = self.shape if self.shape is not None and len(self.shape.points) <= MAX_POINTS else None
        return {
            "v": VERSION,
            "type": self.kind,
            "legacy": self.legacy,
            "points": None if shape is None else shape.to_json()["points"],
            "memory": self.memory,
        }


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: int
    type: Literal["rectangle", "polygon", "mask"]
    legacy: bool
    points: list[Any] | None = Field(max_length=MAX_POINTS)
    memory: str = Field(max_length=MAX_TEXT)


def parse_state(raw: object, field: str) -> CvatState:
    """A state as it came back.

    Args:
        raw: what the JSON has.
        field: what an error calls it, for example "states[2]".

    Raises:
        InputError: of another version, or nothing that this function wrote.
    """
    if not isinstance(raw, Mapping):
        raise InputError(field, f"expected a state of this function, got {type(raw).__name__}: {ANEW}")
    if raw.get("v") != VERSION:
        raise InputError(field, f"expected a state of version {VERSION}, got {raw.get('v')!r:.20}: {ANEW}")
    try:
        state = _Json.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join((field, *(str(part) for part in first["loc"])))
        raise InputError(where, f"{first['msg']}: {ANEW}") from error
    shape = None
    if state.points is not None:
        shape = parse_shape({"type": state.type, "points": state.points}, field)
    return CvatState(state.type, state.legacy, shape, state.memory)
