"""Core ML's packages as a backend: what goes into them and comes out, with NumPy in macOS's place.

The packages are real, and `mil_evaluator` computes them operation by operation: what is not shown here is
macOS's own arithmetic and its loading of packages.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.export.mil_evaluator import MilEvaluator
from edgetam_model.export.mil_program import MODEL, read_program
from edgetam_model.masks import mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import runtime_parts
from edgetam_model.parts.specs import FRAME_ATTENTION
from edgetam_model.prompts import Prompt
from edgetam_model.runtime import choosing, coreml_parts
from edgetam_model.runtime.choosing import RuntimeOptions, accelerate
from edgetam_model.runtime.coreml_parts import USUAL, CoremlBackend, Predict, made_up
from edgetam_model.runtime.graphs import Graph
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip, seeded, windowed_model

pytest.importorskip("coremltools", reason="the extra `export` is not installed")

GRAPH = Graph(FRAME_ATTENTION, USUAL)


def evaluated(package: Path) -> Predict:
    """A package by NumPy; types are those that macOS insists on."""
    program = MilEvaluator(read_program(package))

    def predict(inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        for value in inputs.values():
            assert value.dtype in (np.float32, np.int32)
            assert value.flags.c_contiguous
        return program.run(inputs)

    return predict


def slightly_wrong(package: Path) -> Predict:
    right = evaluated(package)
    return lambda inputs: {name: value * 1.01 for name, value in right(inputs).items()}


@pytest.fixture(scope="module")
def model() -> EdgeTAM:
    """Every kind of part; converting takes as long as there are operations."""
    config = replace(windowed_model().config, trunk_depths=(1, 1, 1, 1), decoder_depth=1)
    return seeded(config, seed=0, mask_gain=1).fuse()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "coreml"


def backend(model: EdgeTAM, folder: Path, **more: Any) -> CoremlBackend:
    return CoremlBackend(model, folder=folder, load=more.pop("load", evaluated), **more)


def test_every_part_and_what_is_found_wrong(model: EdgeTAM, folder: Path) -> None:
    backend(model, folder).prove()
    assert len(list(folder.glob("*.mlpackage"))) == len(runtime_parts(model)) == 6
    with pytest.raises(EdgeTAMError, match=r"Core ML computes \w+ of \w+ 1\.0e-02 away from PyTorch"):
        backend(model, folder, load=slightly_wrong).prove()


def test_half_the_precision_has_packages_of_its_own(model: EdgeTAM, folder: Path) -> None:
    given = made_up(GRAPH.spec(model.config))
    exact, half = backend(model, folder), backend(model, folder, half=True)
    off = (half.run(GRAPH, given)[0] - exact.run(GRAPH, given)[0]).abs().max()
    assert 1e-5 < off < 0.02
    assert (exact.name, half.name) == ("Core ML, fp32", "Core ML, fp16")


def test_a_track_is_the_same(model: EdgeTAM, folder: Path) -> None:
    """Through the tracker, with two objects: slots that are not filled, clicks, memories, windows."""
    tracked = copy.deepcopy(model)
    masks = []
    for runtime in (None, StaticParts(tracked, backend(tracked, folder))):
        tracked.runtime = runtime
        with VideoTracker(tracked).open(clip(4)) as session:
            session.add_prompt(0, 1, Prompt(box=[25, 25, 55, 55]))
            session.add_prompt(0, 2, Prompt(points=[[110, 60], [40, 40]], labels=[1, 0]))
            masks.append([one.mask for result in session.propagate() for one in result.objects.values()])
    assert len(masks[0]) == 8
    assert any(mask.any() for mask in masks[0])
    assert min(mask_iou(one, other) for one, other in zip(*masks, strict=True)) >= 0.9999


def test_a_package_that_was_damaged_is_made_anew(model: EdgeTAM, folder: Path) -> None:
    given = made_up(GRAPH.spec(model.config))
    wanted = backend(model, folder).run(GRAPH, given)[0]
    for path in folder.glob("frame_attention-*.mlpackage"):
        (path / MODEL).write_bytes(b"damaged")
    assert torch.equal(backend(model, folder).run(GRAPH, given)[0], wanted)


def test_a_package_that_does_not_load_is_told_in_words(model: EdgeTAM, folder: Path) -> None:
    def load(_: Path) -> Predict:
        raise RuntimeError("Error compiling model")

    with pytest.raises(EdgeTAMError, match=r"cannot prepare frame_attention .*: Error compiling model; EDG"):
        backend(model, folder, load=load).run(GRAPH, made_up(GRAPH.spec(model.config)))


@pytest.mark.parametrize(
    ("answer", "told"), [({}, "got nothing"), ({"attended": np.zeros(3)}, r"got shape \(3")]
)
def test_answers_of_another_shape_are_refused(
    model: EdgeTAM, folder: Path, answer: dict[str, NDArray[Any]], told: str
) -> None:
    odd = backend(model, folder, load=lambda _: lambda _: answer)
    with pytest.raises(EdgeTAMError, match=f"expected attended of frame_attention with shape .*{told}"):
        odd.run(GRAPH, made_up(GRAPH.spec(model.config)))


@pytest.mark.skipif(platform.system() == "Darwin", reason="there it computes")
def test_elsewhere_than_on_macos_it_is_refused_by_name(model: EdgeTAM) -> None:
    with pytest.raises(InputError, match="runtime: expected auto, torch, compiled or openvino: Core ML comp"):
        accelerate(copy.deepcopy(model), RuntimeOptions("coreml"))


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("torch", "fp16"), ("openvino", "fp16"), ("compiled", "fp16"), ("coreml", "bf16")],
)
def test_each_runtime_has_its_precisions(model: EdgeTAM, runtime: Any, precision: Any) -> None:
    with pytest.raises(
        InputError, match=f"precision: expected .* with the runtime {runtime}, got {precision}"
    ):
        accelerate(copy.deepcopy(model), RuntimeOptions(runtime, precision))


@pytest.fixture
def as_on_macos(monkeypatch: pytest.MonkeyPatch, folder: Path) -> pytest.MonkeyPatch:
    """Core ML said to be here, NumPy computing in its place."""
    monkeypatch.setattr(choosing, "has_coreml", lambda: True)
    monkeypatch.setattr(coreml_parts, "cache_dir", lambda: folder.parent)
    monkeypatch.setattr(coreml_parts, "predictor", evaluated)
    return monkeypatch


def test_auto_takes_it_where_its_numbers_are_right(
    model: EdgeTAM, as_on_macos: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = accelerate(copy.deepcopy(model), RuntimeOptions("auto"))
    assert isinstance(taken.runtime, StaticParts)
    assert isinstance(taken.runtime.backend, CoremlBackend)
    as_on_macos.setattr(coreml_parts, "predictor", slightly_wrong)
    left = accelerate(copy.deepcopy(model), RuntimeOptions("auto"))
    assert isinstance(left.runtime, StaticParts)
    assert isinstance(left.runtime.backend, OpenVinoBackend)
    assert "Core ML is not used: Core ML computes" in caplog.text
