"""Images in the real Label Studio: a person clicks on objects or boxes them in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from backend.bitmask_png import decode_bitmask
from backend.brush_rle import decode_brush
from edgetam_model.masks import Mask, mask_box, mask_iou
from tests.platforms import clips
from tests.platforms.browser import Editor
from tests.platforms.clips import BLUE, HEIGHT, RED, WIDTH, Box
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.projects import ALL_SHAPES, BOXES, CLICKS, box_iou, image_config, image_project
from tests.platforms.recorder import Exchange, Recorder
from tests.platforms.sdk import Sdk

pytestmark = pytest.mark.platforms

GOOD = 0.7  # IoU with the known object


def _prompt(editor: Editor, backend: Recorder, act: Callable[[], None]) -> Exchange:
    """Choose the class and the smart tool, act, and wait for what the editor makes of the answer."""
    before = len(backend.interactive())
    editor.press("k")  # the class first: its hotkey chooses the plain tool
    editor.press("m")
    act()
    editor.wait(lambda: len(backend.interactive()) > before)
    editor.settle()
    (exchange,) = backend.interactive()[before:]
    assert exchange.status == 200, exchange.answered
    return exchange


def _prompts(exchange: Exchange) -> list[Any]:
    return list(exchange.asked["params"]["context"]["result"])


def _result(exchange: Exchange) -> list[Any]:
    (prediction,) = exchange.answered["results"]
    return list(prediction["result"])


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _painted(region: Any) -> Mask:
    return decode_brush(region["value"]["rle"], HEIGHT, WIDTH)


def _stored(editor: Editor, label_studio: LabelStudio, sdk: Sdk, task: int, config: str) -> list[Any]:
    """Press Submit; what is stored, which must be right to Label Studio's own SDK."""
    editor.submit()
    (annotation,) = label_studio.annotations(task)
    assert sdk.problems(config, {"result": annotation["result"]}) == []
    return list(annotation["result"])


@pytest.mark.parametrize("name", [RED, BLUE])
def test_a_click_becomes_a_brush_that_submit_stores(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path, name: str
) -> None:
    picture, config = clips.still(tmp_path / "click.png"), image_config(CLICKS)
    place = image_project(label_studio, backend, picture, config)
    editor.open(place.project, place.task)
    before = editor.canvas()
    _prompt(editor, backend, lambda: editor.click(_middle(picture.boxes[0][name])))
    editor.wait(lambda: editor.canvas() != before)
    editor.shoot("suggested")
    editor.accept()
    editor.wait(lambda: [region["type"] for region in editor.regions()] == ["brushlabels"])
    editor.shoot("accepted")

    (region,) = _stored(editor, label_studio, sdk, place.task, config)
    assert region["value"]["brushlabels"] == ["Ball"]
    assert (region["from_name"], region["to_name"]) == ("brush", "image")
    assert mask_iou(_painted(region), picture.masks[0][name]) >= GOOD
    assert (sdk.unpack(region["value"]["rle"], HEIGHT, WIDTH) == _painted(region)).all()


def test_a_rectangle_becomes_a_brush(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    picture, config = clips.still(tmp_path / "rectangle.png"), image_config(BOXES)
    place = image_project(label_studio, backend, picture, config)
    editor.open(place.project, place.task)
    exchange = _prompt(editor, backend, lambda: editor.draw(picture.boxes[0][RED]))
    assert [prompt["type"] for prompt in _prompts(exchange)] == ["rectanglelabels"]
    editor.shoot("suggested")
    editor.accept()
    editor.wait(lambda: [region["type"] for region in editor.regions()] == ["brushlabels"])
    editor.shoot("accepted")

    (region,) = _stored(editor, label_studio, sdk, place.task, config)
    assert region["value"]["brushlabels"] == ["Ball"]
    assert mask_iou(_painted(region), picture.masks[0][RED]) >= GOOD


def test_a_click_with_alt_takes_away_from_the_mask(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    picture, config = clips.still(tmp_path / "negative.png"), image_config(CLICKS)
    place = image_project(label_studio, backend, picture, config)
    editor.open(place.project, place.task)
    x, y = _middle(picture.boxes[0][RED])
    against = x + 20, y  # on the disc: what a person means, the mask has to follow
    first = _prompt(editor, backend, lambda: editor.click((x, y)))
    editor.shoot("one-click")
    second = _prompt(editor, backend, lambda: editor.click_against(against))
    editor.shoot("one-click-for-one-against")

    assert [prompt["is_positive"] for prompt in _prompts(second)] == [True, False]
    (before,), (after,) = (map(_painted, _result(exchange)) for exchange in (first, second))
    column, row = map(int, against)
    assert before[row, column]
    assert not after[row, column]
    assert after[int(y), int(x)]
    editor.accept()
    editor.wait(lambda: [region["type"] for region in editor.regions()] == ["brushlabels"])
    (region,) = _stored(editor, label_studio, sdk, place.task, config)
    assert (_painted(region) == after).all(), "only the last answer is kept"


def test_every_shape_that_the_config_asks_for_is_accepted_and_stored(
    editor: Editor, label_studio: LabelStudio, backend: Recorder, sdk: Sdk, tmp_path: Path
) -> None:
    picture, config = clips.still(tmp_path / "shapes.png"), image_config(CLICKS, ALL_SHAPES)
    place = image_project(label_studio, backend, picture, config)
    editor.open(place.project, place.task)
    _prompt(editor, backend, lambda: editor.click(_middle(picture.boxes[0][RED])))
    editor.shoot("suggested")
    editor.accept()
    kinds = {"brushlabels", "bitmasklabels", "polygonlabels", "rectanglelabels"}
    editor.wait(lambda: {region["type"] for region in editor.regions()} == kinds)
    editor.shoot("accepted")

    stored = {region["type"]: region for region in _stored(editor, label_studio, sdk, place.task, config)}
    assert set(stored) == kinds
    assert all(region["value"][kind] == ["Ball"] for kind, region in stored.items())
    truth = picture.masks[0][RED]
    values = {kind: region["value"] for kind, region in stored.items()}
    assert mask_iou(_painted(stored["brushlabels"]), truth) >= GOOD
    assert mask_iou(decode_bitmask(values["bitmasklabels"]["imageDataURL"]), truth) >= GOOD
    assert mask_iou(_filled(values["polygonlabels"]["points"]), truth) >= GOOD
    box = values["rectanglelabels"]
    x, y, width, height = (box[name] / 100 for name in ("x", "y", "width", "height"))
    drawn = (x * WIDTH, y * HEIGHT, (x + width) * WIDTH, (y + height) * HEIGHT)
    assert box_iou(drawn, mask_box(truth)) >= GOOD


def _filled(percents: list[list[float]]) -> Mask:
    corners = np.array(percents) * [WIDTH / 100, HEIGHT / 100]
    canvas = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.round(corners).astype(np.int32)], 1)
    return np.asarray(canvas) > 0
