from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.image_cache import EncodedImage
from backend.image_prompts import DrawnObject
from backend.images import ImageLimits, ImageService
from backend.jobs import QueueFull
from backend.label_config import LabelConfig, parse_label_config
from backend.loading import BackgroundModel, ModelNotReady
from backend.media import MediaIntake
from backend.predictions import Prediction, Region
from edgetam_model import EdgeTAM, InputError
from tests.backend.server_fixtures import (
    IMAGE_CONFIG,
    box,
    click,
    image_task,
    picture,
    ready_model,
    settings_in,
    tiny,
)

CONFIG = parse_label_config(IMAGE_CONFIG)
RECTANGLES = parse_label_config("""
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="out" toName="image" smart="false"><Label value="A"/></RectangleLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="A"/></KeyPointLabels>
</View>
""")


class Counting(BackgroundModel):
    """Counts the images that are encoded, and can hold them up."""

    def __init__(self) -> None:
        super().__init__(tiny)
        self.encoded = 0
        self.go = threading.Event()
        self.go.set()
        self.hook = tiny().image_encoder.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.encoded += 1
        assert self.go.wait(20)


@pytest.fixture
def model() -> Any:
    counting = Counting()
    counting.get(60)
    yield counting
    counting.hook.remove()


class OneModel(ImageService):
    """The service for a single project."""

    def __init__(self, folder: Path, model: BackgroundModel, limits: ImageLimits | None = None) -> None:
        settings = settings_in(folder)
        super().__init__(settings, MediaIntake(settings, None), limits)
        self.model = model

    def found(
        self, task: dict[str, Any], context: Any, config: LabelConfig, deadline: float | None = None
    ) -> Prediction | None:
        return self.answer(task, context, config, self.model, deadline=deadline)


def service(folder: Path, model: BackgroundModel, limits: ImageLimits | None = None) -> OneModel:
    return OneModel(folder, model, limits)


def clicked(name: str, x: float = 50) -> tuple[dict[str, Any], dict[str, Any]]:
    return image_task(name), {"result": [click(x, 50)]}


def ask(images: OneModel, name: str, x: float = 50) -> Prediction:
    task, context = clicked(name, x)
    found = images.found(task, context, CONFIG)
    assert found is not None
    return found


def test_the_second_click_on_a_content_encodes_nothing(tmp_path: Path, model: Counting) -> None:
    images = service(tmp_path, model)
    ask(images, picture(tmp_path / "a.png", seed=1))
    ask(images, "a.png", x=30)
    ask(images, picture(tmp_path / "copy.png", seed=1))
    assert model.encoded == 1
    ask(images, picture(tmp_path / "a.png", seed=2))
    assert model.encoded == 2
    assert (images.cache.hits, images.cache.misses) == (2, 2)


def test_a_cached_image_answers_as_a_fresh_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, ready_model())
    ask(images, "a.png", x=20)
    assert ask(images, "a.png") == ask(service(tmp_path, ready_model()), "a.png")


def test_memory_is_bounded(tmp_path: Path, model: Counting) -> None:
    images = service(tmp_path, model, ImageLimits(cache_bytes=70_000))  # an image of `tiny` takes 32,768
    for name in ("a", "b", "c"):
        ask(images, picture(tmp_path / f"{name}.png", seed=ord(name)))
    assert images.cache.used_bytes == 2 * 32_768
    ask(images, "c.png")
    ask(images, "b.png")
    assert model.encoded == 3
    ask(images, "a.png")
    assert model.encoded == 4


def test_requests_for_one_image_at_once_encode_it_once(tmp_path: Path, model: Counting) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, model, ImageLimits(threads=4))
    threads = [threading.Thread(target=ask, args=(images, "a.png", x)) for x in (20, 40, 60, 80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert model.encoded == 1


def test_too_many_are_refused_at_once(tmp_path: Path, model: Counting) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png", seed=ord(name))
    images = service(tmp_path, model, ImageLimits(threads=1, waiting=1))
    model.go.clear()
    threads = [threading.Thread(target=ask, args=(images, name)) for name in ("a.png", "b.png")]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while images.inside < 2 and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(QueueFull) as caught:
        ask(images, "c.png")
    assert caught.value.retry_after > 0
    model.go.set()
    for thread in threads:
        thread.join(20)
    assert images.inside == 0
    ask(images, "c.png")


def test_waiting_has_an_end(tmp_path: Path, model: Counting) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", seed=ord(name))
    images = service(tmp_path, model, ImageLimits(threads=1, seconds=0.2))
    model.go.clear()
    task, context = clicked("a.png")
    later = time.monotonic() + 20
    thread = threading.Thread(target=images.found, args=(task, context, CONFIG), kwargs={"deadline": later})
    thread.start()
    while not model.encoded:
        time.sleep(0.01)
    with pytest.raises(QueueFull):
        ask(images, "b.png")
    model.go.set()
    thread.join(20)


def test_a_batch_leaves_a_place_to_people(tmp_path: Path, model: Counting) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png", seed=ord(name))
    images = service(tmp_path, model, ImageLimits(threads=2, seconds=10))
    ask(images, "c.png")
    model.go.clear()

    def batch(name: str) -> None:
        images.found(image_task(name, box(10, 10, 50, 50)), None, CONFIG)

    threads = [threading.Thread(target=batch, args=(name,)) for name in ("a.png", "b.png")]
    for thread in threads:
        thread.start()
    while images.inside < 2 or model.encoded < 2:
        time.sleep(0.01)
    ask(images, "c.png")  # while both batches wait or compute
    model.go.set()
    for thread in threads:
        thread.join(20)


def test_what_cannot_be_used_is_left_out_where_something_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, ready_model())
    outside = box(150, 150, 5, 5, "far", "A")
    found = images.found(image_task("a.png", box(10, 10, 50, 50), outside), None, RECTANGLES)
    assert found is not None
    assert {region.id for region in found.result} == {"r"}
    assert "left out" in caplog.text
    with pytest.raises(InputError, match="box"):
        images.found(image_task("a.png", outside), None, RECTANGLES)


def test_time_that_is_up_gives_what_is_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, ready_model())
    deadline = time.monotonic() + 30
    asked: list[str] = []

    def slow(image: EncodedImage, one: DrawnObject, config: LabelConfig) -> list[Region]:
        asked.append(one.region_id)
        if len(asked) == 2:
            monkeypatch.setattr("backend.images.time.monotonic", lambda: deadline + 1)
        return ImageService._object(images, image, one, config)

    monkeypatch.setattr(images, "_object", slow)
    drawn = [box(10, 10, 50, 50, f"r{n}") for n in range(4)]
    found = images.found(image_task("a.png", *drawn), None, RECTANGLES, deadline=deadline)
    assert found is not None
    assert [region.id for region in found.result] == ["r0", "r1"]
    assert "2 objects are left out: the time is up" in caplog.text


def test_time_that_is_up_before_anything_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, ready_model())
    task, context = clicked("a.png")
    with pytest.raises(QueueFull):
        images.found(task, context, CONFIG, deadline=time.monotonic() - 1)


def test_photos_are_turned_as_the_browser_turns_them(tmp_path: Path) -> None:
    """EXIF orientation 6 means: turn right by 90 degrees to view."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(np.rot90(pixels, k=3)).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "lying.png", exif=exif)
    images = service(tmp_path, ready_model())
    lying, upright = ask(images, "lying.png", x=30), ask(images, "upright.png", x=30)
    assert (lying.result[0].original_width, lying.result[0].original_height) == (40, 64)
    assert lying.result[0].value == upright.result[0].value


def test_several_images_of_one_task(tmp_path: Path) -> None:
    config = parse_label_config(IMAGE_CONFIG.replace('value="$image"', 'valueList="$images"'))
    names = [picture(tmp_path / f"{n}.png", 64, 40 + 8 * n, n) for n in range(2)]
    task = {"id": 1, "data": {"images": names}}
    context = {"result": [click(50, 50, "k1", item_index=0), click(50, 50, "k2", item_index=1)]}
    found = service(tmp_path, ready_model()).found(task, context, config)
    assert found is not None
    assert {(region.item_index, region.original_height) for region in found.result} == {(0, 40), (1, 48)}


@pytest.mark.parametrize("content", [b"", b"\x89PNG broken", b"<html>", b"\0\0\0\x18ftypisom" + bytes(500)])
def test_files_that_are_no_images_are_refused_and_forgotten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    images = service(tmp_path, ready_model())
    for _ in range(2):
        with pytest.raises(InputError):
            ask(images, "a.png")
    assert images.cache.used_bytes == 0
    picture(tmp_path / "a.png")
    ask(images, "a.png")


def test_large_files_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    images = service(tmp_path, ready_model(), ImageLimits(file_bytes=1000))
    with pytest.raises(InputError, match="1,000 bytes"):
        ask(images, "a.png")


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    def load() -> EdgeTAM:
        raise RuntimeError("no memory")

    picture(tmp_path / "a.png")
    with pytest.raises(ModelNotReady, match="no memory"):
        ask(service(tmp_path, BackgroundModel(load)), "a.png")


def test_a_model_that_takes_long_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    release = threading.Event()

    def load() -> EdgeTAM:
        release.wait(20)
        return tiny()

    picture(tmp_path / "a.png")
    images = service(tmp_path, BackgroundModel(load), ImageLimits(seconds=0.1))
    with pytest.raises(ModelNotReady, match="still being loaded"):
        ask(images, "a.png")
    release.set()


def test_nothing_asked_needs_neither_image_nor_model(tmp_path: Path) -> None:
    def load() -> EdgeTAM:
        raise AssertionError("loaded")

    images = service(tmp_path, BackgroundModel(load))
    assert images.found(image_task("missing.png"), None, CONFIG) is None
    negative = {"result": [click(50, 50, is_positive=False)]}
    assert images.found(image_task("missing.png"), negative, CONFIG) is None


def test_versions_tell_weights_apart() -> None:
    from backend.loading import version_of
    from edgetam_model import CONFIGS

    torch.manual_seed(5)
    other = EdgeTAM(CONFIGS["tiny"]).eval()
    assert version_of(other) != version_of(tiny())
    assert version_of(tiny()) == ready_model().version
