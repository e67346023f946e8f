"""How far runtimes are from the golden numbers: `python -m tests.long.runtime_parity compiled fp32`.

The arguments are a runtime and a precision of `RuntimeOptions`, on the processor. Prints the largest error of
logits and scores for each object of each roll-out of `tests/parity`, and a JSON line last. Logits of the
golden weights are within ± 5, and multiply rounding; those of the "tame" ones do not. In float32 the
tolerances of `tests/parity/test_runtimes.py` hold, and the exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import get_args

import torch

from edgetam_model.runtime.choosing import Precision, Runtime, RuntimeOptions, accelerate
from tests.parity.references import (
    CAP,
    GOLDEN_ARRAYS,
    MODULES,
    independent_errors,
    like_the_independent_one,
    published,
    tame,
    video_errors,
)


def main() -> None:
    """Every roll-out by one runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", choices=get_args(Runtime))
    parser.add_argument("precision", choices=get_args(Precision))
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = RuntimeOptions(args.runtime, args.precision, 1)
    found = independent_errors(like_the_independent_one(accelerate(copy.deepcopy(tame()), options)))
    errors = {"tame": max(found.values())}
    print(f"tame weights: {errors['tame']:.1e}", flush=True)  # noqa: T201
    model = accelerate(copy.deepcopy(published()), options)
    for roll_out in GOLDEN_ARRAYS:
        for history, error in video_errors(roll_out(model)).items():
            errors[history] = error
            print(f"{history}: {error:.1e}", flush=True)  # noqa: T201
    print(json.dumps({"runtime": args.runtime, "precision": args.precision, "errors": errors}))  # noqa: T201
    if args.precision == "fp32" and not all(error <= allowed(name) for name, error in errors.items()):
        raise SystemExit(1)


def allowed(name: str) -> float:
    """Largest error of a roll-out in float32."""
    return MODULES if name == "tame" else CAP


if __name__ == "__main__":
    main()
