"""`edgetam bench`: how fast this machine is, against the model as published."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from edgetam_model.commands.progress import stderr_meter
from edgetam_model.commands.terminal import say
from edgetam_model.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.bench.machine import Machine
    from edgetam_model.bench.suite import Row

_EPILOG = """\
examples:
  edgetam bench                                  some minutes; the last line is JSON
  edgetam bench --objects 1 10 50 --plot cost.png
  edgetam bench --no-published --rounds 9        these weights alone

The reference is the same model in PyTorch, float32, unfused, with the plain attention
kernel: what the published code does on a processor. Both run in turn in one process,
with as many threads as --threads says. Weights do not matter for time."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `bench` to the command line."""
    parser = verbs.add_parser(
        "bench",
        help="measure how fast this machine is",
        description="Time parts, frames, clicks and a video, against the model as published.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--weights", metavar="W", help="as everywhere, see `edgetam track --help`")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10], metavar="N", help="(1 3 10)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each case (5)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of a processor (2)")
    parser.add_argument("--frames", type=int, default=120, metavar="N", help="of the video (120)")
    parser.add_argument("--no-published", action="store_true", help="leave the published size out")
    parser.add_argument("--no-bf16", action="store_true", help="leave bfloat16 out")
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="cost of a frame, by objects and along a video"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table; the last line is JSON."""
    for field in ("rounds", "threads", "frames"):
        if getattr(args, field) < 1:
            raise InputError(field, f"expected at least 1, got {getattr(args, field)}")
    if min(args.objects) < 1:
        raise InputError("objects", f"expected at least 1, got {min(args.objects)}")
    import torch

    from edgetam_model.bench.machine import this_machine
    from edgetam_model.bench.suite import BenchOptions
    from edgetam_model.bench.suite import run as measure
    from edgetam_model.runtime.choosing import RuntimeOptions, has_bf16_units, has_openvino
    from edgetam_model.weights import load_model

    torch.set_num_threads(args.threads)
    runtimes = {"torch": RuntimeOptions("torch")}
    if has_openvino():
        runtimes = {"openvino fp32": RuntimeOptions("openvino", "fp32", args.threads)}
        if has_bf16_units() and not args.no_bf16:
            runtimes["openvino bf16"] = RuntimeOptions("openvino", "bf16", args.threads)
    options = BenchOptions(runtimes, args.objects, args.rounds, not args.no_published, args.frames)
    with stderr_meter() as meter:
        meter.stage("measuring the machine")
        machine = this_machine()
        model = load_model(args.weights, "cpu")
        rows = list(measure(options, model, meter.stage))
    _print(rows, machine)
    if args.plot is not None:
        from edgetam_model.commands.bench_plot import plot_growth
        from edgetam_model.render import save_png

        say(f"picture: {save_png(args.plot, plot_growth(rows))}")
    say(json.dumps({"machine": machine.to_dict(), "rows": [row.to_dict() for row in rows]}))
    return 0


def _print(rows: Sequence[Row], machine: Machine) -> None:
    table = Table(
        "model",
        "case",
        "runtime",
        "ms",
        "spread",
        "core ms",
        "published ms",
        "x",
        "x core",
        "of peak",
        "MiB",
        "",
    )
    for row in rows:
        memory = f"{row.peak_mib:.0f}" if row.peak_mib else ""
        table.add_row(row.model, row.case, row.runtime, *_numbers(row, machine), memory, row.note)
    Console(width=None if Console().is_terminal else 150).print(table)
    say(f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, PyTorch {machine.torch}")
    say(f"matrix peak {machine.peak_fp32:.0f} GFLOP/s in fp32, {machine.peak_bf16:.0f} in bf16")


def _numbers(row: Row, machine: Machine) -> tuple[str, ...]:
    """As the table has them."""
    taken = row.pair.candidate if row.pair else row.alone
    assert taken is not None, "a row has one or the other"
    spread = f"{taken.least:.1f}-{taken.most:.1f}"
    if row.pair is None:
        return f"{taken.median:.1f}", spread, f"{taken.core:.1f}", "", "", "", ""
    peak = machine.peak_bf16 if row.precision == "bf16" else machine.peak_fp32
    share = row.gflop / (taken.median / 1e3) / peak
    return (
        f"{taken.median:.1f}",
        spread,
        f"{taken.core:.1f}",
        f"{row.pair.reference.median:.1f}",
        f"{row.pair.ratio:.2f}",
        f"{row.pair.core_ratio:.2f}",
        f"{share:.0%}",
    )
