"""The parts give the model's own numbers: at every count of memories and pointers, for every prompt."""

from __future__ import annotations

import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.parts.making import example_inputs, make_parts, runtime_parts
from edgetam_model.parts.specs import PART_NAMES, Slots, part_specs, runtime_specs
from edgetam_model.weights import load_model
from tests.models import tiny_model, windowed_model
from tests.parts_cases import Cases

EXACT = 2e-6  # of an output's largest value, float32
MODELS = {"tiny": tiny_model, "windowed": windowed_model}
RUNTIME = " in runtimes"
FORMS = [*MODELS, *(name + RUNTIME for name in MODELS)]


def cases(name: str, objects: int = 1, conditioning: int = 4, prompts: int = 8) -> Cases:
    model = MODELS[name.removesuffix(RUNTIME)]()
    return Cases(model, Slots(objects, conditioning, prompts), runtime=name.endswith(RUNTIME))


def assert_exact(tried: Cases) -> None:
    assert max(tried.errors.shares.values()) <= EXACT, tried.errors.shares


@torch.inference_mode()
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("conditioning", [1, 2, 3, 4])
def test_attention_at_every_count_of_memories_and_pointers(name: str, conditioning: int) -> None:
    tried = cases(name)
    config = tried.config
    for recent in range(config.recent_memories + 1):
        for pointers in range(tried.slots.pointers(config) - (4 - conditioning) + 1):
            tried.check_attention([tried.recall(conditioning, recent, pointers)])
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("name", FORMS)
def test_the_small_attention_serves_one_conditioning_memory(name: str) -> None:
    tried = cases(name, conditioning=1)
    for recent in range(tried.config.recent_memories + 1):
        tried.check_attention([tried.recall(1, recent, recent + 1)])
    tried.check_attention([tried.recall(1, tried.config.recent_memories, tried.config.max_pointers)])
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("name", FORMS)
def test_objects_of_different_age_go_through_attention_together(name: str) -> None:
    tried = cases(name, objects=3)
    config = tried.config
    full = tried.recall(4, config.recent_memories, tried.slots.pointers(config))
    tried.check_attention([tried.recall(1, 0, 1), full, tried.recall(2, 1, 0)])
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("name", FORMS)
def test_image_encoder_and_memory_encoder(name: str, objects: int) -> None:
    tried = cases(name, objects)
    tried.check_image()
    for binarize in (False, True):
        for absent in (False, True):
            tried.check_memory(binarize=binarize, absent=absent)
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("name", FORMS)
def test_decoder_for_every_prompt(name: str, objects: int, remembered: bool) -> None:
    tried = cases(name, objects)
    tried.check_decoder(remembered=remembered)
    tried.check_given_mask()
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("name", FORMS)
def test_pointers_of_frames_without_the_object_give_way_to_the_learned_one(name: str) -> None:
    tried = cases(name)
    tried.check_attention([tried.recall(2, 2, 5)], absent=3)
    assert_exact(tried)


@torch.inference_mode()
@pytest.mark.parametrize("runtime", [False, True])
def test_the_weights_that_ship(runtime: bool) -> None:
    tried = Cases(load_model("default", device="cpu"), Slots(objects=2), runtime=runtime)
    most = tried.config.recent_memories
    for conditioning, recent, pointers in ((1, 0, 0), (1, most, 4), (4, 1, 2), (4, most, 11)):
        tried.check_attention([tried.recall(conditioning, recent, pointers), tried.recall(1, 0, 1)])
    tried.check_image()
    tried.check_memory(binarize=True, absent=False)
    tried.check_memory(binarize=False, absent=True)
    for remembered in (False, True):
        tried.check_decoder(remembered=remembered, every=3)
    tried.check_given_mask()
    assert_exact(tried)


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_static_real_and_have_at_most_five_dimensions(name: str) -> None:
    model, slots = MODELS[name](), Slots(objects=2)
    made = [(make_parts(model)[part], spec) for part, spec in part_specs(model.config, slots).items()]
    made += [(runtime_parts(model)[part], spec) for part, spec in runtime_specs(model.config, slots).items()]
    for part, spec in made:
        program = torch.export.export(part, example_inputs(spec))
        values = [node.meta["val"] for node in program.graph.nodes if "val" in node.meta]
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        assert len(tensors) > 20
        for tensor in tensors:
            assert tensor.ndim <= 5
            assert not tensor.is_complex()
            assert all(isinstance(size, int) for size in tensor.shape), "no size depends on the input"
        with torch.inference_mode():
            out = program.module()(*example_inputs(spec))
        assert [tuple(one.shape) for one in out] == [one.shape for one in spec.outputs]


def test_parts_share_the_models_weights() -> None:
    model = tiny_model()
    own = {id(parameter) for parameter in model.parameters()}
    for part in (*make_parts(model).values(), *runtime_parts(model).values()):
        copies = {name for name, parameter in part.named_parameters() if id(parameter) not in own}
        named = ("itself", "across", "to_stride4", "to_stride8", "mask_downsampler")
        assert all(any(one in name for one in named) for name in copies), copies


def test_specs_say_what_the_parts_do() -> None:
    specs = part_specs(tiny_model().config, Slots())
    assert tuple(specs) == PART_NAMES
    for spec in specs.values():
        names = [one.name for one in (*spec.inputs, *spec.outputs)]
        assert len({one.name for one in spec.inputs}) == len(spec.inputs)
        assert all(one.meaning for one in (*spec.inputs, *spec.outputs)), names
    with pytest.raises(InputError, match="prompts: expected at least 1, got 0"):
        Slots(prompts=0)
