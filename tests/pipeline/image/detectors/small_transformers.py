"""Small models of the transformers library with random weights, in folders as save_pretrained writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

LABELS = ["dog", "cat", "car", "N/A", "person"]
NAMES: dict[str, Any] = {"id2label": dict(enumerate(LABELS))}
BY_EDGE = {"shortest_edge": 48, "longest_edge": 80}
SQUARE = {"height": 64, "width": 64}

_DETR: dict[str, Any] = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_queries": 7, **NAMES,
}  # fmt: skip
_RT_DETR: dict[str, Any] = {
    "d_model": 16, "encoder_hidden_dim": 16, "encoder_in_channels": [12, 16, 20], "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2, "decoder_in_channels": [16] * 3, "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2, "decoder_layers": 2, "num_queries": 9, "num_denoising": 0, **NAMES,
}  # fmt: skip
_STAGES: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1] * 4, "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip


def _resnet() -> Any:
    return transformers.ResNetConfig(**_STAGES)


def _hgnet() -> Any:
    make: Any = transformers.HGNetV2Config
    return make(
        stem_channels=[3, 8, 8], stage_in_channels=[8, 12, 12, 16], stage_mid_channels=[8] * 4,
        stage_out_channels=[12, 12, 16, 20], hidden_sizes=[12, 12, 16, 20], stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


def _d_fine() -> tuple[Any, Any]:
    return (
        transformers.DFineConfig(backbone_config=_hgnet(), **_RT_DETR),
        transformers.RTDetrImageProcessor(size=SQUARE),
    )


def _detr() -> tuple[Any, Any]:
    return (
        transformers.DetrConfig(backbone_config=_resnet(), d_model=16, **_DETR),
        transformers.DetrImageProcessor(size=BY_EDGE),
    )


def _conditional() -> tuple[Any, Any]:
    return (
        transformers.ConditionalDetrConfig(backbone_config=_resnet(), d_model=16, **_DETR),
        transformers.ConditionalDetrImageProcessor(size=BY_EDGE),
    )


def _deformable() -> tuple[Any, Any]:
    return (
        transformers.DeformableDetrConfig(
            backbone_config=_resnet(),
            d_model=64,
            two_stage=True,
            with_box_refine=True,
            two_stage_num_proposals=7,
            **_DETR,
        ),
        transformers.DeformableDetrImageProcessor(size=BY_EDGE),
    )


def _rt_detr() -> tuple[Any, Any]:
    backbone = transformers.RTDetrResNetConfig(**_STAGES)
    return (
        transformers.RTDetrV2Config(backbone_config=backbone, **_RT_DETR),
        transformers.RTDetrImageProcessor(size=SQUARE),
    )


def _lw_detr() -> tuple[Any, Any]:
    make: Any = transformers.LwDetrViTConfig
    backbone = make(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, pretrain_image_size=64,
        patch_size=16, num_windows=4, window_block_indices=[0], out_indices=[1, 2],
    )  # fmt: skip
    config = transformers.LwDetrConfig(
        backbone_config=backbone, projector_scale_factors=[1.0], d_model=32, decoder_ffn_dim=16, decoder_layers=2,
        decoder_self_attention_heads=2, decoder_cross_attention_heads=2, num_queries=9, group_detr=2,
        decoder_n_points=2, **NAMES,
    )  # fmt: skip
    return config, transformers.DeformableDetrImageProcessor(size=SQUARE)


def _yolos() -> tuple[Any, Any]:
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=[64, 96],
        num_detection_tokens=8, **NAMES,
    )  # fmt: skip
    return config, transformers.YolosImageProcessor(size=BY_EDGE)


KINDS: dict[str, tuple[Callable[[], tuple[Any, Any]], str]] = {
    "detr": (_detr, "class_labels_classifier"),
    "conditional_detr": (_conditional, "class_labels_classifier"),
    "deformable_detr": (_deformable, "class_embed.1"),
    "rt_detr_v2": (_rt_detr, "model.decoder.class_embed.1"),
    "d_fine": (_d_fine, "model.decoder.class_embed.1"),
    "lw_detr": (_lw_detr, "class_embed"),
    "yolos": (_yolos, "class_labels_classifier"),
}
"""A maker of config and image processor, and the module that predicts classes: what goes in is a query's state."""


def write_model(kind: str, folder: Path) -> Path:
    """Write a model of this kind with random weights, large enough that queries differ."""
    from transformers import AutoModelForObjectDetection

    from vlmixer.pipeline.image.detectors.transformers_folder import quiet

    config, processor = KINDS[kind][0]()
    torch.manual_seed(0)
    network = AutoModelForObjectDetection.from_config(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.copy_(torch.randn_like(parameter) * (1.2 / parameter[0].numel() ** 0.5))
    with quiet():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
