"""Time and memory, said beforehand: by the model's size, the mode and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetam_model.config import CONFIGS
from edgetam_model.training import fit_needs
from edgetam_model.training.annotations import AnnotatedTask
from edgetam_model.training.fit_needs import Measuring, Needs, config_of, in_words, needs, peak_memory_mb
from edgetam_model.training.fit_options import MODES
from edgetam_model.training.fit_scores import score_clips
from edgetam_model.training.task_clips import task_clips
from edgetam_model.weights import load_model
from tests.training.annotation_tasks import image_task, sighting, thing, video_task
from tests.training.fit_jobs import film, media, small_weights, still

SOME = Measuring(images=10, objects=20)


@pytest.mark.parametrize("mode", MODES)
def test_large_models_and_more_updates_take_longer(mode: str) -> None:
    small, large = CONFIGS["nano"], CONFIGS["edgetam"]
    few, many = (needs(small, mode, updates, SOME) for updates in (60, 240))  # type: ignore[arg-type]
    assert few.seconds < many.seconds
    published = needs(large, mode, 60, SOME)  # type: ignore[arg-type]
    assert published.seconds > few.seconds
    assert few.memory_mb < published.memory_mb < 16_000


def test_more_cores_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    for cores in (1, 2, 8, 64):
        monkeypatch.setattr(fit_needs, "cores", lambda cores=cores: cores)
        times.append(needs(CONFIGS["nano"], "adapter", 100, SOME).seconds)
    assert times[0] > times[1] > times[2] == times[3]


def test_measuring_is_part_of_it_and_grows_with_what_is_measured_on() -> None:
    """40 pictures of cells, 13 of them held out with 34 masks, took 41 s of measuring: .17 s an object,
    by both versions, by the new one on three other pictures again, and the forgetting set twice; one core."""
    config, nothing = CONFIGS["nano"], Measuring(forgetting=0)
    alone = needs(config, "adapter", 10, nothing)
    cells = needs(config, "adapter", 10, Measuring(images=13, objects=34))
    assert alone.measuring == 0
    assert cells.seconds - alone.seconds == pytest.approx(cells.measuring, abs=0.2)
    speed = min(fit_needs.cores(), fit_needs.MOST_CORES) / fit_needs.MEASURED_CORES
    assert cells.measuring * speed == pytest.approx(41, rel=0.1)
    films = needs(config, "adapter", 10, Measuring(frames=124, steps=240))
    third = needs(config, "adapter", 10, Measuring(frames=124, steps=240, forgetting=3))
    assert cells.measuring < films.measuring < third.measuring
    assert cells.updates * 1.4 == pytest.approx(cells.measuring * speed, rel=0.01), (
        "what the meter counts with"
    )


@pytest.mark.parametrize(
    "tasks",
    [[still(1), still(2)], [film(101), film(102, 3)], [still(3), film(103, 2)]],
    ids=["images", "videos", "both"],
)
def test_what_is_counted_is_what_is_looked_at(tasks: list[AnnotatedTask], tmp_path: Path) -> None:
    counted = Measuring.of(tasks, serving=False)
    looks: list[None] = []
    model = load_model(small_weights(tmp_path / "w.safetensors"), "cpu")
    score_clips(model, list(task_clips(tasks, media)), alive=lambda: looks.append(None))
    assert len(looks) == counted.images + counted.frames
    assert counted.objects == counted.images
    assert counted.steps == counted.frames


def test_objects_are_counted_from_where_they_are_first_drawn() -> None:
    early, late = thing(sighting(2), sighting(9)), thing(sighting(6), sighting(20), number=2)
    held_out = [image_task("i", thing(), thing(number=2)), video_task(early, late)]
    assert Measuring.of(held_out, serving=True) == Measuring(1, 2, frames=19, steps=8 + 15, forgetting=3)
    endless = video_task(thing(sighting(5), sighting(9000), absent=(range(10_000, 10_001),)))
    assert Measuring.of([endless], serving=False).frames == 151


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
    assert str(Needs(300, 1_700, None, measuring=120)) == (
        "about 5 minutes on this machine (about 2 minutes of them to measure), 1.7 GB of memory"
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
