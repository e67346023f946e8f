from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvat_function.engine import Engine
from cvat_function.interactor.interactor import (
    Found,
    Interactor,
    masks_as_one,
    masks_as_shapes,
    parse_request,
)
from cvat_function.rle import decode_mask
from cvat_function.settings import Settings
from edgetam_model import InputError, Prompt
from tests.cvat_function.nuclio_fixtures import base64_of, picture, tiny_weights

IMAGE = base64_of(picture())


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Settings(weights=str(tiny_weights(tmp_path)), device="cpu"))


def ask(engine: Engine, **request: Any) -> Any:
    """The reply's mask, or its shapes decoded to masks."""
    answer = Interactor(engine)(
        {"image": IMAGE, "pos_points": [], "neg_points": [], "obj_bbox": None} | request
    )
    if "mask" in answer:
        return answer["mask"]
    return [decode_mask(shape["points"], 64, 40) for shape in answer["shapes"]]


def predicted(engine: Engine, prompt: Prompt, level: float = 0.0) -> Any:
    with engine.encoded(b"reference", picture) as image:
        return image.predictor.predict(prompt).logits_at_size() > level


def with_shapes(engine: Engine) -> Engine:
    return Engine(engine.settings.model_copy(update={"reply": "shapes"}))


def test_a_click_gives_the_models_mask_of_the_whole_frame(engine: Engine) -> None:
    mask = ask(engine, pos_points=[[30.5, 20.25]], neg_points=[[5, 5]])
    expected = predicted(engine, Prompt(points=[[30.5, 20.25], [5, 5]], labels=[1, 0]))
    assert mask.shape == (40, 64)
    assert mask.dtype == np.bool_
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(mask, expected)


def test_a_box_with_clicks_is_one_prompt(engine: Engine) -> None:
    mask = ask(engine, pos_points=[[30, 20]], obj_bbox=[[50, 35], [10, 5]])
    prompt = Prompt(points=[[30, 20]], labels=[1], box=[10, 5, 50, 35])
    np.testing.assert_array_equal(mask, predicted(engine, prompt))


def test_several_boxes_are_a_union_as_mask_and_apart_as_shapes(engine: Engine) -> None:
    drawn = [[2, 2], [20, 20], [40, 10], [60, 38]]
    masks = [predicted(engine, Prompt(box=box)) for box in ([2, 2, 20, 20], [40, 10, 60, 38])]
    np.testing.assert_array_equal(ask(engine, obj_bbox=drawn), masks[0] | masks[1])
    for found, expected in zip(ask(with_shapes(engine), obj_bbox=drawn), masks, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_clicks_outside_several_boxes_are_an_object_of_their_own(engine: Engine) -> None:
    drawn = [[2, 2], [20, 20], [40, 10], [60, 38]]
    found = ask(with_shapes(engine), obj_bbox=drawn, pos_points=[[30, 30]])
    np.testing.assert_array_equal(found[2], predicted(engine, Prompt(points=[[30, 30]], labels=[1])))


def test_the_threshold_is_the_probability_of_a_pixel(engine: Engine) -> None:
    prompt = Prompt(points=[[30, 20]], labels=[1])
    areas = []
    for threshold in (0.0, 0.2, 0.5, 0.9, 1.0):
        mask = ask(engine, pos_points=[[30, 20]], threshold=threshold)
        areas.append(int(mask.sum()))
        near = min(max(threshold, 0.001), 0.999)
        np.testing.assert_array_equal(mask, predicted(engine, prompt, np.log(near / (1 - near))))
    assert areas == sorted(areas, reverse=True)
    assert areas[1] > areas[3]
    np.testing.assert_array_equal(
        ask(engine, pos_points=[[30, 20]], threshold=None), ask(engine, pos_points=[[30, 20]], threshold=0.5)
    )


def test_a_region_of_interest_is_looked_at_alone(engine: Engine) -> None:
    """The answer is the cut-out's own, put where it belongs; coordinates stay those of the frame."""
    roi = [10, 5, 50, 35]
    mask = ask(engine, pos_points=[[30, 20]], neg_points=[[60, 2]], roi=roi)
    cut = np.ascontiguousarray(picture()[5:35, 10:50])
    expected = np.zeros((40, 64), np.bool_)
    with engine.encoded(b"cut", lambda: cut) as image:
        result = image.predictor.predict(Prompt(points=[[20, 15]], labels=[1]))
        expected[5:35, 10:50] = result.mask
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(InputError, match="40×30"):
        ask(engine, pos_points=[[60, 2]], roi=roi)


def test_nothing_found_is_an_empty_mask_or_no_shapes() -> None:
    empty = Found(np.zeros((40, 64), np.bool_), 0.1)
    assert not masks_as_one([empty], (40, 64))["mask"].any()
    assert masks_as_shapes([empty]) == {"shapes": []}


def test_confidence_is_text_for_an_attribute_of_number_0() -> None:
    (shape,) = masks_as_shapes([Found(np.ones((2, 3), np.bool_), 0.9267)])["shapes"]
    assert shape == {
        "type": "mask",
        "points": [0, 6, 0, 0, 2, 1],
        "attributes": [{"spec_id": 0, "value": "0.93"}],
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"roi": 7}, "roi"),
        ({"roi": [1, 2, 3]}, "roi"),
        ({"roi": [1, 2, 3, None]}, "roi"),
        ({"threshold": "0.5"}, "threshold"),
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"image": None}, "image"),
        ({"pos_points": [], "neg_points": [[1, 1]]}, "pos_points"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_decoded(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_request({"image": "aGk=", "pos_points": [[1, 1]]} | request_, Settings())
    assert caught.value.field == field
