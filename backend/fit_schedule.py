"""When annotations lead to a training: one job for each project, which gathers events until it is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from backend.jobs import Enqueued, Gathering, JobOptions, JSONDict
from backend.settings import Settings

KIND = "fit"  # of the jobs
TIMEOUT = 12 * 3600  # seconds that one attempt may take; a training stops by itself long before
ATTEMPTS = 5  # tries, the last after 80 s: as long as a Label Studio takes to restart


class GatheringQueue(Protocol):
    """What is needed of `JobQueue`."""

    def gather(
        self,
        kind: str,
        payload: JSONDict,
        gathering: Gathering,
        things: Sequence[str] = (),
        options: JobOptions | None = None,
    ) -> Enqueued: ...


@dataclass(frozen=True)
class FitSchedule:
    """How long annotations are waited for.

    Attributes:
        after: so many new or changed annotations begin a training; 0: nothing but a request does.
        seconds: after the first of them it begins with fewer.
        result_ttl: seconds that the ended job is kept.
    """

    after: int = 20
    seconds: float = 1800.0
    result_ttl: int = 24 * 3600

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """As configured."""
        return cls(settings.fit_after, settings.fit_minutes * 60, settings.result_ttl)

    def annotated(self, queue: GatheringQueue, project: int, annotations: Sequence[str]) -> str | None:
        """Annotations were made, changed or deleted: have the model learn from them in time.

        Args:
            queue: where the job goes.
            project: of Label Studio.
            annotations: their ids; however often one changes, it counts once.

        Returns:
            The job's id; None: trainings begin on request alone.

        Raises:
            QueueFull, QueueUnavailable: it is not kept.
        """
        if self.after == 0:
            return None
        return self._gather(queue, project, self.after, annotations)

    def requested(self, queue: GatheringQueue, project: int) -> str:
        """Somebody wants a training now: the job that waits for annotations begins. Raises as `annotated`."""
        return self._gather(queue, project, 0, ())

    def _gather(self, queue: GatheringQueue, project: int, count: int, annotations: Sequence[str]) -> str:
        gathering = Gathering(f"{KIND}:{project}", count, self.seconds, "annotations")
        options = JobOptions(
            queue="fit",
            project=str(project),
            title=f"training of project {project}",
            timeout=TIMEOUT,
            max_attempts=ATTEMPTS,
            result_ttl=self.result_ttl,
        )
        return queue.gather(KIND, {"project": project}, gathering, annotations, options).id
