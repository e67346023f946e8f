"""Log lines for people or for machines, and the last problems in memory. Neither has bodies or secrets."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

FIELDS = "fields"  # the attribute of a log record that holds its structured part
KEPT = 100  # problems
LETTERS = 500  # of one problem that are kept


def fields(**values: str | int | float | bool | None) -> dict[str, object]:
    """The `extra` of a log call: what a machine should find without reading the sentence."""
    return {FIELDS: values}


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, ASCII."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Plain(logging.Formatter):
    """A line for a terminal, its message on one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base class's name
        """The line without a traceback; what came from outside cannot begin a line of its own."""
        record.message = " ".join(record.message.split())
        return super().formatMessage(record)


@dataclass(frozen=True)
class Problem:
    """Something that went wrong, in plain words. `time`: seconds since 1970."""

    time: float
    level: str
    message: str


class Problems(logging.Handler):
    """Keeps the last warnings and errors for the status page: Label Studio itself shows none."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[Problem] = deque(maxlen=KEPT)
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, without its traceback."""
        problem = Problem(time.time(), record.levelname, record.getMessage()[:LETTERS])
        with self._guard:
            self._kept.append(problem)

    def recent(self) -> list[Problem]:
        """The last problems, newest first."""
        with self._guard:
            return list(reversed(self._kept))


def set_up_logging(level: str, *, as_json: bool = False, problems: Problems | None = None) -> None:
    """Send all log records of this process to stderr, and problems to `problems` as well.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        as_json: JSON lines instead of text.
        problems: keeps the last ones.
    """
    stderr = logging.StreamHandler()
    stderr.setFormatter(JsonLines() if as_json else Plain())
    handlers: list[logging.Handler] = [stderr] if problems is None else [stderr, problems]
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits
