"""Configs fit together or say which field does not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.errors import InputError
from edgetam_model.options import TrackerOptions


@pytest.mark.parametrize("name", list(CONFIGS))
def test_configs_travel_through_json(name: str) -> None:
    values = json.loads(json.dumps(CONFIGS[name].to_dict()))
    assert EdgeTAMConfig.from_dict(values) == CONFIGS[name]


def test_the_published_sizes() -> None:
    config = CONFIGS["edgetam"]
    assert (config.grid, config.low_res, config.latents, config.pointer_tokens) == (64, 256, 512, 4)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image_size": 1000}, "image_size"),
        ({"image_size": 0}, "image_size"),
        ({"width": 100}, "width"),
        ({"memory_width": 48}, "memory_width"),
        ({"patch_latents": 250}, "patch_latents"),
        ({"patch_latents": 49}, "patch_latents"),
        ({"patch_latents": -1}, "patch_latents"),
        ({"global_latents": -1}, "global_latents"),
        ({"global_latents": 0, "patch_latents": 0}, "global_latents"),
        ({"pooled_memories": True}, "pooled_memories"),
        ({"pooled_memories": True, "patch_latents": 0}, "pooled_memories"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes: dict[str, int], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        replace(CONFIGS["edgetam"], **changes)  # type: ignore[arg-type]


def test_unknown_fields_are_named() -> None:
    with pytest.raises(InputError, match=r"config\.hidden: unknown"):
        EdgeTAMConfig.from_dict({"hidden": 3})
    with pytest.raises(InputError, match=r"options\.speed: unknown"):
        TrackerOptions.from_dict({"speed": 3})


def test_options_travel_through_json_and_have_ranges() -> None:
    options = TrackerOptions(non_overlapping=True, lost_after=0)
    assert TrackerOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    with pytest.raises(InputError, match="max_conditioning_frames: expected at least 2"):
        TrackerOptions(max_conditioning_frames=1)
