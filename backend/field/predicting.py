"""The model at work on one task: prompts on an image, or a session on a video that follows the journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backend.field.journal import write_whole
from edgetam_model import ImagePredictor, MaskResult, Prompt, SessionError, VideoTracker, read_image
from edgetam_model.field_objects import FieldObject, Row, Spec
from edgetam_model.masks import Mask, decode_rle, encode_rle

if TYPE_CHECKING:
    from edgetam_model import EdgeTAM, FrameResult, VideoSession

CHECKPOINT, APPLIED = "session.checkpoint", "session.json"
MOST_SURE = 30.0  # logit beyond which a probability is 0 or 1
Progress = Callable[[int, int], None]


class Looker(Protocol):
    """What a task is open as, on the worker's one thread."""

    def point(self, one: FieldObject, frame: int, spec: Spec) -> tuple[Spec, Row]:
        """Add clicks or a box to what was pointed at before; all of it, and the mask."""

    def close(self) -> None:
        """Release the media."""


def row_of(result: MaskResult, *, prompted: bool = False) -> Row:
    """A result of the model as the journal keeps it; its score is the IoU to be expected."""
    box = result.box if result.state == "visible" else None
    sure = 1 / (1 + exp(-min(max(result.object_score, -MOST_SURE), MOST_SURE)))
    return Row(
        box=box,
        score=round(min(max(result.iou, 0.0), 1.0) * sure, 4),
        state=result.state,
        mask=None if box is None else encode_rle(result.mask)["counts"],
        prompted=prompted,
    )


class StillLooker:
    """An image, or several. What it answers follows from the prompts and the region that came along, and
    nothing else.

    Args:
        paths: of the packed images, one a frame.
        given: the objects that came with the kit.
    """

    def __init__(self, model: EdgeTAM, paths: Sequence[Path], given: Mapping[str, FieldObject]) -> None:
        self._paths = paths
        self._given = given
        self._predictor = ImagePredictor(model)
        self._shown = -1  # the frame that the predictor looks at
        self._size = (0, 0)

    def point(self, one: FieldObject, frame: int, spec: Spec) -> tuple[Spec, Row]:
        """See `Looker`.

        Raises:
            PromptError: outside the image, or nothing positive in it.
        """
        self._show(frame)
        whole = one.prompts[frame].joined(spec) if frame in one.prompts else spec
        prompt = whole.prompt()
        painted = self._painted(one, frame)
        if painted is not None and whole.box is None:
            prompt = prompt.refining(self._predictor.predict(Prompt(mask=painted)))
        return whole, row_of(self._predictor.predict(prompt), prompted=True)

    def close(self) -> None:
        """Nothing is open."""

    def _show(self, frame: int) -> None:
        if frame != self._shown:
            rgb = read_image(self._paths[frame])
            self._size = (rgb.shape[0], rgb.shape[1])
            self._predictor.set_image(rgb)
            self._shown = frame

    def _painted(self, one: FieldObject, frame: int) -> Mask | None:
        """The mask that came with the kit, where clicks refine one."""
        given = self._given.get(one.id)
        row = given.rows.get(frame) if given else None
        return None if row is None or row.mask is None else _mask(row, self._size)


class FilmLooker:
    """A video: a session that is brought to where the journal stands whenever it is used.

    What the journal says always wins: the session, and its checkpoint beside the journal, only save computing
    again. A session that lacks prompts gets them back as the masks that they gave.

    Args:
        path: of the packed video.
        folder: of the checkpoint.
    """

    def __init__(self, model: EdgeTAM, path: Path, folder: Path) -> None:
        self._folder = folder
        self._applied: dict[tuple[int, int], str] = {}  # (object, frame) → the prompt that the session has
        self._by_mask: set[tuple[int, int]] = set()  # of those, the ones given back as masks
        self._session = self._resumed(VideoTracker(model), path)

    @property
    def frames(self) -> int:
        """How many the video has."""
        return len(self._session)

    def point(self, one: FieldObject, frame: int, spec: Spec) -> tuple[Spec, Row]:
        """See `Looker`. Clicks on a tracked frame correct the mask that is shown there.

        Raises:
            PromptError: outside the image, or nothing positive in it and nothing to correct.
        """
        earlier, place, shown = one.prompts.get(frame), (one.number, frame), one.rows.get(frame)
        whole = earlier.joined(spec) if earlier else spec
        if shown is not None and shown.visible and shown.mask is None and whole.box is None:
            whole = Spec(points=whole.points, box=shown.box)  # only its box is known
        session, known = self._session, place in self._applied
        finished = one.number in session.result(frame).objects
        if spec.box is None and known and place not in self._by_mask and not spec.empty:
            result = session.add_prompt(frame, one.number, spec.prompt(), extend=True)
        elif spec.box is None and (known or not finished) and shown is not None and shown.mask is not None:
            seen = session.add_prompt(frame, one.number, Prompt(mask=_mask(shown, session.size)))
            result = session.add_prompt(frame, one.number, whole.prompt().refining(seen))
        else:
            result = session.add_prompt(frame, one.number, whole.prompt())
        self._applied[place] = _key(whole)
        self._by_mask.discard(place)
        return whole, row_of(result, prompted=True)

    def follow(self, objects: Iterable[FieldObject]) -> None:
        """Give the session the prompts of these objects, and no others."""
        wanted = {(one.number, frame): (one, spec) for one in objects for frame, spec in one.prompts.items()}
        for number in {number for number, _ in self._applied} - {number for number, _ in wanted}:
            self._forget(number)
        for place in [place for place in self._applied if place not in wanted]:
            self._take_back(place)
        for place, (one, spec) in wanted.items():
            if self._applied.get(place) != _key(spec):
                self._give_back(place, one.rows.get(place[1]), spec)

    def track(
        self, first: int | None, last: int | None, progress: Progress, *, reverse: bool
    ) -> Iterator[FrameResult]:
        """Track everything that is prompted; see `VideoSession.propagate`. `progress` may raise to stop."""
        with closing(self._session.propagate(first, last, reverse=reverse, progress=progress)) as results:  # type: ignore[type-var]  # it is a generator
            yield from results

    def save(self) -> None:
        """Keep the session beside the journal, so that what is tracked need not be tracked again.

        Raises:
            InputError: the disk cannot be written.
        """
        rows = [[number, frame, key] for (number, frame), key in self._applied.items()]
        notes = {"applied": rows, "by_mask": sorted(self._by_mask)}
        # A crash between the two leaves notes of a later session: whatever differs is prompted again.
        (self._folder / APPLIED).unlink(missing_ok=True)
        write_whole(self._folder / CHECKPOINT, self._session.checkpoint())
        write_whole(self._folder / APPLIED, json.dumps(notes).encode())

    def close(self) -> None:
        """Release the video."""
        self._session.close()

    def _resumed(self, tracker: VideoTracker, path: Path) -> VideoSession:
        """The session of the checkpoint; a new one where there is none that fits."""
        try:
            notes = json.loads((self._folder / APPLIED).read_bytes())
            session = tracker.resume((self._folder / CHECKPOINT).read_bytes(), path)
            self._applied = {(number, frame): key for number, frame, key in notes["applied"]}
            self._by_mask = {(number, frame) for number, frame in notes["by_mask"]}
        except (OSError, ValueError, KeyError, TypeError, SessionError):
            self._applied, self._by_mask = {}, set()
            return tracker.open(path)
        return session

    def _take_back(self, place: tuple[int, int]) -> None:
        number, frame = place
        try:
            self._session.remove_prompt(frame, number)
        except SessionError:  # the only one of its object: the others are given back afterwards
            self._forget(number)
            return
        del self._applied[place]
        self._by_mask.discard(place)

    def _forget(self, number: int) -> None:
        if number in self._session.objects:
            self._session.remove_object(number)
        self._applied = {place: key for place, key in self._applied.items() if place[0] != number}
        self._by_mask = {place for place in self._by_mask if place[0] != number}

    def _give_back(self, place: tuple[int, int], shown: Row | None, spec: Spec) -> None:
        number, frame = place
        prompt = spec.prompt()
        if shown is not None and (shown.prompted or shown.kept) and shown.mask is not None:
            prompt = Prompt(mask=_mask(shown, self._session.size))
            self._by_mask.add(place)
        elif not prompt.has_positive:
            return  # it said that nothing is here, and there is nothing to take away from
        self._session.add_prompt(frame, number, prompt)
        self._applied[place] = _key(spec)


def _mask(row: Row, size: tuple[int, int]) -> Mask:
    return decode_rle({"size": list(size), "counts": row.mask})


def _key(spec: Spec) -> str:
    return spec.model_dump_json()
