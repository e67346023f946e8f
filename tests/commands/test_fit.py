"""`edgetam fit`, from an export to a version: what it takes, says and leaves, killed and interrupted too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_model import cli
from edgetam_model.commands.fit_from import name_for, opened
from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError
from edgetam_model.training import annotation_projects
from edgetam_model.training.annotations import AnnotationSet, OpenProject, ReadOptions
from edgetam_model.training.fit_options import MODES
from edgetam_model.training.forgetting import ForgettingSet
from edgetam_model.training.version_store import VersionStore
from tests.cvat_function import export_files as cvat
from tests.training.fit_jobs import media as media_of_discs
from tests.training.fit_jobs import small_weights, still

IMAGES = 9


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("first") / "first.safetensors")


@pytest.fixture
def edgetam_fit(
    tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the verb with small weights and a small forgetting set; exit code, stdout, stderr."""

    def small(cls: type[ForgettingSet], config: EdgeTAMConfig) -> ForgettingSet:
        return cls(clips=1, frames=2, size=64)

    monkeypatch.setattr(ForgettingSet, "affordable", classmethod(small))
    monkeypatch.setenv("EDGETAM_WEIGHTS", str(first))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    torch.set_num_threads(1)

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main(["fit", *map(str, words), "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def shown(number: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], cvat.Bools]:
    """A picture with a disc, and the disc."""
    mask = cvat.disc(20 + 4 * number, 30, 12)
    pixels = np.random.default_rng(number).integers(0, 120, (*cvat.SIZE, 3), dtype=np.uint8)
    pixels[mask] = (220, 200, 90)
    return pixels, mask


def cvat_export(path: Path, images: int = IMAGES, kind: str = "mask", pictures: bool = True) -> Path:
    """A zip of CVAT for images 1.1."""
    made = [shown(number) for number in range(images)]
    listed = [
        cvat.image(f"{number}.png", cvat.element(kind, mask), number=number)
        for number, (_, mask) in enumerate(made)
    ]
    members = {"annotations.xml": cvat.document(*listed, meta=cvat.task(mode="annotation", source="x"))}
    if pictures:
        members |= {f"images/{n}.png": cvat.png(pixels) for n, (pixels, _) in enumerate(made)}
    return cvat.archive(path, members)


def coco_file(folder: Path) -> Path:
    for number in range(IMAGES):
        Image.fromarray(shown(number)[0]).save(folder / f"{number}.png")
    rings = [{"image_id": n + 1, **cvat.ring(shown(n)[1])} for n in range(IMAGES)]
    path = folder / "instances.json"
    path.write_bytes(cvat.coco([f"{number}.png" for number in range(IMAGES)], rings))
    return path


def clip_folders(folder: Path) -> Path:
    """CLIP/frames and CLIP/masks, two frames each."""
    for number in range(IMAGES):
        for frame in range(2):
            pixels, mask = shown(number + frame)
            for kind, array in (("frames", pixels), ("masks", mask.astype(np.uint8) * 255)):
                place = folder / f"clip{number}" / kind / f"{frame:05d}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(place)
    return folder


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    export = cvat_export(tmp_path / "My export.zip")
    code, out, _ = edgetam_fit("--from", export, "--dry-run", "--updates", "50")
    assert code == 0
    assert out.startswith("my-export: 9 images with 9 masks; 5 to learn from, 4 to measure on\n")
    assert "adapter mode, 50 updates" in out
    assert "needs: about " in out
    assert not (tmp_path / "state").exists()


def test_from_an_export_to_a_version(
    edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    words = ("--from", cvat_export(tmp_path / "walk.zip"), "--updates", "1")
    code, out, err = edgetam_fit(*words)
    assert code == 0, err
    for told in (
        "images, IoU",
        "not forgotten, J",
        "kept as a candidate: ",
        "version    walk/v0001 (a candidate)",
        "let serve  edgetam versions promote walk/v0001",
    ):
        assert told in out
    store = VersionStore(tmp_path / "state" / "versions")
    (name,) = store.names("walk")
    page = store.get(name).folder / "report" / "index.html"
    assert f"report     {page}" in out
    assert page.is_file()
    assert "walk: 9 images with 9 masks" in err, "the plan comes first"
    again = json.loads(edgetam_fit(*words, "--json")[1])
    assert again["plan"]["unchanged_since"] == "walk/v0001"
    assert again["outcome"]["reasons"] == ["nothing has changed since walk/v0001"]


def test_json_is_one_document(edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    export = cvat_export(tmp_path / "a.zip", kind="polygon")
    code, out, _ = edgetam_fit(
        "--from", export, "--project", "cells", "--mode", "decoder", "--updates", 1, "--json"
    )
    said = json.loads(out)
    assert code == 0
    assert said["outcome"]["finished"] is True
    assert said["outcome"]["version"] == "cells/v0001"
    assert said["outcome"]["metrics"]["objects"] == 4
    assert (said["plan"]["mode"], said["plan"]["updates"]) == ("decoder", 1)
    assert Path(said["outcome"]["report"]).is_file()


@pytest.mark.parametrize("make", [coco_file, clip_folders])
def test_data_sets_and_folders_are_annotations_too(
    make: Callable[[Path], Path], edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    words = ("--from", make(folder), "--project", "p", "--updates", "1", "--json")
    said = json.loads(edgetam_fit(*words)[1])
    assert said["plan"]["tasks"] == IMAGES
    assert said["plan"]["masks"] == IMAGES * (2 if make is clip_folders else 1)
    assert said["outcome"]["version"] == "p/v0001"


def test_an_export_of_label_studio(edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    triangle = {"points": [[10, 10], [60, 10], [60, 60]], "closed": True, "polygonlabels": ["cat"]}
    region = {"id": "p", "type": "polygonlabels", "to_name": "image", "from_name": "label", "value": triangle}
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/{number}.png"},
            "annotations": [{"id": number, "result": [{**region, "origin": "manual"}]}],
        }
        for number in range(IMAGES)
    ]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    (tmp_path / "pictures").mkdir()
    for number in range(IMAGES):
        Image.fromarray(shown(number)[0]).save(tmp_path / "pictures" / f"{number}.png")
    words = ("--from", tmp_path / "project.json", "--media", tmp_path / "pictures", "--updates", "1")
    code, out, err = edgetam_fit(*words, "--json")
    assert code == 0, err
    assert json.loads(out)["outcome"]["version"] == "project/v0001"


def test_a_project_where_it_lives(
    edgetam_fit: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter opens `studio:7`; its name is the project's."""

    class Plugin:
        name = "studio"

        def load(self) -> Callable[[str, ReadOptions], OpenProject]:
            return open_it

    def open_it(rest: str, options: ReadOptions) -> OpenProject:
        assert options.interpolated
        tasks = tuple(still(number) for number in range(8))
        return OpenProject(AnnotationSet(tasks, {}), media_of_discs, f"project-{rest}")

    monkeypatch.setattr(annotation_projects, "entry_points", lambda group: [Plugin()])
    said = json.loads(edgetam_fit("--from", "studio:7", "--interpolated", "--dry-run", "--json")[1])
    assert said["plan"]["project"] == "project-7"
    code, _, err = edgetam_fit("--from", "elsewhere:7")
    assert code == 2
    assert "no such file, and no adapter for elsewhere: (installed: studio:)" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--from nowhere.zip", "from: no such file: nowhere.zip"),
        ("--from few.zip", "annotations: expected at least 8 images or videos with masks, found 2"),
        ("--from few.zip --dry-run", "found 2"),
        (
            "--from boxes.zip",
            "found none; left out: 9 images and videos with boxes alone, which give no masks",
        ),
        ("--from bare.zip", "images and videos that cannot be opened; the first, task "),
        ("--from good.zip --media nowhere", "media: no such folder: nowhere"),
        ("--from good.zip --project Default", "project: expected up to 64 of a-z"),
        ("--from good.zip --project default", "project: 'default' is the name of weights"),
        ("--from good.zip --updates 0", "updates: expected at least 1"),
        ("--from text.txt", "from: expected an export of Label Studio (JSON) or CVAT (zip, xml)"),
        ("--from good.zip --device abacus", "device: expected auto, cpu"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: str,
    told: str,
    edgetam_fit: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    cvat_export(tmp_path / "good.zip")
    cvat_export(tmp_path / "few.zip", images=2)
    cvat_export(tmp_path / "boxes.zip", kind="box")
    cvat_export(tmp_path / "bare.zip", pictures=False)
    (tmp_path / "text.txt").write_text("hello")
    if "--device" in words:
        code, (_, err) = cli.main(["fit", *words.split()]), capsys.readouterr()
    else:
        code, _, err = edgetam_fit(*words.split())
    assert code == 2
    assert told in err.splitlines()[-1]
    assert VersionStore(tmp_path / "state" / "versions").projects() == ()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cvat-export.zip", "cvat-export"),
        ("/data/My Cells (2).ZIP", "my-cells-2"),
        ("default.json", "fit-default"),
        ("äöü.zip", "fit"),
        ("...json", "fit"),
        ("x" * 200 + ".zip", "x" * 60),
    ],
)
def test_a_project_is_named_after_its_file(path: str, name: str) -> None:
    assert name_for(Path(path)) == name


def test_media_are_looked_for_in_the_archive_and_then_beside_it(tmp_path: Path) -> None:
    export = cvat_export(tmp_path / "bare.zip", pictures=False)
    Image.fromarray(shown(3)[0]).save(tmp_path / "3.png")
    with opened(str(export), None, None, ReadOptions()) as project:
        by_name = {task.media: task for task in project.found.tasks}
        with project.media(by_name["3.png"]) as source:
            np.testing.assert_array_equal(source.read(0), shown(3)[0])
        with pytest.raises(InputError, match=r"expected '4\.png' below"):
            project.media(by_name["4.png"])


def test_modes_in_help_are_those_that_there_are() -> None:
    from edgetam_model.commands import fit

    assert fit.MODES == MODES


def test_registering_the_verb_imports_neither_torch_nor_pydantic() -> None:
    check = "import sys, edgetam_model.commands.fit; sys.exit(bool({'torch', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# Processes of their own --------------------------------------------------------------------------------


def start(first: Path, export: Path, state: Path, updates: int = 13) -> subprocess.Popen[str]:
    """`edgetam fit` of a user."""
    words = ["fit", "--from", export, "--weights", first, "--updates", updates, "--device", "cpu", "--json"]
    program = [sys.executable, "-m", "edgetam_model.cli", *map(str, words), "--model-dir", str(state)]
    return subprocess.Popen(
        program,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(run: subprocess.Popen[str], state: Path, updates: int) -> None:
    """Until so many updates are in the journal."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and run.poll() is None:
        tables = list(state.glob("fits/*/*/losses.csv"))
        if tables and tables[0].read_text().count("\n") > updates:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {updates} updates: {run.communicate()}")


def fingerprint(said: str, state: Path) -> str:
    name = json.loads(said)["outcome"]["version"]
    store = VersionStore(state / "versions")
    (version,) = store.names("walk")
    assert str(version) == name
    return store.get(version).record.fingerprint


def test_killed_with_signal_9_it_goes_on_to_the_same_weights(
    edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path, first: Path
) -> None:
    export = cvat_export(tmp_path / "walk.zip")
    run = start(first, export, tmp_path / "killed")
    wait_for(run, tmp_path / "killed", updates=11)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    run = start(first, export, tmp_path / "killed")
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert "update 1 of 13" not in err, "ten updates were kept"
    undisturbed = edgetam_fit("--from", export, "--weights", first, "--updates", 13, "--json")[1]
    assert fingerprint(out, tmp_path / "killed") == fingerprint(undisturbed, tmp_path / "state")


def test_the_first_interrupt_saves(tmp_path: Path, first: Path) -> None:
    export = cvat_export(tmp_path / "walk.zip")
    run = start(first, export, tmp_path / "state")
    wait_for(run, tmp_path / "state", updates=2)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate()
    assert run.returncode == 130, err
    assert "cancelled; the same fit goes on from here" in err
    assert json.loads(out)["outcome"]["finished"] is False
    assert list((tmp_path / "state" / "fits" / "walk").glob("*/state.safetensors"))


def test_the_weights_that_ship_can_be_fitted(
    edgetam_fit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    export = cvat_export(tmp_path / "walk.zip")
    code, out, err = edgetam_fit("--from", export, "--weights", "default", "--updates", "2", "--json")
    assert code == 0, err
    said = json.loads(out)["outcome"]
    assert said["version"] == "walk/v0001"
    assert said["metrics"]["before"] > 0.5, "discs are easy"
    record = VersionStore(tmp_path / "state" / "versions").rows("walk")[0].record
    assert record is not None
    assert record.parent == "default"
