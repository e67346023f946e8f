from __future__ import annotations

import io
import json
import logging

import pytest

from backend.logs import KEPT, JsonLines, Plain, Problems, fields, set_up_logging


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("backend.x", level, __file__, 1, message, args, None)


def test_json_lines_are_one_object_each_with_their_fields() -> None:
    made = record("a %s\nb", "ü")
    made.__dict__.update(fields(route="/predict", status=200))
    line = JsonLines().format(made)
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == "a ü\nb"
    assert (found["level"], found["logger"]) == ("INFO", "backend.x")
    assert (found["route"], found["status"]) == ("/predict", 200)


def test_plain_lines_cannot_be_forged() -> None:
    assert "\n" not in Plain().format(record("event %r and %s", "x", "a\n12:00:00 ERROR forged"))


def test_tracebacks_are_logged_on_this_side_only() -> None:
    problems = Problems()
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        made = record("failed", level=logging.ERROR)
        made.exc_info = (type(error), error, error.__traceback__)
    assert "ZeroDivisionError" in json.loads(JsonLines().format(made))["traceback"]
    problems.handle(made)
    assert problems.recent()[0].message == "failed"


def test_the_last_problems_are_kept_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", io.StringIO())
    problems = Problems()
    try:
        root.handlers.clear()
        set_up_logging("INFO", problems=problems)
        for number in range(KEPT + 5):
            logging.getLogger("backend.test").warning("problem %d", number)
        logging.getLogger("backend.test").info("no problem")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    kept = problems.recent()
    assert len(kept) == KEPT
    assert kept[0].message == f"problem {KEPT + 4}"
    assert kept[0].level == "WARNING"
