"""Many videos, few processes: frames are those of a source of one's own, whenever its process ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from backend import fit_videos
from backend.fit_videos import FitVideos
from edgetam_model import ApartOptions, MediaError, MediaLimits, open_source, render_demo_clip
from edgetam_model.apart import decoder

BROKEN = Path(__file__).parents[1] / "apart" / "broken.py"


def decoders() -> int:
    """Processes of this one that decode."""
    return sum("start.py" in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_videos_share_a_few_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_videos, "AT_ONCE", 1)
    before = decoders()
    paths = [
        render_demo_clip(tmp_path / f"{k}.mp4", frames=10 + k, width=96, height=64).path for k in range(2)
    ]
    videos = FitVideos(MediaLimits(), ApartOptions())
    sources = [videos.source(path) for path in paths]
    assert [len(source) for source in sources] == [10, 11]
    for index in (3, 9):
        for source, path in zip(sources, paths, strict=True):
            with open_source(path) as here:
                np.testing.assert_array_equal(source.read(index), here.read(index))
            assert decoders() - before == 1
    up = [(index, frame.mean()) for index, frame in sources[0].frames(2, 5)]
    down = [(index, frame.mean()) for index, frame in sources[0].frames(5, 2, reverse=True)]
    assert up == down[::-1]
    assert [index for index, _ in up] == [2, 3, 4, 5]
    for source in sources:
        source.close()
        with pytest.raises(MediaError, match="is closed"):
            source.read(0)
    assert decoders() == before


def test_a_video_that_broke_its_process_gets_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "PROGRAM", BROKEN)
    path = render_demo_clip(tmp_path / "crash.mp4", frames=12, width=96, height=64).path
    videos = FitVideos(MediaLimits(), ApartOptions())
    with videos.source(path) as source:
        with pytest.raises(MediaError, match="SIGSEGV"):
            source.read(1)
        assert source.read(0).shape == (64, 96, 3)
