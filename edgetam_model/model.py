"""EdgeTAM: wires the boxes of `nn/` together and holds the published layout of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import IMAGE_MEAN, IMAGE_STD, LOW_RES_STRIDE, EdgeTAMConfig
from edgetam_model.model_io import (
    Choice,
    Decoded,
    Detail,
    ImageFeatures,
    Remembered,
    Runtime,
    Seen,
)
from edgetam_model.nn.evidence import CHANNELS, Evidence, Hints, Trace, labels_of, prompt_maps
from edgetam_model.nn.image_encoder import ImageEncoder
from edgetam_model.nn.layers import MLP, ConvNorm, sine_position
from edgetam_model.nn.mask_decoder import DecoderOutput, MaskDecoder
from edgetam_model.nn.memory_attention import Memories, MemoryAttention
from edgetam_model.nn.memory_encoder import MemoryEncoder
from edgetam_model.nn.prompt_encoder import NOT_A_POINT, PromptEncoder
from edgetam_model.nn.refiner import Refiner
from edgetam_model.nn.repvit import TokenMixer
from edgetam_model.nn.spatial_perceiver import PooledMemories, SpatialPerceiver

ABSENT_LOGIT = -1024.0  # every mask logit of an object whose score says it is not there
SHOWN_SCORE = 0.1  # object score, at least, of what someone points at
DENIED_SCORE = -0.01  # the highest object score of an object that is denied
STABILITY_DELTA = 0.05  # logits this close to zero decide whether a single mask is stable …
STABILITY_THRESHOLD = 0.98  # … which it is above this ratio of areas
WHOLE = (0.0, 0.0, 1.0, 1.0)  # the window of images that all show the same part of a frame
MASK_GAIN, MASK_OFFSET = 20.0, -10.0  # a given mask as logits, and a mask's probability as memory input


class EdgeTAM(nn.Module):
    """The whole model; predictors wrap it. All inputs and outputs are batch first.

    Attributes:
        config: the model's sizes.
        weights_info: where the weights came from, set by `load_model`.
        runtime: who computes the heavy parts, set by `accelerate`; None: PyTorch, as the modules are.
    """

    feature_position: Tensor

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        self.config = config
        self.weights_info: object | None = None
        self.runtime: Runtime | None = None
        self._fingerprint: str | None = None  # of fused weights, whose layout is gone
        width = config.width
        self.image_encoder = ImageEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config)
        self.sam_mask_decoder = MaskDecoder(config)
        self.mask_downsample = nn.Conv2d(1, 1, 4, 4)
        self.obj_ptr_proj = MLP(width, width, width, 3)
        self.memory_encoder = MemoryEncoder(config)
        compress = PooledMemories if config.pooled_memories else SpatialPerceiver
        self.spatial_perceiver = compress(config)
        self.memory_attention = MemoryAttention(config)
        self.maskmem_tpos_enc = nn.Parameter(
            torch.zeros(config.recent_memories + 1, 1, 1, config.memory_width)
        )
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))  # in the published layout, never read
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        self.evidence = Evidence(config) if config.evidence_width else None
        self.refiner = Refiner(config) if config.refine_width else None
        if self.refiner is not None:
            self.evidence_proj = nn.Conv2d(CHANNELS * LOW_RES_STRIDE**2, width, 1)
        position = sine_position(width, config.grid, config.grid).flatten(1).T
        self.register_buffer("feature_position", position[None], persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_mem_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision the model computes in; its inputs are converted to it."""
        return self.no_mem_embed.dtype

    def fuse(self) -> EdgeTAM:
        """Fold batch norms and parallel branches of the trunk into single convolutions, in place.

        The numbers stay (to float rounding) in eval mode; the published layout of weights does not, so
        this comes after loading and before running.
        """
        self._fingerprint = self.fingerprint()
        _fuse_children(self)
        return self

    @property
    def fused(self) -> bool:
        """Whether `fuse` was called; weights have another layout then."""
        return not any(isinstance(module, ConvNorm | TokenMixer) for module in self.modules())

    def name_fingerprint(self, fingerprint: str) -> None:
        """Say what the fingerprint is, where it follows from another model's."""
        self._fingerprint = fingerprint

    def fingerprint(self) -> str:
        """SHA-256 of config and weights, the same before and after `fuse`."""
        if self._fingerprint is not None:
            return self._fingerprint
        return fingerprint(self.config, self.state_dict())

    def encode_pixels(self, pixels: Tensor, window: Tensor | None = None) -> ImageFeatures:
        """Features of B images or views.

        Args:
            pixels: uint8 (B, 3, S, S) RGB.
            window: as in `encode_image`.
        """
        if self.runtime is not None:
            return self.runtime.encode_pixels(pixels, window)
        return self.encode_image(normalised(pixels.to(self.dtype).contiguous()), window)

    def encode_image(self, images: Tensor, window: Tensor | None = None) -> ImageFeatures:
        """`encode_pixels` of normalised images, which training makes itself.

        Args:
            images: (B, 3, S, S) normalised.
            window: (B, 4) which part of the frame each shows, see `Detail`; None: all the same part.
        """
        stride4, stride8, stride16 = self.image_encoder(images)
        decoder = self.sam_mask_decoder
        detail = None
        if self.evidence is not None:
            if window is None:
                window = images.new_tensor(WHOLE).expand(len(images), -1)
            detail = Detail(stride4, stride8, self.evidence.keys(stride4, images), window)
        return ImageFeatures(decoder.conv_s0(stride4), decoder.conv_s1(stride8), stride16, detail)

    def without_memory(self, image: ImageFeatures) -> Tensor:
        """(1, C, H, W) features of a frame on which nothing is remembered yet."""
        return image.stride16 + self.no_mem_embed.reshape(1, -1, 1, 1)

    def with_memory(self, image: ImageFeatures, remembered: Remembered) -> Tensor:
        """(B, C, H, W) features conditioned on B objects' memories."""
        if self.runtime is not None:
            return self.runtime.with_memory(image, remembered)
        tokens = image.stride16.flatten(2).transpose(1, 2)
        conditioned = self.memory_attention(tokens, self.feature_position, self.memories(remembered))
        return conditioned.transpose(1, 2).unflatten(2, image.stride16.shape[2:])

    def memories(self, remembered: Remembered) -> Memories:
        """What the memory attention reads: latents with their places in time and on the grid.

        Temporal encodings stand in the published order: the latest frame has row 0, conditioning the last.
        """
        temporal = self.maskmem_tpos_enc[:, 0, 0][(remembered.ages - 1) % len(self.maskmem_tpos_enc)]
        valid = None
        if remembered.used is not None and remembered.pointed is not None:
            slots = remembered.used.repeat_interleave(self.config.latents, 1)
            valid = torch.cat(
                (slots, remembered.pointed.repeat_interleave(self.config.pointer_tokens, 1)), dim=1
            )
        return Memories(
            latents=remembered.latents,
            position=self.spatial_perceiver.latents_position[:, None] + temporal[:, :, None],
            pointers=remembered.pointers.reshape(len(remembered.pointers), -1, self.config.memory_width),
            valid=valid,
        )

    def decode(
        self,
        features: Tensor,
        image: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask_logits: Tensor | None = None,
        *,
        choice: Choice,
        seen: Seen | None = None,
    ) -> Decoded:
        """Masks of B objects from features that already carry their memories (or `without_memory`).

        Args:
            features: (1 or B, C, H, W).
            image: the frame's features.
            points: (B, N, 2) pixels of the network's input, box corners first; None: no clicks at all.
            labels: (B, N).
            mask_logits: (B, 1, M, M) dense prompt, M = `config.mask_size`.
            choice: which mask is the answer.
            seen: the objects' traces; None: nothing is remembered, or the model leaves none.
        """
        if self.runtime is not None:
            return self.runtime.decode(features, image, points, labels, mask_logits, choice=choice, seen=seen)
        out = self.offer(features, image, points, labels, mask_logits, seen)
        decoded = self.choose(out, choice)
        return self.refine(decoded, out, image, choice)

    def offer(
        self,
        features: Tensor,
        image: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask_logits: Tensor | None = None,
        seen: Seen | None = None,
    ) -> DecoderOutput:
        """Every mask token's answer to a prompt, arguments as in `decode`; training supervises them all."""
        evidence = self._evidence(image, points, labels, mask_logits, seen)
        if evidence is not None:
            cells = F.pixel_unshuffle(evidence, LOW_RES_STRIDE)
            features = features + self.evidence_proj(cells)
            if mask_logits is not None and mask_logits.shape[-1] == self.config.mask_size:
                mask_logits = F.avg_pool2d(mask_logits, LOW_RES_STRIDE)
        if points is None or labels is None:
            batch = max(len(features), 1 if mask_logits is None else len(mask_logits))
            points = features.new_zeros(batch, 1, 2)
            labels = torch.full((batch, 1), NOT_A_POINT, device=features.device)
        sparse = self.sam_prompt_encoder(points, labels)
        dense = self.sam_prompt_encoder.dense(mask_logits)
        out: DecoderOutput = self.sam_mask_decoder(
            (features + dense).expand(len(sparse), -1, -1, -1),
            self.sam_prompt_encoder.grid_position(),
            sparse,
            image.stride4,
            image.stride8,
        )
        return replace(out, evidence=evidence)

    def _evidence(
        self,
        image: ImageFeatures,
        points: Tensor | None,
        labels: Tensor | None,
        mask_logits: Tensor | None,
        seen: Seen | None,
    ) -> Tensor | None:
        """(B, E, S/4, S/4) how places were labelled before, and by the prompt; None without a refiner."""
        if self.evidence is None or image.detail is None:
            return None
        hints = None
        if points is not None and labels is not None:
            previous = None if mask_logits is None else labels_of(mask_logits[:, 0])
            hints = Hints(prompt_maps(points, labels, self.config.image_size), previous)
        keys, window = image.detail.keys, image.detail.window
        batch = len(points) if points is not None else len(keys)
        keys, window = keys.expand(batch, -1, -1, -1), window.expand(batch, -1)
        recent, shown = (None, None) if seen is None else (seen.recent, seen.shown)
        evidence: Tensor = self.evidence(keys, window, recent, shown, hints)
        return evidence

    def refine(self, decoded: Decoded, out: DecoderOutput, image: ImageFeatures, choice: Choice) -> Decoded:
        """The chosen mask drawn anew at the input's size, by models that have a refiner; else as it was."""
        if self.refiner is None or image.detail is None or out.evidence is None:
            return decoded
        detail, batch = image.detail, len(decoded.raw)
        pyramid = (x.expand(batch, -1, -1, -1) for x in (detail.pyramid4, detail.pyramid8))
        raw, iou = self.refiner(*pyramid, out.features, out.evidence, decoded.raw)
        present = choice.present(decoded.object_score)
        return replace(
            decoded, logits=torch.where(present[:, None, None], raw, ABSENT_LOGIT), raw=raw, iou=iou
        )

    def believe(self, decoded: Decoded, rows: Tensor) -> Decoded:
        """The objects of an open choice that are there, by rows, (B,) bool; the others are not."""
        score = decoded.object_score
        return replace(
            decoded,
            logits=torch.where(rows[:, None, None], decoded.logits, ABSENT_LOGIT),
            pointer=torch.where(rows[:, None], decoded.pointer, self.no_obj_ptr),
            object_score=torch.where(rows, score.clamp(min=SHOWN_SCORE), score.clamp(max=DENIED_SCORE)),
        )

    def trace(self, image: ImageFeatures, logits: Tensor) -> Trace | None:
        """What to remember of B objects' (B, S, S) masks for evidence, batched; None without a refiner."""
        if image.detail is None:
            return None
        batch = len(logits)
        keys, window = image.detail.keys.expand(batch, -1, -1, -1), image.detail.window.expand(batch, -1)
        return Trace(keys, labels_of(logits), window)

    def from_mask(self, image: ImageFeatures, mask: Tensor) -> Decoded:
        """A mask that is given is the output; only its object pointer comes from the decoder.

        Args:
            mask: (B, 1, S, S) of 0 and 1 at the network's input size.
        """
        logits = mask * MASK_GAIN + MASK_OFFSET
        side = self.config.mask_size
        if mask.shape[-1] != side:
            logits = F.interpolate(logits, size=(side, side), mode="bilinear", antialias=True)
        prompt = self.mask_downsample(mask)
        low_res = self.config.low_res
        if prompt.shape[-1] != low_res:
            prompt = F.interpolate(prompt, size=(low_res, low_res), mode="bilinear", antialias=True)
        decoded = self.decode(image.stride16, image, mask_logits=prompt, choice=Choice(multimask=False))
        present = mask.flatten(1).any(dim=1)
        return Decoded(
            logits=logits[:, 0],
            raw=logits[:, 0],
            iou=torch.ones_like(decoded.iou),
            pointer=torch.where(present[:, None], decoded.pointer, self.no_obj_ptr),
            object_score=torch.where(present, -MASK_OFFSET, MASK_OFFSET).to(decoded.iou.dtype),
            candidates=logits,
            candidate_ious=torch.ones_like(decoded.iou)[:, None],
        )

    def encode_memory(self, image: ImageFeatures, logits: Tensor, *, binarize: bool = False) -> Tensor:
        """(B, M, M) mask logits on a frame → (B, L, Cm) compressed memories.

        Args:
            binarize: read the mask as 0 or 1 instead of probabilities (option for prompted frames).
        """
        if self.runtime is not None:
            return self.runtime.encode_memory(image, logits, binarize=binarize)
        size, full = (self.config.image_size, self.config.image_size), logits[:, None]
        if logits.shape[-2:] != size:
            full = F.interpolate(full, size=size, mode="bilinear", align_corners=False)
        probability = (full > 0).to(full.dtype) if binarize else full.sigmoid()
        dense = self.memory_encoder(image.stride16, probability * MASK_GAIN + MASK_OFFSET)
        latents: Tensor = self.spatial_perceiver(dense)
        return latents

    def choose(self, out: DecoderOutput, choice: Choice) -> Decoded:
        """Pick each object's mask among those offered, and make its pointer."""
        rows = torch.arange(len(out.logits), device=out.logits.device)
        best_of_three = 1 + out.ious[:, 1:].argmax(dim=1)
        single = torch.zeros_like(best_of_three)
        token = best_of_three if choice.multimask else single
        chosen = token
        if choice.dynamic_multimask and not choice.multimask:
            chosen = torch.where(_stable(out.logits[:, 0]), single, best_of_three)
        score = out.object_score.clamp(min=SHOWN_SCORE) if choice.shown else out.object_score
        present = choice.present(score)
        logits = torch.where(present[:, :, None, None], out.logits, ABSENT_LOGIT)
        pointer = self.obj_ptr_proj(out.tokens[rows, token])
        offered = slice(1, None) if choice.multimask else slice(0, 1)
        return Decoded(
            logits=logits[rows, chosen],
            raw=out.logits[rows, chosen],
            iou=out.ious[rows, chosen],
            pointer=torch.where(present, pointer, self.no_obj_ptr),
            object_score=score[:, 0],
            candidates=logits[:, offered],
            candidate_ious=out.ious[:, offered],
        )


def normalised(pixels: Tensor) -> Tensor:
    """(…, 3, H, W) RGB of 0 to 255 as the image encoder takes it."""
    mean = torch.tensor(IMAGE_MEAN, device=pixels.device, dtype=pixels.dtype)[:, None, None]
    std = torch.tensor(IMAGE_STD, device=pixels.device, dtype=pixels.dtype)[:, None, None]
    return (pixels / 255 - mean) / std


def fingerprint(config: EdgeTAMConfig, state: Mapping[str, Tensor]) -> str:
    """SHA-256 over config, names, types, shapes and bytes, whatever the order of the entries."""
    usual = EdgeTAMConfig().to_dict()  # left out, so that a field added later changes no fingerprint
    sizes = {name: size for name, size in config.to_dict().items() if size != usual[name]}
    digest = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _stable(logits: Tensor) -> Tensor:
    """(B,) bool: the mask hardly changes when its threshold moves by ± delta."""
    inner = (logits > STABILITY_DELTA).flatten(1).sum(dim=1)
    outer = (logits > -STABILITY_DELTA).flatten(1).sum(dim=1)
    return torch.where(outer > 0, inner / outer, 1.0) >= STABILITY_THRESHOLD


def _fuse_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm | TokenMixer):
            setattr(module, name, child.fused())
        else:
            _fuse_children(child)
