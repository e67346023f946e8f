from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backend.metrics import BUCKETS, Family, Requests, disk_families, process_families, render

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
    histogram = requests.families()[1]
    buckets = [value for suffix, _, value in histogram.samples if suffix == "_bucket"]
    if not times:
        assert not buckets
        return
    assert buckets == [sum(seconds <= edge for seconds in times) for edge in (*BUCKETS, float("inf"))]
    assert ("_count", {"route": "/predict"}, len(times)) in histogram.samples


def test_families_without_samples_are_left_out() -> None:
    assert render([Family("a", "counter", "Help.", [])]) == "\n"
    text = render(Requests().families())
    assert text.startswith("# HELP edgetam_failures_total")
    assert 'edgetam_failures_total{kind="unexpected"} 0' in text.splitlines()


def test_refusals_are_counted_by_limit_from_0_on() -> None:
    requests = Requests()
    requests.limit("project")
    text = render(requests.families())
    assert 'edgetam_rate_limited_total{limit="project"} 1' in text
    assert 'edgetam_rate_limited_total{limit="passwords"} 0' in text


def test_the_process_tells_of_itself() -> None:
    told = {family.name: family.samples[0] for family in process_families()}
    assert told["edgetam_build_info"][1]["version"]
    assert told["process_cpu_seconds_total"][2] > 0
    assert told.get("process_resident_memory_bytes", ("", {}, 2e6))[2] > 1_000_000


def test_free_space_is_told_by_folder(tmp_path: Path) -> None:
    (family,) = disk_families({"cache": tmp_path, "state": tmp_path / "not" / "there"})
    assert [labels["folder"] for _, labels, _ in family.samples] == ["cache", "state"]
    assert {value > 0 for _, _, value in family.samples} == {True}


def test_failures_count_by_kind() -> None:
    requests = Requests()
    for kind in ("InputError", "unexpected", "InputError"):
        requests.fail(kind)
    assert 'edgetam_failures_total{kind="InputError"} 2' in render(requests.families())
