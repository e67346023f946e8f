from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgetam_model.errors import InputError
from edgetam_model.masks import Mask, encode_rle, mask_iou
from edgetam_model.render import Rgb
from edgetam_model.training.annotations import AnnotatedObject, AnnotatedTask, Given, MaskShape, Sighting
from edgetam_model.training.fit_pictures import PictureOptions, choose, draw_examples
from edgetam_model.training.fit_scores import FoundMask, Kind, ObjectScore
from edgetam_model.training.task_clips import TaskClip, task_clips
from edgetam_model.video import open_source

SIZE = (60, 90)  # H, W
GREY = 100
FRAMES = np.full((12, *SIZE, 3), GREY, np.uint8)
OPTIONS = PictureOptions(width=180, tile=90)


def square(at: int = 20, side: int = 12, size: tuple[int, int] = SIZE) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[at : at + side, at : at + side] = True
    return mask


def found(mask: Mask, truth: Mask, frame: int = 0) -> FoundMask:
    return FoundMask(frame, mask_iou(mask, truth), (mask.shape[0], mask.shape[1]), encode_rle(mask)["counts"])


def score(task: str, value: float, number: int = 1, kind: Kind = "image") -> ObjectScore:
    return ObjectScore(task, number, kind, "box", value, masks=(found(square(), square()),))


def clips_of(*tasks: AnnotatedTask, frames: Rgb = FRAMES) -> list[TaskClip]:
    return list(task_clips(tasks, lambda task: open_source(frames[:1] if task.kind == "image" else frames)))


def picked(
    befores: Sequence[ObjectScore], afters: Sequence[ObjectScore], images: int
) -> list[tuple[str, str]]:
    choices = choose(befores, afters, PictureOptions(images=images, tracks=images))
    return [(choice.why, choice.after.task) for choice in choices]


def test_what_changed_most_what_is_worst_and_what_is_typical() -> None:
    tasks = "abcdefgh"
    before = [score(task, 0.5) for task in tasks]
    values = (0.9, 0.6, 0.61, 0.1, 0.45, 0.2, 0.62, 0.8)
    after = [score(task, value) for task, value in zip(tasks, values, strict=True)]
    assert picked(before, after, 1) == [
        ("gained most", "a"),
        ("lost most", "d"),
        ("still worst", "f"),
        ("typical", "b"),  # its gain is nearest to the median, 0.105
    ]
    assert picked(before, after, 2)[:4] == [
        ("gained most", "a"),
        ("gained most", "h"),
        ("lost most", "d"),
        ("lost most", "f"),
    ]
    assert picked(before, after, 0) == []


def test_what_hardly_changed_is_no_gain_and_no_loss() -> None:
    before = [score("a", 0.5), score("b", 0.6)]
    after = [score("a", 0.505), score("b", 0.595)]
    assert picked(before, after, 5) == [("still worst", "a"), ("still worst", "b")]


def test_objects_of_one_image_do_not_crowd_out_the_others() -> None:
    before = [score("crowd", 0.1, number) for number in range(1, 20)] + [score("z", 0.1)]
    after = [score("crowd", 0.9, number) for number in range(1, 20)] + [score("z", 0.5)]
    assert picked(before, after, 2)[:2] == [("gained most", "crowd"), ("gained most", "z")]


def test_images_and_tracks_are_chosen_apart_and_in_any_order() -> None:
    before = [score("a", 0.1), score("b", 0.1, kind="track"), score("c", 0.2)]
    after = [score("a", 0.3), score("b", 0.9, kind="track"), score("c", 0.8)]
    expected = [("gained most", "c"), ("still worst", "a"), ("gained most", "b")]
    assert picked(before, after, 1) == expected
    assert picked(before[::-1], after[::-1], 1) == expected


def image_task(truth: Mask, given: Given | None = None) -> AnnotatedTask:
    known = AnnotatedObject(3, ("cell", "round"), (Sighting(0, MaskShape.of(truth), given=given),))
    return AnnotatedTask("12", "image", "12.png", (known,))


def of_image(truth: Mask, before: Mask, after: Mask) -> tuple[ObjectScore, ObjectScore]:
    olds, news = found(before, truth), found(after, truth)
    return (
        ObjectScore("12", 3, "image", "box", olds.score, masks=(olds,)),
        ObjectScore("12", 3, "image", "box", news.score, masks=(news,)),
    )


def tinted(image: Rgb) -> float:
    """The share of a panel that has a colour."""
    colour = image.max(axis=-1).astype(int) - image.min(axis=-1) > 40
    return float(colour.mean())


def test_an_image_is_shown_with_its_prompt_the_truth_and_both_answers() -> None:
    truth, nothing = square(10, 40), np.zeros(SIZE, np.bool_)
    before, after = of_image(truth, nothing, square(10, 30))
    (example,) = draw_examples(clips_of(image_task(truth)), [before], [after], OPTIONS)
    assert (example.why, example.title, example.kind) == (
        "gained most",
        "task 12, object 3, cell, round",
        "image",
    )
    assert (example.before, example.after) == (0.0, 900 / 1600)
    ((asked, true, old, new),) = example.rows
    captions = [panel.caption for panel in (asked, true, old, new)]
    assert captions == ["prompt: the truth's box", "truth", "before: 0.00", "after: 0.56"]
    assert all(panel.image.shape == (120, 180, 3) for panel in (asked, true, old, new))
    assert tinted(true.image) == pytest.approx(1600 / 5400, rel=0.1)
    assert tinted(new.image) == pytest.approx(900 / 5400, rel=0.1)
    assert tinted(old.image) == 0
    assert (old.image > GREY + 60).all(-1).any()  # where it should have been is outlined
    assert 0 < tinted(asked.image) < 0.1  # the box


def test_a_small_object_is_seen_from_near() -> None:
    truth = square(30, 6)
    before, after = of_image(truth, truth, square(30, 5))
    (example,) = draw_examples(clips_of(image_task(truth)), [before], [after], OPTIONS)
    ((asked, true, _, _),) = example.rows
    assert tinted(true.image) > 4 * truth.mean()
    assert true.image.shape == asked.image.shape  # the picture's proportions stay
    assert (asked.image > GREY + 60).all(-1).any()  # the part is framed


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (48, 64)])
def test_pictures_of_any_shape_are_drawn(size: tuple[int, int]) -> None:
    truth = np.zeros(size, np.bool_)
    truth[-1, -1] = True
    frames = np.full((1, *size, 3), GREY, np.uint8)
    clips = clips_of(image_task(truth), frames=frames)
    before, after = of_image(truth, truth, ~truth)
    (example,) = draw_examples(clips, [before], [after], OPTIONS)
    assert {max(panel.image.shape[:2]) for panel in example.rows[0]} == {180}


def test_clicks_that_a_person_gave_are_drawn() -> None:
    truth = square(10, 40)
    given = Given(points=((50.0, 50.0), (90.0, 10.0)), labels=(1, 0))
    before, after = of_image(truth, truth, truth)
    scores = [ObjectScore(s.task, s.object, s.kind, "given", s.score, masks=s.masks) for s in (before, after)]
    (example,) = draw_examples(clips_of(image_task(truth, given)), scores[:1], scores[1:], OPTIONS)
    asked = example.rows[0][0]
    assert asked.caption == "prompt: a person's"
    red, green, _ = asked.image[60, 90].tolist()
    assert green > red + 50
    red, green, _ = asked.image[12, 162].tolist()
    assert red > green + 50


def test_a_track_is_shown_as_strips_of_the_same_frames() -> None:
    truths = {0: square(10), 3: square(20), 9: square(40)}
    seen = tuple(Sighting(frame, MaskShape.of(mask)) for frame, mask in truths.items())
    task = AnnotatedTask("v", "video", "v.mp4", (AnnotatedObject(1, (), seen, (range(5, 7),)),))
    nothing, kept = np.zeros(SIZE, np.bool_), square(20)
    later = {3: truths[3], 5: nothing, 9: truths[9]}
    before = ObjectScore(
        "v",
        1,
        "track",
        "mask",
        0.3,
        masks=tuple(found(nothing, mask, frame) for frame, mask in later.items()),
    )
    after = ObjectScore(
        "v", 1, "track", "mask", 0.6, masks=tuple(found(kept, mask, frame) for frame, mask in later.items())
    )
    (example,) = draw_examples(clips_of(task), [before], [after], OPTIONS)
    assert example.title == "task v, object 1"
    captions = [[panel.caption for panel in row] for row in example.rows]
    assert captions == [
        ["frame 3: truth", "frame 5: not there", "frame 9: truth"],
        ["before: 0.00", "before: 1.00", "before: 0.00"],
        ["after: 1.00", "after: 0.00", "after: 0.00"],
    ]
    assert all(panel.image.shape == (60, 90, 3) for row in example.rows for panel in row)
    assert [tinted(panel.image) > 0 for panel in example.rows[0]] == [True, False, True]
    assert [tinted(panel.image) > 0 for panel in example.rows[2]] == [True] * 3


@pytest.mark.parametrize(("field", "value"), [("images", -1), ("tracks", -1), ("width", 8), ("tile", 8)])
def test_options_name_what_is_wrong(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field}: expected at least"):
        PictureOptions(**{field: value})
