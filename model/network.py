"""The network: a single-stream Transformer encoder in BERT's layout that reads word pieces and regions alike.

Parameters have the names of Hugging Face's BERT: its weights load by name, and transformers reads ours. The input is
left to model.views and model.padding, the losses to model.objectives.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmixer.model.config import INITIAL_DEVIATION, LAYER_NORM_EPSILON, SEGMENTS, ModelConfig
from vlmixer.model.transfer import moved
from vlmixer.model.views import BOX_NUMBERS


@dataclass(frozen=True)
class Sequences:
    """A padded batch of B views: at most T pieces of text, P regions, and L items, which are both together.

    `ids`, `positions`, `segments`: (B, T) int64. `regions`: (B, P, D + 6) float32. `region_positions`: (B, P) int64,
    -1 for none. `order`: (B, L) int64, the items of each sequence, text first, as columns of the T + P; the padding
    between text and regions is left out. `mask`: (B, L) bool, true for items. `content`: (B, L) bool, true for items
    but [CLS] and [SEP]; a sequence that has no other item keeps these.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    regions: Tensor
    region_positions: Tensor
    order: Tensor
    mask: Tensor
    content: Tensor

    def to(self, device: torch.device) -> "Sequences":
        """The same batch on `device`."""
        return moved(self, device)


class TextEmbeddings(nn.Module):
    """LayerNorm(word + position + segment)."""

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_text_tokens, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(SEGMENTS, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, ids: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        """(B, T) int64 each; returns (B, T, hidden)."""
        total = self.word_embeddings(ids) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(total + self.token_type_embeddings(segments)))


class RegionEmbeddings(nn.Module):
    """LayerNorm(Linear(feature and box)), as in Oscar and VinVL. Pasted patches add the position of their word.

    With `patch_segments` all regions also add the segment of their sequence's text.
    """

    def __init__(self, config: ModelConfig, feature_dim: int) -> None:
        super().__init__()
        self.segments = config.patch_segments
        self.dense = nn.Linear(feature_dim + BOX_NUMBERS, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, regions: Tensor, positions: Tensor, segments: Tensor, text: TextEmbeddings) -> Tensor:
        """`regions`: (B, P, D + 6). `positions`: (B, P), -1 for none. `segments`: (B, 1). `text` has the tables."""
        total = self.dense(regions)
        total = total + text.position_embeddings(positions.clamp(min=0)) * (positions >= 0).unsqueeze(-1)
        if self.segments:
            total = total + text.token_type_embeddings(segments)
        return self.dropout(self.LayerNorm(total))


class SelfAttention(nn.Module):
    """Scaled dot-product attention among the items of a sequence."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.dropout_rate

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """`states`: (B, L, hidden); `mask`: (B, 1, 1, L) bool, or (B, 1, L, L), which items each item sees."""
        return self.mix(*self.projected(states), mask)

    def projected(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `states`, (B, L, hidden), each (B, heads, L, hidden / heads)."""
        query, key, value = (
            layer(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, hidden). `query`: (B, heads, Q, d); `key`, `value`: (B, heads, L, d); `mask`: (B, 1, 1 or Q, L)."""
        dropout = self.dropout if self.training else 0.0
        on_cpu = query.device.type == "cpu"
        if on_cpu:  # the gradient of bfloat16 attention takes a CPU ten times as long
            query, key, value = query.float(), key.float(), value.float()
        with torch.autocast(query.device.type, enabled=not on_cpu and torch.is_autocast_enabled(query.device.type)):
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """LayerNorm(residual + dropout(Linear(states))): the end of both halves of a layer."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        """`states`: (…, width); `residual`: (…, hidden)."""
        return self.LayerNorm(residual + self.dropout(self.dense(states)))


class Layer(nn.Module):
    """One Transformer layer, with LayerNorm last, as in BERT."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Residual(config, config.hidden_size)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.feed_forward_size)})
        self.output = Residual(config, config.feed_forward_size)

    def forward(self, states: Tensor, mask: Tensor, used: Tensor | None = None) -> Tensor:
        """`states`: (B, L, hidden); `mask`: as of SelfAttention; `used`: as of Encoder."""
        mixed = self.attention["self"](states, mask)
        if used is None:
            return self.rest(mixed, states)
        found = self.rest(*(part.flatten(0, 1).index_select(0, used) for part in (mixed, states)))
        return found.new_zeros(states.shape).flatten(0, 1).index_copy(0, used, found).view_as(states)

    def rest(self, mixed: Tensor, states: Tensor) -> Tensor:
        """What follows the attention, item by item. `mixed`: what it made of `states`; both (…, hidden)."""
        states = self.attention["output"](mixed, states)
        return self.output(functional.gelu(self.intermediate["dense"](states)), states)


class Layers(nn.Module):
    """The layers, one after the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, states: Tensor, mask: Tensor, used: Tensor | None = None, items: Tensor | None = None) -> Tensor:
        """`states`: (B, L, hidden); `mask`: as of SelfAttention; `used`, `items`: as of Encoder."""
        *first, last = self.layer
        for layer in first:
            states = layer(states, mask, items)
        found: Tensor = last(states, mask, used)
        return found


class Encoder(nn.Module):
    """Embeddings and layers: Hugging Face's BertModel with an embedding of regions."""

    def __init__(self, config: ModelConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config, vocabulary_size)
        self.region_embeddings = RegionEmbeddings(config, feature_dim)
        self.encoder = Layers(config)

    def forward(
        self, batch: Sequences, sight: Tensor | None = None, used: Tensor | None = None, items: Tensor | None = None
    ) -> Tensor:
        """(B, L, hidden): a sequence's text states, then its regions' states, then padding.

        `sight`: (B, L, L) bool, which items each item sees; None: all of its sequence. `used`: (n,) int64, different
        rows of the (B × L, hidden); the last layer computes the states of these alone, and others are 0. None: all.
        `items`: as `used`, for the layers before; all that are no padding must be among them.
        """
        mask = batch.mask[:, None, None, :] if sight is None else sight[:, None]
        return self.encoder(self.embedded(batch), mask, used, items)

    def embedded(self, batch: Sequences) -> Tensor:
        """(B, L, hidden): the same items as they enter the layers."""
        text = self.embeddings(batch.ids, batch.positions, batch.segments)
        segments = batch.segments[:, :1]  # that of [CLS]
        regions = self.region_embeddings(batch.regions, batch.region_positions, segments, self.embeddings)
        states = torch.cat([text, regions], dim=1)
        starts = torch.arange(0, states.shape[0] * states.shape[1], states.shape[1], device=states.device)
        rows = (starts[:, None] + batch.order).flatten()
        return states.flatten(0, 1).index_select(0, rows).unflatten(0, batch.order.shape)


class PredictionHead(nn.Module):
    """From states to logits over word pieces. The word embeddings are the output weights."""

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.transform = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden_size, config.hidden_size),
                "LayerNorm": nn.LayerNorm(config.hidden_size, LAYER_NORM_EPSILON),
            }
        )
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, states: Tensor, word_embeddings: Tensor) -> Tensor:
        """`states`: (n, hidden); `word_embeddings`: (vocabulary, hidden). Returns (n, vocabulary)."""
        states = self.transform["LayerNorm"](functional.gelu(self.transform["dense"](states)))
        return functional.linear(states, word_embeddings, self.bias)


class Network(nn.Module):
    """The encoder, the heads for masked words and masked tags, and the projection into the contrastive space."""

    def __init__(self, config: ModelConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        self.pooling: Literal["content", "mean", "cls"] = config.pooling
        self.bert = Encoder(config, vocabulary_size, feature_dim)
        self.cls = nn.ModuleDict({"predictions": PredictionHead(config, vocabulary_size)})
        self.tags = nn.ModuleDict({"predictions": PredictionHead(config, vocabulary_size)})
        self.projection = nn.Linear(config.hidden_size, config.projection_size)
        self.apply(initialise)

    def words(self, states: Tensor, chosen: Tensor) -> Tensor:
        """(n, vocabulary): logits of the word pieces at `chosen`, (n, 2) int64, a sequence and its item.

        `states`: (B, L, hidden), what `bert` returns.
        """
        return self._predict(self.cls["predictions"], states, chosen)

    def tag_pieces(self, states: Tensor, chosen: Tensor) -> Tensor:
        """(n, vocabulary): logits of the pieces of tags at `chosen`, with arguments as of `words`."""
        return self._predict(self.tags["predictions"], states, chosen)

    def embed(self, batch: Sequences) -> Tensor:
        """(B, projection_size) float32 of length 1: each sequence in the contrastive space."""
        return self.project(self.bert(batch), batch)

    def project(self, states: Tensor, batch: Sequences) -> Tensor:
        """`embed`, from the `states` that `bert` returned for `batch`: (B, L, hidden)."""
        return functional.normalize(self.projection(pooled(states, batch, self.pooling)).float(), dim=-1)

    def _predict(self, head: nn.Module, states: Tensor, chosen: Tensor) -> Tensor:
        logits: Tensor = head(states[chosen[:, 0], chosen[:, 1]], self.bert.embeddings.word_embeddings.weight)
        return logits


def pooled(states: Tensor, batch: Sequences, pooling: Literal["content", "mean", "cls"]) -> Tensor:
    """(B, hidden): one state per sequence, as the setting model.pooling says. `states`: (B, L, hidden)."""
    if pooling == "cls":
        return states[:, 0]
    weight = (batch.content if pooling == "content" else batch.mask).unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def initialise(module: nn.Module) -> None:
    """BERT's initial values of a layer, for `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
