"""The job behind `track`: which frames, what is kept, what is left."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Self

import av
import numpy as np
import pytest
from PIL import Image

from edgetam_model.commands.outputs import check_free, titled
from edgetam_model.commands.parsing import FrameRange, PlacedPrompt, Target
from edgetam_model.commands.progress import Meter
from edgetam_model.commands.tracking import TIDY, Direction, TrackJob, plan, run_job
from edgetam_model.errors import InputError, PromptError
from edgetam_model.exports import new_folder
from edgetam_model.masks import decode_rle
from edgetam_model.prompts import Prompt
from edgetam_model.sources import VideoInfo
from edgetam_model.timetable import TimeTable
from edgetam_model.tracks import read_tracks
from tests.video_fixtures import Recipe, constant, write_video

INFO = VideoInfo(160, 96, TimeTable.constant(20, 25), "arrays")


class Recorder(Meter):
    """Remembers what it is told, and presses Ctrl-C when a stage has come so far."""

    def __init__(self, stage: str = "", at: int = -1, times: int = 1) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.notes: list[str] = []
        self.titles: list[str] = []
        self._press = (stage, at, times)

    def stage(self, title: str, total: int | None = None, unit: str = "frames", begun: int = 0) -> None:
        self.stages.append((title, total))

    def reach(self, done: int) -> None:
        stage, at, times = self._press
        if (self.stages[-1][0], done) == (stage, at):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    def retitle(self, title: str) -> None:
        self.titles.append(title)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def at(frame: int, number: int = 1, prompt: Prompt | None = None) -> PlacedPrompt:
    return PlacedPrompt(Target(frame, number), prompt or Prompt(box=[20, 20, 90, 80]))


def job(video: Path, weights: Path, out: Path, *prompts: PlacedPrompt, **options: object) -> TrackJob:
    return TrackJob(str(video), prompts or (at(0),), out, weights=str(weights), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("direction", "frames", "prompted", "ways"),
    [
        ("forward", FrameRange(), (3, 8), [range(3, 20)]),
        ("backward", FrameRange(), (3, 8), [range(8, -1, -1)]),
        ("both", FrameRange(), (3, 8), [range(3, 20), range(7, -1, -1)]),
        ("both", FrameRange(2, 9), (5,), [range(5, 10), range(4, 1, -1)]),
        ("both", FrameRange(5, 9), (5,), [range(5, 10)]),
        ("backward", FrameRange(5, 9), (5,), [range(5, 4, -1)]),
        ("forward", FrameRange(5, 5), (5,), [range(5, 6)]),
    ],
)
def test_ways_over_the_video(
    direction: Direction, frames: FrameRange, prompted: tuple[int, ...], ways: list[range]
) -> None:
    placed = tuple(at(frame) for frame in prompted)
    asked = TrackJob("x.mp4", placed, Path("out"), frames=frames, direction=direction)
    assert plan(asked, INFO) == ways


@pytest.mark.parametrize(
    ("placed", "frames", "problem"),
    [
        (at(20), FrameRange(), r"^prompt: expected frames 0 to 19, got @20#1"),
        (at(4, 3), FrameRange(5, 9), r"^prompt: expected frames 5 to 9, got @4#3"),
        (at(0), FrameRange(0, 20), r"^range: expected frames 0 to 19, got 0-20"),
        (at(30), FrameRange(30), r"^range: expected frames 0 to 19, got 30-"),
        (at(1, 2, Prompt(box=[160, 0, 170, 9])), FrameRange(), r"^box: .*160×96 pixels.* for @1#2"),
        (at(1, 2, Prompt(points=[[5, 5]], labels=[0])), FrameRange(), r"^point: .*positive .* @1#2"),
    ],
)
def test_what_does_not_fit_the_video_is_refused(
    placed: PlacedPrompt, frames: FrameRange, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        plan(TrackJob("x.mp4", (placed,), Path("out"), frames=frames), INFO)


def test_everything_is_left_in_the_folder(video: Path, weights: Path, tmp_path: Path) -> None:
    asked = job(
        video,
        weights,
        tmp_path / "a" / "b",
        at(4),
        at(6, 2, Prompt(points=[[100, 60]], labels=[1])),
        labels={2: "ball"},
        direction="both",
        frames=FrameRange(2, 9),
        formats=("mot", "davis"),
    )
    meter = Recorder()
    report = run_job(asked, meter)
    assert sorted(p.name for p in asked.out.iterdir()) == sorted(asked.outputs)
    assert (report.frames, report.cancelled) == (range(2, 10), False)
    assert ("tracking", 6 + 4) in meter.stages  # 4 to 9, then 5 to 2
    assert ("drawing", 8) in meter.stages
    tracks = read_tracks(asked.out / "tracks.json")
    assert [(t.id, t.label, [p.frame for p in t.prompts]) for t in tracks.objects] == [
        (1, "object", [4]),
        (2, "ball", [6]),
    ]
    for track in tracks.objects:
        assert [record.frame for record in track.frames] == list(range(2, 10))
        for record in track.frames:
            png = np.asarray(Image.open(asked.out / "masks" / str(track.id) / f"{record.frame:06d}.png"))
            truth = decode_rle(record.mask.rle()) if record.mask else np.zeros((96, 160), np.bool_)
            assert (png == truth * np.uint8(255)).all()
    assert tracks.model.name == "tiny"
    assert tracks.model.options == {}


def test_the_overlay_keeps_the_frames_and_their_times(video: Path, weights: Path, tmp_path: Path) -> None:
    run_job(job(video, weights, tmp_path, at(3), frames=FrameRange(3, 8), overlay=True), Recorder())
    with av.open(str(tmp_path / "overlay.mp4")) as overlay:
        times = [frame.time for frame in overlay.decode(video=0)]
    assert times == pytest.approx([n * 1001 / 30000 for n in range(6)], abs=1e-4)


def test_without_overlay_there_is_still_a_sheet(video: Path, weights: Path, tmp_path: Path) -> None:
    report = run_job(job(video, weights, tmp_path, overlay=False), Recorder())
    assert not (tmp_path / "overlay.mp4").exists()
    assert "overlay.mp4" not in report.outputs
    assert (tmp_path / "contact_sheet.png").is_file()


def test_objects_share_no_pixel_where_that_is_asked(video: Path, weights: Path, tmp_path: Path) -> None:
    def shared(out: Path, *, apart: bool) -> int:
        prompts = (at(0), at(0, 2, Prompt(box=[25, 20, 100, 80])))
        tracks = run_job(job(video, weights, out, *prompts, non_overlapping=apart), Recorder()).tracks
        assert tracks.model.options == ({"non_overlapping": True} if apart else {})
        pairs = zip(*(track.frames for track in tracks.objects), strict=True)
        masks = [[decode_rle(r.mask.rle()) for r in pair if r.mask] for pair in pairs]
        return sum(int((pair[0] & pair[1]).sum()) for pair in masks if len(pair) == 2)

    assert shared(tmp_path / "together", apart=False) > 0
    assert shared(tmp_path / "apart", apart=True) == 0


def test_ctrl_c_keeps_what_is_finished(video: Path, weights: Path, tmp_path: Path) -> None:
    meter = Recorder("tracking", 5)
    report = run_job(job(video, weights, tmp_path, formats=("coco",)), meter)
    assert (report.cancelled, report.frames) == (True, range(5))
    assert report.document()["state"] == "cancelled"
    assert meter.titles == [TIDY]
    assert [record.frame for record in read_tracks(tmp_path / "tracks.json").objects[0].frames] == list(
        range(5)
    )
    with av.open(str(tmp_path / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 5
    assert len(list((tmp_path / "masks" / "1").iterdir())) == 5
    assert (tmp_path / "contact_sheet.png").is_file()
    assert (tmp_path / "coco" / "annotations.json").is_file()


def test_ctrl_c_on_the_way_back_keeps_both_ways(video: Path, weights: Path, tmp_path: Path) -> None:
    asked = job(video, weights, tmp_path, at(8), direction="both")  # 8 to 11, then 7 to 0
    report = run_job(asked, Recorder("tracking", 6))
    assert (report.cancelled, report.frames) == (True, range(6, 12))


def test_ctrl_c_twice_quits_but_leaves_the_tracks(video: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(job(video, weights, tmp_path), Recorder("tracking", 5, times=2))
    assert [p.name for p in tmp_path.iterdir()] == ["tracks.json"]
    assert len(read_tracks(tmp_path / "tracks.json").objects[0].frames) == 5


def test_ctrl_c_while_drawing_leaves_no_half_masks(video: Path, weights: Path, tmp_path: Path) -> None:
    meter = Recorder("drawing", 5)
    with pytest.raises(KeyboardInterrupt):
        run_job(job(video, weights, tmp_path), meter)
    assert f"the tracks are complete: {tmp_path / 'tracks.json'}" in meter.notes[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["overlay.mp4", "tracks.json"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_cut_off_video_is_tracked_as_far_as_it_goes(weights: Path, tmp_path: Path) -> None:
    pts, base = constant(40, 25)
    path = write_video(tmp_path / "cut.mkv", Recipe(pts, base, gop=5))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    report = run_job(job(path, weights, tmp_path / "out"), Recorder())
    assert report.warnings
    assert report.document()["warnings"] == list(report.warnings)
    assert read_tracks(tmp_path / "out" / "tracks.json").video.warnings
    assert 5 < len(report.frames) < 40


def test_untrained_weights_cannot_be_overlooked(video: Path, untrained: Path, tmp_path: Path) -> None:
    meter = Recorder()
    report = run_job(job(video, untrained, tmp_path), meter)
    assert "UNTRAINED WEIGHTS: THE MASKS MEAN NOTHING" in meter.notes[0]
    assert "UNTRAINED" in report.summary()
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    assert sheet[2, 2].tolist() == [200, 20, 30]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"labels": {7: "x"}}, r"^label: object 7 has no prompt"),
        ({"formats": ("xml",)}, r"^format: expected one of coco, "),
        ({"formats": ("davis",), "prompts": (at(0, 256),)}, r"^format: davis holds .* got 256"),
    ],
)
def test_names_are_checked_before_the_video_is_opened(options: dict[str, object], problem: str) -> None:
    prompts = options.pop("prompts", (at(0),))
    with pytest.raises(InputError, match=problem):
        run_job(TrackJob("missing.mp4", prompts, Path("missing"), **options), Recorder())  # type: ignore[arg-type]


def test_results_in_the_way_are_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "mot").touch()
    asked = TrackJob("missing.mp4", (at(0),), tmp_path, formats=("mot",))
    with pytest.raises(InputError, match=r"^out: masks, mot exist in .*--force"):
        run_job(asked, Recorder())
    with pytest.raises(InputError, match=r"^out: expected a folder, .* is a file"):
        check_free(tmp_path / "mot", (), force=True)


def test_force_replaces_what_is_there(video: Path, weights: Path, tmp_path: Path) -> None:
    run_job(job(video, weights, tmp_path, formats=("mot",)), Recorder())
    (tmp_path / "masks" / "1" / "999999.png").touch()
    (tmp_path / "mine.txt").touch()
    again = job(video, weights, tmp_path, formats=("mot",), frames=FrameRange(0, 2), force=True)
    assert run_job(again, Recorder()).frames == range(3)
    assert len(list((tmp_path / "masks" / "1").iterdir())) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*again.outputs, "mine.txt"])


def test_a_new_folder_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "masks"
    with new_folder(final) as folder:
        (folder / "first").touch()

    def fill_in_vain() -> None:
        with new_folder(final) as folder:
            (folder / "second").touch()
            raise PromptError("mask", "no")

    with pytest.raises(PromptError):
        fill_in_vain()
    assert [p.name for p in tmp_path.rglob("*")] == ["masks", "first"]


def test_a_title_fits_and_shows() -> None:
    image = np.zeros((20, 300, 3), np.uint8)
    banner = titled(image, "x" * 40)[:-20]
    assert banner.shape[1] == 300
    assert (banner > 200).any()
    assert (banner[:, 290:] == banner[0, 0]).all()
