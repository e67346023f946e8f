"""What every module makes of the golden inputs."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from edgetam_model.engine import to_pixels
from edgetam_model.model import EdgeTAM, normalised
from edgetam_model.model_io import Choice, ImageFeatures
from edgetam_model.nn.memory_attention import Memories
from tests.parity.inputs import disc_mask, frame, uniform
from tests.parity.references import Arrays, fused, golden, published


@torch.inference_mode()
def module_outputs(model: EdgeTAM, jitter: float = 0.0) -> Arrays:
    """Every module's golden arrays from `model`; `jitter` moves the image by that share of a rounding."""
    image = normalised(to_pixels(frame(0), model).float())
    if jitter:
        image = image * (1 + jitter * 2**-23 * torch.from_numpy(uniform("jitter", tuple(image.shape))))
    out: dict[str, torch.Tensor] = {
        f"trunk.{i}": level for i, level in enumerate(model.image_encoder.trunk(image))
    }
    features = model.encode_image(image)
    out |= {
        "features.0": features.stride4,
        "features.1": features.stride8,
        "features.2": features.stride16,
        "features_pos.2": model.feature_position.transpose(1, 2),
    }
    out |= decoder_outputs(model, features) | memory_outputs(model, features)
    return {name: value.numpy() for name, value in out.items()}


def decoder_outputs(model: EdgeTAM, features: ImageFeatures) -> dict[str, torch.Tensor]:
    click, box = [[300, 420]], [[180, 300], [420, 540]]
    prompts = {
        "one_click": (click, [1]),
        "three_clicks": ([[300, 420], [340, 380], [760, 600]], [1, 1, 0]),
        "box": (box, [2, 3]),
        "box_and_click": (box + click, [2, 3, 1]),
    }
    out: dict[str, torch.Tensor] = {}
    for name, (points, labels) in prompts.items():
        decoded = model.decode(
            model.without_memory(features),
            features,
            torch.tensor([points], dtype=torch.float32),
            torch.tensor([labels]),
            choice=Choice(multimask=len(labels) == 1),
        )
        out |= {
            f"decoder.{name}.masks": decoded.candidates,
            f"decoder.{name}.ious": decoded.candidate_ious,
            f"decoder.{name}.best_mask": decoded.logits,
            f"decoder.{name}.object_pointer": decoded.pointer,
            f"decoder.{name}.object_score": decoded.object_score,
        }
    return out


def memory_outputs(model: EdgeTAM, features: ImageFeatures) -> dict[str, torch.Tensor]:
    disc = torch.from_numpy(disc_mask()).float()[None, None]
    prompt = model.from_mask(features, disc)
    full = F.interpolate(prompt.logits[:, None], size=(1024, 1024), mode="bilinear")
    dense = model.memory_encoder(features.stride16, full.sigmoid() * 20 - 10)
    latents_position = model.spatial_perceiver.latents_position
    stored = [torch.from_numpy(uniform(f"input.mem{i}", (512, 2, 64))) for i in range(3)]
    position = latents_position[:, None] + model.maskmem_tpos_enc[[6, 1, 0], 0][None]
    memories = Memories(
        latents=torch.stack(stored).permute(2, 0, 1, 3),
        position=position.expand(2, -1, -1, -1),
        pointers=torch.from_numpy(uniform("input.ptr", (8, 2, 64))).transpose(0, 1),
    )
    tokens = features.stride16.flatten(2).transpose(1, 2)
    return {
        "mask_prompt.low_res": prompt.logits,
        "mask_prompt.object_pointer": prompt.pointer,
        "mask_prompt.object_score": prompt.object_score,
        "memory.dense": dense,
        "memory.latents": model.encode_memory(features, prompt.logits),
        "memory.latents_pos": latents_position,
        "memory_attention": model.memory_attention(tokens, model.feature_position, memories).transpose(0, 1),
    }


@cache
def modules() -> tuple[Arrays, list[Arrays]]:
    others = [module_outputs(fused()), *(module_outputs(published(), jitter) for jitter in (1, -1))]
    return module_outputs(published()), others


def modules_by_conditioning() -> tuple[list[str], list[str]]:
    names = [name for name in golden() if not name.startswith("video.")]
    amplified = [n for n in names if n.startswith("decoder.") or n == "mask_prompt.object_pointer"]
    return [n for n in names if n not in amplified], amplified
