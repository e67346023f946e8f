"""Images that were encoded a moment ago, by their content: a second click costs no second encoding."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM, EdgeTAMConfig, ImagePredictor

Rgb = NDArray[np.uint8]
_Key = tuple[str, str]  # fingerprint of the model, SHA-256 of the content
VIEWS = 16  # windows that a predictor keeps of one image, where the model has windows
FLOATS_OF_DETAIL = 12  # per pixel of the input, that a view keeps for a refiner; 11 measured for `nano`


@dataclass
class EncodedImage:
    """One image, ready for prompts. Predictors are not made for two threads: hold `guard`.

    Attributes:
        size: (H, W) in pixels.
        bytes: that it keeps in memory, about; 0 until it is encoded.
    """

    guard: threading.Lock = field(default_factory=threading.Lock)
    predictor: ImagePredictor | None = None
    size: tuple[int, int] = (0, 0)
    bytes: int = 0


class ImageCache:
    """The encoded images that were used last, each by one model; may be shared between threads.

    Args:
        max_bytes: memory for them all. The newest stays whatever it takes.
        max_models: of how many models, those that were used last: an image keeps its model in memory.
    """

    def __init__(self, max_bytes: int, max_models: int) -> None:
        self._max_bytes = max_bytes
        self._max_models = max_models
        self._images: OrderedDict[_Key, EncodedImage] = OrderedDict()
        self._guard = threading.Lock()
        self.hits = 0
        self.misses = 0

    @contextmanager
    def hold(self, content: bytes, model: EdgeTAM, read: Callable[[], Rgb]) -> Iterator[EncodedImage]:
        """The encoded image, for this thread alone while the `with` lasts.

        Args:
            content: the file's bytes.
            model: whose encoding it is; made where it has not been.
            read: the pixels of those bytes; called only then.

        Raises:
            MediaError: from `read`. The image is not kept then.
        """
        key = model.fingerprint(), hashlib.sha256(content).hexdigest()
        image = self._entry(key)
        with image.guard:
            if image.predictor is None:
                self._encode(key, image, model, read)
            else:
                self.hits += 1
            yield image

    @property
    def used_bytes(self) -> int:
        """Memory that all of them take, about."""
        with self._guard:
            return sum(image.bytes for image in self._images.values())

    def _entry(self, key: _Key) -> EncodedImage:
        with self._guard:
            image = self._images.setdefault(key, EncodedImage())
            self._images.move_to_end(key)
            return image

    def _encode(self, key: _Key, image: EncodedImage, model: EdgeTAM, read: Callable[[], Rgb]) -> None:
        from edgetam_model import ImagePredictor

        self.misses += 1
        done = False
        try:
            rgb = read()
            predictor = ImagePredictor(model)
            predictor.set_image(rgb)
            done = True
        finally:
            if not done:
                self._forget(key, image)
        image.size = (rgb.shape[0], rgb.shape[1])
        image.bytes = held_bytes(model.config, rgb.nbytes)
        image.predictor = predictor
        self._shrink()

    def _forget(self, key: _Key, image: EncodedImage) -> None:
        with self._guard:
            if self._images.get(key) is image:
                del self._images[key]

    def _shrink(self) -> None:
        """Let the oldest go; a thread that holds one just now keeps it until it is done."""
        with self._guard:
            newest = dict.fromkeys(model for model, _ in reversed(self._images))  # an ordered set
            models = set(list(newest)[: self._max_models])
            for key in [key for key in self._images if key[0] not in models]:
                del self._images[key]
            used = sum(image.bytes for image in self._images.values())
            while used > self._max_bytes and len(self._images) > 1:
                _, oldest = self._images.popitem(last=False)
                used -= oldest.bytes


def held_bytes(config: EdgeTAMConfig, pixels: int) -> int:
    """Bytes that a predictor keeps of one image at most.

    Args:
        config: of its model.
        pixels: bytes of the image itself, which windows are cut from later.
    """
    # float32 of grid² × width at stride 16, as many at stride 8, and twice as many at stride 4.
    features = 4 * 4 * config.grid**2 * config.width
    if not config.window_scale:
        return features
    detail = 4 * FLOATS_OF_DETAIL * config.image_size**2
    return VIEWS * (features + detail) + pixels
