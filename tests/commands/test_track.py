"""`edgetam track`, as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.cli import main
from edgetam_model.commands.track import FORMATS
from edgetam_model.exports import FORMATS as WRITERS
from edgetam_model.tracks import read_tracks
from tests.video_fixtures import Recipe, constant, write_video

ROOT = Path(__file__).parent.parent.parent


def test_every_format_can_be_asked_for() -> None:
    assert tuple(WRITERS) == FORMATS


def test_json_is_the_only_thing_on_stdout(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["track", str(video), "--box", "20,20,90,80@4#3", "--point", "30,40@4#3", "--label", "3=dog"]
    words += ["--range", "2-9", "--direction", "both", "--weights", str(weights), "--out", str(out)]
    words += [word for name in FORMATS for word in ("--format", name)]
    assert main([*words, "--format", "coco", "--json"]) == 0
    printed, progress = capsys.readouterr()
    document = json.loads(printed)
    assert document["state"] == "done"
    assert document["frames"] == {"first": 2, "last": 9, "count": 8}
    assert document["video"] == {
        "name": "clip.mp4",
        "width": 160,
        "height": 96,
        "frames": 12,
        "fps": pytest.approx(29.97, abs=0.01),
    }
    (found,) = document["objects"]
    assert (found["id"], found["label"], found["frames"]) == (3, "dog", 8)
    assert found["visible"] + found["absent"] + found["lost"] == 8
    assert {Path(path).name for path in document["outputs"].values()} == {p.name for p in out.iterdir()}
    assert set(FORMATS) < set(document["outputs"])
    assert "tracking: 8/8 frames" in progress
    (prompt,) = read_tracks(out / "tracks.json").objects[0].prompts
    assert (prompt.frame, prompt.points, prompt.box) == (4, ((30, 40),), (20, 20, 90, 80))

    assert main(words) == 2
    assert capsys.readouterr().err.startswith("edgetam track: out: tracks.json, overlay.mp4, ")
    assert main([*words, "--force"]) == 0
    said, _ = capsys.readouterr()
    assert "object 3 dog: 8 frames" in said
    assert str(out / "overlay.mp4") in said


def test_a_mask_is_the_result_on_its_frame(video: Path, weights: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 160), np.uint8)
    mask[24:72, 40:120] = 255
    Image.fromarray(mask).save(tmp_path / "given.png")
    words = ["track", str(video), "--mask", f"{tmp_path / 'given.png'}@5", "--direction", "backward"]
    assert main([*words, "--weights", str(weights), "--out", str(tmp_path / "out")]) == 0
    tracks = read_tracks(tmp_path / "out" / "tracks.json")
    assert [record.frame for record in tracks.objects[0].frames] == list(range(6))
    found = np.asarray(Image.open(tmp_path / "out" / "masks" / "1" / "000005.png"))
    assert (found != mask).mean() < 0.02  # edges pass through a grid of 32×32


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "prompt: expected at least one"),
        (["--box", "9,2,3,4"], "box: expected x0,y0,x1,y1 with x0 < x1"),
        (["--box", "1,2,30,40@12"], "prompt: expected frames 0 to 11, got @12#1"),
        (["--box", "1,2,30,40", "--range", "5-2"], "range: expected A-B"),
        (["--box", "1,2,30,40", "--label", "dog"], "label: expected ID=NAME"),
        (["--box", "1,2,30,40", "--label", "2=dog"], "label: object 2 has no prompt"),
        (["--box", "1,2,30,40", "--device", "abacus"], "device: expected auto, cpu"),
        (["--mask", "missing.png"], "image: cannot read missing.png"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    problem: str,
    video: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["track", str(video), "--weights", str(weights), "--out", str(out), *words]) == 2
    printed, err = capsys.readouterr()
    assert (printed, err.count("\n")) == ("", 1)
    assert err.startswith(f"edgetam track: {problem}")
    assert not out.exists()


@pytest.mark.parametrize("name", ["text.mp4", "missing.mp4", "http://127.0.0.1:9/a.mp4"])
def test_what_is_no_video_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    video = name if "://" in name else str(tmp_path / name)
    assert main(["track", video, "--box", "1,2,30,40", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_weights_are_a_failure(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["track", str(video), "--box", "1,2,30,40", "--out", str(tmp_path / "out")]
    assert main([*words, "--weights", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("edgetam track: ")


def test_the_environment_names_weights_and_the_option_wins(
    video: Path, weights: Path, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETAM_WEIGHTS", str(untrained))
    words = ["track", str(video), "--box", "1,2,30,40", "--range", "0-1"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert read_tracks(tmp_path / "a" / "tracks.json").model.name == "nothing"
    assert main([*words, "--out", str(tmp_path / "b"), "--weights", str(weights)]) == 0
    assert read_tracks(tmp_path / "b" / "tracks.json").model.name == "tiny"


def test_ctrl_c_in_a_process_of_its_own(weights: Path, tmp_path: Path) -> None:
    """Lines at least every second, then exit code 130 with all that is finished."""
    pts, base = constant(2000, 25)
    video = write_video(tmp_path / "long.mp4", Recipe(pts, base, gop=50))
    words = [
        "track",
        str(video),
        "--box",
        "20,20,90,80",
        "--weights",
        str(weights),
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetam_model.cli", *words, "--json"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen: list[float] = []
    for line in process.stderr:
        if line.startswith("tracking: "):
            seen.append(time.monotonic())
        if len(seen) == 4:
            process.send_signal(signal.SIGINT)
            break
    printed, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert max(np.diff(seen)) < 2  # one second, and a busy machine's hesitation
    document = json.loads(printed)
    assert document["state"] == "cancelled"
    finished = document["frames"]["count"]
    assert 0 < finished < 2000
    assert f"cancelled: frames 0 to {finished - 1} are finished and kept" in rest
    assert "Traceback" not in rest
    assert len(read_tracks(tmp_path / "out" / "tracks.json").objects[0].frames) == finished
    assert (tmp_path / "out" / "overlay.mp4").is_file()
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
