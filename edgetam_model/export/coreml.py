"""The parts as Core ML packages with named inputs and outputs, and their manifest. Needs no Mac."""

from __future__ import annotations

import copy
import gc
import json
import shutil
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from edgetam_model.errors import InputError
from edgetam_model.export.coreml_precision import (
    accuracy_of,
    compressed,
    kept_single,
    part_precision,
    tag_scopes,
)
from edgetam_model.export.describing import (
    PACKAGE,
    Progress,
    check_free,
    check_installed,
    describe,
    part_file,
    wanted_graphs,
)
from edgetam_model.export.manifest import Manifest, PartFile, write_manifest
from edgetam_model.export.quiet import quiet
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import example_inputs, make_parts
from edgetam_model.parts.specs import MANY_CONDITIONING, PartSpec, TensorSpec
from edgetam_model.weights import WeightsInfo

Precision = Literal["fp32", "fp16", "int8", "mixed", "palette6", "palette4"]
Target = Literal["iOS17", "iOS18"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
TARGETS: tuple[str, ...] = get_args(Target)
NAMES = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of addresses, RFC 4122


@dataclass(frozen=True)
class CoremlOptions:
    """How to write packages.

    Attributes:
        precision: of the weights, "mixed" as `coreml_precision.MIXED` says; fp16 and below compute in float16
            but for `coreml_precision.SINGLE`.
        target: the oldest system that runs them.
        prompts: slots for clicks and box corners.

    Raises:
        InputError: no such precision or target.
    """

    precision: Precision = "fp16"
    target: Target = "iOS17"
    prompts: int = 16

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("target", TARGETS)):
            if getattr(self, name) not in known:
                raise InputError(name, f"expected one of {', '.join(known)}, got {getattr(self, name)!r:.40}")


def export_coreml(
    model: EdgeTAM,
    out: Path | str,
    options: CoremlOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write four .mlpackages for one object per call, and `manifest.json`, into a folder.

    Args:
        model: in eval mode and float32, on the CPU; it is not changed.
        out: the folder, which is made if need be.
        options: how.
        force: replace an earlier export.
        progress: told before each package.

    Raises:
        InputError: a folder with an export, or coremltools is not installed.
    """
    check_installed("coremltools")
    options, folder = options or CoremlOptions(), Path(out)
    check_free(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    fused = copy.deepcopy(model).cpu().float().eval().fuse()
    parts, files = make_parts(fused), list[PartFile]()
    graphs = wanted_graphs(model, (1,), options.prompts, (MANY_CONDITIONING,))
    for name, (spec, slots) in graphs.items():
        if progress is not None:
            progress(name, len(files), len(graphs))
        path = folder / f"{name}.mlpackage"
        with quiet(bars=True):
            _write(parts[spec.name], spec, model, options, path)
            gc.collect()  # the converter's temporary folders, which complain that nobody removed them
        files.append(part_file(name, spec, slots, path))
    accuracy = accuracy_of(options.precision, model.fingerprint())
    manifest = describe(model, files, "coreml", options.target, options.prompts, options.precision, accuracy)
    write_manifest(manifest, folder)
    return manifest


def _write(part: nn.Module, spec: PartSpec, model: EdgeTAM, options: CoremlOptions, path: Path) -> None:
    package = compressed(converted(part, spec, options), part_precision(options.precision, spec.name))
    _describe(package, spec, model, options)
    save(package, path)


def converted(part: nn.Module, spec: PartSpec, options: CoremlOptions) -> Any:
    """A coremltools MLModel of one part, its weights not compressed."""
    import coremltools as ct

    with torch.no_grad():
        program = torch.export.export(part, example_inputs(spec)).run_decompositions({})
    tag_scopes(program)
    half = ct.transform.FP16ComputePrecision(op_selector=lambda op: not kept_single(op))
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, options.target),
        compute_precision=ct.precision.FLOAT32 if options.precision == "fp32" else half,
        inputs=[ct.TensorType(one.name, one.shape, np.dtype(one.kind).type) for one in spec.inputs],
        outputs=[ct.TensorType(one.name, dtype=np.dtype(one.kind).type) for one in spec.outputs],
        skip_model_load=True,
    )


def _describe(package: Any, spec: PartSpec, model: EdgeTAM, options: CoremlOptions) -> None:
    """What Xcode shows: descriptions with shapes and units, whose weights, which licence."""
    info = model.weights_info
    licence, source = (info.licence, info.source) if isinstance(info, WeightsInfo) else ("unknown", "")
    package.short_description = (
        f"EdgeTAM, {spec.name.replace('_', ' ')}: one of four parts, see manifest.json"
    )
    package.author = source
    package.license = licence
    package.version = version(PACKAGE)
    package.user_defined_metadata["edgetam.part"] = spec.name
    package.user_defined_metadata["edgetam.precision"] = part_precision(options.precision, spec.name)
    package.user_defined_metadata["edgetam.fingerprint"] = model.fingerprint()
    package.user_defined_metadata["edgetam.config"] = json.dumps(model.config.to_dict(), sort_keys=True)
    for described, tensors in (
        (package.input_description, spec.inputs),
        (package.output_description, spec.outputs),
    ):
        for one in tensors:
            described[one.name] = _meaning(one)


def _meaning(one: TensorSpec) -> str:
    return f"{one.meaning} ({' x '.join(map(str, one.shape))}, {one.kind})"


def save(package: Any, path: Path) -> None:
    """The package without what differs from run to run: dates, random names, and notes for debuggers."""
    package.get_spec().description.metadata.userDefined.pop(
        "com.github.apple.coremltools.conversion_date", ""
    )
    package.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)
    shutil.rmtree(path, ignore_errors=True)
    package.save(str(path))
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    listing = path / "Manifest.json"
    text = listing.read_text(encoding="utf-8")
    for name, entry in sorted(json.loads(text)["itemInfoEntries"].items()):
        text = text.replace(name, str(uuid.uuid5(NAMES, entry["path"])))
    listing.write_text(text, encoding="utf-8")
