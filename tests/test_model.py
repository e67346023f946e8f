"""How the model chooses masks and treats objects that are not there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgetam_model.config import CONFIGS
from edgetam_model.model import ABSENT_LOGIT, EdgeTAM
from edgetam_model.model_io import Choice, ImageFeatures
from tests.models import OBJECT_SCORE_BIAS, tiny_model

CONFIG = CONFIGS["tiny"]
CLICK = torch.tensor([[[40.0, 50.0]]]), torch.tensor([[1]])


def features(model: EdgeTAM) -> ImageFeatures:
    return model.encode_image(torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))


@contextmanager
def object_score_of(model: EdgeTAM, bias: float) -> Iterator[None]:
    """Shift every object score."""
    score = model.state_dict()[OBJECT_SCORE_BIAS]
    before = score.clone()
    score += bias
    try:
        yield
    finally:
        score.copy_(before)


@torch.no_grad()
def test_an_absent_object_has_no_mask_and_the_pointer_of_absence() -> None:
    model = tiny_model()
    image = features(model)
    with object_score_of(model, -100):
        decoded = model.decode(model.without_memory(image), image, *CLICK, choice=Choice(multimask=True))
    assert (decoded.logits == ABSENT_LOGIT).all()
    assert (decoded.object_score <= 0).all()
    torch.testing.assert_close(decoded.pointer, model.no_obj_ptr.data)


@torch.no_grad()
def test_one_of_three_masks_is_the_one_with_the_highest_predicted_iou() -> None:
    model = tiny_model()
    image = features(model)
    decoded = model.decode(model.without_memory(image), image, *CLICK, choice=Choice(multimask=True))
    assert decoded.candidates.shape == (1, 3, CONFIG.low_res, CONFIG.low_res)
    best = int(decoded.candidate_ious[0].argmax())
    assert torch.equal(decoded.logits[0], decoded.candidates[0, best])
    assert decoded.iou[0] == decoded.candidate_ious[0].max()


@torch.no_grad()
def test_an_unstable_single_mask_gives_way_to_the_best_of_three() -> None:
    model = tiny_model()
    image = features(model)
    plain = model.decode(model.without_memory(image), image, *CLICK, choice=Choice(multimask=False))
    three = model.decode(model.without_memory(image), image, *CLICK, choice=Choice(multimask=True))
    dynamic = model.decode(
        model.without_memory(image), image, *CLICK, choice=Choice(multimask=False, dynamic_multimask=True)
    )
    inner, outer = (plain.logits > 0.05).sum(), (plain.logits > -0.05).sum()
    assert inner / outer < 0.98, "the random model's mask is unstable, or this test shows nothing"
    assert torch.equal(dynamic.logits, three.logits)
    assert torch.equal(dynamic.pointer, plain.pointer), "the pointer stays the single mask's"


@torch.no_grad()
def test_a_given_mask_is_the_output_and_an_empty_one_is_an_absent_object() -> None:
    model = tiny_model()
    image = features(model)
    mask = torch.zeros(2, 1, 128, 128)
    mask[0, :, 20:60, 32:92] = 1
    decoded = model.from_mask(image, mask)
    assert decoded.object_score.tolist() == [10, -10]
    assert (decoded.logits[0] > 0).sum() == 10 * 15
    assert not (decoded.logits[1] > 0).any()
    torch.testing.assert_close(decoded.pointer[1:], model.no_obj_ptr.data)


@torch.no_grad()
def test_fusing_a_whole_model_keeps_its_numbers_and_its_fingerprint() -> None:
    model = tiny_model()
    fused = copy.deepcopy(model).fuse()
    torch.testing.assert_close(features(fused).stride16, features(model).stride16, atol=1e-5, rtol=1e-5)
    assert fused.fingerprint() == model.fingerprint() != tiny_model(seed=1).fingerprint()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())
