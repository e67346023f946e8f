"""The model that a verb runs: made fast, and its weights announced."""

from __future__ import annotations

from edgetam_model.commands.progress import Meter
from edgetam_model.commands.terminal import UNTRAINED
from edgetam_model.model import EdgeTAM
from edgetam_model.runtime.choosing import accelerate
from edgetam_model.weights import WeightsInfo, load_model

_ADVICE = (
    "Everything runs, but these weights never learned anything: what comes out are shapes without sense.",
    "Get trained ones with `edgetam weights fetch`, or name a file with --weights.",
)


def load(weights: str | None, device: str, meter: Meter) -> tuple[EdgeTAM, WeightsInfo]:
    """The model and which weights it has; untrained ones cannot be overlooked on stderr.

    Raises:
        InputError: a device that this machine does not have.
        WeightsError: no such weights.
    """
    meter.stage("loading the model")
    model = accelerate(load_model(weights, device))
    info = model.weights_info
    assert isinstance(info, WeightsInfo)  # load_model sets it
    if info.trained:
        meter.note(str(info))
    else:
        rule = "!" * 78
        meter.note("\n".join((rule, f"!!!  {UNTRAINED}  !!!", *_ADVICE, str(info), rule)))
    return model, info
