"""What many objects cost and hold: `python -m tests.long.many_objects --objects 1 3 10 50`.

Each number in a process of its own: boxes on the first frame of a video of noise, tracked over a few more.
Published size with random weights unless told otherwise, by the runtime that the environment names. Prints
core-seconds of a tracked frame and the most memory that the process held, and a JSON line last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from time import process_time

import numpy as np
import torch

from edgetam_model.bench.machine import peak_memory
from edgetam_model.bench.scenes import new_model
from edgetam_model.config import CONFIGS
from edgetam_model.prompts import Prompt
from edgetam_model.runtime.choosing import accelerate
from edgetam_model.video_tracker import VideoTracker
from edgetam_model.weights import load_model

HEIGHT, WIDTH = 360, 640
ACROSS, SIDE = 10, 50  # boxes stand in rows


def main() -> None:
    """Every number of objects, and how it compares to the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10, 50])
    parser.add_argument("--frames", type=int, default=5, help="3 or more (5)")
    parser.add_argument("--weights", default="random")
    args = parser.parse_args()
    said = {}
    in_a_process(args.weights, 1, 3)  # converts graphs, which holds more memory than running them
    for count in args.objects:
        core, held = in_a_process(args.weights, count, args.frames)
        said[count] = {"core_s": core, "peak_mib": held}
        ratio = core / said[args.objects[0]]["core_s"]
        print(f"{count} objects: {core:.2f} core-s a frame ({ratio:.1f}), {held:.0f} MiB", flush=True)  # noqa: T201
    print(json.dumps({"weights": args.weights, "frames": args.frames, "objects": said}))  # noqa: T201


def in_a_process(weights: str, count: int, frames: int) -> tuple[float, float]:
    """`tracked`, where nothing else is held."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(tracked, weights, count, frames).result()


def tracked(weights: str, count: int, frames: int) -> tuple[float, float]:
    """Core-seconds of a tracked frame, all masks read, and the most MiB held."""
    torch.set_num_threads(1)
    model = new_model(CONFIGS["edgetam"]) if weights == "random" else load_model(weights, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (frames, HEIGHT, WIDTH, 3), np.uint8)
    marks = []
    with VideoTracker(accelerate(model)).open(list(pictures)) as session:
        for number in range(count):
            left, top = 10.0 + 60 * (number % ACROSS), 10.0 + 60 * (number // ACROSS)
            session.add_prompt(0, number, Prompt(box=[left, top, left + SIDE, top + SIDE]))
        for result in session.propagate():
            if len(result.objects) != count:
                raise SystemExit(f"{len(result.objects)} objects of {count} on frame {result.frame}")
            for one in result.objects.values():
                one.mask.any()
            marks.append(process_time())
    # The first frame is the prompted one, and the second prepares graphs.
    return (marks[-1] - marks[1]) / (frames - 2), peak_memory()


if __name__ == "__main__":
    main()
