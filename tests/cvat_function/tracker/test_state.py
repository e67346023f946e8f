"""What CVAT keeps of a tracked object comes back as it went, or is refused with its place in the request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.shapes import Shape
from cvat_function.tracker.state import MAX_POINTS, CvatState, TravellingStates, parse_state
from edgetam_model import InputError

coordinates = st.floats(-1e4, 1e4, allow_nan=False)
shapes = st.one_of(
    st.builds(lambda p: Shape("rectangle", tuple(p)), st.lists(coordinates, min_size=4, max_size=4)),
    st.builds(lambda p: Shape("polygon", tuple(p + p)), st.lists(coordinates, min_size=3, max_size=20)),
    st.builds(lambda p: Shape("mask", tuple(map(float, p))), st.lists(st.integers(0, 9999), min_size=5)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def example(**changes: object) -> dict[str, Any]:
    state = CvatState("rectangle", False, Shape("rectangle", (1.0, 2.0, 3.0, 4.0)), "AAAA")
    return state.to_json() | changes


@given(shapes, st.booleans(), st.binary(max_size=50))
def test_a_state_comes_back_through_json(shape: Shape, legacy: bool, blob: bytes) -> None:
    travelling = TravellingStates()
    state = CvatState(shape.type, legacy, shape, travelling.put(blob))
    back = parse_state(json.loads(json.dumps(state.to_json())), "states[0]")
    assert back == state
    assert travelling.get(back.memory) == blob


def test_a_shape_too_long_to_travel_stays_behind() -> None:
    long = Shape("mask", (1.0,) * (MAX_POINTS + 1))
    back = parse_state(CvatState("mask", False, long, "").to_json(), "states[0]")
    assert back == CvatState("mask", False, None, "")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (7, r"states\[3\]: expected a state of this function, got int: start tracking anew"),
        ([1], "got list"),
        ("{}", "got str"),
        ({}, "version 1, got None"),
        (example(v=2), r"states\[3\]: expected a state of version 1, got 2: start tracking anew"),
        (example(v="1"), "version 1, got '1'"),
        (example(v=True), r"states\[3\].v"),
        (example(type="cuboid"), r"states\[3\].type"),
        (example(type=None), r"states\[3\].type"),
        (example(legacy=0), r"states\[3\].legacy"),
        (example(points="1,2,3,4"), r"states\[3\].points"),
        (example(points=[1, 2, 3]), "expected x0, y0, x1, y1, got 3"),
        (example(points=[1, 2, 3, float("nan")]), r"states\[3\].points: expected a finite number"),
        (example(points=[1, 2, 3, None]), r"states\[3\].points: expected a number, got NoneType"),
        (example(points=[1.0] * (MAX_POINTS + 1)), r"states\[3\].points"),
        (example(memory=None), r"states\[3\].memory"),
        (example(memory="A" * 9_000_000), r"states\[3\].memory"),
        (example(more=1), r"states\[3\].more"),
    ],
)
def test_what_is_no_state_is_refused(raw: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        parse_state(raw, "states[3]")
    assert len(str(caught.value)) < 300, "and is not repeated whole"


@given(json_values | st.fixed_dictionaries(dict.fromkeys(example(), json_values)))
def test_any_json_is_a_state_or_an_input_error(raw: object) -> None:
    if isinstance(raw, dict):
        raw["v"] = 1
    try:
        state = parse_state(raw, "states[0]")
    except InputError as error:
        assert error.field.startswith("states[0]")  # noqa: PT017  a state is as good
    else:
        assert isinstance(state, CvatState)


@pytest.mark.parametrize("text", ["@@@@", "AAA", "AA==A", "é", "A A="])
def test_memory_is_strict_base64(text: str) -> None:
    with pytest.raises(InputError, match="base64: start tracking anew"):
        TravellingStates().get(text)
