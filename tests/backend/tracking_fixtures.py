"""The demo clip as a task, an untrained model's file, and a worker that tracks slowly and leaves a trace.

Run as a program, this is that worker: `python -m tests.backend.tracking_fixtures URL NAMESPACE FOLDER STEP`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backend.jobs import JSON, JobFunction, JobHandle
from backend.label_config import LabelConfig, parse_label_config
from backend.queue import JobQueue
from backend.queue_store import connect
from backend.settings import Settings
from backend.tracking import track_job
from backend.worker import Worker
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip, render_demo_clip
from edgetam_model.weights_file import save_weights
from tests.backend.queue_fixtures import ROOT, until
from tests.models import OBJECT_SCORE_BIAS, tiny_model

FRAMES, WIDTH, HEIGHT = 60, 160, 96
NAMES = {BALL: "a", LADYBIRD: "b"}
CONFIG = """
<View>
  <Labels name="videoLabels" toName="video"><Label value="Player"/><Label value="Ball"/></Labels>
  <Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
  <Video name="video" value="$video" frameRate="$fps"/>
  <VideoRectangle name="box" toName="video"/>
  <TextArea name="cmd" toName="video" perRegion="true"/>
</View>
"""


@dataclass(frozen=True)
class Marked:
    """Base weights of this fingerprint, of no known project."""

    mark: str = "sees"
    project: str = ""
    label: str = "base"

    def fingerprint(self, seconds: float) -> str:
        return self.mark


def config() -> LabelConfig:
    return parse_label_config(CONFIG)


def prepare(folder: Path) -> DemoClip:
    """The clip and two models: one sees its object everywhere, one never again after the prompt."""
    clip = render_demo_clip(folder / "clip.mp4", FRAMES, WIDTH, HEIGHT)
    model = tiny_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, bias in (("sees", 20.0), ("blind", -20.0)):
        state[OBJECT_SCORE_BIAS].fill_(bias)
        save_weights(folder / f"{name}.safetensors", state, model.config, trained=False)
    return clip


@contextmanager
def prepared(folder: Path) -> Iterator[DemoClip]:
    """`prepare`, with one thread of PyTorch until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield prepare(folder)
    torch.set_num_threads(before)


def settings(folder: Path, weights: str = "sees", answer_seconds: float = 0.0, **more: Any) -> Settings:
    return Settings(
        media_roots=(folder,),
        cache=folder / "cache",
        weights=str(folder / f"{weights}.safetensors"),
        device="cpu",
        answer_seconds=answer_seconds,
        **{"keyframe_tolerance": 0.0, "decode": "inside", **more},
    )


def task(number: int = 7, media: str = "clip.mp4") -> dict[str, Any]:
    return {"id": number, "data": {"video": media, "fps": 25}, "annotations": [], "drafts": []}


def drawn(clip: DemoClip, number: int, frame: int = 1, shift: float = 0.0, **more: Any) -> dict[str, Any]:
    """A person's keyframe: the object's box on frame 0 of the file, in percent."""
    x0, y0, x1, y1 = (float(edge) for edge in clip.prompts[number].box)
    share = {"x": x0 / WIDTH, "y": y0 / HEIGHT, "width": (x1 - x0) / WIDTH, "height": (y1 - y0) / HEIGHT}
    box = {name: 100 * value for name, value in share.items()}
    box["x"] += shift
    return {"frame": frame, "enabled": True, "rotation": 0, "time": frame / 25, **box, **more}


def region(
    keyframes: list[dict[str, Any]], name: str = "a", labels: tuple[str, ...] = ("Player",)
) -> dict[str, Any]:
    value: dict[str, Any] = {"framesCount": FRAMES, "duration": FRAMES / 25, "sequence": keyframes}
    if labels:
        value["labels"] = list(labels)
    return {
        "id": name,
        "from_name": "box",
        "to_name": "video",
        "type": "videorectangle",
        "origin": "manual",
        "value": value,
    }


def both(clip: DemoClip) -> dict[str, Any]:
    """A context with two objects of a class."""
    return {"result": [region([drawn(clip, number)], NAMES[number]) for number in (BALL, LADYBIRD)]}


def work(queue: JobQueue, function: JobFunction) -> None:
    """Do all that is due, in this process."""
    Worker(queue, {"track": function}).work(burst=True)


class Watched:
    """A job's handle that takes its time with every frame, and notes in Redis which ones were done.

    While the key `stall` is there, it gets no further, and the worker gives signs of life.
    """

    def __init__(self, job: JobHandle, queue: JobQueue, step: float) -> None:
        self._job = job
        self._queue = queue
        self._step = step
        self._frame = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def progress(self, done: float, total: float, note: str = "") -> None:
        self._frame = int(done)
        self._job.progress(done, total, note)

    def cancelled(self) -> bool:
        time.sleep(self._step)
        self._queue.store.redis.rpush(self._queue.store.key("frames", self._job.id), self._frame)
        while self._queue.store.redis.exists(self._queue.store.key("stall")):
            time.sleep(0.02)
        return self._job.cancelled()


def slowly(queue: JobQueue, function: JobFunction, step: float) -> JobFunction:
    def run(job: JobHandle) -> JSON:
        return function(Watched(job, queue, step))

    return run


@contextmanager
def tracking_process(
    queue: JobQueue, url: str, folder: Path, step: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, reaped at the end whatever happened to it."""
    command = [sys.executable, "-m", "tests.backend.tracking_fixtures", url, queue.store.namespace]
    environ: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(folder), str(step)], cwd=ROOT, env=environ)
    try:
        until(lambda: any(worker.pid == process.pid for worker in queue.workers()), 40)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = JobQueue(connect(sys.argv[1], patience=5), namespace=sys.argv[2])
    function = track_job(settings(Path(sys.argv[3])))
    Worker(own, {"track": slowly(own, function, float(sys.argv[4]))}).work()
