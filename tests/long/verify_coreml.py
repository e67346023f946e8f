"""Core ML packages proved over a longer clip: `python -m tests.long.verify_coreml`, some minutes.

Without arguments the weights that ship at float16 over 100 frames; `--config edgetam --frames 0` is the
published size with random weights, its parts alone. Prints sizes, the errors of every part and mask IoU
against PyTorch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from edgetam_model.export.coreml import PRECISIONS, CoremlOptions, export_coreml
from edgetam_model.export.verify import verify
from tests.long.parts_errors import model_named


def main(config: str, precision: str, frames: int) -> None:
    model = model_named(config)
    with tempfile.TemporaryDirectory() as folder:
        options = CoremlOptions(precision)  # type: ignore[arg-type]
        manifest = export_coreml(model, Path(folder), options)
        sizes = {one.name: one.bytes / 1e6 for one in manifest.files}
        print(json.dumps({"config": config, "precision": precision, "MB": sizes}), flush=True)  # noqa: T201
        found = verify(folder, model, frames)
    for name, part in found.parts.items():
        print(f"{name:20} {max(part.errors.values()):.1e}, {part.weights.numbers} weights")  # noqa: T201
    ious = None if found.clip is None else {"least": found.clip.least_iou, "mean": found.clip.mean_iou}
    print(json.dumps({"frames": frames, "MB": sum(sizes.values()), "iou": ious}))  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="default")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16")
    parser.add_argument("--frames", type=int, default=100)
    typed = parser.parse_args()
    main(typed.config, typed.precision, typed.frames)
