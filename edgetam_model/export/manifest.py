"""`manifest.json` beside exported parts: what the files are, and what a host must know. Free of torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError, WeightsError

FILE_NAME = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Frozen):
    """One input or output; see `parts.specs.TensorSpec`."""

    name: str
    shape: tuple[int, ...]
    kind: Literal["float32", "int32"]
    meaning: str


class StoredFile(_Frozen):
    """A file within a package.

    Attributes:
        path: relative to the package, with /.
        sha256, bytes: of the file.
    """

    path: str
    sha256: str
    bytes: int


class PartFile(_Frozen):
    """One exported graph.

    Attributes:
        name: what a runtime calls it by.
        part: which of the four parts it is.
        path: the file, or the folder of a package, relative to the manifest.
        sha256, bytes: of that file; of a package, of the lines "sha256 path" of its contents, and in all.
        contents: the files of a package, in order of their paths.
        objects: per call.
        conditioning: conditioning slots; 0 where the part has none.
    """

    name: str
    part: str
    path: str
    sha256: str
    bytes: int
    objects: int
    conditioning: int
    contents: tuple[StoredFile, ...] = ()
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Weights(_Frozen):
    """Whose weights they are."""

    name: str
    fingerprint: str
    licence: str
    source: str


class Accuracy(_Frozen):
    """What a precision costs these weights.

    Attributes:
        verdict: "not for use" where it is more than a point.
        lost_points: of J&F, 0 to 100, on real clips against float32; None where nobody measured it.
    """

    verdict: Literal["for use", "not for use", "not measured"]
    lost_points: float | None


class MaskPrompt(_Frozen):
    """The 4 × 4 convolution of stride 4 that turns a given mask of 0 and 1 into a dense prompt."""

    weight: tuple[tuple[float, ...], ...]
    bias: float


class Constants(_Frozen):
    """Numbers of the pre- and post-processing; `rules` say what they are for."""

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    box_labels: tuple[int, int]
    no_click_label: int
    unused_label: int
    absent_logit: float
    shown_score: float
    denied_score: float
    logit_limit: float
    mask_gain: float
    mask_offset: float
    mask_prompt: MaskPrompt


class Manifest(_Frozen):
    """Everything about an export.

    Attributes:
        format, version: of this file.
        kind: of the graphs.
        target: which runtimes take them, such as "opset 18" or "iOS17".
        precision: of the weights, such as "fp32" or "palette4".
        accuracy: what that costs; None: not told.
        product: version of the package that wrote them.
        config: the model's sizes.
        prompts: slots for clicks and box corners.
        tracker: `TrackerOptions` that the rules describe.
        rules: how a host tracks, in words and numbers.
    """

    format: Literal["edgetam-parts"] = "edgetam-parts"
    version: Literal[1] = 1
    kind: Literal["onnx", "coreml"]
    target: str
    precision: str = "fp32"
    accuracy: Accuracy | None = None
    product: str
    weights: Weights
    config: dict[str, Any]
    prompts: int
    files: tuple[PartFile, ...]
    constants: Constants
    tracker: dict[str, Any]
    rules: tuple[str, ...]

    @property
    def sizes(self) -> EdgeTAMConfig:
        """`config` as the model has it."""
        return EdgeTAMConfig.from_dict(self.config)

    def file(self, name: str) -> PartFile:
        """By its name.

        Raises:
            InputError: there is none.
        """
        found = next((one for one in self.files if one.name == name), None)
        if found is None:
            raise InputError("part", f"expected one of {[one.name for one in self.files]}, got {name!r:.80}")
        return found


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a folder, its files checked against their hashes.

    Raises:
        WeightsError: no manifest, one of another version, or files that are missing or changed.
    """
    folder = Path(folder)
    try:
        manifest = Manifest.model_validate_json((folder / FILE_NAME).read_text(encoding="utf-8"))
        manifest.sizes  # noqa: B018 - raises where the sizes do not fit together
    except OSError as error:
        raise WeightsError(f"{folder.name} has no {FILE_NAME}") from error
    except (ValidationError, InputError, UnicodeDecodeError) as error:
        raise WeightsError(f"{FILE_NAME} in {folder.name} is damaged or of another version") from error
    for one in manifest.files:
        _check(one, folder)
    return manifest


def _check(file: PartFile, folder: Path) -> None:
    path = folder / file.path
    if Path(file.path).name != file.path or not path.exists():
        raise WeightsError(f"{file.path} is missing beside {FILE_NAME}")
    if path.is_file() == bool(file.contents):
        raise WeightsError(f"{file.path} is no {'package' if file.contents else 'file'}")
    if path.is_file() and sha256_of(path) != file.sha256:
        raise WeightsError(f"{file.path} is damaged: its checksum is not the one in {FILE_NAME}")
    if file.contents:
        _check_package(file, path)


def _check_package(file: PartFile, path: Path) -> None:
    listed, found = {one.path: one for one in file.contents}, {one.path: one for one in stored_files(path)}
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise WeightsError(f"{file.path}/{name} is missing")
        if found[name] != listed.get(name):
            raise WeightsError(f"{file.path}/{name} is damaged: its checksum is not the one in {FILE_NAME}")
    if package_digest(file.contents) != file.sha256:
        raise WeightsError(f"{FILE_NAME} is damaged: the checksum of {file.path} does not fit its files")


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write it beside its files."""
    path = folder / FILE_NAME
    path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def sha256_of(path: Path) -> str:
    """Of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_files(package: Path) -> tuple[StoredFile, ...]:
    """Every file of a package, in order of their paths."""
    paths = sorted(path for path in package.rglob("*") if path.is_file())
    return tuple(
        StoredFile(
            path=path.relative_to(package).as_posix(), sha256=sha256_of(path), bytes=path.stat().st_size
        )
        for path in paths
    )


def package_digest(contents: tuple[StoredFile, ...]) -> str:
    """SHA-256 of a package: of its files' hashes and paths."""
    lines = "".join(f"{one.sha256} {one.path}\n" for one in contents)
    return hashlib.sha256(lines.encode()).hexdigest()
