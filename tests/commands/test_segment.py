"""`edgetam segment`: one image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.cli import main
from edgetam_model.commands.segment import parse_prompts
from edgetam_model.errors import InputError
from edgetam_model.image_predictor import EverythingOptions, ImagePredictor
from edgetam_model.masks import decode_rle, mask_box
from edgetam_model.prompts import Prompt
from tests.models import clip, tiny_model


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(clip(1)[0]).save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(path))


def test_boxes_are_objects(
    image: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    boxes = ["--box", "20,20,60,60", "--box", "90,40,130,80"]
    assert main(["segment", str(image), *boxes, "--weights", str(weights), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "result.json").read_text()) | {"outputs": document["outputs"]}
    assert document["image"] == {"name": "frame.png", "width": 160, "height": 90}
    predictor = ImagePredictor(tiny_model())
    predictor.set_image(clip(1)[0])
    for found, box in zip(document["objects"], ([20, 20, 60, 60], [90, 40, 130, 80]), strict=True):
        mask = decode_rle(found["mask"])
        expected = predictor.predict(Prompt(box=box)).mask
        assert (mask != expected).mean() < 0.01  # fused layers round differently
        assert found["box"] == list(mask_box(mask) or ())
        assert (pixels(out / "masks" / f"{found['id']:03d}.png") == mask * np.uint8(255)).all()
        assert found["state"] == "visible"
    assert pixels(out / "overlay.png").shape == (90, 160, 3)


def test_one_mask_as_a_file(
    image: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "mask.PNG"
    words = ["segment", str(image), "--point", "40,40", "--point", "5,5,0", "--box", "20,20,60,60"]
    assert main([*words, "--weights", str(weights), "--out", str(out)]) == 0
    assert set(np.unique(pixels(out))) <= {0, 255}
    assert [p.name for p in out.parent.iterdir()] == ["mask.PNG"]
    assert "object 1: " in capsys.readouterr().out
    assert main([*words, "--weights", str(weights), "--out", str(out)]) == 2
    assert "mask.PNG exists" in capsys.readouterr().err
    assert main([*words, "--weights", str(weights), "--out", str(out), "--force"]) == 0


def test_everything(
    image: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "edgetam_model.image_predictor.EverythingOptions",
        lambda: EverythingOptions(points_per_side=4, min_iou=0.0, min_stability=0.0, max_overlap=1.0),
    )
    out = tmp_path / "out"
    assert (
        main(["segment", str(image), "--everything", "--weights", str(weights), "--out", str(out), "--json"])
        == 0
    )
    printed, progress = capsys.readouterr()
    found = json.loads(printed)["objects"]
    areas = [decode_rle(o["mask"]).sum() for o in found]
    assert len(found) > 1
    assert areas == sorted(areas, reverse=True)
    assert len(list((out / "masks").iterdir())) == len(found)
    assert "segmenting: 16/16 clicks" in progress


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "prompt: expected --point, --box or --everything"),
        (["--everything", "--point", "1,1"], "everything: expected no --point"),
        (["--point", "1,1,0"], "point: expected a positive click"),
        (["--point", "1,1", "--box", "1,1,2,2", "--box", "3,3,4,4"], "point: expected at most one --box"),
        (["--box", "1,1,2,2@4"], "box: expected x0,y0,x1,y1, got '1,1,2,2@4'"),
        (["--point", "161,1"], "points: expected clicks inside the image (160×90 pixels)"),
        (
            ["--box", "1,1,2,2", "--box", "3,3,4,4", "--out", "x.png"],
            "out: expected a folder for several masks",
        ),
        (["--point", "1,1", "--device", "abacus"], "device: expected auto, cpu"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    problem: str,
    image: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = ["segment", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*start, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"edgetam segment: {problem}")
    assert not (tmp_path / "out").exists()


def test_no_image_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.png").write_text("hello")
    out = str(tmp_path / "out")
    assert main(["segment", str(tmp_path / "text.png"), "--point", "1,1", "--out", out]) == 2
    assert capsys.readouterr().err.startswith("edgetam segment: image: not an image")
    (tmp_path / "folder.png").mkdir()
    assert main(["segment", "x.png", "--point", "1,1", "--out", str(tmp_path / "folder.png")]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_clicks_and_one_box_are_one_object() -> None:
    (prompt,) = parse_prompts(["1,2", "3,4,0"], ["0,0,9,9"], everything=False)
    assert prompt.points.tolist() == [[1, 2], [3, 4]]
    assert prompt.box.tolist() == [0, 0, 9, 9]
    assert parse_prompts([], [], everything=True) == ()
    with pytest.raises(InputError, match=r"^box:"):
        parse_prompts([], ["0,0,9"], everything=False)
