"""Pixels become features; features and a mask become a memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetam_model.config import IMAGE_MEAN, IMAGE_STD
from edgetam_model.model import MASK_GAIN, MASK_OFFSET, EdgeTAM
from edgetam_model.nn.evidence import labels_of
from edgetam_model.nn.image_encoder import Lateral
from edgetam_model.parts.planes import Spread, planar


class ImageEncoderPart(nn.Module):
    """`EdgeTAM.encode_image`, from pixels of 0 to 255 on; see `specs` for inputs and outputs.

    The decoder's fine features are two 1×1 convolutions of the trunk's maps in turn. As one they skip maps of
    the pyramid's width, 9 % of the published size's operations.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__()
        encoder, decoder = model.image_encoder, model.sam_mask_decoder
        self.trunk, self.neck = encoder.trunk, encoder.neck
        self.to_stride4 = _joined(encoder.neck.convs[-1], decoder.conv_s0)
        self.to_stride8 = _joined(encoder.neck.convs[-2], decoder.conv_s1)
        self.evidence = model.evidence
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.encoded((pixels / 255 - self.mean) / self.std)

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        """Of normalised pictures (V, 3, S, S)."""
        maps = self.trunk(images)
        pyramid4, pyramid8, *summands = self.neck.summands(maps)  # tracing leaves out what is not used
        stride16 = self.summed(*summands)
        features = (self.handed(self.to_stride4(maps[0])), self.handed(self.to_stride8(maps[1])))
        if self.evidence is None:
            return stride16, *features
        pyramid = (self.handed(pyramid4), self.handed(pyramid8))
        return stride16, *features, *pyramid, self.evidence.keys(pyramid4, images)

    def summed(self, stride16: Tensor, top: Tensor) -> Tensor:
        """The coarse map as it is handed on."""
        return stride16 + top

    def handed(self, maps: Tensor) -> Tensor:
        """A finer map as it is handed on."""
        return maps


class MemoryEncoderPart(nn.Module):
    """`EdgeTAM.encode_memory`, and the labels of `EdgeTAM.trace` where the model leaves traces."""

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__()
        config = model.config
        self.image_size, self.mask_size = config.image_size, config.mask_size
        self.traces = bool(config.evidence_width)
        self.memory_encoder = model.memory_encoder
        self.spatial_perceiver = model.spatial_perceiver

    def forward(self, stride16: Tensor, logits: Tensor, binarize: Tensor) -> tuple[Tensor, ...]:
        full = logits[:, None]
        if self.mask_size != self.image_size:
            full = self.enlarged(full)
        binary = binarize[:, None, None, None]
        probability = binary * (full > 0).to(full.dtype) + (1 - binary) * full.sigmoid()
        dense = self.memory_encoder(stride16, probability * MASK_GAIN + MASK_OFFSET)
        latents = self.spatial_perceiver(dense)
        return (latents, labels_of(logits)) if self.traces else (latents,)

    def enlarged(self, logits: Tensor) -> Tensor:
        """(B, 1, M, M) → (B, 1, S, S)."""
        size = (self.image_size, self.image_size)
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class RuntimeImageEncoderPart(ImageEncoderPart):
    """The same from bytes on; maps come and go with channels last, but for keys, which are remembered."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        side = pixels.shape[2]
        gain, mean = (1 / (255 * self.std.flatten())).repeat(side), (255 * self.mean.flatten()).repeat(side)
        # Row by row: of three channels each, processors fill a sixth of what they compute at once, 2.7 ms.
        images = ((pixels.flatten(2).to(gain.dtype) - mean) * gain).reshape(pixels.shape)
        return self.encoded(images.permute(0, 3, 1, 2))

    def summed(self, stride16: Tensor, top: Tensor) -> Tensor:
        """See `ImageEncoderPart`. Turned before: OpenVINO turns a sum about in 2.3 ms, and these in none."""
        return self.handed(stride16) + self.handed(top)

    def handed(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W, C)."""
        return maps.permute(0, 2, 3, 1)


class RuntimeMemoryEncoderPart(MemoryEncoderPart):
    """The same in the forms of `planes`, from features with channels last."""

    def __init__(self, model: EdgeTAM) -> None:
        super().__init__(model)
        self.memory_encoder = planar(model.memory_encoder)
        self.spread = Spread(self.mask_size, self.image_size)

    def forward(self, stride16: Tensor, logits: Tensor, binarize: Tensor) -> tuple[Tensor, ...]:
        return super().forward(stride16.permute(0, 3, 1, 2), logits, binarize)

    def enlarged(self, logits: Tensor) -> Tensor:
        """See `MemoryEncoderPart`."""
        out: Tensor = self.spread(logits)
        return out


def _joined(lateral: nn.Module, second: nn.Conv2d) -> nn.Conv2d:
    """One 1×1 convolution that does what a `Lateral` and another do in turn."""
    assert isinstance(lateral, Lateral)
    first = lateral.conv
    out = nn.Conv2d(first.in_channels, second.out_channels, 1).to(first.weight)
    assert first.bias is not None
    assert second.bias is not None
    assert out.bias is not None
    mixing, inner = second.weight[:, :, 0, 0], first.weight[:, :, 0, 0]
    with torch.no_grad():
        out.weight.copy_((mixing @ inner)[:, :, None, None])
        out.bias.copy_(mixing @ first.bias + second.bias)
    return out.requires_grad_(False)
