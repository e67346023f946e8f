"""What the server is made of, put together in one place; nothing starts here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backend.access import Access
from backend.answers import Answers
from backend.embedded_redis import redis_for
from backend.fit_schedule import GatheringQueue
from backend.gate import Gate
from backend.images import ImageService
from backend.jobs import QueueStats, WorkerStatus
from backend.label_studio import LabelStudio
from backend.loading import BackgroundModel
from backend.logs import Problems
from backend.media import MediaIntake
from backend.metrics import Family, Requests, disk_families, process_families, queue_families
from backend.pages import Pages
from backend.project_models import ProjectModels
from backend.protocol import Projects
from backend.queue import JobQueue, QueueLimits
from backend.queue_rates import RedisBuckets
from backend.queue_store import connect
from backend.settings import Settings
from backend.status_page import StatusPages
from backend.video_requests import VideoRequests


class ServerQueue(GatheringQueue, Protocol):
    """What the server itself needs of `JobQueue`."""

    def stats(self) -> QueueStats: ...

    def workers(self) -> list[WorkerStatus]: ...


@dataclass(frozen=True)
class Services:
    """All that the routes use.

    Attributes:
        settings: as read.
        gate: who may come in, and how often.
        models: of the projects.
        images, answers: what /predict is answered by.
        queue: of jobs.
        projects: what they said of themselves.
        problems: the last ones, for the status page.
        requests: counts of them.
        pages: the status page; None: there is none.
    """

    settings: Settings
    gate: Gate
    models: ProjectModels
    images: ImageService
    answers: Answers
    queue: ServerQueue
    projects: Projects
    problems: Problems = field(default_factory=Problems)
    requests: Requests = field(default_factory=Requests)
    pages: Pages | None = None

    @property
    def access(self) -> Access:
        """What this server asks for."""
        return self.gate.access

    @property
    def model(self) -> BackgroundModel:
        """The base one, by whose state the server is ready or not."""
        return self.models.base

    def own_families(self) -> list[Family]:
        """Numbers of this process, for /metrics."""
        cache = self.images.cache
        encoded = [("", {"known": "yes"}, float(cache.hits)), ("", {"known": "no"}, float(cache.misses))]
        return [
            *self.requests.families(),
            Family.gauge("edgetam_model_ready", "1: the model is loaded.", self.model.state == "ready"),
            Family.gauge(
                "edgetam_model_load_seconds",
                "Until the model could answer; 0 before.",
                self.model.load_seconds,
            ),
            Family.gauge(
                "edgetam_versions_unusable",
                "Fine-tuned versions that cannot be loaded; the base weights answer for them.",
                len(self.models.problems()),
            ),
            Family.gauge("edgetam_images_inside", "Image requests that run or wait.", self.images.inside),
            Family("edgetam_images_total", "counter", "Images by whether they were encoded.", encoded),
            Family.gauge("edgetam_image_cache_bytes", "Memory of encoded images.", cache.used_bytes),
            *disk_families({"cache": self.settings.cache, "state": self.settings.state_dir}),
            *process_families(),
        ]

    def queue_families(self) -> list[Family]:
        """Numbers of the queue, for /metrics.

        Raises:
            QueueUnavailable: it cannot be asked.
        """
        return queue_families(self.queue.stats(), self.queue.workers())


def services_for(settings: Settings, queue: JobQueue, problems: Problems | None = None) -> Services:
    """The services that the settings ask for, over a queue; the model loads from its `start` on."""
    intake = MediaIntake(settings, LabelStudio.from_settings(settings))
    models = ProjectModels.from_settings(settings)
    images = ImageService(settings, intake)
    projects = Projects()
    problems = problems or Problems()
    return Services(
        settings=settings,
        gate=Gate.from_settings(settings, Access.from_settings(settings), RedisBuckets(queue.store)),
        models=models,
        images=images,
        answers=Answers(images, VideoRequests(settings, queue), projects, models),
        queue=queue,
        projects=projects,
        problems=problems,
        pages=StatusPages.from_settings(settings, queue, models, problems),
    )


@contextmanager
def queue_for(settings: Settings, patience: float) -> Iterator[tuple[JobQueue, str]]:
    """The job queue, and the address of its Redis: the one of REDIS_URL, else a private one.

    Args:
        settings: where it is, and how many jobs may wait.
        patience: about how many seconds a command waits for a Redis that is away.

    Raises:
        InputError: an address or a folder that cannot be used.
        QueueUnavailable: no Redis program is installed, or it does not start.
    """
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    limit = settings.queue_limit
    batches = 10 * limit
    share = max(1, round(batches * settings.project_share))
    limits = QueueLimits(interactive=limit, batch=batches, fit=limit, project=share)
    with redis_for(url, redis_folder(settings)) as address:
        redis = connect(address, patience)
        try:
            yield JobQueue(redis, limits), address
        finally:
            redis.close()


def redis_folder(settings: Settings) -> Path:
    """Where the private Redis keeps its files: below MODEL_DIR, else below the cache."""
    return (settings.model_dir or settings.cache).expanduser() / "redis"
