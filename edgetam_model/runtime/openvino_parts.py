"""The parts in OpenVINO on a processor: converted once, kept on disk, compiled when they are first run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetam_model.hub import cache_dir
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import example_inputs, runtime_parts
from edgetam_model.parts.specs import IMAGE_ENCODER, MEMORY_ENCODER
from edgetam_model.runtime import openvino_forms
from edgetam_model.runtime.buffers import Buffers
from edgetam_model.runtime.graph_store import GraphStore, code_hash
from edgetam_model.runtime.graphs import Graph, kept_single
from edgetam_model.runtime.openvino_forms import approximate_gelu, spell_out_attention

BATCHES = (1,)  # one object keeps all cores busy; by fours ten took as long, and 1.7 GB in place of 1.1


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
        self._single = kept_single(model.config)
        self._parts = runtime_parts(model)
        made_by = [Path(__file__), Path(openvino_forms.__file__)]
        marks = f"{model.fingerprint()} {code_hash([openvino.get_version()], made_by)}"
        self._store = GraphStore("OpenVINO", folder or cache_dir() / "openvino", ".xml", marks)
        self._core = openvino.Core()
        self._buffers = Buffers()
        self._requests: dict[Graph, _Request] = {}
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
                load = partial(self._compiled, graph)
                self._requests[graph] = self._store.prepared(graph, self._convert, load)
            outputs = [self._buffers.lend(one.shape) for one in graph.spec(self.config).outputs]
            self._requests[graph].run(inputs, outputs)
        return [torch.from_numpy(one) for one in outputs]

    def _compiled(self, graph: Graph, path: Path) -> _Request:
        """What runs the graph in that file."""
        half = self.bf16 and graph.part not in self._single
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        }
        if self.threads:
            options["INFERENCE_NUM_THREADS"] = self.threads
        model = self._core.read_model(str(path))
        if half and graph.part in (IMAGE_ENCODER, MEMORY_ENCODER):
            approximate_gelu(model)
        return _Request(self._core.compile_model(model, "CPU", options).create_infer_request())

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
            spell_out_attention(made)
        openvino.save_model(made, str(path), compress_to_fp16=False)


class _Request:
    """A compiled graph and its own memory."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[NDArray[np.float32]]) -> None:
        """Write the outputs, in the order of the graph's spec."""
        from openvino import Tensor as Shared

        for place, one in enumerate(outputs):
            self._request.set_output_tensor(place, Shared(one, shared_memory=True))
        # Given as a list, they are looked through for 0.15 ms.
        given = dict(enumerate(one.numpy() for one in inputs))
        self._request.infer(given, share_inputs=True, share_outputs=True)


def _kept_whole() -> Any:
    """Decompositions but of what OpenVINO computes in one step: attention, normalisation, resizing."""
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export.decomp_utils import CustomDecompTable

    table = CustomDecompTable()
    for operation in ops_to_not_decompose():
        if operation in table:
            table.pop(operation)
    return table
