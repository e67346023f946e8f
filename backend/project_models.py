"""Which weights serve a project: the base ones, or a version that its team fine-tuned; without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from backend.loading import LOAD_ERRORS, BackgroundModel, ModelNotReady, version_named
from backend.settings import Settings
from edgetam_model import EdgeTAMError, VersionName, VersionStore

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM

BASE = "base"  # as `VersionStore` calls the weights that everybody gets
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOptions:
    """Bounds of what is kept in memory.

    Attributes:
        kept: fine-tuned models that stay loaded beside the base one, those that were used last.
        retry_seconds: after which a version that could not be loaded is tried again: memory may be free by
            then, or a disk be back.
    """

    kept: int = 3
    retry_seconds: float = 60.0


@dataclass(frozen=True)
class _Problem:
    """Why something cannot be used, and until when nobody tries. On the monotonic clock."""

    text: str
    until: float


@dataclass(frozen=True, eq=False)
class Serving:
    """What serves a project, as one request or job sees it: whatever is promoted meanwhile, it stays.

    Where the version cannot be loaded, these are the base weights, from the first answer to the last.

    Attributes:
        models: who has them.
        project: Label Studio's number of the project; empty where it is not known.
        name: the version; None: the base weights.
        mark: fingerprint of the version; empty for the base weights.
    """

    models: ProjectModels
    project: str = ""
    name: VersionName | None = None
    mark: str = ""

    @property
    def label(self) -> str:
        """`v0003`, or `base`."""
        return self.name.label if self.name else BASE

    @property
    def version(self) -> str:
        """What predictions are marked with; never waits."""
        return version_named(str(self.name), self.mark) if self.name else self.models.base.version

    def get(self, seconds: float) -> EdgeTAM:
        """The model, waited for as long as that.

        Raises:
            ModelNotReady: it still loads then, or not even the base weights can be loaded.
        """
        end = time.monotonic() + seconds
        if self._own is not None:
            try:
                return self._own.get(seconds)
            except ModelNotReady:
                if self._own.state != "failed":
                    raise
        return self.models.base.get(max(0.0, end - time.monotonic()))

    def fingerprint(self, seconds: float) -> str:
        """What tells the weights from all others; waits as `get` does, and only for the base ones.

        Raises:
            ModelNotReady: as `get`.
        """
        return self.mark or self.models.base.fingerprint(seconds)

    @cached_property
    def _own(self) -> BackgroundModel | None:
        return self.models.held(self.name) if self.name else None


class ProjectModels:
    """The model of every project; may be shared between threads.

    Args:
        base: the model of projects without a version of their own.
        store: of the versions. What is current in it is asked for each request, which costs a stat.
        load: makes the model of a version, in eval mode.
        options: how many stay in memory.
    """

    def __init__(
        self,
        base: BackgroundModel,
        store: VersionStore,
        load: Callable[[VersionName], EdgeTAM],
        options: ModelOptions | None = None,
    ) -> None:
        self.base = base
        self.store = store
        self.options = options or ModelOptions()
        self._load = load
        self._kept: OrderedDict[VersionName, BackgroundModel] = OrderedDict()
        self._begun: WeakSet[BackgroundModel] = WeakSet()
        self._marks: dict[VersionName, str] = {}  # a version never changes, and has but few bytes here
        self._problems: dict[str, _Problem] = {}  # by version, or by project where its pointer is damaged
        self._warned: set[str] = set()
        self._guard = threading.Lock()  # of all these, and never held for long
        self._turn = threading.Lock()  # one version is loaded at a time: each takes memory twice meanwhile

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The models of EDGETAM_WEIGHTS and of the versions in MODEL_DIR, as EDGETAM_RUNTIME says."""
        store = version_store(settings)

        def load(name: VersionName) -> EdgeTAM:
            # Torch takes a second to import: not before it is needed.
            from edgetam_model import accelerate, load_model, warm_up

            return warm_up(accelerate(load_model(store.weights_file(name), settings.device)))

        return cls(BackgroundModel.from_settings(settings), store, load)

    def serving(self, project: str) -> Serving:
        """What serves a project now; reads no weights.

        Args:
            project: Label Studio's number; empty: not known, so the base weights.
        """
        return self._serving(project, self._current(project))

    def pinned(self, project: str, label: str) -> Serving:
        """What served a project when a job was asked for, as long as it exists; else what serves now.

        Args:
            project: as for `serving`.
            label: `v0003`, `base`, or nothing where the job does not say.
        """
        if label == BASE:
            return Serving(self, project)
        if label and project:
            try:
                name = VersionName.parse(f"{store_name(project)}/{label}")
                self.store.get(name)
            except EdgeTAMError as error:
                log.warning("a job was asked for with a version that is gone: %s", error)
            else:
                return self._serving(project, name)
        return self.serving(project)

    def held(self, name: VersionName) -> BackgroundModel | None:
        """A version's model, loaded or not yet; None: it could not be loaded a moment ago."""
        with self._guard:
            if self._is_broken(name):
                return None
            held = self._kept.pop(name, None)
            if held is None or held.state == "failed":
                held = BackgroundModel(partial(self._load_version, name))
                self._begun.add(held)
            self._kept[name] = held
            while len(self._kept) > self.options.kept:
                self._kept.popitem(last=False)  # who uses it just now keeps it until they are done
        return held

    def versions(self, project: str = "") -> list[str]:
        """What predictions may be marked with: by the base weights, then by a project's versions, or by all.

        Versions whose records are damaged are left out.
        """
        projects = (store_name(project),) if project else self.store.projects()
        found = [self.base.version]
        for name in (name for one in projects for name in self.store.names(one)):
            with suppress(EdgeTAMError):
                found.append(version_named(str(name), self._mark(name)))
        return found

    def problems(self) -> dict[str, str]:
        """Versions, or projects, in whose place base weights serve, each with the reason."""
        with self._guard:
            return {name: problem.text for name, problem in sorted(self._problems.items())}

    @property
    def is_loading(self) -> bool:
        """Whether a thread is inside torch to load something: a process that ends then crashes."""
        return any(model.is_loading for model in self._loading())

    def close(self, seconds: float) -> None:
        """Wait for the end of loading, so long at most."""
        end = time.monotonic() + seconds
        for model in self._loading():
            model.close(max(0.0, end - time.monotonic()))

    def _current(self, project: str) -> VersionName | None:
        if not project:
            return None
        name = store_name(project)
        try:
            current = self.store.current_of(name)
        except EdgeTAMError as error:
            self._tell(name, error)
            return None
        with self._guard:  # what does not serve any more is nobody's problem
            for known in list(self._problems):
                if known.partition("/")[0] == name and known != str(current):
                    del self._problems[known]
        return current

    def _serving(self, project: str, name: VersionName | None) -> Serving:
        """The version, if it can be used; the base weights if not."""
        if name is None:
            return Serving(self, project)
        with self._guard:
            if self._is_broken(name):
                return Serving(self, project)
        try:
            return Serving(self, project, name, self._mark(name))
        except EdgeTAMError as error:
            self._tell(str(name), error)
            return Serving(self, project)

    def _mark(self, name: VersionName) -> str:
        """A version's fingerprint.

        Raises:
            InputError, WeightsError: it is gone, or its record cannot be read.
        """
        if name not in self._marks:
            self._marks[name] = self.store.get(name).record.fingerprint
            self._solved(name)
        return self._marks[name]

    def _load_version(self, name: VersionName) -> EdgeTAM:
        try:
            with self._turn:
                model = self._load(name)
        except LOAD_ERRORS as error:
            self._tell(str(name), error)
            raise
        self._solved(name)
        return model

    def _is_broken(self, name: VersionName) -> bool:
        """Whether it is too early to try again. The guard is held."""
        problem = self._problems.get(str(name))
        return problem is not None and time.monotonic() < problem.until

    def _solved(self, name: VersionName) -> None:
        with self._guard:
            self._problems.pop(str(name), None)

    def _tell(self, what: str, problem: BaseException) -> None:
        """Keep a problem, and say it in the log once."""
        with self._guard:
            self._problems[what] = _Problem(str(problem), time.monotonic() + self.options.retry_seconds)
            is_new = what not in self._warned
            self._warned.add(what)
        if is_new:
            log.warning("%s cannot be used, the base weights serve in its place: %s", what, problem)

    def _loading(self) -> list[BackgroundModel]:
        with self._guard:
            return [self.base, *self._begun]


def store_name(project: str) -> str:
    """What the store of versions calls a project of Label Studio, by its number."""
    return f"project-{project}"


def version_store(settings: Settings) -> VersionStore:
    """The versions of a server and its workers: below MODEL_DIR, else below the cache."""
    return VersionStore(settings.state_dir / "versions")
