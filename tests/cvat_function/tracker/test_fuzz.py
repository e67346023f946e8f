"""Thousands of damaged requests: each gets a 200 or a 400, and the worker answers the next one.

`EDGETAM_FUZZ=5000 python -m pytest tests/cvat_function/tracker/test_fuzz.py` runs as many; CI runs 300.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgetam_model.packing import unseal
from tests.cvat_function.nuclio_fixtures import Function, base64_of, tiny_weights
from tests.cvat_function.tracker.tracker_fixtures import EACH, begun, deploy, forged, frames, init, track

COUNT = int(os.environ.get("EDGETAM_FUZZ", "300"))
FRAMES = frames(2)
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, 1e9, -1e9, 1e300, 2**63, 2**200, float("nan"), float("inf"), -0.0),
    *("", "null", "é\udcff", "A" * 5000, "AAAA", "@@@@", "data:image/png;base64,", "\x00"),
    *([], {}, [[]], [None], {"": None}, [0] * 4, [0] * 300, [1e300] * 8, {"type": "mask"}, {"v": 1}),
]

Places = list[tuple[Any, Any]]


def places(value: Any) -> Places:
    """Every (container, key) in a piece of JSON."""
    inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = [(value, key) for key, _ in inner]
    for _, child in inner:
        if isinstance(child, dict | list):
            found += places(child)
    return found


def damaged_text(rng: random.Random, text: str) -> str:
    """Base64 with damage below or on its surface."""
    at, length = rng.randrange(len(text) + 1), rng.choice((1, 4, 100))
    if rng.random() < 0.3:
        return text[:at] + text[at + length :]
    if rng.random() < 0.3:
        return text[:at] + rng.choice("A/+=@ é") * length + text[at + length :]
    data = bytearray(base64.b64decode(text + "=" * (-len(text) % 4)) if text.isascii() else b"")
    for _ in range(length):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return base64.b64encode(bytes(data)).decode()


def mutate(rng: random.Random, payload: dict[str, Any]) -> None:
    """One change somewhere."""
    container, key = rng.choice(places(payload))
    choice = rng.random()
    if choice < 0.15:
        del container[key]
    elif choice < 0.3 and isinstance(container[key], str) and container[key]:
        try:
            container[key] = damaged_text(rng, container[key])
        except ValueError:  # it was no base64 to begin with
            container[key] = container[key][1:]
    elif choice < 0.4 and isinstance(container[key], int | float):
        container[key] = container[key] * rng.choice((-1, 0, 0.5, 2, 1000)) + rng.choice((0, 1, -1, 0.5))
    elif choice < 0.5 and isinstance(container, list):
        container.insert(key, copy.deepcopy(rng.choice([container[key], rng.choice(ODD)])))
    else:
        container[key] = copy.deepcopy(rng.choice(ODD))


def forge(rng: random.Random, state: dict[str, Any]) -> dict[str, Any]:
    """A state with noise for memories, of every size and precision, under a right checksum."""
    _, tensors = unseal("state", base64.b64decode(state["memory"]))
    name = rng.choice(sorted(tensors))
    torch.manual_seed(rng.randrange(2**30))
    noise = torch.randn(tensors[name].shape) * rng.choice((1e-30, 1, 1e4, 1e20, 3e38))
    kinds = (torch.float16, torch.float32, torch.float32, torch.float64)
    return forged(state, **{name: noise.to(rng.choice(kinds))})


def body_of(rng: random.Random, samples: list[Callable[[], dict[str, Any]]]) -> bytes:
    payload = copy.deepcopy(rng.choice(samples)())
    choice = rng.random()
    known = [i for i, state in enumerate(payload["states"]) if state is not None]
    if choice < 0.15 and known:
        at = rng.choice(known)
        payload["states"][at] = forge(rng, payload["states"][at])
    elif choice < 0.9:
        for _ in range(rng.choice((1, 1, 2, 5))):
            if places(payload):
                mutate(rng, payload)
    body = json.dumps(payload).encode("utf-8", "surrogatepass")
    if choice >= 0.9:
        cut = rng.randrange(len(body))
        body = rng.choice(
            (body[:cut], body[:cut] + b"\xff" + body[cut + 1 :], body[:cut] + b"}" + body[cut:])
        )
    return body


def test_damaged_requests_are_answered(tmp_path: Path) -> None:
    function: Function = deploy(tiny_weights(tmp_path))
    states = begun(function, list(EACH))
    samples: list[Callable[[], dict[str, Any]]] = [
        lambda: init([dict(shape) for shape in EACH], FRAMES[0]),
        lambda: init([[25, 25, 56, 56]], FRAMES[0]),
        lambda: track(states, FRAMES[1]),
        lambda: {"image": base64_of(FRAMES[1]), "shapes": [dict(EACH[0]), None], "states": [None, states[1]]},
    ]
    expected = function.post(track(states, FRAMES[1])).text
    rng = random.Random(5)
    answers = {200: 0, 400: 0}
    for i in range(COUNT):
        reply = function.send(body_of(rng, samples))
        assert reply.status in answers, (i, reply.text)
        answers[reply.status] += 1
        assert reply.content_type == "application/json"
        if reply.status == 400:
            assert set(reply.body) == {"error"}
            assert len(reply.body["error"]) < 400
        else:
            assert len(reply.body["shapes"]) == len(reply.body["states"])
            assert None not in reply.body["states"]
    assert min(answers.values()) > COUNT / 50, answers
    assert function.post(track(states, FRAMES[1])).text == expected, "as before all that"
