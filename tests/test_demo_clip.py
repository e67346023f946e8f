from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgetam_model.demo_clip import BALL, LABELS, LADYBIRD, DemoScene, render_demo_clip
from edgetam_model.errors import InputError
from edgetam_model.masks import decode_rle, mask_box, rle_area


def test_frames_depend_on_nothing_but_the_arguments() -> None:
    first, again, other = (DemoScene(20, 160, 90, seed=seed) for seed in (7, 7, 8))
    again.frame(11)
    for index in (0, 11):
        rgb, masks = first.frame(index)
        same, same_masks = again.frame(index)
        np.testing.assert_array_equal(rgb, same)
        assert all((masks[number] == same_masks[number]).all() for number in LABELS)
    assert (first.frame(0)[0] != other.frame(0)[0]).any()


def test_the_video_shows_the_frames(tmp_path: Path) -> None:
    clip = render_demo_clip(tmp_path / "demo.mp4", frames=12, width=320, height=180, fps=12.5)
    scene = DemoScene(12, 320, 180)
    with av.open(str(clip.path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = list(container.decode(video=0))
    assert [round(float(frame.time), 3) for frame in frames] == [round(n / 12.5, 3) for n in range(12)]
    for index, frame in enumerate(frames):
        rgb, masks = scene.frame(index)
        shown = frame.to_ndarray(format="rgb24").astype(float)
        assert np.abs(shown - rgb).mean() < 8
        for number, mask in masks.items():
            np.testing.assert_array_equal(decode_rle(clip.masks[index][number]), mask)
    for number, prompt in clip.prompts.items():
        assert tuple(prompt.box) == mask_box(decode_rle(clip.masks[0][number]))


def test_the_objects_move_and_the_ball_passes_behind_the_plank() -> None:
    scene = DemoScene(60, 320, 180)
    masks = [scene.frame(index)[1] for index in range(0, 60, 3)]
    ball, ladybird = ([int(one[number].sum()) for one in masks] for number in (BALL, LADYBIRD))
    assert 0 < min(ball) < 0.3 * ball[0], "a sliver of the ball stays in sight"
    assert ball[-1] > 1.2 * ball[0], "it comes closer"
    assert min(ladybird) > 0.9 * ladybird[0], "the ladybird is never hidden"
    assert max(ladybird) > 1.2 * ladybird[0]
    for number in LABELS:
        first, last = mask_box(masks[0][number]), mask_box(masks[-1][number])
        assert first is not None
        assert last is not None
        assert abs(last[0] - first[0]) > 60
    assert not any((one[BALL] & one[LADYBIRD]).any() for one in masks)


def test_masks_follow_what_is_drawn() -> None:
    """The ladybird's colour and its mask must be at the same place, to a pixel."""
    rgb, masks = DemoScene(10, 640, 360).frame(0)
    red, green, _ = (rgb[..., channel].astype(int) for channel in range(3))
    shell = ((red - green) > 60) & masks[LADYBIRD]
    assert shell.sum() > 0.4 * masks[LADYBIRD].sum()
    around = cv2.dilate(masks[LADYBIRD].view(np.uint8), np.ones((25, 25), np.uint8)) > 0
    outside = around & ~(cv2.dilate(masks[LADYBIRD].view(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    assert not (((red - green) > 60) & outside).any()


@pytest.mark.parametrize(("width", "height"), [(90, 160), (64, 64), (301, 67)])
def test_other_shapes_hold_the_scene(width: int, height: int) -> None:
    scene = DemoScene(5, width, height)
    for index in range(5):
        rgb, masks = scene.frame(index)
        assert rgb.shape == (height, width, 3)
        assert masks[LADYBIRD].any()
        rim = np.concatenate((rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]))
        assert rim[:, 1].min() > 15, "the lawn covers the whole frame"


def test_areas_are_those_of_the_masks(tmp_path: Path) -> None:
    clip = render_demo_clip(tmp_path / "odd.mp4", frames=2, width=65, height=65)
    assert len(clip.masks) == 2
    assert rle_area(clip.masks[1][BALL]) == DemoScene(2, 65, 65).frame(1)[1][BALL].sum()


@pytest.mark.parametrize(("frames", "width", "height"), [(1, 640, 360), (5, 63, 64), (5, 64, 63)])
def test_too_little_is_refused(frames: int, width: int, height: int, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        render_demo_clip(tmp_path / "demo.mp4", frames, width, height)
