"""How a video is tracked: every choice with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from edgetam_model.errors import InputError

Quality = Literal["exact", "fast"]


@dataclass(frozen=True)
class TrackerOptions:
    """Options of a `VideoTracker`.

    Attributes:
        dynamic_multimask: on prompted frames, an unstable single mask gives way to the best of three.
        binarize_prompted_memory: memories of prompted frames are made of the mask as 0 and 1.
        corrections_as_conditioning: a prompt on a tracked frame becomes a conditioning memory, and the
            stretch up to the neighbouring prompts is tracked again from it in both directions. False is
            the published behaviour: a recent memory, and only later frames are tracked again.
        max_conditioning_frames: conditioning memories read per frame (≥ 2): the nearest before, the
            nearest after, then the nearest.
        fill_hole_area: holes of at most this many low-resolution pixels are filled; 0: none.
        island_area: separate regions of at most this many low-resolution pixels are removed; 0: none.
        non_overlapping: a pixel belongs to one object only, the one with the highest logit.
        lost_after: frames in a row without a reliable mask until an object is lost; 0: never.
        lost_iou: a mask whose predicted IoU is below this is not reliable.
        verify: models with windows alone: a mask is not believed, and the object absent, where it has just
            lost most of its area, its object score or its colours, or comes back without enough of all;
            pieces elsewhere that are something else's are left out; what a search finds is looked at again
            from near. See `credence` and `pieces`.
        object_batch: objects that go through the model at once; more are taken in turns.
        exact_bytes: bytes of finished frames kept with exact logits; later ones keep exact masks and
            logits to ± 0.125 (about a sixth of the 256 KB that a frame of an object takes at 1024 px).
        quality: "exact", or "fast": weights of the published size see 512 pixels, a quarter of their tokens;
            None: as the model was made, see `RuntimeOptions`.

    Raises:
        InputError: a value out of range, with the field at fault.
    """

    dynamic_multimask: bool = True
    binarize_prompted_memory: bool = True
    corrections_as_conditioning: bool = True
    max_conditioning_frames: int = 4
    fill_hole_area: int = 8
    island_area: int = 0
    non_overlapping: bool = False
    lost_after: int = 5
    lost_iou: float = 0.2
    verify: bool = True
    object_batch: int = 16
    exact_bytes: int = 256 << 20
    quality: Quality | None = None

    def __post_init__(self) -> None:
        check_quality(self.quality)
        at_least = {
            "max_conditioning_frames": 2,
            "object_batch": 1,
            "fill_hole_area": 0,
            "island_area": 0,
            "lost_after": 0,
            "lost_iou": 0,
            "exact_bytes": 0,
        }
        for field, least in at_least.items():
            value = getattr(self, field)
            if value < least:
                raise InputError(field, f"expected at least {least}, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrackerOptions:
        """Build options from JSON values.

        Raises:
            InputError: an unknown field or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"options.{unknown[0]}", "unknown field")
        return cls(**values)


def check_quality(quality: str | None) -> None:
    """Raise where there is no such quality.

    Raises:
        InputError: `quality`.
    """
    if quality is not None and quality not in get_args(Quality):
        raise InputError("quality", f"expected {' or '.join(get_args(Quality))}, got {quality!r:.40}")
