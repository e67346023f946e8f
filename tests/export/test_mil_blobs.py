"""Weight files: packed numbers come back, and whatever else stands there is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_model.errors import WeightsError
from edgetam_model.export.mil_blobs import FILE_HEAD, HEAD, KINDS, MARK, VERSION, BlobFile, unpacked


def packed(values: list[int], bits: int) -> bytes:
    """Lowest bits first."""
    whole = sum(value << index * bits for index, value in enumerate(values))
    return whole.to_bytes((len(values) * bits + 7) // 8, "little")


@given(st.data(), st.sampled_from([1, 2, 3, 4, 6]))
def test_small_numbers_come_back(data: st.DataObject, bits: int) -> None:
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    found = unpacked(np.frombuffer(packed(values, bits), np.uint8), bits, len(values))
    assert found.tolist() == values


def blob(kind: str, numbers: np.ndarray) -> bytes:
    head = FILE_HEAD.pack(1, VERSION).ljust(64, b"\0")
    return head + HEAD.pack(MARK, KINDS[kind][0], numbers.nbytes, 128, 0).ljust(64, b"\0") + numbers.tobytes()


def written(folder: Path, data: bytes) -> BlobFile:
    path = folder / "weight.bin"
    path.write_bytes(data)
    return BlobFile(path)


def test_tensors_are_read_and_only_as_what_they_are(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float16).reshape(2, 3)
    file = written(tmp_path, blob("float16", numbers))
    assert np.array_equal(file.tensor(64, "float16", (2, 3)), numbers)
    for offset, kind, shape in (
        (64, "float16", (2, 4)),
        (64, "float32", (2, 3)),
        (64, "complex64", (2, 3)),
        (0, "float16", (2, 3)),
        (10_000, "float16", (2, 3)),
        (-1, "float16", (2, 3)),
    ):
        with pytest.raises(WeightsError):
            file.tensor(offset, kind, shape)


@given(data=st.binary(max_size=200), offset=st.integers(-10, 300))
def test_any_bytes_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for content in (data, FILE_HEAD.pack(1, VERSION) + data):
        try:
            found = written(folder, content).tensor(offset, "float16", (2,))
        except WeightsError:
            continue
        assert found.shape == (2,)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    whole = blob("float32", np.ones(8, np.float32))
    with pytest.raises(WeightsError, match="are damaged"):
        written(tmp_path, whole[:-1]).tensor(64, "float32", (8,))
    with pytest.raises(WeightsError, match="is missing"):
        BlobFile(tmp_path / "nothing.bin")
