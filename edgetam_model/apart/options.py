"""How much a decoder apart may take."""

from __future__ import annotations

from dataclasses import dataclass

from edgetam_model.errors import InputError


@dataclass(frozen=True)
class ApartOptions:
    """What ends a decoder that runs as a process of its own.

    Attributes:
        memory_bytes: that it may take beside its own code. Measured over what the default limits let pass:
            2.3 GB for an image of 89 megapixels with transparency, 1.0 GB for video of 33 megapixels.
        seconds: in which it must give an answer: one frame, or one image. Opening a file gets more with its
            size. A frame far from a keyframe is decoded from there, which takes longest.
    """

    memory_bytes: int = 3 * 1024**3
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "seconds"):
            if getattr(self, name) <= 0:
                raise InputError(name, f"expected a positive number, got {getattr(self, name)}")
