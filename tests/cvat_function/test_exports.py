"""What a team drew in CVAT comes out as the masks it shows, from every export."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvat_function.exports import read_export
from edgetam_model import InputError, open_source
from edgetam_model.masks import mask_box, mask_iou
from edgetam_model.training.annotations import AnnotatedTask, AnnotationSet, BoxShape, ReadOptions
from edgetam_model.training.task_clips import media_in, task_clips
from edgetam_model.training.windows import AnnotatedWindows, WindowOptions
from tests.cvat_function.export_files import (
    SIZE,
    Bools,
    archive,
    boxed,
    coco,
    crowd,
    disc,
    discs,
    document,
    element,
    image,
    on_frame,
    picture,
    png,
    ring,
    tag,
    task,
    track,
)

unhurried = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
large = st.builds(disc, st.floats(35, 45), st.floats(25, 35), st.floats(50, 58))


def read(path: Path, data: bytes | dict[str, bytes], **options: Any) -> AnnotationSet:
    """Read a document alone, or an archive."""
    if isinstance(data, bytes):
        path = path / "annotations.xml"
        path.write_bytes(data)
    else:
        path = archive(path / "export.zip", data)
    found = read_export(path, ReadOptions(**options))
    assert found is not None
    return found


def only(found: AnnotationSet) -> AnnotatedTask:
    (made,) = found.tasks
    return made


def mask_of(made: AnnotatedTask, number: int = 0) -> Bools:
    return made.objects[number].sightings[0].shape.mask(SIZE)


def filled_box(mask: Bools) -> Bools:
    x0, y0, x1, y1 = mask_box(mask) or (0, 0, 0, 0)
    filled = np.zeros_like(mask)
    filled[y0:y1, x0:x1] = True
    return filled


@unhurried
@given(discs)
def test_every_shape_of_the_xml_comes_back(tmp_path: Path, mask: Bools) -> None:
    shapes = [element(kind, mask) for kind in ("mask", "box")]
    made = only(read(tmp_path, document(image("a.png", *shapes))))
    np.testing.assert_array_equal(mask_of(made, 0), mask)
    assert mask_iou(mask_of(made, 1), filled_box(mask)) >= 0.99
    assert made.objects[0].labels == ("cat",)


@pytest.mark.parametrize("radius", [100.0, 150.0, 220.0])
def test_polygons_come_back_but_for_the_pixel_that_they_were_simplified_by(
    tmp_path: Path, radius: float
) -> None:
    size = (500, 500)
    mask = disc(250, 250, radius, size)
    text = document(image("a.png", element("polygon", mask))).decode()
    wide = text.replace(f'width="{SIZE[1]}" height="{SIZE[0]}"', 'width="500" height="500"')
    made = only(read(tmp_path, wide.encode()))
    assert mask_iou(made.objects[0].sightings[0].shape.mask(size), mask) >= 0.98


@given(st.floats(15, 30), st.floats(15, 25), st.floats(10, 30), st.floats(10, 20), st.floats(-180, 180))
@unhurried
def test_rectangles_turn_about_their_middle(
    tmp_path: Path, x: float, y: float, width: float, height: float, turn: float
) -> None:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    right, down = columns - x - width / 2, rows - y - height / 2
    a = np.radians(turn)
    along = abs(right * np.cos(a) + down * np.sin(a)) - width / 2  # how far outside, in pixels
    across = abs(down * np.cos(a) - right * np.sin(a)) - height / 2
    far = np.maximum(along, across)
    corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height, "rotation": turn}
    in_xml = only(read(tmp_path, document(image("a.png", tag("box", {"label": "cat", **corners})))))
    json_file = coco(["a.png"], [boxed(x, y, width, height, turn)])
    in_coco = only(read(tmp_path, {"annotations/instances_default.json": json_file}))
    for made in (in_xml, in_coco):
        assert isinstance(made.objects[0].sightings[0].shape, BoxShape)
        mask = mask_of(made)
        assert mask[far < -0.6].all()  # a quarter of a pixel is the polygon's own, either way
        assert not mask[far > 0.6].any()


def test_a_track_is_one_object_with_what_a_person_and_what_cvat_drew(tmp_path: Path) -> None:
    shapes = [
        on_frame(10, disc(30)),
        on_frame(11, disc(31), keyframe=False),
        on_frame(12, disc(32)),
        on_frame(13, disc(32), outside=True),
        on_frame(20, disc(50)),
    ]
    data = document(track(*shapes), meta=task())
    found = read(tmp_path, data)
    made = only(found)
    assert (made.id, made.kind, made.media) == ("task 5", "video", "clip.mp4")
    (each,) = made.objects
    assert [(seen.frame, seen.origin) for seen in each.sightings] == [
        (10, "human"),
        (12, "human"),
        (20, "human"),
    ]
    assert each.absent == (range(13, 20),)
    assert found.ignored == {"shapes between key frames": 1}
    (all_of_it,) = only(read(tmp_path, data, interpolated=True)).objects
    assert [seen.origin for seen in all_of_it.sightings] == ["human", "interpolated", "human", "human"]


def test_a_single_shape_of_a_video_says_nothing_about_the_next_frame(tmp_path: Path) -> None:
    """CVAT writes it as a track that ends at once; a mask on every frame comes so."""
    ends = [
        track(on_frame(n, disc(30 + n), "mask"), on_frame(n + 1, disc(30 + n), "mask", outside=True))
        for n in range(3)
    ]
    made = only(read(tmp_path, document(*ends, meta=task())))
    assert [len(each.sightings) for each in made.objects] == [1, 1, 1]
    assert all(each.absent == () for each in made.objects)


def test_what_a_model_drew_counts_as_its_own(tmp_path: Path) -> None:
    origins = []
    for source in ("manual", "semi-auto", "auto"):
        shapes = (on_frame(0, disc()), on_frame(1, disc()))
        each = only(read(tmp_path, document(track(*shapes, source=source), meta=task()))).objects[0]
        origins.append(each.sightings[0].origin)
    assert origins == ["human", "model", "model"]
    single = element("mask", disc()).replace('source="manual"', 'source="auto"')
    assert only(read(tmp_path, document(image("a.png", single)))).objects[0].sightings[0].origin == "model"


def test_frames_of_a_video_task_that_come_as_images_are_one_video(tmp_path: Path) -> None:
    frames = [
        image(f"frame_{n:06d}", element("mask", disc(30 + n)), number=n, task_id=5, subset="Train")
        for n in (3, 4)
    ]
    made = only(
        read(tmp_path, document(*frames, meta=f"<project><tasks>{task()}{task(6)}</tasks></project>"))
    )
    assert (made.id, made.kind, made.media) == ("task 5", "video", "clip.mp4")
    assert [each.sightings[0].frame for each in made.objects] == [3, 4]


def test_images_are_tasks_and_frames_stay_together(tmp_path: Path) -> None:
    shape = element("mask", disc())
    names = ["x/a.png", "x/b.png", "walk/frame_000001.png", "walk/frame_000002.png"]
    found = read(tmp_path, document(*(image(name, shape) for name in names)))
    assert [made.id for made in found.tasks] == names
    groups = [made.group for made in found.tasks]
    assert groups[:2] == names[:2]
    assert groups[2] == groups[3]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ([image("a.png")], "images without a shape"),
        ([image("a.png", tag("ellipse", {"cx": 1}))], "shapes of type ellipse"),
        ([image("a.png", tag("skeleton", {}, tag("points", {})))], "shapes of type skeleton"),
        ([image("a.png", tag("box", {"xtl": 5}))], "damaged shapes"),
        ([image("a.png", tag("mask", {"rle": "1, x"}))], "damaged shapes"),
        ([image("a.png", tag("polygon", {"points": "1,2;3"}))], "damaged shapes"),
        ([track()], "tracks without a shape"),
        ([image("a.png", element("mask", disc()))] * 2, "images that are named twice"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path: Path, elements: list[str], reason: str) -> None:
    found = read(tmp_path, document(*elements))
    assert found.ignored[reason] == 1
    assert len(found.tasks) == (1 if "twice" in reason else 0)


@unhurried
@given(discs)
def test_coco_of_cvat_has_painted_masks_as_crowds(tmp_path: Path, mask: Bools) -> None:
    found = read(tmp_path, {"annotations/instances_default.json": coco(["a.png"], [crowd(mask)])})
    np.testing.assert_array_equal(mask_of(only(found)), mask)
    real = {**crowd(mask), "attributes": {"is_crowd": True}}
    left = read(tmp_path, {"annotations/instances_default.json": coco(["a.png"], [real])})
    assert left.ignored == {"crowds": 1, "images without a shape": 1}


def test_coco_of_a_video_has_its_tracks(tmp_path: Path) -> None:
    names = ["frame_000004.PNG", "frame_000005.PNG"]
    shapes = [
        {**ring(disc(30)), "image_id": 1, "attributes": {"track_id": 7, "keyframe": True}},
        {**ring(disc(31)), "image_id": 2, "attributes": {"track_id": 7, "keyframe": False}},
        {**crowd(disc(50)), "image_id": 2},
    ]
    data = {"annotations/instances_Train.json": coco(names, shapes)}
    made = only(read(tmp_path, data, interpolated=True))
    assert made.kind == "video"
    assert [[seen.frame for seen in each.sightings] for each in made.objects] == [[4, 5], [5]]
    assert read(tmp_path, data).ignored == {"shapes between key frames": 1}


def test_damaged_shapes_of_coco_cost_themselves_alone(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": "x"},
        {**ring(disc()), "image_id": 9},
        {},
    ]
    data = {"annotations/instances_default.json": coco(["a.png"], [*bad, ring(disc())])}
    found = read(tmp_path, data)
    assert found.ignored == {"damaged shapes": 4}
    assert len(only(found).objects) == 1


def masks_export(objects: Bools, classes: Bools | None = None) -> dict[str, bytes]:
    """Two objects of two classes: left of the middle, and right of it."""
    right = np.mgrid[: SIZE[0], : SIZE[1]][1] >= SIZE[1] // 2
    pixels, kinds = (np.zeros((*SIZE, 3), np.uint8) for _ in range(2))
    pixels[objects & ~right], pixels[objects & right] = (128, 0, 0), (0, 128, 0)
    kinds[objects & ~right], kinds[objects & right] = (10, 20, 30), (40, 50, 60)
    labels = b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:10,20,30::\ndog:40,50,60::\n"
    return {
        "labelmap.txt": labels,
        "SegmentationObject/in/a.png": png(pixels),
        "SegmentationClass/in/a.png": png(kinds),
    }


@unhurried
@given(discs)
def test_segmentation_masks_come_back(tmp_path: Path, mask: Bools) -> None:
    made = only(read(tmp_path, masks_export(mask)))
    assert made.id == "in/a"
    union = np.logical_or.reduce([mask_of(made, n) for n in range(len(made.objects))])
    np.testing.assert_array_equal(union, mask)
    for each in made.objects:
        left = bool(each.sightings[0].shape.mask(SIZE)[:, : SIZE[1] // 2].any())
        assert each.labels == (("cat",) if left else ("dog",))


def test_a_damaged_mask_costs_itself_and_a_damaged_list_the_file(tmp_path: Path) -> None:
    good = masks_export(disc())
    found = read(tmp_path, {**good, "SegmentationObject/b.png": b"no picture"})
    assert found.ignored == {"damaged masks": 1}
    assert len(found.tasks) == 1
    with pytest.raises(InputError, match=r"labelmap\.txt"):
        read(tmp_path, {**good, "labelmap.txt": b"cat:1,2\n"})


def test_images_inside_are_unpacked_where_they_are_wanted(tmp_path: Path) -> None:
    inside = {
        "annotations.xml": document(image("in/a.png", element("mask", disc()))),
        "images/in/a.png": picture(),
    }
    assert only(read(tmp_path, inside)).media == "in/a.png"
    media = only(read(tmp_path, inside, unpack=tmp_path / "out")).media
    assert media == str(tmp_path / "out" / "images" / "in" / "a.png")
    with open_source(media) as source:
        assert source.read(0).shape == (*SIZE, 3)
    more = {
        "annotations/instances_Train.json": coco(["b.png"], [ring(disc())]),
        "images/Train/b.png": picture(),
    }
    assert Path(only(read(tmp_path, more, unpack=tmp_path / "two")).media).is_file()
    masks = {**masks_export(disc()), "JPEGImages/in/a.jpg": picture()}
    assert Path(only(read(tmp_path, masks, unpack=tmp_path / "three")).media).is_file()


def test_frames_inside_become_the_video(tmp_path: Path) -> None:
    """Frames that CVAT left out, or that nobody saved, do not shift the others."""
    pictures = {f"images/frame_{n:06d}.PNG": picture(n) for n in (10, 12, 14)}
    shapes = [on_frame(12, disc(30)), on_frame(14, disc(40)), on_frame(16, disc(50))]
    data = {"annotations.xml": document(track(*shapes), meta=task()), **pictures}
    made = only(read(tmp_path, data, unpack=tmp_path / "out"))
    assert [seen.frame for seen in made.objects[0].sightings] == [1, 2]
    with open_source(made.media) as source:
        assert [int(source.read(n)[0, 0, 0]) for n in range(len(source))] == [10, 12, 14]


def test_the_training_engine_reads_an_export(tmp_path: Path) -> None:
    pictures = {f"images/frame_{n:06d}.PNG": picture(n) for n in range(4)}
    shapes = [on_frame(n, disc(30 + n)) for n in range(4)]
    data = {"annotations.xml": document(track(*shapes), meta=task()), **pictures}
    found = read(tmp_path, data, unpack=tmp_path / "out")
    clips = list(task_clips(found.tasks, media_in(tmp_path / "out")))
    batch = AnnotatedWindows(clips, WindowOptions(size=32, frames=3)).batch(0, 0, 2)
    assert batch.present[:, 0, 0].all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "document type"),
        (b"<annotations><image>", "expected XML"),
        (b"<a><annotations/></a>", "expected <annotations>"),
        (b"<annotations>" + b"<a>" * 60 + b"</a>" * 60 + b"</annotations>", "inside each other"),
        (b"<annotations>\xff</annotations>", "expected XML"),
    ],
)
def test_hostile_documents_are_refused(tmp_path: Path, text: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(tmp_path, text)
    with pytest.raises(InputError, match=problem):
        read(tmp_path, {"annotations.xml": text})


def test_other_files_are_none_of_its_own(tmp_path: Path) -> None:
    for name, data in (("a.json", b"[]"), ("a.xml", b"<svg/>"), ("a.mp4", bytes(99)), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        assert read_export(tmp_path / name, ReadOptions()) is None
    assert read_export(tmp_path, ReadOptions()) is None
    assert read_export(archive(tmp_path / "b.zip", {"x.txt": b"x"}), ReadOptions()) is None


XML = document(
    image("a.png", element("mask", disc()), element("box", disc()), element("polygon", disc())),
    track(on_frame(1, disc()), on_frame(4, disc(), "box", outside=True)),
    meta=task(),
)
COCO = coco(["a.png", "frame_000001.png"], [crowd(disc()), ring(disc()), boxed(1, 2, 30, 20, 5.0)])


NOISE = [b'"', b"9" * 30, b"-", b"nan", b"<box>"]


def usable(found: AnnotationSet | None) -> None:
    for made in found.tasks if found else ():
        for each in made.objects:
            for seen in each.sightings:
                assert seen.shape.mask(SIZE).shape == SIZE


@unhurried
@given(st.data())
def test_damaged_files_end_in_nothing_but_input_errors(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["xml", "zip", "coco"]))
    path = tmp_path / "export"
    members = {"annotations/instances_x.json": COCO} if kind == "coco" else {"annotations.xml": XML}
    if kind == "xml":
        path.write_bytes(XML)
    else:
        archive(path, {**members, "images/a.png": picture()})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(
            st.binary(min_size=1, max_size=4) | st.sampled_from([b'"', b"9" * 30, b"-", b"nan"])
        )
        content[at : at + data.draw(st.sampled_from([0, len(noise)]))] = noise
    path.write_bytes(bytes(content))
    with suppress(InputError):
        usable(read_export(path, ReadOptions(interpolated=True, unpack=tmp_path / "out")))


@unhurried
@given(st.data())
def test_damaged_coco_ends_in_nothing_but_input_errors(tmp_path: Path, data: st.DataObject) -> None:
    text = COCO.decode()
    at = data.draw(st.integers(0, len(text) - 1))
    leaf = data.draw(st.sampled_from(["null", "-1", "1e999", "[]", '"x"', "9" * 40, "true", "{}", "0"]))
    broken = text[:at] + leaf + text[at + data.draw(st.integers(0, 3)) :]
    path = archive(tmp_path / "export.zip", {"annotations/instances_x.json": broken.encode()})
    with suppress(InputError):
        usable(read_export(path, ReadOptions()))
