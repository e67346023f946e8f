"""Finished tracks as predictions in Label Studio, once, however often it is tried."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from backend.jobs import TryAgain
from backend.label_studio import LabelStudio, LabelStudioError
from backend.label_studio_records import NewPrediction
from backend.settings import Settings
from backend.video_keyframes import KeyframeOptions
from backend.video_work import Found, VideoWork

log = logging.getLogger(__name__)


class Delivery:
    """Stores predictions; without a Label Studio it says so once, and does nothing.

    Args:
        site: from the settings, None where LABEL_STUDIO_URL or LABEL_STUDIO_API_KEY is missing.
        settings: how keyframes are thinned.
    """

    def __init__(self, site: LabelStudio | None, settings: Settings) -> None:
        self._site = site
        self._options = KeyframeOptions(tolerance=settings.keyframe_tolerance)
        self._told = False

    def deliver(
        self,
        task: int | None,
        work: VideoWork,
        found: Found,
        version: str,
        job: str,
        *,
        project: str = "",
        may_retry: bool,
    ) -> str:
        """Store what a job found as the task's prediction of this version.

        Args:
            project: Label Studio's number of the one that the job says the task belongs to: whoever asked
                may have named another one's task. Empty: it does not say.
            may_retry: whether the job may be tried again where Label Studio does not answer.

        Returns:
            What came of it, for people.

        Raises:
            TryAgain: Label Studio does not answer.
        """
        if self._site is None:
            if not self._told:
                log.warning("tracks are not delivered: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
            self._told = True
            return "not delivered: no Label Studio is configured"
        if task is None or not any(plan.prompts for plan in work.plans):
            return "nothing to deliver"
        prediction = work.prediction(found, self._options, job, version)
        try:
            if project and not self._site.has_task(project, task):
                log.warning(
                    "the track of task %s is not delivered: project %s has no such task", task, project
                )
                return f"not delivered: Label Studio has no task {task} in project {project}"
            number = store(self._site, task, prediction)
        except LabelStudioError as error:
            passing = error.status is None or error.status == 429 or error.status >= 500
            if passing and may_retry:
                raise TryAgain(f"the track is done, but not delivered yet: {error}") from error
            log.warning("the track of task %s is not delivered: %s", task, error)
            return f"not delivered: {error}"
        return f"prediction {number}"


def store(site: LabelStudio, task: int, prediction: Mapping[str, Any]) -> int:
    """Store a prediction, with the regions that the task's last one of the same version has beside it.

    Classes are tracked by requests of their own: without that, each would replace the others' tracks.

    Returns:
        Its id.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    version, result = prediction["model_version"], list(prediction["result"])
    earlier = [p for p in site.list_predictions(task) if p.model_version == version]
    ids = {region["id"] for region in result}
    known = _regions(earlier[-1].result if earlier else None)
    others = [region for region in known if region["id"] not in ids]
    scores = [float(region["score"]) for region in others if isinstance(region.get("score"), int | float)]
    score = min([prediction["score"], *scores])
    return site.create_prediction(task, NewPrediction([*result, *others], score, version))


def _regions(result: object) -> Sequence[dict[str, Any]]:
    items = result if isinstance(result, list) else []
    return [item for item in items if isinstance(item, dict) and "id" in item]
