"""The model behind all functions, loaded once, and the images that it has encoded a moment ago."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cvat_function.settings import Settings
from cvat_function.shapes import ordered_box
from edgetam_model import EdgeTAMError, InputError, Window

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM, ImagePredictor

Rgb = NDArray[np.uint8]


class ModelNotReady(EdgeTAMError):  # noqa: N818  a state, not a mistake
    """The model cannot be loaded; the text says why."""


@dataclass(frozen=True)
class EncodedImage:
    """One image, ready for prompts.

    Attributes:
        predictor: its image is `window` of the whole one; prompts and answers are in the window's pixels.
        window: the part that was asked for, all of the image otherwise.
        size: (H, W) of the whole image.
    """

    predictor: ImagePredictor
    window: Window
    size: tuple[int, int]


@dataclass
class _Entry:
    """Predictors are not made for two threads: hold `guard`."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    image: EncodedImage | None = None


class Engine:
    """The model and its encoded images; may be shared between threads.

    Args:
        settings: weights, device, quality, and how many images are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._model: EdgeTAM | None = None
        self._loading = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def model(self) -> EdgeTAM:
        """In eval mode, its trunk fused; loaded when it is first asked for, once for all threads.

        Raises:
            ModelNotReady: weights or device are not there, or the weights have no fast mode; the next call
                tries again.
        """
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    @contextmanager
    def encoded(
        self, content: bytes, read: Callable[[], Rgb], roi: Sequence[float] | None = None
    ) -> Iterator[EncodedImage]:
        """An encoded image, for this thread alone while the `with` lasts.

        Args:
            content: bytes by which the image is known: its file's, or its pixels'.
            read: uint8 (H, W, 3) RGB of them; called only where they are not known yet.
            roi: x0, y0, x1, y1 in pixels of the part to look at, in any order; None: all of it.

        Raises:
            InputError: from `read`, or nothing of `roi` is inside the image. Nothing is kept then.
            ModelNotReady: see `model`.
        """
        model = self.model
        key = _key(content, roi)
        entry = self._entry(key)
        with entry.guard:
            if entry.image is None:
                try:
                    entry.image = _encode(model, read(), roi)
                    self._shrink()
                finally:
                    if entry.image is None:
                        self._forget(key, entry)
            yield entry.image

    def _load(self) -> EdgeTAM:
        from edgetam_model import (
            ImageOptions,
            ImagePredictor,
            RuntimeOptions,
            accelerate,
            load_model,
            warm_up,
        )

        quality = self.settings.quality
        try:
            options = replace(RuntimeOptions.from_environment(), quality=quality)
            model = accelerate(load_model(self.settings.weights, self.settings.device), options)
            ImagePredictor(model, ImageOptions(quality=quality))  # what has no fast mode refuses it here
            return warm_up(model)
        except (EdgeTAMError, ImportError, OSError, RuntimeError, MemoryError) as error:
            raise ModelNotReady(f"the model cannot be loaded: {error}") from error

    def _entry(self, key: bytes) -> _Entry:
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            return entry

    def _shrink(self) -> None:
        """Let the oldest go; a thread that holds one just now keeps it until it is done."""
        with self._guard:
            while len(self._entries) > self.settings.images:
                self._entries.popitem(last=False)

    def _forget(self, key: bytes, entry: _Entry) -> None:
        with self._guard:
            if self._entries.get(key) is entry:
                del self._entries[key]


def _key(content: bytes, roi: Sequence[float] | None) -> bytes:
    digest = hashlib.sha256(content)
    if roi is not None:
        digest.update(repr(tuple(roi)).encode())
    return digest.digest()


def _encode(model: EdgeTAM, rgb: Rgb, roi: Sequence[float] | None) -> EncodedImage:
    from edgetam_model import ImagePredictor

    height, width = rgb.shape[:2]
    window = Window.whole((height, width)) if roi is None else _window(roi, width, height)
    predictor = ImagePredictor(model)
    predictor.set_image(np.ascontiguousarray(window.cut(rgb)))
    return EncodedImage(predictor, window, (height, width))


def _window(roi: Sequence[float], width: int, height: int) -> Window:
    box = ordered_box(roi, width, height)
    if box is None:
        raise InputError("roi", f"expected one with an area inside the image ({width}×{height} pixels)")
    x0, y0, x1, y1 = box
    return Window(floor(x0), floor(y0), ceil(x1), ceil(y1))
