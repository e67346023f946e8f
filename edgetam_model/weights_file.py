"""Weights as one file: our safetensors with the config inside, and the foreign layouts that are accepted.

Nothing here unpickles objects: a `.pt` goes through torch's tensors-only reader or is refused.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgetam_model import hub
from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.hf_layout import is_hf_layout, to_published
from edgetam_model.model import fingerprint

FORMAT = "edgetam-labeling"
FORMAT_VERSION = "1"
UNKNOWN_LICENCE = "unknown"
MAX_FILE_BYTES = 2**30  # the published model has 56 MB of numbers
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
MAX_CONFIG_NUMBER = 2**13  # the published config's largest is 2048; a forged one must not exhaust memory
# What torch.load was seen to raise on damaged files besides UnpicklingError; the set has no common root.
BROKEN_CHECKPOINT = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    EOFError,
    OSError,
    struct.error,
    zipfile.BadZipFile,
)
NAMES_SHOWN = 3  # of what is wrong; the count says the rest


@dataclass(frozen=True, eq=False)
class Weights:
    """What a weights file holds.

    Attributes:
        config: sizes of the model.
        state: entry name → tensor on the CPU, in the published layout.
        licence: SPDX identifier, or "unknown".
        source: where the weights come from, for people.
        trained: False for weights that nobody trained.
        fingerprint: SHA-256 over config and tensors; equal weights have equal fingerprints in any file.
    """

    config: EdgeTAMConfig
    state: dict[str, Tensor]
    licence: str
    source: str
    trained: bool
    fingerprint: str


def save_weights(
    path: Path | str,
    model_or_state: nn.Module | Mapping[str, Tensor],
    config: EdgeTAMConfig,
    *,
    licence: str = UNKNOWN_LICENCE,
    source: str = "",
    trained: bool = True,
) -> str:
    """Write weights as our safetensors, whole or not at all, and return their fingerprint.

    Raises:
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    own = {name: _own_copy(tensor) for name, tensor in state.items()}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "licence": licence,
        "source": source,
        "trained": "yes" if trained else "no",
        "fingerprint": fingerprint(config, own),
    }
    metadata["checksum"] = _checksum(metadata)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(own, beside, metadata)
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return metadata["fingerprint"]


def read_weights(path: Path | str) -> Weights:
    """Read a file of ours and check every byte of it.

    Raises:
        WeightsError: not a file of ours, damaged, or of a later format.
    """
    path = Path(path)
    metadata, state = _read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: safetensors without this product's config; import it first")
    return _ours(path, metadata, state)


def read_any(path: Path | str, config: EdgeTAMConfig) -> Weights:
    """Read weights in any accepted layout, as the published entries in float32 (ours: as stored).

    Accepted: our safetensors; the published `.pt`; safetensors in the published layout; transformers' layout.

    Args:
        path: the file; what it is decides its content, not its suffix.
        config: sizes for a file that does not carry them.

    Raises:
        WeightsError: no such file, another kind of file, or not this model's entries.
    """
    path = Path(path)
    if _is_torch_file(path):
        state = _read_torch(path)
    else:
        metadata, state = _read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return _ours(path, metadata, state)
    if is_hf_layout(state):
        state = to_published(state)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    published = hub.git_blob_hash(path) == hub.PUBLISHED.git_blob
    return Weights(
        config=config,
        state=state,
        licence=hub.PUBLISHED.licence if published else UNKNOWN_LICENCE,
        source=hub.PUBLISHED.source if published else path.name,
        trained=True,
        fingerprint=fingerprint(config, state),
    )


def check_entries(state: Mapping[str, Tensor], layout: Mapping[str, Tensor], where: str) -> None:
    """Hold a state dict against the model's own, of which only names, shapes and types matter.

    Raises:
        WeightsError: missing or extra entries, other shapes or types, values that are not finite: their count
            and the first few names.
    """
    shared = [name for name in layout if name in state]
    problems = {
        "missing": [name for name in layout if name not in state],
        "not of this model": [name for name in state if name not in layout],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(layout[name].shape)}"
            for name in shared
            if state[name].shape != layout[name].shape
        ],
        "of another type": [f"{n} ({state[n].dtype})" for n in shared if not _same_kind(state[n], layout[n])],
    }
    if not any(problems.values()):
        problems["not finite"] = [name for name in state if not torch.isfinite(state[name]).all()]
    told = [f"{len(names)} entries {what}: {_some(names)}" for what, names in problems.items() if names]
    if told:
        raise WeightsError(f"{where}: {'; '.join(told)}")


def _same_kind(tensor: Tensor, model: Tensor) -> bool:
    """Whether the model's entry can hold the tensor: floats of any usual width, everything else exactly."""
    return tensor.dtype in FLOATS if model.is_floating_point() else tensor.dtype == model.dtype


def _own_copy(tensor: Tensor) -> Tensor:
    """Contiguous and in memory of its own, as safetensors wants every tensor."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")


def _checksum(metadata: Mapping[str, str]) -> str:
    """SHA-256 over every other metadata value, the tensors' fingerprint among them."""
    rest = {key: value for key, value in metadata.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _ours(path: Path, metadata: dict[str, str], state: dict[str, Tensor]) -> Weights:
    """Weights from the parts of a file of ours, once they prove whole."""
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise WeightsError(f"{path}: format version {version!r}, this release reads {FORMAT_VERSION!r}")
    if metadata.get("checksum") != _checksum(metadata):
        raise WeightsError(f"{path}: damaged: its header does not match its checksum")
    config = _config(path, metadata.get("config", ""))
    if metadata.get("fingerprint") != fingerprint(config, state):
        raise WeightsError(f"{path}: damaged: its tensors do not match their fingerprint")
    return Weights(
        config=config,
        state=state,
        licence=metadata.get("licence", UNKNOWN_LICENCE),
        source=metadata.get("source", ""),
        trained=metadata.get("trained") == "yes",
        fingerprint=metadata["fingerprint"],
    )


def _config(path: Path, text: str) -> EdgeTAMConfig:
    """The config of a file of ours, every size of the right kind and plausible."""
    try:
        config = EdgeTAMConfig.from_dict(json.loads(text))
    except (InputError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"{path}: its config cannot be used: {error}") from error
    for (name, size), usual in zip(config.to_dict().items(), EdgeTAMConfig().to_dict().values(), strict=True):
        numbers = size if isinstance(size, tuple) else (size,)
        right = isinstance(size, tuple) == isinstance(usual, tuple) and np.size(size) == np.size(usual)
        kinds = (int, float) if isinstance(usual, float) else (bool,) if isinstance(usual, bool) else (int,)
        if not right or not all(type(n) in kinds and 0 <= n <= MAX_CONFIG_NUMBER for n in numbers):
            raise WeightsError(f"{path}: its config cannot be used: {name} is {size!r}")
    return config


def _is_torch_file(path: Path) -> bool:
    """Whether the file is a zip of torch.save; refuses what is neither that nor possibly safetensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: {size} bytes, more than the limit of {MAX_FILE_BYTES}")
    if start.startswith(b"\x80") and start[8:] != b"{":  # safetensors: the header's length, which may be any
        raise WeightsError(f"{path}: a bare pickle can run code and stays shut; expected safetensors or .pt")
    return start.startswith(b"PK\x03\x04")


def _read_torch(path: Path) -> dict[str, Tensor]:
    """State dict of a torch.save file, read by torch's tensors-only reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise WeightsError(f"{path}: unpacks to {unpacked} bytes, more than {MAX_FILE_BYTES}")
        content: Any = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = _first_line(error)
        raise WeightsError(f"{path}: holds more than tensors, so nothing of it was run: {reason}") from error
    except BROKEN_CHECKPOINT as error:
        raise WeightsError(f"{path}: not a PyTorch checkpoint: {_first_line(error)}") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(_is_entry(name, value) for name, value in state.items()):
        raise WeightsError(f'{path}: expected {{"model": entries}} or entries, names and plain tensors')
    numbers = sum(tensor.numel() for tensor in state.values())  # a small file can hold one number, expanded
    if numbers * 4 > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: {numbers} numbers, more than {MAX_FILE_BYTES // 4}")
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_entry(name: object, value: object) -> bool:
    """Whether it is a name and an ordinary dense tensor with its numbers at hand."""
    if not (isinstance(name, str) and isinstance(value, Tensor)):
        return False
    return value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: neither safetensors nor a PyTorch checkpoint: {error}") from error
