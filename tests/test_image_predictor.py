"""Clicks, boxes and everything on one image."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from edgetam_model import answering
from edgetam_model.engine import to_pixels
from edgetam_model.errors import InputError, PromptError, SessionError
from edgetam_model.image_predictor import EverythingOptions, ImageOptions, ImagePredictor
from edgetam_model.model import normalised
from edgetam_model.prompts import Prompt
from edgetam_model.windows import Window, window_around
from tests.models import OBJECT_SCORE_BIAS, clip, tiny_model, windowed_model

IMAGE = clip(1)[0]


def predictor(**options: object) -> ImagePredictor:
    made = ImagePredictor(tiny_model(), ImageOptions(**options))  # type: ignore[arg-type]
    made.set_image(IMAGE)
    return made


def test_a_click_offers_three_masks_best_first() -> None:
    result = predictor().predict(Prompt(points=[[40, 40]], labels=[1]))
    ious = [candidate.iou for candidate in result.candidates]
    assert len(ious) == 3
    assert ious == sorted(ious, reverse=True)
    assert result.iou == ious[0]
    assert np.array_equal(result.mask, result.candidates[0].mask)
    assert result.mask.shape == IMAGE.shape[:2]
    assert result.logits.shape == (32, 32)


def test_what_someone_points_at_is_there_whatever_its_object_score_says() -> None:
    model = copy.deepcopy(tiny_model())
    with torch.no_grad():
        model.get_parameter(OBJECT_SCORE_BIAS).fill_(-50.0)
    made = ImagePredictor(model)
    made.set_image(IMAGE)
    expected = predictor()
    for result, other in (
        (
            made.predict(Prompt(points=[[40, 40]], labels=[1])),
            expected.predict(Prompt(points=[[40, 40]], labels=[1])),
        ),
        (made.predict_boxes([[20, 20, 60, 60]])[0], expected.predict_boxes([[20, 20, 60, 60]])[0]),
    ):
        assert result.state == "visible"
        assert np.array_equal(result.mask, other.mask)


def test_unambiguous_prompts_give_one_mask() -> None:
    for prompt in (
        Prompt(box=[20, 20, 60, 60]),
        Prompt(box=[20, 20, 60, 60], points=[[40, 40]], labels=[1]),
        Prompt(points=[[40, 40], [90, 70]], labels=[1, 0]),
    ):
        assert predictor().predict(prompt).candidates == ()


def test_boxes_in_a_batch_give_what_they_give_alone() -> None:
    made = predictor(batch=3)
    boxes = [[i * 10, i * 5, i * 10 + 40, i * 5 + 30] for i in range(8)]
    for box, result in zip(boxes, made.predict_boxes(boxes), strict=True):
        alone = made.predict(Prompt(box=box))
        assert np.abs(result.logits - alone.logits).max() <= 1e-4
    assert made.predict_boxes([]) == []


def test_logits_refine_and_a_mask_is_the_output() -> None:
    made = predictor()
    click = Prompt(points=[[40, 40]], labels=[1])
    first = made.predict(click)
    refined = made.predict(Prompt(points=[[40, 40]], labels=[1], logits=first.logits))
    assert np.abs(refined.logits - first.logits).max() > 1e-3
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[10:60, 20:90] = True
    given = made.predict(Prompt(mask=mask)).mask
    assert (given & mask).sum() / (given | mask).sum() > 0.9, "up to the low resolution of the logits"


def test_everything_is_sorted_filtered_and_without_duplicates() -> None:
    made = predictor()
    loose = EverythingOptions(points_per_side=4, min_iou=0, min_stability=0, max_overlap=0.99)
    seen: list[tuple[int, int]] = []
    found = made.everything(loose, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    areas = [int(result.mask.sum()) for result in found]
    assert areas == sorted(areas, reverse=True)
    assert len(found) > 1
    strict = made.everything(EverythingOptions(4, min_iou=0, min_stability=0, max_overlap=0.3))
    assert 0 < len(strict) < len(found)
    assert made.everything(EverythingOptions(4, min_iou=1.0)) == []
    assert made.everything(EverythingOptions(4, min_iou=0, min_stability=1.1)) == []
    everything_but_small = EverythingOptions(4, min_iou=0, min_stability=0, min_area=10**6)
    assert made.everything(everything_but_small) == []


def test_frames_are_normalised_as_the_encoder_expects() -> None:
    rgb = np.full((128, 128, 3), (255, 0, 128), np.uint8)
    pixels = normalised(to_pixels(rgb, tiny_model()).float())[0, :, 5, 7].tolist()
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    assert pixels == pytest.approx(expected, abs=1e-5)


def test_bad_calls_name_what_is_wrong() -> None:
    with pytest.raises(SessionError, match="set_image first"):
        ImagePredictor(tiny_model()).predict(Prompt(box=[0, 0, 1, 1]))
    for image in (IMAGE[..., 0], IMAGE.astype(float), IMAGE[:, :0]):
        with pytest.raises(InputError, match="image: expected uint8"):
            ImagePredictor(tiny_model()).set_image(image)
    made = predictor()
    with pytest.raises(PromptError, match="positive"):
        made.predict(Prompt(points=[[4, 4]], labels=[0]))
    with pytest.raises(PromptError, match="box: expected one that overlaps"):
        made.predict_boxes([[500, 500, 600, 600]])
    with pytest.raises(InputError, match=r"logits: expected shape \(32, 32\)"):
        made.predict(Prompt(points=[[4, 4]], labels=[1], logits=np.zeros((64, 64))))
    with pytest.raises(InputError, match="points_per_side"):
        EverythingOptions(points_per_side=0)


def windowed(image: np.ndarray = IMAGE) -> ImagePredictor:
    made = ImagePredictor(windowed_model())
    made.set_image(image)
    return made


def test_models_with_windows_look_at_each_box_alone() -> None:
    made = windowed()
    boxes = [[25, 25, 55, 55], [98, 48, 122, 72]]
    for box, result in zip(boxes, made.predict_boxes(boxes), strict=True):
        assert result.window == window_around(np.array(box), (90, 160), 1.7)
        assert result.logits.shape == (64, 64)
        assert result.mask.shape == (90, 160)
        assert result.candidates == ()
        moved = np.roll(IMAGE, (3, 5), axis=(0, 1))
        same = windowed(moved).predict(Prompt(box=np.add(box, (5, 3, 5, 3))))
        assert np.array_equal(same.logits, result.logits), "only what the window shows counts"
        assert np.array_equal(same.mask[3:, 5:], result.mask[:-3, :-5])


def test_models_with_windows_take_clicks_masks_and_earlier_results() -> None:
    made = windowed()
    click = Prompt(points=[[40, 40]], labels=[1])
    clicked = made.predict(click)
    assert clicked.window is not None
    assert clicked.window.contains(np.array([[40, 40]]))
    assert len(clicked.candidates) == 3
    assert all(candidate.window == clicked.window for candidate in clicked.candidates)

    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[25:55, 25:55] = True
    given = made.predict(Prompt(mask=mask))
    assert given.window == window_around(np.array([25, 25, 55, 55]), (90, 160), 1.7)
    assert (given.mask & mask).sum() / (given.mask | mask).sum() > 0.95

    refined = made.predict(click.refining(given))
    assert refined.window == given.window
    anew = made.predict(Prompt(points=[[40, 40]], labels=[1], logits=-given.logits, window=given.window))
    assert np.abs(refined.logits - anew.logits).max() > 1e-3, "the earlier result is read"
    elsewhere = Prompt(box=[30, 30, 60, 60]).refining(given)
    assert made.predict(elsewhere).window == window_around(np.array([30, 30, 60, 60]), (90, 160), 1.7)
    with pytest.raises(InputError, match=r"logits: expected shape \(64, 64\)"):
        made.predict(Prompt(points=[[4, 4]], labels=[1], logits=np.zeros((16, 16))))


def test_answers_to_clicks_are_those_of_this_image() -> None:
    one, other = clip(2)
    clicks = Prompt(points=[[40, 40], [60, 20]], labels=[1, 0])
    predictor = ImagePredictor(windowed_model())
    for rgb in (one, other, one):
        predictor.set_image(rgb)
        first = predictor.predict(Prompt(points=[[40, 40]], labels=[1]))
        second = predictor.predict(clicks)
        fresh = ImagePredictor(windowed_model())
        fresh.set_image(rgb)
        assert np.array_equal(second.logits, fresh.predict(clicks).logits)
        assert np.array_equal(first.logits, predictor.predict(Prompt(points=[[40, 40]], labels=[1])).logits)


def test_no_more_answers_are_kept_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "KNOWN_ANSWERS", 3)
    predictor = ImagePredictor(windowed_model())
    predictor.set_image(clip(1)[0])
    for x in range(20, 90, 10):
        predictor.predict(Prompt(points=[[x, 40]], labels=[1]))
        assert 0 < len(predictor._known) <= 3
    many = Prompt(points=[[x, 30] for x in range(20, 90, 10)], labels=[1, *6 * [0]])
    shown = predictor.predict(many)
    assert len(predictor._known) == 3, "nor of one prompt with many clicks"
    fresh = ImagePredictor(windowed_model())
    fresh.set_image(clip(1)[0])
    assert np.array_equal(shown.logits, fresh.predict(many).logits)


def test_models_with_windows_find_everything_in_the_whole_image() -> None:
    image = IMAGE.copy()
    made = windowed(image)
    before = made.predict(Prompt(box=[25, 25, 55, 55]))
    image[:] = 0
    again = made.predict(Prompt(box=[26, 25, 55, 55]))
    assert before.window != again.window
    assert np.array_equal(again.logits, windowed().predict(Prompt(box=[26, 25, 55, 55])).logits)
    found = made.everything(EverythingOptions(3, min_iou=0, min_stability=0, max_overlap=0.99))
    assert found
    assert {result.window for result in found} == {Window.whole((90, 160))}
