"""`edgetam export onnx|coreml|verify|release`: the model as files for other runtimes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgetam_model.commands.export_report import show_released, show_verified, show_written
from edgetam_model.commands.progress import Meter, stderr_meter
from edgetam_model.commands.terminal import add_json_and_verbose, complain
from edgetam_model.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.model import EdgeTAM

PRECISIONS = ("fp32", "fp16", "int8", "mixed", "palette6", "palette4")  # as in export.coreml
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
  edgetam export release --out dist                   every precision, verified and judged
  edgetam export coreml --config edgetam --out big    sizes and errors of the published
  edgetam export verify big --config edgetam --frames 0   structure, weights from a seed

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
        "release", help="Core ML packages at every precision, verified and judged, with SHA256SUMS"
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
        action.add_argument(
            "--frames", type=int, default=3, metavar="N", help="of the clip to track (3); 0: the parts alone"
        )
    for action in (onnx, coreml, verify, release):
        weights = action.add_mutually_exclusive_group()
        weights.add_argument("--weights", metavar="W", help="as everywhere, see `edgetam track --help`")
        weights.add_argument(
            "--config", metavar="C", help="untrained weights of this size: edgetam (as published), nano, tiny"
        )
        action.add_argument("--seed", type=int, metavar="N", help="of untrained weights (0)")
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
    show_written(manifest, args.out, as_json=args.json)
    return 0


def coreml_action(args: argparse.Namespace) -> int:
    """Write Core ML packages."""
    from edgetam_model.export.describing import check_free, check_installed

    check_installed("coremltools")
    check_free(args.out, force=args.force)
    from edgetam_model.export.coreml import CoremlOptions, export_coreml

    options = CoremlOptions(args.precision, args.target, args.prompts)
    with stderr_meter() as meter:
        model = _model(args, meter)
        manifest = export_coreml(model, args.out, options, force=args.force, progress=_shown(meter))
    accuracy = manifest.accuracy
    if accuracy is not None and accuracy.verdict == "not for use":
        complain(f"not for use: {options.precision} loses {accuracy.lost_points:.1f} points of J&F")
    show_written(manifest, args.out, as_json=args.json)
    return 0


def verify_action(args: argparse.Namespace) -> int:
    """Check Core ML packages; exit code 1 where they are not the model."""
    from edgetam_model.export.describing import check_installed
    from edgetam_model.export.manifest import read_manifest

    check_installed("coremltools")
    from edgetam_model.export.verify import check_frames, verify

    check_frames(args.frames)
    manifest = read_manifest(args.folder)
    with stderr_meter() as meter:
        model = _model(args, meter)
        found = verify(args.folder, model, args.frames, lambda what: meter.stage(f"checking {what}"))
    return show_verified(manifest, found, as_json=args.json)


def release_action(args: argparse.Namespace) -> int:
    """Write and verify Core ML packages at several precisions."""
    from edgetam_model.export.describing import check_installed

    check_installed("coremltools")
    from edgetam_model.export.coreml import CoremlOptions
    from edgetam_model.export.release import release_coreml
    from edgetam_model.export.verify import check_frames

    check_frames(args.frames)
    options = CoremlOptions(target=args.target, prompts=args.prompts)
    with stderr_meter() as meter:
        model = _model(args, meter)
        found = release_coreml(
            model, args.out, options, frames=args.frames, force=args.force, tell=meter.stage
        )
    show_released(found, args.out, as_json=args.json)
    return 0


def _model(args: argparse.Namespace, meter: Meter) -> EdgeTAM:
    """Unfused, as exporters take it."""
    from edgetam_model.export.untrained import untrained_model
    from edgetam_model.weights import load_model

    if args.seed is not None and args.config is None:
        raise InputError("seed", "goes with --config only")
    meter.stage("loading the model")
    if args.config is not None:
        model = untrained_model(args.config, args.seed or 0)
    else:
        model = load_model(args.weights, "cpu")
    meter.note(str(model.weights_info))
    return model


def _shown(meter: Meter) -> Callable[[str, int, int], None]:
    """The exporter's progress as stages."""
    return lambda name, done, total: meter.stage(f"writing {name} ({done + 1} of {total})")
