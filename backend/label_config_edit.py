"""Add to a labeling config what segmenting and tracking need, and leave all else as it is written.

The document is edited as text at the places the parser names, so that comments, layout and order stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal
from xml.parsers import expat

from backend.label_config import TRACK_LABEL, Control, LabelConfig, VideoSetup, parse_label_config
from edgetam_model import InputError

ProjectKind = Literal["video", "image"]

EMPTY = "<View></View>"  # what a new project has
DEFAULT_LABELS = ("Object",)
TRACK_HOTKEYS = ("t", "g", "j", "y")  # the first that no label has yet
PLACEHOLDER = "track 100 | back 50 | both | to 300 | stop"
MASKS = frozenset({"brush", "bitmask", "polygon"})
TAG = re.compile(rb"""<[^\s/>]+(?:[^"'>]|"[^"]*"|'[^']*')*>""")


@dataclass(frozen=True)
class Adaptation:
    """A config that fits, and in words what was added to it (nothing: it fitted already)."""

    xml: str
    changes: tuple[str, ...]


def adapted_config(xml: str, kind: ProjectKind, labels: Sequence[str] = ()) -> str:
    """The config of `adapt`."""
    return adapt(xml, kind, labels).xml


def adapt(xml: str, kind: ProjectKind, labels: Sequence[str] = ()) -> Adaptation:
    """Add what is missing; a config that fits comes back as it was.

    For video: the video, its rectangle, class labels, the label Track with a hotkey, and the box for
    commands. For images: the image, a brush where no mask can be drawn, smart points and boxes to prompt
    with; mask tools that do not say whether they are smart become smart="false", else a click would paint.

    Args:
        xml: a labeling config; an empty one counts as that of a new project.
        kind: what is labelled.
        labels: classes that must be there; "Object" where the config has none at all.

    Raises:
        InputError: `label_config` cannot be read, or has names that cannot be referred to; `labels` that
            cannot be written.
    """
    wanted = _checked(labels, kind)
    draft = _Draft(xml.strip() or EMPTY)
    if kind == "video":
        _fit_video(draft, wanted)
    else:
        _fit_image(draft, wanted)
    return Adaptation(draft.text, tuple(draft.changes))


def kind_of(config: LabelConfig) -> ProjectKind | None:
    """What a config labels: video before image; None for neither."""
    kinds = {item.type for item in config.objects}
    return "video" if "video" in kinds else "image" if "image" in kinds else None


def _checked(labels: Sequence[str], kind: ProjectKind) -> tuple[str, ...]:
    """Trimmed, each once."""
    found = tuple(dict.fromkeys(" ".join(label.split()) for label in labels))
    for label in found:
        if not label or not label.isprintable():
            raise InputError("labels", f"expected names that can be printed, got {label!r:.60}")
        if kind == "video" and label == TRACK_LABEL:
            raise InputError("labels", f"{TRACK_LABEL} is the name of the button, not of a class")
    return found


def _fit_video(draft: _Draft, labels: tuple[str, ...]) -> None:
    videos = [item.name for item in draft.config.objects if item.type == "video"]
    if draft.config.video is not None:
        name = draft.config.video.object.name
    elif videos:
        name = videos[0]
    else:
        name = draft.add_object("video", '<Video name="{name}" value="$video" frameRate="$fps"/>')
    if draft.config.video is None:
        line = f'<VideoRectangle name="{draft.free_name("box")}" toName="{_reference(name)}"/>'
        draft.add_after(name, [line], "the tool VideoRectangle")
    setup = draft.config.video
    assert setup is not None, "a video has its rectangle now"
    _add_classes(draft, setup, labels)
    if setup.action is None:
        _add_button(draft, name)
    if setup.commands is None:
        head = f'<TextArea name="{draft.free_name("cmd")}" toName="{_reference(name)}" perRegion="true"'
        line = f'{head} placeholder="{PLACEHOLDER}"/>'
        draft.add_after(setup.rectangle.name, [line], "a box for commands at each region")


def _add_button(draft: _Draft, video: str) -> None:
    key = draft.free_hotkey()
    button = f'<Label value="{TRACK_LABEL}" hotkey="{key}"/>' if key else f'<Label value="{TRACK_LABEL}"/>'
    lines = _tag_with(f'<Labels name="{draft.free_name("act")}" toName="{_reference(video)}">', [button])
    draft.add_before(video, lines, f"the label {TRACK_LABEL}" + (f", hotkey {key}" if key else ""))


def _add_classes(draft: _Draft, setup: VideoSetup, labels: tuple[str, ...]) -> None:
    if setup.classes:
        _add_labels(draft, setup.classes, labels)
        return
    target, labels = _reference(setup.object.name), labels or DEFAULT_LABELS
    opening = f'<Labels name="{draft.free_name("videoLabels")}" toName="{target}" allowEmpty="true">'
    lines = _tag_with(opening, [_label(value) for value in labels])
    draft.add_before(setup.object.name, lines, f"the classes {', '.join(labels)}")


def _fit_image(draft: _Draft, labels: tuple[str, ...]) -> None:
    images = draft.config.images
    if images:
        name = images[0].name
    else:
        name = draft.add_object("image", '<Image name="{name}" value="$image" zoom="true"/>')
    _mark_outputs(draft, name)
    plain = tuple(control for control in draft.config.controls_of(name) if control.type == "labels")
    known = () if plain else labels or _known_labels(draft.config, name) or DEFAULT_LABELS
    # Each goes right below the image, so the last one is the first: Label Studio offers the first smart tool.
    _add_prompt_tool(draft, name, "Rectangle", "rect", known)
    _add_prompt_tool(draft, name, "KeyPoint", "kp", known)
    if not any(c.kind in MASKS and c.smart is False for c in draft.config.controls_of(name)):
        _add_tool(draft, name, "Brush", f'name="{draft.free_name("brush")}" smart="false"', known)
    for control in draft.config.controls_of(name):
        if control.kind is not None and control.labelled:
            _add_labels(draft, (control,), labels)
    if plain:
        _add_labels(draft, plain, labels)


def _mark_outputs(draft: _Draft, image: str) -> None:
    """Label Studio takes every tool without a mark as smart, and the first smart one gets the clicks."""
    for control in draft.config.controls_of(image):
        if control.kind in MASKS and "smart" not in control.attributes:
            draft.add_attribute(control.name, 'smart="false"')


def _known_labels(config: LabelConfig, image: str) -> tuple[str, ...]:
    """The classes of the image's drawing tools, each once."""
    drawn = [control for control in config.controls_of(image) if control.kind is not None]
    return tuple(dict.fromkeys(label for control in drawn for label in control.labels))


def _add_prompt_tool(draft: _Draft, image: str, tag: str, wish: str, labels: tuple[str, ...]) -> None:
    """A smart tool, unless the image has one of its kind; a tool that says nothing is smart."""
    found = [c for c in draft.config.controls_of(image) if c.kind == tag.lower() and c.smart is not False]
    if not found:
        _add_tool(draft, image, tag, f'name="{draft.free_name(wish)}" smart="true"', labels)


def _add_tool(draft: _Draft, image: str, tag: str, attributes: str, labels: tuple[str, ...]) -> None:
    """A drawing tool; without labels of its own where a separate `Labels` control gives them."""
    kind = f"{tag}Labels" if labels else tag
    head = f'<{kind} {attributes} toName="{_reference(image)}"'
    lines = _tag_with(head + ">", [_label(value) for value in labels]) if labels else [head + "/>"]
    draft.add_after(image, lines, f"the tool {kind}")


def _add_labels(draft: _Draft, controls: tuple[Control, ...], labels: tuple[str, ...]) -> None:
    """What none of these controls has goes to the first; labels from the task's data are left alone."""
    if any(control.dynamic for control in controls):
        return
    known = {label for control in controls for label in control.labels}
    missing = [label for label in labels if label not in known]
    if missing:
        lines = [_label(value) for value in missing]
        draft.add_children(controls[0].name, lines, f"the labels {', '.join(missing)} in {controls[0].name}")


def _label(value: str) -> str:
    return f'<Label value="{escape(value)}"/>'


def _tag_with(opening: str, children: list[str]) -> list[str]:
    return [opening, *(f"  {child}" for child in children), f"</{opening[1:].split(maxsplit=1)[0]}>"]


def _reference(name: str) -> str:
    """A name as `toName` holds it, where commas separate names."""
    if not name.isprintable() or "," in name or name != name.strip():
        raise InputError("label_config", f"the name {name!r:.60} cannot be referred to; please rename it")
    return escape(name)


@dataclass
class _Tag:
    """Where a tag stands in the document, in bytes.

    Attributes:
        start, opened: begin and end of its start tag.
        end, closed: begin and end of its end tag; of an empty element (`<Video/>`) both are `opened`.
    """

    name: str
    attributes: Mapping[str, str]
    start: int
    opened: int
    end: int = 0
    closed: int = 0
    empty: bool = False


class _Draft:
    """A config while things are added to it; read anew after each, so that places are never stale."""

    def __init__(self, xml: str) -> None:
        self.changes: list[str] = []
        self._read(xml)

    def _read(self, xml: str) -> None:
        self.config = parse_label_config(xml)  # refuses what is too large, too deep, or declares entities
        self.text = xml
        self._bytes = xml.encode()
        self._tags = _tags(self._bytes)

    def free_name(self, wish: str) -> str:
        """The wished name, numbered where it is taken."""
        taken = {tag.attributes.get("name", "").strip() for tag in self._tags}
        names = (wish if number == 1 else f"{wish}{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def free_hotkey(self) -> str | None:
        """A key for the button that no tag has."""
        taken = {tag.attributes.get("hotkey", "").strip().lower() for tag in self._tags}
        return next((key for key in TRACK_HOTKEYS if key not in taken), None)

    def add_object(self, kind: str, line: str) -> str:
        """A media object as the last child of the root; returns its name."""
        name = self.free_name(kind)
        self._add_inside(self._tags[0], [line.format(name=name)], f"the {kind}, from the task's ${kind}")
        return name

    def add_before(self, item: str, lines: list[str], change: str) -> None:
        """New tags above a media object."""
        tag = self._object(item)
        indent = self._indent(tag)
        text = "".join(f"{line}\n{indent}" for line in lines)
        self._splice(tag.start, tag.start, text, change)

    def add_after(self, item: str, lines: list[str], change: str) -> None:
        """New tags below a media object or a control."""
        tag = self._control(item) if self.config.control(item) else self._object(item)
        indent = self._indent(tag)
        self._splice(tag.closed, tag.closed, "".join(f"\n{indent}{line}" for line in lines), change)

    def add_children(self, control: str, lines: list[str], change: str) -> None:
        """New tags at the end of a control."""
        self._add_inside(self._control(control), lines, change)

    def add_attribute(self, control: str, attribute: str) -> None:
        """An attribute that the control does not have."""
        tag = self._control(control)
        ending = b"/>" if tag.empty else b">"
        place = tag.start + len(self._bytes[tag.start : tag.opened].removesuffix(ending).rstrip())
        self._splice(place, place, f" {attribute}", f"{attribute} at {control}")

    def _add_inside(self, tag: _Tag, lines: list[str], change: str) -> None:
        indent = self._indent(tag)
        text = "".join(f"\n{indent}  {line}" for line in lines)
        if tag.empty:
            place = tag.start + len(self._bytes[tag.start : tag.opened].removesuffix(b"/>").rstrip())
            self._splice(place, tag.opened, f">{text}\n{indent}</{tag.name}>", change)
            return
        inner = self._bytes[tag.opened : tag.end]
        place = tag.opened + len(inner.rstrip())
        own_line = b"\n" in inner[len(inner.rstrip()) :]
        self._splice(place, place, text if own_line else f"{text}\n{indent}", change)

    def _object(self, name: str) -> _Tag:
        objects = (tag for tag in self._named(name) if not tag.attributes.get("toname"))
        return next(t for t in objects if t.attributes.get("value") or t.attributes.get("valuelist"))

    def _control(self, name: str) -> _Tag:
        return next(tag for tag in self._named(name) if tag.attributes.get("toname"))

    def _named(self, name: str) -> Iterator[_Tag]:
        """Tags of that name; labels may have names too."""
        for tag in self._tags:
            if tag.attributes.get("name") == name and tag.name.lower() not in ("label", "choice"):
                yield tag

    def _indent(self, tag: _Tag) -> str:
        """What stands before the tag on its line, if that is white space only."""
        before = self._bytes[: tag.start].rpartition(b"\n")[2]
        return "" if before.strip() else before.decode()

    def _splice(self, start: int, end: int, text: str, change: str) -> None:
        self.changes.append(change)
        self._read((self._bytes[:start] + text.encode() + self._bytes[end:]).decode())


def _tags(document: bytes) -> list[_Tag]:
    """Every tag of a well-formed document, in its order."""
    tags: list[_Tag] = []
    opened: list[_Tag] = []
    parser = expat.ParserCreate("utf-8")

    def start(name: str, given: dict[str, str]) -> None:
        place = parser.CurrentByteIndex
        match = TAG.match(document, place)
        assert match is not None, "the parser has just found a tag here"
        attributes = {key.lower(): value for key, value in given.items()}
        tag = _Tag(name, attributes, place, match.end(), empty=match[0].endswith(b"/>"))
        tags.append(tag)
        opened.append(tag)

    def end(_name: str) -> None:
        tag = opened.pop()
        tag.end = tag.opened if tag.empty else parser.CurrentByteIndex
        tag.closed = tag.opened if tag.empty else document.index(b">", tag.end) + 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(document, True)
    return tags
