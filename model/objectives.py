"""The objectives, pure functions of the network's output and the targets: masked words, masked tags, and the contrast.

`Losses` in model.training applies them. Replaced words are predicted as masked words are.
"""

import torch
from torch import Tensor
from torch.nn import functional


def masked_language_modelling(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the masked word pieces.

    `logits`: (n, vocabulary), one row per masked piece. `targets`: (n,) int64. Returns a float32 scalar, 0 if n is 0.
    """
    return functional.cross_entropy(logits.float(), targets, reduction="sum") / max(len(targets), 1)


def masked_tag_prediction(logits: Tensor, targets: Tensor, tags: Tensor, count: int) -> Tensor:
    """Mean cross-entropy of `count` masked tags, each the mean of its pieces: "hot air balloon" counts as "dog" does.

    `logits`: (n, vocabulary), one row per masked piece. `targets`: (n,) int64. `tags`: (n,) int64, the masked tag of
    each piece, below `count`. Returns a float32 scalar, 0 if n is 0.
    """
    if not len(targets):
        return logits.float().sum()
    each = functional.cross_entropy(logits.float(), targets, reduction="none")
    pieces = each.new_zeros(count).index_add(0, tags, torch.ones_like(each))
    return (each / pieces[tags]).sum() / count


def contrastive(text: Tensor, view: Tensor, sentences: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE between sentences and their mixed views. The other sentences of the batch are the negatives.

    `text`, `view`: (B, d) of length 1; row i of both is the same sentence. `sentences`: (B,) int64; rows with equal
    numbers are equal sentences and are not negatives of each other. Returns a float32 scalar, 0 if B is 0.
    """
    if not len(text):
        return text.float().sum()
    logits = text.float() @ view.float().T / temperature
    same = sentences[:, None] == sentences[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
