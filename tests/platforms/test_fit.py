"""Fine-tuning by the real Label Studio: annotate, Start Training, better masks; roll back, the old ones."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import uuid4

import pytest

from backend.brush_rle import decode_brush, encode_brush
from edgetam_model.masks import Mask, mask_box, mask_iou
from edgetam_model.render import save_png
from tests.domains import SIDE, CellPicture, cell_pictures
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.recorder import Recorder

pytestmark = pytest.mark.platforms

PICTURES, UNSEEN = 40, 4
TRAINING_SECONDS = 600  # what users are promised on two cores
CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="Cell"/></BrushLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="Cell"/></RectangleLabels>
</View>"""


@dataclass(frozen=True)
class Lab:
    """A project with annotated pictures, and some that nobody annotated."""

    site: LabelStudio
    backend: Recorder
    project: int
    attached: int
    unseen: Sequence[tuple[int, CellPicture]]

    @property
    def name(self) -> str:
        """What its versions are called by."""
        return f"project-{self.project}"

    def masks(self) -> list[tuple[str, list[int], float]]:
        """Version, run lengths and IoU of every unseen cell, asked for by a box as the editor does."""
        return [self._ask(task, mask) for task, picture in self.unseen for mask in picture.masks]

    def versions(self) -> list[Any]:
        """The project's versions, as the status page has them."""
        return list(self.backend.ask(f"/api/versions/{self.name}")["versions"])

    def post(self, path: str) -> Any:
        """One of the status page's buttons."""
        url = f"http://127.0.0.1:{self.backend.port}{path}"
        request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"}, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def _ask(self, task: int, mask: Mask) -> tuple[str, list[int], float]:
        asked = {"task": task, "context": {"result": [_box(mask)]}}
        self.site.call("POST", f"/api/ml/{self.attached}/interactive-annotating", asked)
        found = self.backend.interactive()[-1].answered["results"][0]
        (brush,) = [region for region in found["result"] if region["type"] == "brushlabels"]
        rle = brush["value"]["rle"]
        return found["model_version"], rle, mask_iou(decode_brush(rle, SIDE, SIDE), mask)


@pytest.fixture(scope="module")
def lab(label_studio: LabelStudio, backend: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("cells")
    project = label_studio.create_project("cells", CONFIG)
    unseen = []
    for number, picture in enumerate(cell_pictures(PICTURES + UNSEEN, seed=7)):
        task = label_studio.import_media(project, _file(folder, number, picture))
        if number < PICTURES:
            regions = [_brush(mask) for mask in picture.masks]
            label_studio.call("POST", f"/api/tasks/{task}/annotations/", {"result": regions})
        else:
            unseen.append((task, picture))
    return Lab(label_studio, backend, project, label_studio.attach(project, backend.url), unseen)


def test_a_team_trains_gains_and_rolls_back(lab: Lab) -> None:
    before = lab.masks()
    began = time.monotonic()
    lab.site.call("POST", f"/api/ml/{lab.attached}/train", {})
    (version,) = _trained(lab)
    seconds = time.monotonic() - began
    assert seconds < TRAINING_SECONDS
    assert version["status"] == "current", version
    gain = version["metrics"]["after"] - version["metrics"]["before"]
    assert gain >= 0.10, version["metrics"]

    after = lab.masks()
    assert {name for name, _, _ in before} == {lab.backend.ask("/health")["model"]["version"]}
    assert all(f"{lab.name}/v0001" in name for name, _, _ in after)
    better = mean(iou for *_, iou in after) - mean(iou for *_, iou in before)
    assert better >= 0.10, "cells that nobody annotated"
    print(f"{seconds:.0f} s, held out +{gain:.3f}, unseen +{better:.3f}")  # noqa: T201  for the log

    began = time.monotonic()
    lab.post(f"/api/versions/{lab.name}/rollback")
    back = lab.masks()
    assert [rle for _, rle, _ in back] == [rle for _, rle, _ in before], "bit for bit"
    assert [name for name, _, _ in back] == [name for name, _, _ in before]


def _trained(lab: Lab) -> list[Any]:
    """The versions, as soon as there is one that serves, or the training has ended."""
    deadline = time.monotonic() + 2 * TRAINING_SECONDS
    while time.monotonic() < deadline:
        jobs = [job for job in lab.backend.ask("/api/jobs")["jobs"] if job["kind"] == "fit"]
        if jobs and all(job["ended"] for job in jobs):
            assert [job["state"] for job in jobs] == ["done"], jobs
            return lab.versions()
        time.sleep(1)
    raise AssertionError("the training does not end")


def _file(folder: Path, number: int, picture: CellPicture) -> Path:
    path = folder / f"cell{number:02}.png"
    save_png(path, picture.rgb)
    return path


def _brush(mask: Mask) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["Cell"]}
    return _region("brush", "brushlabels", value)


def _box(mask: Mask) -> dict[str, Any]:
    box = mask_box(mask)
    assert box is not None
    x0, y0, x1, y1 = (100 * n / SIDE for n in box)
    value = {
        "x": x0,
        "y": y0,
        "width": x1 - x0,
        "height": y1 - y0,
        "rotation": 0,
        "rectanglelabels": ["Cell"],
    }
    return _region("rect", "rectanglelabels", value)


def _region(control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    ends = {"from_name": control, "to_name": "image", "type": kind, "origin": "manual"}
    size = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    return {"id": uuid4().hex[:10], **ends, **size, "value": value}
