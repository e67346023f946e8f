"""The demo: the server at work on the product's own clip, asked as Label Studio asks it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend import demo_label_studio as label_studio
from backend import demo_results as results
from backend.demo_editor import CLASS, Editor, Task, drawn, press_until_complete
from backend.demo_label_studio import Site
from backend.demo_programs import fetch, free_port, running
from backend.demo_results import BoxTrack
from backend.settings import FALLBACKS, Settings
from edgetam_model import DemoClip, open_source, render_demo_clip

Tell = Callable[[str], None]

# Until `edgetam serve` can be used: 2 s, 20 on a busy machine; half a minute more, or two there, where the
# model is prepared for this machine.
SERVE_SECONDS = 300.0
ANSWER_SECONDS = "2"  # of each press: how often the progress is told
KEPT = ("EDGETAM_WEIGHTS", "EDGETAM_DEVICE", "EDGETAM_CACHE", "EDGETAM_OFFLINE")  # of this process's settings


@dataclass(frozen=True)
class DemoOptions:
    """What was asked for.

    Attributes:
        out: folder of the results; created.
        state: folder of all else: queue, logs, Label Studio's data.
        weights, device: as `load_model` takes them; None: as the environment says.
        port: of the server; 0: one that is free.
        label_studio: folder of Label Studio's environment; None: without Label Studio.
    """

    out: Path
    state: Path
    weights: str | None = None
    device: str | None = None
    port: int = 0
    label_studio: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of the presses.

    Attributes:
        editor: as it is at the end.
        tracks: what is in it.
        before: mean IoU before the corrections.
        corrected: what was put right, in words.
        site: the running Label Studio, or None.
        seconds: the whole demo's.
    """

    editor: Editor
    tracks: list[BoxTrack]
    before: float
    corrected: tuple[str, ...]
    site: Site | None
    seconds: float

    def document(self, out: Path) -> dict[str, Any]:
        """For machines; the results are in the folder `out`."""
        return {
            "server": self.editor.server,
            "weights": self.editor.answer["results"][0]["model_version"],
            "presses": self.editor.presses,
            "seconds": round(self.seconds, 1),
            "objects": [
                {"id": t.id, "label": t.label, "frames": t.seen, "iou": round(t.iou, 4)} for t in self.tracks
            ],
            "mean_iou": round(results.mean_iou(self.tracks), 4),
            "before_corrections": round(self.before, 4),
            "corrections": list(self.corrected),
            "outputs": {name: str(out / name) for name in results.FILES},
            "label_studio": None if self.site is None else self._log_in(self.site),
        }

    def _log_in(self, site: Site) -> dict[str, str]:
        task = self.editor.task
        page = f"{site.url}/projects/{task.project}/data?task={task.id}"
        return {"url": site.url, "user": site.user, "password": site.password, "task": page}


@contextmanager
def demo(options: DemoOptions, tell: Tell) -> Iterator[Outcome]:
    """Run it whole; server and Label Studio go on running until the block ends.

    Args:
        tell: gets lines for people about the progress.

    Raises:
        EdgeTAMError: something does not start, or refuses; the text says what.
    """
    begun = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        site = None
        if options.label_studio is not None:
            program = label_studio.install(options.label_studio, tell)
            site = stack.enter_context(label_studio.serving(program, options.state, tell))
        tell("rendering the clip")
        clip = render_demo_clip(options.out / results.CLIP)
        url = f"http://127.0.0.1:{options.port or free_port()}"
        tell(f"starting edgetam serve at {url} (the first start prepares the model for this machine)")
        stack.enter_context(_server(options, url, site))
        task = Task(1, clip.path.name)  # a file below EDGETAM_MEDIA_ROOTS
        if site is not None:
            task = label_studio.connected(site, url, clip.path, options.state, tell)
        editor, before, corrected = _press(clip, url, task, options.out, tell)
        tracks = results.tracks_of(editor.regions, clip)
        yield Outcome(editor, tracks, before, corrected, site, time.monotonic() - begun)


def _server(options: DemoOptions, url: str, site: Site | None) -> AbstractContextManager[None]:
    """`edgetam serve` as people start it."""
    given = {"EDGETAM_WEIGHTS": options.weights, "EDGETAM_DEVICE": options.device}
    environ = server_environment(os.environ) | {name: text for name, text in given.items() if text}
    environ |= site.variables if site else {"EDGETAM_MEDIA_ROOTS": str(options.out.absolute())}
    environ |= {"MODEL_DIR": str(options.state / "server"), "EDGETAM_ANSWER_SECONDS": ANSWER_SECONDS}
    host, port = url.removeprefix("http://").split(":")
    command = [sys.executable, "-m", "edgetam_model.cli", "serve", "--host", host, "--port", port]
    log = options.state / "server.log"
    return running("edgetam serve", command, environ, log, f"{url}/ready", SERVE_SECONDS)


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would tie the demo to a Redis, Label Studio or port in use."""
    own = {row.name for row in Settings.reference()}
    own |= {name for names in FALLBACKS.values() for name in names}
    return {name: text for name, text in environ.items() if name not in own or name in KEPT}


def _press(
    clip: DemoClip, url: str, task: Task, out: Path, tell: Tell
) -> tuple[Editor, float, tuple[str, ...]]:
    """Press until it is complete, put right what is wrong, press again, and write all results.

    Returns:
        The editor, the mean IoU before the corrections, and those in words.
    """
    with open_source(clip.path) as source:
        size = (source.info.height, source.info.width)
    editor = Editor(url, task, drawn(clip, size))
    editor.open()
    job = press_until_complete(editor, tell)
    tracks = results.tracks_of(editor.regions, clip)
    before = results.mean_iou(tracks)
    corrected = correct(editor, tracks, clip, size, tell)
    if corrected:
        job = press_until_complete(editor, tell)
        tracks = results.tracks_of(editor.regions, clip)
    tell("drawing")
    results.write_json(out / results.ANSWER, editor.answer)
    results.write_tracks(tracks, clip, out)
    (out / results.PICTURE).write_bytes(fetch(f"{url}/api/jobs/{job}/thumbnail"))
    results.draw(tracks, clip, out)
    return editor, before, corrected


def correct(
    editor: Editor, tracks: list[BoxTrack], clip: DemoClip, size: tuple[int, int], tell: Tell
) -> tuple[str, ...]:
    """Do a person's part: move the box of each track to where it belongs, once; what was done, in words."""
    done = []
    for track in tracks:
        wrong = results.to_correct(track, clip)
        if wrong is not None:
            frame, box = wrong
            editor.move(track.label, frame + 1, box, size)
            done.append(f"{track.label} on frame {frame}")
            tell(f"the box of the {done[-1]} is wrong: it is moved to where it belongs, as a person would")
    return tuple(done)


def summary(document: Mapping[str, Any], *, kept: bool) -> str:
    """`Outcome.document` for people; `kept`: whether the server goes on running."""
    lines = [
        f"both tracks complete after {document['presses']} presses of t, {document['seconds']:.0f} s in all, "
        f"weights {document['weights']}"
    ]
    lines += [
        f"{found['label']}: shown on {found['frames']} frames, mean IoU {found['iou']:.3f}"
        for found in document["objects"]
    ]
    before = ""
    if document["corrections"]:
        moved = ", ".join(document["corrections"])
        before = f" ({document['before_corrections']:.3f} before a box was moved: {moved})"
    lines.append(f"mean IoU of the boxes with the true ones: {document['mean_iou']:.3f}{before}")
    lines += [f"{name:<25} {path}" for name, path in document["outputs"].items()]
    if site := document["label_studio"]:
        lines += [
            f"{'Label Studio':<25} {site['task']}",
            f"{'log in as':<25} {site['user']} with the password {site['password']}",
            "There: switch Auto-Annotation on, select a region, move its box on a later frame, press t. Or",
            f"delete both, draw a box, choose {CLASS}, keep it selected, press t.",
        ]
    if kept:
        lines.append(f"{'status page':<25} {document['server']}/  (until Ctrl-C)")
    else:
        lines.append("The server has ended, and its status page with it: --keep leaves them running.")
    return "\n".join(lines)
