"""The cases of the benchmark: parts, frames of several objects, clicks, and a video from file to masks."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgetam_model.bench.machine import peak_memory
from edgetam_model.bench.scenes import Clicking, Tracking, as_published, new_model
from edgetam_model.bench.timing import TURN_S, Pair, Timing, paired, single
from edgetam_model.config import CONFIGS
from edgetam_model.demo_clip import render_demo_clip
from edgetam_model.memory import gather, gather_seen
from edgetam_model.model import EdgeTAM
from edgetam_model.model_io import Choice
from edgetam_model.runtime.choosing import RuntimeOptions, accelerate
from edgetam_model.runtime.quality import fast
from edgetam_model.video_tracker import VideoTracker

PUBLISHED = "edgetam"
POINTS = 12  # of the curve over a video's frames

Told = Callable[[str], None]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        objects: on a frame, each count a case.
        rounds: how often each case is run.
        runtimes: the candidates, by name.
        published: also the published size, with random weights.
        frames: of the video.
        turn: seconds that a case runs for at least in each of its rounds, see `timing`.
    """

    runtimes: dict[str, RuntimeOptions]
    objects: Sequence[int] = (1, 3, 10)
    rounds: int = 5
    published: bool = True
    frames: int = 120
    turn: float = TURN_S


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        model, case, runtime: what was measured.
        pair: against the reference; None where there is nothing to compare with.
        alone: without a reference.
        precision: of most of the work, "fp32" or "bf16".
        gflop: per run, of the model as published on that input; 0: not counted.
        peak_mib: memory of the whole process so far.
        note: what else is to be said.
        growth: of a video: (frame, core-ms of a frame around it), in order.
    """

    model: str
    case: str
    runtime: str
    pair: Pair | None = None
    alone: Timing | None = None
    gflop: float = 0.0
    peak_mib: float = 0.0
    note: str = ""
    precision: str = "fp32"
    growth: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        timing = self.pair.to_dict() if self.pair else {"candidate": vars(self.alone)}
        facts = {"model": self.model, "case": self.case, "runtime": self.runtime, **timing}
        rest = ("precision", "gflop", "peak_mib", "note", "growth")
        return facts | {name: getattr(self, name) for name in rest}


@torch.inference_mode()
def run(options: BenchOptions, weights: EdgeTAM, tell: Told) -> Iterator[Row]:
    """Measure every case, and give each as soon as it is known.

    Frames of several objects come after all else, so that nothing they leave behind changes smaller cases:
    in two runs that had them in between, the reference was a sixth faster after them.

    Args:
        options: which.
        weights: the model that is used here, as `load_model` gives it.
        tell: told what is being measured.
    """
    models = [("these weights", weights)]
    if options.published:
        models.append(("published size", new_model(CONFIGS[PUBLISHED])))
    least, *more = sorted(options.objects)
    benches = []
    for (name, model), (kind, choice) in product(models, options.runtimes.items()):
        reference = model.requires_grad_(False)  # operations of models that learn cannot be counted here
        candidate = accelerate(copy.deepcopy(reference), choice)
        precision = "bf16" if choice.precision == "bf16" else "fp32"
        bench = _Bench(name, kind, precision, reference, candidate, options, tell)
        benches.append(bench)
        yield from bench.parts()
        yield bench.frame(least)
        if fast(reference) is not reference:
            yield bench.fast_mode(choice, least)
        yield from bench.clicks()
        if reference is weights:
            yield bench.video()
    for bench, count in product(benches, more):
        yield bench.frame(count)


@dataclass(frozen=True)
class _Bench:
    """One model computed in one way."""

    name: str
    kind: str
    precision: str
    reference: EdgeTAM
    candidate: EdgeTAM
    options: BenchOptions
    tell: Told

    def parts(self) -> Iterator[Row]:
        """Each part of the step for one object."""
        steps = [_parts(model) for model in (self.reference, self.candidate)]
        for case in steps[0]:
            yield self._compared(case, steps[0][case], steps[1][case])

    def frame(self, count: int) -> Row:
        """A frame of a long track, for some objects."""
        reference, candidate = (Tracking(model, count) for model in (self.reference, self.candidate))
        return self._compared(_counted(count), reference.step, candidate.step)

    def fast_mode(self, choice: RuntimeOptions, count: int) -> Row:
        """The same at 512 pixels, against the reference at its own size."""
        smaller = accelerate(copy.deepcopy(self.reference), replace(choice, quality="fast"))
        row = self._compared(
            f"{_counted(count)}, fast", Tracking(self.reference, count).step, Tracking(smaller, count).step
        )
        return replace(row, gflop=_gflop(Tracking(fast(self.reference), count).step))

    def clicks(self) -> Iterator[Row]:
        """The first click on an image, and the second one."""
        own = Clicking(self.candidate)
        pair = paired(own.first, own.second, self.options.rounds, self.options.turn)
        share = pair.candidate.median / pair.reference.median
        other = Clicking(self.reference)
        yield self._compared("first click", other.first, own.first)
        note = f"{share:.2f} of the first"
        yield Row(
            self.name, "second click", self.kind, alone=pair.candidate, note=note, precision=self.precision
        )

    def video(self) -> Row:
        """From a file to masks, decoding included, with one object."""
        case = f"{self.options.frames} frames, 640 x 360"
        self.tell(f"{self.name}, {case}, {self.kind}")
        marks: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            clip = render_demo_clip(Path(folder) / "clip.mp4", frames=self.options.frames)
            prompt = next(iter(clip.prompts.values()))

            def track() -> None:
                with VideoTracker(self.candidate).open(clip.path) as session:
                    session.add_prompt(0, 1, prompt)
                    marks[:] = [process_time() for _ in session.propagate()]

            taken = single(track, 1)
        rate = 1e3 * self.options.frames / taken.median
        return Row(
            self.name,
            case,
            self.kind,
            alone=taken,
            peak_mib=peak_memory(),
            note=f"{rate:.1f} frames/s",
            precision=self.precision,
            growth=_growth(marks),
        )

    def _compared(self, case: str, reference: Callable[[], object], work: Callable[[], object]) -> Row:
        self.tell(f"{self.name}, {case}, {self.kind}")

        def published() -> None:
            with as_published():
                reference()

        gflop = _gflop(published)
        pair = paired(published, work, self.options.rounds, self.options.turn)
        return Row(self.name, case, self.kind, pair, None, gflop, peak_memory(), precision=self.precision)


def _gflop(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def _growth(marks: Sequence[float]) -> tuple[tuple[int, float], ...]:
    """Processor time at the end of each frame → what a frame cost, over at most `POINTS` stretches."""
    stretch = max(1, (len(marks) - 1) // POINTS)
    ends = range(stretch, len(marks), stretch)
    return tuple((end, (marks[end] - marks[end - stretch]) / stretch * 1e3) for end in ends)


def _parts(model: EdgeTAM) -> dict[str, Callable[[], object]]:
    """What a step consists of."""
    tracking = Tracking(model, 1)
    side, recalls = model.config.image_size, tracking.recalls
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (1, 3, side, side), generator=random, dtype=torch.uint8)
    window = torch.tensor([[40.0, 60, 240, 260]])
    image = model.encode_pixels(pixels, window)
    features, seen = model.with_memory(image, gather(model, recalls)), gather_seen(recalls)
    choice = Choice(multimask=True)
    logits = model.decode(features, image, choice=choice, seen=seen).raw

    def attention() -> object:
        unseen = replace(image, stride16=image.stride16[:])  # what a frame has by itself is computed again
        return model.with_memory(unseen, gather(model, recalls))

    return {
        "image encoder": lambda: model.encode_pixels(pixels, window),
        "memory attention": attention,
        "mask decoder": lambda: model.decode(features, image, choice=choice, seen=seen),
        "memory encoder": lambda: model.encode_memory(image, logits),
    }


def _counted(count: int) -> str:
    return f"a frame, {count} object{'s' if count > 1 else ''}"
