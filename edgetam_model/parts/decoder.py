"""Prompt encoder and mask decoder on slots, the choice of a mask, and the refiner where there is one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import LOW_RES_STRIDE
from edgetam_model.model import STABILITY_DELTA, STABILITY_THRESHOLD, EdgeTAM
from edgetam_model.nn.evidence import labels_of
from edgetam_model.nn.layers import unshuffle
from edgetam_model.nn.mask_decoder import MASKS, DecoderOutput
from edgetam_model.nn.prompt_encoder import NOT_A_POINT, PromptEncoder
from edgetam_model.parts.attention import CLOSED
from edgetam_model.parts.crossing import crossing
from edgetam_model.parts.evidence import PlacedTrace, SlottedEvidence, SlottedHints
from edgetam_model.parts.planes import planar


@dataclass(frozen=True)
class DecoderInputs:
    """The inputs in the order of `specs`, where they are explained."""

    features: Tensor
    unremembered: Tensor
    stride4: Tensor
    stride8: Tensor
    points: Tensor
    labels: Tensor
    mask_logits: Tensor | None
    has_mask: Tensor | None
    multimask: Tensor
    dynamic_multimask: Tensor


@dataclass(frozen=True)
class DetailInputs:
    """What a model with a refiner takes besides, in the order of `specs`."""

    pyramid4: Tensor
    pyramid8: Tensor
    keys: Tensor
    recent_keys: Tensor
    recent_labels: Tensor
    recent_place: Tensor
    shown_keys: Tensor
    shown_labels: Tensor
    shown_place: Tensor
    seen: Tensor


PLAIN_INPUTS = len(fields(DecoderInputs))
BEFORE_MASK = 6  # inputs; then come the two that tell a mask


class SlottedPrompts(nn.Module):
    """Clicks and box corners in a fixed number of slots become tokens and who may be looked at.

    Args:
        encoder: of the model.
        compact: encode the grid's own places along with the clicks, every time: of a constant, exporters
            store the result, 4 MB. Otherwise it is a constant, which saves a tenth of the decoder's time.
    """

    kinds: Tensor
    centres: Tensor
    grid: Tensor

    def __init__(self, encoder: PromptEncoder, *, compact: bool) -> None:
        super().__init__()
        self.encoder, self.compact = encoder, compact
        self.register_buffer("grid", encoder.grid_position().detach(), persistent=False)
        kinds = torch.tensor([0, 1, 2, 3, NOT_A_POINT], dtype=torch.int32)
        self.register_buffer("kinds", kinds, persistent=False)
        across = (torch.arange(encoder.grid, dtype=torch.float32) + 0.5) / encoder.grid
        y, x = torch.meshgrid(across, across, indexing="ij")
        self.register_buffer("centres", torch.stack((x, y), dim=-1).flatten(0, 1)[None], persistent=False)

    def forward(self, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, 2) and (B, N) → tokens (B, N + 1, C), their biases (B, N + 1), and the grid (1, C, h, w)."""
        encoder, (batch, slots) = self.encoder, labels.shape
        kind = (labels[..., None] == self.kinds).to(points.dtype)
        table = torch.cat([e.weight for e in (*encoder.point_embeddings, encoder.not_a_point_embed)])
        places, grid = (points + 0.5) / encoder.image_size, self.grid
        if self.compact:
            encoded = encoder.pe_layer(torch.cat((places, self.centres.expand(batch, -1, -1)), dim=1))
            places = encoded[:, :slots]
            grid = encoded[:1, slots:].transpose(1, 2).reshape(1, -1, encoder.grid, encoder.grid)
        else:
            places = encoder.pe_layer(places)
        clicked, used = kind[..., :4].sum(-1, keepdim=True), kind.sum(-1)
        empty = encoder.not_a_point_embed.weight.expand(len(points), 1, -1)
        tokens = torch.cat((places * clicked + kind @ table, empty), dim=1)
        return tokens, F.pad((1 - used) * CLOSED, (0, 1)), grid


class MaskDecoderPart(nn.Module):
    """`EdgeTAM.decode` with everything that may be missing as an input and a gate.

    The masks come out whether the object is there or not; what its score means is the host's business.
    """

    compact = True

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__()
        config = model.config
        self.pools = config.mask_size != config.low_res
        self.prompts = SlottedPrompts(model.sam_prompt_encoder, compact=self.compact)
        self.decoder = model.sam_mask_decoder
        self.obj_ptr_proj = model.obj_ptr_proj
        self.no_mem_embed = model.no_mem_embed
        self.evidence: SlottedEvidence | None = None
        if model.evidence is not None:
            self.evidence = SlottedEvidence(model.evidence, config.image_size, config.low_res)
            self.evidence_proj = model.evidence_proj
        self.stability = Stability()
        self.refiner = model.refiner

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See `specs`."""
        given, details = self._told(*tensors)
        evidence = self._evidence(given, details)
        out = self._offer(given, evidence)
        gates = (given.multimask[:, None], given.dynamic_multimask[:, None])
        token, chosen = _choices(out, self.stability(out.logits[:, 0])[:, None], *gates)
        logits = (chosen[:, None] @ out.logits.flatten(2)).reshape(out.logits[:, 0].shape)
        iou = (chosen * out.ious).sum(1)
        pointer = self.obj_ptr_proj((token[:, None] @ out.tokens).squeeze(1))
        if self.refiner is not None and details is not None:
            logits, iou = self.refiner(details.pyramid4, details.pyramid8, out.features, evidence, logits)
        return logits, iou, out.object_score.squeeze(1), pointer, out.logits, out.ious

    def _told(self, *tensors: Tensor) -> tuple[DecoderInputs, DetailInputs | None]:
        details = DetailInputs(*tensors[PLAIN_INPUTS:]) if self.evidence is not None else None
        return DecoderInputs(*tensors[:PLAIN_INPUTS]), details

    def _offer(self, given: DecoderInputs, evidence: Tensor | None) -> DecoderOutput:
        sparse, bias, position = self.prompts(given.points, given.labels)
        where = _rows(position)
        out: DecoderOutput = self.decoder.of_places(
            self._places(given, evidence), where, sparse, given.stride4, given.stride8, bias
        )
        return out

    def _places(self, given: DecoderInputs, evidence: Tensor | None) -> Tensor:
        """(B, N, C) what the decoder sees of the picture, dense prompt included."""
        fresh = given.unremembered[:, None, None, None]
        features = given.features + fresh * self.no_mem_embed.reshape(1, -1, 1, 1)
        if evidence is not None:
            features = features + self.evidence_proj(unshuffle(evidence, LOW_RES_STRIDE))
        return _rows(features + self._dense(given))

    def _dense(self, given: DecoderInputs) -> Tensor:
        """(B, C, h, w), or (1, C, 1, 1) where no mask is told."""
        encoder = self.prompts.encoder
        if given.mask_logits is None or given.has_mask is None:
            return encoder.dense(None)
        prompt, has_mask = given.mask_logits[:, None], given.has_mask[:, None, None, None]
        if self.pools:
            prompt = F.avg_pool2d(prompt, LOW_RES_STRIDE)
        return has_mask * encoder.dense(prompt) + (1 - has_mask) * encoder.dense(None)

    def _evidence(self, given: DecoderInputs, details: DetailInputs | None) -> Tensor | None:
        if self.evidence is None or details is None:
            return None
        recent = PlacedTrace(details.recent_keys, details.recent_labels, details.recent_place)
        shown = PlacedTrace(details.shown_keys, details.shown_labels, details.shown_place)
        previous = None if given.mask_logits is None else labels_of(given.mask_logits)
        hints = SlottedHints(given.points, given.labels, previous, given.has_mask)
        out: Tensor = self.evidence(details.keys, recent, shown, details.seen, hints)
        return out


class RuntimeDecoderPart(MaskDecoderPart):
    """The same in the forms of `planes` and `crossing`, from maps with channels last.

    Args:
        model: whose weights it shares.
        masked: whether a mask may be among the prompts; otherwise `forward` takes none.
    """

    compact = False

    def __init__(self, model: EdgeTAM, *, masked: bool) -> None:
        super().__init__(model)
        self.decoder = crossing(planar(model.sam_mask_decoder))
        self.masked = masked

    def _told(self, *tensors: Tensor) -> tuple[DecoderInputs, DetailInputs | None]:
        mask = () if self.masked else (None, None)
        plain, details = (*tensors[:BEFORE_MASK], *mask, *tensors[BEFORE_MASK:])[:PLAIN_INPUTS], None
        given = DecoderInputs(*plain)
        given = replace(given, stride4=_channels_first(given.stride4), stride8=_channels_first(given.stride8))
        if self.evidence is not None:
            details = DetailInputs(*tensors[PLAIN_INPUTS - len(mask) :])
            fine, middle = _channels_first(details.pyramid4), _channels_first(details.pyramid8)
            details = replace(details, pyramid4=fine, pyramid8=middle)
        return given, details

    def _places(self, given: DecoderInputs, evidence: Tensor | None) -> Tensor:
        """See `MaskDecoderPart`."""
        fresh = given.unremembered[:, None, None]
        places = given.features.flatten(1, 2) + fresh * self.no_mem_embed.reshape(1, 1, -1)
        if evidence is not None:
            places = places + _rows(self.evidence_proj(unshuffle(evidence, LOW_RES_STRIDE)))
        return places + _rows(self._dense(given))


class Stability(nn.Module):
    """Whether masks hardly change when their threshold moves by ± delta. Counts go far beyond float16."""

    def forward(self, logits: Tensor) -> Tensor:
        """(B, h, w) → (B,) 1 or 0."""
        inner = (logits > STABILITY_DELTA).to(logits.dtype).flatten(1).sum(dim=1)
        outer = (logits > -STABILITY_DELTA).to(logits.dtype).flatten(1).sum(dim=1)
        nothing = (outer == 0).to(logits.dtype)  # an empty mask is stable
        return ((inner + nothing) / outer.clamp(min=1) >= STABILITY_THRESHOLD).to(logits.dtype)


def _rows(maps: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H · W, C)."""
    return maps.flatten(2).transpose(1, 2)


def _channels_first(maps: Tensor) -> Tensor:
    """(B, H, W, C) → (B, C, H, W)."""
    return maps.permute(0, 3, 1, 2)


def _choices(out: DecoderOutput, stable: Tensor, multimask: Tensor, dynamic: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 4) one-hot: the mask whose token makes the pointer, and the mask that is shown."""
    ious = out.ious
    masks = torch.arange(MASKS, device=ious.device)
    best = ((1 + ious[:, 1:].argmax(dim=1, keepdim=True)) == masks).to(ious.dtype)
    single = (masks == 0).to(ious.dtype).expand(len(ious), -1)
    token = multimask * best + (1 - multimask) * single
    unstable = dynamic * (1 - multimask) * (1 - stable)
    return token, unstable * best + (1 - unstable) * token
