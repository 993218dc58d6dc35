"""Small encoders with random weights, as files and folders."""

from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import save_file


def write_timm(name: str, path: Path) -> Path:
    """A file with random weights for a model of timm."""
    torch.manual_seed(0)
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), path)
    return path


def _clip() -> tuple[Any, Any]:
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 90}, vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    return transformers.CLIPModel(config), transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)


def _siglip() -> tuple[Any, Any]:
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**tower, "vocab_size": 90}, vision_config={**tower, "image_size": 32, "patch_size": 8}
    )
    return transformers.SiglipModel(config), transformers.SiglipImageProcessor(size={"height": 32, "width": 32})


def _dinov2() -> tuple[Any, Any]:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, num_register_tokens=3
    )
    size = {"height": 32, "width": 32}
    images = transformers.BitImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    return transformers.Dinov2WithRegistersModel(config), images


def _vit() -> tuple[Any, Any]:
    """As checkpoints of classifiers are: without a pooler."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    images = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    return transformers.ViTModel(config, add_pooling_layer=False), images


def _resnet() -> tuple[Any, Any]:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1] * 4, layer_type="basic"
    )
    images = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    return transformers.ResNetModel(config), images


ENCODERS = {"clip": _clip, "siglip": _siglip, "dinov2": _dinov2, "vit": _vit, "resnet": _resnet}


def write_encoder(kind: str, folder: Path) -> Path:
    """A folder with a model of transformers of this kind."""
    from vlmixer.pipeline.image.detectors.transformers_folder import quiet

    torch.manual_seed(0)
    network, images = ENCODERS[kind]()
    with quiet():
        network.save_pretrained(folder)
        images.save_pretrained(folder)
    return folder
