"""A model that is loaded in the background: the server answers from its first moment on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Literal, Self

from backend.settings import Settings
from edgetam_model import EdgeTAMError

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM

ModelState = Literal["loading", "ready", "failed"]
UNKNOWN_VERSION = "edgetam"  # told while the model loads; the next answer of /setup corrects it
MARK_LETTERS = 8  # of a fingerprint, so that two sets of weights of one name are two versions
LOAD_ERRORS = (EdgeTAMError, ImportError, OSError, RuntimeError, MemoryError)  # what loading may end with


class ModelNotReady(EdgeTAMError):  # noqa: N818  a state of the service, as QueueFull
    """The model is still being loaded, or cannot be loaded; the text says which."""


class BackgroundModel:
    """A model that is loaded once, in a thread of its own; may be shared between threads.

    Args:
        load: makes the model, in eval mode. Its fingerprint is known from then on.
        prepare: makes it ready to compute; half a minute where a machine does that for the first time.
    """

    def __init__(
        self, load: Callable[[], EdgeTAM], prepare: Callable[[EdgeTAM], EdgeTAM] | None = None
    ) -> None:
        self._load, self._prepare = load, prepare
        self._loaded: Future[EdgeTAM] = Future()
        self._made: Future[EdgeTAM] = Future()
        self._started = threading.Lock()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The model of EDGETAM_WEIGHTS on EDGETAM_DEVICE, computed as EDGETAM_RUNTIME says."""

        def load() -> EdgeTAM:
            # Torch takes a second to import: not before it is needed.
            from edgetam_model import load_model

            return load_model(settings.weights, settings.device)

        def prepare(model: EdgeTAM) -> EdgeTAM:
            from edgetam_model import accelerate, warm_up

            return warm_up(accelerate(model))

        return cls(load, prepare)

    def start(self) -> None:
        """Begin to load, unless that has begun. The thread never keeps the process alive."""
        if self._started.acquire(blocking=False):
            self._thread.start()

    def close(self, seconds: float) -> None:
        """Wait for the end of loading, so long at most: a process that ends inside torch crashes."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def get(self, seconds: float) -> EdgeTAM:
        """The model, waited for as long as that.

        Raises:
            ModelNotReady: it still loads then, or it cannot be loaded.
        """
        return self._wait(self._made, seconds)

    @property
    def state(self) -> ModelState:
        """How far it is; never waits."""
        if not self._made.done():
            return "loading"
        return "failed" if self._made.exception() else "ready"

    @property
    def is_loading(self) -> bool:
        """Whether its thread is at work."""
        return self._thread.is_alive()

    @property
    def load_seconds(self) -> float:
        """How long it took until it could answer; 0 before that."""
        return self._seconds

    @property
    def problem(self) -> str:
        """Why it cannot be loaded; empty unless the state is "failed"."""
        return str(self._made.exception() or "") if self._made.done() else ""

    @property
    def version(self) -> str:
        """What predictions are marked with: the name of the weights and a part of their fingerprint."""
        known = self._loaded.done() and self._loaded.exception() is None
        return version_of(self._loaded.result()) if known else UNKNOWN_VERSION

    def fingerprint(self, seconds: float) -> str:
        """What tells the weights from all others, whatever they are called; waits for them alone.

        Raises:
            ModelNotReady: they are still being loaded then, or cannot be loaded.
        """
        return self._wait(self._loaded, seconds).fingerprint()

    @property
    def description(self) -> str:
        """One line for people: which weights these are, or how far they are."""
        if self.state == "ready":
            return str(self._made.result().weights_info)
        if self.problem or not self._loaded.done():
            return self.problem or "the model is still being loaded"
        return "the model is being prepared for this machine, which happens once"

    def _wait(self, model: Future[EdgeTAM], seconds: float) -> EdgeTAM:
        self.start()
        try:
            return model.result(seconds)
        except NotYet as error:
            raise ModelNotReady(f"{self.description}; try again in a moment") from error

    def _run(self) -> None:
        try:
            begun = time.monotonic()
            model = self._load()
            self._loaded.set_result(model)
            prepared = self._prepare(model) if self._prepare else model
            self._seconds = time.monotonic() - begun
            self._made.set_result(prepared)
        except LOAD_ERRORS as error:
            problem = ModelNotReady(f"the model cannot be loaded: {error}")
            problem.__cause__ = error
            self._made.set_exception(problem)
            if not self._loaded.done():
                self._loaded.set_exception(problem)


def version_of(model: EdgeTAM) -> str:
    """The `model_version` of predictions: equal for equal weights, on every machine."""
    return version_named(getattr(model.weights_info, "name", "custom"), model.fingerprint())


def version_named(name: str, fingerprint: str) -> str:
    """`version_of` the weights of that name and fingerprint, without loading them."""
    return f"edgetam-{name}-{fingerprint[:MARK_LETTERS]}"
