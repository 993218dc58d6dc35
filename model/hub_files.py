"""What makes a run's folder one that Hugging Face's libraries and site read: configs of transformers, and a model card.

The network's text encoder is a BertModel: its parameters have the names and the layout that transformers expects. What
BERT lacks (regions, tags, the projection) transformers leaves out. Loading is left to transformers.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.dataset_cards import CARD, LICENCE_OPEN, plain
from vlmixer.artifacts.details import RunDetails
from vlmixer.model.config import INITIAL_DEVIATION, LAYER_NORM_EPSILON, SEGMENTS, ModelConfig, Settings
from vlmixer.model.finished import HUB_CONFIG, HUB_TOKENIZER
from vlmixer.model.progress import LOG
from vlmixer.model.tokenizer import SPECIAL, Tokenizer

_BERT = ("WordPiece", "BertNormalizer", "BertPreTokenizer")
"""Model, normalizer and pre-tokenizer of BERT's word pieces, as tokenizer.json names them."""
_NOT_LOSSES = {
    "step", "epoch", "learning_rate", "gradient_norm", "samples_per_second", "items_per_second", "share_waiting",
    "seconds_left",
}  # fmt: skip

_CARD = """\
# A vision-language network trained without image-text pairs

Pre-trained by vlmixer with cross-modal CutMix (VLMixer, ICML 2022). The sentences and the photos of the training data
are unrelated; patches of photos replaced words of sentences. A single-stream Transformer reads word pieces and regions.

| | |
|---|---|
{facts}

Losses of the last step, each before its weight; they are not comparable across data:

| | |
|---|---|
{losses}

Retrieval has not been measured here. `vlmixer eval retrieval --run run` measures it on your pairs; write the
scores down here.

## Load

Put the path of this folder in place of `run`. The text encoder, with transformers alone:

```python
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("run")
encoder = AutoModel.from_pretrained("run", add_pooling_layer=False)
texts = tokenizer(["two dogs run", "a red bus"], padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    states = encoder(**texts).last_hidden_state
print(tuple(states.shape))
```

transformers lists as unexpected what BERT lacks: regions, tags, and the projection. The whole network, with vlmixer:

```python
from vlmixer.model import embed_texts, load_run

network, tokenizer, settings = load_run("run")
print(embed_texts(network, tokenizer, settings.model, ["two dogs run", "a red bus"]).vectors.shape)
```

## Licence

The licences of the sentences and photos, and of the detector's weights, may bind this network, too.
{licence}
"""


def write_hub_files(run: str, settings: Settings, tokenizer: Tokenizer, details: RunDetails, shards: str) -> None:
    """Write config.json, tokenizer_config.json and README.md. shards: content hash of what it was trained on."""
    content = network_config(settings.model, tokenizer)
    files.publish_bytes(files.join(run, HUB_CONFIG), manifest.canonical(content, indent=2))
    content = tokenizer_config(settings.model, tokenizer)
    files.publish_bytes(files.join(run, HUB_TOKENIZER), manifest.canonical(content, indent=2))
    files.publish_bytes(files.join(run, CARD), _card(settings, details, shards, last_losses(run, details.steps)))


def network_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The network as transformers' BertConfig."""
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": tokenizer.size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout_rate,
        "attention_probs_dropout_prob": config.dropout_rate,
        "max_position_embeddings": config.max_text_tokens,
        "type_vocab_size": SEGMENTS,
        "initializer_range": INITIAL_DEVIATION,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "pad_token_id": tokenizer.padding,
        "tie_word_embeddings": True,
    }


def tokenizer_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """How transformers reads tokenizer.json: as BERT's word pieces if it has these, else as the file says."""
    padding, unknown, begin, end, mask = SPECIAL
    special = {"pad_token": padding, "unk_token": unknown, "cls_token": begin, "sep_token": end, "mask_token": mask}
    content = {**special, "model_max_length": config.max_text_tokens}
    parts = json.loads(tokenizer.to_json())
    rules = parts["normalizer"] or {}
    if (parts["model"]["type"], rules.get("type"), (parts["pre_tokenizer"] or {}).get("type")) == _BERT:
        return content | {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": rules["lowercase"],
            "strip_accents": rules["strip_accents"],
            "tokenize_chinese_chars": rules["handle_chinese_chars"],
        }
    return content | {"tokenizer_class": "PreTrainedTokenizerFast"}


def last_losses(run: str, steps: int) -> dict[str, float]:
    """The losses that log.jsonl has for the last step; none if it has none."""
    lines = files.read_bytes(files.join(run, LOG)).splitlines()
    last = json.loads(lines[-1]) if lines else {}
    return {name: value for name, value in last.items() if name not in _NOT_LOSSES and last["step"] == steps}


def table(facts: Mapping[str, str]) -> str:
    """The rows of a table of Markdown."""
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def _card(settings: Settings, details: RunDetails, shards: str, losses: Mapping[str, float]) -> bytes:
    model, train = settings.model, settings.train
    facts = {
        "data": f"{details.samples:,} samples; content hash of the shards `{shards}`",
        "vocabulary": plain(details.vocabulary),
        "features of regions": f"{details.feature_dim} wide",
        "network": f"{model.layers} layers, {model.hidden_size} wide, {model.heads} heads; up to "
        f"{model.max_text_tokens} word pieces and {model.max_regions} regions",
        "start": "random" if model.init is None else "weights of a BERT (`model.init`): its licence holds here, too",
        "training": f"{details.steps:,} steps of {train.batch_size} sentences, learning rate {train.learning_rate:g}, "
        f"seed {settings.seed}",
    }
    head = {"library_name": "transformers", "pipeline_tag": "feature-extraction", "tags": ["vlmixer", "vlmixer-run"]}
    text = _CARD.format(
        licence=LICENCE_OPEN,
        facts=table(facts),
        losses=table({name.replace("_", " "): f"{value:.4f}" for name, value in losses.items()}),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}".encode()
