"""Tracks by fine-tuned versions: what a press was asked with tracks to the end, and is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr

from backend.delivery import Delivery
from backend.jobs import JobFunction, MemoryJob
from backend.label_studio import LabelStudio
from backend.loading import version_of
from backend.media import MediaIntake
from backend.project_models import ModelOptions, ProjectModels
from backend.queue import JobQueue
from backend.tracking import Tracking, track_job
from backend.video_requests import VideoRequests
from backend.video_work import TrackRequest, read_parts
from edgetam_model import VersionStore, WeightsError
from edgetam_model.demo_clip import BALL, DemoClip
from tests.backend.test_label_studio import LEGACY, Imitation
from tests.backend.tracking_fixtures import FRAMES, config, drawn, prepare, region, settings, task, work
from tests.backend.version_fixtures import P, add_version, damage, fine_tuned, line_of, v
from tests.backend.web_fixtures import local_fetcher, serving


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clip(media: Path) -> Iterator[DemoClip]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield prepare(media)
    torch.set_num_threads(before)


@pytest.fixture
def models(media: Path, clip: DemoClip, tmp_path: Path) -> ProjectModels:
    found = ProjectModels.from_settings(settings(media, model_dir=tmp_path))
    found.options = ModelOptions(retry_seconds=0)
    return found


@pytest.fixture
def store(models: ProjectModels) -> VersionStore:
    return models.store


@pytest.fixture
def track(media: Path, models: ProjectModels) -> JobFunction:
    return track_job(settings(media), models)


def own(number: int, seed: int) -> str:
    return f"edgetam-{v(number)}-{fine_tuned(seed).fingerprint()[:8]}"


def payload(clip: DemoClip, version: str = "", project: str = "7") -> Any:
    asked = {"task": 7, "media": "clip.mp4", "hostname": None, "from_name": "box", "to_name": "video"}
    asked |= {"command": "cmd", "rate": "25", "data": {}, "regions": [region([drawn(clip, BALL)])]}
    return asked | ({"project": project, "version": version} if version else {})


def tracked_by(job: MemoryJob) -> str:
    facts, found = read_parts(job.partials())
    assert facts is not None
    assert len(found["a"]) == FRAMES
    return facts.version


def boxes(job: MemoryJob) -> Any:
    return {frame: row.box for frame, row in read_parts(job.partials())[1]["a"].items()}


def test_a_job_is_tracked_by_the_version_that_it_was_asked_with(
    track: JobFunction, store: VersionStore, clip: DemoClip, models: ProjectModels
) -> None:
    line_of(store, 1, 2)
    base = version_of(models.base.get(60))
    named = {"v0001": own(1, 1), "v0002": own(2, 2), "base": base, "v0009": own(2, 2)}
    seen = []
    for label, version in named.items():
        job = MemoryJob(payload(clip, label))
        track(job)
        assert tracked_by(job) == version
        seen.append(str(boxes(job)))
    assert len(set(seen)) == 3


def test_jobs_of_the_release_before_know_no_versions(
    track: JobFunction, store: VersionStore, clip: DemoClip, models: ProjectModels
) -> None:
    line_of(store, 1)
    sent = payload(clip)
    assert (TrackRequest.read(sent).project, TrackRequest.read(sent).version) == ("", "")
    job = MemoryJob(sent)
    track(job)
    assert tracked_by(job) == version_of(models.base.get(0))


def halved(track: JobFunction, clip: DemoClip, version: str) -> MemoryJob:
    """A job whose worker left after some frames."""
    job = MemoryJob(payload(clip, version), stop_after=20)
    track(job)
    job.stop_after, job.stop_reason, job.attempt = None, "", 2
    return job


def test_a_resumed_job_goes_on_with_its_version(
    track: JobFunction, store: VersionStore, clip: DemoClip, media: Path, tmp_path: Path
) -> None:
    line_of(store, 1)
    whole = MemoryJob(payload(clip, "v0001"))
    track(whole)
    job = halved(track, clip, "v0001")
    line_of(store, 2)
    elsewhere = track_job(settings(media, model_dir=tmp_path))  # another worker
    elsewhere(job)
    assert tracked_by(job) == own(1, 1)
    assert boxes(job) == boxes(whole)


def test_a_track_never_mixes_versions(track: JobFunction, store: VersionStore, clip: DemoClip) -> None:
    line_of(store, 1)
    candidate = add_version(store, 2, parent=str(v(1)))
    job = halved(track, clip, "v0002")
    store.delete(candidate)
    with pytest.raises(WeightsError, match=f"began with {own(2, 2)}, which is gone: press again"):
        track(job)


def test_what_began_with_the_base_weights_ends_with_them(
    track: JobFunction, store: VersionStore, clip: DemoClip, models: ProjectModels
) -> None:
    line_of(store, 1)
    path = store.get(v(1)).folder / "weights.safetensors"
    sound = path.read_bytes()
    damage(store, v(1))
    job = halved(track, clip, "v0001")
    path.write_bytes(sound)  # the disk is back
    track(job)
    assert tracked_by(job) == version_of(models.base.get(0))
    later = MemoryJob(payload(clip, "v0001"))
    track(later)
    assert tracked_by(later) == own(1, 1)


def test_a_switch_makes_another_job_and_a_rollback_finds_the_first(
    queue: JobQueue,
    media: Path,
    store: VersionStore,
    clip: DemoClip,
    models: ProjectModels,
    track: JobFunction,
) -> None:
    requests = VideoRequests(settings(media), queue)
    context = {"result": [region([drawn(clip, BALL)])]}

    def press() -> Any:
        return requests.answer(task(), context, config(), models.serving("7"))["results"][0]

    def pressed() -> Any:
        press()
        work(queue, track)
        return press()

    line_of(store, 1)
    first = pressed()
    assert first["model_version"] == own(1, 1)
    [job] = queue.recent()
    sent = queue.payload(job.id)
    assert isinstance(sent, dict)
    assert (sent["project"], sent["version"]) == ("7", "v0001")
    line_of(store, 2)
    second = pressed()
    assert second["model_version"] == own(2, 2)
    assert second["result"] != first["result"]
    assert len(queue.recent()) == 2
    store.rollback(P, "v0001")
    assert press() == first
    assert len(queue.recent()) == 2


def test_a_stored_prediction_names_its_version(
    media: Path, store: VersionStore, clip: DemoClip, models: ProjectModels
) -> None:
    line_of(store, 1)
    with serving() as web:
        label_studio = Imitation(web)
        site = LabelStudio(web.url, SecretStr(LEGACY), local_fetcher(web))
        known = settings(media)
        run = Tracking(known, models, MediaIntake(known, None), Delivery(site, known)).run
        run(MemoryJob(payload(clip, "v0001")))
        [prediction] = label_studio.predictions.values()
    assert prediction["model_version"] == own(1, 1)
