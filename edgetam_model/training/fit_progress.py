"""How far a fit is, as one number over all its steps, and the door by which it is cancelled. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgetam_model.training.fit_options import FitListener

Step = Literal["reading", "training", "judging", "storing"]

TOTAL = 100.0  # progress is told in percent
# From where to where each step reaches: guesses from fits of 40 images, which train for most of their time.
SPANS: dict[Step, tuple[float, float]] = {
    "reading": (0, 4),
    "training": (4, 80),
    "judging": (80, 98),
    "storing": (98, 100),
}


class FitCancelledError(Exception):
    """The listener wants no more; what is on disk is enough to go on."""


@dataclass(frozen=True)
class FitProgress:
    """Tells a listener how far a fit is.

    Args:
        listener: who is told, and who may cancel.
    """

    listener: FitListener

    def tell(self, step: Step, share: float, note: str) -> None:
        """So much of a step is done, 0 to 1."""
        low, high = SPANS[step]
        self.listener.progress(low + (high - low) * min(share, 1.0), TOTAL, note)

    def reach(self, step: Step, share: float, note: str) -> None:
        """The same where it can stop.

        Raises:
            FitCancelledError: the listener wants no more.
        """
        self.tell(step, share, note)
        self.check()

    def check(self) -> None:
        """Stop here if the listener wants no more. Raises as `reach`."""
        if self.listener.cancelled():
            raise FitCancelledError

    def counter(self, step: Step, span: tuple[float, float], total: int, what: str) -> Callable[[], None]:
        """To be called after each of `total` parts of a stretch of a step, which may stop there."""
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            share = span[0] + (span[1] - span[0]) * done / max(total, 1)
            self.reach(step, share, f"{what} {min(done, total)} of {total}")

        return tick
