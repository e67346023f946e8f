"""Where field kits come from and go back to: what a platform's adapter offers to be packed, worked on where
there is no network, and merged. Adapters translate into these words, the field kit knows no others. No torch.

An adapter is an entry point in `edgetam.fields`, named by the word before the colon of `--from cvat:7`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetam_model.errors import InputError
from edgetam_model.field_objects import FieldObject
from edgetam_model.sources import VideoInfo

GROUP = "edgetam.fields"
Size = tuple[int, int]  # H, W in pixels
Kind = Literal["image", "images", "video"]
What = Literal["create", "update", "delete", "nothing", "conflict"]
# A file, or frames uint8 (H, W, 3) of one size, read when asked for.
Media = Path | Sequence[NDArray[np.uint8]]
_ADDRESS = re.compile(r"([a-z][a-z0-9-]*):(.+)")

# Packing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackWish:
    """What is to be taken along.

    Attributes:
        address: what stands after the colon of `--from`.
        tasks: numbers of these tasks only; empty: all.
        range: frames, as the platform counts them, "A-B"; empty: all.
        clip: a task's images are frames of one video.
    """

    address: str
    tasks: tuple[int, ...] = ()
    range: str = ""
    clip: bool = False


@dataclass(frozen=True)
class FieldItem:
    """One task to be packed.

    Attributes:
        id: the platform's number.
        name: of its media, for people.
        kind: one image, several that are walked through, or a video.
        content: what the adapter wants to have back offline and at the merge; text, as it likes.
        objects: how many things are drawn in it.
        media: opens the image, each of the images, or the video; MediaError where that cannot be had.
        numbers: what the platform calls the frames; empty: 0, 1, 2 …
    """

    id: int
    name: str
    kind: Kind
    content: str
    objects: int
    media: tuple[Callable[[], AbstractContextManager[Media]], ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A task that cannot be taken along, and why."""

    task: int
    why: str


@dataclass(frozen=True)
class Packing:
    """What an address leads to.

    Attributes:
        number: of the project or task, by which the merge finds it again.
        title: for people.
        project: what all tasks share, for `FieldPlatform.project`; text.
        items: the tasks, read as they are asked for.
    """

    number: int
    title: str
    project: str
    items: Iterator[FieldItem | LeftOut]


# Offline ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldMedia:
    """A task's media in the kit.

    Attributes:
        originals, sizes: (H, W) upright, on the platform and in the kit; one for each of several images.
        frames: how many.
        info: of the original video, where it was a file: its exact table of times.
    """

    kind: Kind
    originals: tuple[Size, ...]
    sizes: tuple[Size, ...]
    frames: int
    info: VideoInfo | None = None

    def size(self, frame: int = 0) -> Size:
        """(H, W) of a frame in the kit."""
        return self.sizes[frame if self.kind == "images" else 0]

    def original(self, frame: int = 0) -> Size:
        """(H, W) of a frame on the platform."""
        return self.originals[frame if self.kind == "images" else 0]


@dataclass(frozen=True)
class FieldTask:
    """A task of a kit: `content` is what the adapter packed."""

    id: int
    media: FieldMedia
    content: str


class FieldProject(Protocol):
    """What all tasks of a kit share."""

    def labels(self, task: FieldTask) -> tuple[str, ...]:
        """The classes that a new object may have.

        Raises:
            InputError: the content is damaged.
        """

    def objects(self, task: FieldTask) -> Sequence[FieldObject]:
        """What came along and can be worked on, numbered from 1; the rest stays as it is.

        Raises:
            InputError: the content is damaged.
        """


# Merging ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldWork:
    """What was done on a task: objects by their ids, as they came and as they stand."""

    task: FieldTask
    given: Mapping[str, FieldObject]
    now: Mapping[str, FieldObject]


@dataclass(frozen=True)
class MergeOptions:
    """How to merge.

    Attributes:
        dry_run: tell what would be done, and do nothing.
        as_new: what conflicts is stored beside what is there.
        shape: what new objects become, where the platform leaves a choice; empty: the adapter's own.
    """

    dry_run: bool = False
    as_new: bool = False
    shape: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a task, or of one of its objects.

    Attributes:
        annotation: the one in question, or that was made.
        why: in words.
        packed_at, server_at: when it was changed last, as known here and as there.
        object: in words, where not the whole task is meant.
    """

    task: int
    what: What
    annotation: int | None = None
    why: str = ""
    packed_at: str | None = None
    server_at: str | None = None
    object: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Memory(Protocol):
    """What earlier merges of this kit noted: lines that are on the disk when `add` returns."""

    def read(self) -> Iterator[Any]:
        """All of them, in order."""

    def add(self, document: Mapping[str, Any]) -> None:
        """One more."""


@dataclass(frozen=True)
class Return:
    """A kit on its way home.

    Attributes:
        number: `Packing.number`.
        project: of the kit.
        works: tasks that somebody worked on, by their ids.
    """

    number: int
    project: str
    works: tuple[FieldWork, ...]
    memory: Memory
    options: MergeOptions


# Adapters ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """How to reach a server: what was given by hand, and the environment, which the adapter reads.

    Attributes:
        url: None: the environment's.
        token: as `url`.
        known: the address that a kit came from, where neither of them has one.
    """

    url: str | None
    token: str | None
    environ: Mapping[str, str]
    known: str = ""


class FieldSite(Protocol):
    """A server."""

    @property
    def url(self) -> str:
        """Its address, for the merge."""

    def pack(self, wish: PackWish) -> Packing:
        """What is to be taken along.

        Raises:
            InputError: a wish that this platform does not know, or that leads nowhere.
            EdgeTAMError: the server refuses, or is not reached.
        """

    def merge(self, home: Return) -> Iterator[Outcome]:
        """Bring works back, over nothing that others did since; what is done already is done once.

        Raises:
            InputError: a damaged kit.
            EdgeTAMError: the server refuses, or is not reached; what was merged before stays.
        """


class FieldPlatform(Protocol):
    """What an entry point is."""

    def project(self, text: str) -> FieldProject:
        """The project of a kit, from what was packed; no network is used."""

    def site(self, access: Access) -> AbstractContextManager[FieldSite]:
        """The server.

        Raises:
            InputError: no address or no credentials.
            EdgeTAMError: it is not reached.
        """


def split_address(text: str) -> tuple[str, str]:
    """`cvat:7` → ("cvat", "7").

    Raises:
        InputError: no such address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise InputError("from", f"expected such as label-studio:7 or cvat:7, got {text!r:.80}")
    return match[1], match[2]


def platform(kind: str) -> FieldPlatform:
    """The adapter for a kind of kit.

    Raises:
        InputError: none is installed.
    """
    plugins = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    if kind not in plugins:
        known = ", ".join(f"{name}:" for name in sorted(plugins)) or "none"
        raise InputError("from", f"no adapter for {kind}: (installed: {known})")
    try:
        found: FieldPlatform = plugins[kind].load()
    except ImportError as error:
        raise InputError("from", f"the adapter for {kind}: cannot be loaded: {error}") from error
    return found
