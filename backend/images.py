"""The image service: clicks and boxes on images become masks, in the server's process, on a small pool."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from backend.image_cache import EncodedImage, ImageCache, Rgb
from backend.image_prompts import DrawnObject, read_prompts
from backend.image_regions import RegionOptions, regions_from_mask
from backend.jobs import QueueFull
from backend.label_config import LabelConfig
from backend.loading import version_of
from backend.media import MediaIntake
from backend.predictions import Prediction, Region, prediction_of
from backend.settings import Settings
from edgetam_model import ImageDecoders, InputError, MediaError, read_image

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM

RETRY = 5  # seconds after which a refused request may come again
log = logging.getLogger(__name__)


class ModelSource(Protocol):
    """What is needed of `Serving`, and of `BackgroundModel`."""

    def get(self, seconds: float) -> EdgeTAM: ...


@dataclass(frozen=True)
class ImageLimits:
    """Bounds of the service.

    Attributes:
        threads: images computed at once. Batches leave one of them to people, where there are two or more.
        waiting: further requests that may wait for one of those.
        seconds: until a request has to be answered; well below the 100 s that Label Studio waits.
        cache_bytes: memory for encoded images.
        cache_models: of how many models; `ModelOptions` keeps three beside the base one.
        file_bytes: of one image file, which is read into memory.
    """

    threads: int = 2
    waiting: int = 40
    seconds: float = 80.0
    cache_bytes: int = 1 << 30
    cache_models: int = 4
    file_bytes: int = 256 << 20


class ImageService:
    """Answers image tasks; may be shared between threads.

    Args:
        settings: limits of media, tolerance of polygons, threads.
        intake: where images come from.
        limits: made from the settings when left out.
    """

    def __init__(
        self,
        settings: Settings,
        intake: MediaIntake,
        limits: ImageLimits | None = None,
    ) -> None:
        self.limits = limits or ImageLimits(threads=settings.image_threads)
        self.cache = ImageCache(self.limits.cache_bytes, self.limits.cache_models)
        most = min(int(settings.max_media_bytes), self.limits.file_bytes)
        self._media_limits = replace(settings.media_limits(), max_bytes=most)
        self._options = RegionOptions(polygon_tolerance=settings.mask_tolerance)
        self._intake = intake
        apart = settings.apart()
        self._decoders = ImageDecoders(apart, kept=self.limits.threads) if apart else None
        self._slots = threading.BoundedSemaphore(self.limits.threads)
        self._batch_slots = threading.BoundedSemaphore(max(1, self.limits.threads - 1))
        self._inside = 0
        self._guard = threading.Lock()

    def start(self) -> None:
        """Have a process ready that decodes, where images are decoded apart."""
        if self._decoders is not None:
            self._decoders.start()

    def close(self) -> None:
        """End the processes that decode."""
        if self._decoders is not None:
            self._decoders.close()

    @property
    def inside(self) -> int:
        """Requests that are computed or wait just now."""
        return self._inside

    def answer(
        self,
        task: Mapping[str, Any],
        context: Any,
        config: LabelConfig,
        serving: ModelSource,
        *,
        hostname: str | None = None,
        token: SecretStr | None = None,
        deadline: float | None = None,
    ) -> Prediction | None:
        """The masks of what was drawn on a task's images, in the shapes that its config asks for.

        What was drawn and cannot be used is left out, with a line in the log, as long as anything else can.

        Args:
            task: as Label Studio sends it.
            context: of an interactive request; None in a batch.
            config: the project's.
            serving: the project's model; loaded on its own, and waited for.
            hostname, token: of the Label Studio that introduced itself by /setup.
            deadline: on the monotonic clock: what is not begun by then is left out. None: `limits.seconds`.

        Returns:
            None where nothing is asked for, or nothing was found.

        Raises:
            InputError: a wrong task or context, refused media; and nothing else could be answered.
            QueueFull: too many requests at once, or the deadline passed before anything was computed.
            ModelNotReady: the model is not there in time.
        """
        drawn = read_prompts(task, context, config)
        if not drawn:
            return None
        data = task.get("data")
        if not isinstance(data, Mapping):
            raise InputError("task.data", f"expected an object, got {type(data).__name__}")
        asked = _Asked(
            config,
            interactive=context is not None,
            deadline=deadline or time.monotonic() + self.limits.seconds,
        )
        with self._admitted():
            model = serving.get(max(0.0, asked.left))
            for canvas, objects in _by_canvas(drawn).items():
                item = config.object(canvas[0])
                assert item is not None, "read_prompts gives images of the config only"
                source = item.reference(data, canvas[1] or 0)
                with self._intake.open(
                    source, task_id=_task_id(task), hostname=hostname, token=token
                ) as file:
                    if file.kind != "image":
                        raise MediaError("data", f"expected an image, got a {file.kind}: {file.source}")
                    self._image(file.path, objects, model, asked)
        if asked.skipped == len(drawn):
            raise QueueFull("image", self.inside, RETRY)
        return prediction_of(asked.finished(), version_of(model))

    def _image(self, path: Path, objects: Sequence[DrawnObject], model: EdgeTAM, asked: _Asked) -> None:
        """The regions of all objects on one image."""
        with self._slot(asked):
            content = _content(path, self._media_limits.max_bytes)
            with self.cache.hold(content, model, lambda: self._pixels(content, asked)) as image:
                for one in objects:
                    if asked.left <= 0:
                        asked.skipped += 1
                        continue
                    try:
                        asked.regions += self._object(image, one, asked.config)
                    except InputError as error:
                        asked.problems.append(error)

    def _pixels(self, content: bytes, asked: _Asked) -> Rgb:
        if self._decoders is None:
            return read_image(content, self._media_limits)
        return self._decoders.read(content, self._media_limits, max(1.0, asked.left))

    def _object(self, image: EncodedImage, one: DrawnObject, config: LabelConfig) -> list[Region]:
        assert image.predictor is not None, "hold gives encoded images only"
        result = image.predictor.predict(one.prompt(image.size))
        return regions_from_mask(result, one, config, self._options)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request in, or refuse it at once: waiting for what cannot be done in time helps nobody."""
        most = self.limits.threads + self.limits.waiting
        with self._guard:
            if self._inside >= most:
                raise QueueFull("image", self._inside, RETRY)
            self._inside += 1
        try:
            yield
        finally:
            with self._guard:
                self._inside -= 1

    @contextmanager
    def _slot(self, asked: _Asked) -> Iterator[None]:
        with ExitStack() as held:
            for slots in (self._slots,) if asked.interactive else (self._batch_slots, self._slots):
                if not slots.acquire(timeout=max(0.0, asked.left)):
                    raise QueueFull("image", self._inside, RETRY)
                held.callback(slots.release)
            yield


@dataclass
class _Asked:
    """One request while it is worked on."""

    config: LabelConfig
    interactive: bool
    deadline: float

    def __post_init__(self) -> None:
        self.regions: list[Region] = []
        self.problems: list[InputError] = []
        self.skipped = 0

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def finished(self) -> list[Region]:
        """The regions; what went wrong is raised where it was all, and logged where it was not."""
        if self.problems and not self.regions:
            raise self.problems[0]
        for problem in self.problems:
            log.warning("an object is left out: %s", problem)
        if self.skipped:
            log.warning("%d objects are left out: the time is up", self.skipped)
        return self.regions


def _by_canvas(drawn: Sequence[DrawnObject]) -> dict[tuple[str, int | None], list[DrawnObject]]:
    """Objects by the image that they were drawn on: its name, and which one where it shows several."""
    groups: dict[tuple[str, int | None], list[DrawnObject]] = {}
    for one in drawn:
        groups.setdefault((one.canvas.name, one.canvas.item_index), []).append(one)
    return groups


def _task_id(task: Mapping[str, Any]) -> int | None:
    number = task.get("id")
    return number if isinstance(number, int) else None


def _content(path: Path, most: int) -> bytes:
    """The bytes of a file.

    Raises:
        MediaError: larger than that, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise MediaError("data", f"the image cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise MediaError("data", f"an image file may have {most:,} bytes at most")
    return content
