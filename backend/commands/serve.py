"""`edgetam serve`: the Label Studio backend, its workers and its queue on one machine, with one command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from backend.commands.leaving import leave
from backend.commands.options import HelpWithEnvironment, add_common_options, environment_of, need_server
from edgetam_model import EdgeTAMError, InputError

if TYPE_CHECKING:
    from flask import Flask

    from backend.commands.supervisor import Supervisor
    from backend.loading import BackgroundModel
    from backend.settings import Settings

PATIENCE = 1.0  # seconds that a request waits for a Redis that is away
LOADING = 3.0  # seconds that the end waits for a model that is being loaded
MOST_WORKERS = 64
THREADS = ("OMP_NUM_THREADS", "EDGETAM_THREADS")  # PyTorch's, and OpenVINO's
CONNECTIONS = 1000  # open at once; most of them wait for the next request
log = logging.getLogger(__name__)

_DESCRIPTION = """\
Serve Label Studio: images are answered at once, video tracks are done by worker
processes beside the server, jobs wait in a private Redis. Add the address that
is printed to a project under Settings > Model, or use `edgetam connect`."""

_EPILOG = """\
examples:
  edgetam serve
  edgetam serve --port 9091 --workers 2 --weights edgetam
  LABEL_STUDIO_URL=http://ls.example:8080 LABEL_STUDIO_API_KEY=... edgetam serve
  edgetam serve --workers 0 --redis redis://queue.example   server alone; workers
                                                            are elsewhere
SIGTERM and Ctrl-C stop all of it within seconds; tracks under way go on from
their last second at the next start.
Exit codes: 0 done, 1 failed, 2 bad input.

{environment}"""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `serve` to the command line."""
    parser = verbs.add_parser(
        "serve",
        help="serve Label Studio: server, workers and queue on one machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpWithEnvironment,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--host", metavar="H", help="address to listen on (0.0.0.0: all of this machine's)")
    parser.add_argument("--port", type=int, metavar="P", help="port to listen on (9090; 0: any that is free)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="worker processes beside it (%(default)s; 0: none)",
    )
    parser.add_argument("--image-threads", type=int, metavar="N", help="image requests computed at once (2)")
    add_common_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    need_server("the server")
    from backend.app import create_app
    from backend.commands.supervisor import Supervisor
    from backend.logs import Problems, set_up_logging
    from backend.queue_sweeper import sweeper
    from backend.services import queue_for, services_for
    from backend.settings import Settings

    if not 0 <= args.workers <= MOST_WORKERS:
        raise InputError("workers", f"expected 0 to {MOST_WORKERS}, got {args.workers}")
    environ = with_threads(environment_of(args, os.environ), args.workers)
    os.environ |= {name: environ[name] for name in THREADS}  # torch is not imported yet
    settings = Settings.from_env(environ)
    problems = Problems()
    set_up_logging(settings.log_level, as_json=args.log_json, problems=problems)
    with _stoppable() as stop, queue_for(settings, PATIENCE) as (queue, redis_url):
        services = services_for(settings, queue, problems)
        app = create_app(services)
        server = _listen(app, settings)
        watch = _ModelWatch(services.model)
        workers = Supervisor(
            _worker_command(args), args.workers, environ | {"REDIS_URL": redis_url}, watch.look
        )
        services.images.start()
        services.model.start()  # not before the address is ours: a process that ends inside torch aborts
        try:
            with sweeper(queue), workers:
                stop.workers = workers
                _announce(server, settings, args.workers, is_open=services.access.is_open)
                server.run()  # until the signal's SystemExit, which it takes for the end
        finally:
            services.images.close()
            services.models.close(LOADING)
    if services.models.is_loading or services.images.inside:  # waitress waits five seconds for answers
        leave()
    return watch.exit_code()


class _Server(Protocol):
    """What is needed of waitress's server."""

    @property
    def effective_host(self) -> str: ...

    @property
    def effective_port(self) -> int | str: ...

    def run(self) -> None: ...


def _listen(app: Flask, settings: Settings) -> _Server:
    """A server at its address; it answers as soon as `run` is called.

    Raises:
        InputError: the address cannot be used.
    """
    import waitress

    from backend.app import MAX_BODY_BYTES, WEB_THREADS

    try:
        server: _Server = waitress.create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=WEB_THREADS,
            connection_limit=CONNECTIONS,
            max_request_body_size=MAX_BODY_BYTES + 1,  # the application's own limit answers in JSON
            ident="edgetam",
            clear_untrusted_proxy_headers=not settings.trusted_proxies,  # else the gate reads them itself
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError("port", f"{settings.host}:{settings.port} cannot be listened on: {why}") from error
    return server


class _Stop:
    """Who is told when the process is asked to stop."""

    def __init__(self) -> None:
        self.workers: Supervisor | None = None
        self.asked = False


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    """SIGTERM and SIGINT end the main thread's work by SystemExit, once; workers begin to stop meanwhile."""
    stop = _Stop()

    def asked(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            return
        stop.asked = True
        if stop.workers is not None:
            stop.workers.stop()
        raise SystemExit(0)

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _ModelWatch:
    """Tells when the model is there; a model that cannot be loaded ends the server, which says why."""

    def __init__(self, model: BackgroundModel) -> None:
        self._model = model
        self._told = False

    def look(self) -> None:
        """Called again and again from beside the server."""
        if self._told or self._model.state == "loading":
            return
        self._told = True
        if self._model.state == "ready":
            log.info("ready: %s", self._model.description)
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    def exit_code(self) -> int:
        """0 after a stop that was asked for.

        Raises:
            EdgeTAMError: the model could not be loaded.
        """
        if self._model.state == "failed":
            raise EdgeTAMError(self._model.problem)
        return 0


def with_threads(environ: Mapping[str, str], workers: int) -> dict[str, str]:
    """The environment with the cores shared out between server and workers, unless it says otherwise.

    PyTorch gives every process all cores, and then threads wait for each other: on two cores a track of 40
    frames took 60 s and more, and 6 to 11 s with one thread a process.
    """
    share = max(1, (os.cpu_count() or 1) // (workers + 1))
    threads = environ.get("OMP_NUM_THREADS") or str(share)
    return {**dict.fromkeys(THREADS, threads), **environ}


def _worker_command(args: argparse.Namespace) -> list[str]:
    """A worker as a process; what it must know is in its environment, where no list of processes shows it."""
    command = [sys.executable, "-m", "edgetam_model.cli", "worker", "--end-with-stdin"]
    return [*command, "--log-json"] if args.log_json else command


def _announce(server: _Server, settings: Settings, workers: int, *, is_open: bool) -> None:
    """The one line on stdout, and a warning where anybody may come in."""
    host = server.effective_host
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  compared, not bound
    line = f"edgetam serve: http://{shown}:{server.effective_port} with weights {settings.weights or 'auto'}"
    sys.stdout.write(f"{line}, workers: {workers}; Ctrl-C stops it\n")
    sys.stdout.flush()
    if is_open and not host.startswith("127."):
        log.warning(
            "anybody who reaches port %s may use this server: set EDGETAM_TOKEN, or BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, or listen on --host 127.0.0.1",
            server.effective_port,
        )
