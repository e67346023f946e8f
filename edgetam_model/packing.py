"""Tensors as bytes: safetensors with a JSON header and a checksum, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from edgetam_model.errors import InputError

DIGEST_BYTES = hashlib.sha256().digest_size

Tensors = dict[str, Tensor]


def seal(kind: str, header: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Tensors and a header that is JSON as bytes; the entry that holds the header is called `kind`."""
    text = json.dumps(header).encode()
    blob: bytes = safetensors.torch.save(tensors | {kind: byte_tensor(text)})
    return blob + hashlib.sha256(blob).digest()


def unseal(kind: str, blob: bytes) -> tuple[dict[str, Any], Tensors]:
    """The inverse of `seal`.

    Raises:
        InputError: damaged bytes, or of another kind; `kind` is the field.
    """
    body, digest = blob[:-DIGEST_BYTES], blob[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise InputError(kind, "damaged: the checksum does not match")
    try:
        tensors: Tensors = safetensors.torch.load(body)
        header = json.loads(tensors.pop(kind).numpy().tobytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(kind, f"not the bytes of a {kind}") from error
    if not isinstance(header, dict):
        raise InputError(kind, f"not the bytes of a {kind}")
    return header, tensors


def byte_tensor(data: bytes) -> Tensor:
    """(N,) uint8."""
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())
