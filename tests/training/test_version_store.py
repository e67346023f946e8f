"""Promoting, rolling back, deleting and keeping, by one process and by several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.training import version_pointer
from edgetam_model.training.version_files import check_all
from edgetam_model.training.version_store import VersionStore, versions_dir
from edgetam_model.training.versions import NewVersion, Retention, VersionName
from tests.training.versions import add, weights_file

P = "project-7"
ROOT = Path(__file__).parents[2]


def v(number: int) -> VersionName:
    return VersionName(P, number)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


@pytest.fixture
def line(store: VersionStore, tmp_path: Path) -> VersionStore:
    """v0001 → v0002 → v0003, each promoted over its parent, and a candidate v0004 of v0003."""
    parent = "edgetam"
    for number in (1, 2, 3):
        parent = str(add(store, tmp_path / "new", parent))
        store.promote(v(number), why="better")
    add(store, tmp_path / "new", parent)
    return store


def test_versions_live_with_the_servers_state_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    assert versions_dir() == VersionStore().root == tmp_path / "state" / "versions"
    monkeypatch.setenv("MODEL_DIR", "")
    assert versions_dir() == tmp_path / "cache" / "versions"
    monkeypatch.delenv("MODEL_DIR")
    assert versions_dir() == tmp_path / "cache" / "versions"
    assert not (tmp_path / "cache").exists()  # asking writes nothing


def test_an_empty_store_says_so(store: VersionStore) -> None:
    assert store.projects() == ()
    assert store.names(P) == ()
    assert store.current_of(P) is None
    assert store.find(P) is None
    assert store.find(f"{P}/v0001") is None
    for call in (store.rows, store.rollback, lambda p: store.prune(p, Retention())):
        with pytest.raises(InputError, match="no such project has versions; those that have: none"):
            call(P)
    for change in (store.promote, store.delete):
        with pytest.raises(InputError, match="no such project has versions"):
            change(v(1))
    assert not store.root.exists()


def test_a_line_of_promotions_and_the_way_back(line: VersionStore) -> None:
    assert line.current_of(P) == v(3)
    assert [row.status for row in line.rows(P)] == ["promoted", "promoted", "current", "candidate"]
    for expected in ("v0002", "v0001", "base"):
        assert line.rollback(P, why="worse on night images").after == expected
    assert line.current_of(P) is None
    with pytest.raises(InputError, match="has no current version to roll back from"):
        line.rollback(P)
    assert line.rollback(P, "v0002").before == "base"
    assert line.current_of(P) == v(2)
    history = [(s.how, s.before, s.after, s.why) for s in line.state(P).switches]
    assert history[:4] == [
        ("promote", "base", "v0001", "better"),
        ("promote", "v0001", "v0002", "better"),
        ("promote", "v0002", "v0003", "better"),
        ("rollback", "v0003", "v0002", "worse on night images"),
    ]
    assert len(history) == 7


def test_a_switch_that_is_made_already_adds_nothing(line: VersionStore) -> None:
    last = line.state(P).switches[-1]
    assert line.promote(v(3)) == last
    assert line.rollback(P, "v0003") == last
    assert line.state(P).switches[-1] == last


def test_rolling_back_goes_only_to_what_served(
    line: VersionStore, store: VersionStore, tmp_path: Path
) -> None:
    for wrong in ("v0004", "v0009", "project-7/v0001", "", "../v0001"):
        with pytest.raises(InputError, match="served before") as caught:
            line.rollback(P, wrong)
        assert caught.value.field == "to"
    add(store, tmp_path / "new", project="project-8")
    with pytest.raises(InputError, match="nothing was promoted yet"):
        store.rollback("project-8", "base")


def test_a_candidate_is_promoted_only_over_what_it_was_compared_with(line: VersionStore) -> None:
    line.rollback(P)
    with pytest.raises(InputError, match="over: expected v0003 to serve project-7, found v0002"):
        line.promote(v(4), over="v0003")
    assert line.promote(v(4), over="v0002").after == "v0004"


def test_what_serves_and_its_parent_cannot_be_deleted(line: VersionStore) -> None:
    for name in (v(3), v(2)):
        with pytest.raises(InputError, match="serves project-7, or is the parent"):
            line.delete(name)
    line.delete(v(4))
    line.delete(v(1))
    assert line.names(P) == (v(2), v(3))
    with pytest.raises(
        InputError, match=r"no such version; project-7 has v0002 \(promoted\), v0003 \(current\)"
    ):
        line.delete(v(1))
    assert line.rollback(P).after == "v0002"
    with pytest.raises(InputError, match="v0001: no such version"):
        line.rollback(P)
    assert line.current_of(P) == v(2)


def test_a_number_is_never_given_twice(line: VersionStore, tmp_path: Path) -> None:
    line.delete(v(4))
    line.rollback(P, "base")
    line.delete(v(3))
    assert add(line, tmp_path / "new") == v(5)
    for name in line.names(P):
        line.delete(name)
    assert line.projects() == (P,)  # its history stays
    assert line.find("project-9") is None
    with pytest.raises(WeightsError, match="has no current version; project-7 has no versions"):
        line.find(P)
    assert add(line, tmp_path / "new") == v(6)


def test_a_parent_has_to_be_there_and_of_the_same_project(store: VersionStore, tmp_path: Path) -> None:
    first = add(store, tmp_path / "new")
    for parent, project in ((f"{P}/v0009", P), (str(first), "project-8"), ("", P), ("a/b", P)):
        with pytest.raises(InputError):
            add(store, tmp_path / "new", parent, project)
    assert store.projects() == (P,)


def test_names_are_found_as_load_model_asks_for_them(line: VersionStore) -> None:
    assert line.find(P) == v(3)
    assert line.find(f"{P}/v0001") == v(1)
    assert line.find("edgetam") is None
    assert line.find("../versions/project-7") is None
    for wrong in (f"{P}/v0009", f"{P}/v1", f"{P}/", f"{P}/../x"):
        with pytest.raises(WeightsError, match=r"no such version; project-7 has v0001 \(promoted\), v0002"):
            line.find(wrong)
    line.rollback(P, "base")
    with pytest.raises(WeightsError, match=r"has no current version; project-7 has v0001 \(promoted\)"):
        line.find(P)


def test_projects_do_not_see_each_other(line: VersionStore, tmp_path: Path) -> None:
    other = add(line, tmp_path / "new", project="project-8")
    line.promote(other)
    assert line.projects() == (P, "project-8")
    assert (line.current_of(P), line.current_of("project-8")) == (v(3), other)
    line.rollback("project-8")
    assert (line.current_of(P), line.current_of("project-8")) == (v(3), None)


def test_rolling_back_the_published_size_is_quick(
    store: VersionStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asserts what it does; the time is printed, since a busy machine has no right to fail it."""
    for number, parent in ((1, "edgetam"), (2, f"{P}/v0001")):
        weights = weights_file(tmp_path, float(number), size=14 * 2**20)  # 56 MB, as the published weights
        store.promote(store.add(P, NewVersion(weights, parent)))
    started = time.perf_counter()
    store.rollback(P)
    seconds = time.perf_counter() - started
    assert VersionStore(store.root).current_of(P) == v(1)
    with capsys.disabled():
        print(f"\nrollback to a version of 56 MB, every byte checked: {seconds:.3f} s")  # noqa: T201


def test_a_reader_follows_a_switch_of_another_process_and_costs_one_stat(
    line: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = VersionStore(line.root)
    assert reader.current_of(P) == v(3)
    with monkeypatch.context() as patch:
        patch.setattr(version_pointer, "read_state", lambda _: pytest.fail("it reads the file again"))
        for _ in range(3):
            assert reader.current_of(P) == v(3)
    switch = "import sys, pathlib; from edgetam_model.training.version_store import VersionStore as S; "
    switch += f"S(pathlib.Path(sys.argv[1])).rollback('{P}')"
    subprocess.run([sys.executable, "-c", switch, str(line.root)], cwd=ROOT, check=True)
    assert reader.current_of(P) == v(2)


def test_a_reader_notices_every_one_of_many_quick_switches(line: VersionStore) -> None:
    """To and fro within one tick of a coarse clock, where inodes are used again."""
    reader = VersionStore(line.root)
    pointer = line.root / P / "current.json"
    for _ in range(20):
        for expected in (1, 2, 3):
            line.rollback(P, f"v000{expected}")
            os.utime(pointer, ns=(10**18, 10**18))
            assert reader.current_of(P) == v(expected)


PROMOTING = """
import pathlib, sys
from edgetam_model.training.version_store import VersionStore
from tests.training.versions import add
root, own = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
store = VersionStore(root)
for _ in range(4):
    name = add(store, own)
    store.promote(name, why=sys.argv[2])
    print(name.number)
"""


def test_several_processes_add_and_promote_at_once(store: VersionStore, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTING, str(store.root), str(tmp_path / str(i))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    seen = set()
    while any(process.poll() is None for process in processes):  # a reader never sees half of anything
        current = store.current_of(P)
        if current:
            store.weights_file(current)
            seen.add(current)
        time.sleep(0.01)
    numbers = [int(n) for process in processes for n in (process.communicate()[0]).split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(numbers) == list(range(1, 13))
    switches = store.state(P).switches
    assert sorted(s.after for s in switches) == [v(n).label for n in range(1, 13)]
    assert [s.before for s in switches] == ["base", *(s.after for s in switches[:-1])]
    assert seen <= set(store.names(P))


def test_threads_of_one_process_take_turns_too(line: VersionStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: line.promote(v(n % 4 + 1)), range(24)))
    switches = line.state(P).switches
    assert [s.before for s in switches] == ["base", *(s.after for s in switches[:-1])]


def test_a_writer_that_does_not_come_to_an_end_is_told(
    line: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_pointer, "LOCK_WAIT_S", 0.05)
    with version_pointer.locked(line.root / P):
        with pytest.raises(WeightsError, match=r"another process has held it for 0\.05 s"):
            line.promote(v(1))
        assert line.current_of(P) == v(3)  # readers do not wait


def test_a_damaged_pointer_is_told_and_its_removal_helps(line: VersionStore) -> None:
    pointer = line.root / P / "current.json"
    for text in ("", "{}x", '{"switches": 3}', '{"format_version": 2, "switches": []}'):
        pointer.write_text(text)
        with pytest.raises(WeightsError, match="damaged, or of a later release; without this file"):
            VersionStore(line.root).current_of(P)
        with pytest.raises(WeightsError):
            line.promote(v(1))
    pointer.unlink()
    assert line.current_of(P) is None
    assert line.promote(v(2)).after == "v0002"


def test_a_damaged_version_is_listed_and_can_be_deleted(line: VersionStore) -> None:
    for number in (1, 3):
        (line.root / P / f"v000{number}" / "version.json").write_text("{}")
    rows = line.rows(P)
    assert [bool(row.problem) for row in rows] == [True, False, True, False]
    assert rows[0].record is None
    with pytest.raises(WeightsError, match="damaged"):  # the parent of what serves is not known
        line.delete(v(1))
    with pytest.raises(WeightsError, match="damaged"):
        line.rollback(P)
    line.rollback(P, "v0002")
    line.delete(v(3))
    assert line.names(P) == (v(1), v(2), v(4))


def test_what_crashes_left_is_swept_in_time(line: VersionStore, tmp_path: Path) -> None:
    folder = line.root / P
    old = time.time() - 2 * 3600
    for name in (".draft-0a", ".deleted-0a"):
        (folder / name).mkdir()
        (folder / name / "weights.safetensors").touch()
        os.utime(folder / name, (old, old))
    (folder / ".current.json-0a").touch()
    os.utime(folder / ".current.json-0a", (old, old))
    (folder / ".draft-1b").mkdir()  # of a writer at work
    add(line, tmp_path / "new")
    assert sorted(path.name for path in folder.glob(".*")) == [".draft-1b", ".lock"]


def test_prune_keeps_the_newest(line: VersionStore, tmp_path: Path) -> None:
    add(line, tmp_path / "new")
    assert line.prune(P, Retention()) == ()
    assert line.prune(P, Retention(candidates=1, promoted=0)) == (v(1), v(4))
    assert line.names(P) == (v(2), v(3), v(5))
    assert line.prune(P, Retention(total_bytes=0)) == (v(5),)
    assert json.loads((line.root / P / "current.json").read_text())["newest"] == 5


class Registry(RuleBasedStateMachine):
    """Whatever is done in whatever order: what serves and its parent stay, and a number means one version."""

    numbers = st.integers(1, 8)

    def __init__(self) -> None:
        super().__init__()
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.store = VersionStore(self.folder / "versions")
        self.hashes: dict[VersionName, str] = {}
        self._add("edgetam")

    def teardown(self) -> None:
        self.temporary.cleanup()

    def _add(self, parent: str) -> None:
        name = self.store.add(P, NewVersion(weights_file(self.folder, len(self.hashes)), parent))
        assert name not in self.hashes
        self.hashes[name] = self.store.get(name).content_hash

    @rule(number=numbers)
    def add_a_child(self, number: int) -> None:
        self._add(str(v(number)) if v(number) in self.store.names(P) else "edgetam")

    @rule(number=numbers)
    def promote(self, number: int) -> None:
        if v(number) in self.store.names(P):
            self.store.promote(v(number))
            assert self.store.current_of(P) == v(number)

    @rule()
    def roll_back(self) -> None:
        before = self.store.current_of(P)
        try:
            switch = self.store.rollback(P)
        except InputError:
            assert self.store.current_of(P) == before
        else:
            assert switch.after == self.store.state(P).current

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        protected = self._protected()
        try:
            self.store.delete(v(number))
        except InputError:
            return
        assert v(number) not in protected

    @rule(candidates=st.integers(0, 2), promoted=st.integers(0, 2), total=st.sampled_from([0, 3000, 10**9]))
    def prune(self, candidates: int, promoted: int, total: int) -> None:
        protected = self._protected()
        assert not protected & set(self.store.prune(P, Retention(candidates, promoted, total)))

    def _protected(self) -> set[VersionName]:
        current = self.store.current_of(P)
        parent = self.store.get(current).record.parent_version if current else None
        return {name for name in (current, parent) if name and name in self.store.names(P)}

    @invariant()
    def what_serves_is_whole(self) -> None:
        for name in self._protected():
            check_all(self.store.get(name))
            assert self.store.get(name).content_hash == self.hashes[name]


Registry.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
test_any_order_of_changes = Registry.TestCase
