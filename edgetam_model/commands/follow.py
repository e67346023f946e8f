"""What `launch` runs in each further process of a training: `python -m edgetam_model.commands.follow`."""

from __future__ import annotations

import os
import pickle
import sys
import threading

from edgetam_model.commands.launch import READY
from edgetam_model.commands.training import follow_job
from edgetam_model.errors import EdgeTAMError


def main() -> int:
    """Take a job and a seat from the standard input, and train until all is done; the exit code."""
    job, seat = pickle.load(sys.stdin.buffer)  # noqa: S301 from the process that started this one
    threading.Thread(target=_end_with_leader, name="edgetam-leader", daemon=True).start()
    try:
        follow_job(job, seat, _say_ready)
    except EdgeTAMError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say_ready() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


def _end_with_leader() -> None:
    """Nothing more comes through the standard input: its end is the end of the process that leads."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
