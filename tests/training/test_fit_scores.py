"""Scores against what the doors answer to the same prompts, with the smallest model there is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.masks import Mask, mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.prompts import Prompt
from edgetam_model.sources import Frame, FrameSource
from edgetam_model.training.annotations import (
    AnnotatedObject,
    AnnotatedTask,
    BoxShape,
    Given,
    MaskShape,
    PolygonShape,
    Sighting,
)
from edgetam_model.training.fit_scores import ObjectScore, ScoreOptions, given_prompt, score_clips, unscored
from edgetam_model.training.task_clips import ClipOptions, TaskClip, task_clips
from edgetam_model.video import open_source
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip, tiny_model, windowed_model

SIZE = (60, 96)  # H, W
FRAMES = np.stack(clip(14, *SIZE))
DISC, SQUARE = (40, 40, 15), (30, 20, 9)  # x, y, half a side


def around(x: int, y: int, half: int, frame: int = 0) -> Mask:
    """A square on its way to the right."""
    mask = np.zeros(SIZE, np.bool_)
    mask[max(0, y - half) : y + half, max(0, x + frame - half) : x + frame + half] = True
    return mask


def seen(frame: int, where: tuple[int, int, int] = DISC, given: Given | None = None) -> Sighting:
    return Sighting(frame, MaskShape.of(around(*where, frame)), given=given)


def thing(number: int, *sightings: Sighting, absent: tuple[range, ...] = ()) -> AnnotatedObject:
    return AnnotatedObject(number, ("cat",), sightings, absent)


def clips_of(task: AnnotatedTask, options: ClipOptions | None = None) -> list[TaskClip]:
    frames = FRAMES[:1] if task.kind == "image" else FRAMES
    return list(task_clips([task], lambda _: open_source(frames), options or ClipOptions()))


def image(*objects: AnnotatedObject) -> AnnotatedTask:
    return AnnotatedTask("7", "image", "7.png", objects, group="film")


def video(*objects: AnnotatedObject) -> AnnotatedTask:
    return AnnotatedTask("v", "video", "v.mp4", objects)


def tracked(model: EdgeTAM, first: int, prompt: Prompt) -> dict[int, Mask]:
    """What a session makes of it, by frame."""
    with VideoTracker(model).open(FRAMES) as session:
        session.add_prompt(first, 1, prompt)
        return {result.frame: result.objects[1].mask for result in session.propagate()}


CLICKS = Given(points=((50.0, 50.0), (5.0, 5.0)), labels=(1, 0))  # percent


@pytest.mark.parametrize("model", [tiny_model(), windowed_model()], ids=["tiny", "windowed"])
def test_an_image_is_scored_from_the_prompt_that_a_person_gave(model: EdgeTAM) -> None:
    clips = clips_of(image(thing(1, seen(0, given=CLICKS)), thing(2, seen(0, SQUARE))))
    clicked, boxed = score_clips(model, clips)
    predictor = ImagePredictor(model)
    predictor.set_image(FRAMES[0])
    points = [[0.5 * SIZE[1], 0.5 * SIZE[0]], [0.05 * SIZE[1], 0.05 * SIZE[0]]]
    found = predictor.predict(Prompt(points=points, labels=[1, 0])).mask
    assert clicked == ObjectScore("7", 1, "image", "given", mask_iou(found, around(*DISC)), "film")
    x, y, half = SQUARE
    found = predictor.predict(Prompt(box=[x - half, y - half, x + half, y + half])).mask
    assert boxed == ObjectScore("7", 2, "image", "box", mask_iou(found, around(*SQUARE)), "film")
    assert (boxed.masks[0].mask() == found).all()
    assert (boxed.masks[0].frame, boxed.masks[0].score) == (0, boxed.score)
    assert 0 < clicked.score < 1
    assert boxed.unit == "film"


def test_an_image_is_encoded_once_for_all_its_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[int, ...]] = []
    whole = ImagePredictor.set_image

    def counting(self: ImagePredictor, rgb: Frame) -> None:
        encoded.append(rgb.shape)
        whole(self, rgb)

    monkeypatch.setattr(ImagePredictor, "set_image", counting)
    scores = score_clips(tiny_model(), clips_of(image(*(thing(n, seen(0)) for n in range(1, 6)))))
    assert len(scores) == 5
    assert len(encoded) == 1


@pytest.mark.parametrize(
    "given",
    [
        None,
        Given(),
        Given(points=((50.0, 50.0),), labels=(0,)),
        Given(box=BoxShape(150, 150, 10, 10, (100.0, 100.0))),
        Given(box=BoxShape(50, 50, 1e-12, 1e-12, (100.0, 100.0))),
    ],
    ids=["unknown", "nothing", "negative", "outside", "no size"],
)
def test_prompts_of_no_use_give_way_to_the_box_of_the_truth(given: Given | None) -> None:
    assert given_prompt(seen(0, given=given), SIZE) is None
    (score,) = score_clips(tiny_model(), clips_of(image(thing(1, seen(0, given=given)))))
    assert score.prompt == "box"


def test_rectangles_and_empty_masks_are_counted_and_not_scored() -> None:
    speck = PolygonShape((((5.1, 5.1), (5.2, 5.1), (5.2, 5.2)),), SIZE)
    boxed = thing(2, Sighting(0, BoxShape(2, 3, 10, 8, SIZE)))
    task = image(thing(1, seen(0)), boxed, thing(3, Sighting(0, speck)))
    ticks: list[int] = []
    clips = clips_of(task, ClipOptions(boxes=True))
    scores = score_clips(tiny_model(), clips, tick=lambda: ticks.append(1))
    assert [score.object for score in scores] == [1]
    assert unscored(clips, scores) == 2
    assert len(ticks) == 3
    track = thing(1, Sighting(0, speck), Sighting(3, BoxShape(2, 3, 10, 8, SIZE)), seen(5))
    assert score_clips(tiny_model(), clips_of(video(track), ClipOptions(boxes=True))) == ()


@pytest.mark.parametrize("model", [tiny_model(), windowed_model()], ids=["tiny", "windowed"])
def test_a_track_is_followed_from_its_first_true_mask_over_all_frames(model: EdgeTAM) -> None:
    (score,) = score_clips(model, clips_of(video(thing(1, seen(2), seen(5), seen(11)))))
    found = tracked(model, 2, Prompt(mask=around(*DISC, 2)))
    js = [mask_iou(found[frame], around(*DISC, frame)) for frame in (5, 11)]
    assert score == ObjectScore("v", 1, "track", "mask", sum(js) / 2, "v")
    assert [(mask.frame, mask.score) for mask in score.masks] == list(zip((5, 11), js, strict=True))
    assert all((mask.mask() == found[mask.frame]).all() for mask in score.masks)


def test_a_track_begins_with_the_prompt_that_a_person_gave() -> None:
    (score,) = score_clips(tiny_model(), clips_of(video(thing(1, seen(0, given=CLICKS), seen(4)))))
    prompt = given_prompt(seen(0, given=CLICKS), SIZE)
    assert prompt is not None
    found = tracked(tiny_model(), 0, prompt)
    assert (score.prompt, score.score) == ("given", mask_iou(found[4], around(*DISC, 4)))


def test_frames_count_as_much_as_their_source_is_trusted() -> None:
    guessed = Sighting(6, MaskShape.of(around(*SQUARE)), origin="model")
    (score,) = score_clips(tiny_model(), clips_of(video(thing(1, seen(0), seen(3), guessed))))
    found = tracked(tiny_model(), 0, Prompt(mask=around(*DISC)))
    drawn, taken = mask_iou(found[3], around(*DISC, 3)), mask_iou(found[6], around(*SQUARE))
    assert drawn != taken
    assert score.score == pytest.approx((drawn + 0.25 * taken) / 1.25)


def test_away_means_no_mask() -> None:
    """One frame is known on which nothing should be found."""
    clips = clips_of(video(thing(1, seen(0), absent=(range(5, 9),))))
    (score,) = score_clips(tiny_model(), clips)
    assert tracked(tiny_model(), 0, Prompt(mask=around(*DISC)))[5].any()
    assert (score.kind, score.score) == ("track", 0.0)
    blind = copy.deepcopy(tiny_model())
    with torch.no_grad():
        blind.state_dict()["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(-1e3)
    assert score_clips(blind, clips)[0].score == 1.0


def test_rectangles_on_a_track_do_not_count() -> None:
    mixed = thing(1, seen(0), Sighting(3, BoxShape(2, 3, 10, 8, SIZE)), seen(5))
    clips = clips_of(video(mixed), ClipOptions(boxes=True))
    alone = clips_of(video(thing(1, seen(0), seen(5))))
    assert score_clips(tiny_model(), clips) == score_clips(tiny_model(), alone)


class Counted(FrameSource):
    """The frames, and which of them were asked for."""

    def __init__(self) -> None:
        self._inner = open_source(FRAMES)
        self.asked: list[int] = []
        super().__init__(self._inner.info)

    def _read(self, index: int) -> Frame:
        self.asked.append(index)
        return self._inner.read(index)


def test_a_long_video_is_tracked_over_some_frames_only() -> None:
    source = Counted()
    near, far = thing(1, seen(1), seen(4), seen(13)), thing(2, seen(3, SQUARE), seen(12, SQUARE))
    clips = list(task_clips([video(near, far)], lambda _: source))
    scores = {score.object: score for score in score_clips(tiny_model(), clips, ScoreOptions(most_frames=5))}
    assert max(source.asked) == 4
    assert (scores[1].kind, [mask.frame for mask in scores[1].masks]) == ("track", [4])
    assert (scores[2].kind, scores[2].prompt) == ("image", "box")  # nothing later is in reach


def test_objects_of_a_video_go_their_own_ways_in_one_pass() -> None:
    first, second = thing(1, seen(0), seen(6)), thing(2, seen(0, SQUARE), seen(6, SQUARE))
    late = thing(3, seen(4), seen(9))
    together = score_clips(tiny_model(), clips_of(video(first, second, late)))
    alone = [score_clips(tiny_model(), clips_of(video(each)))[0] for each in (first, second, late)]
    assert [score.object for score in together] == [1, 2, 3]
    assert [score.score for score in together] == pytest.approx([score.score for score in alone], abs=0.01)


def test_masks_to_be_drawn_are_spread_over_the_track() -> None:
    track = thing(1, *(seen(frame) for frame in range(13)))
    (score,) = score_clips(tiny_model(), clips_of(video(track)), ScoreOptions(pictures=3))
    assert [mask.frame for mask in score.masks] in ([1, 6, 12], [1, 7, 12])


def test_the_same_model_scores_the_same() -> None:
    objects = (thing(1, seen(0), seen(3)), thing(2, seen(0, SQUARE)))
    first, again = (score_clips(tiny_model(), clips_of(video(*objects))) for _ in range(2))
    assert first == again
    assert [score.masks for score in first] == [score.masks for score in again]


class EnoughError(Exception):
    """Somebody wants no more."""


def patience(calls: int) -> Iterator[None]:
    yield from [None] * calls
    raise EnoughError


@pytest.mark.parametrize("calls", [0, 1])
def test_scoring_is_cancelled_by_what_it_calls(calls: int) -> None:
    task = image(thing(1, seen(0)), thing(2, seen(0)), thing(3, seen(0)))
    left = patience(calls)
    with pytest.raises(EnoughError):
        score_clips(tiny_model(), clips_of(task), tick=lambda: next(left))
    left = patience(calls + 4)
    with pytest.raises(EnoughError):
        score_clips(tiny_model(), clips_of(video(thing(1, seen(0), seen(9)))), alive=lambda: next(left))


def broken(names: Sequence[str]) -> EdgeTAM:
    model = copy.deepcopy(tiny_model())
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.startswith(tuple(names)) and value.is_floating_point():
                value.fill_(float("nan"))
    return model


@pytest.mark.parametrize("part", ["sam_mask_decoder", "memory_encoder", "memory_attention"])
def test_weights_that_make_no_numbers_find_nothing(part: str) -> None:
    model = broken([part])
    (score,) = score_clips(model, clips_of(video(thing(1, seen(0), seen(3), seen(5)))))
    assert (score.kind, score.score) == ("track", 0.0)
    if part == "sam_mask_decoder":
        (score,) = score_clips(model, clips_of(image(thing(1, seen(0)))))
        assert score.score == 0.0


def test_media_that_cannot_be_read_are_no_score_of_zero() -> None:
    def fail(task: AnnotatedTask) -> FrameSource:
        raise InputError("media", f"no {task.media}")

    with pytest.raises(InputError, match=r"media: no 7.png"):
        score_clips(tiny_model(), list(task_clips([image(thing(1, seen(0)))], fail)))


@pytest.mark.parametrize("field", ["most_frames", "pictures"])
def test_options_name_what_is_wrong(field: str) -> None:
    with pytest.raises(InputError, match=f"{field}: expected at least 1"):
        ScoreOptions(**{field: 0})
