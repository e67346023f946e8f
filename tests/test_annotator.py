"""Where the simulated annotator clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetam_model.annotator import Click, corrective_click, first_click
from edgetam_model.errors import InputError

Mask = NDArray[np.bool_]


def box(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((40, 60), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def test_the_first_click_is_the_middle() -> None:
    assert first_click(box(10, 5, 15, 10)) == Click(12, 7)
    assert first_click(box(10, 5, 15, 10) | box(30, 20, 39, 29)) == Click(34, 24)
    assert first_click(box(0, 0, 7, 7)) == Click(3, 3)  # the image's border is an edge


def test_an_empty_mask_cannot_be_clicked() -> None:
    with pytest.raises(InputError, match="truth"):
        first_click(box(0, 0, 0, 0))


def test_the_largest_error_decides_the_label() -> None:
    truth = box(10, 10, 30, 30)
    assert corrective_click(box(10, 10, 30, 23), truth) == Click(13, 26)
    assert corrective_click(truth | box(40, 10, 49, 19), truth) == Click(44, 14, positive=False)
    both = box(10, 10, 30, 23) | box(40, 10, 45, 15)
    assert corrective_click(both, truth) == Click(13, 26)
    assert corrective_click(truth, truth) is None


def test_void_pixels_are_no_error() -> None:
    truth = box(10, 10, 30, 30)
    leak = box(40, 10, 49, 19)
    assert corrective_click(truth | leak, truth, void=leak) is None


def test_a_click_is_not_made_twice() -> None:
    truth, nothing = box(10, 10, 13, 13), box(0, 0, 0, 0)
    made: list[Click] = []
    while (click := corrective_click(nothing, truth, clicked=made)) is not None:
        made.append(click)
    assert made[0] == Click(11, 11)
    assert len(set(made)) == len(made) == 9


def test_a_click_is_a_prompt() -> None:
    prompt = Click(3, 4, positive=False).prompt()
    assert prompt.points.tolist() == [[3, 4]]
    assert prompt.labels.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.5, 0.98]), st.sampled_from([0.02, 0.5, 0.98]))
def test_clicks_lie_on_errors_and_carry_the_true_label(seed: int, dense: float, thin: float) -> None:
    rng = np.random.default_rng(seed)
    truth, found, void = (rng.random((12, 15)) < share for share in (dense, thin, 0.2))
    click = corrective_click(found, truth, void)
    if click is None:
        assert not ((found != truth) & ~void).any()
    else:
        assert found[click.y, click.x] != truth[click.y, click.x]
        assert truth[click.y, click.x] == click.positive
        assert not void[click.y, click.x]
