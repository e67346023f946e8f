"""Chaos: the whole stack under load, while things go wrong; then it is held against a calm run.

    python -m tests.chaos.run --minutes 30 [--seed 7] [--workers 3]

Prints the seed, what went wrong, and how it ended; exit code 1 where something did not hold. The short
version is `test_chaos`.

What is faked: the clock that jumps is Redis's (by libfaketime), as every time that the queue compares is; the
model is the untrained `tiny` one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.queue import JobQueue
from backend.queue_store import connect
from backend.video_work import Found
from tests.backend.server_fixtures import picture
from tests.backend.tracking_fixtures import prepare
from tests.backend.web_fixtures import serving
from tests.chaos.faults import Faults, MediaServer
from tests.chaos.load import TOKEN, Load, Track
from tests.chaos.programs import Clock, Program, edgetam, free_port, mounted, redis_program
from tests.chaos.verdict import (
    Memory,
    Report,
    flat,
    found_by,
    gathered,
    judge,
    plain,
    revive,
    settle,
    tracebacks,
)

MEMORY_EVERY = 2.0  # seconds
REDIS_DISK = 512  # MB: its append-only file is rewritten when it has doubled
CACHE_DISK = 32
CALM = 180.0  # seconds that the calm run may take on a busy machine


@dataclass(frozen=True)
class Plan:
    """How long, how many, how bad.

    Attributes:
        settle: seconds after the last fault within which every job must be over.
        growth: how much larger a process may be at the end than at the beginning.
        revived: dead letters that are tried again at the end.
    """

    seconds: float
    seed: int
    workers: int = 3
    people: int = 4
    settle: float = 120.0
    growth: float = 1.2
    revived: int = 10


@dataclass(frozen=True)
class Stack:
    """All that runs."""

    programs: Sequence[Program]
    load: Load
    media: MediaServer
    clock: Clock
    disks: Sequence[Path]
    skipped: list[str]


def chaos(plan: Plan, folder: Path) -> Report:
    """Calm, then chaos, then the verdict."""
    with stack(plan, folder) as all_of_it:
        load = all_of_it.load
        calm, answers = calm_run(load)
        faults = Faults(
            random.Random(plan.seed), all_of_it.programs, all_of_it.media, all_of_it.clock, all_of_it.disks
        )
        memory = Memory()
        begun = time.monotonic()
        with watched(memory, all_of_it.programs), load.running(plan.people, plan.seed):
            faults.run(plan.seconds)
        report = Report(plan.seed, time.monotonic() - begun, faults.done, all_of_it.skipped)
        report.settled = settle(load.queue, plan.settle)
        judge(report, load, calm, answers)
        gathered(report, load)
        revive(report, load, calm, plan.revived, plan.settle)
        report.clicks, report.deliveries, report.statuses = load.clicks, load.deliveries, load.statuses
        flat(report, memory, plan.growth)
        report.wrong += load.wrong
        report.wrong += tracebacks(program.log for program in all_of_it.programs)
        return report


def calm_run(load: Load) -> tuple[dict[int, Found], dict[int, str]]:
    """What each variant's boxes and answer are, and each click's, when nothing is wrong."""
    tracks = [Track(4 * (variant + 1), variant) for variant in range(load.VARIANTS)]
    for track in tracks:
        load.press(track)
    for number in range(load.CLICKS):
        load.images[number] = load.click(number) or ""
    settle(load.queue, CALM)
    calm, answers = {}, {}
    for track in tracks:
        (job,) = load.jobs(track.task)
        assert job.state == "done", job
        calm[track.variant] = found_by(load.queue, job)[0]
        answers[track.variant] = plain(load.answer_of(track), job.id)
    assert len(set(answers.values())) == load.VARIANTS, "variants cannot be told apart"
    assert all('"results": [{' in answer for answer in load.images.values()), "a click found nothing"
    return calm, answers


@contextmanager
def stack(plan: Plan, folder: Path) -> Iterator[Stack]:
    """Redis, a server, workers and a server of media, all ready; everything is gone at the end."""
    with ExitStack() as held:
        media_folder = folder / "media"
        media_folder.mkdir()
        clip = prepare(media_folder)
        for number in range(3):
            picture(media_folder / f"{number}.png", 96, 64, number)
        web = held.enter_context(serving())
        media = MediaServer((media_folder / "clip.mp4").read_bytes())
        web.routes["/clip.mp4"] = media.answer
        disks, skipped = _disks(held, folder)
        clock = Clock(folder / "clock")
        if clock.library is None:
            skipped.append("clock jumps: libfaketime is not installed (apt-get install libfaketime)")
        redis, redis_url = redis_program(folder, folder / "redis", clock)
        url = f"http://127.0.0.1:{free_port()}"
        environ = _environ(folder, redis_url, web.port)
        programs = [redis, _server(folder, url, environ), *_workers(plan, folder, environ)]
        for program in programs:
            held.callback(program.stop)
        for program in programs[:1] + programs[2:] + programs[1:2]:  # Redis, workers, the server
            program.ready()
        queue = JobQueue(connect(redis_url, patience=10))
        held.callback(queue.store.redis.close)
        load = Load(url, web.url, queue, clip)
        yield Stack(programs, load, media, clock, disks, skipped)


def _disks(held: ExitStack, folder: Path) -> tuple[list[Path], list[str]]:
    """Two small disks, for Redis and for the cache; those that could not be mounted are not filled."""
    disks, skipped = [], []
    for name, size in (("redis", REDIS_DISK), ("cache", CACHE_DISK)):
        problem = held.enter_context(mounted(folder / name, size))
        if problem:
            skipped.append(f"a full disk ({name}): {problem}")
        else:
            disks.append(folder / name)
    return disks, skipped


def _environ(folder: Path, redis_url: str, media_port: int) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "EDGETAM_WEIGHTS": str(folder / "media" / "sees.safetensors"),
        "EDGETAM_DEVICE": "cpu",
        "EDGETAM_MEDIA_ROOTS": str(folder / "media"),
        "EDGETAM_ALLOWED_HOSTS": f"127.0.0.1:{media_port}",
        "EDGETAM_CACHE": str(folder / "cache"),
        "EDGETAM_MEDIA_CACHE_BYTES": "8MiB",
        "EDGETAM_MAX_MEDIA_BYTES": "4MiB",
        "EDGETAM_STALL_SECONDS": "2",
        "EDGETAM_FETCH_SECONDS": "20",
        "EDGETAM_ANSWER_SECONDS": "0.2",
        "EDGETAM_KEYFRAME_TOLERANCE": "0",
        "EDGETAM_TOKEN": TOKEN,
        "EDGETAM_FIT_AFTER": "1000000",  # annotations are gathered, and nobody learns from them
        "EDGETAM_FIT_MINUTES": "10080",
        "MODEL_DIR": str(folder / "state"),
    }


def _server(folder: Path, url: str, environ: dict[str, str]) -> Program:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1) as response:
                return b'"state":"ready"' in response.read().replace(b" ", b"")
        except OSError:
            return False

    words = ("serve", "--workers", "0", "--host", "127.0.0.1", "--port", url.rpartition(":")[2])
    return Program("server", "server", edgetam(*words), folder / "server.log", environ, answers)


def _workers(plan: Plan, folder: Path, environ: dict[str, str]) -> list[Program]:
    return [
        Program(f"worker {n}", "worker", edgetam("worker"), folder / f"worker-{n}.log", environ)
        for n in range(plan.workers)
    ]


@contextmanager
def watched(memory: Memory, programs: Sequence[Program]) -> Iterator[None]:
    """Look at the memory again and again while the block runs."""
    end = threading.Event()

    def look() -> None:
        while not end.wait(MEMORY_EVERY):
            memory.look(programs)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def main(words: Sequence[str] | None = None) -> int:
    """0 where all held."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.run", description="Chaos, see the file's head."
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of the logs, which stays")
    args = parser.parse_args(words)
    print(f"seed {args.seed}", flush=True)  # noqa: T201  a program's output, as below
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        report = chaos(Plan(60 * args.minutes, args.seed, args.workers), folder)
    print("\n".join(report.lines()))  # noqa: T201
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
