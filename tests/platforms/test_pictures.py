"""The README's pictures, of the real thing with the product's own clip.

    EDGETAM_PICTURES=docs/pictures python -m pytest -m platforms --timeout 1500 \\
        tests/platforms/test_pictures.py

makes them anew, in a run of their own: they wait for all jobs of the server to be done.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_model import open_source
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoClip, render_demo_clip
from edgetam_model.masks import decode_rle, mask_box
from tests.platforms.browser import Editor
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.pictures import keep, keep_photo
from tests.platforms.recorder import Recorder
from tests.platforms.test_field import Field, no_network, pack, visiting

pytestmark = pytest.mark.platforms

FPS, FRAMES, SHOWN = 25, 60, 16  # SHOWN: the ball is about to roll under the plank
CORRECTED = 40  # where it is out again, and its box is drawn once more
TRACK_SECONDS = 240
CONFIG = """
<View>
  <Labels name="videoLabels" toName="video" allowEmpty="true">
    <Label value="Ball" background="#1f77b4"/><Label value="Ladybird" background="#d62728"/>
  </Labels>
  <Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
  <Video name="video" value="$video" frameRate="$fps"/>
  <VideoRectangle name="box" toName="video"/>
  <TextArea name="cmd" toName="video" perRegion="true" placeholder="track 100 | back 50 | both"/>
</View>"""
LABELS = {BALL: "Ball", LADYBIRD: "Ladybird"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DemoClip:
    return render_demo_clip(tmp_path_factory.mktemp("clip") / "lawn.mp4", FRAMES, fps=FPS)


def box_of(clip: DemoClip, number: int) -> tuple[float, float, float, float]:
    box = clip.prompts[number].box
    assert box is not None
    x0, y0, x1, y1 = (float(edge) for edge in np.ravel(box))
    return x0, y0, x1, y1


def jobs(backend: Recorder) -> list[Any]:
    return list(backend.ask("/api/jobs")["jobs"])


def test_label_studio_with_two_tracks_and_the_status_page(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, clip: DemoClip
) -> None:
    editor.page.set_viewport_size({"width": 1240, "height": 960})
    project = label_studio.create_project("Lawn", CONFIG)
    label_studio.attach(project, backend.url)
    task = label_studio.import_media(project, clip.path, {"fps": FPS})
    editor.open(project, task)
    for number, label in LABELS.items():
        editor.choose(label)
        editor.draw(box_of(clip, number))
    for count, number in enumerate((LADYBIRD, BALL), 1):
        x0, y0, x1, y1 = box_of(clip, number)
        editor.select(((x0 + x1) / 2, (y0 + y1) / 2))
        _track(editor, backend, count)
        if number == BALL:
            _status_page(editor, backend)
        _until_done(editor, backend)
    regions = [region for region in editor.regions() if region["type"] == "videorectangle"]
    assert sorted(region["value"]["labels"] for region in regions) == [["Ball"], ["Ladybird"]]
    assert all(len(region["value"]["sequence"]) > 2 for region in regions)
    editor.seek(SHOWN)
    editor.page.wait_for_timeout(1000)
    keep(editor.shoot("two-tracks"), "label-studio")


def _track(editor: Editor, backend: Recorder, count: int) -> None:
    """Press t once, and wait for its answer and its job."""
    before = len(backend.interactive())
    editor.press("t")
    editor.wait(lambda: len(backend.interactive()) > before)
    editor.settle()
    assert backend.interactive()[-1].status == 200
    editor.wait(lambda: len(jobs(backend)) >= count)


def _until_done(editor: Editor, backend: Recorder) -> None:
    """Wait for the job, and fetch all of its track by another press."""
    deadline = time.monotonic() + TRACK_SECONDS
    while any(job["state"] in ("queued", "running") for job in jobs(backend)):
        assert time.monotonic() < deadline
        editor.page.wait_for_timeout(500)
    assert {job["state"] for job in jobs(backend)} == {"done"}
    before = len(backend.interactive())
    editor.press("t")
    editor.wait(lambda: len(backend.interactive()) > before)
    editor.settle()


def _status_page(editor: Editor, backend: Recorder) -> None:
    page = editor.page.context.new_page()
    page.set_viewport_size({"width": 1080, "height": 720})
    page.goto(f"http://127.0.0.1:{backend.port}/")
    page.wait_for_selector("img")
    page.wait_for_timeout(1500)
    tops = [
        page.get_by_text(text, exact=True).first.bounding_box()
        for text in ("Waiting, by priority", "Versions")
    ]
    assert tops[0] is not None
    assert tops[1] is not None
    top, bottom = tops[0]["y"] - 16, tops[1]["y"]  # above stand the folders of this machine
    shot = editor.folder / "status.png"
    page.screenshot(path=shot, clip={"x": 0, "y": top, "width": 1080, "height": bottom - top})
    page.close()
    keep(shot, "status")


def test_the_field_page(
    label_studio: LabelStudio, clip: DemoClip, chromium: Path, logs: Path, tmp_path: Path
) -> None:
    project = label_studio.create_project("Lawn, outdoors", CONFIG)
    task = label_studio.import_media(project, clip.path, {"fps": FPS})
    pack(label_studio, project, tmp_path / "kit.zip")
    folder = logs / "pictures-field"
    folder.mkdir()
    with no_network() as network, visiting(network, chromium, folder) as person:
        person.page.set_viewport_size({"width": 1080, "height": 700})
        running = Field(tmp_path / "kit.zip", network)
        running.start()
        try:
            person.visit(running.url)
            person.open(task)
            for number, label in LABELS.items():
                person.press("new")
                person.choose(label)
                person.drag(box_of(clip, number))
                person.press("track")
                person.settle()
                person.seek(0)
            person.seek(SHOWN)
            person.page.wait_for_timeout(500)
            shot = folder / "field.png"
            person.page.screenshot(path=shot)
        finally:
            running.kill()
    assert person.problems == []
    keep(shot, "field")


def test_the_overlay_of_a_track(clip: DemoClip, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgetam_model.cli", "track", str(clip.path), "--weights", "default"]
    again = mask_box(decode_rle(clip.masks[CORRECTED][BALL]))
    assert again is not None
    boxes = [(box_of(clip, number), 0, number) for number in LABELS] + [(again, CORRECTED, BALL)]
    for box, prompted, number in boxes:
        command += ["--box", f"{','.join(f'{edge:.1f}' for edge in box)}@{prompted}#{number}"]
    for number, label in LABELS.items():
        command += ["--label", f"{number}={label.lower()}"]
    subprocess.run([*command, "--out", str(tmp_path / "out")], check=True, capture_output=True)
    with open_source(tmp_path / "out" / "overlay.mp4") as frames:
        shown = [frames.read(index) for index in (2, SHOWN + 3, CORRECTED + 1)]
    height, width, _ = shown[0].shape
    strip = Image.new("RGB", (3 * width + 2 * 8, height), "white")
    for place, frame in enumerate(shown):
        strip.paste(Image.fromarray(frame), (place * (width + 8), 0))
    keep_photo(strip.resize((1200, round(1200 * height / strip.width))), tmp_path, "overlay")
