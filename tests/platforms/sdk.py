"""label-studio-sdk as an oracle, in a process of its own: it pins an older OpenCV and NumPy than ours."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_model.masks import Mask
from tests.platforms.processes import RUN, RUN_ID, stop

PROGRAM = Path(__file__).parent / "sdk_program.py"


@dataclass(frozen=True)
class Sdk:
    """The running SDK."""

    process: subprocess.Popen[bytes]

    @property
    def version(self) -> str:
        return str(self._ask("told_version"))

    def pack(self, mask: Mask) -> list[int]:
        """The brush RLE that it makes of a mask (H, W)."""
        bits = base64.b64encode(np.packbits(mask).tobytes()).decode()
        return list(self._ask("packed", bits=bits, shape=mask.shape))

    def unpack(self, rle: list[int], height: int, width: int) -> Mask:
        """The mask (H, W) that it reads from a brush RLE."""
        bits = np.frombuffer(base64.b64decode(self._ask("unpacked", rle=rle)), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)

    def problems(self, config: str, prediction: Mapping[str, Any]) -> list[str]:
        """What its types say against a prediction for a labeling config; nothing: it is valid."""
        return list(self._ask("problems", config=config, prediction=prediction))

    def frames(self, region: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The keyframes of a video region, ascending, and those that its export puts between them."""
        return list(self._ask("frames", region=region))

    def _ask(self, what: str, **more: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": what, **more}, allow_nan=False).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the SDK's process has ended: its log tells why"
        return json.loads(answer)


@contextmanager
def running_sdk(python: Path, log: Path) -> Iterator[Sdk]:
    """Run it until the block ends.

    Args:
        python: of an environment that holds the SDK.
        log: file for what it writes beside its answers.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, RUN: RUN_ID},
            start_new_session=True,
        )
        try:
            yield Sdk(process)
        finally:
            stop(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
