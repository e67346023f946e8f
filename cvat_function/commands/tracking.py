"""`edgetam cvat track`: what it says to people and to programs, around `video.work`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvat_function.commands.progress import showing
from cvat_function.commands.reaching import reach
from cvat_function.settings import Quality
from cvat_function.video.login import Login
from cvat_function.video.receipt import Receipt, check_free
from cvat_function.video.records import LabeledShape, Track
from cvat_function.video.seeds import Choice, Seed

if TYPE_CHECKING:
    from cvat_function.video.server import CvatServer
    from cvat_function.video.tracking import Followed
    from cvat_function.video.work import Plan

DONE, FAILED, CANCELLED = 0, 1, 130


@dataclass(frozen=True)
class TrackJob:
    """What was typed."""

    login: Login
    task: int | None
    job: int | None
    first: int
    last: int | None
    choice: Choice
    receipt: Path | None = None
    dry_run: bool = False
    weights: str | None = None
    device: str = "auto"
    quality: Quality | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    plan: Plan
    followed: Followed | None = None
    receipt: Receipt | None = None
    path: Path | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        if self.followed is None:
            return DONE
        if self.followed.cancelled:
            return CANCELLED
        return FAILED if self.followed.failure else DONE


def run(job: TrackJob, *, as_json: bool) -> int:
    """Plan, show, track, send; the exit code."""
    out = sys.stderr if as_json else sys.stdout
    with reach(job.login) as server:
        from cvat_function.video.work import Wish, make_plan

        plan = make_plan(server, Wish(job.task, job.job, job.first, job.last, job.choice))
        out.write("\n".join(_plan_lines(plan)) + "\n")
        out.flush()  # before the long part
        outcome = Outcome(plan) if job.dry_run else _carry_out(server, job, plan)
    out.write("\n".join(_outcome_lines(outcome)) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(_document(outcome), indent=2) + "\n")
    return outcome.code


def _carry_out(server: CvatServer, job: TrackJob, plan: Plan) -> Outcome:
    from cvat_function.video.work import send, track, uploads
    from edgetam_model import accelerate, load_model

    path = (job.receipt or Path(_receipt_name(plan))).absolute()
    check_free(path)
    model = accelerate(load_model(job.weights, job.device))
    weights = str(getattr(model.weights_info, "name", "unnamed"))
    sys.stderr.write(f"weights: {model.weights_info}\n")
    with showing("tracking", len(plan.frames.frames)) as progress:
        followed = track(server, plan, model, progress, job.quality)
    receipt = Receipt(
        server=server.address,
        task=plan.task,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        weights=" ".join(filter(None, (weights, job.quality))),
        first=plan.frames.frames[0],
        last=plan.frames.frames[-1] if followed.last is None else followed.last,
        jobs=uploads(plan, followed),
    )
    if not receipt.jobs:
        return Outcome(plan, followed)
    sys.stderr.write(f"uploading; what is sent is noted in {path}\n")
    return Outcome(plan, followed, send(server, receipt, path), path)


def _receipt_name(plan: Plan) -> str:
    frames = plan.frames.frames
    return f"cvat-{plan.place.kind}-{plan.place.id}-frames-{frames[0]}-{frames[-1]}.json"


def _plan_lines(plan: Plan) -> list[str]:
    frames, (first, last) = plan.frames.frames, (plan.frames.frames[0], plan.frames.frames[-1])
    source = f"{plan.frames.source(first)} to {plan.frames.source(last)} of the media"
    missing = last - first + 1 - len(frames)
    lines = [
        f"{plan.place.kind} {plan.place.id}: frames {first} to {last} ({source}), {len(frames)} of them"
        + (f", {missing} deleted" if missing else ""),
        f"jobs:  {', '.join(f'{j.id} (frames {j.start_frame}-{j.stop_frame})' for j in plan.jobs)}",
    ]
    lines += [f"seed:  {_seed_line(seed)}" for seed in plan.chosen.seeds]
    return lines + [f"note:  {note}" for note in plan.chosen.notes]


def _seed_line(seed: Seed) -> str:
    keys = ", ".join(f"{key.frame}{'' if key.shape else ' (outside)'}" for key in seed.keys)
    return f"{seed.kind}:{seed.id} {seed.label.name}, {seed.type}, drawn on frame {keys}"


def _outcome_lines(outcome: Outcome) -> list[str]:
    followed = outcome.followed
    if followed is None:
        return ["nothing was tracked or changed (--dry-run)"]
    lines = [f"stopped: {followed.failure}"] if followed.failure else []
    if followed.cancelled:
        lines.append(f"cancelled after frame {followed.last}")
    if outcome.receipt is None or outcome.path is None:
        return [*lines, "nothing was uploaded: no object was seen on a finished frame"]
    for upload in outcome.receipt.jobs:
        tracks, shapes = upload.annotations.tracks, upload.annotations.shapes
        lines += [f"job {upload.job}: track:{t.id}, {_track_line(t)}" for t in tracks]
        if shapes:
            lines.append(f"job {upload.job}: {len(shapes)} masks, one per frame")
    return [*lines, f"take it back with: edgetam cvat undo {outcome.path}"]


def _track_line(track: Track) -> str:
    lost = [shape.frame for shape in track.shapes if shape.outside]
    said = f", outside from {', '.join(map(str, lost))}" if lost else ""
    return f"frames {track.shapes[0].frame} to {track.shapes[-1].frame}{said}"


def _document(outcome: Outcome) -> dict[str, Any]:
    plan, followed, receipt = outcome.plan, outcome.followed, outcome.receipt
    frames = plan.frames.frames
    return {
        "task": plan.task,
        "job": plan.place.id if plan.place.kind == "job" else None,
        "frames": {
            "first": frames[0],
            "last": frames[-1],
            "count": len(frames),
            "source_first": plan.frames.source(frames[0]),
            "source_last": plan.frames.source(frames[-1]),
            "finished": followed.last if followed else None,
        },
        "seeds": [_seed_json(seed) for seed in plan.chosen.seeds],
        "notes": list(plan.chosen.notes),
        "dry_run": followed is None,
        "cancelled": bool(followed and followed.cancelled),
        "failure": followed.failure if followed else None,
        "weights": receipt.weights if receipt else None,
        "receipt": str(outcome.path) if outcome.path else None,
        "jobs": [
            {
                "job": upload.job,
                "tracks": [_track_json(track) for track in upload.annotations.tracks],
                "shapes": _shapes_json(upload.annotations.shapes),
            }
            for upload in (receipt.jobs if receipt else ())
        ]
        or [{"job": job.id, "tracks": [], "shapes": []} for job in plan.jobs],
    }


def _seed_json(seed: Seed) -> dict[str, Any]:
    return {
        "seed": f"{seed.kind}:{seed.id}",
        "label": seed.label.name,
        "type": seed.type,
        "frames": [key.frame for key in seed.keys],
    }


def _track_json(track: Track) -> dict[str, Any]:
    return {
        "id": track.id,
        "label_id": track.label_id,
        "first": track.shapes[0].frame,
        "last": track.shapes[-1].frame,
        "outside": [shape.frame for shape in track.shapes if shape.outside],
    }


def _shapes_json(shapes: Sequence[LabeledShape]) -> list[dict[str, Any]]:
    return [{"id": shape.id, "label_id": shape.label_id, "frame": shape.frame} for shape in shapes]
