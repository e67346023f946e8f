"""Which model serves a project, through every switch, and what happens where one cannot be loaded."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backend.loading import BackgroundModel, ModelNotReady, version_of
from backend.project_models import ModelOptions, ProjectModels, store_name, version_store
from backend.protocol import project_id
from edgetam_model import EdgeTAM, VersionName, VersionStore, WeightsError, load_model
from tests.backend.server_fixtures import ready_model, settings_in, tiny
from tests.backend.version_fixtures import P, add_version, damage, fine_tuned, line_of, v

WAIT = 60.0


class Watched(ProjectModels):
    """Counts what is loaded, and may hold it up or let it fail."""

    def __init__(
        self, store: VersionStore, base: BackgroundModel | None = None, options: ModelOptions | None = None
    ) -> None:
        super().__init__(base or ready_model(), store, self._read, options)
        self.loads: Counter[VersionName] = Counter()
        self.before: Callable[[VersionName], None] = lambda name: None

    def _read(self, name: VersionName) -> EdgeTAM:
        self.loads[name] += 1
        self.before(name)
        return load_model(self.store.weights_file(name), "cpu").fuse()


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return version_store(settings_in(tmp_path))


@pytest.fixture
def models(store: VersionStore) -> Watched:
    return Watched(store)


def test_versions_lie_where_the_command_line_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    assert version_store(settings_in(tmp_path, MODEL_DIR=str(tmp_path / "state"))).root == VersionStore().root
    monkeypatch.delenv("MODEL_DIR")
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    assert version_store(settings_in(tmp_path)).root == VersionStore().root


@given(st.integers(0, 10**18 - 1), st.sampled_from(["", ".", ".1700000000"]), st.integers(0, 3))
def test_a_projects_number_is_read_however_it_is_written(number: int, made: str, zeros: int) -> None:
    text = f"{'0' * zeros}{number}"[-18:] + made
    assert project_id(text) == str(number)
    assert str(VersionName(store_name(project_id(text)), 1)) == f"project-{number}/v0001"


@given(st.none() | st.text() | st.text(alphabet="0123456789./-", max_size=8))
def test_whatever_a_project_is_called_the_store_can_be_asked(text: str | None) -> None:
    found = project_id(text)
    assert found == "" or VersionName(store_name(found), 1).project == f"project-{found}"


def test_the_base_weights_serve_where_nothing_is_current(models: Watched, store: VersionStore) -> None:
    add_version(store, 1)
    for project in ("7", "8", ""):
        serving = models.serving(project)
        assert serving.get(WAIT) is models.base.get(0)
        assert (serving.label, serving.version) == ("base", version_of(tiny()))
        assert serving.fingerprint(0) == tiny().fingerprint()
    assert not models.loads


def test_a_promoted_version_serves_its_project_alone(models: Watched, store: VersionStore) -> None:
    line_of(store, 1)
    mark = fine_tuned(1).fingerprint()
    serving = models.serving("7")
    assert serving.version == f"edgetam-project-7/v0001-{mark[:8]}" == version_of(serving.get(WAIT))
    assert serving.fingerprint(0) == mark == serving.get(0).fingerprint()
    assert (serving.label, serving.project) == ("v0001", "7")
    assert models.serving("8").get(0) is models.base.get(0)


def test_the_version_is_told_without_loading_it(models: Watched, store: VersionStore) -> None:
    line_of(store, 1, 2)
    assert models.serving("7").version.startswith("edgetam-project-7/v0002-")
    marks = [fine_tuned(seed).fingerprint()[:8] for seed in (1, 2)]
    own = [f"edgetam-project-7/v000{n}-{mark}" for n, mark in enumerate(marks, 1)]
    other = add_version(store, 2, "project-8")
    assert models.versions("7") == [version_of(tiny()), *own]
    assert models.versions("9") == [version_of(tiny())]
    assert models.versions() == [version_of(tiny()), *own, f"edgetam-{other}-{marks[1]}"]
    assert not models.loads


def test_a_request_keeps_its_model_and_the_next_one_has_the_new(models: Watched, store: VersionStore) -> None:
    line_of(store, 1)
    early = models.serving("7")
    second = add_version(store, 2, parent=f"{P}/v0001")
    store.promote(second)
    assert version_of(early.get(WAIT)).startswith(f"edgetam-{P}/v0001-")  # asked before, loaded after
    assert version_of(models.serving("7").get(WAIT)).startswith(f"edgetam-{P}/v0002-")
    store.rollback(P)
    assert models.serving("7").get(0) is early.get(0)
    assert models.loads == {v(1): 1, v(2): 1}


def test_a_rollback_serves_within_a_second(models: Watched, store: VersionStore) -> None:
    line_of(store, 1, 2)
    models.serving("7").get(WAIT)
    begun = time.monotonic()
    store.rollback(P)
    found = models.serving("7").get(WAIT)  # not in memory yet
    assert time.monotonic() - begun < 1
    assert found.fingerprint() == fine_tuned(1).fingerprint()


def test_requests_at_once_load_a_version_once(models: Watched, store: VersionStore) -> None:
    line_of(store, 1)
    models.before = lambda name: time.sleep(0.1)
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda _: models.serving("7").get(WAIT), range(10)))
    assert all(model is found[0] for model in found)
    assert models.loads == {v(1): 1}


def test_loading_holds_up_nobody_else(models: Watched, store: VersionStore) -> None:
    line_of(store, 1)
    line_of(store, 2, project="project-8")
    models.serving("8").get(WAIT)
    go = threading.Event()
    models.before = lambda name: assert_true(go.wait(WAIT))
    with pytest.raises(ModelNotReady, match="still being loaded"):
        models.serving("7").get(0.01)
    begun = time.monotonic()
    assert models.serving("8").get(0).fingerprint() == fine_tuned(2).fingerprint()
    assert models.serving("9").get(0) is models.base.get(0)
    assert models.serving("7").version.startswith("edgetam-project-7/")
    assert time.monotonic() - begun < 0.5
    states = [models.is_loading]
    go.set()
    models.close(WAIT)
    assert [*states, models.is_loading] == [True, False]
    assert models.serving("7").get(0).fingerprint() == fine_tuned(1).fingerprint()


def assert_true(value: object) -> None:
    assert value


def test_the_ones_used_last_stay_in_memory(store: VersionStore) -> None:
    models = Watched(store, options=ModelOptions(kept=2))
    for number in (1, 2, 3):
        line_of(store, number, project=f"project-{number}")
    for project in "1213":
        models.serving(project).get(WAIT)
    assert list(models._kept) == [v(1, "project-1"), v(1, "project-3")]
    models.serving("1").get(0)
    models.serving("2").get(WAIT)
    assert models.loads == {v(1, "project-1"): 1, v(1, "project-2"): 2, v(1, "project-3"): 1}


def test_a_damaged_version_is_told_once_and_the_base_weights_serve(
    models: Watched, store: VersionStore, caplog: pytest.LogCaptureFixture
) -> None:
    line_of(store, 1, 2)
    damage(store, v(2))
    for _ in range(5):
        assert models.serving("7").get(WAIT) is models.base.get(0)
    assert models.serving("7").version == models.base.version
    assert models.serving("7").fingerprint(0) == models.base.fingerprint(0)
    assert models.loads == {v(2): 1}
    assert caplog.text.count("cannot be used, the base weights serve in its place") == 1
    assert "damaged: SHA-256" in models.problems()[f"{P}/v0002"]
    store.rollback(P)
    assert version_of(models.serving("7").get(WAIT)).startswith(f"edgetam-{P}/v0001-")
    assert models.problems() == {}


def test_a_request_that_met_the_base_weights_keeps_them(store: VersionStore) -> None:
    models = Watched(store, options=ModelOptions(retry_seconds=0))
    line_of(store, 1)
    models.before = fail
    serving = models.serving("7")
    assert serving.get(WAIT) is models.base.get(0)
    models.before = lambda name: None
    assert serving.get(WAIT) is models.base.get(0)
    assert models.serving("7").get(WAIT) is not models.base.get(0)
    assert models.problems() == {}  # memory was free again


def fail(name: VersionName) -> None:
    raise MemoryError("no memory left")


@pytest.mark.parametrize("file", ["version.json", "SHA256SUMS"])
def test_a_damaged_record_is_like_damaged_weights(
    models: Watched, store: VersionStore, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    line_of(store, 1)
    damage(store, v(1), file)
    for _ in range(3):
        assert models.serving("7").get(0) is models.base.get(0)
    assert models.versions("7") == [models.base.version]
    assert list(models.problems()) == [f"{P}/v0001"]
    assert caplog.text.count("cannot be used") == 1


def test_a_damaged_pointer_leaves_the_base_weights(
    models: Watched, store: VersionStore, caplog: pytest.LogCaptureFixture
) -> None:
    line_of(store, 1)
    pointer = store.root / P / "current.json"
    whole = pointer.read_text()
    pointer.write_text(whole[:-5])
    for _ in range(3):
        assert models.serving("7").get(0) is models.base.get(0)
    assert list(models.problems()) == [P]
    assert caplog.text.count("cannot be used") == 1
    pointer.write_text(whole)
    assert models.serving("7").label == "v0001"
    assert models.problems() == {}


def test_where_not_even_the_base_weights_load_it_is_said(store: VersionStore) -> None:
    def no_base() -> EdgeTAM:
        raise WeightsError("no such weights")

    models = Watched(store, BackgroundModel(no_base))
    line_of(store, 1)
    assert models.serving("7").get(WAIT).fingerprint() == fine_tuned(1).fingerprint()
    with pytest.raises(ModelNotReady, match="no such weights"):
        models.serving("8").get(WAIT)


def test_a_job_gets_the_version_that_it_names_as_long_as_there_is_one(
    models: Watched, store: VersionStore
) -> None:
    line_of(store, 1, 2)
    candidate = add_version(store, 3, parent=f"{P}/v0002")
    labels = {"v0001": 1, "v0002": 2, "v0003": 3, "": 2, "v0009": 2, "x/..": 2}
    for label, seed in labels.items():
        assert models.pinned("7", label).get(WAIT).fingerprint() == fine_tuned(seed).fingerprint(), label
    assert models.pinned("7", "base").get(0) is models.base.get(0)
    assert models.pinned("", "v0001").get(0) is models.base.get(0)
    assert models.pinned("", "").get(0) is models.base.get(0)
    store.delete(candidate)
    assert models.pinned("7", "v0003").label == "v0002"


class Switching(RuleBasedStateMachine):
    """Two projects of three versions each under all switches: what serves is always what the store says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = VersionStore(Path(self.folder.name) / "versions")
        self.models = Watched(self.store, options=ModelOptions(kept=2))
        self.seeds: dict[VersionName, int] = {}
        for project in ("project-7", "project-8"):
            for seed in (1, 2, 3):
                self.seeds[add_version(self.store, seed, project, report=False)] = seed
        self.held = [self.models.serving("7")]
        self.labels = [self.held[0].label]

    @rule(project=st.sampled_from(["7", "8"]), number=st.integers(1, 3))
    def promote(self, project: str, number: int) -> None:
        name = v(number, f"project-{project}")
        if name in self.store.names(name.project):
            self.store.promote(name)

    @rule(project=st.sampled_from(["7", "8"]))
    def roll_back(self, project: str) -> None:
        if self.store.state(f"project-{project}").switches:
            self.store.rollback(f"project-{project}", "base")

    @rule(project=st.sampled_from(["7", "8"]), number=st.integers(1, 3))
    def delete(self, project: str, number: int) -> None:
        name = v(number, f"project-{project}")
        if name in self.store.names(name.project) and name != self.store.current_of(name.project):
            self.store.delete(name)

    @rule(project=st.sampled_from(["7", "8", "9"]))
    def ask(self, project: str) -> None:
        serving = self.models.serving(project)
        current = self.store.current_of(f"project-{project}")
        model = serving.get(WAIT)
        expected = tiny() if current is None else fine_tuned(self.seeds[current])
        assert model.fingerprint() == expected.fingerprint() == serving.fingerprint(0)
        assert version_of(model) == serving.version
        self.held.append(serving)
        self.labels.append(serving.label)

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(1, len(self.held) - 1))
        serving = self.held[place]
        assert (serving.label, version_of(serving.get(WAIT))) == (self.labels[place], serving.version)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.models._kept) <= 2
        assert self.models.problems() == {}

    def teardown(self) -> None:
        self.models.close(WAIT)
        self.folder.cleanup()


TestSwitching = Switching.TestCase
TestSwitching.settings = hypothesis_settings(max_examples=8, stateful_step_count=16, deadline=None)
