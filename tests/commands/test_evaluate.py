"""`edgetam evaluate`, as it is typed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_model.cli import main
from edgetam_model.commands import evaluating
from edgetam_model.commands.evaluate import PROMPTS
from edgetam_model.commands.evaluation_pictures import plot_clips
from edgetam_model.evaluation import PROMPTS as KINDS
from edgetam_model.evaluation import evaluate_clip
from edgetam_model.interactive import InteractiveOptions
from edgetam_model.scores import ClipScore
from tests.annotated import two_objects, write_davis


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 6 frames with two objects each."""
    root = tmp_path_factory.mktemp("davis")
    for name in ("ape", "bee"):
        write_davis(root, name, two_objects(6))
    return root


def test_every_prompt_can_be_asked_for() -> None:
    assert PROMPTS == KINDS


def test_json_is_the_only_thing_on_stdout(
    davis: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, sheet = tmp_path / "plot.png", tmp_path / "sheet.png"
    words = ["evaluate", str(davis), "--weights", str(weights), "--prompt", "box", "--floors"]
    words += ["--plot", str(plot), "--sheet", str(sheet), "--clips", "bee,ape"]
    assert main([*words, "--json"]) == 0
    printed, progress = capsys.readouterr()
    document = json.loads(printed)
    assert (document["state"], document["method"], document["prompt"]) == ("done", "tiny", "box")
    assert document["outputs"] == {"plot": str(plot), "sheet": str(sheet)}
    assert [clip["name"] for clip in document["clips"]] == ["bee", "ape"]
    assert document["clips"][0]["objects"][1]["per_frame"]["frames"] == [1, 2, 3, 4]
    assert [floor["method"] for floor in document["floors"]][:2] == ["copy the first mask", "DIS flow"]
    assert document["interactive"] is None
    means = [clip["j"]["mean"] for clip in document["clips"]]
    assert document["mean"]["j"]["mean"] == pytest.approx(np.mean(means))
    assert "bee: 5/5 frames" in progress
    for path in (plot, sheet):
        with Image.open(path) as image:
            assert image.width > 500
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"edgetam evaluate: plot: {plot} exists; give --force")


def test_tables_for_people(
    davis: Path, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(davis), "--weights", str(untrained), "--floors", "--clips", "ape"]
    assert main([*words, "--plot", str(tmp_path / "j.png")]) == 0
    printed, _ = capsys.readouterr()
    rows = [line.split() for line in printed.splitlines()]
    assert "weights nothing, prompt mask: UNTRAINED" in printed
    assert ["clip", "J&F", "J", "F", "recall", "decay", "J", "10", "first", "fps"] in rows
    assert {"ape", "mean"} <= {row[0] for row in rows if len(row) == 9}
    assert "object 2" in printed
    assert "mean over objects" in printed
    assert any(row[:2] == ["mean", "J&F"] and len(row) == 6 for row in rows)
    assert ("has no CSRT" in printed) == ("MIL + GrabCut" in printed)
    assert printed.endswith(f"plot   {tmp_path / 'j.png'}\n")


def test_interactive_figures(
    davis: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = InteractiveOptions(frames=3, clicks=2, stills=1, still_clicks=4)
    monkeypatch.setattr(evaluating, "InteractiveOptions", lambda: options)
    words = ["evaluate", str(davis), "--weights", str(weights), "--clips", "ape", "--interactive"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["interactive"]
    assert found["options"]["frames"] == len(found["offline_jf"]) == 3
    assert [count["target"] for count in found["clicks"]] == [0.8, 0.9]
    assert main(words) == 0
    printed, _ = capsys.readouterr()
    assert "clicks on stills to IoU 0.9" in printed
    assert "J&F, 3 frames × 2 clicks" in printed
    assert "stops per object" in printed


def test_cancelling_keeps_finished_clips(
    davis: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(tracker: object, clip: object, prompt: object, progress: object) -> ClipScore:
        score = evaluate_clip(tracker, clip, prompt, progress)  # type: ignore[arg-type]
        if score.name == "ape":
            signal.raise_signal(signal.SIGINT)
        return score

    monkeypatch.setattr(evaluating, "evaluate_clip", interrupted)
    words = ["evaluate", str(davis), "--weights", str(weights), "--json"]
    assert main(words) == 130
    printed, err = capsys.readouterr()
    document = json.loads(printed)
    assert (document["state"], [clip["name"] for clip in document["clips"]]) == ("cancelled", ["ape"])
    assert "cancelled: 1 clips are finished" in err
    assert main([*words, "--floors"]) == 130  # this time before the first clip is finished
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.endswith("edgetam evaluate: cancelled\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--clips", "ape,,bee"], "clips: expected names with commas"),
        (["--clips", "elk"], "clips: no clip 'elk'"),
        (["--plot", "nowhere/j.png"], "plot: no such folder: nowhere"),
        (["--sheet", "."], "sheet: . exists"),
        (["--prompt", "lasso"], "prompt: invalid choice"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], problem: str, davis: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["evaluate", str(davis), "--weights", str(weights), *words])
    except SystemExit as end:  # argparse's own errors
        code = int(end.code or 0)
    assert code == 2
    printed, err = capsys.readouterr()
    assert (printed, err.splitlines()[-1].startswith(f"edgetam evaluate: {problem}")) == ("", True), err


def test_a_folder_without_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "found no clips" in capsys.readouterr().err


def test_the_plot_shows_each_method_where_its_scores_are(davis: Path) -> None:
    from edgetam_model.annotated_clips import read_clips
    from edgetam_model.scores import Evaluation
    from tests.annotated import Oracle

    (clip,) = read_clips(davis, ["ape"])
    good = evaluate_clip(Oracle(clip).as_tracker(), clip, "mask")
    bad = evaluate_clip(Oracle(clip, reach=0).as_tracker(), clip, "mask")
    picture = plot_clips([Evaluation("good", "mask", (good,)), Evaluation("bad", "mask", (bad,))], "J")
    panel = picture[60:].astype(int)
    red = np.argwhere((panel[..., 0] > 150) & (panel[..., 1] < 110))
    assert len(red)
    assert red[:, 0].max() < 40  # J = 1 lies at the top of the panel, 26 pixels down
    assert red[:, 1].min() > 100  # frame 1 of 4, a quarter of the way along
