"""How a model is trained: every choice with its default, read from a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgetam_model.errors import InputError
from edgetam_model.training.synthetic.options import SyntheticOptions
from edgetam_model.training.windows import WindowOptions

PRECISIONS = ("float32", "bfloat16")
MODES = ("full", "decoder", "adapter")
HELD_OUT = ("same", "photos")
PACKAGED = Path(__file__).parent / "configs"

Options = TypeVar("Options")


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts for; the defaults are SAM 2's (arXiv 2408.00714, appendix).

    Attributes:
        alpha: within the focal loss, what an object's pixel counts for, and 1 − alpha any other one. Below
            0.5 masks come out too small, and shrink from frame to frame of a video.
        candidates: what the decoder's own masks count for where a refiner draws the mask anew.
    """

    focal: float = 20.0
    alpha: float = 0.25
    dice: float = 1.0
    iou: float = 1.0
    presence: float = 1.0
    candidates: float = 0.5
    image_alignment: float = 1.0
    memory_alignment: float = 1.0

    def __post_init__(self) -> None:
        _at_least(self, dict.fromkeys(asdict(self), 0))
        _at_most(self, {"alpha": 1})


@dataclass(frozen=True)
class PromptMix:
    """How objects are shown, and how the model's errors are corrected.

    Attributes:
        mask, box, click: shares of the first prompts, in any unit; one kind serves a whole micro-batch.
        box_noise: standard deviation of a box's edges, as a fraction of its sides.
        centred: share of clicks in the middle of what they mean; the others fall anywhere on it.
        corrections: share of roll-outs with corrective clicks.
        refinements: share of roll-outs whose first answer, not from a mask, is decoded once more with itself
            as a prompt beside the first, as predictors do.
        colours: share of those that get what the colours show instead of the first answer (`colour_cut`).
        clicks: corrective clicks there, one after the other. On a still they follow the prompt; in a video
            they come on one later frame.
    """

    mask: float = 1.0
    box: float = 1.0
    click: float = 1.0
    box_noise: float = 0.1
    centred: float = 0.5
    corrections: float = 0.5
    refinements: float = 0.0
    colours: float = 0.0
    clicks: int = 3

    def __post_init__(self) -> None:
        _at_least(self, dict.fromkeys(asdict(self), 0))
        _at_most(self, {"centred": 1, "corrections": 1, "refinements": 1, "colours": 1})
        if self.mask + self.box + self.click <= 0:
            raise InputError("prompts", "expected a share above 0 for mask, box or click")


@dataclass(frozen=True)
class Stage:
    """One stage of training. A clip of one frame makes it the image stage.

    Attributes:
        steps: updates of the weights; 0 leaves the stage out.
        batch: clips at once.
        accumulation: batches per update.
        reuse: updates that see a clip, mirrored or backwards where that was drawn; for slow sources.
        frames: T, frames of a clip.
        objects: objects followed in each clip; they share its image features.
        learning_rate: the highest, after warm-up.
        encoder_rate: what the image encoder's learning rate is multiplied by.
        warmup: updates over which the learning rate rises evenly from 0.
        final_rate: fraction of the learning rate that the cosine ends at.
        betas, weight_decay: AdamW's; biases and norms do not decay.
        clip_norm: largest norm of all gradients together.
        ema: decay of the averaged weights, which are those that are validated and kept.
        forcing_start, forcing_end: probability that a frame is remembered by its true mask instead of the
            model's own, at the stage's start and end.
        checkpointing: compute activations twice to save memory.
        frozen_norms: keep the batch norms' statistics, as fine-tuning with small batches wants.
        prompts: how objects are shown.
    """

    steps: int = 1000
    batch: int = 8
    accumulation: int = 1
    reuse: int = 1
    frames: int = 1
    objects: int = 1
    learning_rate: float = 1e-3
    encoder_rate: float = 1.0
    warmup: int = 100
    final_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    ema: float = 0.998
    forcing_start: float = 0.9
    forcing_end: float = 0.1
    checkpointing: bool = False
    frozen_norms: bool = False
    prompts: PromptMix = field(default_factory=PromptMix)

    def __post_init__(self) -> None:
        _at_least(self, dict.fromkeys(("batch", "accumulation", "reuse", "frames", "objects"), 1))
        _at_least(self, dict.fromkeys(("steps", "encoder_rate", "warmup", "weight_decay"), 0))
        _at_least(self, dict.fromkeys(("final_rate", "ema", "forcing_start", "forcing_end"), 0))
        _at_most(self, dict.fromkeys(("final_rate", "forcing_start", "forcing_end"), 1))
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InputError(name, f"expected more than 0, got {getattr(self, name)}")
        if not self.ema < 1:
            raise InputError("ema", f"expected less than 1, got {self.ema}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError("betas", f"expected two numbers from 0 to below 1, got {self.betas}")


@dataclass(frozen=True)
class Validation:
    """What is held out, and how often it is looked at. The seed keeps it apart from the training clips.

    Attributes:
        every: updates between two validations; 0: only at the end.
        clips: clips that are tracked.
        frames: frames of each.
        seed: of the clips.
        source: "same": clips like the training's; "photos": `PhotoClips`, which look real. Made-up clips are
            tracked better and better when real ones no longer are, so the photos say when to stop.
        patience: validations without a better one after which the training ends, and the best weights of
            all are those that are kept; 0: it goes on to its end, and the last are kept.
    """

    every: int = 0
    clips: int = 16
    frames: int = 8
    seed: int = 990_001
    source: str = "same"
    patience: int = 0

    def __post_init__(self) -> None:
        _at_least(self, {"every": 0, "clips": 1, "frames": 1, "seed": 0, "patience": 0})
        if self.patience and not self.every:
            raise InputError("patience", "expected 0 where `every` is 0: there is one validation, at the end")
        if self.source not in HELD_OUT:
            raise InputError("source", f"expected {' or '.join(HELD_OUT)}, got {self.source!r}")


@dataclass(frozen=True)
class Tuning:
    """Which part of a model learns.

    Attributes:
        mode: "full": all of it; "decoder": what draws masks, image encoder and memory stay; "adapter":
            low-rank adapters in attention, feature pyramid and refiner, which are put into the weights that
            are written.
        rank: of the adapters.
    """

    mode: str = "full"
    rank: int = 8

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("mode", f"expected one of {', '.join(MODES)}, got {self.mode!r}")
        _at_least(self, {"rank": 1})


@dataclass(frozen=True)
class Recipe:
    """A whole training: the image stage, then the video stage.

    Attributes:
        seed: of the first weights, the clips and the prompts.
        precision: of the forward pass: "float32" or "bfloat16" (autocast; weights stay float32).
        deterministic: refuse operations that may give other bits from run to run.
        checkpoint_every: updates between two checkpoints; 0: only at the end of a stage.
        input_size: side of the model's input in pixels, 0: as it is. Small first, larger later saves time.
        output_size: side of the input that the weights are written for, 0: as trained.
        share: of the change from the first weights that those which are written have; see `interpolation`.
        size: side of the clips in pixels, 0: the model's own input size.
        tuning: which part of the model learns.
        loss, image, video, validation: see there.
        synthetic: what made-up clips look like; size and frames come from the model and the stages.
        windows: how clips are cut from annotated data; the same holds.

    Raises:
        InputError: a value out of range, with the field at fault.
    """

    seed: int = 0
    precision: str = "float32"
    deterministic: bool = False
    checkpoint_every: int = 500
    input_size: int = 0
    output_size: int = 0
    share: float = 1.0
    size: int = 0
    tuning: Tuning = field(default_factory=Tuning)
    loss: LossWeights = field(default_factory=LossWeights)
    image: Stage = field(default_factory=Stage)
    video: Stage = field(default_factory=lambda: Stage(frames=6))
    validation: Validation = field(default_factory=Validation)
    synthetic: SyntheticOptions = field(default_factory=SyntheticOptions)
    windows: WindowOptions = field(default_factory=WindowOptions)

    def __post_init__(self) -> None:
        _at_least(
            self, dict.fromkeys(("seed", "checkpoint_every", "input_size", "output_size", "size", "share"), 0)
        )
        _at_most(self, {"share": 1})
        if self.precision not in PRECISIONS:
            raise InputError("precision", f"expected {' or '.join(PRECISIONS)}, got {self.precision!r}")
        if self.image.frames != 1:
            raise InputError("image.frames", f"expected 1, got {self.image.frames}")
        if self.image.steps + self.video.steps == 0:
            raise InputError("steps", "expected a stage with more than 0 steps")
        if self.image.steps and self.image.prompts.box + self.image.prompts.click <= 0:
            raise InputError(
                "image.prompts", "expected boxes or clicks: a mask given leaves nothing to learn"
            )
        if self.validation.seed == self.seed:
            raise InputError(
                "validation.seed", "expected another one than the training's: nothing is held out"
            )

    @property
    def stages(self) -> tuple[Stage, Stage]:
        """In the order in which they are trained."""
        return self.image, self.video

    @property
    def steps(self) -> int:
        """Updates of the weights in all."""
        return self.image.steps + self.video.steps

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Build a recipe from the tables of a TOML or JSON document; what is left out keeps its default.

        Raises:
            InputError: an unknown field, a value of another kind or out of range; fields are named with
                their table, as in `video.steps`.
        """
        return _build(cls(), values, "recipe")


def packaged_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    return {path.stem: path for path in sorted(PACKAGED.glob("*.toml"))}


def read_recipe(source: str | Path) -> Recipe:
    """Read a recipe by its name in the package or from a TOML file.

    Raises:
        InputError: no such recipe, not TOML, or a recipe that cannot be used.
    """
    path = packaged_recipes().get(str(source), Path(source))
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        known = ", ".join(packaged_recipes())
        raise InputError("recipe", f"expected {known} or a TOML file, {source}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise InputError("recipe", f"{source}: not TOML: {error}") from error
    return Recipe.from_dict(values)


def _build(default: Options, values: Mapping[str, Any], where: str) -> Options:
    """`default` with the values of a table in place of its own."""
    names = [f.name for f in fields(default)]  # type: ignore[arg-type]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise InputError(f"{where}.{unknown[0]}", f"unknown field, expected one of {', '.join(names)}")
    chosen = {name: getattr(default, name) for name in names}
    chosen |= {name: _value(chosen[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return type(default)(**chosen)
    except InputError as error:
        raise InputError(f"{where}.{error.field}", error.problem) from error


def _value(default: Any, value: Any, where: str) -> Any:
    """The value as the default's kind: whole numbers serve as floats, lists as tuples."""
    if is_dataclass(default):
        if not isinstance(value, Mapping):
            raise InputError(where, f"expected a table, got {value!r}")
        return _build(default, value, where)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(default):
            raise InputError(where, f"expected {len(default)} values, got {value!r}")
        return tuple(_value(d, v, where) for d, v in zip(default, value, strict=True))
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise InputError(where, f"expected {type(default).__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(where, f"expected a finite number, got {value!r}")
    return value


def _at_least(options: object, least: Mapping[str, float]) -> None:
    for name, low in least.items():
        if not getattr(options, name) >= low:
            raise InputError(name, f"expected at least {low}, got {getattr(options, name)}")


def _at_most(options: object, most: Mapping[str, float]) -> None:
    for name, high in most.items():
        if not getattr(options, name) <= high:
            raise InputError(name, f"expected at most {high}, got {getattr(options, name)}")
