"""The words typed beside a region."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.video_command import Command, Direction, parse_command
from edgetam_model import InputError

WORDS: dict[str, Direction] = {"track": "forward", "back": "backward", "both": "both"}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", Command()),
        (" \n\t ", Command()),
        ("track", Command("forward")),
        ("track 100", Command("forward", count=100)),
        ("  BACK\t 50 ", Command("backward", count=50)),
        ("Both", Command("both")),
        ("both 7", Command("both", count=7)),
        ("to 300", Command("toward", until=300)),
        ("Stop", Command(stop=True)),
        ("fast", Command(quality="fast")),
        ("Track 100  FAST", Command("forward", count=100, quality="fast")),
        ("to 300 exact", Command("toward", until=300, quality="exact")),
    ],
)
def test_commands(text: str, command: Command) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to", "the number of a frame"),
        ("stop 5", "nothing after stop"),
        ("track 0", "from 1"),
        ("stop fast", "track 100"),
        ("fast track", "track 100"),
        ("track fast exact", "track 100"),
        ("back 50 60", "back 50"),
        ("track 10 back 5", "track 100"),
        ("track -5", "track 100"),
        ("track ten", "track 100"),
        ("track100", "track 100"),
        ("forward", "track 100"),
        ("track 1.5", "track 100"),
        ("track ٣", "track 100"),
        ("100", "track 100"),
        ("track " + "9" * 5000, "track 100"),
    ],
)
def test_errors_name_the_field_and_say_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_command(text)
    assert caught.value.field == "cmd"
    assert expected in caught.value.problem
    assert len(caught.value.problem) < 200


@given(st.sampled_from(sorted(WORDS)), st.integers(1, 10**9 - 1), st.text(" \t\n", min_size=1))
def test_a_number_is_read_whatever_the_spaces(word: str, number: int, space: str) -> None:
    text = f"{space}{word.title()}{space}{number}{space}"
    if len(text) <= 1000:
        assert parse_command(text) == Command(WORDS[word], count=number)


@given(st.text())
def test_any_text_is_a_command_or_an_input_error(text: str) -> None:
    try:
        command = parse_command(text)
    except InputError:
        return
    assert command.stop + (command.count is not None) + (command.until is not None) <= 1
