"""A session resumed from bytes goes on to the same masks; anything else is refused in words."""

from __future__ import annotations

import copy
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from edgetam_model.errors import CheckpointError
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.session import VideoSession
from edgetam_model.video_tracker import VideoTracker
from tests.models import clip, tiny_model

FRAMES = 40
SQUARE = np.zeros((90, 160), bool)
SQUARE[20:50, 30:70] = True


def prompted(options: TrackerOptions | None = None) -> VideoSession:
    session = VideoTracker(tiny_model(), options).open(clip(FRAMES))
    session.add_prompt(0, 1, Prompt(box=[25, 25, 60, 60]))
    session.add_prompt(5, 2, Prompt(points=[[110, 60], [20, 20]], labels=[1, 0]))
    session.add_prompt(3, -4, Prompt(mask=SQUARE))
    return session


def masks(session: VideoSession, **arguments: object) -> dict[tuple[int, int], bytes]:
    results = session.propagate(**arguments)  # type: ignore[arg-type]
    return {(r.frame, i): o.mask.tobytes() + o.state.encode() for r in results for i, o in r.objects.items()}


def test_a_resumed_session_ends_in_the_same_masks() -> None:
    expected = masks(prompted())
    session = prompted()
    masks(session, stop=20)
    resumed = VideoTracker(tiny_model()).resume(session.checkpoint(), clip(FRAMES))
    computed: list[int] = []
    assert masks(resumed, progress=lambda done, _: computed.append(done)) == expected
    assert len(computed) == 19, "frames 21–39; the others came with the checkpoint"


def test_corrections_go_on_after_a_resume() -> None:
    def corrected(session: VideoSession) -> dict[tuple[int, int], bytes]:
        session.add_prompt(12, 1, Prompt(points=[[70, 45]], labels=[1]))
        return masks(session)

    session = prompted()
    masks(session)
    blob = session.checkpoint()
    expected = corrected(session)
    assert corrected(VideoTracker(tiny_model()).resume(blob, clip(FRAMES))) == expected


def test_stretches_in_doubt_and_options_travel_along() -> None:
    options = TrackerOptions(non_overlapping=True, corrections_as_conditioning=False)
    session = prompted(options)
    masks(session)
    session.add_prompt(12, 1, Prompt(points=[[70, 45]], labels=[1]))
    blob = session.checkpoint()
    resumed = VideoTracker(tiny_model()).resume(blob, clip(FRAMES))
    assert resumed.options == options
    assert resumed.objects[1].stale == session.objects[1].stale
    assert resumed.objects[1].corrections == {12: False}
    assert resumed.objects[2].prompts[5].labels.tolist() == [1, 0]
    assert np.array_equal(resumed.objects[-4].prompts[3].mask, SQUARE)
    assert masks(resumed) == masks(session)


def test_another_process_resumes_it(tmp_path: Path) -> None:
    session = prompted()
    masks(session, stop=10)
    (tmp_path / "blob").write_bytes(session.checkpoint())
    script = """
import hashlib, sys
from tests.test_checkpoint import *
session = VideoTracker(tiny_model()).resume(open(sys.argv[1], "rb").read(), clip(FRAMES))
print(hashlib.sha256(repr(sorted(masks(session).items())).encode()).hexdigest())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "blob")]
    root = Path(__file__).parent.parent
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    expected = hashlib.sha256(repr(sorted(masks(session).items())).encode()).hexdigest()
    assert out.stdout.strip() == expected


def test_fusing_does_not_make_the_weights_other_ones() -> None:
    blob = prompted().checkpoint()
    VideoTracker(copy.deepcopy(tiny_model()).fuse()).resume(blob, clip(FRAMES))


def test_what_is_not_this_session_is_refused() -> None:
    blob = prompted().checkpoint()
    with pytest.raises(CheckpointError, match="other weights"):
        VideoTracker(tiny_model(seed=1)).resume(blob, clip(FRAMES))
    with pytest.raises(CheckpointError, match="another video"):
        VideoTracker(tiny_model()).resume(blob, clip(FRAMES + 1))
    for damaged in (b"", b"short", blob[:-1], blob[:-40], blob[:100] + b"x" + blob[101:], blob + b"x"):
        with pytest.raises(CheckpointError, match="damaged"):
            VideoTracker(tiny_model()).resume(damaged, clip(FRAMES))


def test_bytes_with_a_right_checksum_but_no_session_are_refused() -> None:
    for tensors in ({"a": torch.zeros(1)}, {"session": torch.tensor([1, 2], dtype=torch.uint8)}):
        body = safetensors.torch.save(tensors)
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            VideoTracker(tiny_model()).resume(body + hashlib.sha256(body).digest(), clip(FRAMES))
