"""Run by the Python of Label Studio's own environment: answers questions about label-studio-sdk, a line each.

A line in is JSON, `{"ask": name, …}`; a line out is the JSON of the answer. Imports nothing of ours.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from label_studio_sdk._extensions.label_studio_tools.postprocessing.video import extract_key_frames
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import PredictionValue

_interface = cache(LabelInterface)


def told_version(_asked: dict[str, Any]) -> str:
    """Of the SDK."""
    return version("label-studio-sdk")


def packed(asked: dict[str, Any]) -> list[int]:
    """The brush RLE of a mask: `bits`, packed row by row, of `shape`."""
    height, width = asked["shape"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(asked["bits"]), np.uint8), count=height * width)
    return [int(byte) for byte in brush.mask2rle(bits.reshape(height, width) * 255)]


def unpacked(asked: dict[str, Any]) -> str:
    """The alpha of a brush RLE, packed to bits."""
    return base64.b64encode(np.packbits(brush.decode_rle(asked["rle"])[3::4] > 0).tobytes()).decode()


def problems(asked: dict[str, Any]) -> list[str]:
    """What is wrong with a `prediction` for a labeling `config`."""
    found = _interface(asked["config"]).validate_prediction(asked["prediction"], return_errors=True)
    try:
        PredictionValue(**asked["prediction"])
    except ValueError as error:
        found = [*found, str(error)]
    return list(found)


def frames(asked: dict[str, Any]) -> list[Any]:
    """The keyframes of a video `region` and the frames that an export puts between them."""
    (region,) = extract_key_frames([asked["region"]])
    return list(region["value"]["sequence"])


_ANSWERS = {f.__name__: f for f in (told_version, packed, unpacked, problems, frames)}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the SDK prints goes to the log
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(_ANSWERS[asked["ask"]](asked)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
