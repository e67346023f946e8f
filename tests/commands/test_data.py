"""`edgetam data preview`: a picture of synthetic clips, or of windows of one's own data."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.commands import data
from edgetam_model.errors import InputError


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    data.register(parser.add_subparsers())
    args = parser.parse_args(["data", "preview", *map(str, words)])
    return int(args.run(args))


def test_a_picture_of_synthetic_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clips.png"
    assert run("--out", out, "--clips", 2, "--frames", 3, "--size", 64, "--seed", 5, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [clip["index"] for clip in document["clips"]] == [0, 1]
    first = np.asarray(Image.open(out))
    assert first.shape == (2 * 256 + 4, 3 * 256 + 8, 3)
    run("--out", out, "--clips", 2, "--frames", 3, "--size", 64, "--seed", 5, "--force")
    assert np.array_equal(first, np.asarray(Image.open(out)))


def test_a_picture_of_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, pixels in (("frames", np.full((40, 60, 3), 90, np.uint8)), ("masks", np.eye(40, 60) > 0)):
        (tmp_path / "clip" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "clip" / name / "00000.png")
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    Image.fromarray(mask).save(tmp_path / "clip" / "masks" / "00000.png")
    out = tmp_path / "mine.png"
    assert run("--out", out, "--data", tmp_path, "--clips", 1, "--frames", 2, "--size", 64) == 0
    assert "1 clips of 2 frames" in capsys.readouterr().out
    picture = np.asarray(Image.open(out)).astype(int)
    assert (np.ptp(picture, axis=2) > 100).any()  # an outline on grey


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--out", "clips.jpg"), "out"),
        (("--out", "nowhere/clips.png"), "out"),
        (("--out", "clips.png", "--clips", "0"), "clips"),
        (("--out", "clips.png", "--media", "x"), "media"),
        (("--out", "clips.png", "--size", "100"), "size"),
        (("--out", "clips.png", "--textures", "nowhere"), "textures"),
        (("--out", "there.png"), "out"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        run(*words)
    assert caught.value.field == field
