"""How far the parts are from the model: `python -m tests.long.parts_errors edgetam`, one line per output.

Random weights for every config but `default`, which are the weights that ship. The published size takes
minutes.
"""

from __future__ import annotations

import json
import sys

import torch

from edgetam_model.config import CONFIGS
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.specs import Slots
from edgetam_model.weights import load_model
from tests.models import seeded
from tests.parts_cases import Cases


def main(name: str) -> None:
    model = model_named(name)
    tried = Cases(model, Slots())
    config = model.config
    with torch.inference_mode():
        tried.check_image()
        for conditioning in (1, 2, 4):
            for recent in (0, 1, config.recent_memories):
                for pointers in (0, conditioning, conditioning + config.max_pointers - 1):
                    tried.check_attention([tried.recall(conditioning, recent, pointers)])
        for binarize in (False, True):
            for absent in (False, True):
                tried.check_memory(binarize=binarize, absent=absent)
        for remembered in (False, True):
            tried.check_decoder(remembered=remembered)
        tried.check_given_mask()
    for output, share in tried.errors.shares.items():
        print(f"{output:16} {share:.1e} of {tried.errors.value[output]:.3g}")  # noqa: T201
    print(json.dumps({"config": name, "largest_error": max(tried.errors.shares.values())}))  # noqa: T201


def model_named(name: str) -> EdgeTAM:
    if name == "default":
        return load_model("default", device="cpu")
    return seeded(CONFIGS[name], seed=0, mask_gain=20)


if __name__ == "__main__":
    main(sys.argv[1])
