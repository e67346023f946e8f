from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.training.splits import SplitOptions, held_out_groups, split_tasks
from tests.training.annotation_tasks import image_task

names = st.lists(st.text(max_size=6), min_size=1, max_size=40, unique=True)
options = st.builds(SplitOptions, st.text(max_size=4), st.floats(0.05, 0.95), st.integers(1, 4))


@given(names, options, st.randoms(use_true_random=False))
def test_the_split_knows_no_order(groups: list[str], chosen: SplitOptions, random: object) -> None:
    mixed = list(groups)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert held_out_groups(mixed, chosen) == held_out_groups(groups, chosen)


@given(names, names, options)
def test_more_tasks_never_take_one_out_of_training(
    groups: list[str], more: list[str], chosen: SplitOptions
) -> None:
    before, after = held_out_groups(groups, chosen), held_out_groups(groups + more, chosen)
    if len(groups) > chosen.least:
        assert after & set(groups) <= before


@given(names, names, st.text(max_size=4))
def test_with_enough_tasks_each_stays_where_it_is(groups: list[str], more: list[str], salt: str) -> None:
    chosen = SplitOptions(salt, 0.5)
    before, after = held_out_groups(groups, chosen), held_out_groups(groups + more, chosen)
    if len(before) > chosen.least:
        assert after & set(groups) == before


@given(names, options)
def test_something_is_held_out(groups: list[str], chosen: SplitOptions) -> None:
    kept = held_out_groups(groups, chosen)
    assert kept <= set(groups)
    assert len(kept) >= min(chosen.least, len(groups) - 1)


def test_what_belongs_together_is_never_parted() -> None:
    tasks = [image_task(f"{video}/{frame}", group=str(video)) for video in range(20) for frame in range(5)]
    split = split_tasks(tasks, SplitOptions("p", 0.3))
    assert split.train
    assert split.held_out
    assert len(split.train) + len(split.held_out) == len(tasks)
    assert not {task.group for task in split.train} & {task.group for task in split.held_out}


def test_the_share_is_about_right_and_salts_differ() -> None:
    groups = [str(number) for number in range(2000)]
    first, second = (held_out_groups(groups, SplitOptions(salt, 0.2)) for salt in ("a", "b"))
    assert 340 < len(first) < 460
    assert first != second


def test_the_split_is_the_same_in_another_process() -> None:
    script = """
from edgetam_model.training.splits import held_out_groups
print(sorted(held_out_groups([str(n) for n in range(30)])))
"""
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert out.strip() == str(sorted(held_out_groups([str(n) for n in range(30)])))


def test_bad_options_are_refused() -> None:
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="share"):
            SplitOptions(share=share)
    with pytest.raises(InputError, match="least"):
        SplitOptions(least=0)
    assert held_out_groups([]) == frozenset()
