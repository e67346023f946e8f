"""What goes into each part and what comes out: names, shapes, units. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.errors import InputError

IMAGE_ENCODER = "image_encoder"
MASK_DECODER = "mask_decoder"
MEMORY_ENCODER = "memory_encoder"
MEMORY_ATTENTION = "memory_attention"
PART_NAMES = (IMAGE_ENCODER, MASK_DECODER, MEMORY_ENCODER, MEMORY_ATTENTION)
# A runtime has the memory attention in two: what sees the frame alone, and what sees an object's memories.
FRAME_ATTENTION = "frame_attention"
OBJECT_ATTENTION = "object_attention"
# And a decoder for prompts without a mask: making a dense prompt of nothing took it an eighth of its time.
UNMASKED_DECODER = "unmasked_decoder"

ABSENT = -2  # label of a prompt slot that stands for nothing
MASKS = 4  # that the decoder offers: one for clear prompts, three for ambiguous ones
LABELS_PER_TOKEN = 16  # 4 × 4 pixels of the mask
FEW_CONDITIONING, MANY_CONDITIONING = 1, 4  # conditioning slots of the two memory attentions

# Maps that one part hands to another. Processors compute them with channels last, and turning them about at
# every border took 10 of the 200 ms of a frame in bfloat16.
HANDED_ON = frozenset(("pixels", "stride4", "stride8", "stride16", "pyramid4", "pyramid8", "features"))

Kind = Literal["float32", "int32", "uint8"]


@dataclass(frozen=True)
class Slots:
    """The fixed numbers of a set of parts.

    Attributes:
        objects: B, objects per call.
        conditioning: slots for conditioning memories; those for recent ones come on top.
        prompts: slots for clicks and box corners; a box takes two.

    Raises:
        InputError: fewer than one of anything.
    """

    objects: int = 1
    conditioning: int = MANY_CONDITIONING
    prompts: int = 16

    def __post_init__(self) -> None:
        for name in ("objects", "conditioning", "prompts"):
            if getattr(self, name) < 1:
                raise InputError(name, f"expected at least 1, got {getattr(self, name)}")

    def memories(self, config: EdgeTAMConfig) -> int:
        """Memory slots, conditioning ones first."""
        return self.conditioning + config.recent_memories

    def pointers(self, config: EdgeTAMConfig) -> int:
        """Pointer slots: one per conditioning memory, and the frames before."""
        return self.conditioning + config.max_pointers - 1

    def views(self, config: EdgeTAMConfig) -> int:
        """V, pictures per call: one for all objects, or one for each where models need what it shows."""
        return self.objects if config.window_scale or config.refine_width else 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name, shape, kind: as in every export.
        meaning: one line for people.
        channels_last: a map as runtimes hand it on, (B, H, W, C).
    """

    name: str
    shape: tuple[int, ...]
    meaning: str
    kind: Kind = "float32"
    channels_last: bool = False


@dataclass(frozen=True)
class PartSpec:
    """One part; inputs and outputs are in the order of its `forward`."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def part_specs(config: EdgeTAMConfig, slots: Slots) -> Mapping[str, PartSpec]:
    """Every part of a model with these sizes as files have them, by name."""
    makers = (_image_encoder, _mask_decoder, _memory_encoder, _memory_attention)
    specs = (make(config, slots) for make in makers)
    return {spec.name: spec for spec in specs}


def runtime_specs(config: EdgeTAMConfig, slots: Slots) -> Mapping[str, PartSpec]:
    """Every part of a model with these sizes as runtimes have them, by name: maps with channels last."""
    makers = (
        _image_encoder,
        _mask_decoder,
        _unmasked_decoder,
        _memory_encoder,
        _frame_attention,
        _object_attention,
    )
    specs = (make(config, slots) for make in makers)
    return {
        spec.name: PartSpec(
            spec.name, tuple(map(_handed_on, spec.inputs)), tuple(map(_handed_on, spec.outputs))
        )
        for spec in specs
    }


def _handed_on(tensor: TensorSpec) -> TensorSpec:
    """As runtimes have it; pixels as the bytes that they are."""
    if tensor.name not in HANDED_ON:
        return tensor
    batch, channels, height, width = tensor.shape
    kind: Kind = "uint8" if tensor.name == "pixels" else tensor.kind
    return replace(tensor, shape=(batch, height, width, channels), kind=kind, channels_last=True)


def _image_encoder(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    views, side = slots.views(config), config.image_size
    pixels = TensorSpec(
        "pixels", (views, 3, side, side), "RGB, 0 to 255, the frame or window stretched to the square"
    )
    return PartSpec(IMAGE_ENCODER, (pixels,), _features(config, views))


def _features(config: EdgeTAMConfig, views: int) -> tuple[TensorSpec, ...]:
    width, fine, mid, grid = config.width, config.low_res, config.low_res // 2, config.grid
    coarse = TensorSpec("stride16", (views, width, grid, grid), "features for memories and decoder")
    stride4 = TensorSpec("stride4", (views, width // 8, fine, fine), "fine features for the decoder")
    stride8 = TensorSpec("stride8", (views, width // 4, mid, mid), "middle features for the decoder")
    return coarse, stride4, stride8, *_details(config, views)


def _details(config: EdgeTAMConfig, views: int) -> tuple[TensorSpec, ...]:
    """What models with evidence and a refiner need besides."""
    if not config.evidence_width:
        return ()
    width, fine, mid = config.width, config.low_res, config.low_res // 2
    return (
        TensorSpec("pyramid4", (views, width, fine, fine), "fine features for the refiner"),
        TensorSpec("pyramid8", (views, width, mid, mid), "middle features for the refiner"),
        TensorSpec("keys", (views, config.evidence_width, fine, fine), "what places look like"),
    )


def _mask_decoder(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    objects, views, grid = slots.objects, slots.views(config), config.grid
    side, low = config.mask_size, config.low_res
    stride4, stride8 = _features(config, views)[1:3]
    inputs = (
        TensorSpec(
            "features", (objects, config.width, grid, grid), "of the memory attention, or stride16 itself"
        ),
        TensorSpec(
            "unremembered", (objects,), "1: features are stride16 and nothing is remembered; 0: otherwise"
        ),
        stride4,
        stride8,
        TensorSpec("points", (objects, slots.prompts, 2), "x, y in pixels of the square; box corners first"),
        TensorSpec(
            "labels",
            (objects, slots.prompts),
            "1 positive, 0 negative, 2 and 3 box corners, -1 no click at all (one slot), -2 slot unused",
            "int32",
        ),
        TensorSpec("mask_logits", (objects, side, side), "dense prompt, see the rules; zeros without one"),
        TensorSpec("has_mask", (objects,), "1: mask_logits is a prompt; 0: it is not"),
        TensorSpec("multimask", (objects,), "1: choose among masks 1 to 3 by estimated IoU; 0: take mask 0"),
        TensorSpec(
            "dynamic_multimask", (objects,), "1: where mask 0 is taken and unstable, choose among 1 to 3"
        ),
        *_details(config, views),
        *_seen(config, objects),
    )
    outputs = (
        TensorSpec("logits", (objects, side, side), "the mask, > 0 is the object, be it there or not"),
        TensorSpec("iou", (objects,), "estimated IoU, 0 to 1"),
        TensorSpec("object_score", (objects,), "logit; 0 and below: the object is not there"),
        TensorSpec("pointer", (objects, config.width), "object pointer, to be remembered"),
        TensorSpec("candidates", (objects, MASKS, low, low), "logits of every mask offered, before refining"),
        TensorSpec("candidate_ious", (objects, MASKS), "their estimated IoU"),
    )
    return PartSpec(MASK_DECODER, inputs, outputs)


def _unmasked_decoder(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    whole = _mask_decoder(config, slots)
    inputs = tuple(one for one in whole.inputs if one.name not in ("mask_logits", "has_mask"))
    return PartSpec(UNMASKED_DECODER, inputs, whole.outputs)


def _seen(config: EdgeTAMConfig, objects: int) -> tuple[TensorSpec, ...]:
    """Traces: what places looked like on two remembered frames, and how they were labelled."""
    if not config.evidence_width:
        return ()
    fine, specs = config.low_res, []
    for name, which in (("recent", "frame before"), ("shown", "nearest conditioning frame")):
        keys, labels = (objects, config.evidence_width, fine, fine), (objects, LABELS_PER_TOKEN, fine, fine)
        specs += [
            TensorSpec(f"{name}_keys", keys, f"keys of the {which}"),
            TensorSpec(f"{name}_labels", labels, f"labels of the {which}"),
            TensorSpec(
                f"{name}_place",
                (objects, 4),
                f"x0, y0, width, height of the {which}'s window, in units of this frame's, from its corner",
            ),
        ]
    return (*specs, TensorSpec("seen", (objects,), "1: the traces count; 0: nothing is remembered"))


def _memory_encoder(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    objects, fine, side = slots.objects, config.low_res, config.mask_size
    inputs = (
        _frame(config, slots),
        TensorSpec("logits", (objects, side, side), "mask on it; -1024 throughout without the object"),
        TensorSpec("binarize", (objects,), "1: the mask counts as 0 or 1 (prompted frames); 0: as it is"),
    )
    outputs = [TensorSpec("latents", (objects, config.latents, config.memory_width), "the memory")]
    if config.evidence_width:
        outputs.append(
            TensorSpec("labels", (objects, LABELS_PER_TOKEN, fine, fine), "the mask as a trace remembers it")
        )
    return PartSpec(MEMORY_ENCODER, inputs, tuple(outputs))


def _memory_attention(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    inputs = (_frame(config, slots), *_remembered(config, slots))
    return PartSpec(MEMORY_ATTENTION, inputs, _conditioned(config, slots))


def _frame_attention(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    return PartSpec(FRAME_ATTENTION, (_frame(config, slots),), (_attended(config, slots),))


def _object_attention(config: EdgeTAMConfig, slots: Slots) -> PartSpec:
    inputs = (_attended(config, slots), *_remembered(config, slots))
    return PartSpec(OBJECT_ATTENTION, inputs, _conditioned(config, slots))


def _frame(config: EdgeTAMConfig, slots: Slots) -> TensorSpec:
    shape = (slots.views(config), config.width, config.grid, config.grid)
    return TensorSpec("stride16", shape, "features of the frame")


def _attended(config: EdgeTAMConfig, slots: Slots) -> TensorSpec:
    shape = (slots.views(config), config.grid**2, config.width)
    return TensorSpec("attended", shape, "places of the frame after they have looked at each other")


def _conditioned(config: EdgeTAMConfig, slots: Slots) -> tuple[TensorSpec, ...]:
    shape = (slots.objects, config.width, config.grid, config.grid)
    return (TensorSpec("features", shape, "features with memories"),)


def _remembered(config: EdgeTAMConfig, slots: Slots) -> tuple[TensorSpec, ...]:
    objects = slots.objects
    memories, pointers = slots.memories(config), slots.pointers(config)
    return (
        TensorSpec(
            "memories",
            (objects, memories, config.latents, config.memory_width),
            "conditioning memories, then recent ones, oldest first; zeros in slots unused",
        ),
        TensorSpec(
            "ages",
            (objects, memories),
            f"0: conditioning; 1 to {config.recent_memories}: frames back from now",
            "int32",
        ),
        TensorSpec("memory_valid", (objects, memories), "1: the slot counts; 0: unused"),
        TensorSpec("pointers", (objects, pointers, config.width), "object pointers; zeros in slots unused"),
        TensorSpec("pointer_valid", (objects, pointers), "1: the slot counts; 0: unused"),
        TensorSpec(
            "pointer_present", (objects, pointers), "1: the object was there; 0: it was absent on that frame"
        ),
    )
