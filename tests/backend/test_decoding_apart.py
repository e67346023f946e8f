"""Files that break their decoder: a job fails once with the reason, a click is refused, all else goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.images import ImageService
from backend.jobs import JobOptions
from backend.label_config import parse_label_config
from backend.media import MediaIntake
from backend.queue import JobQueue
from backend.tracking import track_job
from backend.video_work import TrackRequest, read_parts
from edgetam_model import MediaError
from edgetam_model.apart import decoder
from edgetam_model.demo_clip import BALL, DemoClip
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    click,
    image_task,
    picture,
    ready_model,
    services_in,
    settings_in,
)
from tests.backend.tracking_fixtures import FRAMES, drawn, prepared, region, settings, work

BROKEN = Path(__file__).parents[1] / "apart" / "broken.py"
CONFIG = parse_label_config(IMAGE_CONFIG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Iterator[DemoClip]:
    with prepared(folder) as made:
        for name in ("crash", "spin"):
            shutil.copy(made.path, folder / f"{name}.mp4")
        yield made


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders do what the file's name says."""
    monkeypatch.setattr(decoder, "PROGRAM", BROKEN)


def press(queue: JobQueue, clip: DemoClip, media: str) -> str:
    request = TrackRequest(
        task=7,
        media=media,
        hostname=None,
        from_name="box",
        to_name="video",
        command="cmd",
        rate="25",
        data={},
        regions=[region([drawn(clip, BALL)])],
    )
    return queue.enqueue("track", request.to_json(), JobOptions()).id


def test_a_job_whose_decoder_breaks_fails_once_with_the_reason(
    queue: JobQueue, folder: Path, clip: DemoClip
) -> None:
    """No attempt is made again, and the worker goes on with the next job."""
    jobs = {"spin": press(queue, clip, "spin.mp4")}
    work(queue, track_job(settings(folder, decode="apart", decode_seconds=3)))
    jobs |= {name: press(queue, clip, f"{name}.mp4") for name in ("crash", "clip")}
    work(queue, track_job(settings(folder, decode="apart")))
    found = {name: queue.status(job) for name, job in jobs.items()}
    told = {name: status and (status.state, status.error, status.attempt) for name, status in found.items()}
    assert told["crash"] == ("failed", "crash.mp4: the decoder stopped (signal 11, SIGSEGV)", 1)
    assert told["spin"] == ("failed", "spin.mp4: took more than 3 s to decode", 1)
    assert told["clip"] == ("done", "", 1)


def test_frames_decoded_apart_are_tracked_alike(queue: JobQueue, folder: Path, clip: DemoClip) -> None:
    results = []
    for decode in ("inside", "apart"):
        job = press(queue, clip, "clip.mp4")
        work(queue, track_job(settings(folder, decode=decode)))
        results.append(read_parts(queue.partials(job))[1]["a"])
    assert results[0] == results[1]
    assert len(results[0]) == FRAMES


def test_an_image_that_breaks_its_decoder_is_refused_and_the_next_is_answered(tmp_path: Path) -> None:
    apart = settings_in(tmp_path, EDGETAM_DECODE="apart")
    images = ImageService(apart, MediaIntake(apart, None))
    here = services_in(tmp_path).images
    picture(tmp_path / "good.png")
    context = {"result": [click(50, 50)]}
    # A header of an image, so that it comes as far as the decoder.
    (tmp_path / "bad.png").write_bytes(b"BM crash")
    images.start()
    with pytest.raises(MediaError, match="SIGSEGV"):
        images.answer(image_task("bad.png"), context, CONFIG, ready_model())
    answers = [one.answer(image_task("good.png"), context, CONFIG, ready_model()) for one in (images, here)]
    assert answers[0] == answers[1] is not None
    images.close()
