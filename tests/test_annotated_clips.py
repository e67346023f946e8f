"""Reading annotated clips: both layouts, every kind of mask file, and what is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetam_model.annotated_clips import read_clips, read_labels
from edgetam_model.errors import InputError, MediaError
from edgetam_model.sources import MediaLimits
from tests.annotated import Labels, two_objects, write_davis, write_palette, write_plain


def labels_of(*values: int) -> Labels:
    return np.array([values, values], np.uint8)


def test_davis_layout_with_several_objects(tmp_path: Path) -> None:
    truth = two_objects(5, late=2)
    write_davis(tmp_path, "toys", truth)
    (found,) = read_clips(tmp_path)
    assert (found.name, len(found.frames), list(found.masks), found.size) == (
        "toys",
        5,
        [0, 1, 2, 3, 4],
        (90, 160),
    )
    assert found.first_frames == {1: 0, 2: 2}
    assert found.scored_frames(1) == (1, 2, 3)
    assert found.scored_frames(2) == (3,)  # prompted on 2; the last frame never counts
    mask, void = found.truth(3, 2)
    assert void is None
    assert (mask == (truth[3] == 2)).all()
    with found.open() as source:
        assert len(source) == 5


def test_an_object_without_a_frame_to_score_is_left_out(tmp_path: Path) -> None:
    write_davis(tmp_path, "toys", two_objects(5, late=3))
    (found,) = read_clips(tmp_path)
    assert found.scored_objects == (1,)


def test_plain_layout_with_masks_on_some_frames(tmp_path: Path) -> None:
    truth = two_objects(12)
    write_plain(tmp_path, "toy", {n: truth[n] for n in (2, 5, 8, 11)}, frames=12)
    (found,) = read_clips(tmp_path)
    assert (list(found.masks), found.first_frames, found.scored_frames(1)) == ([2, 5, 8, 11], {1: 2}, (5, 8))
    with pytest.raises(InputError, match="no mask on frame 3"):
        found.labels(3)


def test_the_list_of_the_split_and_names(tmp_path: Path) -> None:
    for name in ("ape", "bee", "cow10", "cow9"):
        write_davis(tmp_path, name, two_objects(3))
    assert [c.name for c in read_clips(tmp_path)] == ["ape", "bee", "cow9", "cow10"]
    for year, text in (
        ("2016", "/JPEGImages/480p/ape/00000.jpg /Annotations/480p/ape/00000.png\n" * 2),
        ("2017", "bee\ncow9\n\n"),
    ):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "ImageSets" / year / "val.txt").write_text(text)
    assert [c.name for c in read_clips(tmp_path)] == ["bee", "cow9"]
    assert [c.name for c in read_clips(tmp_path, ["ape"])] == ["ape"]
    (tmp_path / "ImageSets" / "2017" / "val.txt").unlink()
    assert [c.name for c in read_clips(tmp_path)] == ["ape"]
    for name in ("elk", "../ape", str(tmp_path / "JPEGImages" / "480p" / "ape")):
        with pytest.raises(InputError, match=r"clips: no clip '.*'"):
            read_clips(tmp_path, [name])


def test_other_lists_and_every_clip(tmp_path: Path) -> None:
    root = tmp_path / "davis"
    for name in ("ape", "bee"):
        write_davis(root, name, two_objects(3))
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "train.txt").write_text("bee\n")
    (tmp_path / "secret.txt").write_text("ape\n")
    for split in ("train", "2017/train"):
        assert [c.name for c in read_clips(root, split=split)] == ["bee"]
    assert [c.name for c in read_clips(root, split=None)] == ["ape", "bee"]
    assert [c.name for c in read_clips(root)] == ["ape", "bee"], "no list of the default"
    for split in ("2016/train", "../../secret", str(tmp_path / "secret"), "*", ""):
        with pytest.raises(InputError, match="split: no list"):
            read_clips(root, split=split)
    (root / "ImageSets" / "2017" / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="split: cannot read"):
        read_clips(root)
    (root / "ImageSets" / "2017" / "val.txt").write_text("../ape\n")
    with pytest.raises(InputError, match="clips: no clip"):
        read_clips(root)


def test_a_folder_that_is_itself_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plain(tmp_path, "toy", dict(enumerate(two_objects(3))), frames=3)
    assert [c.name for c in read_clips(tmp_path / "toy")] == ["toy"]
    monkeypatch.chdir(tmp_path / "toy")
    assert [c.name for c in read_clips(Path())] == ["toy"]


def test_clips_that_are_not_scored_need_one_mask(tmp_path: Path) -> None:
    write_plain(tmp_path, "still", {0: two_objects(1)[0]}, frames=1)
    write_plain(tmp_path, "part", {2: two_objects(1)[0]}, frames=4)
    found = read_clips(tmp_path, scored=False)
    assert [(c.name, len(c.frames), list(c.masks)) for c in found] == [("part", 4, [2]), ("still", 1, [0])]
    with pytest.raises(InputError, match="part: expected masks on at least 3 frames"):
        read_clips(tmp_path)
    next((tmp_path / "part" / "masks").iterdir()).unlink()
    with pytest.raises(InputError, match="part: expected masks on at least one frame"):
        read_clips(tmp_path, scored=False)


def test_resolutions(tmp_path: Path) -> None:
    write_davis(tmp_path / "one", "toys", two_objects(3), "Full-Resolution")
    assert read_clips(tmp_path / "one")[0].name == "toys"
    write_davis(tmp_path / "one", "toys", two_objects(3), "240p")
    with pytest.raises(InputError, match="480p, got 240p, Full-Resolution"):
        read_clips(tmp_path / "one")
    write_davis(tmp_path / "one", "toys", two_objects(4), "480p")
    assert len(read_clips(tmp_path / "one")[0].frames) == 4
    flat = tmp_path / "flat"
    write_davis(flat, "toys", two_objects(3), "")
    assert read_clips(flat)[0].name == "toys"


@pytest.mark.parametrize(
    ("mode", "pixels", "expected"),
    [
        ("P", (0, 1, 2, 255), (0, 1, 2, 255)),
        ("L", (0, 1, 2, 255), (0, 1, 2, 255)),
        ("L", (0, 3, 0, 3), (0, 3, 0, 3)),
        ("L", (0, 0, 0, 0), (0, 0, 0, 0)),
        ("L", (0, 255, 0, 255), (0, 1, 0, 1)),
        ("1", (0, 1, 0, 1), (0, 1, 0, 1)),
        ("RGB", (0, 128, 0, 128), (0, 1, 0, 1)),
        ("RGBA", (0, 128, 0, 128), (0, 1, 0, 1)),
    ],
)
def test_every_kind_of_mask_file(
    mode: str, pixels: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    values = labels_of(*pixels)
    if mode == "P":
        write_palette(path, values)
    elif mode == "1":
        Image.fromarray(values == 1).save(path)
    else:
        Image.fromarray(values).convert(mode).save(path)
    assert (read_labels(path) == labels_of(*expected)).all()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_palettes_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask.{suffix}"
    write_palette(path, labels_of(0, 1, 2, 255))
    assert (read_labels(path) == labels_of(0, 1, 2, 255)).all()


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.integers(0, 255), min_size=1, max_size=30))
def test_palette_masks_come_back(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    path = tmp_path_factory.mktemp("palette") / "m.png"
    write_palette(path, labels_of(*ids))
    assert (read_labels(path) == labels_of(*ids)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, over damaged TIFF tags
@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "BMP", "TIFF", "GIF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    end=st.integers(0, 500),
)
def test_damaged_files_give_labels_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: list[tuple[int, int]], end: int
) -> None:
    file = BytesIO()
    Image.new("L", (9, 7), 3).save(file, kind)
    content = bytearray(file.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / "mask"
    path.write_bytes(content[:end])
    try:
        labels = read_labels(path, MediaLimits(max_pixels=10_000))
    except InputError:
        return
    assert labels.dtype == np.uint8
    assert labels.ndim == 2


def test_void_is_told_from_objects(tmp_path: Path) -> None:
    truth = two_objects(3)
    truth[1][:10] = 255
    write_davis(tmp_path, "toys", truth)
    (found,) = read_clips(tmp_path)
    assert list(found.first_frames) == [1, 2]
    _, void = found.truth(1, 1)
    assert void is not None
    assert void.sum() == 10 * 160


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[[9, 0, 0], [0, 9, 0], [0, 0, 0]]], np.uint8)).save(path)
    with pytest.raises(InputError, match=r"mask\.png: expected a palette image"):
        read_labels(path)
    Image.new("L", (40, 40), 200).save(path)
    with pytest.raises(MediaError, match=r"mask\.png: 40×40 pixels are more than the limit of 1,599"):
        read_labels(path, MediaLimits(max_pixels=40 * 40 - 1))
    cut, header = path.read_bytes()[:50], b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"
    for content in (b"", b"no image", cut, header):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"mask\.png: expected an image with labels \(PNG, "):
            read_labels(path)
    Image.fromarray(np.ones((4, 4), np.uint16)).save(path)
    with pytest.raises(InputError, match=r"mask\.png: expected labels of 8 bits"):
        read_labels(path)
    with pytest.raises(InputError, match=r"nowhere\.png"):
        read_labels(tmp_path / "nowhere.png")


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dir: no such folder"):
        read_clips(tmp_path / "nothing")
    with pytest.raises(InputError, match="found no clips"):
        read_clips(tmp_path)
    write_plain(tmp_path / "few", "toy", dict(enumerate(two_objects(2))), frames=5)
    with pytest.raises(InputError, match="toy: expected masks on at least 3 frames"):
        read_clips(tmp_path / "few")
    write_plain(tmp_path / "void", "toy", dict.fromkeys(range(3), np.zeros((90, 160), np.uint8)), frames=3)
    with pytest.raises(InputError, match="toy: expected an object"):
        read_clips(tmp_path / "void")
    write_plain(tmp_path / "more", "toy", dict(enumerate(two_objects(4))), frames=3)
    with pytest.raises(InputError, match=r"toy/00003\.png: expected a frame of the same name"):
        read_clips(tmp_path / "more")
    write_plain(tmp_path / "twice", "toy", dict(enumerate(two_objects(3))), frames=3)
    write_palette(tmp_path / "twice" / "toy" / "masks" / "00001.bmp", two_objects(1)[0])
    with pytest.raises(InputError, match=r"toy/00001\.png: expected one mask .* 00001\.bmp is there"):
        read_clips(tmp_path / "twice")
    write_plain(
        tmp_path / "size",
        "toy",
        {0: two_objects(1)[0], 1: np.ones((5, 6), np.uint8), 2: two_objects(1)[0]},
        frames=3,
    )
    with pytest.raises(InputError, match=r"toy/00001.png: expected \(90, 160\)"):
        read_clips(tmp_path / "size")
