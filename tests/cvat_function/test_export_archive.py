from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from cvat_function import export_archive
from cvat_function.export_archive import ExportArchive, Pictures, frame_number
from edgetam_model import InputError
from tests.cvat_function.export_files import archive, picture


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ExportArchive(path)


@pytest.mark.parametrize(
    "name", ["../a.png", "images/../../a.png", "/etc/a.png", "C:/a.png", "images\\..\\a.png", "a/.."]
)
def test_paths_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    refused(archive(tmp_path / "a.zip", {name: b"x"}), "inside the archive")


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("images/a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, "/etc/passwd")
    refused(path, "a link")


def test_unusual_packing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.png", b"x")
    refused(path, "plain or deflated")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption
    path.write_bytes(bytes(data))
    refused(path, "plain or deflated")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": bytes(10**6), "b.png": bytes(10**6)})
    with ExportArchive(path) as opened, pytest.raises(InputError, match="at most 1000 bytes"):
        opened.read("a.png", 1000)
    monkeypatch.setattr(export_archive, "MAX_TOTAL", 10**6)
    refused(path, "bytes unpacked")
    monkeypatch.setattr(export_archive, "MAX_MEMBERS", 1)
    refused(path, "at most 1 files")


def test_a_file_that_is_larger_than_the_zip_says_is_damage(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": bytes(10**6)})
    data = path.read_bytes()
    path.write_bytes(data.replace((10**6).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    with ExportArchive(path) as opened, pytest.raises(InputError, match="damaged"):
        opened.read("a.png")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(200)])
def test_what_is_no_zip_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", "damaged")


def test_images_are_found_by_the_names_that_annotations_use(tmp_path: Path) -> None:
    names = ["images/a.JPG", "images/Train/b.png", "images/default/c.png", "JPEGImages/d.jpg", "other/e.png"]
    with ExportArchive(archive(tmp_path / "a.zip", {name: picture() for name in names})) as opened:
        pictures = Pictures(opened, tmp_path / "out")
        found = [pictures.place(*each) for each in (("a.JPG",), ("b.png", "Train"), ("c.png",), ("d",))]
        assert found == [str(tmp_path / "out" / name) for name in names[:4]]
        assert all(Path(path).read_bytes() == picture() for path in found)
        assert pictures.place("e.png") == "e.png"
        assert pictures.place("../../etc/passwd") == "../../etc/passwd"
        assert pictures.frames() is None
    assert Pictures(None, tmp_path).place("a.png") == "a.png"


def test_frames_are_told_by_their_names() -> None:
    assert frame_number("walk/frame_000012.PNG") == 12
    assert frame_number("frame_000012") == 12
    assert frame_number("frame_12.png") is None
    assert frame_number("photo.png") is None
