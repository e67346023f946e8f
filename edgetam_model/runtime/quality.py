"""The fast mode: the same weights on a smaller picture."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from edgetam_model.model import EdgeTAM

FAST_SIDE = 512  # pixels of the network's input; the published model has 1024


def fast(model: EdgeTAM) -> EdgeTAM:
    """The model on half the side: a quarter of the tokens, about a fifth of the time.

    Every weight stays as it is; only positions are made anew. A model whose input is as small already, such
    as `nano`, is given back as it is.

    Args:
        model: from `load_model`, fused or not; it is not changed, and shares its weights with the result.
    """
    return model if model.config.image_size <= FAST_SIDE else resized(model, FAST_SIDE)


def resized(model: EdgeTAM, side: int) -> EdgeTAM:
    """The model on pictures of another side, with a fingerprint of its own: masks and memories differ.

    Args:
        model: as for `fast`.
        side: pixels, a multiple of 64.
    """
    other = EdgeTAM(replace(model.config, image_size=side)).eval()
    if model.fused:
        other.fuse()
    other.load_state_dict(model.state_dict(), assign=True)
    other.weights_info = model.weights_info
    mark = f"{model.fingerprint()} on {side} pixels"
    other.name_fingerprint(hashlib.sha256(mark.encode()).hexdigest())
    return other.to(model.device).train(model.training).requires_grad_(False)
