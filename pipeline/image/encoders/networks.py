"""Encoders of pictures, of timm and of transformers: what a network makes of square pictures, as one vector or as a
map.

Weights come from a file, a folder or the Hugging Face Hub's cache. Nothing is downloaded, and no file runs code.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model.weights import read_weights
from vlmixer.pipeline.image.detectors.transformers_folder import (
    MAX_SIDE,
    find_folder,
    load_network,
    load_processor,
    read_config,
    read_json,
    reading,
    settings_hash,
    shown_name,
    weights_hash,
)

KEY = "images.features"
TIMM, TRANSFORMERS = "timm:", "transformers:"
Identity = dict[str, Any]


class Network(Protocol):
    """An encoder. size: the side of the pictures that it takes, in pixels. identity: its name, hashes,
    preprocessing."""

    size: int
    identity: Identity

    def prepare(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures, RGB uint8 (size, size, 3), as the network takes them."""
        ...

    def pool(self, pixels: Tensor) -> Tensor:
        """One vector for each picture: (n, D)."""
        ...

    def map(self, pixels: Tensor) -> Tensor:
        """The last map of each picture, (n, C, rows, columns); of a transformer, its patch tokens."""
        ...


class TimmNetwork:
    """A model of timm. name: its name, or a folder in timm's format. weights: a file (.safetensors, or .pth read with
    weights_only); None for the folder's, or for those of the model in the Hub's cache."""

    def __init__(self, name: str, device: str, *, weights: str | None = None, size: int | None = None) -> None:
        import timm

        folder = name if os.path.isdir(name) else None
        settings = read_json(os.path.join(folder, "config.json"), KEY) if folder else {}
        architecture = str(settings.get("architecture", name))
        if not timm.is_model(architecture):
            raise CallError(f"{KEY}: timm has no model {architecture!r}. `timm.list_models()` lists those that it has.")
        options: dict[str, Any] = {"img_size": size} if size and "vit" in architecture else {}
        with reading(name, KEY):
            self._network: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **options).eval()
        own_cfg: Any = self._network.pretrained_cfg
        changed = settings.get("pretrained_cfg")
        cfg: Identity = {**own_cfg, **(changed if isinstance(changed, dict) else {})}
        if weights is None and folder is None:
            tag = f".{cfg['tag']}" if cfg.get("tag") and "." not in name else ""
            folder = find_folder(f"timm/{name}{tag}", KEY)
        path = weights or os.path.join(str(folder), "model.safetensors")
        if not files.exists(path):
            raise CallError(f"{KEY}: no such file of weights: {path}.")
        own = self._network.state_dict()
        state = read_weights(path, KEY, own.keys())
        absent = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
        if absent:
            raise UserError(
                f"{KEY}: {path} does not fit timm's {architecture}: {len(absent)} of its {len(own)} parameters are "
                f"missing or have another shape, such as {absent[0]}. Give weights with timm's own names."
            )
        self._network.load_state_dict({key: state[key] for key in own})
        self._device = torch.device(device)
        self._network.to(self._device)
        try:
            self.size = size or int(cfg["input_size"][-1])
            self._mean, self._std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
            if not 0 < self.size <= MAX_SIDE:
                raise ValueError(f"{self.size} pixels, expected at most {MAX_SIDE}")
        except (TypeError, ValueError, LookupError, RuntimeError) as error:
            raise UserError(f"{KEY}: {name}: its input_size, mean or std is none of timm's ({error}).") from None
        self.identity: Identity = {
            "name": TIMM + shown_name(name), "weights": f"sha256:{files.sha256(path)}", "size": self.size,
            "mean": list(cfg["mean"]), "std": list(cfg["std"]),
        }  # fmt: skip

    def prepare(self, pictures: Sequence[np.ndarray]) -> Tensor:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        return ((pixels - self._mean) / self._std).to(self._device)

    def pool(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._network(pixels)
        return found

    def map(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._network.forward_features(pixels)
        if found.dim() == 3:
            return _grid(found)
        return found if found.shape[1] == self._network.num_features else found.permute(0, 3, 1, 2)


class TransformersNetwork:
    """A model of transformers, such as DINOv2, CLIP or SigLIP. name: a folder, or OWNER/MODEL in the Hub's cache.

    The vector is that of the picture in the space that it shares with texts, if the model has one; else the pooled
    output, or the class token's state.
    """

    def __init__(self, name: str, device: str, *, size: int | None = None, revision: str | None = None) -> None:
        folder = find_folder(name, KEY, revision)
        config = read_config(folder, KEY)
        from transformers import AutoImageProcessor, AutoModel

        self._network = load_network(AutoModel, folder, config, KEY, may_lack="pooler")
        self._processor = load_processor(AutoImageProcessor, folder, KEY)
        self._device = torch.device(device)
        self._network.to(self._device)
        self.folder = folder
        self._own_size = _side(self._processor)
        self.size = size or self._own_size
        self.identity: Identity = {
            "name": TRANSFORMERS + shown_name(name), "weights": weights_hash(folder, KEY),
            "config": settings_hash(folder), "size": self.size,
        }  # fmt: skip
        for key in ("image_mean", "image_std"):
            if getattr(self._processor, key, None) is not None:
                self.identity[key.removeprefix("image_")] = list(getattr(self._processor, key))

    def prepare(self, pictures: Sequence[np.ndarray]) -> Tensor:
        inputs = self._processor(
            images=list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt",
            input_data_format="channels_last",
        )  # fmt: skip
        pixels: Tensor = inputs["pixel_values"].to(self._device)
        return pixels

    def pool(self, pixels: Tensor) -> Tensor:
        if hasattr(self._network, "get_image_features"):
            found = self._network.get_image_features(pixel_values=pixels, **self._resized())
            vectors: Tensor = getattr(found, "pooler_output", found)
            return vectors
        outputs = self._network(pixel_values=pixels, **self._resized())
        pooled = getattr(outputs, "pooler_output", None)
        states: Tensor = outputs.last_hidden_state
        if pooled is not None:
            return pooled.flatten(1)
        return states[:, 0] if states.dim() == 3 else states.mean((2, 3))

    def map(self, pixels: Tensor) -> Tensor:
        tower = getattr(self._network, "vision_model", self._network)
        states: Tensor = tower(pixel_values=pixels, **self._resized()).last_hidden_state
        return _grid(states) if states.dim() == 3 else states

    @property
    def reads_texts(self) -> bool:
        """Whether the network has vectors of texts in the space of its vectors of pictures."""
        return hasattr(self._network, "get_text_features") and hasattr(self._network, "get_image_features")

    def texts(self, texts: Sequence[str]) -> Tensor:
        """One vector for each text, (n, D), in the space of `pool`."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt",
            max_length=self._network.config.text_config.max_position_embeddings,
        ).to(self._device)  # fmt: skip
        found = self._network.get_text_features(**tokens)
        vectors: Tensor = getattr(found, "pooler_output", found)
        return vectors

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with reading(self.folder, KEY):
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    def _resized(self) -> dict[str, bool]:
        """What a transformer must be told if pictures have another size than in its training."""
        return {} if self.size == self._own_size else {"interpolate_pos_encoding": True}


def _grid(tokens: Tensor) -> Tensor:
    """(n, C, side, side) of the patch tokens (n, T, C), which come after all others."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))


def _side(processor: Any) -> int:
    """The side of the square that an image processor makes of a picture."""
    for name in ("crop_size", "size"):
        found: Any = getattr(processor, name, None)
        for key in ("height", "shortest_edge"):
            value = found.get(key) if hasattr(found, "get") else getattr(found, key, None)
            if value:
                return int(value)
    raise UserError(
        f"{KEY}: the image processor does not say which size it makes pictures. Set `size` in feature_options."
    )
