"""ONNX files: named, static, no larger than they need be, and with the parts' numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetam_model.demo_clip import DemoScene
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.export.host import HostTracker
from edgetam_model.export.manifest import FILE_NAME, read_manifest
from edgetam_model.export.onnx import OPSET, export_onnx
from edgetam_model.export.onnx_runtime import OnnxRuntime
from edgetam_model.masks import mask_box, mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import make_parts
from edgetam_model.prompts import Prompt
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model
from tests.models import tiny_model
from tests.parts_cases import Errors

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

EXACT = 5e-6  # of an output's largest value: fused convolutions, and other kernels
Exported = tuple[EdgeTAM, Path]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The weights that ship, for one object and for two."""
    model, folder = load_model("default", device="cpu"), tmp_path_factory.mktemp("shipped")
    export_onnx(model, folder, objects=(2,), prompts=6)
    return model, folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, folder = tiny_model(), tmp_path_factory.mktemp("small")
    export_onnx(model, folder, prompts=6)
    return model, folder


def test_a_box_fits_into_the_slots(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompts: expected at least 2, which a box takes, got 1"):
        export_onnx(tiny_model(), tmp_path, prompts=1)


@pytest.fixture(params=["small", "shipped"])
def exported(request: pytest.FixtureRequest) -> Exported:
    found: Exported = request.getfixturevalue(request.param)
    return found


def inputs_of(file: Any, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Likely values: gates of 0 and 1, ages and labels that there are, the rest normal."""
    made: dict[str, np.ndarray] = {}
    for one in file.inputs:
        value = random.standard_normal(one.shape).astype(np.float32)
        if one.kind == "int32":
            low = -2 if one.name == "labels" else 0
            value = random.integers(low, 4, one.shape).astype(np.int32)
        elif one.name == "pixels":
            value = random.integers(0, 256, one.shape).astype(np.float32)
        elif one.meaning.startswith("1: "):
            value = random.integers(0, 2, one.shape).astype(np.float32)
            value[..., 0] = 1  # something to attend to
        elif one.name.endswith("place"):
            value = np.abs(value) + np.float32(0.1)
        made[one.name] = value
    return made


def test_every_graph_gives_the_parts_numbers(exported: Exported) -> None:
    model, folder = exported
    runtime, parts, random = OnnxRuntime(folder, threads=1), make_parts(model), np.random.default_rng(0)
    for file in runtime.manifest.files:
        errors = Errors()
        for _ in range(4):
            inputs = inputs_of(file, random)
            found = runtime.run(file.name, inputs)
            with torch.inference_mode():
                wanted = parts[file.part](*(torch.from_numpy(inputs[one.name]) for one in file.inputs))
            for one, value in zip(file.outputs, wanted, strict=True):
                assert found[one.name].shape == one.shape
                errors.see(one.name, torch.from_numpy(found[one.name]), value)
        assert max(errors.shares.values()) <= EXACT, (file.name, errors.shares)


def test_graphs_are_static_and_named_and_say_what_is_what(exported: Exported) -> None:
    _, folder = exported
    manifest = read_manifest(folder)
    assert {one.conditioning for one in manifest.files} == {0, 1, 4}
    assert len(manifest.files) in (5, 10), "for one object, and for two where they were asked for"
    for file in manifest.files:
        graph = onnx.load(folder / file.path)
        onnx.checker.check_model(graph, full_check=True)
        assert [one.version for one in graph.opset_import if one.domain == ""] == [OPSET]
        assert not graph.functions
        for values, described in ((graph.graph.input, file.inputs), (graph.graph.output, file.outputs)):
            for value, one in zip(values, described, strict=True):
                shape = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
                assert (value.name, shape, value.doc_string) == (one.name, one.shape, one.meaning)
        inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True)
        for value in inferred.graph.value_info:
            assert len(value.type.tensor_type.shape.dim) <= 5, value.name
            assert all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim), value.name


def test_the_manifest_tells_a_host_everything(exported: Exported) -> None:
    model, folder = exported
    manifest = read_manifest(folder)
    assert manifest.sizes == model.config
    assert manifest.weights.fingerprint == model.fingerprint(), "fusing left the model alone"
    assert manifest.prompts == 6
    assert ("window of the next frame" in " ".join(manifest.rules)) is bool(model.config.window_scale)
    assert ("traces" in " ".join(manifest.rules)) is bool(model.config.evidence_width)


def test_damage_is_found(small: Exported, tmp_path: Path) -> None:
    model, folder = small
    with pytest.raises(InputError, match="holds an export already"):
        export_onnx(model, folder)
    with pytest.raises(WeightsError, match="has no manifest"):
        read_manifest(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    read_manifest(tmp_path)
    graph = tmp_path / "mask_decoder.onnx"
    blob = bytearray(graph.read_bytes())
    blob[len(blob) // 2] ^= 1
    graph.write_bytes(blob)
    with pytest.raises(WeightsError, match=r"mask_decoder\.onnx is damaged"):
        OnnxRuntime(tmp_path)
    graph.unlink()
    with pytest.raises(WeightsError, match=r"mask_decoder\.onnx is missing"):
        read_manifest(tmp_path)
    text = json.loads((folder / FILE_NAME).read_text())
    damaged: list[dict[str, Any]] = [text | {"version": 2}, text | {"config": {"width": 7}}, {}]
    for wrong in damaged:
        (tmp_path / FILE_NAME).write_text(json.dumps(wrong))
        with pytest.raises(WeightsError, match="damaged or of another version"):
            read_manifest(tmp_path)


def test_the_shipped_weights_track_as_the_tracker_does(shipped: Exported) -> None:
    """Two objects, a correction in the middle, ONNX Runtime and no torch in the host."""
    (model, folder), scene = shipped, DemoScene(10, 320, 180)
    frames, truths = zip(*(scene.frame(index) for index in range(10)), strict=True)
    runtime = OnnxRuntime(folder, threads=1)
    tracks = []
    for tracker in (VideoTracker(model), HostTracker(runtime, runtime.manifest)):
        with tracker.open(list(frames)) as session:
            for object_id, mask in truths[0].items():
                session.add_prompt(0, object_id, Prompt(box=mask_box(mask)))
            list(session.propagate())
            x0, y0, x1, y1 = mask_box(truths[5][1]) or (0, 0, 0, 0)
            click = Prompt(points=[[(x0 + x1) / 2, (y0 + y1) / 2]], labels=[1])
            session.add_prompt(5, 1, click)
            tracks.append(list(session.propagate()))
    seen = 0
    for one, other in zip(*tracks, strict=True):
        for object_id, wanted in one.objects.items():
            assert mask_iou(other.objects[object_id].mask, wanted.mask) >= 0.99, (one.frame, object_id)
            seen += bool(wanted.mask.any())
    assert seen >= 15
