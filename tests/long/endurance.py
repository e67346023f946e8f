"""Memory and cost of very long tracks: `python -m tests.long.endurance --frames 10000 --objects 5`."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.video_tracker import VideoTracker
from tests.long.test_long_video import write_loop
from tests.models import tiny_model

SETTLED = 500  # frames after which caches are full


def main() -> None:
    """Track, and print resident memory and core-milliseconds per frame along the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--every", type=int, default=SETTLED)
    args = parser.parse_args()
    own, memory, cost = psutil.Process(), dict[int, float](), dict[int, float]()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "long.mp4"
        write_loop(video, args.frames)
        with VideoTracker(tiny_model(), TrackerOptions(lost_after=0)).open(video) as session:
            for number in range(args.objects):
                left = 40.0 + 110 * number
                session.add_prompt(0, number, Prompt(box=[left, 100, left + 90, 220]))
            before, used = 0, time.process_time()
            for result in session.propagate():
                if result.frame and result.frame % args.every == 0:
                    memory[result.frame] = own.memory_info().rss / 2**20
                    now = time.process_time()
                    cost[result.frame] = 1e3 * (now - used) / (result.frame - before)
                    before, used = result.frame, now
                    mib, core = memory[result.frame], cost[result.frame]
                    print(f"{result.frame}: {mib:.0f} MiB, {core:.1f} core-ms", flush=True)  # noqa: T201
    settled = min(memory)
    growth = max(memory.values()) / memory[settled] - 1
    frames, taken = list(cost), list(cost.values())
    drift = float(np.polyfit(frames, taken, 1)[0]) * args.frames / float(np.mean(taken))
    said = {"frames": args.frames, "objects": args.objects, "growth": growth, "cost_drift": drift}
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main()
