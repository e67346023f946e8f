"""Thousands of damaged files for whatever reads one: media, manifests, versions, tracks, kits, weights.

Nothing but the errors that a reader names may come out, and nothing may crash this process; see
`test_fuzz_server` for more of them.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.field.kit import Kit, zip_kit
from backend.field.manifest import Manifest as KitManifest
from backend.media import media_kind
from edgetam_model import InputError, MediaError, MediaLimits, WeightsError, open_source, read_image
from edgetam_model.export.manifest import FILE_NAME, read_manifest, write_manifest
from edgetam_model.tracks import TracksWriter, read_tracks
from edgetam_model.training.manifest import Manifest as FitManifest
from edgetam_model.training.version_files import RECORD, SUMS, read_version
from edgetam_model.training.version_store import VersionStore
from edgetam_model.weights_file import read_any
from tests.backend.field.kits import clip as kit_clip
from tests.backend.field.kits import make_kit
from tests.cvat_function.nuclio_fixtures import tiny_weights
from tests.export.exports import torch_runtime
from tests.hostile.fuzzing import damaged, many, text_of
from tests.hostile.images import encoded
from tests.hostile.videos import clip
from tests.models import tiny_model
from tests.test_tracks import MODEL, found, result, video
from tests.training.versions import add

LIMITS = MediaLimits(max_pixels=1_000_000, max_frames=200, max_bytes=4 << 20)
CONTAINERS = {"mp4": {}, "mkv": {}, "ts": {}, "avi": {"codec": "mpeg4"}, "webm": {"codec": "libvpx"}}
FRAMES = 4
MARKS = (
    b"moov",
    b"trak",
    b"stbl",
    b"stts",
    b"stsz",
    b"stsc",
    b"stco",
    b"ctts",
    b"elst",
    b"mdat",
    b"avc1",
    b"\x1f\x43",
)


@st.composite
def torn(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A real file with a few bytes changed, cut out, or cut off; often where its structure is."""
    data = bytearray(draw(st.sampled_from(seeds)))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(rng.choice((1, 2, 4, 12))):
        at = rng.randrange(max(1, min(len(data), rng.choice((64, 600, 10**9)))))
        mark = data.find(rng.choice(MARKS)) if rng.random() < 0.5 else -1
        at = mark + rng.randrange(-4, 24) if mark > 4 else at
        if rng.random() < 0.1:
            del data[at : at + rng.choice((1, 8, 200))]
        elif rng.random() < 0.05:
            del data[at:]
        else:
            new = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", rng.randbytes(1), rng.randbytes(4)))
            data[at : at + len(new)] = new
    return bytes(data)


def test_fuzzed_images() -> None:
    seeds = [encoded(name) for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")]

    @many
    @given(torn(seeds))
    def read(data: bytes) -> None:
        with suppress(MediaError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read_image(data, LIMITS).ndim == 3

    read()


def test_fuzzed_videos(tmp_path: Path) -> None:
    seeds = [clip(suffix, 6, **options) for suffix, options in CONTAINERS.items()]
    path = tmp_path / "clip"

    @many
    @given(torn(seeds))
    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(MediaError):
            if media_kind(path, "clip") == "video":
                with open_source(path, LIMITS) as source:
                    last = min(FRAMES, len(source)) - 1
                    assert all(frame.ndim == 3 for _, frame in source.frames(0, last, ahead=0))

    read()


@dataclass(frozen=True)
class Reader:
    """Something that reads a document: a real one, where it lies, and how it is read."""

    document: Any
    write: Callable[[bytes], object]
    read: Callable[[], object]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    folder = tmp_path_factory.mktemp("readers")
    kit = make_kit(folder / "kit", kit_clip(folder / "clip.mp4"), tiny_weights(folder), video=True)
    fit = {"salt": "s", "share": 0.2, "least": 4, "tasks": [_fit_task()], "ignored": {"a": 1}}
    return [_tracks(folder), _version(folder), _export(folder), _fit(fit), _kit(kit)]


def _fit_task() -> dict[str, Any]:
    return {"id": "1", "group": "1", "part": "train", "annotations": ["7"], "objects": 1, "sha256": "ab" * 32}


def _tracks(folder: Path) -> Reader:
    path = folder / "tracks.json"
    with TracksWriter(path, video(), MODEL) as writer:
        writer.write(result(0, found(7, 3)))
    return Reader(json.loads(path.read_bytes()), path.write_bytes, lambda: read_tracks(path))


def _version(folder: Path) -> Reader:
    """A version whose record is damaged under a right sum: what reads it must look at it."""
    store = VersionStore(folder / "versions")
    name = add(store, folder)
    root = store.weights_file(name).parent
    others = [line for line in (root / SUMS).read_text().splitlines() if not line.endswith(RECORD)]

    def write(data: bytes) -> None:
        (root / RECORD).write_bytes(data)
        (root / SUMS).write_text("\n".join([*others, f"{hashlib.sha256(data).hexdigest()}  {RECORD}", ""]))

    return Reader(json.loads((root / RECORD).read_bytes()), write, lambda: read_version(root, name))


def _export(folder: Path) -> Reader:
    path = write_manifest(torch_runtime(tiny_model()).manifest, folder)
    assert path.name == FILE_NAME
    return Reader(json.loads(path.read_bytes()), path.write_bytes, lambda: read_manifest(folder))


def _fit(document: Any) -> Reader:
    kept: list[bytes] = []
    return Reader(document, kept.append, lambda: FitManifest.from_json(kept.pop()))


def _kit(kit: Kit) -> Reader:
    kept: list[bytes] = []
    return Reader(kit.manifest.model_dump(mode="json"), kept.append, lambda: KitManifest.read(kept.pop()))


def test_fuzzed_manifests(readers: list[Reader]) -> None:
    for reader in readers:  # the real ones are taken, but for files that an export's manifest names
        reader.write(text_of(reader.document))
        with suppress(WeightsError):
            reader.read()

    @many
    @given(st.data())
    def read(data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(readers))
        document = data.draw(damaged(reader.document))
        reader.write(text_of(document))
        with suppress(InputError, WeightsError):
            reader.read()

    read()


def test_fuzzed_weights_and_kits(tmp_path: Path) -> None:
    whole = tiny_weights(tmp_path).read_bytes()
    kit = make_kit(
        tmp_path / "kit", kit_clip(tmp_path / "clip.mp4"), tmp_path / "tiny.safetensors", video=True
    )
    zip_kit(kit.root, tmp_path / "whole.zip")
    assert zipfile.is_zipfile(tmp_path / "whole.zip")
    packed = (tmp_path / "whole.zip").read_bytes()
    (tmp_path / "whole.zip").unlink()
    path = tmp_path / "weights"

    @many
    @given(
        torn([whole[: 2**14] + whole[-64:], whole]), torn([packed[-4000:], packed[:4000] + packed[-4000:]])
    )
    def read(weights: bytes, archive: bytes) -> None:
        path.write_bytes(weights)
        with suppress(WeightsError):
            read_any(path, tiny_model().config)
        (tmp_path / "torn.zip").write_bytes(archive)
        with suppress(InputError):
            Kit.open(tmp_path / "torn.zip")

    read()


# What the fuzzers have found, each once more by itself


def test_a_keyframe_before_all_time_is_no_crash(tmp_path: Path) -> None:
    """WebM blocks count their time from their cluster's, with a sign; no seek leads to before 0."""
    data = bytearray(clip("webm", 6, codec="libvpx"))
    place = data.index(b"\x81\x00\x00\x80")  # track 1, 0 ms, a keyframe
    data[place + 1] = 0xB1
    path = tmp_path / "clip.webm"
    path.write_bytes(data)
    with suppress(MediaError), open_source(path, LIMITS) as source:
        assert list(source.frames(0, len(source) - 1))


def test_a_kit_whose_beginning_is_missing_is_damaged(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "kit", kit_clip(tmp_path / "clip.mp4"), tiny_weights(tmp_path), video=True)
    zip_kit(kit.root, tmp_path / "whole.zip")
    (tmp_path / "torn.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[-4000:])
    with pytest.raises(InputError, match="damaged"):
        Kit.open(tmp_path / "torn.zip")


@pytest.mark.parametrize("width", ["wide", None, [1], {}])
def test_sizes_of_another_type_are_refused(tmp_path: Path, width: object) -> None:
    manifest = torch_runtime(tiny_model()).manifest.model_dump(mode="json")
    manifest["config"]["width"] = width
    (tmp_path / FILE_NAME).write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="damaged or of another version"):
        read_manifest(tmp_path)
