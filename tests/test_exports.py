import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from edgetam_model.errors import InputError
from edgetam_model.exports import FORMATS, davis_palette, export_tracks
from edgetam_model.masks import Mask, encode_rle, mask_box, mask_iou
from edgetam_model.tracks import FrameRecord, ModelFacts, ObjectTrack, RleRecord, Tracks, VideoFacts

HEIGHT, WIDTH, FRAMES = 40, 64, 5


def mask_at(frame: int, object_id: int) -> Mask:
    """A rectangle that moves right; object 3 lies over a part of object 1."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[10 * (object_id // 2) : 10 * (object_id // 2) + 15, 4 * frame + 3 : 4 * frame + 20] = True
    return mask


def record(frame: int, object_id: int) -> FrameRecord:
    mask = mask_at(frame, object_id)
    rle = encode_rle(mask)
    return FrameRecord(
        frame=frame,
        time=frame / 25,
        state="visible",
        score=2.5,
        iou=0.9,
        box=mask_box(mask),
        mask=RleRecord(size=(HEIGHT, WIDTH), counts=rle["counts"]),
    )


def absent(frame: int) -> FrameRecord:
    return FrameRecord(frame=frame, time=frame / 25, state="absent", score=-3.0, iou=0.1, box=None, mask=None)


def tracks(first_id: int = 1) -> Tracks:
    """Object 1 (dog) on frames 0 to 2, object 3 (cat) on 1, absent on 2; nothing on 3 and 4."""
    return Tracks(
        video=VideoFacts(
            name="clip.mp4",
            width=WIDTH,
            height=HEIGHT,
            frames=FRAMES,
            fps=25.0,
            times=tuple(n / 25 for n in range(FRAMES)),
        ),
        model=ModelFacts(name="tiny", fingerprint="00"),
        objects=(
            ObjectTrack(id=first_id, label="dog", frames=tuple(record(n, 1) for n in range(3))),
            ObjectTrack(id=300, label="cat")
            if first_id > 255
            else ObjectTrack(id=3, label="cat", frames=(record(1, 3), absent(2))),
        ),
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside pycocotools
def test_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    folder = export_tracks(tracks(), "coco", tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO(str(folder / "annotations.json"))
    assert len(coco.getImgIds()) == FRAMES
    assert [kind["name"] for kind in coco.loadCats(coco.getCatIds())] == ["dog", "cat"]
    image = coco.loadImgs(2)[0]
    assert (image["frame_index"], image["timestamp"], image["width"]) == (1, 0.04, WIDTH)
    found = {one["track_id"]: one for one in coco.loadAnns(coco.getAnnIds(imgIds=2))}
    assert sorted(found) == [1, 3]
    for number, one in found.items():
        mask = mask_at(1, number)
        np.testing.assert_array_equal(coco.annToMask(one), mask)
        assert one["area"] == mask.sum()
        assert one["bbox"] == [7, 10 * (number // 2), 17, 15]
    assert found[3]["category_id"] == 2
    assert len(coco.getAnnIds(imgIds=3)) == 1, "an absent object has no annotation"
    assert coco.getAnnIds(imgIds=5) == []


def test_mot_counts_frames_from_one(tmp_path: Path) -> None:
    folder = export_tracks(tracks(), "mot", tmp_path)
    lines = (folder / "gt" / "gt.txt").read_text().splitlines()
    assert lines == [
        "1,1,3,0,17,15,1,1,1",
        "2,1,7,0,17,15,1,1,1",
        "2,3,7,10,17,15,1,2,1",
        "3,1,11,0,17,15,1,1,1",
    ]
    assert (folder / "gt" / "labels.txt").read_text() == "dog\ncat\n"
    facts = (folder / "seqinfo.ini").read_text()
    assert "seqLength=5" in facts
    assert "frameRate=25\n" in facts


def test_yolo_boxes_are_fractions_of_the_image(tmp_path: Path) -> None:
    folder = export_tracks(tracks(), "yolo", tmp_path)
    files = sorted((folder / "labels").iterdir())
    assert [file.name for file in files] == [f"{n:06d}.txt" for n in range(FRAMES)]
    assert (folder / "classes.txt").read_text() == "dog\ncat\n"
    assert '  1: "cat"\n' in (folder / "data.yaml").read_text()
    kinds, boxes = [], []
    for line in files[1].read_text().splitlines():
        kind, *values = line.split()
        kinds.append(kind)
        x, y, width, height = np.array(values, float) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    assert kinds == ["0", "1"]
    np.testing.assert_allclose(boxes, [(7, 0, 24, 15), (7, 10, 24, 25)], atol=1e-3)
    assert files[4].read_text() == ""


def test_yolo_polygons_enclose_the_mask(tmp_path: Path) -> None:
    folder = export_tracks(tracks(), "yolo-seg", tmp_path)
    dog, cat = (folder / "labels" / "000001.txt").read_text().splitlines()
    assert cat.split()[0] == "1"
    outline = np.array(dog.split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
    np.testing.assert_allclose(outline.min(axis=0), (7, 0), atol=1e-3)
    np.testing.assert_allclose(outline.max(axis=0), (24, 15), atol=1e-3)
    assert (folder / "labels" / "000003.txt").read_text() == ""


def test_davis_masks_hold_object_ids_in_its_palette(tmp_path: Path) -> None:
    folder = export_tracks(tracks(), "davis", tmp_path)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{n:05d}.png" for n in range(FRAMES)]
    with Image.open(files[1]) as image:
        assert image.mode == "P"
        assert image.size == (WIDTH, HEIGHT)
        indices = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(indices == 3, mask_at(1, 3))
    np.testing.assert_array_equal(indices == 1, mask_at(1, 1) & ~mask_at(1, 3))
    assert mask_iou(mask_at(1, 1), mask_at(1, 3)) > 0, "the objects overlap in this test"
    assert set(map(tuple, colours[indices == 1].tolist())) == {(128, 0, 0)}
    with Image.open(files[4]) as image:
        assert not np.asarray(image).any()


def test_the_palette_is_the_published_one() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    palette = davis_palette()
    assert {index: tuple(palette[index].tolist()) for index in known} == known
    assert palette[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


def test_davis_refuses_ids_beyond_its_palette(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 to 255, got 256"):
        export_tracks(tracks(first_id=256), "davis", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_nothing_is_overwritten_without_force(name: str, tmp_path: Path) -> None:
    first = export_tracks(tracks(), name, tmp_path / "out")
    mine = first / "mine.txt"
    mine.write_text("kept")
    with pytest.raises(InputError, match="exists"):
        export_tracks(tracks(), name, tmp_path / "out")
    assert mine.exists()
    assert export_tracks(tracks(), name, tmp_path / "out", force=True) == first
    assert not mine.exists()
    assert list((tmp_path / "out").iterdir()) == [first]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_tracks_without_objects_are_written(name: str, tmp_path: Path) -> None:
    empty = tracks().model_copy(update={"objects": ()})
    assert any(export_tracks(empty, name, tmp_path).iterdir())


def test_an_interrupted_export_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_tracks(tracks(), "yolo", tmp_path)
    before = sorted(folder.rglob("*"))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgetam_model.exports._yolo_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_tracks(tracks(), "yolo", tmp_path, force=True)
    assert sorted(folder.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of coco, mot, yolo, yolo-seg, davis, got 'voc'"):
        export_tracks(tracks(), "voc", tmp_path)


def test_a_line_break_in_a_label_does_not_shift_the_classes(tmp_path: Path) -> None:
    odd = tracks()
    first = odd.objects[0].model_copy(update={"label": 'big\n"dog"'})
    folder = export_tracks(odd.model_copy(update={"objects": (first, odd.objects[1])}), "yolo", tmp_path)
    assert (folder / "classes.txt").read_text() == 'big "dog"\ncat\n'
    assert json.loads((folder / "data.yaml").read_text().splitlines()[-2].split(": ", 1)[1]) == 'big\n"dog"'
