"""The command line as a whole: verbs, help, exit codes, one-line errors."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgetam_model import cli
from edgetam_model.cli import main
from edgetam_model.errors import EdgeTAMError, InputError, MediaError, WeightsError

ROOT = Path(__file__).parent.parent
Register = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]


class Plugin(EntryPoint):
    """An entry point that needs no installed package."""

    def load(self) -> Register:
        if self.value == "missing":
            raise ImportError("No module named 'flask'")
        return _register


def _register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("serve", help="for labeling tools")
    parser.add_argument("--raise", dest="error")
    parser.set_defaults(run=_serve)


ERRORS: dict[str, BaseException] = {
    "input": InputError("port", "expected a number,\n got x"),
    "media": MediaError("video", "damaged"),
    "weights": WeightsError("no such weights"),
    "root": EdgeTAMError("broken"),
    "disk": OSError(28, "No space left on device"),
    "stop": KeyboardInterrupt(),
}


def _serve(args: argparse.Namespace) -> int:
    if args.error:
        raise ERRORS[args.error]
    logging.getLogger("x").info("at work")
    return 0


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adapters: one that works, and one whose extra is not installed."""
    found = [Plugin("serve", "here", cli.PLUGINS), Plugin("field", "missing", cli.PLUGINS)]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == "edgetam.commands" else [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("input", 2, "edgetam serve: port: expected a number, got x"),
        ("media", 2, "edgetam serve: video: damaged"),
        ("weights", 1, "edgetam serve: no such weights"),
        ("root", 1, "edgetam serve: broken"),
        ("disk", 1, "edgetam serve: [Errno 28] No space left on device"),
        ("stop", 130, "edgetam serve: cancelled"),
    ],
)
def test_every_expected_error_is_one_line(
    error: str, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--raise", error]) == code
    assert capsys.readouterr().err.splitlines()[1:] == [line]  # the first is about the other adapter


def test_adapters_bring_verbs_and_a_broken_one_costs_only_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == (
        "edgetam: the verb field (missing) is left out: No module named 'flask'\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "edgetam: the following arguments are required: VERB"),
        (["dance"], "edgetam: VERB: invalid choice: 'dance'"),
        (["track", "a.mp4"], "edgetam track: the following arguments are required: --out"),
        (
            ["track", "a.mp4", "--out", "x", "--direction", "up"],
            "edgetam track: direction: invalid choice: 'up'",
        ),
        (
            ["track", "a.mp4", "--out", "x", "--box", "-5,0,9,9"],
            "edgetam track: box: expected one argument (before a",
        ),
        (["info", "a.mp4", "--colour"], "edgetam: unrecognized arguments: --colour"),
    ],
)
def test_words_that_are_not_taken(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1].startswith(line)
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("verb", ["segment", "track", "info"])
def test_help_explains_with_examples(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    assert f"\n  edgetam {verb} " in shown
    assert "--json" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_whole_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for word in ("segment", "track", "info", "demo", "weights", "serve", "EDGETAM_WEIGHTS", "130"):
        assert word in shown


def test_logs_are_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, shown in ((["serve"], False), (["-v", "serve"], True)):
        with monkeypatch.context() as fresh:
            fresh.setattr(logging.root, "handlers", [])
            fresh.setattr(logging.root, "level", logging.WARNING)
            main(words)
        assert ("x: at work" in capsys.readouterr().err) is shown


def test_verbose_is_taken_before_and_after_the_verb() -> None:
    parser = cli.build_parser()
    assert parser.parse_args(["-v", "info", "a"]).verbose == 1
    assert parser.parse_args(["info", "a", "-vv"]).verbose == 2
    assert parser.parse_args(["info", "a"]).verbose == 0


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom edgetam_model.cli import main\n"
        "try:\n    main(['--version'])\nfinally:\n"
        "    print([m for m in ('torch', 'cv2', 'av') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("edgetam ")
    assert "torch" not in done.stdout.splitlines()[-1]
    assert took < 2  # 0.3 s on a quiet machine; torch alone takes 1.5


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.ppm").write_bytes(b"P6 1 1 255 abc")
    shell = f"'{sys.executable}' -m edgetam_model.cli info --table '{tmp_path}' | head -1"
    done = subprocess.run(shell, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("frame\tseconds\n", "")
