"""The parts in Core ML: packages converted once, kept on disk, and run by macOS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.errors import EdgeTAMError
from edgetam_model.hub import cache_dir
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import DTYPES, runtime_parts
from edgetam_model.parts.specs import FEW_CONDITIONING, Kind, PartSpec, Slots, TensorSpec
from edgetam_model.runtime.graph_store import GraphStore, code_hash
from edgetam_model.runtime.graphs import Graph
from edgetam_model.runtime.static_parts import FEW_PROMPTS

BATCHES = (1,)  # as in the packages that are exported, which are verified number by number
USUAL = Slots(objects=1, conditioning=FEW_CONDITIONING, prompts=FEW_PROMPTS)  # what most frames take
# Share of an output's largest value by which its numbers may miss PyTorch's. Evaluated operation by operation
# packages miss them by 6e-7 in float32, and by 5e-3 in float16.
NEAR = {False: 1e-3, True: 3e-2}

Arrays = Mapping[str, NDArray[Any]]
Predict = Callable[[Arrays], Arrays]


def predictor(package: Path) -> Predict:
    """What macOS makes of a package, on whatever units it finds best. Only there.

    Raises:
        RuntimeError, OSError: it cannot be loaded.
    """
    import coremltools as ct

    loaded = ct.models.MLModel(str(package), compute_units=ct.ComputeUnit.ALL)
    predict: Predict = loaded.predict
    return predict


class CoremlBackend:
    """Runs the parts by Core ML.

    Args:
        model: fused, in eval mode, float32, on the CPU.
        half: float16 but for the arithmetic that it cannot hold, see `export.coreml_precision`.
        folder: for packages, shared by all processes.
        load: makes a package something that predicts: names and arrays in, names and arrays out; None: macOS.
    """

    def __init__(
        self,
        model: EdgeTAM,
        *,
        half: bool = False,
        folder: Path | None = None,
        load: Callable[[Path], Predict] | None = None,
    ) -> None:
        self.config, self.half = model.config, half
        self._parts = runtime_parts(model)
        marks = f"{model.fingerprint()} {half} {_code()}"
        self._store = GraphStore("Core ML", folder or cache_dir() / "coreml", ".mlpackage", marks)
        self._load = load or predictor
        self._ready: dict[Graph, Predict] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """See `Backend`."""
        return f"Core ML, {'fp16' if self.half else 'fp32'}"

    @property
    def batches(self) -> tuple[int, ...]:
        """See `Backend`."""
        return BATCHES

    @property
    def own_threads(self) -> bool:
        """See `Backend`."""
        return True

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Backend`. One run at a time: a second would wait for the same units."""
        spec = graph.spec(self.config)
        given = {
            one.name: value.numpy().astype(kind_of(one), copy=False)
            for one, value in zip(spec.inputs, inputs, strict=True)
        }
        with self._lock:
            if graph not in self._ready:
                self._ready[graph] = self._store.prepared(graph, self._convert, self._load)
            out = self._ready[graph](given)
        return [_tensor(out, graph, one.name, one.shape) for one in spec.outputs]

    def prove(self) -> None:
        """Run every part once on made-up inputs, and compare with PyTorch.

        Raises:
            EdgeTAMError: a part cannot be prepared, or its numbers are others.
        """
        for name, part in self._parts.items():
            graph = Graph(name, USUAL)
            spec = graph.spec(self.config)
            given = made_up(spec)
            with torch.inference_mode():
                found, wanted = self.run(graph, given), part(*given)
            for one, got, right in zip(spec.outputs, found, wanted, strict=True):
                off = float((got - right).abs().max() / right.abs().max().clamp(min=1e-6))
                if not off <= NEAR[self.half]:  # not a number neither
                    raise EdgeTAMError(f"Core ML computes {one.name} of {name} {off:.1e} away from PyTorch")

    def _convert(self, graph: Graph, path: Path) -> None:
        from edgetam_model.export.coreml import CoremlOptions, converted, save
        from edgetam_model.export.quiet import quiet

        options, spec = CoremlOptions("fp16" if self.half else "fp32"), graph.spec(self.config)
        spec = replace(spec, inputs=tuple(replace(one, kind=kind_of(one)) for one in spec.inputs))
        with quiet(bars=True):
            save(converted(self._parts[graph.part], spec, options), path)


def kind_of(tensor: TensorSpec) -> Kind:
    """The type that a package takes it in: Core ML knows no bytes."""
    return "float32" if tensor.kind == "uint8" else tensor.kind


def made_up(spec: PartSpec) -> list[Tensor]:
    """Numbers of a part's inputs that every slot counts with, the same each time."""
    random = torch.Generator().manual_seed(0)
    return [
        torch.rand(one.shape, generator=random)
        if one.kind == "float32"
        else torch.ones(one.shape, dtype=DTYPES[one.kind])
        for one in spec.inputs
    ]


def _tensor(out: Arrays, graph: Graph, name: str, shape: tuple[int, ...]) -> Tensor:
    """One output as its spec says.

    Raises:
        EdgeTAMError: it is not there, or has another shape.
    """
    value = out.get(name)
    if value is None or tuple(np.shape(value)) != shape:
        got = "nothing" if value is None else f"shape {np.shape(value)}"
        raise EdgeTAMError(f"Core ML: expected {name} of {graph.part} with shape {shape}, got {got}")
    return torch.from_numpy(np.array(value, np.float32))


def _code() -> str:
    from edgetam_model import export

    converters = sorted(Path(str(export.__file__)).parent.glob("coreml*.py"))
    return code_hash([f"coremltools {version('coremltools')}"], [Path(__file__), *converters])
