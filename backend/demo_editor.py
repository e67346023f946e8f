"""Label Studio's side of the auto-track button: what its editor sends, and does with the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.demo_programs import call
from backend.label_config_edit import adapted_config
from edgetam_model import DemoClip, EdgeTAMError

Region = dict[str, Any]
PixelBox = tuple[float, float, float, float]

CLASS = "Object"
FPS = 25  # of the demo's clip, and frames per second that its label config counts in
VIDEO = f'<View>\n  <Video name="video" value="$video" frameRate="{FPS}"/>\n</View>'
CONFIG = adapted_config(VIDEO, "video", (CLASS,))
PATIENCE = 600.0  # seconds without a new frame before the demo gives up; weights may be fetched first


@dataclass(frozen=True)
class Task:
    """A task that shows the clip.

    Attributes:
        id: its number.
        video: the value in its data.
        project: its number.
        hostname: Label Studio's address in its own words; None: there is no Label Studio.
        token: of its API.
    """

    id: int
    video: str
    project: int = 1
    hostname: str | None = None
    token: str | None = None


@dataclass
class Editor:
    """The open editor of one task.

    Attributes:
        server: address of the ML backend.
        task: what is open.
        regions: what is drawn, by id; answers replace them.
        presses: how often the button was pressed.
        answer: the last one with something new; regions that are complete come back as they were.
    """

    server: str
    task: Task
    regions: dict[str, Region]
    presses: int = 0
    answer: dict[str, Any] = field(default_factory=dict)

    def open(self) -> str:
        """Introduce the project, as Label Studio does with every page; the server's model version.

        Raises:
            ProgramFailed: as `press`.
        """
        body = {
            "project": self._project,
            "schema": CONFIG,
            "hostname": self.task.hostname,
            "access_token": self.task.token,
            "extra_params": None,
        }
        return str(call(f"{self.server}/setup", body)["model_version"])

    def press(self) -> None:
        """Press t: every region of the class is sent, and replaced by what comes back under its id.

        Raises:
            ProgramFailed: the server refuses or does not answer.
        """
        task = {"id": self.task.id, "data": {"video": self.task.video}, "meta": {}}
        task |= {"annotations": [], "predictions": [], "drafts": []}
        body = {
            "tasks": [task],
            "project": self._project,
            "label_config": CONFIG,
            "params": {"login": None, "password": None, "context": {"result": list(self.regions.values())}},
        }
        answer = call(f"{self.server}/predict", body)
        self.presses += 1
        for prediction in answer["results"]:
            self.answer = answer if "model_version" in prediction else self.answer
            self.regions |= {
                region["id"]: region for region in prediction["result"] if region["type"] == "videorectangle"
            }

    def move(self, region: str, number: int, box: PixelBox, size: tuple[int, int]) -> None:
        """Put a region's box elsewhere on frame `number`: of a keyframe there, other keys stay as they are.

        Args:
            box: x0, y0, x1, y1 in pixels.
            size: (H, W) of the video in pixels.
        """
        value = self.regions[region]["value"]
        known = {keyframe["frame"]: keyframe for keyframe in value["sequence"]}
        known[number] = {**known.get(number, {}), **_keyframe(number, box, size)}
        moved = {**value, "sequence": [known[frame] for frame in sorted(known)]}
        self.regions[region] = {**self.regions[region], "value": moved}

    @property
    def _project(self) -> str:
        return f"{self.task.project}.1700000000"  # Label Studio appends when the project was made


def drawn(clip: DemoClip, size: tuple[int, int]) -> dict[str, Region]:
    """A person's boxes on the clip's first frame; a region's id is the object's label.

    Args:
        size: (H, W) of the clip in pixels.
    """
    regions = {}
    for number, prompt in clip.prompts.items():
        assert prompt.box is not None, "the clip's prompts are boxes"
        x0, y0, x1, y1 = (float(edge) for edge in prompt.box)
        region = _region(clip.labels[number], _keyframe(1, (x0, y0, x1, y1), size), len(clip.masks))
        regions[region["id"]] = region
    return regions


def _region(name: str, keyframe: dict[str, Any], frames: int) -> Region:
    value = {"framesCount": frames, "duration": frames / FPS, "sequence": [keyframe], "labels": [CLASS]}
    ends = {"from_name": "box", "to_name": "video", "type": "videorectangle", "origin": "manual"}
    return {"id": name, **ends, "value": value}


def _keyframe(number: int, box: PixelBox, size: tuple[int, int]) -> dict[str, Any]:
    """As the editor writes it: percent, frames from 1, and the time of the frame after."""
    (height, width), (x0, y0, x1, y1) = size, box
    percent = {"x": x0 / width, "y": y0 / height, "width": (x1 - x0) / width, "height": (y1 - y0) / height}
    keyframe = {"frame": number, "enabled": True, "rotation": 0, "time": number / FPS}
    return keyframe | {key: 100 * share for key, share in percent.items()}


def press_until_complete(editor: Editor, tell: Callable[[str], None]) -> str:
    """Press the button until the track is whole; returns the id of its job.

    Args:
        tell: gets a line for people after each press.

    Raises:
        EdgeTAMError: the job failed, or does not get on.
    """
    last, since = "", time.monotonic()
    earlier = {job["id"] for job in _jobs(editor.server)}
    while True:
        complete = _newest(editor.server, earlier).get("state") == "done"  # before: the answer is whole then
        editor.press()
        job = _newest(editor.server, earlier)
        state = job.get("state")
        if state in ("failed", "cancelled"):
            raise EdgeTAMError(f"the track was {state}: {job['error']}")
        if complete:
            return str(job["id"])
        line = _progress(editor, job)
        if line != last:
            last, since = line, time.monotonic()
            tell(line)
        if time.monotonic() - since > PATIENCE:
            raise EdgeTAMError(f"the track did not get on for {PATIENCE:.0f} s")


def _jobs(server: str) -> list[Mapping[str, Any]]:
    """The server's tracks."""
    return [job for job in call(f"{server}/api/jobs")["jobs"] if job["kind"] == "track"]


def _newest(server: str, earlier: Container[str]) -> Mapping[str, Any]:
    """The track that is none of the earlier ones; nothing before it is there."""
    return next((job for job in _jobs(server) if job["id"] not in earlier), {})


def _progress(editor: Editor, job: Mapping[str, Any]) -> str:
    keyframes = max(len(region["value"]["sequence"]) for region in editor.regions.values())
    what = job.get("note") or job.get("state") or "waiting"
    if job.get("total"):
        what = f"{job['done']:.0f} of {job['total']:.0f} frames"
        what += f", {job['rate']:.1f} frames/s" if 0 < job["done"] < job["total"] else ""
    return f"t pressed: {what}, up to {keyframes} keyframes in the editor"
