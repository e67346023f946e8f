"""The sizes of a model, frozen and stored beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isqrt
from types import MappingProxyType
from typing import Any

from edgetam_model.errors import InputError

IMAGE_STRIDE = 16  # pixels of the network's input per token of the memory attention
LOW_RES_STRIDE = 4  # pixels of the network's input per mask logit
IMAGE_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0 … 1, as the published encoder expects
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EdgeTAMConfig:
    """Widths, depths and memory sizes of an EdgeTAM. The defaults are the published model.

    What the published model does not have is off by default, and makes the `nano` family, whose input is too
    small to see a small object in a whole frame:

    Attributes:
        window_scale: an object is read through a window of its own, so many times its box; 0: the whole
            frame.
        evidence_width: channels of the keys by which labels are carried from remembered pixels to similar
            ones (`nn/evidence.py`); 0: none.
        refine_width: channels at stride 4 of the head that draws the mask anew at the input's full size
            (`nn/refiner.py`); 0: none, and masks have a quarter of that size.
        pooled_memories: memories are means of their patches in place of latents (`nn/spatial_perceiver.py`),
            to compare with; global_latents is 0 then.

    Raises:
        InputError: sizes that do not fit together, with the field at fault.

    Source: EdgeTAM (arXiv 2501.07256) and its published configuration.
    """

    image_size: int = 1024
    trunk_widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    trunk_depths: tuple[int, int, int, int] = (2, 2, 14, 2)
    width: int = 256
    memory_width: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    global_latents: int = 256
    patch_latents: int = 256
    perceiver_layers: int = 2
    attention_layers: int = 2
    attention_mlp: int = 2048
    recent_memories: int = 6
    max_pointers: int = 16
    window_scale: float = 0.0
    evidence_width: int = 0
    refine_width: int = 0
    pooled_memories: bool = False

    def __post_init__(self) -> None:
        if self.image_size % 32 or self.image_size <= 0:
            raise InputError("image_size", f"expected a positive multiple of 32, got {self.image_size}")
        if self.width % (4 * self.decoder_heads) or self.width % 8:
            raise InputError("width", f"expected a multiple of 8 and of 4 × decoder_heads, got {self.width}")
        if self.memory_width % 4 or self.width % self.memory_width:
            raise InputError(
                "memory_width", f"expected a multiple of 4 that divides width, got {self.memory_width}"
            )
        if bool(self.evidence_width) != bool(self.refine_width):
            raise InputError("refine_width", "expected evidence_width and refine_width together, or neither")
        if self.window_scale and self.window_scale < 1:
            raise InputError("window_scale", f"expected 0 or at least 1, got {self.window_scale}")
        self._check_latents()

    def _check_latents(self) -> None:
        squares = {n * n for n in range(1, self.grid + 1) if self.grid % n == 0}
        if self.patch_latents and self.patch_latents not in squares:
            raise InputError(
                "patch_latents",
                f"expected 0 or the square of a divisor of the grid's {self.grid}, got {self.patch_latents}",
            )
        if self.global_latents < 0 or not self.latents:
            raise InputError(
                "global_latents", f"expected at least 0, and 1 without others, got {self.global_latents}"
            )
        if self.pooled_memories and (self.global_latents or not self.patch_latents):
            raise InputError("pooled_memories", "expected patch_latents only: a mean belongs to a patch")

    @property
    def grid(self) -> int:
        """Side of the token grid of the memory attention."""
        return self.image_size // IMAGE_STRIDE

    @property
    def low_res(self) -> int:
        """Side of the mask decoder's logits, and of mask prompts."""
        return self.image_size // LOW_RES_STRIDE

    @property
    def mask_size(self) -> int:
        """Side of the logits that the model answers with."""
        return self.image_size if self.refine_width else self.low_res

    @property
    def patch_grid(self) -> int:
        """Side of the grid of patch-level latents, 0 without them."""
        return isqrt(self.patch_latents)

    @property
    def latents(self) -> int:
        """Tokens of one compressed memory, global ones first."""
        return self.global_latents + self.patch_latents

    @property
    def pointer_tokens(self) -> int:
        """Tokens that one object pointer takes in the memory attention."""
        return self.width // self.memory_width

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EdgeTAMConfig:
        """Build a config from JSON values.

        Raises:
            InputError: an unknown field, what is no size, or sizes that do not fit together.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"config.{unknown[0]}", "unknown field")
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**sizes)
        except (TypeError, ArithmeticError) as error:
            raise InputError("config", f"expected numbers and lists of them: {error}") from error


CONFIGS: Mapping[str, EdgeTAMConfig] = MappingProxyType(
    {
        "edgetam": EdgeTAMConfig(),
        # Random weights only: small enough for tests of thousands of frames and dozens of objects.
        "tiny": EdgeTAMConfig(
            image_size=128,
            trunk_widths=(8, 16, 24, 32),
            trunk_depths=(1, 1, 2, 1),
            width=32,
            memory_width=16,
            decoder_heads=4,
            decoder_mlp=64,
            global_latents=12,
            patch_latents=16,
            attention_mlp=64,
        ),
        # The weights that ship: small enough to be trained on a CPU and to come with the package.
        "nano": EdgeTAMConfig(
            image_size=128,
            trunk_widths=(48, 64, 96, 128),
            trunk_depths=(1, 1, 3, 1),
            width=96,
            memory_width=48,
            decoder_heads=4,
            decoder_mlp=256,
            global_latents=16,
            patch_latents=16,
            perceiver_layers=1,
            attention_layers=1,
            attention_mlp=256,
            recent_memories=3,
            max_pointers=8,
            window_scale=1.7,
            evidence_width=32,
            refine_width=64,
        ),
    }
)
