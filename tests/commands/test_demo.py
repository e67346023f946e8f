"""`edgetam demo`: the product's own clip."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from edgetam_model import demo_clip
from edgetam_model.cli import main
from edgetam_model.commands.demo import mean_iou
from edgetam_model.demo_clip import DemoClip
from edgetam_model.masks import decode_rle, encode_rle
from edgetam_model.tracks import read_tracks


@pytest.fixture(autouse=True)
def short_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five small frames: drawing the real clip takes seconds."""
    small = partial(demo_clip.render_demo_clip, frames=5, width=160, height=96)
    monkeypatch.setattr(demo_clip, "render_demo_clip", small)


def test_demo_leaves_its_results_and_a_score(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--weights", str(untrained), "--json"]) == 0
    text, progress = capsys.readouterr()
    document = json.loads(text)
    assert [(o["label"], o["frames"]) for o in document["objects"]] == [("ball", 5), ("ladybird", 5)]
    assert 0 <= document["mean_iou"] <= 1
    assert document["weights"]["trained"] is False
    assert "UNTRAINED WEIGHTS" in progress
    assert all(Path(path).exists() for path in document["outputs"].values())
    assert sorted(document["outputs"]) == sorted(path.name for path in out.iterdir())

    assert main(["demo", "--out", str(out), "--weights", str(untrained)]) == 2
    assert capsys.readouterr().err.startswith("edgetam demo: out: clip.mp4, tracks.json, ")
    assert main(["demo", "--out", str(out), "--weights", str(untrained), "--force"]) == 0
    said = capsys.readouterr().out
    assert str(out / "overlay.mp4") in said
    assert f"{document['mean_iou']:.3f} (UNTRAINED WEIGHTS" in said


def test_trained_weights_are_named_and_nothing_is_shouted(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path), "--weights", str(weights)]) == 0
    out, err = capsys.readouterr()
    assert f"weights tiny ({weights}" in err
    assert "UNTRAINED" not in out + err


def test_the_score_is_the_mean_over_objects_and_frames(weights: Path, tmp_path: Path) -> None:
    main(["demo", "--out", str(tmp_path), "--weights", str(weights)])
    tracks = read_tracks(tmp_path / "tracks.json")
    found = [{t.id: t.frames[n].mask for t in tracks.objects} for n in range(5)]
    perfect = tuple({i: mask.rle() for i, mask in masks.items() if mask} for masks in found)
    assert all(len(masks) == 2 for masks in perfect)
    assert mean_iou(tracks, DemoClip(tmp_path, {}, {}, perfect)) == 1
    opposite = {i: encode_rle(~decode_rle(rle)) for i, rle in perfect[0].items()}
    assert mean_iou(tracks, DemoClip(tmp_path, {}, {}, (opposite, *perfect[1:]))) == pytest.approx(0.8)
