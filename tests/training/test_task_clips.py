from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.sources import FrameSource
from edgetam_model.training.annotations import AnnotatedTask, FrameNumbers, MaskShape
from edgetam_model.training.task_clips import ClipOptions, TaskClip, media_in, task_clips
from edgetam_model.training.windows import AnnotatedWindows, WindowOptions
from edgetam_model.video import open_source
from tests.training.annotation_tasks import SIZE, box, image_task, sighting, square, thing, video_task

FRAMES = np.stack([np.full((*SIZE, 3), number, np.uint8) for number in range(12)])


class Shelf:
    """Opens frames kept in memory, and counts how often."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self, task: AnnotatedTask) -> FrameSource:
        self.opened += 1
        return open_source(FRAMES[:1] if task.kind == "image" else FRAMES)


def clips(task: AnnotatedTask, options: ClipOptions | None = None) -> list[TaskClip]:
    return list(task_clips([task], Shelf(), options or ClipOptions()))


def test_an_image_is_a_clip_of_one_frame_with_all_its_objects() -> None:
    other = thing(sighting(shape=MaskShape.of(square(2, 3))), number=2)
    (clip,) = clips(image_task("1", thing(), other))
    frame, masks = clip.read(0)
    assert len(clip) == 1
    assert frame.shape == (*SIZE, 3)
    np.testing.assert_array_equal(masks[1], square())
    np.testing.assert_array_equal(masks[2], square(2, 3))
    assert clip.sightings(0)[1].weight == 1


def test_images_are_opened_when_they_are_read_and_then_once() -> None:
    shelf = Shelf()
    (clip,) = task_clips([image_task()], shelf)
    assert shelf.opened == 0
    for _ in range(5):
        clip.read(0)
    assert shelf.opened == 1


def test_a_track_has_the_frames_on_which_it_is_known() -> None:
    track = thing(sighting(2), sighting(4), sighting(9), absent=(range(5, 8),))
    (clip,) = clips(video_task(track))
    assert clip.frames == (2, 4, 5, 9)
    assert [sorted(clip.masks(index)) for index in range(4)] == [[1], [1], [], [1]]
    np.testing.assert_array_equal(clip.masks(1)[1], square(8))
    assert [int(clip.frame(index)[0, 0, 0]) for index in range(4)] == [2, 4, 5, 9]


def test_objects_share_a_clip_only_where_both_are_known() -> None:
    """A missing mask means that an object is not there; where nothing is known, that would be a lie."""
    first, second = thing(sighting(0), sighting(3)), thing(sighting(0), sighting(3), number=2)
    apart = thing(sighting(1), sighting(3), number=3)
    found = clips(video_task(first, second, apart))
    assert [([each.id for each in clip.objects], clip.frames) for clip in found] == [
        ([1, 2], (0, 3)),
        ([3], (1, 3)),
    ]


def test_an_absent_object_shares_the_clip_of_one_that_is_there() -> None:
    hidden = thing(sighting(0), number=2, absent=(range(1, 12),))
    (clip,) = clips(video_task(thing(sighting(0), sighting(1), sighting(6)), hidden))
    assert clip.frames == (0, 1, 6)
    assert [sorted(clip.masks(index)) for index in range(3)] == [[1, 2], [1], [1]]


def test_rectangles_are_no_masks_unless_that_is_wanted() -> None:
    track = thing(sighting(0), sighting(1, shape=box()))
    assert [clip.frames for clip in clips(video_task(track))] == [(0,)]
    assert clips(video_task(thing(sighting(0, shape=box())))) == []
    assert [clip.frames for clip in clips(video_task(track), ClipOptions(boxes=True))] == [(0, 1)]


def test_of_numbers_that_show_one_frame_the_heaviest_counts() -> None:
    doubled = FrameNumbers(open_source(FRAMES).table.rate * 2)  # two numbers a frame
    weak, strong = sighting(4, "model"), sighting(5, "human")
    (clip,) = clips(video_task(thing(weak, strong, sighting(40)), numbers=doubled))
    assert clip.frames == (2, 11)  # number 40 lies after the end: the last frame stays on screen
    assert clip.sightings(0)[1].origin == "human"


def test_frames_that_the_file_lacks_are_left_out() -> None:
    (clip,) = clips(video_task(thing(sighting(11), sighting(12), absent=(range(9, 40),))))
    assert clip.frames == (9, 11)
    assert clips(video_task(thing(sighting(12)))) == []


def test_a_frame_that_is_not_there_is_refused() -> None:
    (clip,) = clips(image_task())
    for call in (clip.frame, clip.masks, clip.sightings):
        with pytest.raises(InputError, match="frame"):
            call(1)


def test_a_mask_of_another_size_is_fitted() -> None:
    drawn = MaskShape.of(square(8, 20, (48, 80)))
    (clip,) = clips(image_task("1", thing(sighting(shape=drawn))))
    np.testing.assert_array_equal(clip.read(0)[1][1], square())


def test_media_are_found_below_their_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/deep/a.png", "outside.png"):
        Image.fromarray(FRAMES[0]).save(tmp_path / name)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside.png")
    find = media_in(tmp_path / "in")
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "outside.png").read_bytes())
    for media in ("deep/a.png", "deep/a", str(tmp_path / "in" / "deep" / "a.png"), "http://x/y/b.png"):
        with find(replace(image_task(), media=media)) as source:
            assert source.read(0).shape == (*SIZE, 3)
    for media in ("../outside.png", str(tmp_path / "outside.png"), "link.png", "c.png", "", ".", "\0"):
        with pytest.raises(InputError, match="media"):
            find(replace(image_task(), media=media))


def test_the_training_engine_reads_them() -> None:
    found = clips(image_task()) + clips(video_task(thing(*(sighting(n) for n in range(12)))))
    batch = AnnotatedWindows(found, WindowOptions(size=32, frames=3)).batch(0, 0, 4)
    assert batch.frames.shape == (4, 3, 3, 32, 32)
    assert batch.present[:, 0].any()
