"""Readers of annotated data: what every layout gives, and the errors that hostile files get."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgetam_model.errors import InputError
from edgetam_model.exports import davis_palette
from edgetam_model.masks import encode_rle, mask_counts
from edgetam_model.training.datasets import open_annotated

HEIGHT, WIDTH = 24, 40


def frame(number: int) -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), (number * 20, 80, 200), np.uint8)


def square(number: int, at: int = 4) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[at : at + 10, at + number : at + number + 12] = True
    return mask


def save(array: NDArray[Any], path: Path, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(davis_palette().tobytes())
    image.save(path)


def folders(root: Path, clips: tuple[str, ...] = ("b10", "b9"), frames: int = 3) -> Path:
    for clip in clips:
        for number in range(frames):
            save(frame(number), root / clip / "frames" / f"{number:05d}.png")
            save(square(number), root / clip / "masks" / f"{number:05d}.png")
    return root


def davis(root: Path) -> Path:
    for number in range(3):
        save(frame(number), root / "JPEGImages" / "480p" / "dogs" / f"{number:05d}.png")
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[square(number)] = 1
        ids[square(number, at=12)] = 7
        save(ids, root / "Annotations" / "480p" / "dogs" / f"{number:05d}.png", palette=True)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("dogs\n")
    return root


def coco(root: Path, **changes: Any) -> Path:
    save(frame(0), root / "images" / "a.png")
    ring = [4, 4, 16, 4, 16, 14, 4, 14]
    document = {
        "images": [{"id": 5, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": 1, "image_id": 5, "segmentation": [ring], "iscrowd": 0},
            {"id": 2, "image_id": 5, "segmentation": encode_rle(square(9)), "iscrowd": 0},
            {
                "id": 3,
                "image_id": 5,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": mask_counts(square(2)).tolist()},
                "iscrowd": 1,
            },
        ],
    }
    document |= changes
    path = root / "instances.json"
    path.write_text(json.dumps(document))
    return path


def test_folders_of_frames_and_masks(tmp_path: Path) -> None:
    clips = open_annotated(folders(tmp_path))
    assert [clip.name for clip in clips] == ["b9", "b10"]
    assert [len(clip) for clip in clips] == [3, 3]
    shown, masks = clips[0].read(2)
    assert np.array_equal(shown, frame(2))
    assert list(masks) == [1]
    assert np.array_equal(masks[1], square(2))
    alone = open_annotated(tmp_path / "b9")
    assert [clip.name for clip in alone] == ["b9"]


def test_davis_with_several_objects(tmp_path: Path) -> None:
    root = davis(tmp_path)
    (root / "ImageSets" / "2017" / "val.txt").write_text("")  # lists are for scoring
    (clip,) = open_annotated(root)
    assert clip.name == "dogs"
    masks = clip.masks(1)
    assert list(masks) == [1, 7]
    assert np.array_equal(masks[7], square(1, at=12))
    assert np.array_equal(masks[1], square(1) & ~square(1, at=12))


def test_a_void_pixel_is_nobodys(tmp_path: Path) -> None:
    root = davis(tmp_path)
    ids = np.full((HEIGHT, WIDTH), 255, np.uint8)
    ids[square(1)] = 1
    save(ids, root / "Annotations" / "480p" / "dogs" / "00001.png", palette=True)
    (clip,) = open_annotated(root)
    masks = clip.masks(1)
    assert list(masks) == [1]
    assert np.array_equal(masks[1], square(1))


def test_a_black_mask_means_that_nothing_is_there_and_grey_ones_hold_ids(tmp_path: Path) -> None:
    root = folders(tmp_path, clips=("a",))
    save(np.zeros((HEIGHT, WIDTH), np.uint8), root / "a" / "masks" / "00001.png")
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[:4], grey[8:12] = 3, 9
    save(grey, root / "a" / "masks" / "00002.png")
    clip = open_annotated(root)[0]
    assert clip.masks(1) == {}
    assert list(clip.masks(2)) == [3, 9]


def test_coco_polygons_run_lengths_and_crowds(tmp_path: Path) -> None:
    clips = open_annotated(coco(tmp_path), tmp_path / "images")
    assert [clip.name for clip in clips] == ["a.png"]
    shown, masks = clips[0].read(0)
    assert np.array_equal(shown, frame(0))
    assert list(masks) == [1, 2]  # the crowd is left out
    assert np.array_equal(masks[1], square(0))
    assert np.array_equal(masks[2], square(9))


def test_coco_frames_of_a_video_are_one_clip(tmp_path: Path) -> None:
    for number in range(3):
        save(frame(number), tmp_path / f"{number:06d}.png")
    size = {"width": WIDTH, "height": HEIGHT, "video_id": 1}
    images = [{"id": n + 1, "file_name": f"{n:06d}.png", "frame_index": n, **size} for n in (2, 0, 1)]
    annotations = [
        {"id": n, "image_id": n + 1, "track_id": 4, "segmentation": encode_rle(square(n))} for n in (0, 2)
    ]
    (clip,) = open_annotated(coco(tmp_path, images=images, annotations=annotations), tmp_path)
    assert len(clip) == 3
    assert [list(clip.read(n)[1]) for n in range(3)] == [[4], [], [4]]
    assert np.array_equal(clip.masks(2)[4], square(2))


def tracks(root: Path, name: str = "clip", frames: int = 3) -> Path:
    for number in range(3):
        save(frame(number), root / name / f"{number:05d}.png")
    rle = encode_rle(square(1))
    record = {"time": 0.0, "state": "visible", "score": 1.0, "iou": 0.9, "box": [5, 4, 17, 14], "mask": rle}
    document = {
        "format": "edgetam-tracks",
        "version": 1,
        "video": {
            "name": name,
            "width": WIDTH,
            "height": HEIGHT,
            "frames": frames,
            "fps": 25.0,
            "times": [n / 25 for n in range(frames)],
        },
        "model": {"name": "m", "fingerprint": "f"},
        "objects": [{"id": 2, "label": "dog", "frames": [{"frame": 1, **record}]}],
    }
    path = root / "tracks.json"
    path.write_text(json.dumps(document))
    return path


def test_tracks_with_the_video_beside_them(tmp_path: Path) -> None:
    (clip,) = open_annotated(tracks(tmp_path))
    assert len(clip) == 2
    assert clip.masks(0) == {}
    shown, masks = clip.read(1)
    assert np.array_equal(shown, frame(1))
    assert np.array_equal(masks[2], square(1))


def test_tracks_with_the_video_elsewhere(tmp_path: Path) -> None:
    path = tracks(tmp_path / "inner")
    (tmp_path / "inner" / "clip").rename(tmp_path / "clip")
    for media in (tmp_path, tmp_path / "clip"):
        (clip,) = open_annotated(path, media)
        assert len(clip) == 2
    with pytest.raises(InputError, match=r"media: clip is not beside .*tracks\.json"):
        open_annotated(path)


def test_tracks_of_another_video_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="video: expected 4 frames"):
        open_annotated(tracks(tmp_path, frames=4))
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="inside"):
        open_annotated(tracks(tmp_path / "inner", name="../clip"))


def test_a_frame_without_a_mask_is_left_out(tmp_path: Path) -> None:
    root = folders(tmp_path, clips=("a",))
    (root / "a" / "masks" / "00001.png").unlink()
    (clip,) = open_annotated(root)
    assert len(clip) == 2
    shown, masks = clip.read(1)
    assert np.array_equal(shown, frame(2))
    assert np.array_equal(masks[1], square(2))


def test_a_mask_without_a_frame_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path, clips=("a",))
    (root / "a" / "frames" / "00001.png").unlink()
    with pytest.raises(InputError, match=r"a/00001\.png"):
        open_annotated(root)


def test_an_image_with_its_mask_is_a_clip(tmp_path: Path) -> None:
    (clip,) = open_annotated(folders(tmp_path, clips=("a",), frames=1))
    assert [list(clip.read(n)[1]) for n in range(len(clip))] == [[1]]


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path, clips=("a",))
    save(np.ones((5, 6), bool), root / "a" / "masks" / "00001.png")
    clip = open_annotated(root)[0]
    clip.read(0)
    with pytest.raises(InputError, match=r"expected 40×24 pixels .* got 6×5: a, frame 1"):
        clip.read(1)


def test_a_damaged_mask_is_refused_when_it_is_read(tmp_path: Path) -> None:
    root = folders(tmp_path, clips=("a",))
    (root / "a" / "masks" / "00001.png").write_bytes(b"not an image")
    (clip,) = open_annotated(root)
    assert list(clip.masks(0)) == [1]
    with pytest.raises(InputError, match=r"00001\.png: expected an image with labels"):
        clip.masks(1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"images": [{"id": 5, "file_name": "../../etc/x.png", "width": 4, "height": 4}]}, "file_name"),
        ({"images": [{"id": 5, "file_name": "/etc/x.png", "width": 4, "height": 4}]}, "file_name"),
        ({"images": [{"id": 5, "file_name": "a\0.png", "width": 4, "height": 4}]}, "file_name"),
        ({"images": []}, "image_id"),
        ({"annotations": []}, "annotations"),
        ({"annotations": [{"id": 1}]}, "annotations.0.image_id"),
        ({"images": [{"id": 5, "file_name": "a.png", "width": 0, "height": 4}]}, "images.0.width"),
    ],
)
def test_hostile_coco_files_are_refused_when_they_are_opened(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        open_annotated(coco(tmp_path, **changes), tmp_path / "images")
    assert caught.value.field == field


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [[1, 2, 3, 4, 5]],
        {"size": [2, 2], "counts": [4]},
        {"size": [HEIGHT, WIDTH], "counts": "???"},
    ],
)
def test_hostile_coco_masks_are_refused_when_they_are_read(tmp_path: Path, segmentation: Any) -> None:
    annotations = [{"id": 1, "image_id": 5, "segmentation": segmentation}]
    (clip,) = open_annotated(coco(tmp_path, annotations=annotations), tmp_path / "images")
    with pytest.raises(InputError):
        clip.masks(0)


def test_a_coco_image_of_another_size_is_refused(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": "a.png", "width": WIDTH, "height": HEIGHT + 1}]
    annotations = [{"id": 1, "image_id": 5, "segmentation": [[1, 1, 9, 1, 9, 9]]}]
    (clip,) = open_annotated(coco(tmp_path, images=images, annotations=annotations), tmp_path / "images")
    with pytest.raises(InputError, match="as annotated"):
        clip.frame(0)


def test_places_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data"):
        open_annotated(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no clips"):
        open_annotated(tmp_path)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError):
        open_annotated(tmp_path / "x.json")


def test_frames_that_are_not_there(tmp_path: Path) -> None:
    clip = open_annotated(folders(tmp_path))[0]
    for index in (-1, 3):
        with pytest.raises(InputError, match="frame"):
            clip.frame(index)
        with pytest.raises(InputError, match="frame"):
            clip.masks(index)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(images=JSON, segmentation=JSON, name=st.text(max_size=12))
def test_any_json_gives_clips_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, images: Any, segmentation: Any, name: str
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    annotation = {"id": 1, "image_id": 5, "segmentation": segmentation}
    own = [{"id": 5, "file_name": name, "width": 8, "height": 6}]
    for listed in (images, own):
        path = root / "x.json"
        path.write_text(json.dumps({"images": listed, "annotations": [annotation]}))
        try:
            clips = open_annotated(path)
            clips[0].masks(0)
        except InputError:
            continue
