"""What a manifest says about a model; the files come from an exporter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from edgetam_model.config import IMAGE_MEAN, IMAGE_STD
from edgetam_model.engine import BOX_LABELS, LOGIT_LIMIT
from edgetam_model.errors import InputError
from edgetam_model.export.manifest import (
    FILE_NAME,
    Accuracy,
    Constants,
    Manifest,
    MaskPrompt,
    PartFile,
    Tensor,
    Weights,
    package_digest,
    sha256_of,
    stored_files,
)
from edgetam_model.export.rules import host_rules
from edgetam_model.model import (
    ABSENT_LOGIT,
    DENIED_SCORE,
    MASK_GAIN,
    MASK_OFFSET,
    SHOWN_SCORE,
    EdgeTAM,
)
from edgetam_model.nn.prompt_encoder import NOT_A_POINT
from edgetam_model.options import TrackerOptions
from edgetam_model.parts.specs import (
    ABSENT,
    FEW_CONDITIONING,
    IMAGE_ENCODER,
    MANY_CONDITIONING,
    MEMORY_ATTENTION,
    PART_NAMES,
    PartSpec,
    Slots,
    TensorSpec,
    part_specs,
)
from edgetam_model.weights import WeightsInfo

PACKAGE = "edgetam-labeling"

Progress = Callable[[str, int, int], None]  # the graph at hand, how many are done, and of how many


def check_installed(*packages: str) -> None:
    """Raise unless these optional packages are here.

    Raises:
        InputError: names the first one missing, and how to install it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(package, 'is not installed: pip install "edgetam-labeling[export]"')


def check_free(folder: Path, *, force: bool) -> None:
    """Raise where a folder holds an export that nobody means to replace.

    Raises:
        InputError: it does, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("out", f"expected a folder, {folder.name} is a file")
    if (folder / FILE_NAME).exists() and not force:
        raise InputError("out", f"{folder.name} holds an export already; give --force to replace it")


def wanted_graphs(
    model: EdgeTAM,
    objects: Sequence[int],
    prompts: int,
    attentions: Sequence[int] = (FEW_CONDITIONING, MANY_CONDITIONING),
) -> dict[str, tuple[PartSpec, Slots]]:
    """Every graph of an export by its name: the parts for each count of objects, and some memory attentions.

    `attentions` are their counts of conditioning slots. A picture that serves all objects is encoded by the
    same graph however many there are.

    Raises:
        InputError: fewer prompts than a box takes.
    """
    if prompts < 2:
        raise InputError("prompts", f"expected at least 2, which a box takes, got {prompts}")
    graphs: dict[str, tuple[PartSpec, Slots]] = {}
    for count in sorted({1, *objects}):
        for conditioning in attentions:
            slots = Slots(count, conditioning, prompts)
            specs = part_specs(model.config, slots)
            for part in PART_NAMES:
                shared = part == IMAGE_ENCODER and slots.views(model.config) == 1
                name = graph_name(part, 1 if shared else count, conditioning)
                graphs.setdefault(name, (specs[part], slots))
    return graphs


def graph_name(part: str, objects: int, conditioning: int) -> str:
    """`memory_attention_4`, `mask_decoder_x8`."""
    slots = f"_{conditioning}" if part == MEMORY_ATTENTION else ""
    return f"{part}{slots}" + (f"_x{objects}" if objects > 1 else "")


def part_file(name: str, spec: PartSpec, slots: Slots, path: Path) -> PartFile:
    """A written graph, a file or a package, as the manifest lists it."""
    contents = stored_files(path) if path.is_dir() else ()
    return PartFile(
        name=name,
        part=spec.name,
        path=path.name,
        sha256=package_digest(contents) if contents else sha256_of(path),
        bytes=sum(one.bytes for one in contents) if contents else path.stat().st_size,
        objects=slots.objects,
        conditioning=slots.conditioning if spec.name == MEMORY_ATTENTION else 0,
        contents=contents,
        inputs=tuple(_tensor(one) for one in spec.inputs),
        outputs=tuple(_tensor(one) for one in spec.outputs),
    )


def describe(
    model: EdgeTAM,
    files: Sequence[PartFile],
    kind: Literal["onnx", "coreml"],
    target: str,
    prompts: int,
    precision: str = "fp32",
    accuracy: Accuracy | None = None,
) -> Manifest:
    """The manifest of an export of this model."""
    constants, options = _constants(model), TrackerOptions()
    return Manifest(
        kind=kind,
        target=target,
        precision=precision,
        accuracy=accuracy,
        product=version(PACKAGE),
        weights=_weights(model),
        config=model.config.to_dict(),
        prompts=prompts,
        files=tuple(files),
        constants=constants,
        tracker=options.to_dict(),
        rules=host_rules(model.config, constants, options, sorted({f.conditioning for f in files} - {0})),
    )


def _tensor(spec: TensorSpec) -> Tensor:
    assert spec.kind != "uint8", "files take pixels as numbers"
    return Tensor(name=spec.name, shape=spec.shape, kind=spec.kind, meaning=spec.meaning)


def _weights(model: EdgeTAM) -> Weights:
    info = model.weights_info
    if not isinstance(info, WeightsInfo):
        return Weights(name="unnamed", fingerprint=model.fingerprint(), licence="unknown", source="")
    return Weights(name=info.name, fingerprint=model.fingerprint(), licence=info.licence, source=info.source)


def _constants(model: EdgeTAM) -> Constants:
    convolution = model.mask_downsample
    assert convolution.bias is not None
    rows = convolution.weight.detach().float()[0, 0].tolist()
    return Constants(
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
        box_labels=BOX_LABELS,
        no_click_label=NOT_A_POINT,
        unused_label=ABSENT,
        absent_logit=ABSENT_LOGIT,
        shown_score=SHOWN_SCORE,
        denied_score=DENIED_SCORE,
        logit_limit=LOGIT_LIMIT,
        mask_gain=MASK_GAIN,
        mask_offset=MASK_OFFSET,
        mask_prompt=MaskPrompt(
            weight=tuple(tuple(row) for row in rows), bias=float(convolution.bias.detach())
        ),
    )
