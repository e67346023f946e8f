"""The golden numbers by OpenVINO in float32, by parts and through the tracker; one part by compiled PyTorch.

Parts hold PyTorch's tolerances; so do roll-outs on well conditioned weights (1e-4). On the golden weights,
which multiply rounding (see `test_parity`), roll-outs stay below `CAP`, since their spread would cost a
second run. `python -m tests.long.runtime_parity` holds every roll-out by any runtime to the same: compiled
PyTorch takes 130 core-s to compile what one object needs.
"""

from __future__ import annotations

import copy
import shutil
from functools import cache

import pytest
import torch

from edgetam_model.engine import to_pixels
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import ImageFeatures, Remembered
from edgetam_model.runtime.choosing import RuntimeOptions, accelerate
from tests.parity.inputs import disc_mask, frame, sampled, uniform
from tests.parity.modules import decoder_outputs, modules, modules_by_conditioning
from tests.parity.references import (
    CAP,
    MODULES,
    SPREAD,
    Arrays,
    RollOut,
    error,
    forward_and_corrected,
    from_mask,
    golden,
    independent_errors,
    like_the_independent_one,
    published,
    tame,
    video_errors,
)

# Inside a part, or constants: no runtime gives them out.
NOT_BY_RUNTIMES = {*(f"trunk.{i}" for i in range(4)), "features_pos.2", "memory.dense", "memory.latents_pos"}


def by_openvino(model: EdgeTAM) -> EdgeTAM:
    """The model is shared among tests, and left as it was."""
    return accelerate(copy.deepcopy(model), RuntimeOptions("openvino", "fp32", torch.get_num_threads()))


@cache
def accelerated() -> EdgeTAM:
    return by_openvino(published())


@cache
@torch.inference_mode()
def openvino_outputs() -> Arrays:
    """The golden arrays that a runtime computes, by OpenVINO in float32: all of a step's parts."""
    model = accelerated()
    image = model.encode_pixels(to_pixels(frame(0), model))
    prompt = model.from_mask(image, torch.from_numpy(disc_mask()).float()[None, None])
    out = decoder_outputs(model, image) | {
        "features.0": image.stride4,
        "features.1": image.stride8,
        "features.2": image.stride16,
        "mask_prompt.low_res": prompt.logits,
        "mask_prompt.object_pointer": prompt.pointer,
        "mask_prompt.object_score": prompt.object_score,
        "memory.latents": model.encode_memory(image, prompt.logits),
        "memory_attention": attended(model, image),
    }
    return {name: value.numpy() for name, value in out.items()}


def attended(model: EdgeTAM, image: ImageFeatures) -> torch.Tensor:
    """The golden memories of two objects."""
    stored = [torch.from_numpy(uniform(f"input.mem{i}", (512, 2, 64))) for i in range(3)]
    pointers = torch.from_numpy(uniform("input.ptr", (8, 2, 64))).transpose(0, 1)
    remembered = Remembered(
        latents=torch.stack(stored).permute(2, 0, 1, 3).contiguous(),
        ages=torch.tensor([[0, 2, 1]] * 2),
        pointers=pointers.reshape(2, 2, 256),
    )
    return model.with_memory(image, remembered).flatten(2).permute(2, 0, 1)


@pytest.mark.timeout(600)
def test_parts() -> None:
    """The tolerances of `test_modules`, and of `test_modules_that_amplify_rounding` where that applies."""
    plain, amplified = (set(names) for names in modules_by_conditioning())
    found, (ours, others) = openvino_outputs(), modules()
    assert set(found) == amplified | (plain & set(found))
    assert plain - set(found) == NOT_BY_RUNTIMES
    for name in found:
        allowed = MODULES
        if name in amplified:
            kept = {name: sampled(ours[name], golden()[name].size)}
            allowed = min(CAP, max(MODULES, SPREAD * max(error(other, kept, name) for other in others)))
        assert error(found, golden(), name) <= allowed, name


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("roll_out", "objects"), [(forward_and_corrected, 4), (from_mask, 1)])
def test_videos(roll_out: RollOut, objects: int) -> None:
    """Longer than the memory, a correction, two objects and one; backward and published options: below."""
    errors = video_errors(roll_out(accelerated()))
    print(f"error {errors}")  # noqa: T201 - for docs/log.md
    assert len(errors) == objects
    assert max(errors.values()) <= CAP, errors


@pytest.mark.timeout(600)
def test_videos_of_an_independent_implementation() -> None:
    errors = independent_errors(like_the_independent_one(by_openvino(tame())))
    assert len(errors) == 18
    assert max(errors.values()) <= MODULES, errors


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside PyTorch
@torch.inference_mode()
def test_memory_attention_by_compiled_pytorch() -> None:
    model = copy.deepcopy(published())
    image = model.encode_pixels(to_pixels(frame(0), model))
    found = attended(accelerate(model, RuntimeOptions("compiled", "fp32")), image).numpy()
    assert error({"memory_attention": found}, golden(), "memory_attention") <= MODULES
