"""A project's labeling config as frozen objects: what can be drawn on what, and where answers belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal
from xml.parsers import expat

from edgetam_model import InputError

Kind = Literal["brush", "bitmask", "polygon", "rectangle", "keypoint"]
Attributes = Mapping[str, str]

MAX_CHARACTERS = 1_000_000  # Label Studio's own templates stay below 10,000; taxonomies of 10,000 items fit
MAX_DEPTH = 100
DEFAULT_FRAME_RATE = 24.0  # Label Studio's own, where the config names none or a bad one
TRACK_LABEL = "Track"  # the label whose hotkey is the auto-track button

# Best first: an object's mask says most. Where a config does not mark its tools, the best one is the output.
_RANKS: tuple[tuple[Kind, ...], ...] = (("brush", "bitmask", "polygon"), ("rectangle",), ("keypoint",))
_KINDS: Mapping[str, Kind] = MappingProxyType({kind: kind for rank in _RANKS for kind in rank})
_LABEL_TAGS = frozenset({"label", "choice"})


@dataclass(frozen=True)
class Control:
    """A tag that people label with.

    Attributes:
        type: the tag's name in lower case, which is also the type of its regions, such as "brushlabels".
        name: what regions call `from_name`.
        objects: names of the objects it labels, what regions call `to_name`.
        labels: values of its labels, nested ones included; an alias stands for its value, as in regions.
        dynamic: labels come from the task's data, so the config cannot know them all.
        smart: what the config says; None where it says nothing (Label Studio then takes it as smart).
        attributes: all of them, names in lower case.
    """

    type: str
    name: str
    objects: tuple[str, ...]
    labels: tuple[str, ...] = ()
    dynamic: bool = False
    smart: bool | None = None
    attributes: Attributes = field(default_factory=dict, hash=False)

    @property
    def kind(self) -> Kind | None:
        """The shape it draws on an image, labelled or not; None for other controls."""
        return _KINDS.get(self.type.removesuffix("labels"))

    @property
    def labelled(self) -> bool:
        """Whether its own regions carry labels; otherwise a separate `Labels` control gives them."""
        return self.type.endswith("labels")

    def number(self, attribute: str, default: float) -> float:
        """An attribute that must be a number of at least 0.

        Raises:
            InputError: it is something else.
        """
        text = self.attributes.get(attribute.lower())
        if text is None:
            return default
        value = _number(text)
        if value is None or value < 0:
            raise InputError(
                f"label_config.{self.name}.{attribute}", f"expected a number ≥ 0, got {text:.40}"
            )
        return value


@dataclass(frozen=True)
class MediaObject:
    """A tag that shows an image, a video or something else from the task.

    Attributes:
        type: the tag's name in lower case, such as "image".
        name: what regions call `to_name`.
        value: as the config has it, "$image" for the task's `data["image"]`.
        several: the value is a list of them, of which regions name one by `item_index`.
        attributes: all of them, names in lower case.
    """

    type: str
    name: str
    value: str
    several: bool = False
    attributes: Attributes = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str | None:
        """The key in the task's data; None where the value is written out in the config."""
        return self.value[1:] if self.value.startswith("$") else None

    def reference(self, data: Mapping[str, Any], item: int = 0) -> str:
        """The URL or path of its media in a task.

        Args:
            data: the task's data.
            item: which of several.

        Raises:
            InputError: the task has no such text.
        """
        found = _resolve(self.value, data)
        if self.several and isinstance(found, list):
            found = found[item] if 0 <= item < len(found) else None
        if not isinstance(found, str) or not found:
            raise InputError(f"task.data.{self.key or self.name}", "expected the URL of the media, as text")
        return found

    def frame_rate(self, data: Mapping[str, Any]) -> float:
        """Frames per second by which Label Studio counts a video's frames, whatever its real rate is.

        A rate below 1 is the seconds of a frame; what is no positive number counts as 24.
        """
        given = _resolve(self.attributes.get("framerate", ""), data)
        rate = _number(given) if isinstance(given, (str, int, float)) else None
        if rate is None or rate <= 0:
            return DEFAULT_FRAME_RATE
        rate = rate if rate >= 1 else 1 / rate
        return rate if isfinite(rate) else DEFAULT_FRAME_RATE


@dataclass(frozen=True)
class VideoSetup:
    """The controls by which a project labels a video.

    Attributes:
        object: the video.
        rectangle: its `VideoRectangle`.
        classes: the `Labels` whose labels a region keeps.
        action: the `Labels` that holds the label `Track` beside them; None without one.
        commands: the per-region `TextArea`; None without one.
    """

    object: MediaObject
    rectangle: Control
    classes: tuple[Control, ...] = ()
    action: Control | None = None
    commands: Control | None = None


@dataclass(frozen=True)
class LabelConfig:
    """A parsed config, its tags in the order of the document."""

    objects: tuple[MediaObject, ...]
    controls: tuple[Control, ...]

    def control(self, name: str) -> Control | None:
        """The control of that name."""
        return next((control for control in self.controls if control.name == name), None)

    def object(self, name: str) -> MediaObject | None:
        """The object of that name."""
        return next((item for item in self.objects if item.name == name), None)

    @property
    def images(self) -> tuple[MediaObject, ...]:
        """Objects that show an image."""
        return tuple(item for item in self.objects if item.type == "image")

    @property
    def video(self) -> VideoSetup | None:
        """The first video that can be labelled with rectangles."""
        setups = (self._video(item) for item in self.objects if item.type == "video")
        return next((setup for setup in setups if setup is not None), None)

    def controls_of(self, item: str) -> tuple[Control, ...]:
        """The controls of an object, by its name."""
        return tuple(control for control in self.controls if item in control.objects)

    def outputs_for(self, item: str) -> tuple[Control, ...]:
        """The controls that answers about an image object are written to.

        Those marked smart="false". Where none is, the mask tools without a mark (smart="true" marks a prompt
        tool), else rectangles, else keypoints without one; else the same among all: a tool that is the only
        one is prompt and output.
        """
        drawn = [control for control in self.controls_of(item) if control.kind is not None]
        marked = tuple(control for control in drawn if control.smart is False)
        if marked:
            return marked
        for among in ([control for control in drawn if control.smart is None], drawn):
            for rank in _RANKS:
                best = tuple(control for control in among if control.kind in rank)
                if best:
                    return best
        return ()

    def labels_control(self, item: str, label: str | None = None) -> Control | None:
        """The plain `Labels` control of an object, the one with that label where one is given."""
        plain = [control for control in self.controls_of(item) if control.type == "labels"]
        knowing = [control for control in plain if label is None or label in control.labels]
        return next(iter(knowing or [control for control in plain if control.dynamic]), None)

    def _video(self, item: MediaObject) -> VideoSetup | None:
        controls = self.controls_of(item.name)
        rectangle = next((c for c in controls if c.type == "videorectangle"), None)
        if rectangle is None:
            return None
        plain = [c for c in controls if c.type == "labels"]
        action = min((c for c in plain if TRACK_LABEL in c.labels), key=lambda c: len(c.labels), default=None)
        if len(plain) == 1 and len(plain[0].labels) > 1:
            action = None  # one list for classes and actions: there Track is a class like others
        commands = next((c for c in controls if c.type == "textarea" and _per_region(c)), None)
        return VideoSetup(item, rectangle, tuple(c for c in plain if c is not action), action, commands)


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labeling config. Names of tags and attributes count in any case, as in Label Studio.

    Raises:
        InputError: `label_config` is not XML, too large or too deep, or declares a document type (entities).
    """
    if not isinstance(xml, str):
        raise InputError("label_config", f"expected XML as text, got {type(xml).__name__}")
    if len(xml) > MAX_CHARACTERS:
        raise InputError("label_config", f"expected at most {MAX_CHARACTERS} characters, got {len(xml)}")
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml.strip().encode(), True)
    except expat.ExpatError as error:
        raise InputError("label_config", f"expected XML: {error}") from error
    except UnicodeEncodeError as error:
        raise InputError("label_config", "expected text that UTF-8 can hold") from error
    return reader.config()


class _Reader:
    """Collects the tags of a document as they begin and end."""

    def __init__(self) -> None:
        self._open: list[Control | None] = []  # of each open tag, the control whose labels it may hold
        self._controls: dict[str, Control] = {}
        self._objects: dict[str, MediaObject] = {}
        self._labels: dict[str, list[str]] = {}

    def start(self, tag: str, given: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise InputError("label_config", f"expected at most {MAX_DEPTH} tags inside each other")
        kind, attributes = tag.lower(), {name.lower(): value for name, value in given.items()}
        owner = self._open[-1] if self._open else None
        name = attributes.get("name", "")
        if kind in _LABEL_TAGS:
            value = attributes.get("alias") or attributes.get("value")
            if owner is not None and value:
                self._labels[owner.name].append(value)
        elif name and attributes.get("toname"):
            owner = self._controls.setdefault(name, _control(kind, name, attributes))
            self._labels.setdefault(name, [])
        elif name and (attributes.get("value") or attributes.get("valuelist")):
            self._objects.setdefault(name, _object(kind, name, attributes))
        self._open.append(owner)

    def end(self, _tag: str) -> None:
        self._open.pop()

    def config(self) -> LabelConfig:
        controls = (
            replace(control, labels=tuple(dict.fromkeys(self._labels[control.name])))
            for control in self._controls.values()
        )
        return LabelConfig(tuple(self._objects.values()), tuple(controls))


def _control(kind: str, name: str, attributes: dict[str, str]) -> Control:
    smart = {"true": True, "false": False}.get(attributes.get("smart", "").strip().lower())
    objects = tuple(part.strip() for part in attributes["toname"].split(",") if part.strip())
    dynamic = attributes.get("value", "").startswith("$")
    return Control(
        kind, name, objects, dynamic=dynamic, smart=smart, attributes=MappingProxyType(dict(attributes))
    )


def _object(kind: str, name: str, attributes: dict[str, str]) -> MediaObject:
    several = "valuelist" in attributes
    value = attributes["valuelist" if several else "value"]
    return MediaObject(kind, name, value, several, MappingProxyType(dict(attributes)))


def _refuse_doctype(*_declaration: object) -> None:
    """Entities are declared in a document type only: without one, nothing expands and nothing is fetched."""
    raise InputError("label_config", "expected no document type declaration")


def _per_region(control: Control) -> bool:
    return control.attributes.get("perregion", "").lower() == "true"


def _resolve(value: str, data: Mapping[str, Any]) -> Any:
    """The text itself, or what the task's data hold at "$key" or "$key.inner"."""
    if not value.startswith("$"):
        return value
    if value[1:] in data:
        return data[value[1:]]
    found: Any = data
    for key in value[1:].split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _number(text: str | float) -> float | None:
    try:
        value = float(text)
    except (ValueError, OverflowError):
        return None
    return value if isfinite(value) else None
