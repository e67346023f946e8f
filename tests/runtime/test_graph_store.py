"""The store of converted graphs: made once, whole or not there, made anew if damaged, the oldest removed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import EdgeTAMError, WeightsError
from edgetam_model.parts.specs import IMAGE_ENCODER, MASK_DECODER, Slots
from edgetam_model.runtime import graph_store
from edgetam_model.runtime.graph_store import GraphStore, code_hash
from edgetam_model.runtime.graphs import Graph

GRAPH = Graph(MASK_DECODER, Slots())
Make = Callable[[Graph, Path], None]


def two_files(graph: Graph, path: Path, size: int = 100) -> None:
    """As OpenVINO's graphs are."""
    path.write_text(graph.name)
    path.with_suffix(".bin").write_bytes(bytes(size - len(graph.name)))


def package(graph: Graph, path: Path, size: int = 100) -> None:
    """As Core ML's are."""
    (path / "Data").mkdir(parents=True)
    (path / "Manifest").write_text(graph.name)
    (path / "Data" / "weights").write_bytes(bytes(size - len(graph.name)))


def loaded(path: Path) -> str:
    """The graph's name; all of it has to be there."""
    named, weights = path, path.with_suffix(".bin")
    if path.suffix == ".mlpackage":
        named, weights = path / "Manifest", path / "Data" / "weights"
    name = named.read_text()
    if len(name) + weights.stat().st_size != 100:
        raise RuntimeError("a message\nof two lines")
    return name


KINDS = pytest.mark.parametrize(("suffix", "make"), [(".xml", two_files), (".mlpackage", package)])


def numbered(number: int) -> Graph:
    return Graph(MASK_DECODER, Slots(prompts=2 + number))


def store(folder: Path, suffix: str = ".xml", marks: str = "", kept: int = 1000) -> GraphStore:
    return GraphStore("OpenVINO", folder, suffix, marks, kept)


def used_at(path: Path, clock: int) -> None:
    for one in path.parent.glob(f"{path.stem}.*"):
        os.utime(one, (clock, clock))


def graphs(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


@KINDS
def test_it_is_made_once(tmp_path: Path, suffix: str, make: Make) -> None:
    own, calls = store(tmp_path / "new", suffix), list[Path]()

    def counted(graph: Graph, path: Path) -> None:
        calls.append(path)
        make(graph, path)

    assert {own.prepared(GRAPH, counted, loaded) for _ in range(3)} == {GRAPH.name}
    assert len(calls) == 1


def test_who_starts_together_waits_for_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    own, together, found = store(tmp_path), threading.Barrier(8), list[str]()

    def slowly(graph: Graph, path: Path) -> None:
        path.write_text("not yet")
        time.sleep(0.3)
        two_files(graph, path)

    def start() -> None:
        together.wait()
        found.append(own.prepared(GRAPH, slowly, loaded))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [GRAPH.name] * 8
    assert caplog.messages == [f"preparing {GRAPH.name} for OpenVINO, once"]


def test_other_marks_and_other_shapes_are_other_graphs(tmp_path: Path) -> None:
    places = {
        store(tmp_path, marks=marks).path_for(graph, two_files)
        for marks in ("a", "b")
        for graph in (GRAPH, numbered(8), Graph(IMAGE_ENCODER, Slots()))
    }
    assert len(places) == 6
    assert all(path.exists() for path in places)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.runtime.test_graph_store import GRAPH, store, two_files
def killed(graph, path):
    two_files(graph, path)
    os.kill(os.getpid(), signal.SIGKILL)
store(Path(sys.argv[1])).path_for(GRAPH, killed)
"""


def test_a_process_killed_midway_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = graphs(tmp_path)
    assert left.endswith(".part")
    own, calls = store(tmp_path), list[Graph]()

    def counted(graph: Graph, path: Path) -> None:
        calls.append(graph)
        two_files(graph, path)

    path = own.path_for(GRAPH, counted)
    assert calls == [GRAPH]
    assert graphs(tmp_path) == {path.name, path.with_suffix(".bin").name}


def test_weights_take_their_place_first(tmp_path: Path) -> None:
    """Alone they are no graph: who is killed in between leaves nothing that looks whole."""
    own = store(tmp_path)
    path = own.path_for(GRAPH, two_files)
    weights = path.with_suffix(".bin")
    path.unlink()
    weights.write_text("of one that was killed in between")
    assert own.prepared(GRAPH, two_files, loaded) == GRAPH.name
    path.unlink()
    weights.unlink()
    weights.mkdir()  # in the way
    with pytest.raises(OSError, match=r"directory"):
        own.path_for(GRAPH, two_files)
    assert not path.exists()


def test_what_fails_to_be_made_is_not_there(tmp_path: Path) -> None:
    def failing(graph: Graph, path: Path) -> None:
        path.write_text(graph.name)
        raise ValueError("no such operation")

    told = rf"^OpenVINO cannot prepare mask_decoder in {tmp_path}: no such operation; EDGETAM_RUNTIME=torch"
    with pytest.raises(EdgeTAMError, match=told):
        store(tmp_path).prepared(GRAPH, failing, loaded)
    assert store(tmp_path).prepared(GRAPH, two_files, loaded) == GRAPH.name


@KINDS
@pytest.mark.parametrize("what", ["", "weights"])
def test_a_damaged_one_is_made_anew(
    tmp_path: Path, suffix: str, make: Make, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = store(tmp_path, suffix)
    path = own.path_for(GRAPH, make)
    inside = {".xml": path.with_suffix(".bin"), ".mlpackage": path / "Data" / "weights"}[suffix]
    if what:
        inside.write_bytes(b"damaged")
    else:
        inside.unlink()
    assert own.prepared(GRAPH, make, loaded) == GRAPH.name
    assert f"{path.name} cannot be loaded and is made anew: " in caplog.text
    assert loaded(path) == GRAPH.name


def test_one_that_never_loads_is_told_in_words(tmp_path: Path) -> None:
    def cut(graph: Graph, path: Path) -> None:
        two_files(graph, path, size=99)

    with pytest.raises(EdgeTAMError, match=r"cannot prepare mask_decoder in .*: of two lines; EDGETAM_RUN"):
        store(tmp_path).prepared(GRAPH, cut, loaded)


def test_a_folder_that_is_none_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgeTAMError, match=r"cannot prepare .*/file: .*directory; EDGETAM_RUNTIME"):
        store(tmp_path / "file").prepared(GRAPH, two_files, loaded)


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another holds the lock, as one that hangs does."""
    own, inside, done = store(tmp_path), threading.Event(), threading.Event()

    def hanging(graph: Graph, path: Path) -> None:
        inside.set()
        done.wait()
        two_files(graph, path)

    thread = threading.Thread(target=own.path_for, args=(GRAPH, hanging))
    thread.start()
    inside.wait()
    monkeypatch.setattr(graph_store, "LOCK_S", 0.1)
    try:
        with pytest.raises(WeightsError, match="another process"):
            own.path_for(GRAPH, two_files)
    finally:
        done.set()
        thread.join()


@KINDS
def test_those_used_longest_ago_go_first(tmp_path: Path, suffix: str, make: Make) -> None:
    own = store(tmp_path, suffix, kept=350)
    paths = [own.path_for(numbered(number), make) for number in range(3)]
    for number, path in enumerate(paths):
        used_at(path, number)
        assert path.exists()
    own.path_for(numbered(0), make)  # in use
    kept = [own.path_for(numbered(3), make), paths[0], paths[2]]
    wanted = {path.name for path in kept}
    if suffix == ".xml":
        wanted |= {path.with_suffix(".bin").name for path in kept}
    assert graphs(tmp_path) == wanted


@KINDS
def test_the_one_just_made_stays_however_large(tmp_path: Path, suffix: str, make: Make) -> None:
    own = store(tmp_path, suffix, kept=10)
    for number in range(3):
        path = own.path_for(numbered(number), make)
        assert graphs(tmp_path) <= {path.name, path.with_suffix(".bin").name}
        assert path.exists()


def test_what_a_killed_process_left_counts_and_goes(tmp_path: Path) -> None:
    left = tmp_path / "mask_decoder-of_other_weights.part"
    left.mkdir()
    (left / "graph.bin").write_bytes(bytes(1000))
    os.utime(left, (1, 1))
    store(tmp_path, kept=500).path_for(GRAPH, two_files)
    assert not left.exists()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(50, 400)), min_size=1, max_size=12),
    st.integers(100, 1200),
)
def test_the_folder_stays_small(uses: list[tuple[int, int]], kept: int) -> None:
    """Whatever is made and used: what stays fits, what was just made stays, what went was used before."""
    with tempfile.TemporaryDirectory() as name:
        folder, used = Path(name), dict[Path, tuple[int, int]]()
        for clock, (number, size) in enumerate(uses):
            made = list[int]()

            def make(graph: Graph, path: Path, size: int = size, made: list[int] = made) -> None:
                two_files(graph, path, size)
                made.append(size)

            path = store(folder, kept=kept).path_for(numbered(number), make)
            used_at(path, clock)
            used[path] = (clock, size if made else used[path][1])
            if not made:
                continue
            there = {one for one in used if one.exists()}
            assert path in there
            assert sum(used[one][1] for one in there) <= max(kept, size)
            gone = [used.pop(one) for one in set(used) - there]
            assert all(before < min(used[one][0] for one in there) for before, _ in gone)


def test_the_code_counts(tmp_path: Path) -> None:
    converter = tmp_path / "converter.py"
    converter.write_text("one way")
    hashes = [code_hash([library], [converter]) for library in ("openvino 1", "openvino 1", "openvino 2")]
    converter.write_text("another")
    hashes.append(code_hash(["openvino 1"], [converter]))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
