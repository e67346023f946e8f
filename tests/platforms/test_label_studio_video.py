"""Video in the real Label Studio: a person draws a box and presses t in Chromium."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.platforms import clips
from tests.platforms.browser import Editor
from tests.platforms.clips import BLUE, RED, Box, Clip
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.projects import VIDEO_CONFIG, Place, box_iou, box_on, ious, video_project
from tests.platforms.recorder import Exchange, Recorder
from tests.platforms.sdk import Sdk

pytestmark = pytest.mark.platforms

GOOD = 0.7  # IoU with the known object
THINNED = 1.01  # pixels by which boxes between keyframes may be off: `keyframe_tolerance`, and rounding
TRACK_SECONDS = 240  # for 60 frames on a busy machine; an idle one needs 4, one press or two


def _open(editor: Editor, label_studio: LabelStudio, backend: Recorder, clip: Clip) -> Place:
    place = video_project(label_studio, backend, clip)
    editor.open(place.project, place.task)
    return place


def _draw(editor: Editor, box: Box, label: str = "Ball") -> None:
    editor.choose(label)
    editor.draw(box)


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _press_t(editor: Editor, backend: Recorder) -> Exchange:
    """Press t once, and wait for what the editor makes of the answer."""
    return _answered(editor, backend, lambda: editor.press("t"))


def _click_label(editor: Editor, backend: Recorder, label: str) -> Exchange:
    """Click a class, and wait for what the editor makes of the answer."""
    return _answered(editor, backend, lambda: editor.click_label(label))


def _answered(editor: Editor, backend: Recorder, act: Callable[[], None]) -> Exchange:
    before = len(backend.interactive())
    act()
    editor.wait(lambda: len(backend.interactive()) > before)
    editor.settle()
    (exchange,) = backend.interactive()[before:]  # one press, one request
    assert exchange.status == 200, exchange.answered
    return exchange


def _track(editor: Editor, backend: Recorder, frames: int) -> dict[str, Any]:
    """Press t until every tracked region reaches the last frame; the regions by id."""
    deadline = time.monotonic() + TRACK_SECONDS
    while time.monotonic() < deadline:
        asked = _press_t(editor, backend).asked["params"]["context"]["result"]
        sent = {region["id"] for region in asked if region["type"] == "videorectangle"}
        regions = {region["id"]: region for region in editor.regions() if region["id"] in sent}
        if all(region["value"]["sequence"][-1]["frame"] == frames for region in regions.values()):
            return regions
    pytest.fail(f"no press in {TRACK_SECONDS} s reached frame {frames}")


def _only(regions: dict[str, Any]) -> Any:
    (region,) = regions.values()
    return region


def _near(regions: dict[str, Any], box: Box) -> Any:
    """The region that shows this box on the first frame."""
    return max(regions.values(), key=lambda region: box_iou(box_on(region, 1), box))


def _ordered(region: Any) -> bool:
    numbers = [keyframe["frame"] for keyframe in region["value"]["sequence"]]
    return numbers == sorted(set(numbers))


def test_a_box_and_t_make_a_track_that_submit_stores(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "one-object.mp4")
    place = _open(editor, label_studio, backend, clip)
    _draw(editor, clip.boxes[0][RED])
    editor.select(_middle(clip.boxes[0][RED]))
    editor.shoot("drawn")
    region = _only(_track(editor, backend, len(clip.boxes)))
    editor.shoot("tracked")
    editor.seek(30)
    editor.shoot("frame-30")

    fits = ious(region, clip, RED, range(1, len(clip.boxes) + 1))
    assert mean(fits) >= GOOD, fits
    assert min(fits) >= 0.5, fits
    assert _ordered(region)
    assert region["value"]["labels"] == ["Ball"]

    editor.submit()
    (stored,) = label_studio.annotations(place.task)
    assert stored["result"][0]["value"]["sequence"] == region["value"]["sequence"]
    assert stored["result"][0]["value"]["labels"] == ["Ball"]
    editor.wait(lambda: label_studio.predictions(place.task) != [])
    (prediction,) = label_studio.predictions(place.task)
    delivered = prediction["result"][0]
    assert (delivered["id"], delivered["value"]["labels"]) == (region["id"], ["Ball"])
    assert mean(ious(delivered, clip, RED, range(1, len(clip.boxes) + 1))) >= GOOD
    for kept in (stored, prediction):
        assert sdk.problems(VIDEO_CONFIG, {"result": kept["result"]}) == []
    _recorded(editor, backend, place.task)


def _recorded(editor: Editor, backend: Recorder, task: int) -> None:
    """Wait for the webhook of a task's one annotation: it counts towards its project's next training."""

    def created() -> list[Exchange]:
        events = [e for e in backend.of("/webhook") if e.asked["action"] == "ANNOTATION_CREATED"]
        return [event for event in events if event.asked["task"]["id"] == task]

    editor.wait(lambda: created() != [])
    (webhook,) = created()
    assert (webhook.status, webhook.answered["status"]) == (201, "recorded")
    assert webhook.seconds < 1  # Label Studio waits no longer
    address = f"/api/jobs/{webhook.answered['job_id']}"
    job = backend.ask(address)["job"]
    assert (job["kind"], job["title"]) == ("fit", f"training of project {webhook.asked['project']['id']}")
    assert job["state"] == "queued", "one annotation is not enough to begin"


def test_one_press_tracks_all_objects_of_the_class(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "two-objects.mp4")
    _open(editor, label_studio, backend, clip)
    first = clip.boxes[0]
    other = (200.0, 20.0, 260.0, 60.0)
    _draw(editor, first[RED])
    _draw(editor, first[BLUE])
    _draw(editor, other, "Post")
    editor.select(_middle(first[RED]))
    regions = _track(editor, backend, len(clip.boxes))
    editor.seek(len(clip.boxes))
    editor.shoot("tracked")

    assert len(regions) == 2
    for name in (RED, BLUE):
        fits = ious(_near(regions, first[name]), clip, name, range(1, len(clip.boxes) + 1))
        assert mean(fits) >= GOOD, (name, fits)
    assert all(region["value"]["labels"] == ["Ball"] for region in regions.values())
    (left,) = [region for region in editor.regions() if region["id"] not in regions]
    assert left["value"]["labels"] == ["Post"]
    assert len(left["value"]["sequence"]) == 1


def test_a_moved_box_is_tracked_again_from_there(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "corrected.mp4")
    place = _open(editor, label_studio, backend, clip)
    last, moved = len(clip.boxes), 20
    _draw(editor, clip.boxes[0][RED])
    editor.select(_middle(clip.boxes[0][RED]))
    before = _only(_track(editor, backend, last))

    editor.seek(moved)
    editor.drag(_middle(clip.boxes[moved - 1][RED]), _middle(clip.boxes[moved - 1][BLUE]))
    drawn = _keyframe(_only({region["id"]: region for region in editor.regions()}), moved)
    assert "edgetam" in drawn, "Label Studio keeps our mark when a person moves a tracked box"
    editor.shoot("moved")
    after = _only(_track(editor, backend, last))
    editor.seek(last)
    editor.shoot("tracked-again")

    kept = ("x", "y", "width", "height", "rotation", "enabled")
    assert [_keyframe(after, moved)[key] for key in kept] == [drawn[key] for key in kept]
    assert mean(ious(after, clip, RED, range(1, moved))) >= GOOD
    fits = ious(after, clip, BLUE, range(moved, last + 1))
    assert mean(fits) >= GOOD, fits
    assert _ordered(after)
    earlier = [keyframe for keyframe in before["value"]["sequence"] if 1 < keyframe["frame"] < moved]
    assert [k for k in earlier if k not in after["value"]["sequence"]] == [], "not computed again"
    for number in range(1, moved):
        assert box_on(after, number) == pytest.approx(box_on(before, number), abs=THINNED), number

    editor.submit()
    (stored,) = label_studio.annotations(place.task)
    marks = [keyframe.get("edgetam") for keyframe in stored["result"][0]["value"]["sequence"]]
    assert marks == [keyframe.get("edgetam") for keyframe in after["value"]["sequence"]]
    assert None not in marks


def _keyframe(region: Any, frame: int) -> Any:
    (found,) = [keyframe for keyframe in region["value"]["sequence"] if keyframe["frame"] == frame]
    return found


def test_what_is_hidden_is_not_shown_and_a_box_drawn_there_stays(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.behind_post(tmp_path / "hidden.mp4")
    _open(editor, label_studio, backend, clip)
    last = len(clip.boxes)
    hidden = [number for number in range(1, last + 1) if RED not in clip.boxes[number - 1]]
    _draw(editor, clip.boxes[0][RED])
    editor.select(_middle(clip.boxes[0][RED]))
    region = _only(_track(editor, backend, last))
    editor.seek(hidden[4])
    editor.shoot("behind-the-post")

    # A sliver of the disc is hard to see: two frames more or less at both ends.
    assert [n for n in hidden[2:-2] if box_on(region, n)] == []
    seen = [number for number in range(1, last + 1) if not hidden[0] - 4 <= number <= hidden[-1] + 4]
    fits = ious(region, clip, RED, seen)
    assert mean(fits) >= GOOD, fits

    editor.add_keyframe()
    editor.toggle_visible()
    x, y = _middle(box_on(_one(editor), hidden[4]) or (0, 0, 0, 0))
    editor.drag((x, y), (x + 4, y + 6))
    drawn = _keyframe(_one(editor), hidden[4])
    assert drawn["enabled"]
    editor.shoot("drawn-behind-the-post")
    _press_t(editor, backend)
    again = _one(editor)
    editor.shoot("tracked-again")
    kept = ("x", "y", "width", "height", "rotation")
    assert [_keyframe(again, hidden[4])[key] for key in kept] == [drawn[key] for key in kept]
    assert box_on(again, hidden[4]) is not None
    fits = ious(again, clip, RED, range(1, hidden[0] - 4))
    assert mean(fits) >= GOOD, fits
    assert box_on(again, hidden[2]) is None, "still hidden before the box that was drawn"


def _one(editor: Editor) -> Any:
    (region,) = [region for region in editor.regions() if region["type"] == "videorectangle"]
    return region


def test_a_typed_command_is_obeyed_and_stays(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "command.mp4")
    _open(editor, label_studio, backend, clip)
    start, length = 11, 8
    editor.seek(start)
    _draw(editor, clip.boxes[start - 1][BLUE])
    editor.select(_middle(clip.boxes[start - 1][BLUE]))
    editor.command(f"back {length}")
    editor.wait(lambda: len(_one(editor)["value"]["sequence"]) > 1)
    editor.shoot("tracked-back")

    region = _one(editor)
    assert {k["frame"] for k in region["value"]["sequence"]} <= set(range(start - length, start + 1))
    fits = ious(region, clip, BLUE, range(start - length, start + 1))
    assert mean(fits) >= GOOD, fits
    (command,) = [item for item in editor.regions() if item["type"] == "textarea"]
    assert command["value"]["text"] == [f"back {length}"]
    assert command["id"] == region["id"]


@pytest.mark.parametrize("button", [True, False], ids=["button-chosen", "button-not-chosen"])
def test_a_click_on_the_class_it_has_changes_no_track(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path, button: bool
) -> None:
    clip = clips.two_discs(tmp_path / "label.mp4")
    _open(editor, label_studio, backend, clip)
    _draw(editor, clip.boxes[0][RED])
    editor.select(_middle(clip.boxes[0][RED]))
    before = _only(_track(editor, backend, len(clip.boxes)))
    if ("Track" in editor.chosen()) != button:  # every press chooses it or lets it go
        _press_t(editor, backend)
    assert ("Track" in editor.chosen()) == button
    _click_label(editor, backend, "Ball")
    editor.shoot("without-a-class")
    assert "Ball" not in editor.chosen()
    _click_label(editor, backend, "Ball")
    editor.shoot("labelled-again")
    after = _one(editor)
    assert after["value"]["labels"] == ["Ball"]
    assert after["value"]["sequence"] == before["value"]["sequence"]


def test_a_class_chosen_after_the_track_is_the_class(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    clip = clips.two_discs(tmp_path / "later.mp4", frames=10)
    place = _open(editor, label_studio, backend, clip)
    editor.choose("Post")
    editor.click_label("Post")  # no class is chosen now, but blank
    editor.draw(clip.boxes[0][BLUE])
    editor.select(_middle(clip.boxes[0][BLUE]))
    _press_t(editor, backend)  # a second one the editor would not send, as long as no class is chosen
    editor.shoot("tracked-without-a-class")
    _click_label(editor, backend, "Ball")
    editor.shoot("labelled")
    assert _one(editor)["value"]["labels"] == ["Ball"]
    _track(editor, backend, len(clip.boxes))
    region = _one(editor)
    assert region["value"]["labels"] == ["Ball"]
    fits = ious(region, clip, BLUE, range(1, len(clip.boxes) + 1))
    assert mean(fits) >= GOOD, fits
    editor.submit()
    (stored,) = label_studio.annotations(place.task)
    assert stored["result"][0]["value"]["labels"] == ["Ball"]
