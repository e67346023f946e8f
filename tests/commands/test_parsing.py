"""What people type, and what it means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgetam_model.commands.parsing import (
    FrameRange,
    Target,
    parse_box,
    parse_click,
    parse_labels,
    parse_range,
    place_prompts,
    read_mask,
    split_target,
)
from edgetam_model.errors import InputError, PromptError

numbers = st.floats(-1e6, 1e6)
frames = st.integers(0, 999_999_999)
ids = st.integers(1, 999_999_999)


@given(numbers, numbers, st.sampled_from([None, 0, 1]))
def test_a_click_is_read_back(x: float, y: float, label: int | None) -> None:
    text = f"{x!r},{y!r}" + ("" if label is None else f",{label}")
    assert parse_click(text) == (x, y, 1 if label is None else label)


@pytest.mark.parametrize(
    "text", ["", "1", "1,2,3", "1,2,-1", "1,2,0.5", "1,2,0,0", "a,b", "1,nan", "inf,2", "1,,2"]
)
def test_other_clicks_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^point: expected x,y, or x,y,0"):
        parse_click(text)


@given(numbers, numbers, st.floats(0.5, 1e6), st.floats(0.5, 1e6))
def test_a_box_is_read_back(x: float, y: float, width: float, height: float) -> None:
    box = (x, y, x + width, y + height)
    assert parse_box(",".join(map(repr, box))) == box


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "1 2 3 4", "5,2,3,4", "1,9,3,4", "1,2,1,4", "1,2,nan,4"]
)
def test_other_boxes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^box: expected x0,y0,x1,y1"):
        parse_box(text)


@given(st.text(min_size=1).filter(lambda t: not set(t) & set("@#")), frames, ids)
def test_frame_and_object_are_split_off(value: str, frame: int, number: int) -> None:
    assert split_target("box", f"{value}@{frame}#{number}") == (value, Target(frame, number))
    assert split_target("box", f"{value}@{frame}") == (value, Target(frame, 1))
    assert split_target("box", f"{value}#{number}") == (value, Target(0, number))
    assert split_target("box", value) == (value, Target(0, 1))


@given(st.text())
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        value, target = split_target("mask", text)
    except InputError as error:
        assert error.field == "mask"  # noqa: PT017 — most texts raise nothing
    else:
        assert value
        assert text.startswith(value)
        assert target.object_id >= 1


def test_file_names_may_hold_the_separators() -> None:
    assert split_target("mask", "icon@2x.png") == ("icon@2x.png", Target(0, 1))
    assert split_target("mask", "a#b@c.png@3#4") == ("a#b@c.png", Target(3, 4))


@pytest.mark.parametrize("text", ["1,2@3#0", "@3", "#2", ""])
def test_object_zero_and_nothing_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^box: expected"):
        split_target("box", text)


@given(frames, frames)
def test_a_range_is_read_back(first: int, more: int) -> None:
    last = min(first + more, 999_999_999)
    assert parse_range(f"{first}-{last}") == FrameRange(first, last)
    assert parse_range(f"{first}-") == FrameRange(first, None)
    assert parse_range(f"{first}") == FrameRange(first, first)
    assert parse_range(str(FrameRange(first, last))) == FrameRange(first, last)


@pytest.mark.parametrize(
    "text", ["", "-", "-5", "5-3", "a-b", "1-2-3", "1.5", " 1", "1_0", "٣", "9999999999"]
)
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^range: expected A-B"):
        parse_range(text)


@given(st.dictionaries(ids, st.text(min_size=1).filter(lambda t: bool(t.strip()))))
def test_labels_are_read_back(labels: dict[int, str]) -> None:
    read = parse_labels(f"{number}={name}" for number, name in labels.items())
    assert read == {number: name.strip() for number, name in labels.items()}


@pytest.mark.parametrize("texts", [["dog"], ["1="], ["1= "], ["=dog"], ["x=dog"], ["1=dog", "01=cat"]])
def test_other_labels_are_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"^label: "):
        parse_labels(texts)


def test_clicks_and_a_box_of_one_object_and_frame_become_one_prompt() -> None:
    placed = place_prompts(["1,2@4#7", "3,4,0@4#7", "9,9@4#8"], ["0,0,5,6@4#7", "0,0,7,7@2#8"], [])
    assert [p.target for p in placed] == [Target(2, 8), Target(4, 7), Target(4, 8)]
    both = placed[1].prompt
    assert both.points.tolist() == [[1, 2], [3, 4]]
    assert both.labels.tolist() == [1, 0]
    assert both.box.tolist() == [0, 0, 5, 6]
    assert placed[2].prompt.box is None


def test_prompts_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^prompt: expected at least one"):
        place_prompts([], [], [])
    with pytest.raises(InputError, match=r"^box: object 2 has two on frame 5; .* @5#3"):
        place_prompts([], ["0,0,1,1@5#2", "0,0,2,2@5#2"], [])
    path = tmp_path / "mask.png"
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    with pytest.raises(PromptError, match=r"^mask: excludes points"):
        place_prompts(["1,2"], [], [str(path)])


def test_a_mask_is_whatever_is_not_black(tmp_path: Path) -> None:
    expected = np.zeros((6, 9), np.bool_)
    expected[1:3, 2:7] = True
    for name, pixels in {"one": expected * np.uint8(1), "white": expected * np.uint8(255)}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        assert (read_mask(tmp_path / f"{name}.png") == expected).all()
    palette = Image.fromarray(expected * np.uint8(3))
    palette.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 128])
    palette.save(tmp_path / "palette.png")
    placed = place_prompts([], [], [f"{tmp_path / 'palette.png'}@3#2"])
    assert placed[0].target == Target(3, 2)
    assert (placed[0].prompt.mask == expected).all()


@pytest.mark.parametrize(("value", "found"), [(0, "everything is"), (255, "nothing is")])
def test_a_mask_without_an_edge_is_refused(tmp_path: Path, value: int, found: str) -> None:
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"^mask: expected black around .* {found} black"):
        read_mask(tmp_path / "mask.png")
