"""Image features and prompt tokens become four masks, their estimated IoU and an object score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import EdgeTAMConfig
from edgetam_model.nn.layers import MLP, LayerNorm2d
from edgetam_model.nn.two_way import TwoWayTransformer

MASKS = 4  # token 0 serves unambiguous prompts, tokens 1–3 are the alternatives of an ambiguous one


@dataclass(frozen=True)
class DecoderOutput:
    """Every mask token's answer. S = side of the low-resolution logits.

    Attributes:
        logits: (B, 4, S, S).
        ious: (B, 4) in 0 … 1.
        tokens: (B, 4, C) mask tokens, from which object pointers are made.
        object_score: (B, 1) logit.
        features: (B, C, H, W) image features after the transformer.
        evidence: (B, E, S, S) what the model went by besides, where it has a refiner.
    """

    logits: Tensor
    ious: Tensor
    tokens: Tensor
    object_score: Tensor
    features: Tensor
    evidence: Tensor | None = None


class MaskDecoder(nn.Module):
    """SAM 2's mask decoder with high-resolution features and an object score (arXiv 2408.00714)."""

    def __init__(self, config: EdgeTAMConfig) -> None:
        super().__init__()
        width = config.width
        self.transformer = TwoWayTransformer(
            width, config.decoder_depth, config.decoder_heads, config.decoder_mlp
        )
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASKS, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(width, width // 8, 1)
        self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(MASKS))
        self.iou_prediction_head = MLP(width, width, MASKS, 3)
        self.pred_obj_score_head = MLP(width, width, 1, 3)

    def forward(
        self,
        features: Tensor,
        position: Tensor,
        sparse: Tensor,
        stride4: Tensor,
        stride8: Tensor,
        sparse_bias: Tensor | None = None,
    ) -> DecoderOutput:
        """Decode one prompt per object.

        Args:
            features: (B, C, H, W) stride-16 features with the dense prompt added.
            position: (1, C, H, W) of that grid.
            sparse: (B, N, C) prompt tokens.
            stride4, stride8: `conv_s0` and `conv_s1` of the image, batch 1 or B.
            sparse_bias: (B, N) 0, or −1e4 for prompt tokens that stand for nothing; None: all count.
        """
        places, where = (x.flatten(2).transpose(1, 2) for x in (features, position))
        return self.of_places(places, where, sparse, stride4, stride8, sparse_bias)

    def of_places(
        self,
        places: Tensor,
        position: Tensor,
        sparse: Tensor,
        stride4: Tensor,
        stride8: Tensor,
        sparse_bias: Tensor | None,
    ) -> DecoderOutput:
        """The same of (B, N, C) places and the position (1, N, C), row by row of the grid."""
        batch, (height, width) = len(places), (side // 2 for side in stride8.shape[2:])
        own = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat((own.expand(batch, -1, -1), sparse), dim=1)
        bias = None
        if sparse_bias is not None:
            bias = F.pad(sparse_bias, (len(own), 0))[:, None, None]
        tokens, image = self.transformer(tokens, places, position, bias)
        mask_tokens = tokens[:, 2 : 2 + MASKS]
        decoded = image.transpose(1, 2).unflatten(2, (height, width))
        upscaled = self._upscale(decoded, stride4, stride8)
        mixers = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        # Pixel by pixel, as convolutions on processors leave them: the other way round, OpenVINO first turns
        # 8 MB about, a fifth of the decoder's time.
        logits = upscaled.permute(0, 2, 3, 1).flatten(1, 2) @ mixers.transpose(1, 2)
        return DecoderOutput(
            logits=logits.transpose(1, 2).unflatten(2, upscaled.shape[2:]),
            ious=self.iou_prediction_head(tokens[:, 1]).sigmoid(),
            tokens=mask_tokens,
            object_score=self.pred_obj_score_head(tokens[:, 0]),
            features=decoded,
        )

    def _upscale(self, image: Tensor, stride4: Tensor, stride8: Tensor) -> Tensor:
        to8, norm, _, to4, _ = self.output_upscaling
        return F.gelu(to4(F.gelu(norm(to8(image) + stride8))) + stride4)
