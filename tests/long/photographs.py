"""How well weights do on free photographs, with which recipes are chosen: boxes, clicks, and moving cut-outs.

    python -m tests.long.photographs [--weights default] [--frames 12] [--size 320] [--clicks 4] [--json]

The 21 outlined objects of scikit-image's photographs: IoU on the whole photograph from an exact box and from
one to four clicks, each in the middle of the largest error; J of the frames after the first when the object
moves before what is behind it, followed from its true mask.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from edgetam_model import ImagePredictor, Prompt, VideoTracker, load_model
from edgetam_model.annotator import corrective_click, first_click
from edgetam_model.masks import Mask, mask_box
from edgetam_model.scoring import region_similarity
from edgetam_model.training.photo_clips import PhotoClips, load_cutout, outlined_objects


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="default", help="name or file")
    parser.add_argument("--frames", type=int, default=12, help="of each clip (12)")
    parser.add_argument("--size", type=int, default=320, help="side of the clips (320)")
    parser.add_argument("--clicks", type=int, default=4, help="at most so many (4)")
    parser.add_argument("--json", action="store_true")
    typed = parser.parse_args()
    model = load_model(typed.weights)
    predictor, tracker = ImagePredictor(model), VideoTracker(model)
    clips = PhotoClips(typed.size, typed.frames)
    rows = {}
    for number, thing in enumerate(outlined_objects()):
        photo = load_cutout(number)
        truth = photo.cover > 127
        predictor.set_image(photo.photo)
        box = predictor.predict(Prompt(box=mask_box(truth))).mask
        row = [region_similarity(box, truth), *_clicked(predictor, truth, typed.clicks)]
        row.append(_tracked(tracker, clips, number))
        rows[thing.name] = row
        if not typed.json:
            print(f"{thing.name:<24}" + "".join(f"{value:7.3f}" for value in row), flush=True)  # noqa: T201
    mean = np.mean(list(rows.values()), axis=0).tolist()
    if typed.json:
        print(json.dumps({"objects": rows, "mean": mean}))  # noqa: T201
    else:
        print(f"{'mean':<24}" + "".join(f"{value:7.3f}" for value in mean))  # noqa: T201
        print(f"columns: box, 1 to {typed.clicks} clicks, J over {typed.frames} frames")  # noqa: T201


def _clicked(predictor: ImagePredictor, truth: Mask, count: int) -> list[float]:
    """IoU after each click; a mask that is right stays."""
    clicks = [first_click(truth)]
    found = []
    for number in range(count):
        points, labels = [c.prompt().points[0] for c in clicks], [c.prompt().labels[0] for c in clicks]
        mask = predictor.predict(Prompt(points=points, labels=labels)).mask
        found.append(region_similarity(mask, truth))
        click = corrective_click(mask, truth, None, clicks)
        if click is None:
            return found + found[-1:] * (count - number - 1)
        clicks.append(click)
    return found


def _tracked(tracker: VideoTracker, clips: PhotoClips, number: int) -> float:
    batch = clips.batch(0, number, 1)
    frames = batch.frames[0].permute(0, 2, 3, 1).contiguous().numpy()
    truths = batch.masks[0, :, 0].numpy()
    with tracker.open(frames) as session:
        session.add_prompt(0, 1, Prompt(mask=truths[0]))
        found = {result.frame: result.objects[1].mask for result in session.propagate()}
    return float(np.mean([region_similarity(found[t], truths[t]) for t in range(1, len(truths))]))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
