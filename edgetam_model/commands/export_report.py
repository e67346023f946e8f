"""What `edgetam export` says: tables for people, one document for machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from edgetam_model.commands.terminal import print_json, say

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.export.manifest import Manifest
    from edgetam_model.export.release import Released
    from edgetam_model.export.verify import Verified

_WIDTH = 120  # columns where the reader is a file or a pipe


def show_written(manifest: Manifest, folder: Path, *, as_json: bool) -> None:
    """The files of an export and their sizes."""
    whole = sum(one.bytes for one in manifest.files)
    if as_json:
        files = [
            {"name": one.name, "path": one.path, "bytes": one.bytes, "sha256": one.sha256}
            for one in manifest.files
        ]
        facts = manifest.model_dump(mode="json", include={"kind", "target", "precision", "accuracy"})
        weights = manifest.weights.model_dump(mode="json")
        print_json(facts | {"folder": str(folder), "weights": weights, "bytes": whole, "files": files})
        return
    table = Table("part", "file", "objects", "MB")
    for one in manifest.files:
        table.add_row(one.name, one.path, str(one.objects), f"{one.bytes / 1e6:.2f}")
    _print(table)
    say(f"{whole / 1e6:.2f} MB in {folder}, {manifest.target}, {manifest.precision}, and manifest.json")


def show_verified(manifest: Manifest, found: Verified, *, as_json: bool) -> int:
    """Sizes and errors of an export; the exit code, which the masks of the clip decide."""
    if as_json:
        print_json(_verified_facts(manifest, found))
        return 0 if found.good else 1
    table = Table("part", "MB", "weights compared", "largest difference", "error of outputs", "own weights")
    for name, part in found.parts.items():
        table.add_row(
            name,
            f"{manifest.file(name).bytes / 1e6:.2f}",
            f"{part.weights.numbers} in {part.weights.tensors}",
            f"{part.weights.largest:.1e}",
            f"{part.errors[part.worst]:.1e} ({part.worst})",
            f"{max(part.unexplained.values()):.1e}",
        )
    _print(table)
    say("error of outputs: against PyTorch in float32; own weights: the same with the weights as stored")
    clip = found.clip
    if clip is not None:
        masks = f"{len(clip.ious)} masks of the clip, the object in {clip.seen} of them"
        say(f"{masks}: IoU {clip.mean_iou:.4f} on average, {clip.least_iou:.4f} at least")
    if manifest.accuracy is not None:
        say(f"{manifest.precision}: {manifest.accuracy.verdict}")
    tracked = "" if clip is not None else ", no clip tracked"
    say(f"verified{tracked}" if found.good else "not verified: the masks are not the model's")
    return 0 if found.good else 1


def show_released(found: Mapping[str, Released], folder: Path, *, as_json: bool) -> None:
    """What came of each precision of a release."""
    if as_json:
        rows = {
            name: {"bytes": one.bytes, **_verified_facts(one.manifest, one.verified)}
            for name, one in found.items()
        }
        print_json({"folder": str(folder), "precisions": rows})
        return
    table = Table("precision", "MB", "worst error", "own weights", "mean IoU", "J&F lost", "verdict")
    for name, one in found.items():
        accuracy, clip, parts = one.manifest.accuracy, one.verified.clip, one.verified.parts.values()
        lost = None if accuracy is None else accuracy.lost_points
        table.add_row(
            name,
            f"{one.bytes / 1e6:.2f}",
            f"{max(max(part.errors.values()) for part in parts):.1e}",
            f"{max(max(part.unexplained.values()) for part in parts):.1e}",
            "" if clip is None else f"{clip.mean_iou:.4f}",
            "" if lost is None else f"{lost:.2f}",
            "" if accuracy is None else accuracy.verdict,
        )
    _print(table)
    say(f"verified, with checksums, in {folder}")


def _verified_facts(manifest: Manifest, found: Verified) -> dict[str, Any]:
    """For machines."""
    parts = {
        name: {
            "bytes": manifest.file(name).bytes,
            "errors": dict(part.errors),
            "errors_with_stored_weights": dict(part.unexplained),
            "tensors": part.weights.tensors,
            "numbers": part.weights.numbers,
            "largest_weight_difference": part.weights.largest,
        }
        for name, part in found.parts.items()
    }
    clip = found.clip
    masks = {} if clip is None else {"masks": len(clip.ious), "seen": clip.seen}
    ious = {} if clip is None else {"least_iou": clip.least_iou, "mean_iou": clip.mean_iou}
    facts = manifest.model_dump(mode="json", include={"precision", "accuracy"})
    return {"verified": found.good, **facts, "parts": parts, **masks, **ious}


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
