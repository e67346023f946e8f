"""The track job by itself: its way through the video, and going on from any checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from backend import tracking
from backend.delivery import Delivery
from backend.frame_map import FrameMap
from backend.jobs import JobFunction, MemoryJob, TryAgain
from backend.label_studio import LabelStudio
from backend.media import MediaIntake
from backend.media_cache import MediaCache
from backend.project_models import ProjectModels
from backend.tracking import Leg, Tracking, legs_of, track_job
from backend.video_plan import plan_request
from backend.video_work import TrackRequest, VideoWork, read_parts
from edgetam_model import InputError, MediaError
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip
from edgetam_model.masks import decode_rle, mask_box
from tests.backend.test_label_studio import LEGACY, Imitation
from tests.backend.tracking_fixtures import FRAMES, drawn, prepared, region, settings
from tests.backend.video_json import FRAMES as MAP
from tests.backend.video_json import SIZE, command, keyframe, read
from tests.backend.video_json import region as drawing
from tests.backend.web_fixtures import Answer, local_fetcher, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Iterator[DemoClip]:
    with prepared(folder) as made:
        yield made


@pytest.fixture(scope="module")
def track(folder: Path, clip: DemoClip) -> JobFunction:
    return track_job(settings(folder))


def payload(*items: Any, media: str = "clip.mp4") -> dict[str, Any]:
    return TrackRequest(
        task=7,
        media=media,
        hostname=None,
        from_name="box",
        to_name="video",
        command="cmd",
        rate="25",
        data={},
        regions=list(items),
    ).to_json()


def three(clip: DemoClip) -> dict[str, Any]:
    """An object forward and backward from frame 30, one that comes in at 20, one that is done at 50."""
    items = [
        *(region([drawn(clip, BALL, 30)], "a"), command("both", "a")),
        *(region([drawn(clip, LADYBIRD, 20)], "b"), command("track", "b")),
        *(region([drawn(clip, BALL, 10), drawn(clip, BALL, 40)], "c"), command("to 50", "c")),
    ]
    return payload(*items)


def legs(*items: Any) -> list[tuple[int, int, tuple[int, ...]]]:
    frames: FrameMap = MAP
    return [
        (leg.start, leg.stop, leg.regions)
        for leg in legs_of(plan_request(read(*items), frames, SIZE), frames)
    ]


def test_the_way_is_cut_where_regions_come_and_go() -> None:
    a, b = drawing(keyframe(101)), drawing(keyframe(201), name="b")
    assert legs(a) == [(100, 299, (0,))]
    assert legs(a, b) == [(100, 199, (0,)), (200, 299, (0, 1))]
    assert legs(a, b, command("both"), command("back 150", "b")) == [
        (100, 299, (0,)),
        (200, 101, (1,)),
        (100, 50, (0, 1)),
        (49, 0, (0,)),
    ]
    assert legs(drawing(keyframe(1), keyframe(200)), command("track 20")) == [(0, 20, (0,)), (199, 219, (0,))]
    assert legs(a, command("stop")) == []
    assert Leg(5, 3, reverse=True, regions=(0,)).frames == 3


def test_every_frame_that_is_asked_for_is_there(track: JobFunction, clip: DemoClip) -> None:
    job = MemoryJob(three(clip))
    result = track(job)
    assert isinstance(result, dict)
    assert result["complete"]
    assert not result["short"]
    facts, found = read_parts(job.partials())
    assert facts is not None
    assert not VideoWork.of(TrackRequest.read(job.payload), facts).lacks(found)
    assert {name: (min(rows), max(rows)) for name, rows in found.items()} == {
        "a": (0, FRAMES - 1),
        "b": (19, FRAMES - 1),
        "c": (9, 49),
    }
    done, total, note = job.reports[-1]
    assert done == total == result["total"]
    assert "frames/s" in note


@pytest.mark.parametrize("stop", [1, 45, 80])
def test_a_stopped_job_goes_on_to_the_same_boxes(
    track: JobFunction, clip: DemoClip, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "HAND_IN", 0.05)  # many checkpoints
    whole, halves = MemoryJob(three(clip)), MemoryJob(three(clip), stop_after=stop)
    track(whole)
    first = track(halves)
    assert isinstance(first, dict)
    assert (first["frames"], first["complete"]) == (stop + 1, False)
    halves.stop_after, halves.stop_reason, halves.attempt = None, "", 2
    second = track(halves)
    assert isinstance(second, dict)
    assert second["complete"]
    assert second["frames"] == second["total"]
    expected, found = read_parts(whole.partials())[1], read_parts(halves.partials())[1]
    assert {name: list(rows) for name, rows in found.items()} == {n: list(r) for n, r in expected.items()}
    rows_of_a = [
        row
        for part in halves.parts
        if isinstance(part, dict) and isinstance(part.get("frames"), dict)
        for row in part["frames"].get("a", [])  # type: ignore[union-attr]
    ]
    assert len(rows_of_a) == FRAMES + 1  # nothing twice but the drawn box, which is followed both ways
    for name, rows in expected.items():
        for frame, box in rows.items():
            assert found[name][frame].box == box.box
            assert found[name][frame].score == pytest.approx(box.score, abs=1e-3)


def test_a_delivery_that_fails_is_tried_again_without_tracking_again(
    track: JobFunction, folder: Path, clip: DemoClip
) -> None:
    with serving() as web:
        label_studio = Imitation(web)
        site = LabelStudio(web.url, SecretStr(LEGACY), local_fetcher(web))
        own = settings(folder)
        parts = (ProjectModels.from_settings(own), MediaIntake(own, None), Delivery(site, own))
        run = Tracking(own, *parts).run
        job = MemoryJob(payload(region([drawn(clip, BALL)]), command("track 9")))
        label_studio.refusals["GET", "/api/predictions/"] = Answer(status=503)
        with pytest.raises(TryAgain, match="503"):
            run(job)
        label_studio.refusals.clear()
        job.attempt, asked = 2, job.asked
        result = run(job)
        assert isinstance(result, dict)
        assert (result["frames"], result["delivery"]) == (10, "prediction 1")
        assert job.asked == asked  # no frame was done again
        [prediction] = label_studio.predictions.values()
        [item] = prediction["result"]  # without the typed command
        assert [k["frame"] for k in item["value"]["sequence"]] == list(range(1, 11))
        assert item["value"]["sequence"][-1]["enabled"] is False


@pytest.mark.parametrize(("status", "error"), [(503, TryAgain), (404, MediaError)])
def test_a_server_that_does_not_answer_now_is_asked_again(
    folder: Path, clip: DemoClip, status: int, error: type[Exception]
) -> None:
    with serving() as web:
        web.routes["/clip.mp4"] = Answer(status=status)
        own = settings(folder)
        run = track_job(own, intake=MediaIntake(own, None, local_fetcher(web)))
        with pytest.raises(error, match=str(status)):
            run(MemoryJob(payload(region([drawn(clip, BALL)]), media=f"{web.url}/clip.mp4")))


def test_a_fetch_that_another_has_under_way_is_waited_for_by_another_attempt(
    folder: Path, clip: DemoClip
) -> None:
    with serving() as web, ThreadPoolExecutor(1) as pool:
        web.routes["/clip.mp4"] = Answer(b"slow" * 1000, pause_s=0.3)
        own, address = settings(folder), f"{web.url}/clip.mp4"

        def intake() -> MediaIntake:
            cache = MediaCache(own.media_cache_dir, 10**9, wait_s=0.1)
            return MediaIntake(own, None, local_fetcher(web), cache)

        def fetch() -> None:
            with intake().open(address, task_id=1):
                pass

        fetching = pool.submit(fetch)
        while not list(own.media_cache_dir.glob("parts/*")):
            assert not fetching.done()
            time.sleep(0.01)
        with pytest.raises(TryAgain, match="has been fetching this file"):
            track_job(own, intake=intake())(MemoryJob(payload(region([drawn(clip, BALL)]), media=address)))
        assert isinstance(fetching.exception(), MediaError), "it was no video"


def test_checkpoints_do_not_grow_with_the_video(track: JobFunction, clip: DemoClip) -> None:
    sizes = []
    for stop in (25, 50):
        job = MemoryJob(payload(region([drawn(clip, BALL)])), stop_after=stop)
        track(job)
        assert job.saved is not None
        sizes.append(len(job.saved))
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"task": 1}, "TrackRequest"),
        (payload(media="gone.mp4"), "no such file"),
        (payload(media="notes.txt"), "neither an image nor a video"),
    ],
)
def test_what_cannot_be_done_is_named(
    track: JobFunction, folder: Path, sent: dict[str, Any], words: str
) -> None:
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=words):
        track(MemoryJob(json.loads(json.dumps(sent))))


def test_a_video_that_is_too_long_is_refused(folder: Path, clip: DemoClip) -> None:
    with pytest.raises(MediaError, match="limit of 1 s"):
        track_job(settings(folder, max_seconds=1))(MemoryJob(payload(region([drawn(clip, BALL)]))))


def test_a_box_thinner_than_a_pixel_is_tracked(track: JobFunction, clip: DemoClip) -> None:
    thin = {**drawn(clip, BALL), "width": 1e-4, "height": 1e-4}
    result = track(MemoryJob(payload(region([thin]), command("track 3"))))
    assert isinstance(result, dict)
    assert result["complete"]


def test_the_shipped_weights_follow_the_ladybird(folder: Path, clip: DemoClip) -> None:
    model = settings(folder).model_copy(update={"weights": "default"})
    job = MemoryJob(payload(region([drawn(clip, LADYBIRD)], "b"), command("track 19", "b")))
    track_job(model)(job)
    facts, found = read_parts(job.partials())
    assert facts is not None
    truth = [mask_box(decode_rle(masks[LADYBIRD])) for masks in clip.masks[:20]]
    overlaps = [overlap(found["b"][n].box, box) for n, box in enumerate(truth)]
    assert sum(overlaps) / len(overlaps) > 0.6


def overlap(a: Any, b: Any) -> float:
    """IoU of two boxes."""
    if a is None or b is None:
        return float(a is b)
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return float(inter / (sum(areas) - inter))
