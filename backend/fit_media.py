"""The media of a training: fetched once, by the same safe intake as all others, and readable to its end."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from backend.fetching import FetchError
from backend.fit_listing import may_pass
from backend.fit_videos import FitVideos
from backend.jobs import TryAgain
from backend.label_studio import LabelStudioError
from backend.media import MediaIntake, media_kind
from backend.media_cache import MediaBusyError
from backend.settings import Settings
from edgetam_model import FrameSource, ImageDecoders, MediaError, open_source
from edgetam_model.training.annotations import AnnotatedTask


class FitMedia:
    """Opens the images and videos of tasks, again and again as a training asks for them.

    What was fetched into the cache is linked into a folder of its own: it stays when the cache makes room,
    and no server is asked about it a second time. Files that lie on this machine are read where they are.

    Args:
        intake: finds and fetches.
        settings: limits, and where the cache is.
        folder: for the links; whoever made this removes it. On the cache's own disk nothing is copied.
        patient: whether a server's passing troubles are worth another try of the whole job.
    """

    def __init__(
        self, intake: MediaIntake, settings: Settings, folder: Path, *, patient: bool = False
    ) -> None:
        self._intake = intake
        self._limits = settings.media_limits()
        self._seconds = settings.max_seconds
        self._cache = settings.media_cache_dir
        self._folder = folder
        self._patient = patient
        apart = settings.apart()
        self._decoders = ImageDecoders(apart) if apart else None
        self._videos = FitVideos(self._limits, apart) if apart else None

    def open(self, task: AnnotatedTask) -> FrameSource:
        """An open source of a task's frames, to be closed by the caller.

        Raises:
            MediaError: refused, not there, damaged, or of another kind than what was drawn on it.
            TryAgain: with `patient`, what may pass.
            LabelStudioError: Label Studio gives no token.
        """
        path = self._path(task)
        if media_kind(path, task.media) != task.kind:
            raise MediaError("data", f"expected {task.kind} media: {task.media:.200}")
        source = self._opened(path, is_image=task.kind == "image")
        if source.info.duration > self._seconds:
            source.close()
            raise MediaError("data", f"the video is longer than the limit of {self._seconds:,.0f} s")
        return source

    def _opened(self, path: Path, *, is_image: bool) -> FrameSource:
        """Apart, images share a process and videos a few: a training opens many, again and again."""
        if self._decoders is None or self._videos is None:
            return open_source(path, self._limits)
        if not is_image:
            return self._videos.source(path)
        try:
            self._limits.check_bytes("data", path.stat().st_size)
            content = path.read_bytes()
        except OSError as error:
            raise MediaError("data", f"the image cannot be read: {error.strerror}") from error
        return open_source([self._decoders.read(content, self._limits)], self._limits)

    def _path(self, task: AnnotatedTask) -> Path:
        name = hashlib.sha256(f"{task.group} {task.media}".encode("utf-8", "backslashreplace")).hexdigest()
        kept = self._folder / name[:40]
        if kept.is_file():
            return kept
        number = int(task.group) if task.group.isascii() and task.group.isdecimal() else None
        try:
            with self._intake.open(task.media, task_id=number) as file:
                if not file.path.is_relative_to(self._cache):
                    return file.path
                _link(file.path, kept)
        except FetchError as error:
            passing = error.cut_off or error.status is None or error.status == 429 or error.status >= 500
            if passing and self._patient:
                raise TryAgain(str(error)) from error
            raise
        except MediaBusyError as error:
            if self._patient:
                raise TryAgain(str(error)) from error
            raise
        except LabelStudioError as error:
            if may_pass(error) and self._patient:
                raise TryAgain(str(error)) from error
            raise
        return kept


def _link(path: Path, kept: Path) -> None:
    """Give a file a second name, or copy it where the disk does not allow that.

    Raises:
        MediaError: the folder cannot be written.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(path, kept)
    except OSError:
        part = kept.with_name(f"{kept.name}.{os.getpid()}")
        try:
            shutil.copyfile(path, part)
            part.replace(kept)
        except OSError as error:
            raise MediaError("EDGETAM_CACHE", f"cannot be written: {error.strerror}") from error
