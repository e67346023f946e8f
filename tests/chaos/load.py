"""People at work: tracks, clicks, cancelled jobs and events, asked for again until somebody answers.

What Label Studio and people do when a request fails is the same: they ask again. What was answered once must
be done once.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from backend.jobs import JobStatus, QueueUnavailable
from backend.queue import JobQueue
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip
from tests.backend import tracking_fixtures as tracking
from tests.backend.server_fixtures import IMAGE_CONFIG, click, image_task, predict_body

TOKEN = "chaos"
PATIENCE = 0.3  # seconds before a request is tried again
PROJECTS = (1, 2)
EVENTS_EACH = 400  # annotations of a project
MEDIA = ("clip.mp4", "{web}/clip.mp4")  # below the roots, and from a web server
LOOK = 0.3


@dataclass
class Track:
    """A track that was asked for.

    Attributes:
        task: Label Studio's id; every track has its own.
        variant: what is drawn; two tracks of one variant must come out the same.
        cancel: whether somebody stops it after a moment.
        accepted: whether the server ever said yes.
    """

    task: int
    variant: int
    cancel: bool = False
    accepted: bool = False


@dataclass
class Load:
    """Everything that is asked, and what came back.

    Attributes:
        url: of the server.
        web: of the server that videos are fetched from.
        queue: to see what the server has done; asked past it, since it may be dead.
        images: what each click was answered with when nothing was wrong.
        wrong: what must not be.
    """

    url: str
    web: str
    queue: JobQueue
    clip: DemoClip
    tracks: list[Track] = field(default_factory=list)
    images: dict[int, str] = field(default_factory=dict)
    clicks: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    events: dict[int, set[int]] = field(default_factory=lambda: {project: set() for project in PROJECTS})
    deliveries: int = 0
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    VARIANTS = 4
    CLICKS = 12

    @contextmanager
    def running(self, people: int, seed: int) -> Iterator[None]:
        """People who press, one who clicks, and Label Studio that sends events, until the block ends."""
        work: list[Callable[[], None]] = [self._press_on(random.Random(seed + n)) for n in range(people)]
        work += [self._click_on(random.Random(seed + 100)), self._tell_on(random.Random(seed + 200))]
        threads = [threading.Thread(target=self._guarded(one), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)

    def press(self, track: Track) -> dict[str, Any] | None:
        """Ask for a track, until the server takes it; None: it is over before that."""
        body = self.track_body(track)
        while not self.over.is_set():
            status, answer = self.post("/predict", body)
            if status == 200:
                track.accepted = True
                return answer
            self._pause(status, answer)
        return None

    def answer_of(self, track: Track) -> dict[str, Any]:
        """Ask once more, when nothing is wrong any more."""
        status, answer = self.post("/predict", self.track_body(track))
        assert status == 200, answer
        return answer

    def click(self, number: int) -> str | None:
        """The answer to one of the clicks as text, asked for until there is one."""
        image, place = divmod(number, 4)
        context = {"result": [click(20 + 15 * place, 30 + 10 * place, "k1")]}
        body = predict_body(image_task(f"{image}.png"), config=IMAGE_CONFIG, context=context)
        while not self.over.is_set():
            status, answer = self.post("/predict", body)
            if status == 200:
                return json.dumps(answer, sort_keys=True)
            self._pause(status, answer)
        return None

    def jobs(self, task: int) -> list[JobStatus]:
        """The jobs of a task, newest first."""
        return [job for job in self.queue.recent(10_000) if job.title.startswith(f"task {task}:")]

    def track_body(self, track: Track) -> dict[str, Any]:
        """What Label Studio sends when t is pressed; for every fourth track, to retrieve predictions."""
        name = (BALL, LADYBIRD)[track.variant % 2]
        shift = 1.0 if track.variant >= 2 else 0.0
        region = tracking.region([tracking.drawn(self.clip, name, shift=shift)], tracking.NAMES[name])
        task = tracking.task(track.task, MEDIA[track.task % 2].format(web=self.web))
        if track.task % 4 == 3:
            task["annotations"] = [{"id": 1, "result": [region]}]
            return predict_body(task, config=tracking.CONFIG)
        return predict_body(task, config=tracking.CONFIG, context={"result": [region]})

    def post(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0 and nothing where no answer came."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        asked = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        status, answer, raw = 0, dict[str, Any](), ""
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                status, raw = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read().decode()
        except (OSError, http.client.HTTPException):
            pass  # killed, paused or starting
        if raw:
            answer = json.loads(raw)
        with self.guard:
            self.statuses[f"{path.split('/')[1]} {status}"] += 1
        if status == 500 or "Traceback" in raw:
            self.wrong.append(f"{path}: {status}: {raw[:300]}")
        return status, answer

    def _pause(self, status: int, answer: dict[str, Any]) -> None:
        """Refused or not answered: wait. What is refused for good must have a cause that passes."""
        if status == 400:
            with self.guard:
                self.statuses[f"400 {answer['error']['problem'][:60]}"] += 1
        self.over.wait(PATIENCE)

    def _press_on(self, rng: random.Random) -> Callable[[], None]:
        def work() -> None:
            while not self.over.is_set():
                with self.guard:
                    task = 100 + len(self.tracks)
                    cancel = rng.random() < 0.1
                    track = Track(task, rng.randrange(self.VARIANTS), cancel)
                    self.tracks.append(track)
                if self.press(track) is not None:
                    self._await(track, rng)

        return work

    def _await(self, track: Track, rng: random.Random) -> None:
        """Wait for a track as somebody does who watches the status page; some lose patience."""
        cancel_at = time.monotonic() + rng.uniform(0, 3)
        while not self.over.is_set():
            try:
                jobs = self.jobs(track.task)
            except QueueUnavailable:
                jobs = []
            if jobs and all(job.is_over for job in jobs):
                return
            if track.cancel and jobs and time.monotonic() > cancel_at:
                self.post(f"/api/jobs/{jobs[0].id}/cancel", {})
            self.over.wait(LOOK)

    def _click_on(self, rng: random.Random) -> Callable[[], None]:
        def work() -> None:
            while not self.over.is_set():
                number = rng.randrange(self.CLICKS)
                answer = self.click(number)
                if answer is not None:
                    self.clicks += 1
                    if answer != self.images[number]:
                        self.wrong.append(f"click {number} was answered otherwise than before")
                self.over.wait(0.5)

        return work

    def _tell_on(self, rng: random.Random) -> Callable[[], None]:
        """Events as a network delivers them: each at least once, some three times, in any order."""

        def work() -> None:
            events = [
                (p, n) for p in PROJECTS for n in range(1, EVENTS_EACH + 1) for _ in range(rng.randint(1, 3))
            ]
            rng.shuffle(events)
            for project, number in events:
                body = {
                    "action": "ANNOTATION_UPDATED",
                    "project": {"id": project},
                    "annotation": {"id": number},
                }
                while not self.over.is_set() and self.post("/webhook", body)[0] != 201:
                    self.over.wait(PATIENCE)
                if self.over.is_set():
                    return
                self.events[project].add(number)
                self.deliveries += 1
                self.over.wait(0.2)

        return work

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        """What ends one of the people is told, not lost with a thread."""

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  the end of a thread
                self.wrong.append(f"the load ended: {error!r}")

        return run
