"""The parts in Core ML: packages converted once, kept on disk, and run by macOS."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model import config, model, nn, parts
from edgetam_model.errors import EdgeTAMError
from edgetam_model.hub import cache_dir, locked
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import runtime_parts
from edgetam_model.parts.specs import FEW_CONDITIONING, PartSpec, Slots
from edgetam_model.runtime.graphs import Graph
from edgetam_model.runtime.static_parts import FEW_PROMPTS

BATCHES = (1,)  # as in the packages that are exported, which are verified number by number
USUAL = Slots(objects=1, conditioning=FEW_CONDITIONING, prompts=FEW_PROMPTS)  # what most frames take
KEPT = 30  # packages on disk; a model takes five, and two more for many corrections and for many clicks
LOCK_S = 600.0  # a conversion takes 2 to 15 s; the others wait for the process that makes it
# Share of an output's largest value by which its numbers may miss PyTorch's. Evaluated operation by operation
# packages miss them by 6e-7 in float32, and by 5e-3 in float16.
NEAR = {False: 1e-3, True: 3e-2}

Arrays = Mapping[str, NDArray[Any]]
Predict = Callable[[Arrays], Arrays]

_log = logging.getLogger(__name__)


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
        self.folder = folder or cache_dir() / "coreml"
        self._weights = model.fingerprint()
        self._parts = runtime_parts(model)
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
        given = {one.name: value.numpy() for one, value in zip(spec.inputs, inputs, strict=True)}
        with self._lock:
            if graph not in self._ready:
                self._ready[graph] = self._prepared(graph)
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

    def _prepared(self, graph: Graph) -> Predict:
        """The graph's package, loaded; one that was damaged is made anew.

        Raises:
            EdgeTAMError: it cannot be made, kept or loaded.
        """
        try:
            path = self._package(graph)
            try:
                return self._load(path)
            except (OSError, RuntimeError, EdgeTAMError) as error:
                _log.warning("%s cannot be loaded and is made anew: %s", path.name, error)
                shutil.rmtree(path, ignore_errors=True)
                return self._load(self._package(graph))
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            what = f"Core ML cannot prepare {graph.part} in {self.folder}: {reason}"
            raise EdgeTAMError(f"{what}; EDGETAM_RUNTIME=torch does without") from error

    def _package(self, graph: Graph) -> Path:
        """The graph's package, made unless it is there; processes that start together make it once."""
        marks = f"{self._weights} {graph.name} {self.half} {_code()}"
        digest = hashlib.sha256(marks.encode()).hexdigest()[:32]
        path = self.folder / f"{graph.part}-{digest}.mlpackage"
        if not path.exists():
            with locked(path.with_suffix(".lock"), LOCK_S):
                if not path.exists():
                    _log.info("preparing %s for Core ML, once", graph.name)
                    self._convert(graph, path)
                    shrink(self.folder, KEPT)
        path.touch()
        return path

    def _convert(self, graph: Graph, path: Path) -> None:
        """Beside its place first: a process that is ended midway leaves nothing that looks whole."""
        from edgetam_model.export.coreml import CoremlOptions, converted, save
        from edgetam_model.export.quiet import quiet

        half = path.with_name(f"{path.stem}.part.mlpackage")
        options = CoremlOptions("fp16" if self.half else "fp32")
        with quiet(bars=True):
            save(converted(self._parts[graph.part], graph.spec(self.config), options), half)
        half.rename(path)


def made_up(spec: PartSpec) -> list[Tensor]:
    """Numbers of a part's inputs that every slot counts with, the same each time."""
    random = torch.Generator().manual_seed(0)
    return [
        torch.rand(one.shape, generator=random)
        if one.kind == "float32"
        else torch.ones(one.shape, dtype=torch.int32)
        for one in spec.inputs
    ]


def shrink(folder: Path, kept: int) -> None:
    """Remove the packages that were used longest ago, above so many."""
    packages = sorted(folder.glob("*.mlpackage"), key=lambda one: one.stat().st_mtime, reverse=True)
    for path in packages[kept:]:
        shutil.rmtree(path, ignore_errors=True)


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
    """What a package depends on besides weights: the code that it was made from, and by what."""
    import coremltools

    from edgetam_model import export

    digest = hashlib.sha256(f"{coremltools.__version__} {torch.__version__}".encode())
    folders = [Path(str(one.__file__)).parent for one in (nn, parts)]
    made_by = Path(str(export.__file__)).parent.glob("coreml*.py")
    modules = [Path(__file__), *(Path(str(one.__file__)) for one in (config, model)), *sorted(made_by)]
    for file in [*modules, *sorted(f for folder in folders for f in folder.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
