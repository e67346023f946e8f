"""What there is to track for a region: from which boxes, which way, how far, and what is done already.

Every keyframe of a person is a prompt. A stretch runs from one of them to its neighbour at most. Keyframes
that the tracker made hold while the person's keyframe that they came from is unchanged and no other one
lies between; the rest are stale, are dropped, and their stretch is tracked anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise

from backend.frame_map import FrameMap
from backend.keyframe import DECIMALS, Box, Keyframe, PromptMark, Reach, TrackedMark
from backend.video_command import Command, parse_command
from backend.video_prompts import VideoRegion


@dataclass(frozen=True)
class Stretch:
    """Frames to be tracked one way, in Label Studio's numbers.

    Attributes:
        anchor: the person's keyframe to start from.
        stop: the last frame, included; below the anchor where it goes backward.
        done: the last frame that an earlier job finished; the anchor where there was none.
    """

    anchor: int
    stop: int
    done: int

    @property
    def step(self) -> int:
        """1 forward, -1 backward."""
        return 1 if self.stop > self.anchor else -1

    @property
    def numbers(self) -> range:
        """Every frame after the anchor, in the order of tracking, those that are done included."""
        return range(self.anchor + self.step, self.stop + self.step, self.step)


@dataclass(frozen=True)
class RegionPlan:
    """What one region keeps and what it lacks.

    Attributes:
        region: as it came.
        keyframes: what stays: the person's and what of the tracker's still holds; ascending.
        prompts: frame of the file, 0-based → the person's box there in pixels. Empty: not to be tracked.
        stretches: what is to be tracked; empty where all is done.
        wanted: (anchor, stop) of everything asked for, whether done or not.
        dropped: whether stale keyframes were left out.
        stop: the person asks to end what runs.
    """

    region: VideoRegion
    keyframes: tuple[Keyframe, ...]
    prompts: Mapping[int, Box]
    stretches: tuple[Stretch, ...] = ()
    wanted: tuple[tuple[int, int], ...] = ()
    dropped: bool = False
    stop: bool = False

    @property
    def settled(self) -> bool:
        """Whether the region can go back as it came."""
        return not self.stretches and not self.dropped

    def key(self, task: object, salt: str = "") -> str:
        """The same for the same work: task, region, the person's keyframes, and what is wanted of them.

        What is done already does not matter, so that a press while a job runs finds that job.

        Args:
            salt: whatever else makes work different: the video's address, its rate, the model.
        """
        drawn = [(*_numbers(k), k.leads_on) for k in self.keyframes if not k.tracked]
        text = json.dumps([str(task), self.region.id, drawn, sorted(self.wanted), salt])
        return sha256(text.encode()).hexdigest()[:32]

    def passes(self, frames: FrameMap) -> Passes:
        """Where the tracker must run for this region."""
        onward = [s for s in self.stretches if s.step > 0]
        back = [s for s in self.stretches if s.step < 0]
        source = frames.source_of
        return Passes(
            (source(min(s.anchor for s in onward)), source(max(s.stop for s in onward))) if onward else None,
            (source(max(s.anchor for s in back)), source(min(s.stop for s in back))) if back else None,
        )


@dataclass(frozen=True)
class Passes:
    """Frames of the file, 0-based, both ends included, anchors too: (first, last) forward, (last, first)
    backward; None where there is nothing to do that way."""

    forward: tuple[int, int] | None
    backward: tuple[int, int] | None


def plan_request(regions: Sequence[VideoRegion], frames: FrameMap, size: tuple[int, int]) -> list[RegionPlan]:
    """Plan every region of a request, in order.

    Where a person typed a command, only the regions with a command are tracked: the others came along
    because they have the same class. A region without a class and without a command is left alone, unless
    the button stands in the class's place.

    Args:
        size: (H, W) of the video in pixels.

    Raises:
        InputError: `cmd`, a command that cannot be read.
    """
    commanded = any(region.command for region in regions)
    plans = []
    for region in regions:
        asked = region.command is not None if commanded else bool(region.labels) or region.pressed
        if asked:
            plans.append(plan_region(region, parse_command(region.command or ""), frames, size))
        else:
            plans.append(RegionPlan(region, region.keyframes, {}))
    return plans


def plan_region(region: VideoRegion, command: Command, frames: FrameMap, size: tuple[int, int]) -> RegionPlan:
    """Plan one region.

    Args:
        size: (H, W) of the video in pixels.
    """
    if command.stop:
        return RegionPlan(region, region.keyframes, {}, stop=True)
    keyframes = _with_a_prompt(_as_shown(_shown_again(_clamped(region.keyframes, frames))), size)
    boxes = {k.frame: box for k in keyframes if not k.tracked and (box := k.pixels(size))}
    if not boxes:
        return RegionPlan(region, region.keyframes, {})
    drawn = _Drawn([k for k in keyframes if not k.tracked], boxes, frames.count)
    fresh = [k for k in keyframes if k.tracked and drawn.holds(k)]
    stale = [k for k in keyframes if k.tracked and not drawn.holds(k)]
    done = {True: drawn.reached(fresh, onward=True), False: drawn.reached(fresh, onward=False)}
    wanted = _wanted(drawn, command, stale, done[True])
    stretches = [s for anchor, stop in wanted if (s := _missing(anchor, stop, done))]
    prompts = {frames.source_of(frame): box for frame, box in boxes.items()}
    kept = [_settled(k, done) for k in drawn.keyframes] + fresh
    return RegionPlan(
        region=region,
        keyframes=tuple(sorted(kept, key=lambda k: k.frame)),
        prompts=prompts,
        stretches=tuple(stretches),
        wanted=tuple(wanted),
        dropped=bool(stale),
    )


class _Drawn:
    """The person's keyframes of one region, and how far each reaches before the next one."""

    def __init__(self, keyframes: Sequence[Keyframe], boxes: Iterable[int], count: int) -> None:
        self.keyframes = keyframes
        self.usable = set(boxes)
        self.at = {k.frame: k for k in keyframes}
        numbers = [k.frame for k in keyframes]
        self.last = dict(zip(numbers, [n - 1 for n in numbers[1:]] + [count], strict=True))
        self.first = dict(zip(numbers, [1] + [n + 1 for n in numbers[:-1]], strict=True))

    @property
    def onward(self) -> list[int]:
        """Frames from which to go forward; not those after which the person hides the region."""
        return [k.frame for k in self.keyframes if k.frame in self.usable and k.leads_on]

    @property
    def back(self) -> list[int]:
        """Frames from which to go backward."""
        return [k.frame for k in self.keyframes if k.frame in self.usable]

    def holds(self, keyframe: Keyframe) -> bool:
        """Whether a tracked keyframe still follows from the person's keyframes."""
        mark = keyframe.mark
        if not isinstance(mark, TrackedMark) or mark.source not in self.usable:
            return False
        anchor = self.at[mark.source]
        if keyframe.frame > anchor.frame and not anchor.leads_on:
            return False
        near = self.first[anchor.frame] <= keyframe.frame <= self.last[anchor.frame]
        return near and mark.anchor == anchor.box_sum()

    def reached(self, fresh: Iterable[Keyframe], *, onward: bool) -> dict[int, Reach]:
        """Anchor → how far earlier jobs got from it; without those whose keyframes are all gone."""
        left = {
            k.mark.source for k in fresh if _is_from(k, onward=onward) and isinstance(k.mark, TrackedMark)
        }
        reached = {}
        for frame in self.onward if onward else self.back:
            mark = self.at[frame].mark
            reach = (mark.onward if onward else mark.back) if isinstance(mark, PromptMark) else None
            if reach and (reach.kept == 0 or frame in left):
                limit, first = self.last[frame], self.first[frame]
                clipped = {name: min(max(getattr(reach, name), first), limit) for name in ("goal", "reach")}
                reached[frame] = reach.model_copy(update=clipped)
        return reached


def _wanted(
    drawn: _Drawn, command: Command, stale: Iterable[Keyframe], done: Mapping[int, Reach]
) -> list[tuple[int, int]]:
    """(anchor, stop) of all that the command, unfinished work and stale keyframes ask for.

    Where a forward and a backward stretch meet, the forward one counts, but for the command `back`.
    """
    onward, back = _commanded(drawn, command)
    for anchor, frame in (*_unfinished(drawn), *_to_redo(drawn, stale)):
        if frame > anchor:
            onward[anchor] = max(onward.get(anchor, anchor), frame)
        else:
            back[anchor] = min(back.get(anchor, anchor), frame)
    onward = {frame: min(stop, drawn.last[frame]) for frame, stop in onward.items()}
    back = {frame: max(stop, drawn.first[frame]) for frame, stop in back.items()}
    for a, b in pairwise(drawn.at):
        if command.direction == "backward" and a in onward and b in back:
            onward[a] = min(onward[a], back[b] - 1)
        elif command.direction != "backward" and b in back:
            tracked = done[a].reach if a in done else a
            back[b] = max(back[b], max(onward.get(a, a), tracked) + 1)
    return [(f, s) for f, s in onward.items() if s > f] + [(f, s) for f, s in back.items() if s < f]


def _unfinished(drawn: _Drawn) -> Iterator[tuple[int, int]]:
    """(anchor, last frame) that earlier requests asked for."""
    for anchor, keyframe in drawn.at.items():
        if not isinstance(keyframe.mark, PromptMark):
            continue
        if keyframe.mark.onward and anchor in drawn.onward:
            yield anchor, keyframe.mark.onward.goal
        if keyframe.mark.back and anchor in drawn.back:
            yield anchor, keyframe.mark.back.goal


def _to_redo(drawn: _Drawn, stale: Iterable[Keyframe]) -> Iterator[tuple[int, int]]:
    """(nearest anchor on the side they came from, frame) of stale keyframes."""
    for keyframe in stale:
        frame, ahead = keyframe.frame, _is_from(keyframe, onward=True)
        for anchor in drawn.onward if ahead else drawn.back:
            near = anchor < frame <= drawn.last[anchor] if ahead else drawn.first[anchor] <= frame < anchor
            if near:
                yield anchor, frame


def _commanded(drawn: _Drawn, command: Command) -> tuple[dict[int, int], dict[int, int]]:
    """Anchor → last frame, forward and backward, that the command asks for; not yet cut at neighbours."""
    far = max(drawn.last.values())
    count = command.count if command.count is not None else far
    if command.direction == "toward":
        until = command.until or far
        before = [frame for frame in drawn.onward if frame <= until]
        return (dict.fromkeys(before, until), {}) if before else ({}, {drawn.back[0]: until})
    onward = {frame: frame + count for frame in drawn.onward}
    back = {frame: frame - count for frame in drawn.back}
    if command.direction == "forward":
        return onward, {}
    return (onward, back) if command.direction == "both" else ({}, back)


def _missing(anchor: int, stop: int, done: Mapping[bool, Mapping[int, Reach]]) -> Stretch | None:
    """What of a stretch is not done; frames that were tracked backward count for a forward one."""
    onward = stop > anchor
    mine = done[onward].get(anchor)
    reach = mine.reach if mine else anchor
    if onward:
        behind = [r.reach - 1 for other, r in done[False].items() if anchor < r.reach < other]
        stop = min([stop, *behind])
    finished = reach >= stop if onward else reach <= stop
    return None if finished else Stretch(anchor, stop, reach)


def _settled(keyframe: Keyframe, done: Mapping[bool, Mapping[int, Reach]]) -> Keyframe:
    """A person's keyframe with what is still true of its mark; shown again where our hiding is void."""
    if not isinstance(keyframe.mark, PromptMark):
        return replace(keyframe, mark=None)
    onward, back = done[True].get(keyframe.frame), done[False].get(keyframe.frame)
    hid = keyframe.mark.hid and onward is not None
    mark = keyframe.mark.model_copy(update={"onward": onward, "back": back, "hid": hid})
    return replace(keyframe, mark=mark, enabled=keyframe.leads_on and not hid)


def _clamped(keyframes: Iterable[Keyframe], frames: FrameMap) -> list[Keyframe]:
    """The person's keyframes moved to frames that exist, ours left out where theirs does not."""
    chosen = {k.frame: k for k in keyframes if frames.clamp(k.frame) == k.frame}
    for keyframe in keyframes:
        frame = frames.clamp(keyframe.frame)
        if not keyframe.tracked and (frame not in chosen or chosen[frame].tracked):
            chosen[frame] = replace(keyframe, frame=frame, mark=None) if frame != keyframe.frame else keyframe
    return [chosen[frame] for frame in sorted(chosen)]


def _shown_again(keyframes: list[Keyframe]) -> list[Keyframe]:
    """Show the boxes that a person drew where we had hidden the region.

    Label Studio makes such a keyframe hidden, like the one before it; who draws a box means to see it. Where
    a person hid the region, it stays hidden: there a new box shows on its own frame, until the person
    switches it on.
    """
    shown, ours = keyframes[:1], bool(keyframes) and keyframes[0].hidden_by_us
    for keyframe in keyframes[1:]:
        new = not keyframe.tracked and keyframe.mark is None and not keyframe.revised
        if not (ours and new):
            ours = keyframe.hidden_by_us
        shown.append(replace(keyframe, enabled=True) if ours and new else keyframe)
    return shown


def _as_shown(keyframes: list[Keyframe]) -> list[Keyframe]:
    """Keep a thinned track as it is shown up to a person's new box.

    Otherwise the straight line from our keyframe before it would lead to the new box, which is where it is
    because the track is wrong there.
    """
    held = []
    for place in range(1, len(keyframes) - 1):
        before, here, after = keyframes[place - 1 : place + 2]
        onward = next((k for k in keyframes[place + 1 :] if k.tracked), None)
        back = next((k for k in reversed(keyframes[:place]) if k.tracked), None)
        if here.tracked:
            continue
        if onward and before.frame + 1 < here.frame and _is_one_track(onward, before):
            held.append(_between(before, onward, here.frame - 1))
        if back and here.frame + 1 < after.frame and _is_one_track(back, after):
            held.append(_between(back, after, here.frame + 1))
    return sorted([*keyframes, *held], key=lambda k: k.frame)


def _is_one_track(tracked: Keyframe, other: Keyframe) -> bool:
    """Whether a tracked keyframe was reached by way of the other one, and seen all the way between."""
    mark = tracked.mark
    if not isinstance(mark, TrackedMark) or not min(tracked, other, key=lambda k: k.frame).enabled:
        return False
    if isinstance(other.mark, TrackedMark):
        return (other.mark.source, other.mark.anchor) == (mark.source, mark.anchor)
    return other.frame == mark.source and other.box_sum() == mark.anchor


def _between(first: Keyframe, last: Keyframe, frame: int) -> Keyframe:
    """The box that Label Studio draws between two keyframes of one track, as a tracked keyframe."""
    share = (frame - first.frame) / (last.frame - first.frame)
    numbers = zip(_numbers(first)[1:], _numbers(last)[1:], strict=True)
    x, y, w, h, rotation = (round(a + (b - a) * share, DECIMALS) for a, b in numbers)
    marks = [k.mark for k in (first, last) if isinstance(k.mark, TrackedMark)]
    score = min(mark.score for mark in marks)
    mark = marks[0].model_copy(update={"score": score, "hid": False})
    return Keyframe(frame, x, y, w, h, rotation, mark=mark)


def _with_a_prompt(keyframes: list[Keyframe], size: tuple[int, int]) -> list[Keyframe]:
    """Where the person deleted all of their own, the first keyframe of ours becomes theirs."""
    if any(not k.tracked for k in keyframes):
        return keyframes
    first = next((k for k in keyframes if k.pixels(size)), None)
    return [replace(k, mark=None) if k is first else k for k in keyframes]


def _is_from(keyframe: Keyframe, *, onward: bool) -> bool:
    """Whether a tracked keyframe was made going forward, or backward."""
    return isinstance(keyframe.mark, TrackedMark) and (keyframe.frame > keyframe.mark.source) == onward


def _numbers(keyframe: Keyframe) -> tuple[float, ...]:
    k = keyframe
    return (k.frame, k.x, k.y, k.width, k.height, k.rotation)
