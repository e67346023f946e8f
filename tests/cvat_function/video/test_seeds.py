"""What becomes a seed, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from cvat_function.rle import encode_mask
from cvat_function.video.frames import FrameMap
from cvat_function.video.records import (
    Annotations,
    Attribute,
    AttributeSpec,
    Label,
    LabeledShape,
    Track,
    TrackedShape,
)
from cvat_function.video.seeds import Choice, choose_seeds, parse_seed
from edgetam_model import InputError

FRAMES = FrameMap((2, 3, 5, 6), tuple(range(9)), 40, 30, 0, 0, 1)
PLATE, SPEED = AttributeSpec(id=1, name="plate"), AttributeSpec(id=2, name="speed", mutable=True)
CAR, BIRD = Label(id=3, name="car", attributes=(PLATE, SPEED)), Label(id=4, name="bird")
BOX = (5.0, 5.0, 20.0, 15.0)
FAST, OLD = Attribute(spec_id=2, value="fast"), Attribute(spec_id=1, value="old")


def shape(number: int, frame: int = 2, **given: Any) -> LabeledShape:
    facts: dict[str, Any] = {"label_id": 3, "type": "rectangle", "points": BOX, **given}
    return LabeledShape(id=number, frame=frame, **facts)


def track(number: int, *keys: TrackedShape, **given: Any) -> Track:
    return Track(id=number, label_id=3, frame=keys[0].frame, shapes=keys, **given)


def key(frame: int, **given: Any) -> TrackedShape:
    return TrackedShape(**{"type": "rectangle", "frame": frame, "points": BOX, **given})


def chosen(annotations: Annotations, choice: Choice | None = None) -> list[str]:
    found = choose_seeds(annotations, (CAR, BIRD), FRAMES, choice or Choice())
    return [f"{seed.kind}:{seed.id}" for seed in found.seeds]


def test_all_that_is_marked_on_the_first_frame() -> None:
    annotations = Annotations(
        shapes=(shape(1), shape(2, frame=3)),
        tracks=(
            track(1, key(2), key(6)),
            track(2, key(0), key(3)),  # only passing through
            track(3, key(0), key(2, outside=True)),
        ),
    )
    assert chosen(annotations) == ["shape:1", "track:1"]


def test_a_tracks_later_key_frames_come_along_but_no_deleted_ones() -> None:
    annotations = Annotations(tracks=(track(1, key(0), key(2), key(4), key(5, outside=True), key(8)),))
    (seed,) = choose_seeds(annotations, (CAR,), FRAMES, Choice()).seeds
    assert [(k.frame, k.shape is None) for k in seed.keys] == [(2, False), (5, True)]
    assert not seed.hidden_on(3)
    assert seed.hidden_on(5)
    assert seed.hidden_on(6)
    assert seed.drawn_on(2) is not None
    assert seed.drawn_on(3) is None


def test_attributes_are_parted_as_tracks_take_them() -> None:
    annotations = Annotations(
        shapes=(shape(1, attributes=(OLD, FAST)),),
        tracks=(track(1, key(2, attributes=(FAST,)), attributes=(OLD,)),),
    )
    for seed in choose_seeds(annotations, (CAR,), FRAMES, Choice()).seeds:
        assert seed.attributes == (OLD,)
        assert seed.keys[0].attributes == (FAST,)


def test_names_reach_into_the_range_and_nothing_else_is_taken() -> None:
    annotations = Annotations(shapes=(shape(1), shape(2, frame=5)), tracks=(track(2, key(0), key(3)),))
    assert chosen(annotations, Choice(named=(("track", 2), ("shape", 2)))) == ["track:2", "shape:2"]
    with pytest.raises(InputError, match="there is no shape:7"):
        chosen(annotations, Choice(named=(("shape", 7),)))
    far = Annotations(shapes=(shape(1, frame=8),))
    with pytest.raises(InputError, match="not drawn on any of frames 2 to 6"):
        chosen(far, Choice(named=(("shape", 1),)))


def test_what_a_model_drew_is_taken_on_demand() -> None:
    annotations = Annotations(shapes=(shape(1), shape(2, source="auto"), shape(3, source="semi-auto")))
    found = choose_seeds(annotations, (CAR,), FRAMES, Choice())
    assert [seed.id for seed in found.seeds] == [1, 3]
    assert found.notes == ("left out 1 on frame 2 that a model drew (--model-made takes them)",)
    assert len(chosen(annotations, Choice(model_made=True))) == 3


def test_labels_narrow_the_choice() -> None:
    annotations = Annotations(shapes=(shape(1), shape(2, label_id=4)))
    assert chosen(annotations, Choice(labels=("bird",))) == ["shape:2"]
    with pytest.raises(InputError, match="the task has no 'cat'"):
        chosen(annotations, Choice(labels=("cat",)))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "ellipse", "points": (1.0, 2.0, 3.0, 4.0)}, "rectangle, polygon, mask"),
        ({"rotation": 30.0}, "rotated"),
        ({"points": (50.0, 5.0, 60.0, 9.0)}, "inside the image"),
        ({"type": "mask", "points": (1.0, 0.0, 0.0, 0.0, 0.0)}, "covers pixels"),
        ({"type": "polygon", "points": (1.0, 2.0)}, "at least three points"),
    ],
)
def test_what_cannot_be_tracked_is_named_and_stops_nothing(given: dict[str, Any], reason: str) -> None:
    annotations = Annotations(shapes=(shape(1, **given), shape(2)))
    found = choose_seeds(annotations, (CAR,), FRAMES, Choice())
    assert [(seed.number, seed.id) for seed in found.seeds] == [(1, 2)]
    (note,) = found.notes
    assert "left out shape:1" in note
    assert reason in note
    with pytest.raises(InputError, match="seed: shape:1"):
        chosen(annotations, Choice(named=(("shape", 1),)))
    with pytest.raises(InputError, match="nothing to track from frame 2 on; left out shape:1"):
        chosen(Annotations(shapes=(shape(1, **given),)))


def test_key_frames_of_several_types_are_no_seed() -> None:
    corners = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0)
    annotations = Annotations(tracks=(track(1, key(2), key(5, type="polygon", points=corners)),))
    with pytest.raises(InputError, match="key frames of one type"):
        chosen(annotations, Choice(named=(("track", 1),)))


def test_a_mask_is_a_seed() -> None:
    import numpy as np

    mask = np.zeros((30, 40), np.bool_)
    mask[4:9, 7:20] = True
    points = tuple(float(n) for n in encode_mask(mask))
    annotations = Annotations(shapes=(shape(1, type="mask", points=points),))
    (seed,) = choose_seeds(annotations, (CAR,), FRAMES, Choice()).seeds
    assert seed.type == "mask"


@pytest.mark.parametrize("text", ["12", "track", "track:", "tag:3", "track:-1", "track:1 ", "shape:１"])
def test_what_names_no_seed(text: str) -> None:
    with pytest.raises(InputError, match="seed"):
        parse_seed(text)


def test_seeds_are_named_by_kind_and_id() -> None:
    assert parse_seed("track:12") == ("track", 12)
    assert parse_seed("shape:0") == ("shape", 0)
