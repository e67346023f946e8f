"""A clip tracked with gradients: the same calls of the model, memories and choices as in tracking.

A still is a clip of one frame. All objects of a batch are shown and corrected on the same frames and in the
same way, so that no prompt needs padding, which the tracker does not have either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edgetam_model.engine import LOGIT_LIMIT
from edgetam_model.memory import Memory, MemoryBank, gather_alike
from edgetam_model.model import MASK_GAIN, MASK_OFFSET, EdgeTAM
from edgetam_model.model_io import Choice, Decoded, ImageFeatures, Seen
from edgetam_model.nn.mask_decoder import DecoderOutput
from edgetam_model.options import TrackerOptions
from edgetam_model.training.colours import colour_cuts
from edgetam_model.training.feed import Rows
from edgetam_model.training.prompting import (
    Clicks,
    Kind,
    box_prompts,
    click_prompts,
    corrective_clicks,
    draw_kind,
)
from edgetam_model.training.recipe import PromptMix

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Plan:
    """What happens in a roll-out, drawn beforehand, so that a teacher can go through the same.

    Attributes:
        kind: how the objects are shown on frame 0.
        corrected: the frame with corrective clicks; None: there are none.
        clicks: how many, one after the other.
        refined: whether the first answer is decoded once more with itself as a prompt.
        coloured: whether what the colours show is that prompt instead.
        forced: bool (T, N) where the memory is made of the true mask.
    """

    kind: Kind
    corrected: int | None
    clicks: int
    forced: Tensor
    refined: bool = False
    coloured: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """One answer of the decoder that is held against the truth.

    Attributes:
        frame: 0-based.
        logits: (N, M, S/4, S/4) the masks offered: three where several are, else one.
        ious: (N, M).
        object_score: (N,).
        chosen: (N, h, w) the mask that tracking would return.
        raw: (N, h, w) the same as it was drawn, whether the object is there or not.
        iou: (N,) of `raw`.
        clicks: what the decoder was given; None on a tracked frame.
    """

    frame: int
    logits: Tensor
    ious: Tensor
    object_score: Tensor
    chosen: Tensor
    raw: Tensor
    iou: Tensor
    clicks: Clicks | None


@dataclass(frozen=True, eq=False)
class Rollout:
    """All that came out of a clip.

    Attributes:
        steps: in the order in which they happened. A mask prompt leaves none: it is its own answer.
        features: (B, T, C, H, W) image features at stride 16.
        attended: (N, C, H, W) features after memory attention, of the frames that have memories, in order.
    """

    steps: list[Step]
    features: Tensor
    attended: list[Tensor]

    def last(self, frame: int) -> Step:
        """A frame's final answer.

        Raises:
            KeyError: the frame has none, since its mask was given.
        """
        for step in reversed(self.steps):
            if step.frame == frame:
                return step
        raise KeyError(frame)


class Prompter(Protocol):
    """Gives the clicks that a plan asks for; masks and answers are bool (N, S, S)."""

    def first(self, kind: Kind, masks: Tensor) -> Clicks:
        """A box or a click that shows the objects."""

    def correct(self, found: Tensor, masks: Tensor) -> Clicks:
        """One more click."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """Prompts made from the true masks and what the model gets wrong."""

    mix: PromptMix
    random: torch.Generator

    def first(self, kind: Kind, masks: Tensor) -> Clicks:
        """See Prompter."""
        if kind == "box":
            return box_prompts(masks, self.mix.box_noise, self.random)
        return click_prompts(masks, self.mix.centred, self.random)

    def correct(self, found: Tensor, masks: Tensor) -> Clicks:
        """See Prompter."""
        return corrective_clicks(found, masks, self.mix.centred, self.random)


class Recorded:
    """Passes another prompter's clicks on, and keeps them for `Replayed`."""

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self.given: list[Clicks] = []

    def first(self, kind: Kind, masks: Tensor) -> Clicks:
        """See Prompter."""
        self.given.append(self._prompter.first(kind, masks))
        return self.given[-1]

    def correct(self, found: Tensor, masks: Tensor) -> Clicks:
        """See Prompter."""
        self.given.append(self._prompter.correct(found, masks))
        return self.given[-1]


class Replayed:
    """Clicks that another roll-out was given, at `factor` times its input size, whatever this one finds."""

    def __init__(self, given: list[Clicks], factor: float) -> None:
        self._left = iter([clicks.scaled(factor) for clicks in given])

    def first(self, kind: Kind, masks: Tensor) -> Clicks:  # noqa: ARG002
        """See Prompter."""
        return next(self._left)

    def correct(self, found: Tensor, masks: Tensor) -> Clicks:  # noqa: ARG002
        """See Prompter."""
        return next(self._left)


def draw_plan(mix: PromptMix, frames: int, rows: int, forcing: float, random: torch.Generator) -> Plan:
    """What to do with a batch of `rows` objects over `frames` frames."""
    kind = draw_kind(mix, random, still=frames == 1)
    draws = torch.rand(3, generator=random).tolist()
    corrected = None
    if mix.clicks and draws[0] < mix.corrections:
        corrected = 0 if frames == 1 else 1 + int(draws[1] * (frames - 1))
    forced = torch.rand(frames, rows, generator=random) < forcing
    refined = draws[2] < mix.refinements
    coloured = refined and draws[2] < mix.refinements * mix.colours
    return Plan(kind, corrected, mix.clicks, forced, refined, coloured)


def roll_out(
    model: EdgeTAM,
    rows: Rows,
    plan: Plan,
    prompter: Prompter,
    *,
    checkpointing: bool = False,
) -> Rollout:
    """Show the objects on frame 0 and follow them to the last frame.

    Args:
        model: in training or eval mode; gradients flow through all memories.
        rows: clips and objects, at the model's input size.
        plan: see there.
        prompter: gives the clicks.
        checkpointing: compute activations twice to save memory; the numbers stay.
    """
    run = _Checkpointed(model) if checkpointing else _Run()
    images = run(model.encode_image, rows.images.flatten(0, 1))
    walk = _Walk(model, rows, plan, prompter, images, run)
    walk.show()
    for frame in range(1, rows.frames):
        walk.track(frame)
    return Rollout(walk.steps, images.stride16.unflatten(0, rows.images.shape[:2]), walk.attended)


class _Run:
    """Calls functions of the model."""

    def __call__(self, function: Callable[..., T], *inputs: object) -> T:
        return function(*inputs)


class _Checkpointed(_Run):
    """Forgets what was computed on the way, and computes it again for the gradients.

    The batch norms count a batch once: the second time their momentum is 0, and their count is put back.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]

    def __call__(self, function: Callable[..., T], *inputs: object) -> T:
        result: T = checkpoint(
            function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
        )
        return result

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._uncounted()

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 0.0
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
        try:
            yield
        finally:
            for norm, (momentum, counted) in zip(self._norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, counted


@dataclass
class _Walk:
    """Where a roll-out stands."""

    model: EdgeTAM
    rows: Rows
    plan: Plan
    prompter: Prompter
    images: ImageFeatures
    run: _Run
    steps: list[Step] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.model.config
        self.bank = MemoryBank(config, config.recent_memories)
        self.options = TrackerOptions()
        self.forced = self.plan.forced.to(self.rows.masks.device)

    def show(self) -> None:
        """Frame 0: the prompt, corrective clicks on a still, and its memory."""
        image, masks = self._image(0), self.rows.masks[:, 0]
        if self.plan.kind == "mask":
            decoded = self.model.from_mask(image, masks[:, None].to(self.rows.images.dtype))
        else:
            features = self.model.without_memory(image)
            clicks = self.prompter.first(self.plan.kind, masks)
            decoded = self._decode(0, features, image, clicks)
            if self.plan.refined:
                decoded = self._decode(0, features, image, clicks, None, self._earlier(clicks, decoded))
            if self.plan.corrected == 0:
                decoded = self._correct(0, features, image, decoded, clicks)
        if self.rows.frames > 1:
            self.bank.conditioning[0] = self._memory(0, image, decoded, prompted=True)

    def _earlier(self, clicks: Clicks, decoded: Decoded) -> Tensor:
        """The result that the first answer is refined from."""
        if not self.plan.coloured:
            return decoded.logits
        images = self.rows.images[self.rows.clip, 0]
        return colour_cuts(images, self.plan.kind, clicks, decoded.logits.detach().float())

    def track(self, frame: int) -> None:
        """A later frame: from memory, and then by clicks where the plan says so."""
        image = self._image(frame)
        features, seen = self._attend(frame, image)
        self.attended.append(features)
        decoded = self._decode(frame, features, image, None, seen)
        if self.plan.corrected == frame:
            decoded = self._correct(frame, features, image, decoded, None, seen)
            self.bank.conditioning[frame] = self._memory(frame, image, decoded, prompted=True)
        elif frame + 1 < self.rows.frames:
            self.bank.remember(self._memory(frame, image, decoded, prompted=False), reverse=False)

    def _attend(self, frame: int, image: ImageFeatures) -> tuple[Tensor, Seen | None]:
        limit = self.options.max_conditioning_frames
        recall = self.bank.recall(frame, reverse=False, max_conditioning=limit)
        features = self.run(self.model.with_memory, image, gather_alike(self.model, recall))
        if recall.recent is None or recall.shown is None:
            return features, None
        return features, Seen(recall.recent, recall.shown)

    def _correct(
        self,
        frame: int,
        features: Tensor,
        image: ImageFeatures,
        decoded: Decoded,
        clicks: Clicks | None,
        seen: Seen | None = None,
    ) -> Decoded:
        """The answer after the plan's clicks, each made on what the one before left wrong.

        As a session does, the first click on a tracked frame puts in doubt what was tracked before it: from
        then on the memories of those frames are gone.
        """
        masks = self.rows.masks[:, frame]
        for number in range(self.plan.clicks):
            if frame and number == 1:
                features, seen = self._attend(frame, image)
            size = masks.shape[-2:]
            shown = F.interpolate(decoded.logits.detach().float()[:, None], size=size, mode="bilinear")
            click = self.prompter.correct(shown[:, 0] > 0, masks)
            clicks = click if clicks is None else clicks.extended(click)
            decoded = self._decode(frame, features, image, clicks, seen, decoded.logits)
            self.bank.forget(range(1, self.rows.frames), ())
        return decoded

    def _decode(
        self,
        frame: int,
        features: Tensor,
        image: ImageFeatures,
        clicks: Clicks | None,
        seen: Seen | None = None,
        previous: Tensor | None = None,
    ) -> Decoded:
        """One answer, kept as a step; `previous` (N, h, w) logits are refined, without gradient."""
        dense = None
        if previous is not None:
            dense = previous.detach().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None]
        points, labels = (None, None) if clicks is None else (clicks.points, clicks.labels)
        multimask = clicks is None or clicks.points.shape[1] <= 1
        out: DecoderOutput = self.run(self.model.offer, features, image, points, labels, dense, seen)
        shown = clicks is not None and self.model.refiner is not None
        choice = Choice(multimask=multimask, shown=shown)
        decoded = self.model.choose(out, choice)
        decoded = self.run(self.model.refine, decoded, out, image, choice)
        offered = slice(1, None) if multimask else slice(0, 1)
        self.steps.append(
            Step(
                frame,
                out.logits[:, offered],
                out.ious[:, offered],
                out.object_score[:, 0],
                decoded.logits,
                decoded.raw,
                decoded.iou,
                clicks,
            )
        )
        return decoded

    def _memory(self, frame: int, image: ImageFeatures, decoded: Decoded, *, prompted: bool) -> Memory:
        """What to remember; teacher forcing puts the true mask in place of the model's."""
        size = decoded.logits.shape[-2:]
        truth = self.rows.masks[:, frame, None].float() * MASK_GAIN + MASK_OFFSET
        if truth.shape[-2:] != size:
            truth = F.interpolate(truth, size=size, mode="bilinear", antialias=True)
        truth = truth[:, 0]
        logits = torch.where(self.forced[frame, :, None, None], truth, decoded.logits.float())
        binarize = prompted and self.options.binarize_prompted_memory
        latents = self.run(self._encode_memory, image, logits, binarize)
        return Memory(frame, decoded.pointer, latents, self.model.trace(image, logits))

    def _encode_memory(self, image: ImageFeatures, logits: Tensor, binarize: bool) -> Tensor:
        return self.model.encode_memory(image, logits, binarize=binarize)

    def _image(self, frame: int) -> ImageFeatures:
        """(N, …) features of a frame, one row per object."""
        index = self.rows.clip * self.rows.frames + frame
        return self.images.rows(index)
