"""`edgetam export onnx|coreml|verify|release`: the model as files for other runtimes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from edgetam_model.commands.progress import Meter, stderr_meter
from edgetam_model.commands.terminal import add_json_and_verbose, complain, print_json, say
from edgetam_model.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.export.manifest import Manifest
    from edgetam_model.export.verify import Verified
    from edgetam_model.model import EdgeTAM

PRECISIONS = ("fp32", "fp16", "int8", "palette6", "palette4")  # a test holds them against export.coreml
TARGETS = ("iOS17", "iOS18")

_DESCRIPTION = """\
Write the whole video model, memory included, as four parts for other runtimes,
and manifest.json: hashes, sizes, constants, and the rules by which a host tracks
with them. edgetam_model/export/host.py is those rules as code."""

_EPILOG = """\
examples:
  edgetam export onnx --out onnx --objects 4          also graphs for four objects at once
  edgetam export coreml --out coreml                  float16, iOS 17; needs no Mac
  edgetam export coreml --precision palette4 --target iOS18 --out small
  edgetam export verify coreml                        every number, without a Mac
  edgetam export release --out dist                   every precision fit for use, verified

Needs the extra: pip install "edgetam-labeling[export]"
Exit codes: 0 done, 1 failed or not verified, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `export` to the command line."""
    group = verbs.add_parser(
        "export",
        help="write the model for ONNX or Core ML, and verify it",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)
    onnx = actions.add_parser("onnx", help="ONNX files, opset 18")
    onnx.add_argument(
        "--objects",
        type=int,
        action="append",
        metavar="N",
        help="graphs for N objects per call too (may be given again)",
    )
    onnx.set_defaults(run=onnx_action)
    coreml = actions.add_parser("coreml", help="Core ML packages")
    coreml.add_argument(
        "--precision", choices=PRECISIONS, default="fp16", help="of the weights (default fp16)"
    )
    coreml.set_defaults(run=coreml_action)
    release = actions.add_parser(
        "release", help="Core ML packages at every precision fit for use, verified, with SHA256SUMS"
    )
    release.set_defaults(run=release_action)
    for action in (coreml, release):
        action.add_argument("--target", choices=TARGETS, default="iOS17", help="oldest system (iOS17)")
    for action in (onnx, coreml, release):
        action.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the files")
        action.add_argument("--prompts", type=int, default=16, metavar="N", help="slots for clicks (16)")
        action.add_argument("--force", action="store_true", help="replace an earlier export")
    verify = actions.add_parser("verify", help="check saved packages against the model, number by number")
    verify.add_argument("folder", type=Path, metavar="DIR", help="that `edgetam export coreml` wrote")
    verify.set_defaults(run=verify_action)
    for action in (verify, release):
        action.add_argument("--frames", type=int, default=3, metavar="N", help="of the clip to track (3)")
    for action in (onnx, coreml, verify, release):
        action.add_argument("--weights", metavar="W", help="as everywhere, see `edgetam track --help`")
        add_json_and_verbose(action)


def onnx_action(args: argparse.Namespace) -> int:
    """Write ONNX files."""
    from edgetam_model.export.describing import check_free, check_installed
    from edgetam_model.export.onnx import export_onnx

    check_installed("onnx", "onnxscript")
    check_free(args.out, force=args.force)
    objects = tuple(args.objects or (1,))
    with stderr_meter() as meter:
        model = _model(args, meter)
        manifest = export_onnx(
            model, args.out, objects=objects, prompts=args.prompts, force=args.force, progress=_shown(meter)
        )
    return _report(args, manifest)


def coreml_action(args: argparse.Namespace) -> int:
    """Write Core ML packages."""
    from edgetam_model.export.describing import check_free, check_installed

    check_installed("coremltools")
    check_free(args.out, force=args.force)
    from edgetam_model.export.coreml import CoremlOptions, export_coreml
    from edgetam_model.export.coreml_precision import LOST_POINTS, fit_for_use

    options = CoremlOptions(args.precision, args.target, args.prompts)
    with stderr_meter() as meter:
        model = _model(args, meter)
        manifest = export_coreml(model, args.out, options, force=args.force, progress=_shown(meter))
    if not fit_for_use(options.precision):
        lost = LOST_POINTS[options.precision]
        complain(f"not for use: {options.precision} lost {lost:.1f} points of J&F with the shipped weights")
    return _report(args, manifest)


def verify_action(args: argparse.Namespace) -> int:
    """Check Core ML packages; exit code 1 where they are not the model."""
    from edgetam_model.export.describing import check_installed
    from edgetam_model.export.manifest import read_manifest

    check_installed("coremltools")
    _check_frames(args.frames)
    manifest = read_manifest(args.folder)
    from edgetam_model.export.verify import verify

    with stderr_meter() as meter:
        model = _model(args, meter)
        found = verify(args.folder, model, args.frames, lambda what: meter.stage(f"checking {what}"))
    return _verified(args, manifest, found)


def release_action(args: argparse.Namespace) -> int:
    """Write and verify Core ML packages at several precisions."""
    from edgetam_model.export.describing import check_installed

    check_installed("coremltools")
    _check_frames(args.frames)
    from edgetam_model.export.coreml import CoremlOptions
    from edgetam_model.export.release import SUMS, release_coreml

    options = CoremlOptions(target=args.target, prompts=args.prompts)
    with stderr_meter() as meter:
        model = _model(args, meter)
        found = release_coreml(
            model, args.out, options, frames=args.frames, force=args.force, tell=meter.stage
        )
    if args.json:
        ious = {
            precision: {"mean_iou": one.mean_iou, "least_iou": one.least_iou}
            for precision, one in found.items()
        }
        print_json({"folder": str(args.out), "sums": SUMS, "precisions": ious})
        return 0
    for precision, one in found.items():
        say(f"coreml-{precision}: verified, IoU {one.mean_iou:.4f} on average over {len(one.ious)} masks")
    say(f"{SUMS} in {args.out}")
    return 0


def _check_frames(frames: int) -> None:
    if frames < 2:
        raise InputError("frames", f"expected at least 2, got {frames}")


def _model(args: argparse.Namespace, meter: Meter) -> EdgeTAM:
    """Unfused, as exporters take it."""
    from edgetam_model.weights import load_model

    meter.stage("loading the model")
    model = load_model(args.weights, "cpu")
    meter.note(str(model.weights_info))
    return model


def _shown(meter: Meter) -> Callable[[str, int, int], None]:
    """The exporter's progress as stages."""
    return lambda name, done, total: meter.stage(f"writing {name} ({done + 1} of {total})")


def _report(args: argparse.Namespace, manifest: Manifest) -> int:
    """The files and their sizes."""
    whole = sum(one.bytes for one in manifest.files)
    if args.json:
        files = [
            {"name": one.name, "path": one.path, "bytes": one.bytes, "sha256": one.sha256}
            for one in manifest.files
        ]
        facts = {"kind": manifest.kind, "target": manifest.target, "precision": manifest.precision}
        weights = manifest.weights.model_dump(mode="json")
        print_json(facts | {"folder": str(args.out), "weights": weights, "bytes": whole, "files": files})
        return 0
    table = Table("part", "file", "objects", "MB")
    for one in manifest.files:
        table.add_row(one.name, one.path, str(one.objects), f"{one.bytes / 1e6:.2f}")
    Console().print(table)
    say(f"{whole / 1e6:.2f} MB in {args.out}, {manifest.target}, {manifest.precision}, and manifest.json")
    return 0


def _verified(args: argparse.Namespace, manifest: Manifest, found: Verified) -> int:
    """Sizes and errors; the masks of the clip decide last."""
    if args.json:
        parts = {
            name: {
                "bytes": manifest.file(name).bytes,
                "errors": dict(part.errors),
                "tensors": part.weights.tensors,
                "numbers": part.weights.numbers,
                "largest_weight_difference": part.weights.largest,
            }
            for name, part in found.parts.items()
        }
        clip = {
            "masks": len(found.ious),
            "seen": found.seen,
            "least_iou": found.least_iou,
            "mean_iou": found.mean_iou,
        }
        print_json({"verified": found.good, "precision": manifest.precision, "parts": parts} | clip)
        return 0 if found.good else 1
    table = Table("part", "MB", "weights compared", "largest difference", "error of outputs")
    for name, part in found.parts.items():
        table.add_row(
            name,
            f"{manifest.file(name).bytes / 1e6:.2f}",
            f"{part.weights.numbers} in {part.weights.tensors}",
            f"{part.weights.largest:.1e}",
            f"{max(part.errors.values()):.1e}",
        )
    Console().print(table)
    masks = f"{len(found.ious)} masks of the clip, the object in {found.seen} of them"
    say(f"{masks}: IoU {found.mean_iou:.4f} on average, {found.least_iou:.4f} at least")
    say("verified" if found.good else "not verified: the masks are not the model's")
    return 0 if found.good else 1
