"""The parts in OpenVINO on a processor: converted once, kept on disk, compiled when they are first run."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgetam_model import config, model, nn, parts
from edgetam_model.errors import EdgeTAMError
from edgetam_model.hub import cache_dir, locked
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import example_inputs, runtime_parts
from edgetam_model.runtime.graphs import Graph, kept_single

BATCHES = (1,)  # one object keeps all cores busy; by fours ten took as long, and 1.7 GB in place of 1.1
KEPT_BYTES = 2 << 30  # of converted graphs on disk; a published-size set for one object takes 62 MB
LOCK_S = 600.0  # a conversion takes 5 to 30 s; the others wait for the process that makes it

_log = logging.getLogger(__name__)


class OpenVinoBackend:
    """Runs the parts on the processor.

    Args:
        model: fused, in eval mode, float32, on the CPU.
        bf16: bfloat16 but for the parts of `kept_single`.
        threads: to compute with; 0: as many as OpenVINO finds right for this machine.
        folder: for converted graphs, shared by all processes.
    """

    def __init__(
        self, model: EdgeTAM, *, bf16: bool = False, threads: int = 0, folder: Path | None = None
    ) -> None:
        import openvino

        self.config, self.bf16, self.threads = model.config, bf16, threads
        self.folder = folder or cache_dir() / "openvino"
        self._single = kept_single(model.config)
        self._weights = model.fingerprint()
        self._parts = runtime_parts(model)
        self._core = openvino.Core()
        self._requests: dict[Graph, Any] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """See `Backend`."""
        return f"OpenVINO, {'bf16' if self.bf16 else 'fp32'}"

    @property
    def batches(self) -> tuple[int, ...]:
        """See `Backend`."""
        return BATCHES

    @property
    def own_threads(self) -> bool:
        """See `Backend`."""
        return True

    @property
    def ready(self) -> tuple[Graph, ...]:
        """Graphs that were run already."""
        return tuple(self._requests)

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `Backend`. One run at a time: it takes all threads, and a second would wait for them anyway."""
        with self._lock:
            if graph not in self._requests:
                self._requests[graph] = self._prepared(graph)
            request = self._requests[graph]
            out = request.infer([one.numpy() for one in inputs], share_inputs=True)
            return [torch.from_numpy(out[index]) for index in range(len(out))]

    def _prepared(self, graph: Graph) -> Any:
        """A request of the compiled graph.

        Raises:
            EdgeTAMError: it cannot be made, or not be kept.
        """
        try:
            return self._compiled(graph)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            what = f"OpenVINO cannot prepare {graph.part} in {self.folder}: {reason}"
            raise EdgeTAMError(f"{what}; EDGETAM_RUNTIME=torch does without") from error

    def _compiled(self, graph: Graph) -> Any:
        path = self._converted(graph)
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 and graph.part not in self._single else "f32",
        }
        if self.threads:
            options["INFERENCE_NUM_THREADS"] = self.threads
        try:
            compiled = self._core.compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            _log.warning("%s is damaged and made anew: %s", path.name, str(error).splitlines()[0])
            path.unlink(missing_ok=True)
            compiled = self._core.compile_model(str(self._converted(graph)), "CPU", options)
        return compiled.create_infer_request()

    def _converted(self, graph: Graph) -> Path:
        """The graph's file, made unless it is there; processes that start together make it once."""
        digest = hashlib.sha256(f"{self._weights} {graph.name} {_code()}".encode()).hexdigest()[:32]
        path = self.folder / f"{graph.part}-{digest}.xml"
        if not path.exists():
            with locked(path.with_suffix(".lock"), LOCK_S):
                if not path.exists():
                    _log.info("preparing %s for OpenVINO, once", graph.name)
                    self._convert(graph, path)
                    shrink(self.folder, KEPT_BYTES)
        path.touch()
        return path

    def _convert(self, graph: Graph, path: Path) -> None:
        """Through the frontend itself: the converter above it reports its use to its maker."""
        import openvino

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of newer versions and deprecations inside both libraries
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

            spec = graph.spec(self.config)
            program = torch.export.export(self._parts[graph.part], example_inputs(spec))
            whole = program.run_decompositions(_kept_whole()).module()
            decoder = TorchFXPythonDecoder(whole, dynamic_shapes=False)
            frontend = FrontEndManager().load_by_framework("pytorch")
            made = frontend.convert(frontend.load(decoder))
            made.reshape({place: list(one.shape) for place, one in enumerate(spec.inputs)})
        part = path.with_suffix(f".{os.getpid()}.xml")
        openvino.save_model(made, str(part), compress_to_fp16=False)
        part.with_suffix(".bin").replace(path.with_suffix(".bin"))
        part.replace(path)


def _kept_whole() -> Any:
    """Decompositions but of what OpenVINO computes in one step: attention, normalisation, resizing."""
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export.decomp_utils import CustomDecompTable

    table = CustomDecompTable()
    for operation in ops_to_not_decompose():
        if operation in table:
            table.pop(operation)
    return table


def _code() -> str:
    """What a converted graph depends on besides weights: the code that it was made from, and by what."""
    import openvino

    digest = hashlib.sha256(f"{openvino.get_version()} {torch.__version__}".encode())
    folders = [Path(str(one.__file__)).parent for one in (nn, parts)]
    modules = [Path(__file__), *(Path(str(one.__file__)) for one in (config, model))]
    for file in [*modules, *sorted(f for folder in folders for f in folder.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def shrink(folder: Path, limit: int) -> None:
    """Remove the graphs that were used longest ago, above so many bytes in all."""
    kept = 0
    for path in sorted(folder.glob("*.xml"), key=lambda one: one.stat().st_mtime, reverse=True):
        weights = path.with_suffix(".bin")
        kept += path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)
        if kept > limit:
            path.unlink(missing_ok=True)
            weights.unlink(missing_ok=True)
