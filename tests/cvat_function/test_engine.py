from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cvat_function.engine import Engine, ModelNotReady, Rgb
from cvat_function.settings import Quality, Settings
from edgetam_model import InputError, Prompt
from edgetam_model.weights import save_weights
from tests.cvat_function.nuclio_fixtures import picture, tiny_weights
from tests.models import tiny_at

CLICK = Prompt(points=[[30, 20]], labels=[1])


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Settings(weights=str(tiny_weights(tmp_path)), device="cpu", images=2))


class Counted:
    """Counts the images that the model encodes."""

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        encoder = model.get_submodule("image_encoder")
        self.hook = encoder.register_forward_pre_hook(self._add)

    def _add(self, *_: object) -> None:
        self.count += 1


@pytest.fixture
def encoded(engine: Engine) -> Iterator[Counted]:
    counted = Counted(engine.model)
    yield counted
    counted.hook.remove()


def ask(engine: Engine, name: bytes, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with engine.encoded(name, lambda: picture(seed=seed)) as image:
        return image.predictor.predict(CLICK).logits


def test_the_model_is_loaded_once_for_all_threads(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgetam_model.weights

    loads: list[object] = []
    load = edgetam_model.weights.load_model

    def counting(name: str, device: str) -> object:
        loads.append(name)
        return load(name, device)

    monkeypatch.setattr(edgetam_model.weights, "load_model", counting)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(engine.model)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(loads) == 1
    assert len({id(model) for model in found}) == 1
    assert not engine.model.training


def test_nothing_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    Engine(Settings(weights=str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("weights", "device"),
    [("missing.safetensors", "cpu"), ("damaged", "cpu"), ("tiny.safetensors", "cuda:77")],
)
def test_a_model_that_cannot_be_loaded_is_tried_again(tmp_path: Path, weights: str, device: str) -> None:
    tiny_weights(tmp_path)
    (tmp_path / "damaged").write_bytes(b"no weights")
    engine = Engine(Settings(weights=str(tmp_path / weights), device=device))
    for _ in range(2):
        with pytest.raises(ModelNotReady, match="cannot be loaded"):
            ask(engine, b"a")
    (tmp_path / weights).write_bytes((tmp_path / "tiny.safetensors").read_bytes())
    if device == "cpu":
        ask(engine, b"a")


@pytest.mark.parametrize(("quality", "side"), [("exact", 576), ("fast", 512)])
def test_a_quality_is_a_function_s_own(tmp_path: Path, quality: Quality, side: int) -> None:
    path = tmp_path / "larger.safetensors"
    larger = tiny_at(576)
    save_weights(path, larger.state_dict(), larger.config, trained=False)
    engine = Engine(Settings(weights=str(path), device="cpu", quality=quality))
    assert engine.model.config.image_size == side
    assert ask(engine, b"a").shape == (side // 4, side // 4)


def test_small_weights_say_that_they_have_no_fast_mode() -> None:
    engine = Engine(Settings(weights="default", device="cpu", quality="fast"))
    with pytest.raises(ModelNotReady, match="these weights have no fast mode"):
        ask(engine, b"a")


def test_a_second_click_encodes_nothing(engine: Engine, encoded: Counted) -> None:
    first = ask(engine, b"a")
    assert encoded.count == 1
    np.testing.assert_array_equal(ask(engine, b"a"), first)
    assert encoded.count == 1


def test_the_oldest_image_goes(engine: Engine, encoded: Counted) -> None:
    for name in (b"a", b"b", b"a", b"c"):
        ask(engine, name)
    assert encoded.count == 3
    ask(engine, b"a")
    assert encoded.count == 3
    ask(engine, b"b")
    assert encoded.count == 4


def test_threads_that_want_one_image_encode_it_once(engine: Engine, encoded: Counted) -> None:
    threads = [threading.Thread(target=ask, args=(engine, b"a")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert encoded.count == 1


def test_an_image_that_cannot_be_read_is_not_kept(engine: Engine, encoded: Counted) -> None:
    def broken() -> Rgb:
        raise InputError("image", "damaged")

    for _ in range(2):
        with pytest.raises(InputError, match="damaged"), engine.encoded(b"a", broken):
            pass
    ask(engine, b"a")
    assert encoded.count == 1


def test_an_image_that_cannot_be_read_takes_no_place(engine: Engine, encoded: Counted) -> None:
    def broken() -> Rgb:
        raise InputError("image", "damaged")

    ask(engine, b"a")
    ask(engine, b"b")
    with pytest.raises(InputError, match="damaged"), engine.encoded(b"c", broken):
        pass
    ask(engine, b"d")  # lets a go
    ask(engine, b"b")
    assert encoded.count == 3


def test_a_region_of_interest_is_an_image_of_its_own(engine: Engine, encoded: Counted) -> None:
    with engine.encoded(b"a", picture, roi=(50.5, 30, 9.5, -4)) as image:
        window = image.window
        assert (window.x0, window.y0, window.x1, window.y1) == (9, 0, 51, 30)
        assert image.size == (40, 64)
        seen = image.predictor.predict(CLICK)
    assert seen.size == (30, 42)
    with engine.encoded(b"b", lambda: np.ascontiguousarray(picture()[0:30, 9:51])) as image:
        np.testing.assert_array_equal(image.predictor.predict(CLICK).logits, seen.logits)
    with engine.encoded(b"a", picture, roi=(50.5, 30, 9.5, -4)):
        assert encoded.count == 2
    with engine.encoded(b"a", picture) as image:
        assert image.window.size == (40, 64)
    assert encoded.count == 3


@pytest.mark.parametrize("roi", [(64, 0, 90, 40), (5, 5, 5, 20), (-9, -9, -1, -1)])
def test_a_region_outside_the_image_is_refused(engine: Engine, roi: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as caught, engine.encoded(b"a", picture, roi=roi):
        pass
    assert caught.value.field == "roi"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), OSError("no such disk")]
)
def test_whatever_stops_the_loading_is_one_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import edgetam_model.weights

    def failing(name: str, device: str) -> object:
        raise error

    monkeypatch.setattr(edgetam_model.weights, "load_model", failing)
    with pytest.raises(ModelNotReady, match="cannot be loaded"):
        _ = engine.model
