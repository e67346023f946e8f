"""The agent's functions by the calls that cvat-cli makes, with the weights that ship."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import cvat_sdk.masks
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cvat_function.agent import create, settings_of
from cvat_function.agent_interaction import InteractionFunction, KeptImage
from cvat_function.agent_tracking import TrackingFunction
from cvat_function.shapes import TYPES, Shape, shape_mask, shape_of_mask
from edgetam_model import EdgeTAMError, InputError, Prompt, VideoTracker, load_model
from edgetam_model.demo_clip import BALL, LADYBIRD, DemoScene
from edgetam_model.masks import Mask, mask_box, mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.weights import save_weights
from tests.models import OBJECT_SCORE_BIAS, tiny_model

Frame = NDArray[np.uint8]

WIDTH, HEIGHT, FRAMES = 320, 180, 4


@dataclass(frozen=True)
class Asked:
    """What an annotator shows, as cvat-cli hands it over."""

    pos_points: tuple[tuple[float, float], ...] = ()
    neg_points: tuple[tuple[float, float], ...] = ()
    bounding_box: Any = None


@dataclass(frozen=True)
class Context:
    """cvat-cli's, of every kind."""

    original_shape_type: str = ""


@cache
def scene() -> list[tuple[Frame, dict[int, Mask]]]:
    clip = DemoScene(60, WIDTH, HEIGHT)
    return [clip.frame(index) for index in range(FRAMES)]


@cache
def interactor() -> InteractionFunction:
    function = create("interactor", "default", "cpu")
    assert isinstance(function, InteractionFunction)
    return function


@cache
def tracker() -> TrackingFunction:
    function = create("tracker", "default", "cpu")
    assert isinstance(function, TrackingFunction)
    return function


def tiny_tracker(folder: Path, model: EdgeTAM, lost: Any = "auto") -> TrackingFunction:
    path = folder / "tiny.safetensors"
    save_weights(path, model, model.config)
    function = create("tracker", str(path), "cpu", lost)
    assert isinstance(function, TrackingFunction)
    return function


def centre(mask: Mask) -> tuple[float, float]:
    x0, y0, x1, y1 = corners(mask)
    return (x0 + x1) / 2, (y0 + y1) / 2


def corners(mask: Mask) -> tuple[int, int, int, int]:
    box = mask_box(mask)
    assert box is not None
    return box


def pairs(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = corners(mask)
    return (x0, y0), (x1, y1)


def drawn(mask: Mask, kind: str) -> Any:
    shape = shape_of_mask(mask, kind)
    assert shape is not None
    return cvataa.TrackableShape(**shape.to_json())


def area(shape: Any) -> Mask:
    """The pixels of any shape, rectangles included."""
    if shape.type == "rectangle":
        x0, y0, x1, y1 = (round(edge) for edge in shape.points)
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[y0:y1, x0:x1] = True
        return mask
    return shape_mask(Shape(shape.type, tuple(shape.points)), WIDTH, HEIGHT)


def detect(asked: Asked, image: Image.Image | None = None) -> list[Any]:
    picture = image or Image.fromarray(scene()[0][0])
    function = interactor()
    return function.detect(Context(), function.preprocess_image(Context(), picture), asked)


def masks(shapes: list[Any], width: int = WIDTH, height: int = HEIGHT) -> list[Mask]:
    """By CVAT's own decoder."""
    decode = cvat_sdk.masks.decode_mask
    return [decode(shape.points, image_width=width, image_height=height) for shape in shapes]


# Making a function ------------------------------------------------------------------------------------


def test_the_kind_is_named_where_it_is_wrong() -> None:
    with pytest.raises(InputError, match="kind: expected interactor or tracker, got 'detector'"):
        create("detector")
    with pytest.raises(InputError, match="lost: expected auto, last or null, got 'never'"):
        create("tracker", lost="never")  # type: ignore[arg-type]


def test_weights_that_are_not_there_end_the_agent_at_its_start(tmp_path: Path) -> None:
    with pytest.raises(EdgeTAMError, match=r"nowhere\.safetensors"):
        create("interactor", str(tmp_path / "nowhere.safetensors"), "cpu")


def test_a_quality_is_asked_for_or_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGETAM_QUALITY", raising=False)
    assert settings_of("default", "cpu", "auto", "fast").quality == "fast"
    assert settings_of("default", "cpu", "auto", "auto").quality == "exact"
    monkeypatch.setenv("EDGETAM_QUALITY", "fast")
    assert settings_of("default", "cpu", "auto", "auto").quality == "fast"
    assert settings_of("default", "cpu", "auto", "exact").quality == "exact"


def test_a_quality_that_cannot_be_had_ends_the_agent_at_its_start() -> None:
    with pytest.raises(InputError, match="quality: expected auto, exact or fast"):
        create("tracker", "default", "cpu", quality="best")  # type: ignore[arg-type]
    with pytest.raises(EdgeTAMError, match="these weights have no fast mode"):
        create("tracker", "default", "cpu", quality="fast")


def test_without_the_sdk_it_says_what_to_install() -> None:
    script = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cvat_sdk":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from cvat_function.agent import create
from edgetam_model import EdgeTAMError
try:
    create("tracker")
except EdgeTAMError as error:
    print(error)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'agents need cvat-sdk: pip install "edgetam-labeling[cvat]"'


# Interaction ------------------------------------------------------------------------------------------


def test_an_interactor_asks_for_clicks_or_a_box() -> None:
    spec = interactor().spec
    assert isinstance(spec, cvataa.InteractionFunctionSpec)
    assert (spec.min_pos_points, spec.min_neg_points, spec.min_bounding_boxes) == (0, 0, 0)


@pytest.mark.parametrize("thing", [BALL, LADYBIRD])
def test_a_box_gives_the_object_with_its_confidence(thing: int) -> None:
    truth = scene()[0][1][thing]
    shapes = detect(Asked(bounding_box=pairs(truth)))
    assert [shape.type for shape in shapes] == ["mask"]
    assert mask_iou(masks(shapes)[0], truth) > 0.8
    (confidence,) = shapes[0].attributes
    assert confidence.spec_id == 0
    assert isinstance(confidence.value, str)
    assert 0.5 < float(confidence.value) <= 1
    assert {type(point) for point in shapes[0].points} == {int}


def test_clicks_of_both_kinds_with_a_box() -> None:
    truth = scene()[0][1][BALL]
    shapes = detect(Asked((centre(truth),), ((3.0, 3.0),), pairs(truth)))
    assert mask_iou(masks(shapes)[0], truth) > 0.8


def test_a_click_alone_hits_the_object() -> None:
    x, y = centre(scene()[0][1][LADYBIRD])
    (mask,) = masks(detect(Asked(((x, y),))))
    assert mask[int(y), int(x)]


def test_several_boxes_give_several_objects() -> None:
    truths = [scene()[0][1][thing] for thing in (BALL, LADYBIRD)]
    shapes = detect(Asked(bounding_box=pairs(truths[0]) + pairs(truths[1])))
    assert [mask_iou(*both) > 0.8 for both in zip(masks(shapes), truths, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(), "pos_points: expected a positive click or a box"),
        (Asked(neg_points=((9.0, 9.0),)), "pos_points: expected a positive click or a box"),
        (Asked(((-50.0, 900.0),)), "pos_points: expected a click inside the image"),
        (Asked(bounding_box=((5.0, 5.0), (5.0, 90.0))), "obj_bbox: expected a box with an area"),
        (Asked(bounding_box=((5.0, 5.0),)), "obj_bbox: expected two corners"),
    ],
)
def test_prompts_that_say_nothing_are_told_apart(asked: Asked, told: str) -> None:
    with pytest.raises(cvataa.BadFunctionError, match=told):
        detect(asked)


def test_an_image_on_its_side_is_answered_upright() -> None:
    rgb, truth = scene()[0]
    on_its_side = Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    on_its_side.info["exif"] = exif.tobytes()
    asked = Asked(bounding_box=pairs(truth[BALL]))
    assert (masks(detect(asked, on_its_side))[0] == masks(detect(asked))[0]).all()


def test_a_second_click_does_not_encode_the_image_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[KeptImage] = []
    pixels = KeptImage.pixels

    def counted(self: KeptImage) -> Frame:
        reads.append(self)
        return pixels(self)

    monkeypatch.setattr(KeptImage, "pixels", counted)
    function = interactor()
    kept = function.preprocess_image(Context(), Image.fromarray(255 - scene()[0][0]))
    for x in (100.0, 120.0, 140.0):
        function.detect(Context(), kept, Asked(((x, 90.0),)))
    assert len(reads) == 1


def test_a_kept_image_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    kept, turned = KeptImage(pixels), KeptImage(pixels.reshape(3, 2, 3))
    assert (kept.pixels() == pixels).all()
    assert (turned.pixels() == pixels.reshape(3, 2, 3)).all()
    assert kept.content != turned.content  # the same bytes, but another image
    assert len(list(tmp_path.iterdir())) == 2
    del kept, turned
    assert not list(tmp_path.iterdir())


# Tracking ---------------------------------------------------------------------------------------------


def follow(function: TrackingFunction, kind: str, thing: int) -> list[Any]:
    """Every frame's shape, as cvat-cli asks for them."""
    (first, truth), *later = scene()
    context = Context(kind)
    shown = function.preprocess_image(context, Image.fromarray(first))
    state = function.init_tracking_state(context, shown, drawn(truth[thing], kind))
    return [
        function.track(context, function.preprocess_image(context, Image.fromarray(rgb)), state)
        for rgb, _ in later
    ]


def test_a_tracker_takes_every_shape_with_an_area() -> None:
    spec = tracker().spec
    assert isinstance(spec, cvataa.TrackingFunctionSpec)
    assert spec.supported_shape_types == {"rectangle", "polygon", "mask"}


@pytest.mark.parametrize("kind", TYPES)
def test_an_object_is_followed_in_the_shape_that_was_drawn(kind: str) -> None:
    shapes = follow(tracker(), kind, LADYBIRD)
    assert {shape.type for shape in shapes} == {kind}
    for shape, (_, truth) in zip(shapes, scene()[1:], strict=True):
        expected = area(drawn(truth[LADYBIRD], "rectangle")) if kind == "rectangle" else truth[LADYBIRD]
        assert mask_iou(area(shape), expected) > 0.85
        assert {type(point) for point in shape.points} <= {int, float}


def test_masks_are_those_of_the_video_tracker() -> None:
    frames = [rgb for rgb, _ in scene()]
    truth = scene()[0][1][BALL]
    with VideoTracker(load_model("default", "cpu").fuse()).open(frames) as session:
        session.add_prompt(0, 1, Prompt(mask=truth))
        expected = [frame.objects[1].mask for frame in session.propagate()][1:]
    answered = [area(shape) for shape in follow(tracker(), "mask", BALL)]
    assert [mask_iou(*both) for both in zip(answered, expected, strict=True)] == pytest.approx(
        [1] * 3, abs=0.02
    )


def test_objects_of_a_frame_share_its_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode_image = EdgeTAM.encode_image

    def counted(self: EdgeTAM, pixels: torch.Tensor, *rest: Any) -> Any:
        encoded.append(len(pixels))
        return encode_image(self, pixels, *rest)

    monkeypatch.setattr(EdgeTAM, "encode_image", counted)
    function, context = tiny_tracker(tmp_path, tiny_model()), Context("rectangle")
    function.preprocess_image(context, Image.fromarray(scene()[2][0]))  # the model loads and warms up
    encoded.clear()
    shown = [function.preprocess_image(context, Image.fromarray(rgb)) for rgb, _ in scene()[:2]]
    truth = scene()[0][1]
    states = [
        function.init_tracking_state(context, shown[0], drawn(truth[thing], "rectangle"))
        for thing in (BALL, LADYBIRD)
    ]
    assert sum(encoded) == 1
    for state in states:
        function.track(context, shown[1], state)
    assert sum(encoded) == 2


@pytest.mark.parametrize(
    ("kind", "lost", "stays"),
    [
        ("rectangle", "auto", True),
        ("polygon", "auto", False),
        ("mask", "auto", False),
        ("rectangle", "null", False),
        ("mask", "last", True),
    ],
)
def test_an_object_out_of_sight(tmp_path: Path, kind: str, lost: str, stays: bool) -> None:
    blind = EdgeTAM(tiny_model().config)
    weights = tiny_model().state_dict() | {OBJECT_SCORE_BIAS: torch.tensor([-1000.0])}
    blind.load_state_dict(weights)
    shapes = follow(tiny_tracker(tmp_path, blind.eval(), lost), kind, BALL)
    assert shapes == [drawn(scene()[0][1][BALL], kind) if stays else None] * len(shapes)


def test_an_object_that_fails_keeps_its_shape_and_state(caplog: pytest.LogCaptureFixture) -> None:
    function, context, truth = tracker(), Context("polygon"), scene()[0][1]
    shown = function.preprocess_image(context, Image.fromarray(scene()[0][0]))
    state = function.init_tracking_state(context, shown, drawn(truth[BALL], "polygon"))
    state.remembered = state.remembered[:-1]
    damaged = state.remembered
    assert function.track(context, shown, state) == drawn(truth[BALL], "polygon")
    assert state.remembered == damaged
    assert "keeps its last shape" in caplog.text


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (("rectangle", [5, 5, 5, 90]), "rectangle: expected one with an area"),
        (("rectangle", [5, 5, 50]), "shape.points: expected x0, y0, x1, y1"),
        (("polygon", [900, 900, 950, 900, 950, 990]), "polygon: expected one that covers pixels"),
        (("mask", [0, 12, 20, 10, 23, 999]), "points: expected a box inside the image"),
        (("ellipse", [5, 5, 9, 9]), "shape.type: expected rectangle, polygon, mask"),
    ],
)
def test_shapes_that_cannot_be_tracked_are_named(shape: tuple[str, list[float]], told: str) -> None:
    function, context = tracker(), Context(shape[0])
    shown = function.preprocess_image(context, Image.fromarray(scene()[0][0]))
    with pytest.raises(cvataa.BadFunctionError, match=told):
        function.init_tracking_state(context, shown, cvataa.TrackableShape(type=shape[0], points=shape[1]))
