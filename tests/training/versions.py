"""Small versions for tests: real safetensors that need no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from edgetam_model.training.version_store import VersionStore
from edgetam_model.training.versions import NewVersion, VersionName


def weights_file(folder: Path, value: float = 0.0, size: int = 8) -> Path:
    """A file with the one mark that a version needs of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"weights-{value}.safetensors"
    numbers = {"a": np.full(size, value, dtype=np.float32)}
    save_file(numbers, path, metadata={"fingerprint": f"mark-{value}"})
    return path


def add(
    store: VersionStore, folder: Path, parent: str = "edgetam", project: str = "project-7"
) -> VersionName:
    """A version with something of everything."""
    report = folder / "report"
    (report / "pictures").mkdir(parents=True, exist_ok=True)
    (report / "index.html").write_text("<p>better</p>")
    (report / "pictures" / "before and after.png").write_bytes(b"\x89PNG")
    new = NewVersion(
        weights=weights_file(folder),
        parent=parent,
        config={"mode": "full", "steps": 40},
        manifest=[{"annotation": 7, "sha256": "ab" * 32}],
        metrics={"held_out_iou": 0.8125, "domain": "thermal"},
        report=report,
    )
    return store.add(project, new)
