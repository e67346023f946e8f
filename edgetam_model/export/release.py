"""What a release carries: packages at every precision, each verified and judged, and their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.export.coreml import CoremlOptions, Precision, export_coreml
from edgetam_model.export.manifest import Manifest
from edgetam_model.export.verify import ENOUGH_IOU, Verified, verify
from edgetam_model.model import EdgeTAM

SUMS = "SHA256SUMS"
RELEASED: tuple[Precision, ...] = ("fp16", "int8", "mixed", "palette6", "palette4")


@dataclass(frozen=True)
class Released:
    """One precision of a release.

    Attributes:
        manifest: what was written, and whether it is for use.
        verified: what was found.
    """

    manifest: Manifest
    verified: Verified

    @property
    def bytes(self) -> int:
        """Of its packages."""
        return sum(one.bytes for one in self.manifest.files)


def release_coreml(
    model: EdgeTAM,
    out: Path | str,
    options: CoremlOptions | None = None,
    *,
    frames: int = 3,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Mapping[str, Released]:
    """Write and verify `coreml-fp16` and so on below a folder, and SHA256SUMS beside them.

    What loses too much to be used is written all the same: its manifest says so.

    Args:
        model: in eval mode and float32, on the CPU.
        out: the folder, which is made if need be.
        options: target and prompts; its precision is not asked for.
        frames: of the clip that verifies.
        force: replace an earlier release.
        tell: told what is being done.

    Returns:
        What came of each precision, by its name.

    Raises:
        InputError: a folder with a release, or coremltools is not installed.
        WeightsError: a package that is not the model; no checksums are written then.
    """
    folder, options = Path(out), options or CoremlOptions()
    if (folder / SUMS).exists() and not force:
        raise InputError("out", f"{folder.name} holds a release already; give --force to replace it")
    (folder / SUMS).unlink(missing_ok=True)
    released: dict[str, Released] = {}
    for precision in RELEASED:
        place = folder / f"coreml-{precision}"
        tell(f"writing {precision}")
        manifest = export_coreml(model, place, replace(options, precision=precision), force=force)
        tell(f"checking {precision}")
        found = verify(place, model, frames)
        if found.clip is not None and not found.good:
            raise WeightsError(
                f"{precision}: the clip's masks have IoU {found.clip.mean_iou:.4f}, expected {ENOUGH_IOU}"
            )
        released[precision] = Released(manifest, found)
    (folder / SUMS).write_text(checksums(folder, RELEASED), encoding="utf-8")
    return released


def checksums(folder: Path, precisions: tuple[str, ...]) -> str:
    """Lines that `sha256sum --check` reads, of every file, in order."""
    paths = (path for one in precisions for path in (folder / f"coreml-{one}").rglob("*") if path.is_file())
    return "".join(f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(paths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
