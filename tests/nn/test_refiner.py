"""The head that draws the mask anew."""

from __future__ import annotations

import torch

from edgetam_model.nn.evidence import CHANNELS, LABELS, labels_of
from edgetam_model.nn.refiner import Refiner
from tests.models import windowed_model

CONFIG = windowed_model().config
SIDE = CONFIG.low_res


def parts(batch: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    width = CONFIG.width
    return {
        "stride4": torch.randn(batch, width, SIDE, SIDE),
        "stride8": torch.randn(batch, width, SIDE // 2, SIDE // 2),
        "decoded": torch.randn(batch, width, SIDE // 4, SIDE // 4),
        "evidence": torch.zeros(batch, CHANNELS, SIDE, SIDE),
        "logits": torch.zeros(batch, SIDE, SIDE),
    }


def test_a_mask_of_the_inputs_size_and_its_quality() -> None:
    logits, iou = Refiner(CONFIG)(**parts(2))
    assert logits.shape == (2, CONFIG.image_size, CONFIG.image_size)
    assert iou.shape == (2,)
    assert bool(((iou > 0) & (iou < 1)).all())


def test_carried_labels_are_believed_before_anything_is_learned() -> None:
    mask = torch.zeros(1, CONFIG.image_size, CONFIG.image_size, dtype=torch.bool)
    mask[:, 10:31, 7:40] = True
    inputs = parts(1)
    inputs["evidence"][:, :LABELS] = labels_of(torch.where(mask, 10.0, -10.0))
    refiner = Refiner(CONFIG)
    torch.nn.init.zeros_(refiner.head.weight)
    with torch.no_grad():
        logits, _ = refiner(**inputs)
    assert torch.equal(logits > 0, mask)
    assert 2.9 < float(logits.max()) < 3.2


def test_the_decoders_mask_is_kept_where_nothing_speaks_against_it() -> None:
    inputs = parts(1)
    inputs["logits"][:, : SIDE // 2] = 8
    inputs["logits"][:, SIDE // 2 :] = -8
    refiner = Refiner(CONFIG)
    torch.nn.init.zeros_(refiner.head.weight)
    with torch.no_grad():
        logits, _ = refiner(**inputs)
    assert bool((logits[:, : CONFIG.image_size // 2] > 0).all())
    assert bool((logits[:, CONFIG.image_size // 2 :] < 0).all())
