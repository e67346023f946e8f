"""transformers' layout of EdgeTAM, written from its side, must lead back to every published entry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgetam_model.config import CONFIGS
from edgetam_model.errors import WeightsError
from edgetam_model.hf_layout import is_hf_layout, published_name, to_published
from edgetam_model.model import EdgeTAM
from edgetam_model.weights import import_checkpoint, load_model

PUBLISHED_NAMES = list(json.loads((Path(__file__).parent / "parity" / "state_dict.json").read_text()))

# One entry of every kind, as `EdgeTamVideoModel` names it.
KNOWN = {
    "vision_encoder.backbone.timm_model.stem.conv1.c.weight": "image_encoder.trunk.body.stem.conv1.c.weight",
    "vision_encoder.backbone.timm_model.stages_2.blocks.4.se.fc1.bias": (
        "image_encoder.trunk.body.stages_2.blocks.4.se.fc1.bias"
    ),
    "vision_encoder.neck.convs.3.weight": "image_encoder.neck.convs.3.conv.weight",
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "no_object_pointer": "no_obj_ptr",
    "mask_downsample.weight": "mask_downsample.weight",
    "object_pointer_proj.proj_in.weight": "obj_ptr_proj.layers.0.weight",
    "object_pointer_proj.layers.0.weight": "obj_ptr_proj.layers.1.weight",
    "object_pointer_proj.proj_out.weight": "obj_ptr_proj.layers.2.weight",
    "prompt_encoder.not_a_point_embed.weight": "sam_prompt_encoder.not_a_point_embed.weight",
    "prompt_encoder.mask_embed.layer_norm2.bias": "sam_prompt_encoder.mask_downscaling.4.bias",
    "prompt_encoder.mask_embed.conv3.weight": "sam_prompt_encoder.mask_downscaling.6.weight",
    "mask_decoder.upscale_conv2.weight": "sam_mask_decoder.output_upscaling.3.weight",
    "mask_decoder.upscale_layer_norm.weight": "sam_mask_decoder.output_upscaling.1.weight",
    "mask_decoder.transformer.layers.1.mlp.proj_out.weight": (
        "sam_mask_decoder.transformer.layers.1.mlp.layers.1.weight"
    ),
    "mask_decoder.transformer.layers.0.layer_norm4.weight": (
        "sam_mask_decoder.transformer.layers.0.norm4.weight"
    ),
    "mask_decoder.transformer.layer_norm_final_attn.bias": (
        "sam_mask_decoder.transformer.norm_final_attn.bias"
    ),
    "mask_decoder.transformer.final_attn_token_to_image.o_proj.weight": (
        "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.weight"
    ),
    "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias": (
        "sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.bias"
    ),
    "mask_decoder.pred_obj_score_head.proj_out.bias": "sam_mask_decoder.pred_obj_score_head.layers.2.bias",
    "memory_encoder.mask_downsampler.layers.2.conv.weight": (
        "memory_encoder.mask_downsampler.encoder.6.weight"
    ),
    "memory_encoder.mask_downsampler.layers.3.layer_norm.bias": (
        "memory_encoder.mask_downsampler.encoder.10.bias"
    ),
    "memory_encoder.mask_downsampler.final_conv.weight": "memory_encoder.mask_downsampler.encoder.12.weight",
    "memory_encoder.feature_projection.bias": "memory_encoder.pix_feat_proj.bias",
    "memory_encoder.memory_fuser.layers.1.scale": "memory_encoder.fuser.layers.1.gamma",
    "memory_encoder.memory_fuser.layers.0.depthwise_conv.weight": (
        "memory_encoder.fuser.layers.0.dwconv.weight"
    ),
    "memory_encoder.memory_fuser.layers.0.layer_norm.weight": "memory_encoder.fuser.layers.0.norm.weight",
    "memory_encoder.memory_fuser.layers.0.pointwise_conv2.bias": "memory_encoder.fuser.layers.0.pwconv2.bias",
    "memory_encoder.projection.weight": "memory_encoder.out_proj.weight",
    "memory_attention.layers.1.mlp.down_proj.bias": "memory_attention.layers.1.linear2.bias",
    "memory_attention.layers.1.layer_norm3.weight": "memory_attention.layers.1.norm3.weight",
    "memory_attention.layers.0.cross_attn_image.o_proj.bias": (
        "memory_attention.layers.0.cross_attn_image.out_proj.bias"
    ),
    "memory_attention.layer_norm.weight": "memory_attention.norm.weight",
    "spatial_perceiver.latents_1d": "spatial_perceiver.latents",
    "spatial_perceiver.latents_2d": "spatial_perceiver.latents_2d",
    "spatial_perceiver.layer_norm.bias": "spatial_perceiver.norm.bias",
    "spatial_perceiver.layers.0.layer_norm_input.weight": "spatial_perceiver.layers.0.attn.norm_x.weight",
    "spatial_perceiver.layers.0.layer_norm_self.weight": "spatial_perceiver.layers.0.self_attn.norm.weight",
    "spatial_perceiver.layers.1.cross_attention.q_proj.weight": "spatial_perceiver.layers.1.attn.to_q.weight",
    "spatial_perceiver.layers.1.self_attention.o_proj.weight": (
        "spatial_perceiver.layers.1.self_attn.to_out.weight"
    ),
    "spatial_perceiver.layers.1.mlp.layer_norm.weight": "spatial_perceiver.layers.1.ff.0.weight",
    "spatial_perceiver.layers.1.self_mlp.down_proj.weight": "spatial_perceiver.layers.1.self_ff.3.weight",
}


@pytest.mark.parametrize(("theirs", "ours"), KNOWN.items())
def test_an_entry_of_every_kind(theirs: str, ours: str) -> None:
    assert published_name(theirs) == ours


def perceiver_name(name: str) -> str:
    """transformers' name of a perceiver entry; key-value matrices keep `to_kv` for the split."""
    if name in ("spatial_perceiver.latents", "spatial_perceiver.norm.weight", "spatial_perceiver.norm.bias"):
        return name.replace("latents", "latents_1d").replace(".norm", ".layer_norm")
    parts = name.split(".")
    parts[-2:] = [".".join(parts[-2:])]
    block, rest = ".".join(parts[:3]), ".".join(parts[3:])
    for old, new in (
        ("self_attn.norm.", "layer_norm_self."),
        ("attn.norm_x.", "layer_norm_input."),
        ("attn.norm_latents.", "layer_norm_latents."),
        ("self_attn.", "self_attention."),
        ("attn.", "cross_attention."),
        ("self_ff.", "self_mlp."),
        ("ff.", "mlp."),
    ):
        if rest.startswith(old):
            rest = new + rest.removeprefix(old)
            break
    for old, new in (
        (".to_q.", ".q_proj."),
        (".to_out.", ".o_proj."),
        (".0.", ".layer_norm."),
        (".1.", ".up_proj."),
        (".3.", ".down_proj."),
    ):
        rest = rest.replace(old, new)
    return f"{block}.{rest}"


def their_name(name: str) -> str:
    """transformers' name of a published entry, from the facts of its conversion."""
    if name.startswith("spatial_perceiver."):
        return name if name.endswith("latents_2d") else perceiver_name(name)
    if found := re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(\w+)", name):
        index, end = int(found[1]), found[2]
        place = "final_conv" if index == 12 else f"layers.{index // 3}.{('conv', 'layer_norm')[index % 3]}"
        return f"memory_encoder.mask_downsampler.{place}.{end}"
    if found := re.match(r"(.*(?:_head|_mlps\.\d|obj_ptr_proj))\.layers\.(\d)\.(\w+)", name):
        name = f"{found[1]}.{('proj_in', 'layers.0', 'proj_out')[int(found[2])]}.{found[3]}"
    if found := re.match(r"(sam_mask_decoder\.transformer\..*mlp)\.layers\.(\d)\.(\w+)", name):
        name = f"{found[1]}.{('proj_in', 'proj_out')[int(found[2])]}.{found[3]}"
    for old, new in {
        "image_encoder.trunk.body": "vision_encoder.backbone.timm_model",
        "image_encoder.neck": "vision_encoder.neck",
        "sam_prompt_encoder": "prompt_encoder",
        "sam_mask_decoder": "mask_decoder",
        "pe_layer.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
        "mask_downscaling.0": "mask_embed.conv1",
        "mask_downscaling.1": "mask_embed.layer_norm1",
        "mask_downscaling.3": "mask_embed.conv2",
        "mask_downscaling.4": "mask_embed.layer_norm2",
        "mask_downscaling.6": "mask_embed.conv3",
        "output_upscaling.0": "upscale_conv1",
        "output_upscaling.1": "upscale_layer_norm",
        "output_upscaling.3": "upscale_conv2",
        "maskmem_tpos_enc": "memory_temporal_positional_encoding",
        "no_mem_embed": "no_memory_embedding",
        "no_mem_pos_enc": "no_memory_positional_encoding",
        "obj_ptr": "object_pointer",
        "pix_feat_proj": "feature_projection",
        "memory_encoder.out_proj": "memory_encoder.projection",
        "fuser": "memory_fuser",
        "gamma": "scale",
        "dwconv": "depthwise_conv",
        "pwconv": "pointwise_conv",
        "linear1": "mlp.up_proj",
        "linear2": "mlp.down_proj",
        "out_proj": "o_proj",
        ".norm": ".layer_norm",
    }.items():
        name = name.replace(old, new)
    return name.replace(".conv.", ".") if "vision_encoder.neck" in name else name


def in_their_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".to_kv." in name:
            keys, values = tensor.chunk(2)
            theirs[their_name(name).replace("to_kv", "k_proj")] = keys
            theirs[their_name(name).replace("to_kv", "v_proj")] = values
        elif ".point_embeddings." not in name:
            theirs[their_name(name)] = tensor
    points = [state[f"sam_prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)]
    theirs["prompt_encoder.point_embed.weight"] = torch.cat(points)
    theirs["shared_image_embedding.positional_embedding"] = theirs[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    return theirs


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Every published entry, each with numbers of its own."""
    torch.manual_seed(3)
    shapes = EdgeTAM(CONFIGS["edgetam"]).state_dict()
    return {
        name: torch.rand(tensor.shape) if tensor.is_floating_point() else torch.tensor(0)
        for name, tensor in shapes.items()
    }


@pytest.fixture(scope="module")
def theirs(published: dict[str, Tensor]) -> dict[str, Tensor]:
    return in_their_layout(published)


def test_names_of_all_982_entries_come_back(published: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert sorted(published) == sorted(PUBLISHED_NAMES)
    back = to_published(theirs)
    assert sorted(back) == sorted(PUBLISHED_NAMES)
    assert all(torch.equal(back[name], published[name]) for name in published)


def test_a_file_in_their_layout_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETAM_CACHE", str(tmp_path / "cache"))
    model = EdgeTAM(CONFIGS["tiny"])
    theirs = in_their_layout(model.state_dict())
    save_file({name: tensor.clone() for name, tensor in theirs.items()}, tmp_path / "model.safetensors")
    loaded = load_model(
        import_checkpoint(tmp_path / "model.safetensors", CONFIGS["tiny"]), "cpu"
    ).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_dropped_counters_come_back_as_zero(theirs: dict[str, Tensor], published: dict[str, Tensor]) -> None:
    without = {name: tensor for name, tensor in theirs.items() if "num_batches_tracked" not in name}
    assert len(without) < len(theirs)
    back = to_published(without)
    assert sorted(back) == sorted(published)
    assert all(back[name] == 0 and back[name].dtype == torch.int64 for name in back if "num_batches" in name)


@pytest.mark.parametrize(
    "dropped",
    ["shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"],
)
def test_either_of_the_tied_matrices_is_enough(theirs: dict[str, Tensor], dropped: str) -> None:
    back = to_published({name: tensor for name, tensor in theirs.items() if name != dropped})
    assert sorted(back) == sorted(PUBLISHED_NAMES)


def test_tied_matrices_that_differ_are_refused(theirs: dict[str, Tensor]) -> None:
    other = theirs | {"shared_image_embedding.positional_embedding": torch.zeros(2, 128)}
    with pytest.raises(WeightsError, match="differs from shared_image_embedding"):
        to_published(other)


def test_half_a_key_value_pair_is_refused(theirs: dict[str, Tensor]) -> None:
    value = "spatial_perceiver.layers.1.cross_attention.v_proj.weight"
    with pytest.raises(WeightsError, match=re.escape(value)):
        to_published({name: tensor for name, tensor in theirs.items() if name != value})


def test_two_entries_for_one_are_refused(theirs: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match="a second entry for no_mem_embed"):
        to_published(theirs | {"no_mem_embed": torch.zeros(1, 1, 256)})


def test_layouts_are_told_apart(theirs: dict[str, Tensor], published: dict[str, Tensor]) -> None:
    assert is_hf_layout(theirs)
    assert not is_hf_layout(published)
