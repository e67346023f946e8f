"""A frame of one object, published size, against the reference: `python -m tests.long.one_object [ROUNDS]`.

As `edgetam bench` measures it, but every precision in a process of its own, in which nothing ran before: what
larger cases leave in memory makes the reference up to a sixth faster.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Sequence

import torch

from edgetam_model.bench.scenes import Tracking, as_published, new_model
from edgetam_model.bench.timing import paired
from edgetam_model.config import CONFIGS
from edgetam_model.runtime.choosing import RuntimeOptions, accelerate

CASES = (("fp32", "exact"), ("bf16", "exact"), ("bf16", "fast"))
THREADS, ROUNDS = 2, 9


@torch.inference_mode()
def measure(precision: str, quality: str, rounds: int) -> str:
    """One line: both medians in milliseconds, and the ratios by the clock and by processor time."""
    torch.set_num_threads(THREADS)
    reference = new_model(CONFIGS["edgetam"]).requires_grad_(False)
    options = RuntimeOptions("openvino", precision, THREADS, quality)  # type: ignore[arg-type]  # checked as it is made
    candidate = Tracking(accelerate(copy.deepcopy(reference), options), 1)
    published = Tracking(reference, 1)

    def as_it_was() -> None:
        with as_published():
            published.step()

    pair = paired(as_it_was, candidate.step, rounds)
    took = f"{pair.reference.median:.0f} and {pair.candidate.median:.1f} ms"
    ratios = f"x{pair.ratio:.2f} by the clock, x{pair.core_ratio:.2f} of processor time"
    return f"{precision} {quality}: {took}, {ratios}"


def main(arguments: Sequence[str]) -> None:
    """Without a case: all of them, one after the other."""
    rounds = arguments[0] if arguments else str(ROUNDS)
    if len(arguments) == 3:
        print(measure(arguments[1], arguments[2], int(rounds)), flush=True)  # noqa: T201
        return
    for precision, quality in CASES:
        subprocess.run(
            [sys.executable, "-m", "tests.long.one_object", rounds, precision, quality], check=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
