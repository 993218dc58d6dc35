"""Small open-vocabulary models of the transformers library with random weights and tokenizers of letters."""

import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.pipeline.image.detectors.small_transformers import BY_EDGE, SQUARE

_SWIN: Any = transformers.SwinConfig  # whose checked signature lacks out_features
OPEN_KINDS = ("owlv2", "owlvit", "grounding-dino", "omdet-turbo")


def clip_tokenizer() -> Any:
    """Of letters."""
    letters = [*string.ascii_lowercase, *string.digits, ",", ".", "'", "-"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])


def _bert_tokenizer() -> Any:
    """The numbers of special tokens are those of BERT, which Grounding DINO has in its code."""
    letters = [*string.ascii_lowercase, *string.digits, ",", "'", "-"]
    words = [*letters, *(f"##{letter}" for letter in letters)]
    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    free = iter(number for number in range(1, 100 + len(words)) if number not in names)
    names |= {next(free): word for word in words}
    vocabulary = {names.get(number, f"[unused{number}]"): number for number in range(1030)}
    return transformers.BertTokenizer(vocab=vocabulary)


def _owl(second: bool) -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 77, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16,
    }  # fmt: skip
    if second:
        config: Any = transformers.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
        return config, transformers.Owlv2Processor(transformers.Owlv2ImageProcessor(size=SQUARE), tokenizer)
    config = transformers.OwlViTConfig(text_config=text, vision_config=vision, projection_dim=16)
    images = transformers.OwlViTImageProcessor(size=SQUARE, crop_size=SQUARE)
    return config, transformers.OwlViTProcessor(images, tokenizer)


def _grounding_dino() -> tuple[Any, Any]:
    backbone = _SWIN(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=1030, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=64, num_queries=6, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16, max_text_len=256,
        fusion_droppath=0.0,
    )  # fmt: skip
    images = transformers.GroundingDinoImageProcessor(size=BY_EDGE)
    return config, transformers.GroundingDinoProcessor(images, _bert_tokenizer())


def _omdet() -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    backbone = _SWIN(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=16, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    config = transformers.OmDetTurboConfig(
        backbone_config=backbone, text_config=text, text_projection_in_dim=24, text_projection_out_dim=24,
        task_encoder_hidden_dim=16, class_embed_dim=24, num_queries=6, encoder_hidden_dim=16,
        apply_layernorm_after_vision_backbone=False,
        vision_features_channels=[16, 16, 16], encoder_in_channels=[16, 32, 64], encoder_attention_heads=2,
        encoder_dim_feedforward=16, decoder_hidden_dim=16, decoder_num_heads=2, decoder_num_layers=2,
        decoder_dim_feedforward=16, decoder_num_points=2, disable_custom_kernels=True,
    )  # fmt: skip
    images = transformers.DetrImageProcessor(size=SQUARE, do_pad=False)
    return config, transformers.OmDetTurboProcessor(images, tokenizer)


def write_open_model(kind: str, folder: Path) -> Path:
    """Write a model of this kind with random weights."""
    from transformers import AutoModelForZeroShotObjectDetection

    from vlmixer.pipeline.image.detectors.transformers_folder import quiet

    makers = {
        "owlv2": lambda: _owl(True), "owlvit": lambda: _owl(False), "grounding-dino": _grounding_dino,
        "omdet-turbo": _omdet,
    }  # fmt: skip
    config, processor = makers[kind]()
    torch.manual_seed(0)
    network = AutoModelForZeroShotObjectDetection.from_config(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.copy_(torch.randn_like(parameter) * (1.2 / parameter[0].numel() ** 0.5))
    with quiet():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
