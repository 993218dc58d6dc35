"""BERT weights in the Hugging Face layout as the start of a network."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vlmixer.artifacts.errors import UserError
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.weights import find_weights

OF_THE_VOCABULARY = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")
"""Parameters whose first dimension is the number of word pieces."""


def load_bert(network: Network, path: str, config: ModelConfig) -> None:
    """Load Hugging Face's BERT weights into the encoder and, if the file has one, the head for masked words.

    Knows the parameter names of BertModel and BertForPreTraining, also below other wrappers. Parts that BERT lacks keep
    their initial values. Raises UserError naming the first parameter that is missing or has another shape.
    """
    found = _fitting(path, network.state_dict(), config)
    network.load_state_dict(found, strict=False)


def check_bert(path: str, config: ModelConfig, vocabulary_size: int | None) -> None:
    """Check that the weights are there and fit the config. vocabulary_size: None if it is not known yet.

    Raises UserError as `load_bert` does.
    """
    with torch.device("meta"):  # shapes without values
        own = Network(config, vocabulary_size or 1, config.feature_dim or 1).state_dict()
    _fitting(path, own, config, except_for=OF_THE_VOCABULARY if vocabulary_size is None else ())


def _fitting(
    path: str, own: Mapping[str, Tensor], config: ModelConfig, except_for: Iterable[str] = ()
) -> dict[str, Tensor]:
    """The weights by the names of a network's `own` parameters, whose shapes they must have."""
    needed = {name for name in own if name.startswith("bert.") and "region_embeddings" not in name}
    bare = {name.removeprefix("bert.") for name in needed}
    found = find_weights(path, "model.init", bare, usual=("", "bert."), rename=_current_name)
    if "roberta." in found.prefix:
        raise UserError(
            f"model.init: {path} has RoBERTa's weights, which count positions differently from BERT's. Give weights of "
            "a BERT."
        )
    renamed = {f"bert.{name}": value for name, value in found.below(found.prefix).items()}
    heads = found.below(found.prefix.removesuffix("bert.") + "cls.")
    renamed |= {f"cls.{name}": value for name, value in heads.items()}
    table = "bert.embeddings.position_embeddings.weight"
    if table in renamed:
        renamed[table] = renamed[table][: config.max_text_tokens]
    heads_found = {name for name in own if name.startswith("cls.") and name in renamed}
    for name in sorted((needed | heads_found).difference(except_for)):
        shape = tuple(renamed[name].shape) if name in renamed else None
        if shape != tuple(own[name].shape):
            raise UserError(
                f"model.init: {path} has {name} of shape {shape}, the config needs {tuple(own[name].shape)}. "
                "Set the sizes in the model section to those of the weights, and model.tokenizer to their vocabulary."
            )
    return {name: renamed[name] for name in own if name in renamed}


def _current_name(name: str) -> str:
    """In older files the weight and bias of LayerNorm are called gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
