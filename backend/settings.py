"""Every setting of the backend, read once from the environment and then handed on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from backend.addresses import AllowedHost, parse_url
from backend.clients import parse_host_name, parse_network
from backend.project_tokens import ProjectTokens
from edgetam_model import InputError

if TYPE_CHECKING:
    from edgetam_model import ApartOptions, MediaLimits

SEVERAL = {"pair": "BASIC_AUTH_USER", "tokens": "EDGETAM_PROJECT_TOKENS"}  # errors of more than one variable
# Older or longer names of the same thing, tried in this order when the first one is not set.
FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "LABEL_STUDIO_URL": ("LABEL_STUDIO_HOST",),
    "LABEL_STUDIO_API_KEY": ("LABEL_STUDIO_ACCESS_TOKEN",),
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": ("LOCAL_FILES_DOCUMENT_ROOT",),
}


def _listed(separator: str) -> BeforeValidator:
    """Text like `a,b` as a tuple; what is a sequence already stays one."""

    def split(value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(separator) if part.strip())

    return BeforeValidator(split)


def _switch(value: object) -> object:
    """Any text but an empty one and 0 means yes, as for `edgetam weights`."""
    return value not in ("", "0") if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Hosts = Annotated[tuple[str, ...], _listed(",")]
Folders = Annotated[tuple[Path, ...], _listed(os.pathsep)]
Switch = Annotated[bool, BeforeValidator(_switch)]
FitMode = Literal["decoder", "adapter", "full"]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


def _default_cache() -> Path:
    return Path.home() / ".cache" / "edgetam"


@dataclass(frozen=True)
class SettingRow:
    """One line of the reference: the variable, its default as people write it, and what it means.

    `secret`: its value is never shown, and belongs where secrets are kept.
    """

    name: str
    default: str
    meaning: str
    secret: bool = False


class Settings(BaseModel):
    """What the backend is told from outside. Secrets hide themselves when printed.

    Raises:
        pydantic.ValidationError: when built by hand with a bad value; `from_env` raises InputError.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    label_studio_url: str | None = Field(
        default=None,
        validation_alias="LABEL_STUDIO_URL",
        description="address of Label Studio as this machine reaches it; media may come from there",
    )
    label_studio_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="LABEL_STUDIO_API_KEY",
        description="legacy token or personal access token, sent to LABEL_STUDIO_URL only",
    )
    local_files_document_root: Path | None = Field(
        default=None,
        validation_alias="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
        description="Label Studio's folder of local files, where it is readable here: files are not fetched",
    )
    basic_auth_user: str | None = Field(
        default=None, validation_alias="BASIC_AUTH_USER", description="user name that this server asks for"
    )
    basic_auth_pass: SecretStr | None = Field(
        default=None,
        validation_alias="BASIC_AUTH_PASS",
        description="password that goes with BASIC_AUTH_USER",
    )
    token: SecretStr | None = Field(
        default=None,
        validation_alias="EDGETAM_TOKEN",
        description="bearer token that this server accepts, also as the password of the user token",
    )
    project_tokens: ProjectTokens = Field(
        default={},
        validation_alias="EDGETAM_PROJECT_TOKENS",
        description="tokens that open one project each: NUMBER=TOKEN by commas, or @FILE with one a line; "
        "also passwords of the users project-NUMBER. Needs EDGETAM_TOKEN or BASIC_AUTH_USER beside it",
    )
    password_limit: int = Field(
        default=10,
        ge=0,
        validation_alias="EDGETAM_PASSWORD_LIMIT",
        description="wrong passwords or tokens a minute from one address before its next are not even read; "
        "0: any number",
    )
    rate_limit: int = Field(
        default=12_000,
        ge=0,
        validation_alias="EDGETAM_RATE_LIMIT",
        description="requests a minute of one client (user and address) before it gets 429, a sixth of them "
        "at once; 0: any number",
    )
    trusted_proxies: Hosts = Field(
        default=(),
        validation_alias="EDGETAM_TRUSTED_PROXIES",
        description="addresses or networks of proxies whose X-Forwarded-For says who asks, by commas",
    )
    host_names: Hosts = Field(
        default=(),
        validation_alias="EDGETAM_HOST_NAMES",
        description="names by which this server is asked, by commas: name, *.name; others get 421. No need "
        "to name addresses, names without a dot and private ones, nor any where a password is set",
    )
    host: str = Field(default="0.0.0.0", validation_alias="HOST", description="address to listen on")  # noqa: S104
    port: int = Field(
        default=9090, ge=0, le=65535, validation_alias="PORT", description="port to listen on; 0: any"
    )
    log_level: LogLevel = Field(
        default="INFO", validation_alias="LOG_LEVEL", description="DEBUG, INFO, WARNING or ERROR"
    )
    model_dir: Path | None = Field(
        default=None,
        validation_alias="MODEL_DIR",
        description="folder of fine-tuned versions and of the private Redis",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias="REDIS_URL",
        description="Redis of the job queue; none: a private one is started",
    )

    weights: str | None = Field(
        default=None,
        validation_alias="EDGETAM_WEIGHTS",
        description="default, edgetam, a file, or an imported name",
    )
    device: str = Field(
        default="auto", validation_alias="EDGETAM_DEVICE", description="auto, cpu, cuda, cuda:N or mps"
    )
    cache: Path = Field(
        default_factory=_default_cache,
        validation_alias="EDGETAM_CACHE",
        description="folder of fetched weights and media",
    )
    offline: Switch = Field(
        default=False,
        validation_alias="EDGETAM_OFFLINE",
        description="1: weights are never fetched from the network",
    )
    allowed_hosts: Hosts = Field(
        default=(),
        validation_alias="EDGETAM_ALLOWED_HOSTS",
        description="private hosts that media may come from, by commas: name, name:port, *.name",
    )
    media_roots: Folders = Field(
        default=(),
        validation_alias="EDGETAM_MEDIA_ROOTS",
        description=f"folders that tasks may name files in, separated by {os.pathsep!r}",
    )

    answer_seconds: float = Field(
        default=2.0,
        ge=0,
        le=90,  # Label Studio gives up after 100 s
        validation_alias="EDGETAM_ANSWER_SECONDS",
        description="seconds that a video request waits before it answers with what is finished",
    )
    queue_limit: int = Field(
        default=100,
        ge=1,
        validation_alias="EDGETAM_QUEUE_LIMIT",
        description="waiting jobs before new ones are refused",
    )
    project_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        validation_alias="EDGETAM_PROJECT_SHARE",
        description="part of the batch queue that waiting jobs of one project may fill",
    )
    result_ttl: int = Field(
        default=86_400,
        ge=60,
        validation_alias="EDGETAM_RESULT_TTL",
        description="seconds that finished jobs are kept",
    )
    image_threads: int = Field(
        default=2,
        ge=1,
        le=64,
        validation_alias="EDGETAM_IMAGE_THREADS",
        description="image requests computed at once",
    )
    keyframe_tolerance: float = Field(
        default=1.0,
        ge=0,
        validation_alias="EDGETAM_KEYFRAME_TOLERANCE",
        description="pixels by which thinned keyframes may be off, less on small boxes; 0: one a frame",
    )
    mask_tolerance: float = Field(
        default=1.0,
        ge=0,
        validation_alias="EDGETAM_MASK_TOLERANCE",
        description="pixels by which a polygon may leave the mask",
    )

    fit_after: int = Field(
        default=20,
        ge=0,
        validation_alias="EDGETAM_FIT_AFTER",
        description="new annotations that begin a training; 0: trainings begin on request alone",
    )
    fit_minutes: float = Field(
        default=30,
        gt=0,
        le=7 * 24 * 60,
        validation_alias="EDGETAM_FIT_MINUTES",
        description="minutes after the first new annotation until a training begins with fewer",
    )
    fit_mode: FitMode = Field(
        default="adapter",
        validation_alias="EDGETAM_FIT_MODE",
        description="what of the model a training changes: adapter, decoder or full",
    )
    fit_minimum: int = Field(
        default=8,
        ge=2,
        validation_alias="EDGETAM_FIT_MINIMUM",
        description="annotated images and videos below which there is no training",
    )
    fit_promote: Switch = Field(
        default=True,
        validation_alias="EDGETAM_FIT_PROMOTE",
        description="1: a version that is better serves at once; 0: it waits for a person",
    )

    media_cache_bytes: ByteSize = Field(
        default=ByteSize(20 * 2**30),
        ge=0,
        validation_alias="EDGETAM_MEDIA_CACHE_BYTES",
        description="size of the media cache; units like 20GiB are understood",
    )
    max_media_bytes: ByteSize = Field(
        default=ByteSize(16 * 2**30),
        ge=1,
        validation_alias="EDGETAM_MAX_MEDIA_BYTES",
        description="largest file that is accepted",
    )
    max_pixels: int = Field(
        default=89_478_485, ge=1, validation_alias="EDGETAM_MAX_PIXELS", description="largest image or frame"
    )
    max_frames: int = Field(
        default=1_000_000, ge=1, validation_alias="EDGETAM_MAX_FRAMES", description="longest video, in frames"
    )
    max_seconds: float = Field(
        default=43_200, gt=0, validation_alias="EDGETAM_MAX_SECONDS", description="longest video, in seconds"
    )
    decode: Literal["apart", "inside"] = Field(
        default="apart",
        validation_alias="EDGETAM_DECODE",
        description="apart: images and videos are decoded in processes of their own that may do little else; "
        "inside: in the server and the worker",
    )
    decode_memory: ByteSize = Field(
        default=ByteSize(3 * 2**30),
        ge=64 * 2**20,
        validation_alias="EDGETAM_DECODE_MEMORY",
        description="memory that such a process may take",
    )
    decode_seconds: float = Field(
        default=120,
        gt=0,
        validation_alias="EDGETAM_DECODE_SECONDS",
        description="seconds in which it must have a frame or an image ready",
    )
    fetch_seconds: float = Field(
        default=900,
        gt=0,
        validation_alias="EDGETAM_FETCH_SECONDS",
        description="seconds for fetching one file",
    )
    stall_seconds: float = Field(
        default=30,
        gt=0,
        validation_alias="EDGETAM_STALL_SECONDS",
        description="seconds without a byte before a fetch is given up",
    )

    @field_validator("label_studio_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parse_url(value)
        except InputError as error:
            raise PydanticCustomError("url", "{problem}", {"problem": error.problem}) from error
        return value.rstrip("/")

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for host in value:
                AllowedHost.parse(host)
        except InputError as error:
            raise PydanticCustomError("host", "{problem}", {"problem": error.problem}) from error
        return value

    @field_validator("host_names", "trusted_proxies")
    @classmethod
    def _check_names(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        parse = parse_host_name if info.field_name == "host_names" else parse_network
        try:
            return tuple(str(parse(name)) for name in value)
        except InputError as error:
            raise PydanticCustomError("name", "{problem}", {"problem": error.problem}) from error

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.basic_auth_user is None) != (self.basic_auth_pass is None):
            raise PydanticCustomError("pair", "expected BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither")
        if self.project_tokens and self.token is None and self.basic_auth_user is None:
            raise PydanticCustomError("tokens", "expected EDGETAM_TOKEN or BASIC_AUTH_USER beside it")
        if self.token in self.project_tokens.values():
            raise PydanticCustomError("tokens", "expected none that EDGETAM_TOKEN is as well")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables of the reference; others are left alone, empty ones count as not set.

        Raises:
            InputError: a value that cannot be used, named by its variable; the value is not repeated.
        """
        chosen: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for variable in _variables():
            for name in (variable, *FALLBACKS.get(variable, ())):
                if environ.get(name):
                    chosen[variable], sources[variable] = environ[name], name
                    break
        if "EDGETAM_CACHE" not in chosen and environ.get("XDG_CACHE_HOME"):
            chosen["EDGETAM_CACHE"] = Path(environ["XDG_CACHE_HOME"]) / "edgetam"
        try:
            return cls.model_validate(chosen)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = str(first["loc"][0]) if first["loc"] else SEVERAL[first["type"]]
            raise InputError(
                sources.get(variable, variable), first["msg"]
            ) from None  # its text has the value

    @classmethod
    def reference(cls) -> tuple[SettingRow, ...]:
        """Every variable in the order of this class, for `--help` and the documentation."""
        return tuple(
            SettingRow(
                variable,
                _shown_default(field),
                field.description or "",
                secret=SecretStr in get_args(field.annotation),
            )
            for variable, field in zip(_variables(), cls.model_fields.values(), strict=True)
        )

    @property
    def state_dir(self) -> Path:
        """Folder of versions and of trainings under way."""
        return (self.model_dir or self.cache).expanduser()

    @property
    def media_cache_dir(self) -> Path:
        """Folder of the media cache."""
        return self.cache.expanduser() / "media"

    def media_limits(self) -> MediaLimits:
        """The limits that `open_source` and `read_image` take; `max_seconds` is checked by whoever opens."""
        from edgetam_model import MediaLimits

        return MediaLimits(
            max_pixels=self.max_pixels, max_frames=self.max_frames, max_bytes=int(self.max_media_bytes)
        )

    def apart(self) -> ApartOptions | None:
        """What a process that decodes may take; None: files are decoded in the process that asks."""
        from edgetam_model import ApartOptions

        if self.decode == "inside" or sys.platform == "win32":  # whose processes inherit no descriptors
            return None
        return ApartOptions(memory_bytes=int(self.decode_memory), seconds=self.decode_seconds)


def _variables() -> tuple[str, ...]:
    return tuple(str(field.validation_alias) for field in Settings.model_fields.values())


def _shown_default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "~/.cache/edgetam"
    value = field.default
    if value in (None, (), {}):
        return ""
    if isinstance(value, ByteSize):
        return value.human_readable()
    return str(int(value)) if isinstance(value, bool) else str(value)
