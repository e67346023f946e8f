"""Track three objects through a long clip and print one JSON line: memory over time and a hash per frame.

Run as a process of its own, so that the memory measured is the tracker's:
`python long_track.py VIDEO FIRST LAST [--save FILE] [--resume FILE]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import psutil

from edgetam_model.prompts import Prompt
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker
from tests.models import tiny_model

BOXES = {1: [60, 200, 140, 280], 2: [250, 100, 380, 240], 3: [450, 150, 600, 300]}


def open_session(video: str, resume: Path | None) -> VideoSession:
    tracker = VideoTracker(tiny_model())
    if resume is not None:
        return tracker.resume(resume.read_bytes(), video)
    session = tracker.open(video)
    for object_id, box in BOXES.items():
        session.add_prompt(0, object_id, Prompt(box=box))
    return session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--resume", type=Path)
    options = parser.parse_args()

    process, memory, hashes = psutil.Process(), {}, {}
    started = time.perf_counter()
    with open_session(options.video, options.resume) as session:
        for result in session.propagate(start=options.first, stop=options.last):
            masks = b"".join(result.objects[i].mask.tobytes() for i in sorted(result.objects))
            hashes[result.frame] = hashlib.sha256(masks).hexdigest()
            if result.frame % 100 == 0:
                memory[result.frame] = process.memory_info().rss
        seconds = time.perf_counter() - started
        if options.save is not None:
            options.save.write_bytes(session.checkpoint())
    print(json.dumps({"memory": memory, "hashes": hashes, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main()
