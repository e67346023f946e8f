"""Tiny fine-tuned versions that really load, and masks that tell them apart."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from edgetam_model import CONFIGS, EdgeTAM, NewVersion, VersionName, VersionStore
from edgetam_model.weights_file import save_weights
from tests.models import OBJECT_SCORE_BIAS, tiny_model

P = "project-7"
SERVED = ("v0001", "v0002")
WHY = "The candidate is better: IoU 0.813 in place of 0.610."
METRICS: dict[str, Any] = {
    "after": 0.8125,
    "before": 0.61,
    "gain": 0.2025,
    "updates": 300,
    "domain": "thermal",
    "promoted": True,
    "forgetting": {"fall": 0.002},
    "reasons": [WHY],
}
PNG = b"\x89PNG\r\n\x1a\n"


@cache
def fine_tuned(seed: int) -> EdgeTAM:
    """What a version of this seed, 1 to 3, has learned: it sees an object everywhere, each another one."""
    model = copy.deepcopy(tiny_model(seed + 4))
    model.state_dict()[OBJECT_SCORE_BIAS].fill_(20)
    return model


def v(number: int, project: str = P) -> VersionName:
    return VersionName(project, number)


def add_version(
    store: VersionStore, seed: int, project: str = P, parent: str = "untrained", report: bool = True
) -> VersionName:
    """A version of the smallest model; equal seeds have equal weights."""
    made = store.root.parent / f"made-{seed}"
    weights = made / "weights.safetensors"
    if not weights.exists():
        save_weights(weights, fine_tuned(seed), CONFIGS["tiny"], licence="MIT", source="what a team drew")
        (made / "report" / "pictures").mkdir(parents=True)
        (made / "report" / "index.html").write_text(f"<p>version of seed {seed}</p>")
        (made / "report" / "pictures" / "before and after.png").write_bytes(PNG)
    new = NewVersion(weights, parent, {"mode": "adapter"}, [], METRICS, made / "report" if report else None)
    return store.add(project, new)


def line_of(store: VersionStore, *seeds: int, project: str = P) -> list[VersionName]:
    """Versions that served in turn, the last one now."""
    names: list[VersionName] = []
    for seed in seeds:
        parent = str(names[-1]) if names else "untrained"
        names.append(add_version(store, seed, project, parent))
        store.promote(names[-1])
    return names


def damage(store: VersionStore, name: VersionName, file: str = "weights.safetensors") -> None:
    """Flip a bit of one of its files, as a disk may."""
    path: Path = store.get(name).folder / file
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
