"""The parts as ONNX files with named inputs and outputs, and their manifest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgetam_model.export.describing import (
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
from edgetam_model.parts.specs import PartSpec

OPSET = 18  # of 2022: ONNX Runtime 1.14, its builds for browsers and phones, and OpenVINO 2023 read it


def export_onnx(
    model: EdgeTAM,
    out: Path | str,
    *,
    objects: Sequence[int] = (1,),
    prompts: int = 16,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write one ONNX file per part, and `manifest.json`, into a folder that is made if need be.

    Args:
        model: in eval mode and float32, on the CPU; it is not changed.
        out: the folder.
        objects: counts of objects per call; graphs for one are always written.
        prompts: slots for clicks and box corners.
        force: replace an earlier export.
        progress: told before each graph.

    Raises:
        InputError: no such counts, a folder with an export, or the packages for it are not installed.
    """
    check_installed("onnx", "onnxscript")
    folder = Path(out)
    check_free(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    fused = copy.deepcopy(model).cpu().float().eval().fuse()
    parts, files = make_parts(fused), list[PartFile]()
    graphs = wanted_graphs(model, objects, prompts)
    for name, (spec, slots) in graphs.items():
        if progress is not None:
            progress(name, len(files), len(graphs))
        path = folder / f"{name}.onnx"
        _write(parts[spec.name], spec, path)
        files.append(part_file(name, spec, slots, path))
    manifest = describe(model, files, "onnx", f"opset {OPSET}", prompts)
    write_manifest(manifest, folder)
    return manifest


def _write(part: nn.Module, spec: PartSpec, path: Path) -> None:
    with torch.no_grad(), quiet():
        program = torch.export.export(part, example_inputs(spec))
        written = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[one.name for one in spec.inputs],
            output_names=[one.name for one in spec.outputs],
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert written is not None, "without a file name the exporter returns the program"
    for value, one in zip(
        (*written.model.graph.inputs, *written.model.graph.outputs), spec.inputs + spec.outputs, strict=True
    ):
        value.doc_string = one.meaning
    written.save(str(path), external_data=False)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Attention as three nodes; the exporter's own takes four dimensions only, and eleven nodes."""
    from onnxscript import opset18 as op

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        plain = dropout_p == 0 and not is_causal and scale is None and not enable_gqa
        assert plain, "the parts use attention without extras"
        rank = len(query.shape)
        swapped = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
        scores = op.MatMul(op.Mul(query, op.Constant(value_float=float(query.shape[-1]) ** -0.5)), swapped)
        if attn_mask is not None:
            scores = op.Add(scores, attn_mask)
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    return {torch.ops.aten.scaled_dot_product_attention.default: attention}
