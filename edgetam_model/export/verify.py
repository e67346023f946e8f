"""Proves saved Core ML packages without Core ML: hashes, weights, every part's outputs, and a video.

The evaluator is NumPy and shares no kernel with PyTorch. What it proves is the graph, the weights and what
float16 and quantisation cost; Apple's own arithmetic shows on Apple's devices alone.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgetam_model.demo_clip import DemoScene
from edgetam_model.errors import InputError, WeightsError
from edgetam_model.export.coreml_precision import part_precision
from edgetam_model.export.host import HostTracker
from edgetam_model.export.manifest import PartFile
from edgetam_model.export.mil_evaluator import PackageRuntime
from edgetam_model.export.stored_weights import run_part, with_stored_weights
from edgetam_model.export.verify_weights import WeightsChecked, check_weights
from edgetam_model.masks import mask_box, mask_iou
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
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class PartChecked:
    """One part.

    Attributes:
        errors: of what the package computes against the model in float32: root mean square error over the
            output's own, by output.
        unexplained: the same against PyTorch with the package's own decompressed weights: what is left when
            fewer bits are taken as given. Of packages that are not compressed it is `errors`.
        weights: how they compare.
    """

    errors: Mapping[str, float]
    unexplained: Mapping[str, float]
    weights: WeightsChecked

    @property
    def worst(self) -> str:
        """The output with the largest error."""
        return max(self.errors, key=lambda name: self.errors[name])


@dataclass(frozen=True)
class ClipChecked:
    """The clip.

    Attributes:
        ious: of each object's mask on each tracked frame against PyTorch's in float32; where neither sees
            the object, 1.
        seen: of these masks, those where PyTorch sees the object.
    """

    ious: tuple[float, ...]
    seen: int

    @property
    def mean_iou(self) -> float:
        """Over all masks."""
        return sum(self.ious) / len(self.ious)

    @property
    def least_iou(self) -> float:
        """Of the worst mask."""
        return min(self.ious)


@dataclass(frozen=True)
class Verified:
    """What came out.

    Attributes:
        precision: of the export.
        parts: by name of the file.
        clip: None where no frame was tracked.
    """

    precision: str
    parts: Mapping[str, PartChecked]
    clip: ClipChecked | None

    @property
    def good(self) -> bool:
        """Whether the masks of the clip are the model's; what fewer bits cost is no error."""
        return self.precision not in EXACT or self.clip is None or self.clip.mean_iou >= ENOUGH_IOU


def verify(folder: Path | str, model: EdgeTAM, frames: int = 3, tell: Tell = lambda _: None) -> Verified:
    """Check an export against the model that it is of.

    Args:
        folder: that `export_coreml` wrote.
        model: in eval mode and float32, on the CPU.
        frames: of the clip; 0: the parts alone.
        tell: told what is being done.

    Raises:
        InputError: coremltools is not installed, or a clip of one frame.
        WeightsError: a file is damaged, an operation unknown, the weights are another model's, or an error
            is beyond its tolerance.
    """
    check_frames(frames)
    runtime = PackageRuntime(folder)
    manifest = runtime.manifest
    if manifest.weights.fingerprint != model.fingerprint():
        raise WeightsError(f"the export is of {manifest.weights.name}, and these weights are others")
    parts, checked = make_parts(copy.deepcopy(model).fuse()), dict[str, PartChecked]()
    for file in manifest.files:
        tell(file.name)
        checked[file.name] = _part_checked(runtime, file, parts[file.part])
    clip = None
    if frames:
        tell("video")
        clip = _clip_checked(runtime, model, frames)
    return Verified(manifest.precision, MappingProxyType(checked), clip)


def check_frames(frames: int) -> None:
    """Raise unless a clip can be as long.

    Raises:
        InputError: negative, or 1.
    """
    if frames < 0 or frames == 1:
        raise InputError("frames", f"expected 0 (the parts alone) or at least 2, got {frames}")


def _part_checked(runtime: PackageRuntime, file: PartFile, part: nn.Module) -> PartChecked:
    program, precision = (
        runtime.part(file.name).program,
        part_precision(runtime.manifest.precision, file.part),
    )
    weights = check_weights(program, part, _spec(file))
    references = [_Reference(part, TOLERANCE[precision], "")]
    if precision not in EXACT:
        stored = with_stored_weights(part, program)
        references.append(_Reference(stored, TOLERANCE["fp16"], ", with the weights as stored,"))
    errors = _errors(runtime, file, references)
    return PartChecked(errors[0], errors[-1], weights)


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


@dataclass
class _Reference:
    """What a package is compared with.

    Attributes:
        part: in PyTorch.
        allowed: error.
        which: part it is, in words.
        wrong, whole: sums of squares by output, over all calls.
    """

    part: nn.Module
    allowed: float
    which: str
    wrong: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    whole: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def compare(self, file: PartFile, inputs: Arrays, found: Arrays) -> None:
        """One call."""
        wanted = run_part(self.part, file, inputs)
        # Where two masks are as good as each other, either may be chosen; all of them are compared anyway.
        chance = CHOSEN if file.part == MASK_DECODER and _choice(found) != _choice(wanted) else ()
        for name, value in wanted.items():
            if name not in chance:
                self.wrong[name] += float(np.square(found[name] - value).sum())
                self.whole[name] += float(np.square(value).sum())

    def errors(self, file: PartFile) -> Mapping[str, float]:
        """By output, none beyond what is allowed."""
        names = [one.name for one in file.outputs]
        errors = {name: (self.wrong[name] / max(self.whole[name], 1e-12)) ** 0.5 for name in names}
        for name, error in errors.items():
            if not error <= self.allowed:  # not a number counts as wrong
                off = f"{name}{self.which} is off by {error:.2g} of its size"
                raise WeightsError(f"{file.name}: {off}, allowed {self.allowed:g}")
        return MappingProxyType(errors)


def _errors(
    runtime: PackageRuntime, file: PartFile, references: Sequence[_Reference]
) -> list[Mapping[str, float]]:
    """By reference and output, over all calls."""
    random = np.random.default_rng(0)
    for gates in CALLS:
        inputs = seeded_inputs(file, runtime.manifest.sizes.image_size, gates, random)
        found = runtime.run(file.name, inputs)
        for one in references:
            one.compare(file, inputs, found)
    return [one.errors(file) for one in references]


def _choice(outputs: Mapping[str, NDArray[Any]]) -> tuple[int, bool]:
    """The best of masks 1 to 3, and whether mask 0 is stable."""
    first = outputs["candidates"][0, 0]
    inner, outer = int((first > STABILITY_DELTA).sum()), int((first > -STABILITY_DELTA).sum())
    stable = outer == 0 or inner / outer >= STABILITY_THRESHOLD
    return int(outputs["candidate_ious"][0, 1:].argmax()), stable


def _clip_checked(runtime: PackageRuntime, model: EdgeTAM, frames: int) -> ClipChecked:
    """A clip as packages and model track it: one object from its box, one from its mask."""
    scene = DemoScene(max(frames, WHOLE), *SIZE)  # a whole trip in few frames would be too fast to follow
    pictures, truths = zip(*(scene.frame(index) for index in range(frames)), strict=True)
    tracks = []
    for tracker in (HostTracker(runtime, runtime.manifest), VideoTracker(model)):
        with tracker.open(list(pictures)) as session:
            for index, (object_id, mask) in enumerate(truths[0].items()):
                session.add_prompt(0, object_id, Prompt(mask=mask) if index else Prompt(box=mask_box(mask)))
            tracks.append(list(session.propagate()))
    pairs = [
        (found.objects[object_id].mask, wanted.mask)
        for found, exact in zip(*tracks, strict=True)
        for object_id, wanted in exact.objects.items()
    ]
    ious = tuple(mask_iou(found, wanted) for found, wanted in pairs)
    return ClipChecked(ious, sum(bool(wanted.any()) for _, wanted in pairs))


def _spec(file: PartFile) -> PartSpec:
    inputs, outputs = (
        tuple(TensorSpec(one.name, one.shape, one.meaning, one.kind) for one in tensors)
        for tensors in (file.inputs, file.outputs)
    )
    return PartSpec(file.part, inputs, outputs)
