"""Who computes: what is named, or the best there is; wrong wishes are refused by name."""

from __future__ import annotations

import copy
import logging
import shutil

import numpy as np
import pytest
import torch

from edgetam_model.errors import InputError
from edgetam_model.image_predictor import ImageOptions, ImagePredictor
from edgetam_model.prompts import Prompt
from edgetam_model.runtime.choosing import (
    RuntimeOptions,
    accelerate,
    has_bf16_units,
    has_openvino,
    in_quality,
)
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from edgetam_model.runtime.quality import fast
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.runtime.torch_parts import TorchBackend
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.warming import warm_up
from tests.models import tiny_at, tiny_model, windowed_model


def test_auto_takes_openvino_on_a_processor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("EDGETAM_RUNTIME", raising=False)
    assert has_openvino()
    model = accelerate(copy.deepcopy(tiny_model()))
    assert isinstance(model.runtime, StaticParts)
    assert isinstance(model.runtime.backend, OpenVinoBackend)
    assert "computed by OpenVINO, fp32" in caplog.text


def test_warming_prepares_what_the_first_prompt_and_track_need() -> None:
    model = warm_up(accelerate(copy.deepcopy(tiny_model()), RuntimeOptions("openvino")))
    assert isinstance(model.runtime, StaticParts)
    assert isinstance(model.runtime.backend, OpenVinoBackend)
    ready = {(graph.part, graph.slots.prompts) for graph in model.runtime.backend.ready}
    assert ready == {
        ("image_encoder", 4),
        ("unmasked_decoder", 4),
        ("unmasked_decoder", 1),  # of tracked frames, which have no prompt
        ("mask_decoder", 4),
        ("memory_encoder", 4),
        ("frame_attention", 4),
        ("object_attention", 4),
    }


def test_torch_is_the_model_itself() -> None:
    before = copy.deepcopy(tiny_model())
    model = accelerate(copy.deepcopy(before), RuntimeOptions("torch"))
    assert model.runtime is None
    assert model.fingerprint() == before.fingerprint()


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside PyTorch
def test_compiled_computes_the_same() -> None:
    model = copy.deepcopy(windowed_model()).fuse()
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        wanted = model.encode_pixels(pixels)
        compiled = accelerate(model, RuntimeOptions("compiled"))
        assert isinstance(compiled.runtime, StaticParts)
        assert isinstance(compiled.runtime.backend, TorchBackend)
        got = compiled.encode_pixels(pixels)
    torch.testing.assert_close(got.stride16, wanted.stride16, atol=1e-4, rtol=1e-4)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("RUNTIME", "openvino"),
        ("PRECISION", "fp32"),
        ("THREADS", "3"),
        ("QUALITY", "fast"),
    ):
        monkeypatch.setenv(f"EDGETAM_{name}", value)
    assert RuntimeOptions.from_environment() == RuntimeOptions("openvino", "fp32", 3, "fast")
    monkeypatch.delenv("EDGETAM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert RuntimeOptions.from_environment().threads == 4
    monkeypatch.setenv("EDGETAM_THREADS", "many")
    with pytest.raises(InputError, match="EDGETAM_THREADS: expected a number"):
        RuntimeOptions.from_environment()


@pytest.mark.parametrize(
    ("field", "value"), [("runtime", "abacus"), ("precision", "fp64"), ("threads", -1), ("quality", "best")]
)
def test_wrong_wishes_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{field}: expected"):
        RuntimeOptions(**{field: value})  # type: ignore[arg-type]


def test_bf16_needs_units_and_a_backend_that_has_it() -> None:
    with pytest.raises(InputError, match="precision: expected fp32 with the runtime torch"):
        accelerate(copy.deepcopy(tiny_model()), RuntimeOptions("torch", "bf16"))
    wish = RuntimeOptions("openvino", "bf16")
    if has_bf16_units():
        accelerated = accelerate(copy.deepcopy(tiny_model()), wish)
        assert isinstance(accelerated.runtime, StaticParts)
        assert "bf16" in accelerated.runtime.backend.name
    else:
        with pytest.raises(InputError, match="no units for bf16"):
            accelerate(copy.deepcopy(tiny_model()), wish)


def test_openvino_is_for_float32() -> None:
    with pytest.raises(InputError, match="runtime: expected a model in float32"):
        accelerate(copy.deepcopy(tiny_model()).double(), RuntimeOptions("openvino"))


def test_the_fast_mode_shares_weights() -> None:
    model = tiny_at(1024)
    smaller = fast(model)
    assert smaller.config.image_size == 512
    assert smaller.no_mem_embed.data_ptr() == model.no_mem_embed.data_ptr()
    with torch.inference_mode():
        image = smaller.encode_pixels(torch.zeros(1, 3, 512, 512))
    assert image.stride16.shape[-1] == 32
    assert fast(tiny_model()) is tiny_model()
    chosen = accelerate(tiny_at(1024), RuntimeOptions("torch", quality="fast"))
    assert chosen.config.image_size == 512


def test_quality_is_a_matter_of_each_call() -> None:
    model = accelerate(tiny_at(1024), RuntimeOptions("torch"))
    twin = in_quality(model, "fast")
    assert in_quality(model, "exact") is in_quality(model, None) is model
    assert in_quality(model, "fast") is twin
    assert twin.config.image_size == 512
    assert twin.no_mem_embed.data_ptr() == model.no_mem_embed.data_ptr()
    assert twin.fingerprint() != model.fingerprint()
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    sizes = []
    for quality in ("exact", "fast"):
        predictor = ImagePredictor(model, ImageOptions(quality=quality))
        predictor.set_image(picture)
        sizes.append(predictor.predict(Prompt(box=[20, 20, 80, 70])).logits.shape)
    assert sizes == [(256, 256), (128, 128)]


def test_a_process_that_is_fast_can_be_exact() -> None:
    model = tiny_at(1024)
    fast_model = accelerate(copy.deepcopy(model), RuntimeOptions("torch", quality="fast"))
    exact = in_quality(fast_model, "exact")
    assert (fast_model.config.image_size, exact.config.image_size) == (512, 1024)
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model.encode_image(image).stride16
        torch.testing.assert_close(exact.encode_image(image).stride16, wanted, atol=1e-5, rtol=1e-4)


def test_a_session_keeps_its_quality() -> None:
    tracker = VideoTracker(tiny_at(1024))
    frames = [np.zeros((64, 96, 3), np.uint8)] * 2
    with tracker.open(frames, quality="fast") as session:
        session.add_prompt(0, 1, Prompt(box=[10, 10, 50, 40]))
        blob = session.checkpoint()
    with tracker.resume(blob, frames) as session:
        assert session.model.config.image_size == 512
        assert session.options.quality == "fast"


def test_weights_without_a_fast_mode_say_so() -> None:
    with pytest.raises(InputError, match=r"^quality: expected exact: .* no fast mode"):
        VideoTracker(tiny_model()).open([np.zeros((8, 8, 3), np.uint8)], quality="fast")
    with pytest.raises(InputError, match=r"^quality: expected exact or fast, got .best"):
        ImageOptions(quality="best")  # type: ignore[arg-type]
    assert in_quality(tiny_model(), "exact") is tiny_model()
