from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import InputError
from edgetam_model.field_objects import FieldObject, Row, Spec
from edgetam_model.field_places import FieldMedia, platform, split_address


@given(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), st.from_regex(r".+", fullmatch=True))
def test_addresses_are_split_at_their_first_colon(kind: str, rest: str) -> None:
    assert split_address(f"{kind}:{rest}") == (kind, rest)


@pytest.mark.parametrize("text", ["", "cvat", "cvat:", ":7", "Cvat:7", "/path:7"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="from"):
        split_address(text)


def test_both_platforms_are_installed_and_others_are_named() -> None:
    for kind in ("cvat", "label-studio"):
        assert callable(platform(kind).project)
    with pytest.raises(InputError, match="cvat:, label-studio:"):
        platform("elsewhere")


def test_images_have_a_size_each_and_a_video_has_one() -> None:
    sizes = ((4, 6), (8, 2))
    images = FieldMedia("images", sizes, ((2, 3), (4, 1)), 2)
    assert (images.size(1), images.original(1)) == ((4, 1), (8, 2))
    video = FieldMedia("video", sizes[:1], ((2, 3),), 9)
    assert (video.size(7), video.original(7)) == ((2, 3), (4, 6))


def test_what_is_pointed_at_adds_up() -> None:
    first, later = Spec(points=((1, 2, 1),), box=(0, 0, 4, 4)), Spec(points=((3, 3, 0),))
    assert first.joined(later) == Spec(points=((1, 2, 1), (3, 3, 0)), box=(0, 0, 4, 4))
    assert first.joined(Spec(box=(1, 1, 2, 2))).box == (1, 1, 2, 2)
    assert Spec().empty
    prompt = first.joined(later).prompt()
    assert (prompt.labels is not None and prompt.labels.tolist()) == [1, 0]


def test_a_frame_has_one_letter() -> None:
    rows = {
        0: Row(box=(0, 0, 1, 1), prompted=True),
        1: Row(box=(0, 0, 1, 1), score=0.9),
        2: Row(box=(0, 0, 1, 1), score=0.3),
        3: Row(state="absent", score=0.1),
        4: Row(state="absent", score=0.1),
        5: Row(state="lost", score=0.1),
        6: Row(box=(0, 0, 1, 1), kept=True),
    }
    one = FieldObject("a", 1, rows=rows)
    assert "".join(one.code(frame) for frame in range(8)) == "pvddadk."
    assert [(first, last) for first, last, _ in one.doubts] == [(2, 3), (5, 5)]
