"""`edgetam info`: the facts, for people and machines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.cli import main
from tests.video_fixtures import Recipe, constant, write_video


def test_facts_for_machines(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(video), "--json"]) == 0
    out, err = capsys.readouterr()
    known = json.loads(out)
    assert (known["width"], known["height"], known["frames"]) == (160, 96, 12)
    assert (known["fps_exact"], known["variable_rate"], known["b_frames"]) == ("30000/1001", False, True)
    assert known["duration"] == pytest.approx(12 * 1001 / 30000)
    assert "times" not in known
    assert err == ""


def test_the_table_says_which_frame_is_when(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, base = constant(3, 1000)
    path = write_video(tmp_path / "variable.mp4", Recipe([40, 100, 350], base))
    assert main(["info", str(path), "--table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "frame\tseconds"
    times = [float(line.split("\t")[1]) for line in lines[1:]]
    assert np.diff(times) == pytest.approx([0.06, 0.25])
    assert main(["info", str(path), "--table", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["variable_rate"] is True
    assert known["times"] == pytest.approx(times)


def test_facts_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pts, base = constant(30, 25)
    path = write_video(tmp_path / "turned.mp4", Recipe(pts, base, turn=1))
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    for fact in ("30 (0 to 29)", "160×96", "25.000 fps (25/1), constant", "h264", "90° clockwise"):
        assert fact in shown


def test_warnings_are_said_and_stand_in_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pts, base = constant(40, 25)
    path = write_video(tmp_path / "cut.mkv", Recipe(pts, base, gop=5))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert main(["info", str(path)]) == 0
    assert capsys.readouterr().err.startswith("warning: the file is ")
    assert main(["info", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"]
    assert err == ""


def test_a_folder_of_images_is_a_video_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"{number}.png")
    assert main(["info", str(tmp_path), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert (known["frames"], known["codec"], known["media_duration"]) == (3, "images", None)
