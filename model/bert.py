"""BERT weights in the Hugging Face layout as the start of a network."""

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network


def load_bert(network: Network, path: str, config: ModelConfig) -> None:
    """Load Hugging Face's BERT weights into the encoder and, if the file has one, the head for masked words.

    Knows the parameter names of BertModel and BertForPreTraining. Parts that BERT lacks keep their initial values.
    Raises UserError naming the first parameter that is missing or has another shape.
    """
    try:
        given = safetensors.torch.load(files.read_bytes(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"model.init: {path} is not readable as safetensors ({error}).") from None
    renamed: dict[str, Tensor] = {}
    for name, value in given.items():
        # In older files the weight and bias of LayerNorm are called gamma and beta.
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        renamed[new if new.startswith(("bert.", "cls.")) else f"bert.{new}"] = value
    table = "bert.embeddings.position_embeddings.weight"
    if table in renamed:
        renamed[table] = renamed[table][: config.max_text_tokens]
    own = network.state_dict()
    heads = {name for name in own if name.startswith("cls.")}
    needed = {name for name in own if name.startswith("bert.") and "region_embeddings" not in name}
    for name in sorted(needed | (heads & renamed.keys())):
        found = tuple(renamed[name].shape) if name in renamed else None
        if found != tuple(own[name].shape):
            raise UserError(
                f"model.init: {path} has {name} of shape {found}, the config needs {tuple(own[name].shape)}. "
                "Set the sizes in the model section to those of the weights, and model.tokenizer to their vocabulary."
            )
    network.load_state_dict({name: renamed[name] for name in own if name in renamed}, strict=False)
