"""Fits of the shipped weights to a domain that they are bad at: what is gained, kept and refused, how long.

python -m tests.long.fit_cells --mode adapter
python -m tests.long.fit_cells --shuffled       masks of other pictures: nothing may be promoted
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from edgetam_model import FitJob, FitOptions, VersionStore, run_fit
from edgetam_model.sources import FrameSource
from edgetam_model.training.annotations import (
    AnnotatedObject,
    AnnotatedTask,
    AnnotationSet,
    MaskShape,
    Sighting,
)
from edgetam_model.training.fit_recipe import Mode
from edgetam_model.video import open_source
from tests.domains import CellPicture, cell_pictures


class Printed:
    """Tells how far it is, on one line."""

    def progress(self, done: float, total: float, note: str) -> None:
        sys.stderr.write(f"\r{done / total:4.0%} {note:<70.70}")

    def cancelled(self) -> bool:
        return False


def cells(pictures: Sequence[CellPicture], drawn_on: Sequence[CellPicture]) -> AnnotationSet:
    """The masks of the second pictures, said to be those of the first."""
    tasks = [
        AnnotatedTask(
            str(number),
            "image",
            f"{number}.png",
            tuple(
                AnnotatedObject(i, ("cell",), (Sighting(0, MaskShape.of(mask)),))
                for i, mask in enumerate(other.masks, start=1)
            ),
        )
        for number, (_, other) in enumerate(zip(pictures, drawn_on, strict=True))
    ]
    return AnnotationSet(tuple(tasks), {})


def main() -> None:
    """Fit once and print what came of it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=get_args(Mode), default="adapter")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--report", type=Path, help="folder for the version, with its report")
    args = parser.parse_args()
    pictures = cell_pictures(args.pictures, seed=7)
    drawn_on = pictures[1:] + pictures[:1] if args.shuffled else pictures

    def media(task: AnnotatedTask) -> FrameSource:
        return open_source([pictures[int(task.id)].rgb])

    with tempfile.TemporaryDirectory() as folder:
        root = args.report or Path(folder)
        job = FitJob(
            project="cells",
            found=cells(pictures, drawn_on),
            media=media,
            work=root / "work",
            store=VersionStore(root / "versions"),
            options=FitOptions(args.mode, args.updates),
            weights="default",
            device="cpu",
        )
        began = time.monotonic()
        outcome = run_fit(job, Printed())
        seconds = round(time.monotonic() - began, 1)
    sys.stderr.write("\n")
    told = {"mode": args.mode, "shuffled": args.shuffled, "seconds": seconds, "promoted": outcome.promoted}
    print(json.dumps({**told, "reasons": outcome.reasons, **outcome.metrics}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
