"""Media of a training: fetched once, kept while it lasts, read where they are, and never of another kind."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.fit_listing import configured_site
from backend.fit_media import FitMedia
from backend.media import MediaIntake
from backend.settings import Settings
from edgetam_model import MediaError, render_demo_clip
from edgetam_model.training.annotations import AnnotatedTask
from tests.backend.fit_studio import Studio, disc, png, studio
from tests.backend.web_fixtures import Answer

NUMBER = 1


@pytest.fixture
def site() -> Iterator[Studio]:
    with studio() as made:
        made.paint(7, NUMBER)
        yield made


def media_of(site: Studio, folder: Path, **more: str) -> FitMedia:
    settings = Settings.from_env(site.settings(folder, **more))
    return FitMedia(MediaIntake(settings, configured_site(settings)), settings, folder / "cache" / "own")


def image(where: str = "/data/upload/7/1.png", number: int = NUMBER) -> AnnotatedTask:
    return AnnotatedTask(f"{number}:image:0", "image", where, (), group=str(number))


def test_a_picture_is_fetched_once_and_outlives_the_cache(site: Studio, tmp_path: Path) -> None:
    media = media_of(site, tmp_path)
    for _ in range(3):
        with media.open(image()) as source:
            assert (source.read(0) == disc(7000 + NUMBER)[0]).all()
        shutil.rmtree(tmp_path / "cache" / "media", ignore_errors=True)
        site.projects[7].media.clear()
    assert len(site.asked("/data/")) == 1
    with media_of(site, tmp_path).open(image()) as source:  # another attempt of the same job
        assert len(source) == 1


def test_what_was_fetched_takes_no_space_twice(site: Studio, tmp_path: Path) -> None:
    media_of(site, tmp_path).open(image()).close()
    (kept,) = (tmp_path / "cache" / "own").iterdir()
    assert kept.stat().st_nlink == 2


def test_where_a_disk_has_no_links_it_is_copied(
    site: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    media_of(site, tmp_path).open(image()).close()
    (kept,) = (tmp_path / "cache" / "own").iterdir()
    assert kept.read_bytes() == png(disc(7000 + NUMBER)[0])


def test_the_same_path_in_two_tasks_is_two_files(site: Studio, tmp_path: Path) -> None:
    """Cloud storage is resolved by task."""
    media = media_of(site, tmp_path)
    for number in (1, 2):
        path = f"/tasks/{number}/resolve/"
        site.projects[7].media[path] = png(np.full((64, 64, 3), number, np.uint8))
        with media.open(image("s3://bucket/a.png", number)) as source:
            assert (source.read(0) == number).all()


def test_files_of_this_machine_are_read_where_they_are(site: Studio, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "a.png").write_bytes(png(disc(5)[0]))
    media = media_of(site, tmp_path, EDGETAM_MEDIA_ROOTS=str(roots))
    with media.open(image("a.png")) as source:
        assert (source.read(0) == disc(5)[0]).all()
    assert not (tmp_path / "cache" / "own").exists()
    with pytest.raises(MediaError):
        media.open(image("../tiny.safetensors"))


def test_a_video_stays_open_and_is_limited(site: Studio, tmp_path: Path) -> None:
    clip = render_demo_clip(tmp_path / "clip.mp4", frames=12, width=96, height=64).path
    site.projects[7].media["/data/upload/7/clip.mp4"] = clip.read_bytes()
    task = AnnotatedTask("1", "video", "/data/upload/7/clip.mp4", ())
    with media_of(site, tmp_path).open(task) as source:
        assert len(source) == 12
        assert source.read(11).shape == (64, 96, 3)
    with pytest.raises(MediaError, match="longer than the limit of 0 s"):
        media_of(site, tmp_path, EDGETAM_MAX_SECONDS="0.1").open(task)
    with pytest.raises(MediaError, match="expected image media"):
        media_of(site, tmp_path).open(image("/data/upload/7/clip.mp4"))


@pytest.mark.parametrize("where", ["http://10.0.0.1/a.png", "file:///etc/passwd", "/etc/passwd", "a\0b", ""])
def test_it_is_the_same_safe_intake(site: Studio, tmp_path: Path, where: str) -> None:
    with pytest.raises(MediaError):
        media_of(site, tmp_path).open(image(where))


def test_what_is_no_picture_is_refused(site: Studio, tmp_path: Path) -> None:
    site.refusals["/data/upload/7/1.png"] = Answer(b"<html>log in</html>")
    with pytest.raises(MediaError, match="web page"):
        media_of(site, tmp_path).open(image())
    assert not (tmp_path / "cache" / "own").exists()
