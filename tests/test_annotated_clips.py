"""Reading annotated clips: both layouts, every kind of mask file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.annotated_clips import read_clips, read_labels
from edgetam_model.errors import InputError
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
    with pytest.raises(InputError, match="clips: no clip 'elk'"):
        read_clips(tmp_path, ["elk"])


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
    path.write_text("no image")
    with pytest.raises(InputError, match=r"mask\.png: expected a PNG"):
        read_labels(path)
    Image.new("L", (40, 40), 200).save(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"mask\.png: expected a PNG"):
        read_labels(path)


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
    write_plain(
        tmp_path / "size",
        "toy",
        {0: two_objects(1)[0], 1: np.ones((5, 6), np.uint8), 2: two_objects(1)[0]},
        frames=3,
    )
    with pytest.raises(InputError, match=r"toy/00001.png: expected \(90, 160\)"):
        read_clips(tmp_path / "size")
