"""BERT weights in the Hugging Face layout as the start of a network."""

from vlmixer.artifacts.errors import UserError
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.weights import find_weights


def load_bert(network: Network, path: str, config: ModelConfig) -> None:
    """Load Hugging Face's BERT weights into the encoder and, if the file has one, the head for masked words.

    Knows the parameter names of BertModel and BertForPreTraining, also below other wrappers. Parts that BERT lacks keep
    their initial values. Raises UserError naming the first parameter that is missing or has another shape.
    """
    own = network.state_dict()
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
    for name in sorted(needed | {name for name in own if name.startswith("cls.") and name in renamed}):
        shape = tuple(renamed[name].shape) if name in renamed else None
        if shape != tuple(own[name].shape):
            raise UserError(
                f"model.init: {path} has {name} of shape {shape}, the config needs {tuple(own[name].shape)}. "
                "Set the sizes in the model section to those of the weights, and model.tokenizer to their vocabulary."
            )
    network.load_state_dict({name: renamed[name] for name in own if name in renamed}, strict=False)


def _current_name(name: str) -> str:
    """In older files the weight and bias of LayerNorm are called gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
