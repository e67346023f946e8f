"""The tracker over fetched frames: few are held, people's words count, an end keeps what is done."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from cvat_function.shapes import Shape
from cvat_function.video.frames import FrameMap
from cvat_function.video.records import Label
from cvat_function.video.seeds import Key, Seed
from cvat_function.video.tracking import HELD, TaskFrames, follow
from edgetam_model import InputError, MediaError
from tests.models import tiny_model

KEPT = (2, 3, 5, 6, 9)
FRAMES = FrameMap(KEPT, KEPT, 64, 48, 0, 0, 1)
BOX = Shape("rectangle", (10.0, 8.0, 40.0, 30.0))


def image(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (number, 80, 90)).save(stream, "PNG")
    return stream.getvalue()


def seed(number: int, *keys: Key) -> Seed:
    return Seed(number, "shape", number, Label(id=3, name="car"), "rectangle", 0, (), keys)


def key(frame: int, shape: Shape | None = BOX) -> Key:
    return Key(frame, shape, False, ())


def test_frames_are_fetched_in_order_and_few_are_held() -> None:
    asked: list[int] = []

    def fetch(number: int) -> bytes:
        asked.append(number)
        return image(number)

    frames = TaskFrames(fetch, range(100, 120))
    for index in range(len(frames)):
        assert frames[index][0, 0, 0] == 100 + index
        assert frames[index] is frames[index]
    assert asked == list(range(100, 120))
    assert frames[len(frames) - HELD][0, 0, 0] == 120 - HELD
    assert asked == list(range(100, 120))
    assert frames[0][0, 0, 0] == 100
    assert asked[-1] == 100
    assert [frame[0, 0, 0] for frame in frames[3:5]] == [103, 104]


def test_two_threads_get_the_same_frames() -> None:
    frames = TaskFrames(image, range(40))
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(i for i in range(40) if frames[i][0, 0, 0] != i)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_object_is_followed_from_its_own_first_frame() -> None:
    done: list[int] = []
    followed = follow(tiny_model(), image, FRAMES, [seed(1, key(2)), seed(2, key(5))], done.append)
    assert [sight.frame for sight in followed.sights[1]] == [2, 3, 5, 6, 9]
    assert [sight.frame for sight in followed.sights[2]] == [5, 6, 9]
    assert followed.sights[1][0].shape == BOX
    assert followed.sights[2][0].shape == BOX
    assert done == [1, 2, 3, 4, 5]
    assert followed.last == 9
    assert not followed.cancelled
    assert followed.failure is None


def test_small_weights_refuse_the_fast_mode() -> None:
    with pytest.raises(InputError, match="quality: expected exact: these weights have no fast mode"):
        follow(tiny_model(), image, FRAMES, [seed(1, key(2))], lambda _: None, "fast")


def test_what_a_person_called_outside_is_not_to_be_seen() -> None:
    followed = follow(tiny_model(), image, FRAMES, [seed(1, key(2), key(3, None), key(6))], lambda _: None)
    seen = {sight.frame: sight.shape for sight in followed.sights[1]}
    assert seen[3] is None
    assert seen[5] is None
    assert seen[6] == BOX


@pytest.mark.parametrize("end", [KeyboardInterrupt(), MediaError("image", "damaged")])
def test_an_end_on_the_way_keeps_whole_frames(end: BaseException) -> None:
    def stop(done: int) -> None:
        if done == 3:
            raise end

    followed = follow(tiny_model(), image, FRAMES, [seed(1, key(2)), seed(2, key(2))], stop)
    assert followed.last == 5
    assert [len(seen) for seen in followed.sights.values()] == [3, 3]
    assert followed.cancelled == isinstance(end, KeyboardInterrupt)
    assert (followed.failure is None) == followed.cancelled


def test_an_end_before_the_first_frame() -> None:
    def fetch(number: int) -> bytes:
        if number > 2:
            raise MediaError("image", "damaged")
        return image(number)

    followed = follow(tiny_model(), fetch, FRAMES, [seed(1, key(2))], lambda _: None)
    assert followed.failure == "image: damaged"
    assert followed.last in (None, 2)


def test_a_seed_on_a_frame_that_cannot_be_had_is_an_error() -> None:
    def fetch(number: int) -> bytes:
        if number == 6:
            raise MediaError("image", "damaged")
        return image(number)

    with pytest.raises(MediaError):
        follow(tiny_model(), fetch, FRAMES, [seed(1, key(2), key(6))], lambda _: None)


def test_frames_of_another_size_than_promised_are_refused() -> None:
    with pytest.raises(InputError, match="64×48 pixels as the server says, got 32×24"):
        follow(
            tiny_model(), lambda number: image(number, (32, 24)), FRAMES, [seed(1, key(2))], lambda _: None
        )


def test_masks_and_polygons_keep_their_type() -> None:
    corners = Shape("polygon", (10.0, 8.0, 40.0, 8.0, 40.0, 30.0, 10.0, 30.0))
    outlined = Seed(1, "shape", 1, Label(id=3, name="car"), "polygon", 0, (), (key(2, corners),))
    drawn = Seed(
        2,
        "shape",
        2,
        Label(id=3, name="car"),
        "mask",
        0,
        (),
        (key(2, Shape("mask", (0, 600, 10, 8, 39, 27))),),
    )
    followed = follow(tiny_model(), image, FRAMES, [outlined, drawn], lambda _: None)
    for number, kind in ((1, "polygon"), (2, "mask")):
        assert {sight.shape.type for sight in followed.sights[number] if sight.shape} == {kind}


def test_arrays_are_what_the_tracker_takes() -> None:
    frame = TaskFrames(image, (4,))[0]
    assert frame.dtype == np.uint8
    assert frame.shape == (48, 64, 3)
