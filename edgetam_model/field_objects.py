"""What a person works on in a field kit: objects, what is pointed at and what is found. No torch.

Coordinates are pixels (x, y) of the packed media; frames count from 0. A mask is the counts of COCO's
compressed run lengths, its size being that of the media.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgetam_model.prompts import Prompt

MAX_CLICKS = 200  # on one object and frame; people make ten
DOUBTFUL = 0.5  # expected IoU below which a person should look; where objects are seen well it is above .8
Pixel = Annotated[float, Field(ge=-(10**5), le=10**5)]
Labels = Annotated[tuple[Annotated[str, Field(max_length=1000)], ...], Field(max_length=20)]
Click = tuple[Pixel, Pixel, Literal[0, 1]]
BoxPixels = tuple[Pixel, Pixel, Pixel, Pixel]
State = Literal["visible", "absent", "lost"]


class _Noted(BaseModel):
    """A part of a line of a kit's journal."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spec(_Noted):
    """What a person points at, on one object and frame: clicks (x, y, 1 yes or 0 no), a box, or both."""

    points: Annotated[tuple[Click, ...], Field(max_length=MAX_CLICKS)] = ()
    box: BoxPixels | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is pointed at."""
        return not self.points and self.box is None

    def joined(self, later: Spec) -> Spec:
        """This with what was added: clicks beside clicks, a new box in place of the old."""
        return Spec(points=self.points + later.points, box=later.box or self.box)

    def prompt(self) -> Prompt:
        """The same for the model.

        Raises:
            PromptError: it is empty, or its box has no area.
        """
        return Prompt(
            points=[[x, y] for x, y, _ in self.points] or None,
            labels=[mark for _, _, mark in self.points] or None,
            box=self.box,
        )


class Row(_Noted):
    """One object on one frame.

    Attributes:
        box: x0, y0, x1, y1 around the mask, the far edges excluded; None: there is nothing.
        score: the IoU to be expected, 0 to 1.
        mask: None where only the box is known.
        prompted: a person pointed at it here.
        kept: it came with the kit.
    """

    box: BoxPixels | None = None
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    state: State = "visible"
    mask: str | None = None
    prompted: bool = False
    kept: bool = False

    @property
    def visible(self) -> bool:
        """Whether there is something to draw."""
        return self.state == "visible" and self.box is not None


@dataclass(frozen=True)
class FieldObject:
    """One object of a task.

    Attributes:
        id: what the platform, or the kit, knows it by.
        number: its own, 1 and up, never given twice; picks its colour. 0: not given yet.
        labels: its classes.
        given: it came with the kit, and stands on the platform.
        prompts: frame → what was pointed at; of given tracks the person's own key frames too.
        rows: frame → what is there.
        drawn: a person or the model drew it anew in the field.
        confirmed: doubtful frames that a person found right.
    """

    id: str
    number: int
    labels: Labels = ()
    given: bool = False
    prompts: Mapping[int, Spec] = field(default_factory=dict)
    rows: Mapping[int, Row] = field(default_factory=dict)
    drawn: bool = False
    confirmed: frozenset[int] = frozenset()

    @cached_property
    def doubts(self) -> tuple[tuple[int, int, int], ...]:
        """Stretches that a person should look at: (first, last, worst frame), the worst stretch first."""
        frames = [frame for frame in sorted(self.rows) if self._doubtful(frame)]
        runs = groupby(enumerate(frames), key=lambda pair: pair[1] - pair[0])
        stretches = [[frame for _, frame in run] for _, run in runs]
        worst = [min(run, key=lambda frame: (self._trust(frame), frame)) for run in stretches]
        found = [(run[0], run[-1], frame) for run, frame in zip(stretches, worst, strict=True)]
        return tuple(sorted(found, key=lambda stretch: (self._trust(stretch[2]), stretch)))

    def code(self, frame: int) -> str:
        """One letter: prompted, visible, doubtful, absent, lost, kept; a dot where nothing is known."""
        row = self.rows.get(frame)
        if row is None:
            return "."
        if row.prompted:
            return "p"
        if row.kept:
            return "k"
        if self._doubtful(frame):
            return "d"
        return "v" if row.visible else "l" if row.state == "lost" else "a"

    def _doubtful(self, frame: int) -> bool:
        """Lost, hardly believed, or gone since the frame before."""
        row = self.rows[frame]
        if row.prompted or row.kept or frame in self.confirmed:
            return False
        if row.state == "lost" or (row.visible and row.score < DOUBTFUL):
            return True
        before = self.rows.get(frame - 1)
        return not row.visible and before is not None and before.visible

    def _trust(self, frame: int) -> float:
        row = self.rows[frame]
        return row.score if row.visible else 0.0
