"""First prompts and a first track on a blank picture: whoever comes next does not wait for preparations."""

from __future__ import annotations

import numpy as np

from edgetam_model.image_predictor import ImagePredictor
from edgetam_model.model import EdgeTAM
from edgetam_model.prompts import Prompt
from edgetam_model.video_tracker import VideoTracker

SIZE = (96, 128)
BOX = (30.0, 20.0, 90.0, 70.0)
CENTRE = (60.0, 45.0)


def warm_up(model: EdgeTAM) -> EdgeTAM:
    """Compute a click, a box, a tracked frame and its correction, and give the model back.

    OpenVINO prepares each graph when it is first run: for 20 s once on a machine, then for a second in each
    process. Without it, this takes about as long as two frames.

    Args:
        model: as it is going to be used, after `accelerate`.
    """
    blank = np.zeros((*SIZE, 3), np.uint8)
    predictor = ImagePredictor(model)
    predictor.set_image(blank)
    predictor.predict(Prompt(points=[CENTRE], labels=[1]))
    with VideoTracker(model).open([blank, blank]) as session:
        session.add_prompt(0, 1, Prompt(box=BOX))
        for _ in session.propagate():
            pass
        session.add_prompt(1, 1, Prompt(points=[CENTRE], labels=[1]))
    return model
