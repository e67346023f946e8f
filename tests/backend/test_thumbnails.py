"""Pictures of jobs: small, coloured where the masks are, and never too many bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.jobs import PICTURE_LIMIT, JobLost, JobOptions, MemoryJob
from backend.queue import JobQueue
from backend.thumbnails import SIDE, SeenFrames, thumbnail
from backend.tracking import track_job
from backend.video_work import TrackRequest
from edgetam_model import FrameResult, InputError, ObjectResult, open_source
from tests.backend.queue_fixtures import lose, running, take
from tests.backend.tracking_fixtures import both, prepare
from tests.backend.tracking_fixtures import settings as tracking_settings

SIZE = (90, 160)  # H, W


def found(mask: NDArray[np.bool_], state: str = "visible") -> ObjectResult:
    logits = np.where(mask, 8.0, -8.0).astype(np.float32)
    return ObjectResult(logits, mask.shape, 0.9, 4.0, state, object_id=1, prompted=False)  # type: ignore[arg-type]


def box_mask(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def decoded(jpeg: bytes) -> NDArray[np.int64]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(picture)[..., ::-1].astype(np.int64)


def shot(rgb: NDArray[np.uint8], *objects: ObjectResult) -> NDArray[np.int64]:
    result = FrameResult(3, 0.12, dict(enumerate(objects, start=1)))
    return decoded(thumbnail(rgb, result))


def test_the_mask_is_coloured_and_the_rest_is_the_frame() -> None:
    grey = np.full((*SIZE, 3), 100, np.uint8)
    picture = shot(grey, found(box_mask(SIZE, 40, 20, 80, 60)))
    assert picture.shape == (*SIZE, 3)
    red, _, blue = picture[40, 60]
    assert red > blue + 40  # the first object's orange
    assert np.abs(picture[5:15, 100:150] - 100).max() < 8


def test_large_frames_become_small_and_a_speck_stays_to_be_seen() -> None:
    size = (1080, 1920)
    grey = np.full((*size, 3), 100, np.uint8)
    picture = shot(grey, found(box_mask(size, 600, 300, 604, 304)))
    assert picture.shape == (SIDE * 9 // 16, SIDE, 3)
    assert np.abs(picture[50, 100] - 100).max() > 20
    upright = shot(np.zeros((1920, 1080, 3), np.uint8))
    assert upright.shape == (SIDE, SIDE * 9 // 16, 3)


@pytest.mark.parametrize("state", ["absent", "lost"])
def test_what_is_not_seen_is_not_drawn(state: str) -> None:
    grey = np.full((*SIZE, 3), 100, np.uint8)
    assert np.abs(shot(grey, found(box_mask(SIZE, 40, 20, 80, 60), state)) - 100).max() < 8


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    objects=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_it_never_has_more_bytes_than_a_job_may_show(
    seed: int, height: int, width: int, objects: int
) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    masks = [rng.random((height, width)) < 0.5 for _ in range(objects)]
    result = FrameResult(0, 0.0, {i: found(mask) for i, mask in enumerate(masks, start=1)})
    jpeg = thumbnail(noise, result)
    job = MemoryJob({})
    job.picture(jpeg)
    assert job.shown == jpeg
    assert max(decoded(jpeg).shape[:2]) == min(SIDE, max(height, width))


def test_more_bytes_than_that_are_refused() -> None:
    with pytest.raises(InputError, match="expected at most 20000 bytes, got 20001"):
        MemoryJob({}).picture(bytes(PICTURE_LIMIT + 1))


def test_the_last_frame_that_was_given_out_is_remembered() -> None:
    frames = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8)
    with open_source(frames) as source:
        seen = SeenFrames(source)
        assert (len(seen), seen.info, seen.last) == (6, source.info, None)
        walk = seen.frames(1, 4)
        assert [next(walk)[0], next(walk)[0]] == [1, 2]
        assert seen.last is not None
        assert (seen.last[0], int(seen.last[1][0, 0, 0])) == (2, 2)  # not what was read ahead
        walk.close()
        assert int(seen.read(5)[0, 0, 0]) == 5
        assert seen.last[0] == 2
        assert [index for index, _ in seen.frames(3, 1, reverse=True)] == [3, 2, 1]
        assert seen.last[0] == 1


def test_a_picture_is_kept_as_long_as_a_result_and_replaced(queue: JobQueue) -> None:
    job = running(queue, JobOptions(result_ttl=900))
    assert queue.picture(job.id) is None
    for jpeg in (b"one", b"two"):
        job.picture(jpeg)
        assert queue.picture(job.id) == jpeg
    assert 890 <= int(queue.store.redis.ttl(queue.store.key("picture", job.id))) <= 900
    job.settle("done", "null")
    assert queue.picture(job.id) == b"two"
    with pytest.raises(InputError, match="picture"):
        job.picture(bytes(PICTURE_LIMIT + 1))


def test_a_worker_that_lost_its_job_shows_nothing(queue: JobQueue) -> None:
    zombie = running(queue)
    lose(queue, zombie)
    heir = take(queue)
    assert heir is not None
    heir.picture(b"heir")
    with pytest.raises(JobLost):
        zombie.picture(b"zombie")
    assert queue.picture(heir.id) == b"heir"


def test_a_track_shows_its_last_frame(tmp_path: Path) -> None:
    clip = prepare(tmp_path)
    names = {"from_name": "box", "to_name": "video", "command": None, "rate": "25"}
    request: dict[str, Any] = {"task": 7, "media": "clip.mp4", "hostname": None, "data": {}, **names}
    job = MemoryJob(TrackRequest.read({**request, "regions": both(clip)["result"]}).to_json())
    track_job(tracking_settings(tmp_path))(job)
    assert job.shown is not None
    with open_source(clip.path) as source:
        last = source.read(len(source) - 1).astype(np.int64)
    difference = np.abs(decoded(job.shown) - last).max(axis=2)
    assert np.median(difference) < 30  # that frame
    assert (difference > 60).sum() > 20  # with something drawn on it
