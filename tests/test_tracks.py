import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.masks import decode_rle, encode_rle
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult, ObjectResult, State
from edgetam_model.tracks import ModelFacts, Tracks, TracksWriter, VideoFacts, read_tracks

HEIGHT, WIDTH = 36, 52
MODEL = ModelFacts(name="tiny", fingerprint="ab12", options={"fill_hole_area": 8})


def video(frames: int = 6) -> VideoFacts:
    return VideoFacts(
        name="clip.mp4",
        width=WIDTH,
        height=HEIGHT,
        frames=frames,
        fps=25.0,
        times=tuple(0.5 + n / 25 for n in range(frames)),
    )


def found(object_id: int, x: int, state: State = "visible") -> ObjectResult:
    """An object whose mask is a rectangle of 8 × 12 low-resolution logits that starts at column x."""
    logits = np.full((32, 32), -4, np.float32)
    logits[10:18, x : x + 12] = 4
    return ObjectResult(logits, (HEIGHT, WIDTH), 0.91, 3.5, state, object_id=object_id)


def result(frame: int, *objects: ObjectResult) -> FrameResult:
    return FrameResult(frame, 0.5 + frame / 25, {one.object_id: one for one in objects})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    with TracksWriter(path, video(), MODEL) as writer:
        writer.add_object(7, 'dog "Öl" 🐕')
        writer.add_prompt(1, 7, Prompt(points=[[3.5, 4]], labels=[1], box=[1, 2, 30, 31.5]))
        writer.write(result(1, found(7, 4), found(2, 9)))
        writer.write(result(0, found(7, 3, "lost")))
    tracks = read_tracks(path)
    assert tracks.video == video()
    assert tracks.model == MODEL
    assert [(track.id, track.label) for track in tracks.objects] == [(2, "object"), (7, 'dog "Öl" 🐕')]
    dog = tracks.objects[1]
    (prompt,) = dog.prompts
    assert prompt.frame == 1
    assert prompt.points == ((3.5, 4.0),)
    assert prompt.labels == (1,)
    assert prompt.box == (1.0, 2.0, 30.0, 31.5)
    lost, seen = dog.frames
    assert (lost.frame, lost.state) == (0, "lost")
    assert lost.box is None
    assert lost.mask is None
    truth = found(7, 4)
    assert (seen.frame, seen.time, seen.score, seen.iou) == (1, 0.54, 3.5, 0.91)
    assert seen.box == truth.box
    assert seen.mask is not None
    np.testing.assert_array_equal(decode_rle(seen.mask.rle()), truth.mask)


def test_a_mask_prompt_is_kept(tmp_path: Path) -> None:
    mask = found(1, 5).mask
    with TracksWriter(tmp_path / "t.json", video(), MODEL) as writer:
        writer.add_prompt(0, 1, Prompt(mask=mask))
        writer.add_prompt(2, 1, Prompt(logits=np.zeros((32, 32), np.float32)))
    masked, refined = read_tracks(tmp_path / "t.json").objects[0].prompts
    assert masked.mask is not None
    assert masked.mask.rle() == encode_rle(mask)
    assert refined.refined
    assert not masked.refined


def test_a_frame_written_again_replaces_all_of_the_earlier_one(tmp_path: Path) -> None:
    with TracksWriter(tmp_path / "t.json", video(), MODEL) as writer:
        writer.write(result(3, found(1, 2), found(2, 5)))
        writer.write(result(4, found(1, 2)))
        writer.write(result(3, found(1, 9)))
    first, second = read_tracks(tmp_path / "t.json").objects
    assert [record.frame for record in first.frames] == [3, 4]
    assert first.frames[0].box == found(1, 9).box
    assert second.frames == ()


def test_an_interruption_keeps_the_finished_frames(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with pytest.raises(KeyboardInterrupt), TracksWriter(path, video(), MODEL) as writer:  # noqa: PT012
        writer.write(result(0, found(1, 2)))
        assert list(tmp_path.iterdir()) == [], "nothing stands under its name before it is complete"
        raise KeyboardInterrupt
    assert len(read_tracks(path).objects[0].frames) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_close_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.json"
    path.write_text("old")
    writer = TracksWriter(path, video(), MODEL, force=True)
    writer.write(result(0, found(1, 2)))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgetam_model.tracks.os.fsync", full)
    with pytest.raises(EdgeTAMError, match="No space left"):
        writer.close()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_files_and_missing_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        TracksWriter(path, video(), MODEL)
    with pytest.raises(InputError, match="no such folder"):
        TracksWriter(tmp_path / "none" / "t.json", video(), MODEL)
    TracksWriter(path, video(), MODEL, force=True).close()
    assert read_tracks(path).objects == ()


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    writer = TracksWriter(tmp_path / "t.json", video(), MODEL)
    with pytest.raises(InputError, match="frame: expected 0 to 5"):
        writer.write(result(6, found(1, 2)))
    other = ObjectResult(np.ones((32, 32), np.float32), (WIDTH, HEIGHT), 0.5, 1.0, object_id=1)
    with pytest.raises(InputError, match="mask: expected the video's 36×52"):
        writer.write(result(0, other))
    assert writer.close() == writer.close()
    with pytest.raises(InputError, match="closed"):
        writer.write(result(0, found(1, 2)))


def test_by_frame_gives_every_frame_of_the_video(tmp_path: Path) -> None:
    with TracksWriter(tmp_path / "t.json", video(), MODEL) as writer:
        writer.write(result(4, found(2, 2)))
        writer.write(result(1, found(1, 2), found(2, 5)))
    shown = list(read_tracks(tmp_path / "t.json").by_frame())
    assert [one.frame for one in shown] == list(range(6))
    assert [one.time for one in shown] == list(video().times)
    assert [[track.id for track, _ in one.objects] for one in shown] == [[], [1, 2], [], [], [2], []]
    assert all(record.frame == one.frame for one in shown for _, record in one.objects)


def test_memory_stays_flat_over_many_frames(tmp_path: Path) -> None:
    frames = 4000
    writer = TracksWriter(tmp_path / "t.json", video(frames), MODEL)
    tracemalloc.start()
    try:
        for frame in range(frames):
            writer.write(result(frame, found(1, 2 + frame % 9)))
            if frame == 500:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        writer.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # 3,500 records of about 200 bytes are 700 kB
    assert peak - after < 2_000_000  # the times and one record at a time
    assert len(read_tracks(tmp_path / "t.json").objects[0].frames) == frames


def document(**changes: Any) -> dict[str, Any]:
    record = {
        "frame": 0,
        "time": 0.5,
        "state": "visible",
        "score": 1.0,
        "iou": 0.5,
        "box": None,
        "mask": None,
    }
    plain: dict[str, Any] = {
        "format": "edgetam-tracks",
        "version": 1,
        "video": json.loads(video(2).model_dump_json()),
        "model": json.loads(MODEL.model_dump_json()),
        "objects": [{"id": 1, "label": "dog", "prompts": [], "frames": [record, {**record, "frame": 1}]}],
    }
    return {**plain, **changes}


def changed(where: str, value: Any) -> dict[str, Any]:
    """The document with the value at a dotted path replaced."""
    whole = document()
    node: Any = whole
    *path, last = (int(part) if part.isdigit() else part for part in where.split("."))
    for part in path:
        node = node[part]
    node[last] = value
    return whole


def test_the_plain_document_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(document()))
    assert read_tracks(tmp_path / "t.json").objects[0].label == "dog"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (document(version=2), "version: .*got 2.*another release"),
        (document(format="coco", objects=3), "format: .*edgetam-tracks.*got 'coco'"),
        ({key: value for key, value in document().items() if key != "version"}, "version: missing"),
        (document(extra=1), "extra: "),
        (changed("video.width", "52"), "video.width: "),
        (changed("video.times", [0.5]), "video: expected 2 times"),
        (changed("objects.0.frames.0.state", "gone"), "objects.0.frames.0.state: "),
        (changed("objects.0.frames.0.box", [0, 0, 4, 4]), "expected box and mask both"),
        (changed("objects.0.frames.0.frame", 1), "expected ascending frames, got 1 after 1"),
        (changed("objects.0.frames.1.frame", 2), "object 1 has frames after the video's last"),
        (document(objects=document()["objects"] * 2), "expected ascending object ids"),
        (
            changed(
                "objects.0.frames.0",
                {
                    **document()["objects"][0]["frames"][0],
                    "box": [0, 0, 4, 4],
                    "mask": {"size": [4, 4], "counts": "04"},
                },
            ),
            "another size than the video",
        ),
        ([1, 2], "tracks: "),
    ],
)
def test_a_wrong_document_is_explained(wrong: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError) as caught:
        read_tracks(tmp_path / "t.json")
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_input_error(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(text)
    with pytest.raises(InputError):
        read_tracks(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        read_tracks(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot read"):
        read_tracks(tmp_path)


def test_the_schema_allows_no_surprises() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Tracks.model_validate_json(json.dumps(document())).video.width = 3
