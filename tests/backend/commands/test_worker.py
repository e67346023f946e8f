"""`edgetam worker` as a process: how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from backend.embedded_redis import EmbeddedRedis

PREPARING = (
    b"computed by OpenVINO"  # said before graphs are prepared, which takes seconds where none are kept
)


def test_a_worker_that_still_prepares_its_model_ends_in_peace(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    settings = {
        "EDGETAM_CACHE": str(tmp_path / "cache"),
        "EDGETAM_WEIGHTS": "default",
        "EDGETAM_DEVICE": "cpu",
    }
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "edgetam_model.cli", "worker"]
    with EmbeddedRedis(tmp_path / "redis") as redis, log.open("wb") as output:
        environ = os.environ | settings | {"EDGETAM_RUNTIME": "openvino", "REDIS_URL": redis.url}
        worker = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while PREPARING not in log.read_bytes():
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "stops" in log.read_text()
