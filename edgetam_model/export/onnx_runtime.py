"""Exported parts run by ONNX Runtime. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.export.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntime:
    """A `Runtime` over a folder that `export_onnx` wrote; graphs are loaded when first asked for.

    Args:
        folder: with `manifest.json`; every file is checked against its hash.
        threads: per graph; 0: as many as the machine has cores.

    Raises:
        InputError: onnxruntime is not installed.
        WeightsError: the folder holds no whole export of this kind.
    """

    def __init__(self, folder: Path | str, threads: int = 0) -> None:
        self.folder = Path(folder)
        self.threads = threads
        self.manifest: Manifest = read_manifest(self.folder)
        if self.manifest.kind != "onnx":
            raise WeightsError(
                f"{self.folder.name} holds parts for {self.manifest.kind}, not for ONNX Runtime"
            )
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name; see `host.Runtime`."""
        session = self._sessions.get(part)
        if session is None:
            session = self._sessions[part] = self._load(part)
        names = [one.name for one in self.manifest.file(part).outputs]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def _load(self, part: str) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "onnxruntime", "is not installed: pip install edgetam-labeling[export]"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors; warnings are about constants that it folds itself
        path = self.folder / self.manifest.file(part).path
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
