"""What came of tracking: for machines as one document, for people as a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetam_model.commands.terminal import UNTRAINED, complain, print_json, say
from edgetam_model.tracks import Tracks

if TYPE_CHECKING:  # torch takes a second to import
    from edgetam_model.weights import WeightsInfo

CANCELLED = 130  # what shells report after Ctrl-C


@dataclass(frozen=True, eq=False)
class TrackReport:
    """What came of a job.

    Attributes:
        tracks: the tracks file's content.
        weights: which weights ran.
        frames: the finished frames, without gaps.
        cancelled: whether Ctrl-C ended it early.
        seconds: spent on tracking alone.
        steps: frames tracked in that time; twice those that lie on both ways.
        outputs: name → path of what was written.
        warnings: what is wrong with the video, in words for people.
    """

    tracks: Tracks
    weights: WeightsInfo
    frames: range
    cancelled: bool
    seconds: float
    steps: int
    outputs: Mapping[str, Path]
    warnings: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames tracked per second."""
        return self.steps / max(self.seconds, 1e-9)

    def document(self) -> dict[str, Any]:
        """The report for machines."""
        weights = self.weights
        return {
            "state": "cancelled" if self.cancelled else "done",
            "video": self.tracks.video.model_dump(exclude={"times", "warnings"}),
            "weights": {"name": weights.name, "trained": weights.trained, "fingerprint": weights.fingerprint},
            "frames": {"first": self.frames[0], "last": self.frames[-1], "count": len(self.frames)},
            "objects": [
                {"id": track.id, "label": track.label, "frames": len(track.frames)}
                | {state: count[state] for state in ("visible", "absent", "lost")}
                for track in self.tracks.objects
                for count in [Counter(record.state for record in track.frames)]
            ],
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "outputs": {name: str(path) for name, path in self.outputs.items()},
            "warnings": list(self.warnings),
        }

    def summary(self) -> str:
        """What was tracked and where it is, for people."""
        span, weights = f"frames {self.frames[0]} to {self.frames[-1]}", f"weights {self.weights.name}"
        trained = "" if self.weights.trained else f": {UNTRAINED}"
        lines = [f"{span} in {self.seconds:.1f} s ({self.fps:.1f} fps), {weights}{trained}"]
        for track in self.tracks.objects:
            states = Counter(record.state for record in track.frames)
            listed = ", ".join(f"{count} {state}" for state, count in states.most_common())
            lines.append(f"object {track.id} {track.label}: {len(track.frames)} frames, {listed}")
        lines += [f"{name:<18} {path}" for name, path in self.outputs.items()]
        return "\n".join(lines)

    def print(self, *, as_json: bool) -> int:
        """Say it all, what is wrong on stderr; the exit code of the verb.

        Args:
            as_json: one document on stdout instead of lines.
        """
        for warning in self.warnings:
            complain(f"warning: {warning}")
        if self.cancelled:
            complain(f"cancelled: frames {self.frames[0]} to {self.frames[-1]} are finished and kept")
        if as_json:
            print_json(self.document())
        else:
            say(self.summary())
        return CANCELLED if self.cancelled else 0
