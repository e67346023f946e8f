"""The interactive protocols, with a tracker and a predictor whose mistakes are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from edgetam_model.annotated_clips import LabelledClip, read_clips
from edgetam_model.errors import InputError
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.interactive import (
    ClipInteraction,
    Interaction,
    InteractiveOptions,
    OnlineScore,
    count_clicks,
    interact_with_clip,
    offline_rounds,
    online_pass,
    still_curves,
)
from edgetam_model.prompts import Prompt
from edgetam_model.results import MaskResult
from edgetam_model.sources import Frame
from edgetam_model.video_tracker import VideoTracker
from tests.annotated import Labels, Oracle, two_objects, write_davis
from tests.models import tiny_model


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> LabelledClip:
    """13 frames of one object, scored on 1 to 11."""
    root = tmp_path_factory.mktemp("clips")
    write_davis(
        root, "toy", [np.where(labels == 1, labels, 0).astype(np.uint8) for labels in two_objects(13)]
    )
    return read_clips(root)[0]


def test_offline_rounds_correct_the_worst_frame(toy: LabelledClip) -> None:
    """Right for 3 frames after a prompt: frames 1–3, then 4–7 from a correction on 4, then all."""
    oracle = Oracle(toy, reach=3, clicks_needed=2)
    after = offline_rounds(oracle.as_tracker(), toy, InteractiveOptions(frames=4))
    assert after[:3] == pytest.approx((3 / 11, 7 / 11, 1))
    assert after[3] == 1
    prompts = oracle.sessions[0].prompts
    assert {frame: len(prompt.points) for (frame, _), prompt in prompts.items()} == {0: 2, 4: 2, 8: 2}


def test_clicks_per_frame_are_limited(toy: LabelledClip) -> None:
    oracle = Oracle(toy, reach=3, clicks_needed=4)
    after = offline_rounds(oracle.as_tracker(), toy, InteractiveOptions(frames=3))
    prompts = oracle.sessions[0].prompts
    assert {len(prompt.points) for prompt in prompts.values()} == {3}
    assert len({frame for frame, _ in prompts}) == 3  # another frame each round, though none got better
    assert max(after) < 0.1


@pytest.mark.parametrize(("frames", "jf", "stops"), [(8, 1, 2), (2, 7 / 11, 1), (1, 3 / 11, 0)])
def test_one_pass_stops_where_it_is_bad(toy: LabelledClip, frames: int, jf: float, stops: int) -> None:
    oracle = Oracle(toy, reach=3, clicks_needed=2)
    found = online_pass(oracle.as_tracker(), toy, InteractiveOptions(frames=frames))
    assert found.jf == pytest.approx(jf)
    assert (found.interventions, found.objects) == (stops, 1)
    assert sorted(frame for frame, _ in oracle.sessions[0].prompts) == [0, 4, 8][: stops + 1]


def test_a_low_threshold_lets_everything_pass(toy: LabelledClip) -> None:
    found = online_pass(Oracle(toy, reach=3).as_tracker(), toy, InteractiveOptions(threshold=0))
    assert found.interventions == 0


class Stripes:
    """Stands in for an `ImagePredictor`: with every click it understands a fifth more of the object."""

    def __init__(self, clip: LabelledClip) -> None:
        self.clip = clip
        self.frames = iter((0, 6, 12))  # the stills of 13 frames
        self.frame = -1

    def set_image(self, rgb: Frame) -> None:
        self.frame = next(self.frames)

    def predict(self, prompt: Prompt) -> MaskResult:
        truth, _ = self.clip.truth(self.frame, 1)
        pixels = np.argwhere(truth)
        mask = np.zeros_like(truth)
        mask[tuple(pixels[: round(len(pixels) * min(5, len(prompt.points)) / 5)].T)] = True
        logits = np.where(mask, 1, -1).astype(np.float32).repeat(16, axis=0).repeat(9, axis=1)  # a square
        return MaskResult(logits, truth.shape, 1.0, 1.0)


def test_clicks_on_stills(toy: LabelledClip) -> None:
    stripes = Stripes(toy)
    curves = still_curves(cast(ImagePredictor, stripes), toy, InteractiveOptions(stills=3))
    assert len(curves) == 3
    for curve in curves:
        assert curve == pytest.approx((0.2, 0.4, 0.6, 0.8, 1), abs=0.002)
    short = still_curves(
        cast(ImagePredictor, Stripes(toy)), toy, InteractiveOptions(stills=1, still_clicks=3)
    )
    assert [len(curve) for curve in short] == [3]


def test_counting_clicks() -> None:
    curves = [(0.5, 0.85, 0.92), (0.81,), (0.1, 0.2, 0.3)]
    good, better = count_clicks(curves, 0.8, 3), count_clicks(curves, 0.9, 3)
    assert (good.mean, good.failures) == pytest.approx((2, 1 / 3))
    assert (better.mean, better.failures) == pytest.approx((3, 2 / 3))
    with pytest.raises(InputError, match="curves"):
        count_clicks([], 0.8, 3)


def test_means_over_clips() -> None:
    options = InteractiveOptions(frames=2)
    clips = (
        ClipInteraction("a", ((0.95,),), (0.2, 0.4), OnlineScore(0.5, 3, 1)),
        ClipInteraction("b", ((0.1, 0.2), (0.5, 0.9)), (0.6, 0.6), OnlineScore(0.7, 0, 2)),
    )
    found = Interaction(options, clips)
    assert found.offline == pytest.approx((0.4, 0.5))
    assert (found.online_jf, found.interventions) == pytest.approx((0.6, 1))
    assert [count.mean for count in found.click_counts] == pytest.approx([23 / 3, 23 / 3])
    assert json.loads(json.dumps(found.to_dict()))["online"]["interventions_per_object"] == 1


@pytest.mark.parametrize("field", ["frames", "clicks", "stills", "still_clicks", "threshold"])
def test_options_are_checked(field: str) -> None:
    with pytest.raises(InputError, match=f"{field}: expected"):
        InteractiveOptions(**{field: -1})


def test_a_real_model_gets_through(tmp_path: Path) -> None:
    """Two objects, one of them late: clicks, corrections and tracking again, in one session."""
    truth: list[Labels] = two_objects(8, late=2)
    write_davis(tmp_path, "toys", truth)
    (clip,) = read_clips(tmp_path)
    options = InteractiveOptions(frames=3, clicks=2, stills=2, still_clicks=4)
    titles: list[str] = []
    found = interact_with_clip(
        VideoTracker(tiny_model()), clip, options, lambda *step: titles.append(step[0])
    )
    assert (len(found.stills), len(found.offline), found.online.objects) == (3, 3, 2)
    assert all(0 <= value <= 1 for value in (*found.offline, found.online.jf))
    expected = ["clicks on stills", "round 1", "round 2", "round 3", "one pass"]
    assert list(dict.fromkeys(titles)) == [f"toys, {what}" for what in expected]
