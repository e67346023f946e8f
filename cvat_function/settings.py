"""What the functions are told by their environment, read once and then handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgetam_model import InputError

if TYPE_CHECKING:
    from edgetam_model import MediaLimits


Quality = Literal["exact", "fast"]
Lost = Literal["auto", "last", "null"]


class Settings(BaseModel):
    """Every setting of the functions. `table` lists them as an admin reads them.

    Raises:
        pydantic.ValidationError: when built by hand with a bad value; `read_settings` raises InputError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    weights: str = Field(
        default="auto",
        validation_alias="EDGETAM_WEIGHTS",
        description="auto, default, edgetam, a file, or an imported or fine-tuned version",
    )
    device: str = Field(
        default="auto", validation_alias="EDGETAM_DEVICE", description="auto, cpu, cuda, cuda:N or mps"
    )
    quality: Quality = Field(
        default="exact",
        validation_alias="EDGETAM_QUALITY",
        description="fast: weights of the published size see 512 pixels, not 1024; smaller ones refuse it",
    )
    reply: Literal["mask", "shapes"] = Field(
        default="mask",
        validation_alias="EDGETAM_CVAT_REPLY",
        description="clicks: mask (one, every CVAT) or shapes (one per box, with confidence; CVAT of 2026)",
    )
    lost: Lost = Field(
        default="auto",
        validation_alias="EDGETAM_CVAT_LOST",
        description="tracks: an object out of sight keeps its last shape, becomes null, "
        "or auto: last for rectangles, null for polygons and masks",
    )
    state: Literal["travel", "redis"] = Field(
        default="travel",
        validation_alias="EDGETAM_CVAT_STATE",
        description="tracks: what is remembered of an object travels with CVAT's requests, or it stays "
        "in the Redis of CVAT_FUNCTIONS_REDIS_HOST, _PORT and _PASSWORD, and a key travels",
    )
    images: int = Field(
        default=4,
        ge=1,
        le=1024,
        validation_alias="EDGETAM_CVAT_IMAGES",
        description="encoded images kept for further clicks; about 20 MB each at 1080p",
    )
    max_pixels: int = Field(
        default=89_478_485,
        ge=1,
        validation_alias="EDGETAM_MAX_PIXELS",
        description="pixels of one image, refused before it is decoded",
    )
    max_image_bytes: int = Field(
        default=201_326_592,  # what a body of 256 MiB holds, the limit in function.yaml
        ge=1,
        validation_alias="EDGETAM_CVAT_MAX_IMAGE_BYTES",
        description="bytes of one image file",
    )
    max_objects: int = Field(
        default=256,
        ge=1,
        validation_alias="EDGETAM_CVAT_MAX_OBJECTS",
        description="boxes or shapes in one request",
    )

    @property
    def limits(self) -> MediaLimits:
        """What `decode_picture` takes."""
        from edgetam_model import MediaLimits

        return MediaLimits(max_pixels=self.max_pixels, max_bytes=self.max_image_bytes)


@dataclass(frozen=True)
class SettingRow:
    """One line of the reference: the variable, its default, and what it means."""

    name: str
    default: str
    meaning: str


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment; variables that are empty or not ours do not count.

    Raises:
        InputError: a value that is none of the setting's; the field is the variable.
    """
    given = {row.name: environ[row.name] for row in table() if environ.get(row.name)}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(str(first["loc"][0]), f"{first['msg']}, got {first['input']!r:.80}") from error


def table() -> tuple[SettingRow, ...]:
    """Every variable with its default and meaning, in the order of the class."""
    return tuple(
        SettingRow(str(field.validation_alias), str(field.default), field.description or "")
        for field in Settings.model_fields.values()
    )
