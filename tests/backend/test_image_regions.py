from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.bitmask_png import decode_bitmask
from backend.brush_rle import decode_brush
from backend.image_prompts import Canvas, DrawnObject, read_context
from backend.image_regions import RegionOptions, inner_point, labels_for, regions_from_mask
from backend.label_config import Control, LabelConfig, parse_label_config
from backend.predictions import Region, prediction_of, response_of
from edgetam_model import MaskResult
from edgetam_model.errors import InputError
from edgetam_model.masks import Polygon as Part
from edgetam_model.masks import mask_box, mask_iou, polygons_to_mask

# A busy machine is no bug: neither the time of one example nor of making it counts.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZE = (120, 200)
KINDS = ("Brush", "Bitmask", "Polygon", "Rectangle", "KeyPoint")
LABELS = '<Label value="Player"/><Label value="Ball"/>'
LABELLED = "".join(
    f'<{kind}Labels name="{kind.lower()}" toName="image" smart="false">{LABELS}</{kind}Labels>'
    for kind in KINDS
)
UNLABELLED = "".join(f'<{kind} name="{kind.lower()}" toName="image" smart="false"/>' for kind in KINDS)


def config_of(inner: str) -> LabelConfig:
    return parse_label_config(view(inner))


def view(inner: str) -> str:
    return f'<View><Image name="image" value="$image"/>{inner}</View>'


def drawn_on(config: LabelConfig, *labels: str, canvas: Canvas | None = None) -> DrawnObject:
    return DrawnObject((), labels, "r1", canvas or Canvas("image"), config.outputs_for("image"))


def result_of(mask: NDArray[np.bool_], iou: float = 0.87) -> MaskResult:
    """A result whose mask at the image's size is about this one."""
    logits = cv2.resize(mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_LINEAR) - 0.5
    return MaskResult(logits.astype(np.float32), (mask.shape[0], mask.shape[1]), iou, 5.0)


def blob() -> MaskResult:
    canvas = np.zeros(SIZE, np.uint8)
    cv2.ellipse(canvas, (90, 60), (50, 30), 20, 0, 360, 1, -1)
    return result_of(canvas.astype(bool))


def by_name(regions: list[Region]) -> dict[str, Region]:
    return {region.from_name: region for region in regions}


def mask_of(region: Region, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """The mask that the editor shows for a region."""
    height, width = size
    value: dict[str, Any] = region.value
    if "rle" in value:
        return decode_brush(value["rle"], *size)
    if "imageDataURL" in value:
        return decode_bitmask(value["imageDataURL"])
    if "points" in value:
        points = np.array(value["points"], np.float32) * (width / 100, height / 100)
        return polygons_to_mask([Part(points.astype(np.float32))], height, width)
    mask = np.zeros(size, np.bool_)
    x, y = value["x"] * width / 100, value["y"] * height / 100
    w, h = value["width"] * width / 100, value.get("height", 0) * height / 100
    mask[round(y) : round(y + h), round(x) : round(x + w)] = True
    return mask


def test_every_output_of_the_config_shows_the_mask() -> None:
    config, result = config_of(LABELLED), blob()
    regions = regions_from_mask(result, drawn_on(config, "Ball"), config, RegionOptions(polygon_tolerance=0))
    assert [region.type for region in regions] == [f"{kind.lower()}labels" for kind in KINDS]
    brush, bitmask, polygon, rectangle, keypoint = regions
    for exact in (brush, bitmask, polygon):
        assert mask_iou(mask_of(exact), result.mask) > 0.999
    assert mask_box(mask_of(rectangle)) == result.box
    x, y = keypoint.value["x"] * SIZE[1] / 100, keypoint.value["y"] * SIZE[0] / 100
    assert result.mask[int(y), int(x)]
    for region in regions:
        assert region.value[region.type] == ["Ball"]
        assert (region.to_name, region.score, region.image_rotation) == ("image", 0.87, 0)
        assert (region.original_width, region.original_height) == (200, 120)
    assert regions[0].id == "r1"
    assert len({region.id for region in regions}) == len(regions)


def test_unlabelled_tools_get_their_labels_beside() -> None:
    config = config_of(f'{UNLABELLED}<Labels name="class" toName="image">{LABELS}</Labels>')
    regions = regions_from_mask(blob(), drawn_on(config, "Player"), config)
    assert len(regions) == 2 * len(KINDS)
    for shape, label in zip(regions[::2], regions[1::2], strict=True):
        assert shape.type == shape.from_name
        assert "labels" not in shape.value
        assert (label.type, label.from_name, label.id) == ("labels", "class", shape.id)
        assert label.value == {**shape.value, "labels": ["Player"]}
    unlabelled = regions_from_mask(blob(), drawn_on(config), config)
    assert len(unlabelled) == len(KINDS)


def test_labels_are_never_guessed() -> None:
    two, one = Control("brushlabels", "b", (), ("A", "B")), Control("brushlabels", "b", (), ("A",))
    free = Control("brushlabels", "b", (), dynamic=True)
    assert labels_for(("B", "C"), two) == ("B",)
    assert labels_for((), two) == ()
    assert labels_for((), one) == ("A",)
    assert labels_for(("C",), one) == ()
    assert labels_for(("C",), free) == ("C",)


def test_an_empty_mask_is_no_region() -> None:
    config = config_of(LABELLED)
    nothing = MaskResult(np.full((256, 256), -3, np.float32), SIZE, 0.9, 5.0)
    assert regions_from_mask(nothing, drawn_on(config, "Ball"), config) == []
    absent = MaskResult(blob().logits, SIZE, 0.9, -5.0, "absent")
    assert regions_from_mask(absent, drawn_on(config, "Ball"), config) == []
    bare = config_of("")
    assert regions_from_mask(blob(), drawn_on(bare), bare) == []


def test_painted_masks_have_the_size_of_the_browsers_image() -> None:
    config, result = config_of(LABELLED), blob()
    drawn = drawn_on(config, "Ball", canvas=Canvas("image", 3, (60, 100), 90))
    found = by_name(regions_from_mask(result, drawn, config))
    half = result.mask[::2, ::2]
    for name in ("brush", "bitmask"):
        assert mask_of(found[name], (60, 100)).shape == half.shape
        assert mask_iou(mask_of(found[name], (60, 100)), half) > 0.95
    assert mask_iou(mask_of(found["polygon"]), result.mask) > 0.95  # percent know no size
    for region in found.values():
        assert (region.original_width, region.original_height) == (100, 60)
        assert (region.item_index, region.image_rotation) == (3, 90)


def test_a_polygon_is_the_largest_part_and_its_tolerance_is_the_configs() -> None:
    result = blob()
    plain = config_of('<Polygon name="p" toName="image"/>')
    rough = config_of('<Polygon name="p" toName="image" tolerance="6"/>')
    points = {
        name: len(regions_from_mask(result, drawn_on(config), config)[0].value["points"])
        for name, config in (("plain", plain), ("rough", rough))
    }
    assert 3 <= points["rough"] < points["plain"] < 80
    mask = np.zeros(SIZE, np.bool_)
    mask[10:20, 10:20] = mask[40:100, 60:160] = True
    (largest,) = regions_from_mask(result_of(mask), drawn_on(plain), plain)
    assert mask_box(mask_of(largest)) == pytest.approx((60, 40, 160, 100), abs=1)


def test_a_bad_tolerance_is_refused() -> None:
    config = config_of('<Polygon name="p" toName="image" tolerance="fine"/>')
    with pytest.raises(InputError, match=r"label_config\.p\.tolerance"):
        regions_from_mask(blob(), drawn_on(config), config)


@pytest.mark.parametrize(
    "options", [{"polygon_tolerance": -1}, {"polygon_tolerance": float("nan")}, {"keypoint_width": 0}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RegionOptions(**options)


def test_the_inner_point_is_inside_whatever_the_shape() -> None:
    ring = np.zeros((41, 41), np.uint8)
    cv2.circle(ring, (20, 20), 18, 1, 4)
    full = np.ones((5, 9), np.bool_)
    dot = np.zeros((5, 9), np.bool_)
    dot[4, 8] = True
    for mask in (ring.astype(bool), full, dot):
        x, y = inner_point(mask)
        assert mask[int(y), int(x)]
    assert inner_point(dot) == (8.5, 4.5)
    assert inner_point(full)[1] == 2.5


@unhurried
@given(st.floats(allow_nan=False))
def test_scores_stay_between_0_and_1(iou: float) -> None:
    config = config_of('<Rectangle name="r" toName="image"/>')
    (region,) = regions_from_mask(
        MaskResult(np.ones((4, 4), np.float32), (4, 4), iou, 1.0), drawn_on(config), config
    )
    assert region.score is not None
    assert 0 <= region.score <= 1


def test_from_a_click_to_a_response() -> None:
    config = config_of(
        LABELLED + f'<KeyPointLabels name="kp" toName="image" smart="true">{LABELS}</KeyPointLabels>'
    )
    value = {"x": 45, "y": 50, "width": 0.4, "keypointlabels": ["Ball"]}
    sent = {"id": "c1", "type": "keypointlabels", "from_name": "kp", "to_name": "image", "value": value}
    (drawn,) = read_context(
        {"result": [{**sent, "original_width": 200, "original_height": 120, "is_positive": True}]}, config
    )
    assert drawn.prompt(SIZE).points.tolist() == [[90, 60]]
    made = prediction_of(regions_from_mask(blob(), drawn, config), "nano-1")
    answer = response_of([made])["results"][0]
    assert (answer["score"], answer["model_version"]) == (0.87, "nano-1")
    assert [region["value"][region["type"]] for region in answer["result"]] == [["Ball"]] * 5
    assert all(region["id"].startswith(drawn.region_id) for region in answer["result"])
    assert all(region["id"] != "c1" for region in answer["result"])
