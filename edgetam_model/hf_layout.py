"""EdgeTAM as Hugging Face transformers stores it (`EdgeTamVideoModel`), mapped to the published entry names.

Source of the facts: transformers' conversion script for EdgeTAM video and its module names. The differences:
names; the perceiver's joint key-value matrix is split in two; the four point embeddings are one table; the
prompt encoder's Gaussian matrix may be there twice (tied) or only under its second name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from edgetam_model.errors import WeightsError

_GAUSSIAN = "prompt_encoder.shared_embedding.positional_embedding"
_GAUSSIAN_TIED = "shared_image_embedding.positional_embedding"
_POINTS = "prompt_encoder.point_embed.weight"

# Three-layer heads: first, middle and last layer have names of their own.
_HEAD = r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head|object_pointer_proj)\."
_MASK_EMBED = {"conv1": 0, "layer_norm1": 1, "conv2": 3, "layer_norm2": 4, "conv3": 6}
_UPSCALE = {"upscale_conv1": 0, "upscale_layer_norm": 1, "upscale_conv2": 3}
_MLP = {"layer_norm": 0, "up_proj": 1, "down_proj": 3}

# Applied in this order, each to what the ones before left: places first, then parts, then general words.
_RULES: tuple[tuple[str, str], ...] = (
    (_HEAD + r"layers\.0\.", r"\1.layers.1."),
    (_HEAD + r"proj_in\.", r"\1.layers.0."),
    (_HEAD + r"proj_out\.", r"\1.layers.2."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_in\.", r"\1.layers.0."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_out\.", r"\1.layers.1."),
    (r"^vision_encoder\.backbone\.timm_model\.", "image_encoder.trunk.body."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (rf"^{re.escape(_GAUSSIAN)}$", "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    *(
        (rf"^prompt_encoder\.mask_embed\.{part}\.", f"prompt_encoder.mask_downscaling.{i}.")
        for part, i in _MASK_EMBED.items()
    ),
    *((rf"^mask_decoder\.{part}\.", f"mask_decoder.output_upscaling.{i}.") for part, i in _UPSCALE.items()),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    # The mask downsampler is one sequence there: convolution, norm and activation in turn.
    *(
        (rf"(mask_downsampler)\.layers\.{i}\.{part}\.", rf"\1.encoder.{3 * i + offset}.")
        for i in range(4)
        for part, offset in (("conv", 0), ("layer_norm", 1))
    ),
    (r"(mask_downsampler)\.final_conv\.", r"\1.encoder.12."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^(memory_encoder)\.memory_fuser\.(layers\.\d+)\.scale$", r"\1.fuser.\2.gamma"),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv([12])\.", r".pwconv\1."),
    (r"^(memory_attention\.layers\.\d+)\.mlp\.up_proj\.", r"\1.linear1."),
    (r"^(memory_attention\.layers\.\d+)\.mlp\.down_proj\.", r"\1.linear2."),
    (r"^spatial_perceiver\.latents_1d$", "spatial_perceiver.latents"),
    *(
        (rf"^(spatial_perceiver\.layers\.\d+)\.{theirs}\.{part}\.", rf"\1.{ours}.{i}.")
        for theirs, ours in (("mlp", "ff"), ("self_mlp", "self_ff"))
        for part, i in _MLP.items()
    ),
    (r"^(spatial_perceiver\.layers\.\d+)\.layer_norm_input\.", r"\1.attn.norm_x."),
    (r"^(spatial_perceiver\.layers\.\d+)\.layer_norm_latents\.", r"\1.attn.norm_latents."),
    (r"^(spatial_perceiver\.layers\.\d+)\.layer_norm_self\.", r"\1.self_attn.norm."),
    (r"^(spatial_perceiver\.layers\.\d+)\.cross_attention\.", r"\1.attn."),
    (r"^(spatial_perceiver\.layers\.\d+)\.self_attention\.", r"\1.self_attn."),
    (r"^(spatial_perceiver\..*)\.q_proj\.", r"\1.to_q."),
    (r"^(spatial_perceiver\..*)\.o_proj\.", r"\1.to_out."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.layer_norm", ".norm"),
)


def is_hf_layout(names: Mapping[str, object]) -> bool:
    """Whether these entry names are those of transformers (its image encoder is called vision encoder)."""
    return any(name.startswith("vision_encoder.") for name in names)


def published_name(name: str) -> str:
    """Published name of a transformers entry that holds one tensor for one."""
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of transformers' layout as the published ones; counters of batch norms that it drops become 0.

    Raises:
        WeightsError: two entries that claim the same published one, or half of a key-value pair.
    """
    left = dict(state)
    entries = _points(left) | _gaussian(left) | _key_values(left)
    for name, tensor in left.items():
        target = published_name(name)
        if target in entries:
            raise WeightsError(f"{name}: a second entry for {target}")
        entries[target] = tensor
    means = [name for name in entries if name.endswith(".running_mean")]
    counters = {name.removesuffix("running_mean") + "num_batches_tracked" for name in means}
    return entries | {name: torch.tensor(0) for name in counters - entries.keys()}


def _points(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """(4, C) table → four (1, C) embeddings."""
    if _POINTS not in left:
        return {}
    rows = left.pop(_POINTS).unbind()
    return {f"sam_prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(rows)}


def _gaussian(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prompt encoder's Gaussian matrix from either of its tied names."""
    found = [left.pop(name) for name in (_GAUSSIAN, _GAUSSIAN_TIED) if name in left]
    if len(found) == 2 and not torch.equal(*found):
        raise WeightsError(f"{_GAUSSIAN}: differs from {_GAUSSIAN_TIED}, expected the same matrix")
    return {published_name(_GAUSSIAN): found[0]} if found else {}


def _key_values(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """The perceiver's key and value matrices, keys first, as one."""
    joined = {}
    for key in [name for name in left if name.startswith("spatial_perceiver.") and ".k_proj." in name]:
        value = key.replace(".k_proj.", ".v_proj.")
        if value not in left:
            raise WeightsError(f"{value}: missing, its keys are there")
        target = published_name(key).replace(".k_proj.", ".to_kv.")
        joined[target] = torch.cat([left.pop(key), left.pop(value)])
    return joined
