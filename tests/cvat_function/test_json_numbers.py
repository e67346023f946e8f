from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvat_function.json_numbers import FAR, number, numbers
from edgetam_model import InputError

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@given(anything)
def test_whatever_comes_out_is_a_finite_float(raw: Any) -> None:
    with suppress(InputError):
        found = number("field", raw)
        assert type(found) is float
        assert math.isfinite(found)
        assert found == raw


@given(anything)
def test_lists_too(raw: Any) -> None:
    with suppress(InputError):
        assert list(numbers("field", raw)) == list(raw)


@pytest.mark.parametrize("raw", [True, "1", None, [1], math.nan, math.inf, -math.inf, 10**400, 2 * FAR])
def test_what_is_no_pixel_is_refused(raw: Any) -> None:
    with pytest.raises(InputError, match="field"):
        number("field", raw)
