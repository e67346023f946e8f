"""Time and memory, said beforehand: by the model's size, the mode and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetam_model.config import CONFIGS
from edgetam_model.training import fit_needs
from edgetam_model.training.fit_needs import Needs, config_of, in_words, needs, peak_memory_mb
from edgetam_model.training.fit_options import MODES
from tests.training.fit_jobs import small_weights


@pytest.mark.parametrize("mode", MODES)
def test_large_models_and_more_updates_take_longer(mode: str) -> None:
    small, large = CONFIGS["nano"], CONFIGS["edgetam"]
    few, many = (needs(small, mode, updates, 20) for updates in (60, 240))  # type: ignore[arg-type]
    assert few.seconds < many.seconds
    published = needs(large, mode, 60, 20)  # type: ignore[arg-type]
    assert published.seconds > few.seconds
    assert few.memory_mb < published.memory_mb < 16_000


def test_more_cores_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr(fit_needs, "cores", lambda cores=cores: cores)
        times.append(needs(CONFIGS["nano"], "adapter", 100, 20).seconds)
    assert times[0] > times[1] > times[2] == times[3]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "about 10 seconds"),
        (34, "about 30 seconds"),
        (55, "about 1 minute"),
        (355, "about 6 minutes"),
        (9000, "about 2.5 hours"),
    ],
)
def test_times_are_rough_and_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_too_little_memory_is_seen() -> None:
    assert Needs(1, 9_500, 10_000).is_tight
    assert not Needs(1, 5_000, 10_000).is_tight
    assert not Needs(1, 5_000, None).is_tight
    assert str(Needs(300, 1_700, 16_000)) == (
        "about 5 minutes on this machine, 1.7 GB of memory; this machine has 16 GB"
    )


def test_sizes_are_read_without_loading_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path))
    assert config_of(small_weights(tmp_path / "small.safetensors")).image_size == 64
    assert config_of("default").window_scale == CONFIGS["nano"].window_scale
    assert config_of("auto") == config_of("default"), "the published ones are not here"
    assert config_of("edgetam") == config_of("nowhere") == CONFIGS["edgetam"]
    small_weights(tmp_path / "weights" / "edgetam.safetensors")
    assert config_of("auto").image_size == 64
    (tmp_path / "junk").write_bytes(b"junk")
    assert config_of(tmp_path / "junk") == CONFIGS["edgetam"]


def test_the_peak_of_this_process_is_known() -> None:
    peak = peak_memory_mb()
    assert peak is None or 20 < peak < 100_000
