"""The words that a person types beside a region: how far, and which way, to track it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from edgetam_model import InputError

Direction = Literal["forward", "backward", "both", "toward"]
Quality = Literal["exact", "fast"]

FIELD = "cmd"
EXPECTED = "track, track 100, back, back 50, both, both 50, to 300 or stop, and fast after it for speed"
QUALITIES: tuple[Quality, ...] = ("exact", "fast")
DIRECTIONS: dict[str, Direction] = {"track": "forward", "back": "backward", "both": "both"}
# One word, and a number where it takes one. Nine digits are far beyond every video, and safe to convert.
WORDS = re.compile(r"([a-z]+)(?: ([0-9]{1,9}))?")


@dataclass(frozen=True)
class Command:
    """How far to track from the boxes that a person drew.

    Attributes:
        direction: forward in time, backward, both, or toward the frame `until`, whichever way it lies.
        count: Label Studio's frames to go on from each box; None: as far as there are any.
        until: Label Studio's own 1-based number of the last frame; only with "toward".
        stop: end what is running, and track nothing.
        quality: as in `TrackerOptions`; None: as the server is set.
    """

    direction: Direction = "forward"
    count: int | None = None
    until: int | None = None
    stop: bool = False
    quality: Quality | None = None


def parse_command(text: str) -> Command:
    """Read `track 100`, `back 50`, `both`, `to 300` or `stop`; nothing means forward to the end.

    All but `stop` may end in `fast` or `exact`, which may also stand alone. Upper and lower case and extra
    spaces do not matter.

    Raises:
        InputError: `cmd`, with what was expected.
    """
    words = " ".join(text.lower().split()) if len(text) <= 1000 else text[:40]
    rest, _, last = words.rpartition(" ")
    for quality in QUALITIES:
        if last == quality and rest != "stop":
            return replace(_parsed(rest), quality=quality)
    return _parsed(words)


def _parsed(words: str) -> Command:
    """A command without its quality."""
    if not words:
        return Command()
    match = WORDS.fullmatch(words)
    if not match or match[1] not in {*DIRECTIONS, "to", "stop"}:
        raise InputError(FIELD, f"expected {EXPECTED}, got {words[:40]!r}")
    word, number = match[1], int(match[2]) if match[2] else None
    if number == 0:
        raise InputError(FIELD, f"expected a number from 1 after {word}, got 0")
    if word == "stop":
        if number is not None:
            raise InputError(FIELD, f"expected nothing after stop, got {number}")
        return Command(stop=True)
    if word == "to":
        if number is None:
            raise InputError(FIELD, "expected the number of a frame after to, as in: to 300")
        return Command("toward", until=number)
    return Command(DIRECTIONS[word], count=number)
