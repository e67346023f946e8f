"""Proves saved Core ML packages without Core ML: hashes, weights, every part's outputs, and a video.

The evaluator is NumPy and shares no kernel with PyTorch. What it proves is the graph, the weights and what
float16 and quantisation cost; Apple's own arithmetic shows on Apple's devices alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgetam_model.demo_clip import DemoScene
from edgetam_model.errors import WeightsError
from edgetam_model.export.host import HostTracker
from edgetam_model.export.manifest import Manifest, PartFile
from edgetam_model.export.mil_evaluator import PackageRuntime
from edgetam_model.export.verify_weights import WeightsChecked, check_weights
from edgetam_model.masks import Mask, mask_box, mask_iou
from edgetam_model.model import STABILITY_DELTA, STABILITY_THRESHOLD, EdgeTAM
from edgetam_model.parts.making import make_parts
from edgetam_model.parts.specs import MASK_DECODER, PartSpec, TensorSpec
from edgetam_model.prompts import Prompt
from edgetam_model.video_tracker import VideoTracker

# Root mean square error over the outputs' own, above which a package is not the model.
TOLERANCE: Mapping[str, float] = MappingProxyType(
    {"fp32": 1e-4, "fp16": 0.02, "int8": 0.08, "palette6": 0.15, "palette4": 0.6}
)
EXACT = ("fp32", "fp16")
ENOUGH_IOU = 0.99  # of the clip's masks on average, at the precisions above
CALLS = (0.0, 1.0, None)  # of every part, with inputs of their own: gates all 0, all 1, and mixed
CHOSEN = ("logits", "iou", "pointer")  # outputs that depend on the choice of a mask
SIZE, WHOLE = (320, 180), 100  # of the clip: its frames, and how many of them the whole scene has

Tell = Callable[[str], None]


@dataclass(frozen=True)
class PartChecked:
    """One part.

    Attributes:
        errors: root mean square error over the output's own, by output.
        weights: how they compare.
    """

    errors: Mapping[str, float]
    weights: WeightsChecked


@dataclass(frozen=True)
class Verified:
    """What came out.

    Attributes:
        precision: of the export.
        parts: by name of the file.
        ious: of each object's mask on each tracked frame against PyTorch's in float32; where neither sees
            the object, 1.
        seen: of these masks, those where PyTorch sees the object.
    """

    precision: str
    parts: Mapping[str, PartChecked]
    ious: tuple[float, ...]
    seen: int

    @property
    def mean_iou(self) -> float:
        """Over all masks of the clip."""
        return sum(self.ious) / len(self.ious)

    @property
    def least_iou(self) -> float:
        """Of the worst mask."""
        return min(self.ious)

    @property
    def good(self) -> bool:
        """Whether the masks of the clip are the model's; what fewer bits cost is no error."""
        return self.precision not in EXACT or self.mean_iou >= ENOUGH_IOU


def verify(folder: Path | str, model: EdgeTAM, frames: int = 3, tell: Tell = lambda _: None) -> Verified:
    """Check an export against the model that it is of.

    Args:
        folder: that `export_coreml` wrote.
        model: in eval mode and float32, on the CPU.
        frames: of the clip.
        tell: told what is being done.

    Raises:
        InputError: coremltools is not installed.
        WeightsError: a file is damaged, an operation unknown, the weights are another model's, or an error
            is beyond its tolerance.
    """
    runtime = PackageRuntime(folder)
    manifest = runtime.manifest
    if manifest.weights.fingerprint != model.fingerprint():
        raise WeightsError(f"the export is of {manifest.weights.name}, and these weights are others")
    parts, checked = make_parts(copy.deepcopy(model).fuse()), dict[str, PartChecked]()
    for file in manifest.files:
        tell(file.name)
        weights = check_weights(runtime.part(file.name).program, parts[file.part], _spec(file))
        checked[file.name] = PartChecked(_errors(runtime, file, parts[file.part], manifest), weights)
    tell("video")
    pairs = _rolled(runtime, model, frames)
    ious = tuple(mask_iou(found, wanted) for found, wanted in pairs)
    seen = sum(bool(wanted.any()) for _, wanted in pairs)
    return Verified(manifest.precision, MappingProxyType(checked), ious, seen)


def seeded_inputs(
    file: PartFile, side: int, gates: float | None, random: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Likely values: ages and labels that there are, places within `side`, the rest normal.

    Gates are all 0 or all 1, or drawn where `gates` is None; there is always something to attend to.
    """
    made: dict[str, NDArray[Any]] = {}
    for one in file.inputs:
        value: NDArray[Any] = random.standard_normal(one.shape).astype(np.float32)
        if one.kind == "int32":
            value = random.integers(-2 if one.name == "labels" else 0, 4, one.shape).astype(np.int32)
        elif one.name == "pixels":
            value = random.integers(0, 256, one.shape).astype(np.float32)
        elif one.name == "points":
            value = random.uniform(0, side, one.shape).astype(np.float32)
        elif one.meaning.startswith("1: "):
            drawn = random.integers(0, 2, one.shape)
            value = np.full_like(value, gates) if gates is not None else drawn.astype(np.float32)
            if one.name == "memory_valid":
                value[..., 0] = 1
        elif one.name.endswith("place"):
            value = np.abs(value) + np.float32(0.1)
        made[one.name] = value
    return made


def _errors(
    runtime: PackageRuntime, file: PartFile, part: torch.nn.Module, manifest: Manifest
) -> Mapping[str, float]:
    """By output, over all calls."""
    random = np.random.default_rng(0)
    wrong: dict[str, float] = dict.fromkeys((one.name for one in file.outputs), 0.0)
    whole = dict(wrong)
    for gates in CALLS:
        inputs = seeded_inputs(file, manifest.sizes.image_size, gates, random)
        found = runtime.run(file.name, inputs)
        with torch.inference_mode():
            tensors = part(*(torch.from_numpy(inputs[one.name]) for one in file.inputs))
        wanted = {one.name: tensor.numpy() for one, tensor in zip(file.outputs, tensors, strict=True)}
        # Where two masks are as good as each other, either may be chosen; all of them are compared anyway.
        chance = CHOSEN if file.part == MASK_DECODER and _choice(found) != _choice(wanted) else ()
        for name, value in wanted.items():
            if name not in chance:
                wrong[name] += float(np.square(found[name] - value).sum())
                whole[name] += float(np.square(value).sum())
    errors = {name: (wrong[name] / max(whole[name], 1e-12)) ** 0.5 for name in wrong}
    allowed = TOLERANCE[manifest.precision]
    for name, error in errors.items():
        if not error <= allowed:  # not a number counts as wrong
            raise WeightsError(f"{file.name}: {name} is off by {error:.2g} of its size, allowed {allowed:g}")
    return MappingProxyType(errors)


def _choice(outputs: Mapping[str, NDArray[Any]]) -> tuple[int, bool]:
    """The best of masks 1 to 3, and whether mask 0 is stable."""
    first = outputs["candidates"][0, 0]
    inner, outer = int((first > STABILITY_DELTA).sum()), int((first > -STABILITY_DELTA).sum())
    stable = outer == 0 or inner / outer >= STABILITY_THRESHOLD
    return int(outputs["candidate_ious"][0, 1:].argmax()), stable


def _rolled(runtime: PackageRuntime, model: EdgeTAM, frames: int) -> list[tuple[Mask, Mask]]:
    """Masks of a clip as packages and model track it: one object from its box, one from its mask."""
    scene = DemoScene(max(frames, WHOLE), *SIZE)  # a whole trip in few frames would be too fast to follow
    pictures, truths = zip(*(scene.frame(index) for index in range(frames)), strict=True)
    tracks = []
    for tracker in (HostTracker(runtime, runtime.manifest), VideoTracker(model)):
        with tracker.open(list(pictures)) as session:
            for index, (object_id, mask) in enumerate(truths[0].items()):
                session.add_prompt(0, object_id, Prompt(mask=mask) if index else Prompt(box=mask_box(mask)))
            tracks.append(list(session.propagate()))
    return [
        (found.objects[object_id].mask, wanted.mask)
        for found, exact in zip(*tracks, strict=True)
        for object_id, wanted in exact.objects.items()
    ]


def _spec(file: PartFile) -> PartSpec:
    inputs, outputs = (
        tuple(TensorSpec(one.name, one.shape, one.meaning, one.kind) for one in tensors)
        for tensors in (file.inputs, file.outputs)
    )
    return PartSpec(file.part, inputs, outputs)
