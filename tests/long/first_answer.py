"""How long a person waits for the first answer to the Track button: a benchmark, for an idle machine.

Starts `edgetam serve` with its default settings and weights, waits until its model is loaded, and sends what
Label Studio sends when somebody draws a box on a clip of 640×360 and presses t; each run has a clip of its
own, so that nothing is known of it. The same press again and again then fetches the rest.

    python -m tests.long.first_answer [--runs 3] [--frames 300] [--url URL --media DIR]

With `--url` it asks a server that runs already; DIR is then one of its EDGETAM_MEDIA_ROOTS.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetam_model.demo_clip import BALL, DemoScene
from edgetam_model.masks import mask_box
from edgetam_model.render import OverlayWriter
from tests.backend.tracking_fixtures import CONFIG
from tests.platforms.processes import free_port, running

WIDTH, HEIGHT, FPS = 640, 360, 25
START_SECONDS = 120  # of the server, and then of its model
PATIENCE = 110  # of a request, beyond Label Studio's own


@dataclass(frozen=True)
class Run:
    """One clip: when the first answer came and how far it reached, and when the whole track was there."""

    first_seconds: float
    first_frames: int
    whole_seconds: float
    presses: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="clips to ask for, one after another (3)")
    parser.add_argument("--frames", type=int, default=300, help="frames of each clip (300)")
    parser.add_argument("--url", help="of a server that runs; without it one is started")
    parser.add_argument("--media", type=Path, help="with --url: a folder that this server reads")
    options = parser.parse_args()
    if (options.url is None) != (options.media is None):
        parser.error("--url and --media belong together")
    with _served(options.url, options.media) as (url, folder):
        _until_ready(url)
        runs = [_run(url, folder, number, options.frames) for number in range(options.runs)]
    _report(runs, options.frames)


@contextmanager
def _served(url: str | None, media: Path | None) -> Iterator[tuple[str, Path]]:
    """A server's address and a folder that it reads."""
    if url and media:
        yield url.rstrip("/"), media
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {"EDGETAM_MEDIA_ROOTS": name, "EDGETAM_CACHE": f"{name}/cache", "MODEL_DIR": f"{name}/queue"}
        command = [sys.executable, "-m", "edgetam_model.cli", "serve"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--weights", "default"]
        address = f"http://127.0.0.1:{port}"
        with running(command, folder / "serve.log", f"{address}/health", START_SECONDS, env):
            yield address, folder


def _until_ready(url: str) -> None:
    """Wait for the model: people press the button long after the server was started."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            model = json.load(answer)["model"]
        if model["state"] == "ready":
            return
        time.sleep(0.2)
    raise TimeoutError(f"the model of {url} is {model['state']}")


def _run(url: str, folder: Path, number: int, frames: int) -> Run:
    clip = folder / f"first-answer-{os.getpid()}-{number}.mp4"
    region = _region(write_clip(clip, frames, seed=number), frames)
    task = {"id": number + 1, "data": {"video": clip.name, "fps": FPS}, "annotations": [], "drafts": []}
    began = time.monotonic()
    region = _press(url, task, region)
    first, reached = time.monotonic() - began, _last_frame(region)
    presses = 1
    while _last_frame(region) < frames and presses < frames:
        region, presses = _press(url, task, region), presses + 1
    clip.unlink()
    return Run(round(first, 3), reached, round(time.monotonic() - began, 3), presses)


def write_clip(path: Path, frames: int, seed: int) -> tuple[int, int, int, int]:
    """The demo scene, forward and backward until there are enough frames; the ball's box on the first one."""
    scene = DemoScene(frames=60, width=WIDTH, height=HEIGHT, seed=seed)
    once = [scene.frame(i)[0] for i in range(60)]
    there_and_back = once + once[-2:0:-1]
    with OverlayWriter(path, WIDTH, HEIGHT, FPS) as video:
        for i in range(frames):
            video.write(there_and_back[i % len(there_and_back)], i / FPS)
    box = mask_box(scene.frame(0)[1][BALL])
    assert box is not None
    return box


def _region(box: tuple[int, int, int, int], frames: int) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    place = {"x": x0 / WIDTH, "y": y0 / HEIGHT, "width": (x1 - x0) / WIDTH, "height": (y1 - y0) / HEIGHT}
    keyframe = {"frame": 1, "enabled": True, "rotation": 0, "time": 1 / FPS}
    keyframe |= {name: 100 * share for name, share in place.items()}
    ends = {"from_name": "box", "to_name": "video", "type": "videorectangle", "origin": "manual"}
    value = {"framesCount": frames, "duration": frames / FPS, "sequence": [keyframe], "labels": ["Ball"]}
    return {"id": "ball", **ends, "value": value}


def _press(url: str, task: dict[str, Any], region: dict[str, Any]) -> dict[str, Any]:
    """What Label Studio sends when t is pressed, and the region that comes back."""
    params = {"login": None, "password": None, "context": {"result": [region]}}
    body = {"tasks": [task], "project": "1.1700000000", "label_config": CONFIG, "params": params}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        (prediction,) = json.load(answer)["results"]
    (region,) = prediction["result"]
    return region


def _last_frame(region: dict[str, Any]) -> int:
    """How far the track is known; where the object is lost, its last keyframe says nothing of that."""
    anchor, *rest = region["value"]["sequence"]
    reach = (anchor.get("edgetam") or {}).get("onward") or {}
    return int(reach.get("reach", rest[-1]["frame"] if rest else anchor["frame"]))


def _report(runs: list[Run], frames: int) -> None:
    print(f"{'run':>3} {'first answer s':>15} {'frames in it':>13} {'whole track s':>14} {'presses':>8}")  # noqa: T201
    for number, run in enumerate(runs):
        row = f"{number:>3} {run.first_seconds:>15.2f} {run.first_frames:>13} {run.whole_seconds:>14.2f}"
        print(f"{row} {run.presses:>8}")  # noqa: T201
    worst = max(run.first_seconds for run in runs)
    print(json.dumps({"frames": frames, "worst_first_seconds": worst, "runs": [asdict(r) for r in runs]}))  # noqa: T201


if __name__ == "__main__":
    main()
