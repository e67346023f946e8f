"""Calls of the model as runs of static graphs give the model's own numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from edgetam_model.memory import Recall, gather
from edgetam_model.model import ABSENT_LOGIT, EdgeTAM
from edgetam_model.model_io import Choice, Decoded, Detail, ImageFeatures, Remembered, Seen
from edgetam_model.nn.evidence import Trace
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.runtime.torch_parts import TorchBackend
from tests.models import OBJECT_SCORE_BIAS, tiny_model, windowed_model

MODELS = {"plain": tiny_model, "windowed": windowed_model}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> EdgeTAM:
    made: EdgeTAM = MODELS[request.param]()
    return made


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=2e-5)


@contextmanager
def by_parts(model: EdgeTAM) -> Iterator[None]:
    """The model is shared among tests, and left as it was."""
    model.runtime = StaticParts(model, TorchBackend(model))
    try:
        yield
    finally:
        model.runtime = None


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels(model: EdgeTAM, count: int) -> Tensor:
    side = model.config.image_size
    return draw(count, 3, side, side).mul(60).add(120).clamp(0, 255)


def windows(count: int) -> Tensor:
    corners = torch.tensor([[3.0, 5, 203, 105], [50, 40, 90, 95], [0, 0, 300, 200]])
    return corners[torch.arange(count) % 3]


def image(model: EdgeTAM, count: int) -> ImageFeatures:
    """Own views where the model wants them; else one image for all."""
    views = count if model.config.evidence_width else 1
    return model.encode_pixels(pixels(model, views), windows(views))


def remembered(model: EdgeTAM, count: int) -> Remembered:
    """Histories of different length, as many conditioning memories as sessions read by default."""
    config = model.config
    recalls = []
    for row in range(count):
        memories = 1 + (row * 3) % (3 + config.recent_memories)
        latents = list(draw(memories, config.latents, config.memory_width, seed=row))
        ages = [0, *range(min(memories - 1, config.recent_memories), 0, -1)]
        ages = [0] * (memories - len(ages)) + ages
        recalls.append(Recall(latents, ages, list(draw(1 + row % 5, config.width, seed=row + 50))))
    return gather(model, recalls)


def seen(model: EdgeTAM, count: int) -> Seen | None:
    config = model.config
    if not config.evidence_width:
        return None

    def trace(seed: int) -> Trace:
        side = config.low_res
        keys = draw(count, config.evidence_width, side, side, seed=seed)
        return Trace(keys, draw(count, 16, side, side, seed=seed + 1).tanh(), windows(count) + seed)

    return Seen(trace(1), trace(4))


def same(got: Decoded, wanted: Decoded) -> None:
    for name in ("logits", "raw", "iou", "pointer", "object_score", "candidates", "candidate_ious"):
        close(getattr(got, name), getattr(wanted, name))


@torch.inference_mode()
def test_pixels(model: EdgeTAM) -> None:
    wanted = image(model, 3)
    with by_parts(model):
        got = image(model, 3)
    for name in ("stride4", "stride8", "stride16"):
        close(getattr(got, name), getattr(wanted, name))
    assert (got.detail is None) == (wanted.detail is None)
    if wanted.detail is not None:
        assert isinstance(got.detail, Detail)
        close(got.detail.keys, wanted.detail.keys)
        assert torch.equal(got.detail.window, wanted.detail.window)


@pytest.mark.parametrize("count", [1, 3, 19])
@torch.inference_mode()
def test_memories_of_any_count(model: EdgeTAM, count: int) -> None:
    shown, memories = image(model, count), remembered(model, count)
    wanted = model.with_memory(shown, memories)
    with by_parts(model):
        got = model.with_memory(shown, memories)
    close(got, wanted)


@pytest.mark.parametrize("clicks", [0, 1, 4, 9])
@pytest.mark.parametrize("multimask", [True, False])
@torch.inference_mode()
def test_prompts_of_any_kind(model: EdgeTAM, clicks: int, multimask: bool) -> None:
    side = model.config.image_size
    points = None if not clicks else draw(1, clicks, 2).sigmoid() * side
    labels = None if not clicks else torch.tensor([[2, 3, 1, 0, 1, 1, 0, 1, 0][:clicks]])
    for dense in (None, draw(1, 1, model.config.mask_size, model.config.mask_size) * 8):
        answers = []
        for runtime in (None, StaticParts(model, TorchBackend(model))):
            shown = image(model, 1)
            model.runtime = runtime
            try:
                choice = Choice(multimask, dynamic_multimask=True, shown=clicks > 0)
                features = model.without_memory(shown)
                answers.append(model.decode(features, shown, points, labels, dense, choice=choice))
            finally:
                model.runtime = None
        same(answers[1], answers[0])


@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_tracking(model: EdgeTAM, count: int) -> None:
    shown, traces = image(model, count), seen(model, count)
    features = draw(count, *shown.stride16.shape[1:])
    wanted = model.decode(features, shown, choice=Choice(multimask=True), seen=traces)
    memory = model.encode_memory(shown, wanted.raw, binarize=False)
    with by_parts(model):
        got = model.decode(features, shown, choice=Choice(multimask=True), seen=traces)
        again = model.encode_memory(shown, wanted.raw, binarize=False)
    same(got, wanted)
    close(again, memory)


@torch.inference_mode()
def test_masks_that_are_given(model: EdgeTAM) -> None:
    side = model.config.image_size
    mask = torch.zeros(1, 1, side, side)
    mask[..., 10:40, 12:30] = 1
    shown = image(model, 1)
    wanted = model.from_mask(shown, mask)
    with by_parts(model):
        same(model.from_mask(shown, mask), wanted)


@torch.inference_mode()
def test_an_absent_object_leaves_the_pointer_of_absence(model: EdgeTAM) -> None:
    absent = copy.deepcopy(model)
    absent.get_parameter(OBJECT_SCORE_BIAS).fill_(-50)
    shown, choice = image(absent, 1), Choice(multimask=True)
    features = draw(1, *shown.stride16.shape[1:])
    wanted = absent.decode(features, shown, choice=choice)
    with by_parts(absent):
        got = absent.decode(features, shown, choice=choice)
    same(got, wanted)
    assert torch.equal(got.pointer, absent.no_obj_ptr)
    assert (got.logits == ABSENT_LOGIT).all()
    assert not (got.raw == ABSENT_LOGIT).any()
