"""The functions of CVAT's agents (CVAT Online and Enterprise): what cvat-cli loads.

cvat-cli function create-native EdgeTAM --function-module cvat_function.agent -p kind=str:tracker
cvat-cli function run-agent ID --function-module cvat_function.agent -p kind=str:tracker
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

from cvat_function.engine import Engine
from cvat_function.settings import Lost, Quality, Settings, read_settings
from edgetam_model import EdgeTAMError, InputError

if TYPE_CHECKING:
    from cvat_function.agent_interaction import InteractionFunction
    from cvat_function.agent_tracking import TrackingFunction

KINDS = ("interactor", "tracker")
QUALITY = "EDGETAM_QUALITY"


def create(
    kind: str,
    weights: str = "auto",
    device: str = "auto",
    lost: Lost = "auto",
    quality: Quality | Literal["auto"] = "auto",
) -> InteractionFunction | TrackingFunction:
    """A function for cvat-cli, its model loaded. The arguments are those of its `-p NAME=str:VALUE`.

    Args:
        kind: "interactor" or "tracker".
        weights: what `load_model` takes.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        lost: tracker: see `Settings.lost`.
        quality: "exact" or "fast", see `Settings.quality`; "auto": as EDGETAM_QUALITY says, else exact.

    Raises:
        InputError: an argument with a wrong value.
        EdgeTAMError: cvat-sdk is not installed, weights or device are not there, or the weights have no fast
            mode.
    """
    if kind not in KINDS:
        raise InputError("kind", f"expected {' or '.join(KINDS)}, got {kind!r:.80}")
    settings = settings_of(weights, device, lost, quality)
    try:
        from cvat_function.agent_interaction import InteractionFunction
        from cvat_function.agent_tracking import TrackingFunction
    except ModuleNotFoundError as error:
        if error.name != "cvat_sdk":
            raise
        raise EdgeTAMError('agents need cvat-sdk: pip install "edgetam-labeling[cvat]"') from error
    engine = Engine(settings)
    return InteractionFunction(engine) if kind == "interactor" else TrackingFunction(engine)


def settings_of(weights: str, device: str, lost: Lost, quality: Quality | Literal["auto"]) -> Settings:
    """`create`'s arguments as settings.

    Raises:
        InputError: see `create`.
    """
    if lost not in get_args(Lost):
        raise InputError("lost", f"expected auto, last or null, got {lost!r:.80}")
    if quality == "auto":
        quality = read_settings({QUALITY: os.environ.get(QUALITY, "")}).quality
    if quality not in get_args(Quality):
        raise InputError("quality", f"expected auto, exact or fast, got {quality!r:.80}")
    return Settings(weights=weights, device=device, lost=lost, quality=quality)
