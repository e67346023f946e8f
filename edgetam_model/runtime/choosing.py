"""Which backend computes a model: named, or the best that this machine has."""

from __future__ import annotations

import logging
import os
import platform
import threading
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args
from weakref import WeakKeyDictionary

import torch

from edgetam_model.errors import EdgeTAMError, InputError
from edgetam_model.model import EdgeTAM
from edgetam_model.options import Quality, check_quality
from edgetam_model.runtime.graphs import Backend
from edgetam_model.runtime.quality import FAST_SIDE, fast, resized
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.runtime.torch_parts import TorchBackend

if TYPE_CHECKING:
    from edgetam_model.runtime.coreml_parts import CoremlBackend

Runtime = Literal["auto", "torch", "compiled", "openvino", "coreml"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
RUNTIME_VARIABLE, PRECISION_VARIABLE = "EDGETAM_RUNTIME", "EDGETAM_PRECISION"
THREADS_VARIABLE, QUALITY_VARIABLE = "EDGETAM_THREADS", "EDGETAM_QUALITY"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeOptions:
    """Who computes, and how.

    Attributes:
        runtime: "torch" as the modules are, "compiled" by PyTorch, "openvino" on a processor, "coreml" on
            macOS; "auto", for a model on the CPU: Core ML on macOS where coremltools is installed and its
            numbers are PyTorch's, else OpenVINO where it is installed; else "torch".
        precision: "fp32" keeps every mask; "bf16" computes some parts in bfloat16, where the processor
            has units for it; "fp16" is Core ML's alone; "auto": fp32.
        threads: for OpenVINO; 0: one for each core.
        quality: "exact", or "fast": a published-size model sees half as many pixels each way, see `quality`.

    Raises:
        InputError: no such value, with the field at fault.
    """

    runtime: Runtime = "auto"
    precision: Precision = "auto"
    threads: int = 0
    quality: Quality = "exact"

    def __post_init__(self) -> None:
        check_quality(self.quality)
        choices = (("runtime", Runtime), ("precision", Precision))
        for name, known in ((name, get_args(choice)) for name, choice in choices):
            if getattr(self, name) not in known:
                raise InputError(name, f"expected one of {', '.join(known)}, got {getattr(self, name)!r:.40}")
        if self.threads < 0:
            raise InputError("threads", f"expected 0 or more, got {self.threads}")

    @classmethod
    def from_environment(cls) -> RuntimeOptions:
        """What EDGETAM_RUNTIME, _PRECISION, _THREADS (else OMP_NUM_THREADS) and _QUALITY say.

        Raises:
            InputError: a value that is not known, named by its variable.
        """
        own = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # by levels, of which the first counts
        threads = os.environ.get(THREADS_VARIABLE) or (own if own.isdecimal() else "0")
        if not threads.isdecimal():
            raise InputError(THREADS_VARIABLE, f"expected a number of threads, got {threads!r:.40}")
        runtime, precision = (
            os.environ.get(name) or "auto" for name in (RUNTIME_VARIABLE, PRECISION_VARIABLE)
        )
        quality = os.environ.get(QUALITY_VARIABLE) or "exact"
        return cls(runtime, precision, int(threads), quality)  # type: ignore[arg-type]  # checked as it is made


def accelerate(model: EdgeTAM, options: RuntimeOptions | None = None) -> EdgeTAM:
    """Fuse a model and choose who computes it; it stays the same for everyone who uses it.

    Args:
        model: from `load_model`.
        options: None: what the environment says, see `RuntimeOptions.from_environment`.

    Returns:
        The same model, changed in place; another one of the same weights where `quality` asks for it.

    Raises:
        InputError: a backend that this machine does not have, or that cannot run this model.
    """
    options = options or RuntimeOptions.from_environment()
    side = model.config.image_size
    if options.quality == "fast":
        model = fast(model)
    if not model.fused:
        model.fuse()
    _computed(model, options)
    with _lock:
        _accelerated[model] = _Accelerated(options, side)
    return model


def in_quality(model: EdgeTAM, quality: Quality | None) -> EdgeTAM:
    """The model as one request wants it: itself, or a twin on larger or smaller pictures.

    A twin is made when it is first asked for, shares the weights, is computed in the same way, and stays as
    long as the model.

    Args:
        model: as it is used, after `accelerate` or without.
        quality: None: as it is.

    Raises:
        InputError: `quality`, not known, or the weights have no fast mode.
    """
    check_quality(quality)
    if quality is None:
        return model
    with _lock:
        known = _accelerated.setdefault(model, _Accelerated(None, model.config.image_size))
        if quality == "fast" and known.side <= FAST_SIDE:
            reason = f"these weights have no fast mode, they see no more than {known.side} pixels already"
            raise InputError("quality", f"expected exact: {reason}")
        side = FAST_SIDE if quality == "fast" else known.side
        if side == model.config.image_size:
            return model
        if side not in known.twins:
            twin = resized(model, side)
            known.twins[side] = _computed(twin, known.options) if known.options else twin
        return known.twins[side]


@dataclass
class _Accelerated:
    """How a model was asked to be computed, on how many pixels its weights were made to, and its twins."""

    options: RuntimeOptions | None
    side: int
    twins: dict[int, EdgeTAM] = field(default_factory=dict)


_accelerated: WeakKeyDictionary[EdgeTAM, _Accelerated] = WeakKeyDictionary()
_lock = threading.Lock()


def _computed(model: EdgeTAM, options: RuntimeOptions) -> EdgeTAM:
    """`accelerate` but for the quality."""
    backend = _best(model, options) if options.runtime == "auto" else _named(options.runtime, model, options)
    model.runtime = None if backend is None else StaticParts(model, backend)
    _log.info("computed by %s", f"PyTorch, fp32, {model.device}" if backend is None else backend.name)
    return model


def _best(model: EdgeTAM, options: RuntimeOptions) -> Backend | None:
    """See `RuntimeOptions.runtime`; None: PyTorch as it is."""
    if model.device.type == "cpu" and has_coreml() and options.precision != "bf16":
        try:
            backend = _coreml(model, options)
            backend.prove()
        except EdgeTAMError as error:
            _log.warning("Core ML is not used: %s", error)
        else:
            return backend
    kind: Runtime = "openvino" if model.device.type == "cpu" and has_openvino() else "torch"
    return _named(kind, model, options)


def _named(kind: Runtime, model: EdgeTAM, options: RuntimeOptions) -> Backend | None:
    """None: PyTorch as it is."""
    known = {"torch": ("fp32",), "coreml": ("fp32", "fp16")}.get(kind, ("fp32", "bf16"))
    if options.precision not in ("auto", *known):
        expected = " or ".join(known)
        raise InputError("precision", f"expected {expected} with the runtime {kind}, got {options.precision}")
    if kind == "torch":
        return None
    if model.dtype != torch.float32:
        raise InputError("runtime", f"expected a model in float32, got {model.dtype}")
    if kind == "compiled":
        return TorchBackend(model, compiled=True, bf16=options.precision == "bf16")
    if model.device.type != "cpu":
        raise InputError("runtime", f"expected a model on the CPU for {kind}, got {model.device}")
    return _coreml(model, options) if kind == "coreml" else _openvino(model, options)


def _openvino(model: EdgeTAM, options: RuntimeOptions) -> Backend:
    if not has_openvino():
        raise InputError("runtime", 'openvino is not installed: pip install "edgetam-labeling[fast]"')
    bf16 = options.precision == "bf16"
    if bf16 and not has_bf16_units():
        raise InputError("precision", "this processor has no units for bf16, expected fp32")
    from edgetam_model.runtime.openvino_parts import OpenVinoBackend

    return OpenVinoBackend(model, bf16=bf16, threads=options.threads)


def _coreml(model: EdgeTAM, options: RuntimeOptions) -> CoremlBackend:
    if not has_coreml():
        if platform.system() == "Darwin":
            raise InputError(
                "runtime", 'coremltools is not installed: pip install "edgetam-labeling[export]"'
            )
        problem = f"Core ML computes on macOS alone, and this is {platform.system()}"
        raise InputError("runtime", f"expected auto, torch, compiled or openvino: {problem}")
    from edgetam_model.runtime.coreml_parts import CoremlBackend

    return CoremlBackend(model, half=options.precision == "fp16")


def has_coreml() -> bool:
    """Whether this is macOS, with coremltools."""
    return platform.system() == "Darwin" and find_spec("coremltools") is not None


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


@cache
def has_bf16_units() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor without emulating it."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
