"""Images read by processes apart that are kept for the next one."""

from __future__ import annotations

import time
import weakref
from dataclasses import astuple
from threading import Lock, Timer

from edgetam_model.apart.answers import HeldAnswer, ImageAnswer, Nothing
from edgetam_model.apart.decoder import Decoder
from edgetam_model.apart.options import ApartOptions
from edgetam_model.sources import Frame, MediaLimits

IMAGES_EACH = 200  # that a process reads before another takes its place
IDLE = 300.0  # seconds without an image after which a process ends
NAME = "image"  # as `read_image` calls what it reads, which comes without a name


class ImageDecoders:
    """Reads images as `read_image` does, in processes that have no files and no network.

    Each reads one image at a time; a process that an image broke is not used again. May be shared between
    threads: as many run as images are read at once.

    Args:
        options: what each process may take.
        kept: processes that wait for the next image, at most.
    """

    def __init__(self, options: ApartOptions, kept: int = 1) -> None:
        self._options = options
        self._kept = kept
        self._guard = Lock()
        self._idle: list[_Kept] = []
        self._timer: Timer | None = None
        self._closed = False

    def start(self) -> None:
        """Have one ready: it takes about 0.2 s, which the first image need not wait for."""
        self._keep(_Kept(Decoder("images", self._options)))

    def read(self, content: bytes, limits: MediaLimits | None = None, seconds: float | None = None) -> Frame:
        """An image file's bytes as uint8 (H, W, 3) RGB the way a browser shows it; see `read_image`.

        Args:
            content: the file.
            limits: what is refused.
            seconds: for this one, where that is less than the options allow.

        Raises:
            MediaError: refused; or it broke its process.
            OSError: the system starts no more processes.
        """
        limits = limits or MediaLimits()
        limits.check_bytes(NAME, len(content))
        most = self._options.seconds
        kept = self._take()
        try:
            frame = _read(kept.decoder, content, limits, most if seconds is None else min(most, seconds))
        finally:
            kept.images += 1
            self._keep(kept)
        return frame

    def fences(self) -> tuple[str, ...]:
        """What this system holds a process in with, beside limits: some of "landlock" and "seccomp".

        Raises:
            MediaError: a process does not answer.
            OSError: the system starts no more processes.
        """
        kept = self._take()
        try:
            question = {"do": "tell"}
            held, _ = kept.decoder.ask(HeldAnswer, question, name=NAME, seconds=self._options.seconds)
        finally:
            self._keep(kept)
        return ("landlock",) * held.files + ("seccomp",) * held.calls

    def close(self) -> None:
        """End those that wait; one that reads just now ends after that."""
        with self._guard:
            self._closed = True
            ended, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        for kept in ended:
            kept.decoder.close()

    def _take(self) -> _Kept:
        """The one used last, else a new one."""
        with self._guard:
            while self._idle:
                kept = self._idle.pop()
                if kept.decoder.alive:
                    return kept
        return _Kept(Decoder("images", self._options))

    def _keep(self, kept: _Kept) -> None:
        """Have it wait for the next image, or another in its place where it broke or has read enough."""
        if not kept.decoder.alive or kept.images >= IMAGES_EACH:
            kept.decoder.close()
            if not self._room:
                return
            kept = _Kept(Decoder("images", self._options))
        kept.since = time.monotonic()
        with self._guard:
            if self._room:
                self._idle.append(kept)
                self._watch()
                return
        kept.decoder.close()

    @property
    def _room(self) -> bool:
        return not self._closed and len(self._idle) < self._kept

    def _watch(self) -> None:
        if self._timer is None:
            # A timer that held this object would keep it, and its processes, though all others forgot it.
            self._timer = Timer(IDLE, _look, [weakref.ref(self)])
            self._timer.daemon = True
            self._timer.start()

    def end_idle(self) -> None:
        """End those that have waited too long; a timer does so."""
        with self._guard:
            self._timer = None
            before = time.monotonic() - IDLE
            ended = [kept for kept in self._idle if kept.since <= before]
            self._idle = [kept for kept in self._idle if kept.since > before]
            if self._idle:
                self._watch()
        for kept in ended:
            kept.decoder.close()


def _look(owner: weakref.ref[ImageDecoders]) -> None:
    decoders = owner()
    if decoders is not None:
        decoders.end_idle()


class _Kept:
    """A process, how many images it has read, and when the last one was (monotonic)."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.images = 0
        self.since = 0.0


def _read(decoder: Decoder, content: bytes, limits: MediaLimits, seconds: float) -> Frame:
    """Two questions: only when the size is known, and permitted, is there memory for the pixels."""
    begun = time.monotonic()
    question = {"do": "image", "limits": astuple(limits)}
    with decoder.held:
        size, _ = decoder.ask(ImageAnswer, question, content, name=NAME, seconds=seconds)
        limits.check_size(NAME, size.width, size.height)
        if decoder.canvas is not None:
            decoder.canvas.grow(size.width * size.height * 3)
        left = max(1.0, seconds - (time.monotonic() - begun))
        most = 0 if decoder.canvas else size.width * size.height * 3
        _, more = decoder.ask(Nothing, {"do": "hand"}, name=NAME, seconds=left, most=most)
        return decoder.pixels(size.height, size.width, more, name=NAME)
