"""Core ML packages: four, described, sized as said, and proved number by number; damage is found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgetam_model.config import CONFIGS
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.export import coreml_precision
from edgetam_model.export.coreml import CoremlOptions, export_coreml
from edgetam_model.export.coreml_precision import MIXED
from edgetam_model.export.manifest import FILE_NAME, package_digest, read_manifest, stored_files
from edgetam_model.export.mil_evaluator import MilEvaluator, PackageRuntime
from edgetam_model.export.mil_ops import OPERATIONS
from edgetam_model.export.mil_program import MODEL, WEIGHTS, read_program
from edgetam_model.export.verify import verify
from edgetam_model.model import EdgeTAM
from tests.models import seeded, tiny_model, windowed_model

pytest.importorskip("coremltools", reason="the extra `export` is not installed")

Exported = tuple[EdgeTAM, Path]


def exported(folder: Path, model: EdgeTAM, **options: str) -> Exported:
    export_coreml(model, folder, CoremlOptions(prompts=6, **options))  # type: ignore[arg-type]
    return model, folder


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every kind of layer at least once; converting takes as long as there are operations."""
    config = replace(windowed_model().config, trunk_depths=(1, 1, 1, 1), decoder_depth=1)
    return exported(tmp_path_factory.mktemp("half"), seeded(config, seed=0, mask_gain=1))


def test_a_half_precision_export_is_the_model(half: Exported) -> None:
    model, folder = half
    found = verify(folder, model, frames=3)
    assert len(found.parts) == 4
    assert found.clip is not None
    assert found.clip.least_iou >= 0.99
    assert len(found.clip.ious) == 6, "two objects on three frames"
    assert found.clip.seen >= 2, "where they are shown; random weights lose them later"
    for part in found.parts.values():
        assert part.unexplained == part.errors, "nothing is compressed"
        assert part.weights.tensors > 10
        assert part.weights.largest < 1e-3
        assert max(part.errors.values()) < 0.01


@pytest.mark.slow
def test_a_single_precision_export_is_exact(tmp_path: Path) -> None:
    model, folder = exported(tmp_path, tiny_model(), precision="fp32")
    found = verify(folder, model, frames=3)
    assert max(max(part.errors.values()) for part in found.parts.values()) < 1e-5
    assert found.clip is not None
    assert found.clip.least_iou == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """At 8 and 4 bits, tensors that would be too small for that included."""
    config = replace(CONFIGS["tiny"], trunk_depths=(1, 1, 1, 1), decoder_depth=1, attention_layers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml_precision, "COMPRESSED_FROM", 256)
        return exported(tmp_path_factory.mktemp("small"), seeded(config, 0, mask_gain=60), precision="mixed")


def test_fewer_bits_explain_what_small_weights_cost(small: Exported) -> None:
    model, folder = small
    found = verify(folder, model, frames=0)
    assert found.clip is None
    for name, part in found.parts.items():
        assert part.weights.largest > 1e-3, f"{name}: else nothing was compressed"
        assert part.errors[part.worst] > 2 * max(part.unexplained.values()), f"{name}: else bits cost nothing"
        assert max(part.unexplained.values()) < 0.01, name


def test_mixed_packages_have_their_parts_precisions(small: Exported) -> None:
    _, folder = small
    runtime = PackageRuntime(folder)
    palettes = {
        file.part: {
            one.palette is not None for one in runtime.part(file.name).program.weights if one.compressed
        }
        for file in runtime.manifest.files
    }
    assert palettes == {part: {precision == "palette4"} for part, precision in MIXED.items()}


def test_a_wrong_graph_is_found_behind_small_weights(
    small: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = small
    wrong = {**OPERATIONS, "gelu": lambda x, mode: OPERATIONS["gelu"](x, mode) * 1.05}
    monkeypatch.setattr("edgetam_model.export.mil_evaluator.OPERATIONS", wrong)
    with pytest.raises(WeightsError, match="with the weights as stored, is off by"):
        verify(folder, model, frames=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "target"),
    [("int8", "iOS17"), ("int8", "iOS18"), ("palette6", "iOS18"), ("palette4", "iOS17")],
)
def test_small_weights_are_the_models_as_far_as_their_bits_go(
    tmp_path: Path, precision: str, target: str
) -> None:
    model, folder = exported(tmp_path, tiny_model(), precision=precision, target=target)
    found = verify(folder, model, frames=2)
    assert any(part.weights.largest > 1e-3 for part in found.parts.values()), "else nothing was compressed"


def test_packages_say_what_they_are(half: Exported) -> None:
    from coremltools.proto import Model_pb2

    model, folder = half
    manifest = read_manifest(folder)
    assert (manifest.kind, manifest.target, manifest.precision) == ("coreml", "iOS17", "fp16")
    assert manifest.accuracy is not None
    assert manifest.accuracy.verdict == "not measured", "random weights are not those that ship"
    assert [one.conditioning for one in manifest.files] == [0, 0, 0, 4]
    assert "memory_attention_4 has 7 memory slots" in " ".join(manifest.rules)
    for file in manifest.files:
        saved = Model_pb2.Model()
        saved.ParseFromString((folder / file.path / MODEL).read_bytes())
        described = saved.description
        assert described.metadata.license
        assert described.metadata.versionString == manifest.product
        assert described.metadata.userDefined["edgetam.fingerprint"] == model.fingerprint()
        for features, tensors in ((described.input, file.inputs), (described.output, file.outputs)):
            for feature, one in zip(features, tensors, strict=True):
                assert (feature.name, tuple(feature.type.multiArrayType.shape)) == (one.name, one.shape)
                assert feature.shortDescription.startswith(one.meaning)
                assert " x ".join(map(str, one.shape)) in feature.shortDescription


def flipped(folder: Path, package: str, place: int) -> None:
    path = folder / package / WEIGHTS
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def signed_again(folder: Path) -> None:
    """The manifest made to fit damaged files."""
    text = (folder / FILE_NAME).read_text()
    for file in read_manifest_unchecked(text):
        contents = stored_files(folder / file.path)
        for old, new in zip(file.contents, contents, strict=True):
            text = text.replace(old.sha256, new.sha256)
        text = text.replace(file.sha256, package_digest(contents))
    (folder / FILE_NAME).write_text(text)


def read_manifest_unchecked(text: str) -> tuple:  # type: ignore[type-arg]
    from edgetam_model.export.manifest import Manifest

    return Manifest.model_validate_json(text).files


def test_a_flipped_byte_is_found_by_its_hash_and_by_the_weights(half: Exported, tmp_path: Path) -> None:
    model, folder = half
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    flipped(damaged, "image_encoder.mlpackage", 64 + 64 + 1)  # file's head, blob's head, high byte
    with pytest.raises(WeightsError, match=r"weight\.bin is damaged"):
        verify(damaged, model)
    signed_again(damaged)
    with pytest.raises(WeightsError, match="not the model's numbers"):
        verify(damaged, model)
    flipped(damaged, "image_encoder.mlpackage", 64)
    signed_again(damaged)
    with pytest.raises(WeightsError, match="are damaged"):
        verify(damaged, model)


def test_a_bias_that_became_zeros_is_found(half: Exported, tmp_path: Path) -> None:
    model, folder = half
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    package = damaged / "memory_attention_4.mlpackage"
    program = read_program(package)
    biases = {name for one in program.operations for name in one.inputs.get("bias", ())}
    wide = model.config.attention_mlp  # no other tensor of the model is so long, and of zeros
    bias = next(one.values for one in program.weights if one.name in biases and one.values.size == wide)
    path = package / WEIGHTS
    data = path.read_bytes()
    assert data.count(bias.tobytes()) == 1
    path.write_bytes(data.replace(bias.tobytes(), bytes(bias.nbytes)))
    signed_again(damaged)
    with pytest.raises(WeightsError, match="not the model's numbers"):
        verify(damaged, model)


def test_other_weights_and_unknown_operations_are_errors(half: Exported) -> None:
    _, folder = half
    with pytest.raises(WeightsError, match="these weights are others"):
        verify(folder, tiny_model())
    program = read_program(folder / "memory_encoder.mlpackage")
    strange = replace(program.operations[0], type="cumsum")
    with pytest.raises(WeightsError, match="cumsum is no operation"):
        MilEvaluator(replace(program, operations=(strange, *program.operations[1:])))
    odd = replace(program.operations[0], inputs={"x": ("logits",), "beside": ("logits",)})
    with pytest.raises(WeightsError, match="its input beside"):
        MilEvaluator(replace(program, operations=(odd,)))


def test_rounding_to_float16_shows(half: Exported) -> None:
    _, folder = half
    file = read_manifest(folder).file("image_encoder")
    pixels = np.random.default_rng(0).integers(0, 256, file.inputs[0].shape).astype(np.float32)
    one, other = (
        PackageRuntime(folder, rounding=rounding).run("image_encoder", {"pixels": pixels})["stride16"]
        for rounding in (True, False)
    )
    assert 0 < np.abs(one - other).max() < 0.02 * np.abs(other).max()


def test_what_cannot_be_written_is_refused(half: Exported) -> None:
    model, folder = half
    with pytest.raises(InputError, match="frames: expected 0"):
        verify(folder, model, frames=1)
    with pytest.raises(InputError, match="precision: expected one of fp32"):
        CoremlOptions("int3")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="target: expected one of iOS17"):
        CoremlOptions(target="iOS12")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds an export already"):
        export_coreml(model, folder)
