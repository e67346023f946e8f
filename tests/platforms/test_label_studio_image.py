"""Images in the real Label Studio: a person clicks on an object in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.brush_rle import decode_brush
from edgetam_model.masks import mask_iou
from tests.platforms import clips
from tests.platforms.browser import Editor
from tests.platforms.clips import BLUE, HEIGHT, WIDTH
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.projects import CLICKS, image_project
from tests.platforms.recorder import Recorder

pytestmark = pytest.mark.platforms


def test_a_click_becomes_a_brush_that_submit_stores(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, tmp_path: Path
) -> None:
    picture = clips.still(tmp_path / "click.png")
    place = image_project(label_studio, backend, picture, CLICKS)
    editor.open(place.project, place.task)
    x0, y0, x1, y1 = picture.boxes[0][BLUE]
    editor.press("k")  # the class first: its hotkey chooses the plain tool
    editor.press("m")
    before = editor.canvas()
    editor.click(((x0 + x1) / 2, (y0 + y1) / 2))
    accept = editor.page.get_by_test_id("bottombar-accept-suggestions-button")
    accept.wait_for()
    editor.shoot("suggested")
    assert editor.canvas() != before
    accept.click()
    editor.wait(lambda: [region["type"] for region in editor.regions()] == ["brushlabels"])
    editor.shoot("accepted")
    editor.submit()

    (stored,) = label_studio.annotations(place.task)
    (region,) = stored["result"]
    assert region["value"]["brushlabels"] == ["Ball"]
    assert region["from_name"] == "brush"
    mask = decode_brush(region["value"]["rle"], HEIGHT, WIDTH)
    assert mask_iou(mask, picture.masks[0][BLUE]) >= 0.7
