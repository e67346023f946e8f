"""Many people at one server: clicks on images from ten of them at once, two tracks, and a look at /health."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from edgetam_model.demo_clip import DemoClip, render_demo_clip
from tests.backend.server_fixtures import IMAGE_CONFIG, click, image_task, picture, predict_body
from tests.backend.tracking_fixtures import CONFIG as VIDEO_CONFIG

PEOPLE = 10
IMAGES = 5
LOOK = 0.05  # seconds between two looks at /health
FPS = 25


@dataclass
class Seen:
    """What the server did. Times in seconds; `statuses`: how many answers of each."""

    statuses: Counter[int] = field(default_factory=Counter)
    clicks: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    presses: list[float] = field(default_factory=list)

    def line(self) -> str:
        """For people."""
        clicks, health = sorted(self.clicks), sorted(self.health)
        return (
            f"{len(clicks)} clicks: median {clicks[len(clicks) // 2]:.2f} s, slowest {clicks[-1]:.2f} s; "
            f"first answers of the tracks {', '.join(f'{press:.2f}' for press in self.presses)} s; "
            f"{len(health)} looks at /health: median {1000 * health[len(health) // 2]:.0f} ms, "
            f"slowest {1000 * health[-1]:.0f} ms; statuses {dict(self.statuses)}"
        )


@dataclass(frozen=True)
class Crowd:
    """Ten people with images, and one with two videos.

    Attributes:
        url: of the server.
        folder: where its images and its video lie; it must be among the server's EDGETAM_MEDIA_ROOTS.
        clip: the video.
        size: (W, H) of its frames and of the images, in pixels.
        seen: what came of it.
    """

    url: str
    folder: Path
    clip: DemoClip
    size: tuple[int, int]
    seen: Seen = field(default_factory=Seen)

    def click_all(self, rounds: int) -> None:
        """Everybody clicks `rounds` times, all at the same time."""
        with ThreadPoolExecutor(PEOPLE) as pool:
            list(pool.map(lambda person: self._click(person, rounds), range(PEOPLE)))

    def press(self, task: int) -> dict[str, Any]:
        """Press t on both objects of a video; the answer."""
        body = predict_body(_video_task(task), config=VIDEO_CONFIG, context={"result": self._drawn()})
        answer, seconds = self._post(body)
        self.seen.presses.append(seconds)
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """As the status page shows them."""
        with urlopen(f"{self.url}/api/jobs", timeout=60) as response:
            found: list[dict[str, Any]] = json.load(response)["jobs"]
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at /health again and again, as Label Studio does with each page."""
        end = threading.Event()
        thread = threading.Thread(target=self._watch, args=(end.is_set,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _watch(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            begun = time.monotonic()
            with urlopen(f"{self.url}/health", timeout=60) as response:
                self.seen.statuses[response.status] += 1
            self.seen.health.append(time.monotonic() - begun)
            time.sleep(LOOK)

    def _click(self, person: int, rounds: int) -> None:
        for turn in range(rounds):
            task = image_task(f"{person % IMAGES}.png", number=100 + person)
            context = {"result": [click(20 + 5 * person, 30 + 9 * (turn % 5))]}
            answer, seconds = self._post(predict_body(task, config=IMAGE_CONFIG, context=context))
            assert answer["results"], answer
            self.seen.clicks.append(seconds)

    def _post(self, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        asked = Request(
            f"{self.url}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        begun = time.monotonic()
        try:
            with urlopen(asked, timeout=100) as response:  # as long as Label Studio waits
                status, answer = response.status, json.load(response)
        except HTTPError as error:
            with error:
                status, answer = error.code, json.load(error)
        self.seen.statuses[status] += 1
        assert status == 200, answer
        return answer, time.monotonic() - begun

    def _drawn(self) -> list[dict[str, Any]]:
        frames = len(self.clip.masks)
        found = []
        for name, prompt in self.clip.prompts.items():
            x0, y0, x1, y1 = (
                100 * float(edge) / side for edge, side in zip(prompt.box, 2 * self.size, strict=True)
            )
            box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
            keyframe = {"frame": 1, "enabled": True, "time": 1 / FPS, **box}
            value: dict[str, Any] = {"framesCount": frames, "duration": frames / FPS}
            value |= {"sequence": [keyframe], "labels": ["Player"]}
            ends = {"from_name": "box", "to_name": "video", "type": "videorectangle"}
            found.append({"id": f"region {name}", **ends, "value": value})
        return found


def crowd_at(url: str, folder: Path, frames: int, width: int, height: int) -> Crowd:
    """The crowd, its images and its video."""
    for number in range(IMAGES):
        picture(folder / f"{number}.png", width, height, number)
    clip = render_demo_clip(folder / "clip.mp4", frames, width, height)
    return Crowd(url, folder, clip, (width, height))


def _video_task(number: int) -> dict[str, Any]:
    return {"id": number, "data": {"video": "clip.mp4", "fps": FPS}, "annotations": [], "drafts": []}
