from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edgetam_model import render
from edgetam_model.errors import InputError, MediaError
from edgetam_model.masks import Mask, encode_rle, mask_box
from edgetam_model.render import (
    ContactSheet,
    Drawn,
    OverlayWriter,
    Rgb,
    contact_sheet,
    draw_overlay,
    drawn_result,
    drawn_tracks,
    object_colour,
    save_png,
)
from edgetam_model.results import FrameResult, ObjectResult
from edgetam_model.tracks import FrameRecord, FrameTracks, ObjectTrack, RleRecord

GREY = np.full((120, 200, 3), 100, np.uint8)


def square(x0: int, y0: int, side: int = 40) -> Mask:
    mask = np.zeros(GREY.shape[:2], np.bool_)
    mask[y0 : y0 + side, x0 : x0 + side] = True
    return mask


def shade(level: int, height: int = 48, width: int = 64) -> Rgb:
    return np.full((height, width, 3), level, np.uint8)


def read(path: Path) -> tuple[list[float], list[Rgb]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(one.time) for one in frames], [
        np.asarray(one.to_ndarray(format="rgb24"), np.uint8) for one in frames
    ]


# Overlay


def test_masks_are_tinted_outlined_and_captioned() -> None:
    before = GREY.copy()
    drawn = draw_overlay(GREY, [Drawn(1, "dog", square(60, 60), "visible", 3.0)])
    np.testing.assert_array_equal(GREY, before)
    colour = np.array(object_colour(1))
    inner = drawn[80, 80]
    np.testing.assert_allclose(inner, 100 * (1 - render.FILL) + colour * render.FILL, atol=1)
    assert np.abs(drawn[80, 60].astype(int) - colour).max() < 40, "the outline has the full colour"
    assert (drawn[110, 20] == 100).all()
    assert (drawn[40:59, 62:100] != 100).any(), "the caption stands above the object"


def test_holes_stay_untouched() -> None:
    mask = square(60, 40, 60)
    mask[60:80, 80:100] = False
    drawn = draw_overlay(GREY, [Drawn(1, "", mask, "visible", 3.0)])
    assert (drawn[70, 90] == 100).all()
    assert (drawn[50, 70] != 100).any()


def test_objects_without_a_mask_are_listed_in_the_corner() -> None:
    objects = [Drawn(1, "dog", None, "lost", 1.0), Drawn(2, "cat", square(0, 0, 0), "absent", -2.0)]
    assert [one.caption for one in objects] == ["1 dog lost", "2 cat absent"]
    drawn = draw_overlay(GREY, objects)
    marked = mask_box((drawn != 100).any(axis=2))
    assert marked is not None
    assert marked[:2] == (0, 0)
    assert marked[3] < 50
    both = {tuple(pixel) for pixel in drawn[:, 1].tolist()}
    assert {object_colour(1), object_colour(2)} <= both, "one caption must not hide the other"


@pytest.mark.parametrize("label", ["犬", "Öl", "a" * 90, "", "two\nlines"])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (159, 79), (159, 0), (0, 79)])
def test_captions_stay_inside_the_frame(label: str, x: int, y: int) -> None:
    drawn = draw_overlay(GREY, [Drawn(4, label, square(x, y), "visible", -80.0)])
    assert drawn.shape == GREY.shape
    assert draw_overlay(GREY[:5, :7], [Drawn(4, label, None, "lost", 0.0)]).shape == (5, 7, 3)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="mask"):
        draw_overlay(shade(5), [Drawn(1, "", square(0, 0), "visible", 1.0)])


def test_colours_are_distinct_and_stable() -> None:
    colours = [object_colour(number) for number in range(60)]
    assert len(set(colours)) == 60
    assert colours[1] == object_colour(1)
    assert object_colour(-3) == object_colour(-3)


def test_results_and_tracks_draw_alike() -> None:
    logits = np.full((32, 32), -3, np.float32)
    logits[8:20, 10:25] = 3
    found = ObjectResult(logits, (120, 200), 0.9, 2.25, object_id=5)
    live = drawn_result(FrameResult(3, 0.1, {5: found}), {5: "dog"})
    record = FrameRecord(
        frame=3,
        time=0.1,
        state="visible",
        score=2.25,
        iou=0.9,
        box=found.box,
        mask=RleRecord(size=(120, 200), counts=encode_rle(found.mask)["counts"]),
    )
    stored = drawn_tracks(FrameTracks(3, 0.1, ((ObjectTrack(id=5, label="dog"), record),)))
    assert live[0].caption == "5 dog 90%"
    np.testing.assert_array_equal(draw_overlay(GREY, live), draw_overlay(GREY, stored))


# Video


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_variable_rate_keeps_its_times(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_codec", lambda: codec)
    times = [5.0, 5.04, 5.2, 5.21, 7.0, 7.0334]
    levels = [20, 200, 60, 220, 100, 180]
    with OverlayWriter(tmp_path / "a.mp4", 64, 48, 25) as writer:
        for time, level in zip(times, levels, strict=True):
            writer.write(shade(level), time)
    shown, frames = read(tmp_path / "a.mp4")
    np.testing.assert_allclose(shown, np.array(times) - 5, atol=2e-5)
    np.testing.assert_allclose([frame.mean() for frame in frames], levels, atol=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == {"libx264": "h264"}.get(codec, codec)
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.duration is not None
        assert abs(container.duration / 1e6 - (2.0334 + 0.04)) < 0.01
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (47, 64), (1, 1)])
def test_odd_sizes_grow_to_even(height: int, width: int, tmp_path: Path) -> None:
    with OverlayWriter(tmp_path / "a.mp4", width, height, 30) as writer:
        writer.write(shade(90, height, width), 0)
    _, (frame,) = read(tmp_path / "a.mp4")
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert abs(frame.mean() - 90) < 3


def test_colours_survive(tmp_path: Path) -> None:
    rgb = np.zeros((64, 96, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:64], rgb[:, 64:] = (220, 30, 40), (40, 200, 60), (50, 60, 210)
    with OverlayWriter(tmp_path / "a.mp4", 96, 64, 25) as writer:
        writer.write(rgb, 0)
    _, (frame,) = read(tmp_path / "a.mp4")
    for x in (16, 48, 80):
        np.testing.assert_allclose(frame[32, x], rgb[32, x], atol=8)


def test_an_interruption_leaves_a_valid_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), OverlayWriter(path, 64, 48, 25) as writer:  # noqa: PT012
        for number in range(5):
            writer.write(shade(50 * number), number / 25)
        assert not path.exists(), "nothing stands under its name before it is complete"
        raise KeyboardInterrupt
    times, _ = read(path)
    assert len(times) == 5
    writer.close()


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    OverlayWriter(tmp_path / "a.mp4", 64, 48, 25).close()
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames_and_times_are_refused(tmp_path: Path) -> None:
    with OverlayWriter(tmp_path / "a.mp4", 64, 48, 25) as writer:
        with pytest.raises(InputError, match="frame: expected uint8"):
            writer.write(shade(1, 48, 65), 0)
        with pytest.raises(InputError, match="frame: expected uint8"):
            writer.write(shade(1).astype(np.float32), 0)
        writer.write(shade(1), 0.5)
        with pytest.raises(InputError, match=r"time: expected times that ascend, got 0\.5 after 0\.5"):
            writer.write(shade(1), 0.5)
    with pytest.raises(InputError, match="closed"):
        writer.write(shade(1), 9)


@pytest.mark.parametrize(("width", "height", "fps"), [(0, 4, 25), (4, 4, 0), (4, 4, float("nan"))])
def test_wrong_sizes_and_rates_are_refused(width: int, height: int, fps: float, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        OverlayWriter(tmp_path / "a.mp4", width, height, fps)


def test_folders_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        OverlayWriter(tmp_path / "none" / "a.mp4", 64, 48, 25)


def test_a_failing_encoder_is_our_own_error(tmp_path: Path) -> None:
    writer = OverlayWriter(tmp_path / "a.mp4", 40_000, 2, 25)  # wider than H.264 allows
    with pytest.raises(MediaError, match="cannot write"):
        writer.write(shade(1, 2, 40_000), 0)
    writer.close()
    assert list(tmp_path.iterdir()) == []


# Contact sheet


@pytest.mark.parametrize("count", [1, 7, 20, 21, 40, 41, 333])
def test_the_sheet_keeps_evenly_spaced_frames(count: int) -> None:
    sheet = ContactSheet(limit=20, tile_width=32)
    for number in range(count):
        sheet.add(number, number / 25, shade(number % 250))
        assert len(sheet._kept) <= 20
    kept = [frame for frame, _, _ in sheet._kept]
    assert kept[0] == 0
    assert len({later - earlier for earlier, later in pairwise(kept)}) <= 1
    assert len(kept) >= min(count, 10)
    assert all(rgb.shape == (24, 32, 3) for _, _, rgb in sheet._kept)


def test_the_sheet_is_in_the_order_of_the_video() -> None:
    sheet = ContactSheet(tile_width=64)
    for frame in (8, 5, 2):
        assert sheet.wants_next()
        sheet.add(frame, frame / 10, shade(25 * frame))
    rendered = sheet.render()
    levels = [int(rendered[20, 8 + 32 + 72 * column, 0]) for column in range(3)]
    assert levels == [50, 125, 200]


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(InputError):
        ContactSheet().render()
    with pytest.raises(InputError):
        ContactSheet(limit=1)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 3), (20, 4)])
def test_the_grid_fits_the_width(count: int, columns: int) -> None:
    sheet = contact_sheet([("caption " * 9, shade(200, 90, 160))] * count, max_width=500)
    assert sheet.shape[1] <= 500
    row = sheet[10, :, 0] == 200
    assert np.count_nonzero(np.diff(row.astype(int)) == 1) == columns


def test_tiles_of_other_shapes_fit_together() -> None:
    sheet = contact_sheet([("a", shade(200, 90, 160)), ("b", shade(100, 160, 90)), ("c", shade(50, 10, 300))])
    assert {50, 100, 200} <= set(np.unique(sheet).tolist())


def test_png_round_trip(tmp_path: Path) -> None:
    for image in (GREY, GREY[..., 0], square(3, 4)):
        with Image.open(save_png(tmp_path / "a.png", image)) as stored:
            back = np.asarray(stored)
        np.testing.assert_array_equal(back, image * np.uint8(255) if image.dtype == bool else image)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
