"""The file format keeps every number and every fact, and nothing damaged, foreign or hostile gets through."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from edgetam_model import weights_file
from edgetam_model.config import CONFIGS
from edgetam_model.errors import WeightsError
from edgetam_model.model import fingerprint
from edgetam_model.weights_file import check_entries, read_any, read_weights, save_weights

TINY = CONFIGS["tiny"]
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(5), "c": torch.tensor([0.5, -2.0])}

# The folder of one test serves every example: each example overwrites its file.
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, derandomize=True)

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64])
SHAPES = st.lists(st.integers(0, 4), max_size=3)
STATES = st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(DTYPES, SHAPES), max_size=4)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@many
@given(STATES, st.text(max_size=20), st.text(max_size=20), st.booleans(), st.integers(0, 2**32))
def test_what_is_written_is_read(
    tmp_path: Path,
    entries: dict[str, tuple[torch.dtype, list[int]]],
    licence: str,
    source: str,
    trained: bool,
    seed: int,
) -> None:
    random = torch.Generator().manual_seed(seed)
    state = {
        name: (torch.rand(shape, generator=random) * 100).to(dtype)
        for name, (dtype, shape) in entries.items()
        if name != "__metadata__"  # the header's own key
    }
    path = tmp_path / "w.safetensors"
    mark = save_weights(path, state, TINY, licence=licence, source=source, trained=trained)
    weights = read_weights(path)
    assert same(weights.state, state)
    assert (weights.licence, weights.source, weights.trained) == (licence, source, trained)
    assert weights.config == TINY
    assert weights.fingerprint == mark == fingerprint(TINY, state)


def test_views_and_shared_tensors_are_written_as_they_read(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"turned": base.T, "row": base[1], "same": base, "grad": torch.ones(2, requires_grad=True)}
    save_weights(tmp_path / "w", state, TINY)
    assert same(read_weights(tmp_path / "w").state, {name: value.detach() for name, value in state.items()})


def test_the_config_lies_in_the_metadata_as_json(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", STATE, TINY, licence="Apache-2.0", source="here")
    raw = (tmp_path / "w").read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    assert json.loads(metadata["config"]) == json.loads(json.dumps(TINY.to_dict()))
    expected = {"format": "edgetam-labeling", "format_version": "1", "licence": "Apache-2.0"}
    assert expected.items() <= metadata.items()
    assert metadata["source"] == "here"


def test_the_fingerprint_is_of_config_names_types_shapes_and_numbers() -> None:
    mark = fingerprint(TINY, STATE)
    assert mark == fingerprint(TINY, dict(reversed(STATE.items())))
    others = [
        fingerprint(CONFIGS["edgetam"], STATE),
        fingerprint(TINY, STATE | {"c": torch.tensor([0.5, 2.0])}),
        fingerprint(TINY, STATE | {"a.weight": STATE["a.weight"].reshape(3, 2)}),
        fingerprint(TINY, STATE | {"c": STATE["c"].half()}),
        fingerprint(TINY, {"d" if name == "c" else name: value for name, value in STATE.items()}),
    ]
    assert len({mark, *others}) == 6


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    """A file begins with the length of its header, in steps of 8: one in 32 begins as a pickle does."""
    path, starts = tmp_path / "w.safetensors", set()
    for letters in range(0, 256, 8):
        save_weights(path, STATE, TINY, source="x" * letters)
        starts.add(path.read_bytes()[0])
        assert same(read_any(path, TINY).state, STATE)
    assert 0x80 in starts


@many
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "w"
    save_weights(path, STATE, TINY, licence="Apache-2.0", source="somewhere")
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(WeightsError):
        read_weights(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(tmp_path / "w", STATE, TINY)
    before = (tmp_path / "w").read_bytes()

    def full_disk(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_file, "save_file", full_disk)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(tmp_path / "w", {"a": torch.zeros(3)}, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert (tmp_path / "w").read_bytes() == before


def rewritten(path: Path, change: dict[str, str]) -> None:
    """A file of ours whose header says something else, with a checksum that agrees."""
    metadata = {
        "format": weights_file.FORMAT,
        "format_version": "1",
        "config": json.dumps(TINY.to_dict()),
        "fingerprint": fingerprint(TINY, STATE),
    } | change
    save_file(STATE, path, metadata | {"checksum": weights_file._checksum(metadata)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pt"}, "import it first"),
        ({"format_version": "2"}, "format version '2', this release reads '1'"),
        ({"config": "{"}, "config cannot be used"),
        ({"config": "[]"}, "config cannot be used"),
        ({"config": '{"depth": 3}'}, "config.depth: unknown field"),
        ({"config": '{"image_size": 100}'}, "multiple of 32"),
        ({"config": '{"decoder_heads": 0}'}, "config cannot be used"),
        ({"config": '{"width": "256"}'}, "config cannot be used"),
        ({"config": '{"decoder_mlp": 1000000000}'}, "decoder_mlp is 1000000000"),
        ({"config": '{"decoder_mlp": null}'}, "decoder_mlp is None"),
        ({"config": '{"decoder_mlp": 2048.0}'}, "decoder_mlp is 2048.0"),
        ({"config": '{"attention_mlp": [2048]}'}, "attention_mlp is"),
        ({"config": '{"trunk_depths": [1, 2, 3]}'}, "trunk_depths is"),
        ({"config": "{}"}, "tensors do not match"),
    ],
)
def test_a_header_that_cannot_be_used_is_told(change: dict[str, str], message: str, tmp_path: Path) -> None:
    rewritten(tmp_path / "w", {})
    assert read_weights(tmp_path / "w").config == TINY
    rewritten(tmp_path / "w", change)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "w")


def test_published_layouts_are_read_in_float32(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "published.pt")
    torch.save(STATE, tmp_path / "bare.pt")
    save_file(STATE, tmp_path / "plain.safetensors", {"format": "pt"})
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    save_file(halves, tmp_path / "half.safetensors")
    for name in ("published.pt", "bare.pt", "plain.safetensors", "half.safetensors"):
        weights = read_any(tmp_path / name, TINY)
        assert same(weights.state, STATE), name
        assert (weights.config, weights.licence, weights.source) == (TINY, "unknown", name)


class Attack:
    """Unpickling this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    torch.save({"model": {"a": torch.zeros(1)}, "extra": Attack(target)}, tmp_path / "zip.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"model": Attack(target)}))
    torch.save({"model": Attack(target)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"model": Attack(target)}, protocol=0))
    for name, message in (
        ("zip.pt", "holds more than tensors, so nothing of it was run"),
        ("bare.pt", "a bare pickle can run code and stays shut"),
        ("legacy.pt", "a bare pickle can run code and stays shut"),
        ("bare.pkl", "neither safetensors nor a PyTorch checkpoint"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_any(tmp_path / name, TINY)
    assert not target.exists()
    pickle.loads((tmp_path / "bare.pt").read_bytes())
    assert target.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "content",
    [
        [STATE],
        {"model": [torch.zeros(1)]},
        {"model": {"a": 1.0}},
        {"model": {1: torch.zeros(1)}},
        {"model": {"a": torch.zeros(2, 2).to_sparse()}},
        {"model": {"a": torch.zeros(1, device="meta")}},
    ],
)
def test_a_checkpoint_of_another_build_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"expected .*names and plain tensors"):
        read_any(tmp_path / "w.pt", TINY)


def test_a_small_file_cannot_unfold_into_a_huge_one(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "expanded.pt")
    with pytest.raises(WeightsError, match="numbers, more than"):
        read_any(tmp_path / "expanded.pt", TINY)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"")
        archive.writestr("bomb/data/0", bytes(2**20))
    raw = (tmp_path / "bomb.pt").read_bytes()
    claimed = (2**20).to_bytes(4, "little")
    (tmp_path / "bomb.pt").write_bytes(raw.replace(claimed, (2**31).to_bytes(4, "little")))
    with pytest.raises(WeightsError, match="unpacks to"):
        read_any(tmp_path / "bomb.pt", TINY)


def test_missing_empty_and_oversized_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        read_any(tmp_path / "nothing.pt", TINY)
    with pytest.raises(WeightsError, match="Is a directory"):
        read_any(tmp_path, TINY)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(WeightsError, match="neither safetensors nor"):
        read_any(tmp_path / "empty.pt", TINY)
    monkeypatch.setattr(weights_file, "MAX_FILE_BYTES", 10)
    (tmp_path / "large.pt").write_bytes(bytes(11))
    with pytest.raises(WeightsError, match="11 bytes, more than the limit of 10"):
        read_any(tmp_path / "large.pt", TINY)


STARTS = st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{}"])


@many
@given(STARTS, st.binary(max_size=200))
def test_no_bytes_do_worse_than_a_weights_error(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "w").write_bytes(start + rest)
    with pytest.raises(WeightsError):
        read_any(tmp_path / "w", TINY)


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """What a PyTorch checkpoint is made of: file name in the zip → content."""
    whole = io.BytesIO()
    torch.save({"model": STATE | {"p": torch.nn.Parameter(torch.ones(2))}}, whole)
    with zipfile.ZipFile(whole) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


EDITS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3
)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage is deprecated")
@settings(many, max_examples=300)
@given(EDITS)
def test_no_damaged_pickle_does_worse_than_a_weights_error(
    tmp_path: Path, members: dict[str, bytes], edits: list[tuple[int, int, bytes]]
) -> None:
    name = next(name for name in members if name.endswith("data.pkl"))
    recipe = bytearray(members[name])
    for place, removed, added in edits:
        start = place % len(recipe)
        recipe[start : start + removed] = added
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:  # the zip itself is whole, so torch reads it
        for member, content in members.items():
            archive.writestr(member, bytes(recipe) if member == name else content)
    with suppress(WeightsError):
        read_any(tmp_path / "w", TINY)


@pytest.mark.parametrize("error", [KeyError("x"), EOFError(), struct.error("unpack"), AssertionError()])
def test_whatever_the_reader_stumbles_over_is_told(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(STATE, tmp_path / "w.pt")

    def stumble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", stumble)
    with pytest.raises(WeightsError, match=r"w\.pt: not a PyTorch checkpoint: ."):
        read_any(tmp_path / "w.pt", TINY)


def test_entries_that_do_not_fit_are_named_and_counted() -> None:
    layout = {f"layer{i}.weight": torch.zeros(2, 3) for i in range(5)} | {"steps": torch.tensor(0)}
    halves = {name: tensor.half() for name, tensor in layout.items() if name != "steps"}
    check_entries(halves | {"steps": layout["steps"]}, layout, "w")
    state = {"layer0.weight": torch.zeros(3, 2), "steps": torch.tensor(0.0), "head": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        check_entries(state, layout, "here.pt")
    assert str(caught.value) == (
        "here.pt: 4 entries missing: layer1.weight, layer2.weight, layer3.weight, …; "
        "1 entries not of this model: head; "
        "1 entries of another shape: layer0.weight [3, 2] instead of [2, 3]; "
        "1 entries of another type: steps (torch.float32)"
    )
    for bad in (float("nan"), float("inf")):
        with pytest.raises(WeightsError, match=r"1 entries not finite: layer3\.weight"):
            check_entries(layout | {"layer3.weight": torch.full((2, 3), bad)}, layout, "w")
