"""Images read apart are those read here; processes are kept, renewed and ended."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import psutil
import pytest
from PIL import Image

from edgetam_model.apart import images as apart_images
from edgetam_model.apart.canvas import Canvas
from edgetam_model.apart.images import ImageDecoders
from edgetam_model.apart.options import ApartOptions
from edgetam_model.errors import MediaError
from edgetam_model.images import read_image
from edgetam_model.sources import MediaLimits
from tests.apart.kernel import offered


def encoded(
    kind: str = "PNG", size: tuple[int, int] = (64, 40), mode: str = "RGB", seed: int = 0, turn: int = 1
) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    exif[0x112] = turn
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, exif=exif.tobytes())
    return file.getvalue()


def pids(decoders: ImageDecoders) -> list[int]:
    return [kept.decoder.pid for kept in decoders._idle]


def test_pixels_are_those_read_here() -> None:
    """Every format is read by a process that can open no file: nothing is missing that it loads late."""
    contents = [encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "MPO")]
    contents += [encoded("JPEG", turn=6), encoded("PNG", mode="RGBA"), encoded("JPEG", mode="CMYK")]
    contents += [encoded("TIFF", size=(900, 700)), encoded("PNG", size=(1, 1))]
    decoders = ImageDecoders(ApartOptions())
    decoders.start()
    started = pids(decoders)
    for content in contents:
        np.testing.assert_array_equal(decoders.read(content), read_image(content))
    assert pids(decoders) == started
    for content, limits in (
        (b"hello", None),
        (b"", None),
        (contents[0][:300], None),
        (contents[0], MediaLimits(max_pixels=64 * 40 - 1)),
        (contents[0], MediaLimits(max_bytes=100)),
    ):
        told = []
        for read in (read_image, decoders.read):
            with pytest.raises(MediaError) as caught:
                read(content, limits)
            told.append(str(caught.value))
        assert told[0] == told[1]
    assert pids(decoders) == started
    decoders.close()
    assert not any(psutil.pid_exists(pid) for pid in started)


def test_it_tells_what_holds_it() -> None:
    decoders = ImageDecoders(ApartOptions())
    assert decoders.fences() == offered()
    decoders.close()


def test_without_common_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Canvas, "make", lambda: None)
    decoders = ImageDecoders(ApartOptions())
    np.testing.assert_array_equal(decoders.read(encoded()), read_image(encoded()))
    decoders.close()


def test_a_large_image_leaves_no_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetam_model.apart.canvas.KEPT_BYTES", 100_000)
    content = encoded("BMP", size=(300, 200))
    decoders = ImageDecoders(ApartOptions())
    first, second = decoders.read(content), decoders.read(content)
    np.testing.assert_array_equal(first, read_image(content))
    np.testing.assert_array_equal(second, first)
    canvas = decoders._idle[0].decoder.canvas
    if canvas is not None:
        assert canvas._pixels(canvas.size).max() == 0
    decoders.close()


def test_forgotten_ones_end_their_processes() -> None:
    decoders = ImageDecoders(ApartOptions())
    decoders.read(encoded())
    (pid,) = pids(decoders)
    del decoders
    assert not psutil.pid_exists(pid)


def test_processes_are_renewed_ended_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_images, "IMAGES_EACH", 2)
    decoders = ImageDecoders(ApartOptions(), kept=1)
    content = encoded()
    seen = []
    for _ in range(3):
        decoders.read(content)
        seen += pids(decoders)
    assert seen[0] != seen[1] == seen[2]
    both = Barrier(2)

    def read(_: int) -> object:
        both.wait(20)
        return decoders.read(content)

    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(read, range(2)))) == 2
    assert len(pids(decoders)) == 1  # the other one had no place to wait
    monkeypatch.setattr(apart_images, "IDLE", 0.0)
    decoders.end_idle()
    assert pids(decoders) == []
    decoders.close()
    decoders.read(content)
    assert pids(decoders) == []
