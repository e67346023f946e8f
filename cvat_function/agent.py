"""The functions of CVAT's agents (CVAT Online and Enterprise): what cvat-cli loads.

cvat-cli function create-native EdgeTAM --function-module cvat_function.agent -p kind=str:tracker
cvat-cli function run-agent ID --function-module cvat_function.agent -p kind=str:tracker
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cvat_function.engine import Engine
from cvat_function.settings import Settings
from edgetam_model import EdgeTAMError, InputError

if TYPE_CHECKING:
    from cvat_function.agent_interaction import InteractionFunction
    from cvat_function.agent_tracking import TrackingFunction

KINDS = ("interactor", "tracker")


def create(
    kind: str, weights: str = "auto", device: str = "auto", lost: Literal["auto", "last", "null"] = "auto"
) -> InteractionFunction | TrackingFunction:
    """A function for cvat-cli, its model loaded. The arguments are those of its `-p NAME=str:VALUE`.

    Args:
        kind: "interactor" or "tracker".
        weights: what `load_model` takes.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        lost: tracker: see `Settings.lost`.

    Raises:
        InputError: an argument with a wrong value.
        EdgeTAMError: cvat-sdk is not installed, or weights or device are not there.
    """
    if kind not in KINDS:
        raise InputError("kind", f"expected {' or '.join(KINDS)}, got {kind!r:.80}")
    if lost not in ("auto", "last", "null"):
        raise InputError("lost", f"expected auto, last or null, got {lost!r:.80}")
    try:
        from cvat_function.agent_interaction import InteractionFunction
        from cvat_function.agent_tracking import TrackingFunction
    except ModuleNotFoundError as error:
        if error.name != "cvat_sdk":
            raise
        raise EdgeTAMError('agents need cvat-sdk: pip install "edgetam-labeling[cvat]"') from error
    engine = Engine(Settings(weights=weights, device=device, lost=lost))
    return InteractionFunction(engine) if kind == "interactor" else TrackingFunction(engine)
