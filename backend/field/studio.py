"""Label Studio as a place that kits come from and go back to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backend.fetching import Fetcher
from backend.field.content import Picture, TaskContent, kept, pictures, region_ids
from backend.field.regions_out import OutOptions
from backend.field.site import FieldSite
from backend.field.starting import Project
from backend.field.studio_merging import merge
from backend.image_regions import RegionOptions
from backend.label_config import LabelConfig, parse_label_config
from backend.label_studio_records import DrawnTask
from backend.media import MediaIntake
from backend.settings import Settings
from backend.video_keyframes import KeyframeOptions
from edgetam_model import InputError, MediaError
from edgetam_model.field_places import (
    Access,
    FieldItem,
    FieldProject,
    LeftOut,
    Media,
    Outcome,
    Packing,
    PackWish,
    Return,
)

LONGEST_NAME = 80


class LabelStudioPlatform:
    """The entry point; see `FieldPlatform`."""

    def project(self, text: str) -> FieldProject:
        """See `FieldPlatform`; the text is the labeling config."""
        return Project.read(text)

    @contextmanager
    def site(self, access: Access) -> Iterator[Studio]:
        """See `FieldPlatform`. LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY stand in for what is not given."""
        given = {"LABEL_STUDIO_URL": access.url, "LABEL_STUDIO_API_KEY": access.token}
        named = {name: text for name, text in given.items() if text}
        settings = Settings.from_env({**access.environ, **named})
        url = settings.label_studio_url or access.known
        if not url:
            raise InputError("url", "expected --url, or LABEL_STUDIO_URL")
        if settings.label_studio_api_key is None:
            raise InputError("token", "expected --token, or LABEL_STUDIO_API_KEY")
        known = settings.model_copy(update={"label_studio_url": url.rstrip("/")})
        site = FieldSite(url, settings.label_studio_api_key, Fetcher.from_settings(known))
        yield Studio(settings, site)


PLATFORM = LabelStudioPlatform()


class Studio:
    """A Label Studio; see `edgetam_model.field_places.FieldSite`."""

    def __init__(self, settings: Settings, site: FieldSite) -> None:
        self._settings = settings
        self._site = site
        self._intake = MediaIntake(settings, site)

    @property
    def url(self) -> str:
        """Its address."""
        return str(self._site.base)

    def pack(self, wish: PackWish) -> Packing:
        """A project's tasks.

        Raises:
            InputError: no number of a project, or frames are asked for.
            LabelStudioError: refused, or no such project.
        """
        number = wish.address
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise InputError("from", f"expected label-studio:NUMBER, of a project, got {number!r:.80}")
        if wish.range or wish.clip:
            raise InputError("range", "Label Studio's tasks are packed whole, and as what they are")
        project = self._site.get_project(int(number))
        text = project.label_config or ""
        items = self._items(int(number), parse_label_config(text), wish.tasks)
        return Packing(int(number), project.title or "", text, items)

    def merge(self, home: Return) -> Iterator[Outcome]:
        """See `FieldSite`: one outcome for each task."""
        shapes = OutOptions(
            RegionOptions(polygon_tolerance=self._settings.mask_tolerance),
            KeyframeOptions(tolerance=self._settings.keyframe_tolerance),
        )
        return merge(self._site, home, shapes)

    def _items(
        self, project: int, config: LabelConfig, tasks: tuple[int, ...]
    ) -> Iterator[FieldItem | LeftOut]:
        missing = set(tasks)
        for task in self._site.tasks(project, tasks):
            missing.discard(task.id)
            try:
                yield self._item(task, pictures(config, task.data))
            except InputError as error:
                yield LeftOut(task.id, str(error))
        yield from (LeftOut(number, "the project has none") for number in sorted(missing))

    def _item(self, task: DrawnTask, shown: tuple[Picture, ...]) -> FieldItem:
        video = shown[0].object.type == "video"
        annotations = tuple(kept(one) for one in task.annotations)
        content = TaskContent(id=task.id, data=task.data, annotations=annotations)
        references = [one.object.reference(task.data, one.item or 0) for one in shown]
        return FieldItem(
            id=task.id,
            name=media_name(references[0]),
            kind="video" if video else "images" if len(shown) > 1 else "image",
            content=content.model_dump_json(),
            objects=len(region_ids(content.result)),
            media=tuple(self._opener(task.id, one, "video" if video else "image") for one in references),
        )

    def _opener(self, task: int, reference: str, kind: str) -> Callable[[], AbstractContextManager[Media]]:
        @contextmanager
        def opened() -> Iterator[Path]:
            with self._intake.open(reference, task_id=task) as file:
                if file.kind != kind:
                    raise MediaError("data", f"expected {kind} media, got {file.kind}")
                yield file.path

        return opened


def media_name(reference: str) -> str:
    """A file's name out of an address, for people; Label Studio's own prefix left out."""
    if reference.startswith("data:"):
        return "inline image"
    parts = urlsplit(reference)
    text = unquote(parts.path or reference)
    if parts.query.startswith("d="):
        text = unquote(parts.query[2:])
    name = text.rstrip("/").rpartition("/")[2]
    head, dash, rest = name.partition("-")
    if dash and len(head) == 8 and rest and all(c in "0123456789abcdef" for c in head):
        name = rest
    return name[-LONGEST_NAME:] or "media"
