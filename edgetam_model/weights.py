"""Where weights come from: shipped, published and fetched, brought by hand, or none; always checked.

`load_model` is the door. Files are in `weights_file`, the download in `hub`, foreign names in `hf_layout`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edgetam_model import hub
from edgetam_model.config import CONFIGS, EdgeTAMConfig
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.hub import Patience, Progress, cache_dir, git_blob_hash
from edgetam_model.model import EdgeTAM, fingerprint
from edgetam_model.weights_file import (
    Weights,
    check_entries,
    read_any,
    read_weights,
    save_weights,
)

__all__ = [
    "WeightsInfo",
    "WeightsRow",
    "fetch",
    "import_checkpoint",
    "list_weights",
    "load_model",
    "read_weights",
    "save_weights",
    "verify",
]

SHIPPED = Path(__file__).parent / "data" / "nano.safetensors"
UNTRAINED_CONFIG = "tiny"
OWN_LICENCE = "Apache-2.0"

# `auto` may not keep anyone waiting: a machine without network goes on after 3 s, a slow line after 20 s.
AUTO_PATIENCE = Patience(timeout_s=3.0, budget_s=20.0, attempts=1)

NOT_AT_HAND = "the published ones are not at hand, and `edgetam weights fetch` says why"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsInfo:
    """Which weights a model runs; `load_model` leaves it at the model as `weights_info`.

    Attributes:
        name: "edgetam", "default", "untrained", a version, or the file's or import's name.
        path: the file, None for untrained weights.
        fingerprint: SHA-256 over config and tensors.
        trained: False where the masks mean nothing.
        licence: SPDX identifier, or "unknown".
        source: where the weights come from.
        note: why these and not others, where `auto` had to choose.
    """

    name: str
    path: Path | None
    fingerprint: str
    trained: bool
    licence: str
    source: str = ""
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        what = "weights" if self.trained else "UNTRAINED weights, their masks mean nothing:"
        known = self.path in (SHIPPED, _cached(hub.PUBLISHED.name))
        place = "" if known else f"{self.path or 'made up from a fixed seed'}, "
        line = f"{what} {self.name} ({place}licence {self.licence})"
        return f"{line}; {self.note}" if self.note else line


@dataclass(frozen=True)
class WeightsRow:
    """One line of `edgetam weights list`.

    Attributes:
        name: what `load_model` takes.
        where: the file, or the address it would be fetched from.
        present: whether it is here.
        size: bytes, 0 where not present.
        sha256: of the file, "" where not present.
        licence: SPDX identifier, or "unknown".
        trained: False for weights that nobody trained.
        problem: why the file cannot be used, "" where it can.
    """

    name: str
    where: str
    present: bool
    size: int = 0
    sha256: str = ""
    licence: str = ""
    trained: bool = True
    problem: str = ""


def load_model(name: str | Path | None = None, device: str = "auto") -> EdgeTAM:
    """Build an EdgeTAM with its weights, in eval mode on the device.

    Args:
        name: "default" (shipped with the package; untrained until they are), "edgetam" (the published ones,
            fetched if need be), "auto" (the published ones if cached or fetchable within seconds, else the
            shipped), the path of a weights file, the name of an imported one, a fine-tuned version such as
            "project-7/v0003", or "project-7" for the one that serves that project now. None: what
            EDGETAM_WEIGHTS says, else "auto".
        device: "auto" (EDGETAM_DEVICE, else CUDA where there is one, else the CPU), or a torch device.
            Apple's "mps" has to be named: its numbers are not proved against the published ones.

    Raises:
        InputError: a device that this machine does not have.
        WeightsError: weights that are missing, damaged, or of another model.
    """
    place = _device(device)
    name = name if name is not None else os.environ.get("EDGETAM_WEIGHTS") or "auto"
    if name == "auto":
        path, note = _auto()
    elif name == "default":
        path, note = (SHIPPED if SHIPPED.is_file() else None), ""
    else:
        path, note = fetch() if name == hub.PUBLISHED.name else _find(name), ""
    if path is None:
        model, info = _untrained()
    else:
        model, weights = _load(path, CONFIGS["edgetam"])
        info = _info(path, weights)
    info = replace(info, note=note)
    _log.log(logging.INFO if info.trained else logging.WARNING, "%s", info)
    model.weights_info = info
    return model.to(place).eval()


def fetch(
    name: str = hub.PUBLISHED.name,
    *,
    url: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
    force: bool = False,
) -> Path:
    """Bring published weights into the cache, once, and return the converted file.

    Args:
        name: "edgetam".
        url: a mirror; else EDGETAM_WEIGHTS_URL, else the publisher's address. The hash is the publisher's.
        progress: called with bytes here and bytes in all.
        patience: how long it may take.
        force: fetch again even if the cache has it.

    Raises:
        WeightsError: unknown name, offline, unreachable, cut off too often, or content with another hash.
    """
    if name != hub.PUBLISHED.name:
        raise WeightsError(f"no published weights named {name!r}: expected {hub.PUBLISHED.name!r}")
    target = _cached(name)
    if not force and _is_whole(target):
        return target
    if hub.is_offline():
        raise WeightsError(f"{name} is not in the cache, or damaged, and EDGETAM_OFFLINE forbids fetching it")
    url = url or _published_url()
    hub.check_url(url)
    part = cache_dir() / "downloads" / f"{hub.PUBLISHED.git_blob}.part"
    with hub.locked(part.with_suffix(".lock"), patience.budget_s if patience else None):
        if not force and _is_whole(target):  # another process was faster
            return target
        _log.info("fetching the weights %s from %s", name, url)
        _download_verified(url, part, progress, patience)
        import_checkpoint(part)
        part.unlink()
    return target


def import_checkpoint(path: Path | str, config: EdgeTAMConfig | None = None) -> Path:
    """Convert a checkpoint once to our safetensors in the cache, and return that file.

    Accepts what `weights_file.read_any` does. A copy of the published file becomes "edgetam"; others are
    named after the file and its content, so that the same file is converted once.

    Args:
        path: the checkpoint.
        config: its sizes, where the file does not carry them (None: the published ones).

    Raises:
        WeightsError: no such file, another kind of file, or not this model's entries.
    """
    path = Path(path)
    _, weights = _load(path, config or CONFIGS["edgetam"])
    target = _cached(_import_name(path))
    if _is_whole(target):
        return target
    save_weights(
        target,
        weights.state,
        weights.config,
        licence=weights.licence,
        source=weights.source,
        trained=weights.trained,
    )
    return target


def list_weights() -> list[WeightsRow]:
    """The shipped and the published weights, here or not, then every imported file."""
    if SHIPPED.is_file():
        rows = [_row("default", SHIPPED)]
    else:
        rows = [WeightsRow("default", str(SHIPPED), present=False, licence=OWN_LICENCE, trained=False)]
    published, licence = _cached(hub.PUBLISHED.name), hub.PUBLISHED.licence
    if published.is_file():
        rows.append(_row(published.stem, published))
    else:
        rows.append(WeightsRow(published.stem, _published_url(), present=False, licence=licence))
    return rows + [_row(path.stem, path) for path in _imports()]


def verify(name: str | Path) -> WeightsInfo:
    """Read weights again from end to end and hold them against the hashes and entries recorded in them.

    Args:
        name: "default", "edgetam", the name of an imported file, a version, or a path.

    Raises:
        WeightsError: not here, damaged, or not this model's entries.
    """
    known = {"default": SHIPPED, hub.PUBLISHED.name: _cached(hub.PUBLISHED.name)}
    path = known.get(str(name)) or _find(name)
    if not path.is_file():
        raise WeightsError(f"{name}: not here ({path})")
    return _info(path, _load(path, CONFIGS["edgetam"])[1])


def _auto() -> tuple[Path | None, str]:
    """The published weights if they are here or near, else the shipped ones and why."""
    try:
        return fetch(patience=AUTO_PATIENCE), ""
    except WeightsError as error:
        _log.info("the published weights are not at hand: %s", error)
        return (SHIPPED if SHIPPED.is_file() else None), NOT_AT_HAND


def _find(name: str | Path) -> Path:
    """The file that a path, the name of an imported file, or a version means."""
    from edgetam_model.training.version_store import VersionStore  # stands above, and few names need it

    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.name == str(name) and _cached(path.name).is_file():
        return _cached(path.name)
    versions = VersionStore()
    if version := versions.find(str(name)):
        return versions.weights_file(version)
    projects = ", ".join(versions.projects()) or "none yet"
    raise WeightsError(
        f"{name}: no such version, file or import; expected default, edgetam, auto, a weights file, "
        f"a name that `edgetam weights list` shows, or a version of a project that has some ({projects})"
    )


def _load(path: Path, config: EdgeTAMConfig) -> tuple[EdgeTAM, Weights]:
    """The file's weights and a model that runs them; `config` is for files that carry none.

    Raises:
        WeightsError: another kind of file, damaged, or not this model's entries.
    """
    weights = read_any(path, config)
    model = _build(weights.config)
    check_entries(weights.state, model.state_dict(), str(path))
    model.load_state_dict(weights.state)
    return model, weights


def _untrained() -> tuple[EdgeTAM, WeightsInfo]:
    """A small model with numbers from a fixed seed: everything runs, nothing means anything."""
    config = CONFIGS[UNTRAINED_CONFIG]
    model = _build(config)
    # Random scores call some objects absent: count all as present, so that a demo shows where masks go.
    model.state_dict()["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(1.0)
    mark = fingerprint(config, model.state_dict())
    return model, WeightsInfo("untrained", None, mark, trained=False, licence=OWN_LICENCE)


def _build(config: EdgeTAMConfig) -> EdgeTAM:
    """A model whose first numbers are always the same, without touching the caller's random numbers."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    try:
        return EdgeTAM(config)
    finally:
        torch.set_rng_state(before)


def _download_verified(url: str, part: Path, progress: Progress | None, patience: Patience | None) -> None:
    """Complete `part`; it stays only if it is the published file or a beginning that may become it."""
    if part.is_file() and git_blob_hash(part) == hub.PUBLISHED.git_blob:
        return  # an earlier run ended between download and import
    hub.download(url, part, progress, patience)
    found = git_blob_hash(part)
    expected = hub.PUBLISHED.git_blob
    if found != expected:
        part.unlink()
        raise WeightsError(f"{url}: not the published file: git blob {found}, expected {expected}")


def _published_url() -> str:
    return os.environ.get("EDGETAM_WEIGHTS_URL") or hub.PUBLISHED.url


def _import_name(path: Path) -> str:
    """The published name for a copy of that file, else the file's own and the start of its SHA-256."""
    if git_blob_hash(path) == hub.PUBLISHED.git_blob:
        return hub.PUBLISHED.name
    stem = re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII)[:64]  # file systems end at 255 bytes
    return f"{stem}-{_sha256(path)[:8]}"


def _cached(name: str) -> Path:
    return cache_dir() / "weights" / f"{name}.safetensors"


def _imports() -> Iterator[Path]:
    for path in sorted((cache_dir() / "weights").glob("*.safetensors")):
        if path.stem != hub.PUBLISHED.name and not path.name.startswith("."):
            yield path


def _is_whole(path: Path) -> bool:
    try:
        read_weights(path)
    except WeightsError:
        return False
    return True


def _info(path: Path, weights: Weights) -> WeightsInfo:
    from edgetam_model.training.version_files import version_of_weights  # stands above

    in_package = {SHIPPED: "default", _cached(hub.PUBLISHED.name): hub.PUBLISHED.name}
    name = in_package.get(path) or str(version_of_weights(path) or path.stem)
    return WeightsInfo(name, path, weights.fingerprint, weights.trained, weights.licence, weights.source)


def _row(name: str, path: Path) -> WeightsRow:
    row = WeightsRow(name, str(path), present=True, size=path.stat().st_size, sha256=_sha256(path))
    try:
        weights = read_weights(path)
    except WeightsError as error:
        return replace(row, problem=str(error), trained=False)
    return replace(row, licence=weights.licence, trained=weights.trained)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _device(device: str) -> torch.device:
    """The torch device that a name means on this machine."""
    if device == "auto":
        device = os.environ.get("EDGETAM_DEVICE") or "auto"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError("device", f"expected auto, cpu, cuda, cuda:N or mps, got {device!r}") from error
    if not _has(place):
        raise InputError("device", f"this machine has no {device!r} that torch can use")
    return place


def _has(place: torch.device) -> bool:
    """Whether this machine has the device and this torch can use it."""
    if place.type == "cuda":
        return (place.index or 0) < torch.cuda.device_count()
    return place.type == "cpu" or (place.type == "mps" and torch.backends.mps.is_available())
