"""What `launch` runs in each further process of a training: `python -m edgetam_model.commands.follow`."""

from __future__ import annotations

import json
import os
import sys
import threading

from pydantic import TypeAdapter

from edgetam_model.commands.launch import READY
from edgetam_model.commands.training import TrainJob, follow_job
from edgetam_model.errors import EdgeTAMError
from edgetam_model.training.processes import Seat


def main() -> int:
    """Take a job and a seat from the standard input, and train until all is done; the exit code."""
    order = json.loads(sys.stdin.buffer.readline())
    job = TypeAdapter(TrainJob).validate_python(order["job"])
    seat = TypeAdapter(Seat).validate_python(order["seat"])
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
