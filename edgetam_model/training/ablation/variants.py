"""What is compared: models of one base that differ in one thing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError

PERCEIVER, DISTILLATION = "perceiver", "distillation"
KINDS = (PERCEIVER, DISTILLATION)


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: of the row.
        config: of its models.
        taught: whether a teacher helps; its work counts as the variant's.
    """

    name: str
    config: EdgeTAMConfig
    taught: bool = False


def plain(config: EdgeTAMConfig) -> EdgeTAMConfig:
    """The same sizes without windows, evidence and refiner: what is tracked, memory attention has tracked."""
    return replace(config, window_scale=0.0, evidence_width=0, refine_width=0)


def variants_of(kind: str, base: EdgeTAMConfig) -> tuple[Variant, ...]:
    """The rows of a table; the first one is what the others are compared with.

    The perceiver's: both kinds of latents; global ones alone, as many as both; patch-level ones alone; the
    mean of each patch; and the dense memory itself, which is what compression is measured by.

    Raises:
        InputError: an unknown kind, or a base without one of the two kinds of latents.
    """
    if kind == DISTILLATION:
        return (Variant("alone", base), Variant("taught", base, taught=True))
    if kind != PERCEIVER:
        raise InputError("kind", f"expected {' or '.join(KINDS)}, got {kind!r}")
    if not base.global_latents or not base.patch_latents:
        raise InputError("config", "expected one with global and patch-level latents")
    pooled = replace(base, global_latents=0, pooled_memories=True)
    return (
        Variant("both", base),
        Variant("global", replace(base, global_latents=base.latents, patch_latents=0)),
        Variant("patch", replace(base, global_latents=0)),
        Variant("pooled", pooled),
        Variant("dense", replace(pooled, patch_latents=base.grid**2)),
    )
