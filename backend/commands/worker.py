"""`edgetam worker`: does the queued work of a server, on its machine or on another."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backend.commands.leaving import leave
from backend.commands.options import HelpWithEnvironment, add_common_options, environment_of, need_server
from backend.jobs import QUEUES, JobFunction, QueueName
from edgetam_model import InputError

if TYPE_CHECKING:
    from backend.project_models import ProjectModels
    from backend.settings import Settings
    from backend.worker import Worker

PATIENCE = 10.0  # seconds that a worker waits for a Redis that is away, before the job is tried again later
LOADING = 3.0  # seconds that the end waits for a model that is being loaded
ALIVE = 5.0  # seconds between two touches of the file that probes look at

_DESCRIPTION = """\
Do queued work: video tracks first, then batches, then trainings. Start as many
as you like, on as many machines as you like, over one Redis; each does one job
at a time. A job whose worker dies goes on at another within seconds."""

_EPILOG = """\
examples:
  edgetam worker --redis redis://:PASSWORD@queue.example:6379/0
  edgetam worker --queues interactive               people only, no batches
  edgetam worker --alive /tmp/alive                 for a probe that looks at its age
A machine of its own needs the same LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY,
EDGETAM_ALLOWED_HOSTS and EDGETAM_WEIGHTS as the server; and MODEL_DIR on a disk
that both see, for versions that teams fine-tuned: base weights track without it.
SIGTERM and Ctrl-C stop it after the frame at hand; another goes on from there.
Exit codes: 0 done, 1 failed, 2 bad input.

{environment}"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `worker` to the command line."""
    parser = verbs.add_parser(
        "worker",
        help="do the queued work of a server (video tracks)",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpWithEnvironment,
    )
    parser.set_defaults(run=run)
    add_common_options(parser)
    parser.add_argument(
        "--queues",
        default=",".join(QUEUES),
        metavar="Q",
        help="which to serve, by commas (%(default)s)",
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="stop when standard input ends, as with a parent's death",
    )
    parser.add_argument(
        "--alive",
        type=Path,
        metavar="FILE",
        help="touch FILE every few seconds as long as the queue knows this worker, for probes",
    )


def run(args: argparse.Namespace) -> int:
    """Work until told to stop."""
    need_server("the worker")
    from backend.logs import set_up_logging
    from backend.project_models import ProjectModels
    from backend.services import queue_for
    from backend.settings import Settings
    from backend.worker import Worker

    queues = parse_queues(args.queues)
    settings = Settings.from_env(environment_of(args, os.environ))
    set_up_logging(settings.log_level, as_json=args.log_json)
    if args.end_with_stdin:
        threading.Thread(target=_stop_at_end, args=(sys.stdin.fileno(),), daemon=True).start()
    models = ProjectModels.from_settings(settings)
    models.base.start()  # the first track should not wait for it
    with queue_for(settings, PATIENCE) as (queue, _):
        worker = Worker(queue, job_functions(settings, models), queues)
        with signs_of_life(args.alive, worker):
            worker.work()
    models.close(LOADING)
    if models.is_loading:
        leave()
    return 0


@contextmanager
def signs_of_life(path: Path | None, worker: Worker) -> Iterator[None]:
    """Touch the file as long as the queue lists the worker, until the end of the `with`; None: no file.

    Raises:
        InputError: the file cannot be written.
    """
    from backend.queue_sweeper import Ticker

    if path is None:
        yield
        return

    def look() -> None:
        if any(known.name == worker.name for known in worker.queue.workers()):
            path.touch()

    try:
        path.unlink(missing_ok=True)  # of a worker before this one
        path.touch()
        path.unlink()
    except OSError as error:
        raise InputError("alive", f"{path} cannot be written: {error.strerror}") from error
    with Ticker("probe", ALIVE, look):
        yield
    path.unlink(missing_ok=True)


def job_functions(settings: Settings, models: ProjectModels) -> Mapping[str, JobFunction]:
    """Everything that a worker can do, by the kinds of jobs."""
    from backend import fit_schedule, video_work
    from backend.fit_job import fit_job
    from backend.tracking import track_job

    return {video_work.KIND: track_job(settings, models), fit_schedule.KIND: fit_job(settings)}


def parse_queues(text: str) -> list[QueueName]:
    """`interactive,batch` as names.

    Raises:
        InputError: none, or one that does not exist.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    chosen = [name for name in QUEUES if name in words]
    if not chosen or set(words) - set(chosen):
        raise InputError("queues", f"expected some of {', '.join(QUEUES)}, got {text:.80}")
    return chosen


def _stop_at_end(descriptor: int) -> None:
    """The server that started this worker holds the other end, and never writes."""
    while os.read(descriptor, 1024):  # not by `sys.stdin`: its lock would be in the way of the exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)
