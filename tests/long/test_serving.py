"""`edgetam serve` under load: ten people click on images while two long videos are tracked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backend.commands.test_serve import server
from tests.backend.serving_load import crowd_at

FRAMES = 300


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_people_and_two_tracks(tmp_path: Path) -> None:
    """640 × 360, the weights that ship, two workers; people click until both tracks are done."""
    options = ("--weights", "default", "--workers", "2")
    with server(tmp_path, *options, EDGETAM_MEDIA_ROOTS=str(tmp_path)) as (_, url):
        crowd = crowd_at(url, tmp_path, FRAMES, 640, 360)
        crowd.click_all(1)  # the model is there
        with crowd.watched():
            for task in (1, 2):
                crowd.press(task)
            while not all(job["state"] == "done" for job in crowd.jobs()):
                crowd.click_all(2)
        whole = [crowd.press(task)["results"][0]["result"] for task in (1, 2)]
    print(crowd.seen.line())  # noqa: T201
    assert set(crowd.seen.statuses) == {200}
    assert max(crowd.seen.health) < 1
    for region in (region for result in whole for region in result):
        assert region["value"]["sequence"][0]["edgetam"]["onward"]["reach"] == FRAMES
