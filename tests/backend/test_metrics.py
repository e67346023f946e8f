from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from backend.metrics import BUCKETS, Family, Requests, process_families, render

LINE = re.compile(
    r'[a-z_]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})? [-+0-9.eInf]+'
)


@given(st.text(), st.floats(-1e308, 1e308) | st.just(float("inf")))
def test_every_label_and_value_is_one_line(label: str, value: float) -> None:
    text = render([Family("a_b", "gauge", "Help.", [("", {"x": label, "y": "z"}, value)])])
    lines = text.split("\n")
    assert lines[:2] == ["# HELP a_b Help.", "# TYPE a_b gauge"]
    assert len(lines) == 4
    assert LINE.fullmatch(lines[2])


@given(st.lists(st.floats(0, 1000), max_size=30))
def test_histograms_count_up_to_all(times: list[float]) -> None:
    requests = Requests()
    for seconds in times:
        requests.add("/predict", 200, seconds)
    (_, histogram) = requests.families()
    buckets = [value for suffix, _, value in histogram.samples if suffix == "_bucket"]
    if not times:
        assert not buckets
        return
    assert buckets == [sum(seconds <= edge for seconds in times) for edge in (*BUCKETS, float("inf"))]
    assert ("_count", {"route": "/predict"}, len(times)) in histogram.samples


def test_families_without_samples_are_left_out() -> None:
    assert render([Family("a", "counter", "Help.", [])]) == "\n"
    assert render(Requests().families()) == "\n"


def test_memory_is_told() -> None:
    for family in process_families():
        assert family.samples[0][2] > 1_000_000
