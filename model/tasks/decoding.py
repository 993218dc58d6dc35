"""Captions, one word piece after the other: the likeliest each time, by beam search, or drawn at random.

A piece is predicted at a [MASK] that sees the pieces before it, the tags and the regions, as `caption_sight` has it.
Tags and regions never see the caption. So the keys and values of all that was read are kept, and each further piece
costs one pass of two items: the piece before it, and the [MASK].
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vlmixer.model.network import Layer, Network, SelfAttention, Sequences
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import TEXT_SEGMENT

LIMIT = 20
"""Maximum number of word pieces of a caption (Oscar's)."""
BEAMS = 5
"""Captions that beam search keeps (Oscar's)."""


def caption_sight(mask: Tensor, turns: Tensor, probes: Tensor | None = None) -> Tensor:
    """(B, L, L) bool: which items (last axis) each item (middle axis) of a sequence sees.

    `mask`: (B, L) bool, true for items. `turns`: (B, L) int64, the place of an item in the caption, from 0 for [CLS];
    -1 for tags and regions. These see each other, never the caption. A piece of the caption sees them, itself and the
    pieces before it. `probes`: (B, L) bool, items that are put next to the caption to predict the piece of their turn:
    they see what that piece sees, but itself, and nothing else sees them.
    """
    context = mask & (turns < 0)
    before = (turns[:, None, :] < turns[:, :, None]) & (turns[:, None, :] >= 0) & mask[:, None, :]
    if probes is not None:
        before = before & ~probes[:, None, :]
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device) & mask[:, None, :]
    # Padding sees the context, too: attention to nothing would not be a number.
    return context[:, None, :] | before | itself


class Decoder:
    """The network's answers to captions that grow by a piece at a time, N = `copies` for each of B images."""

    def __init__(self, network: Network, tokenizer: Tokenizer, context: Sequences, limit: int, copies: int = 1) -> None:
        """`context`: B sequences of tags and regions alone. `limit`: maximum number of pieces, without [CLS]."""
        self._network, self._tokenizer = network, tokenizer
        self._layers = [_with_attention(layer) for layer in network.bert.encoder.layer]
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._context = context.mask.repeat_interleave(copies, dim=0)
        self._read = 0
        states = network.bert.embedded(context)
        for layer, attention in self._layers:
            query, key, value = attention.projected(states)
            states = layer.rest(attention.mix(query, key, value, context.mask[:, None, None, :]), states)
            for kept, found in ((self._keys, key), (self._values, value)):
                room = found.new_zeros(*found.shape[:2], limit + 1, found.shape[3])
                kept.append(torch.cat([found, room], dim=2).repeat_interleave(copies, dim=0))

    def next(self, pieces: Tensor) -> Tensor:
        """(B × N, vocabulary) float32: log likelihood of the next piece, after `pieces`, (B × N,) int64, as the last.

        The first call takes [CLS].
        """
        bert, rows, known = self._network.bert, len(pieces), self._context.shape[1]
        ids = torch.stack([pieces, torch.full_like(pieces, self._tokenizer.mask)], dim=1)
        places = torch.arange(self._read, self._read + 2, device=ids.device).expand(rows, 2)
        states = bert.embeddings(ids, places, torch.full_like(ids, TEXT_SEGMENT))
        stop = known + self._read + 2
        sight = torch.ones(rows, 1, 2, stop, dtype=torch.bool, device=ids.device)
        sight[..., :known] = self._context[:, None, None, :]
        sight[:, :, 0, -1] = False  # the piece does not see the [MASK] after it
        for (layer, attention), keys, values in zip(self._layers, self._keys, self._values, strict=True):
            query, key, value = attention.projected(states)
            keys[:, :, stop - 2 : stop], values[:, :, stop - 2 : stop] = key, value
            states = layer.rest(attention.mix(query, keys[:, :, :stop], values[:, :, :stop], sight), states)
        self._read += 1  # the next piece takes the place of the [MASK]
        at_mask = torch.stack([torch.arange(rows, device=ids.device), torch.ones_like(pieces)], dim=1)
        return self._network.words(states, at_mask).float().log_softmax(-1)

    def take(self, rows: Tensor) -> None:
        """Go on with the captions `rows`, (B × N,) int64, each a caption of the same image as before."""
        own = slice(self._context.shape[1], self._context.shape[1] + self._read)
        for kept in (self._keys, self._values):
            for part in kept:
                part[:, :, own] = part[rows][:, :, own]


@torch.inference_mode()
def greedy(network: Network, tokenizer: Tokenizer, context: Sequences, limit: int = LIMIT) -> list[np.ndarray]:
    """The caption of each image of which every piece is the likeliest: (n,) int64, at most `limit` pieces.

    `context`: sequences of tags and regions alone.
    """
    return _grown(network, tokenizer, context, limit, 1, lambda likely: likely.argmax(-1))


@torch.inference_mode()
def drawn(
    network: Network, tokenizer: Tokenizer, context: Sequences, random: torch.Generator, copies: int, limit: int = LIMIT
) -> list[np.ndarray]:
    """`copies` captions of each image, one image after the other, each piece drawn as likely as the network says."""

    def choose(likely: Tensor) -> Tensor:
        # Relative to the likeliest that is allowed: what is allowed may be less likely than a float can say.
        return torch.multinomial(likely.softmax(-1).cpu(), 1, generator=random)[:, 0].to(likely.device)

    return _grown(network, tokenizer, context, limit, copies, choose)


@torch.inference_mode()
def beam_search(
    network: Network, tokenizer: Tokenizer, context: Sequences, limit: int = LIMIT, beams: int = BEAMS
) -> list[np.ndarray]:
    """The caption of each image with the highest log likelihood per piece, [SEP] among them, that the search finds.

    It keeps the `beams` likeliest beginnings of each length. Returns pieces as `greedy` does.
    """
    images, size = len(context.mask), tokenizer.size
    decoder = Decoder(network, tokenizer, context, limit, beams)
    device = context.mask.device
    scores = torch.full((images, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    written: list[list[list[int]]] = [[[] for _ in range(beams)] for _ in range(images)]
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(images)]
    done = [False] * images
    pieces = torch.full((images * beams,), tokenizer.begin, device=device)
    for length in range(1, limit + 1):
        likely = _allowed(decoder.next(pieces), tokenizer, first=length == 1)
        total = scores[:, :, None] + likely.view(images, beams, size)
        values, places = total.view(images, -1).topk(min(2 * beams, beams * size))
        chosen = [(0, tokenizer.end, -np.inf)] * beams
        rows, ids, sums = [], [], []
        for image, (of_image, at) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            kept: list[tuple[int, int, float]] = []
            for rank, (value, place) in enumerate(zip(of_image, at, strict=True)):
                beam, piece = divmod(place, size)
                if value == -np.inf or len(kept) == beams:
                    break
                if piece != tokenizer.end:
                    kept.append((beam, piece, value))
                elif rank < beams:
                    finished[image].append((value / length, written[image][beam]))
            ended = sorted((score for score, _ in finished[image]), reverse=True)[:beams]
            done[image] = done[image] or not kept or (len(ended) == beams and ended[-1] >= kept[0][2] / length)
            kept = (kept + chosen)[:beams]
            written[image] = [[*written[image][beam], piece] for beam, piece, _ in kept]
            rows += [image * beams + beam for beam, _, _ in kept]
            ids += [piece for _, piece, _ in kept]
            sums.append([value for _, _, value in kept])
        if all(done):
            break
        scores, pieces = torch.tensor(sums, device=device), torch.tensor(ids, device=device)
        decoder.take(torch.tensor(rows, device=device))
    for image, candidates in enumerate(finished):
        if not done[image]:  # captions that the limit cut
            cut = zip(sums[image], written[image], strict=True)
            candidates += [(value / limit, caption) for value, caption in cut if value > -np.inf]
    return [np.array(max(each, key=lambda one: one[0])[1], np.int64) for each in finished]


def _grown(
    network: Network,
    tokenizer: Tokenizer,
    context: Sequences,
    limit: int,
    copies: int,
    choose: Callable[[Tensor], Tensor],
) -> list[np.ndarray]:
    """Captions that grow by what `choose` takes from the (N, vocabulary) log likelihoods, up to [SEP] or the limit."""
    decoder = Decoder(network, tokenizer, context, limit, copies)
    pieces = torch.full((len(context.mask) * copies,), tokenizer.begin, device=context.mask.device)
    ended = torch.zeros_like(pieces, dtype=torch.bool)
    written = []
    for step in range(limit):
        pieces = choose(_allowed(decoder.next(pieces), tokenizer, first=step == 0))
        pieces = pieces.masked_fill(ended, tokenizer.end)
        written.append(pieces)
        ended |= pieces == tokenizer.end
        if bool(ended.all()):
            break
    rows = torch.stack(written, dim=1).cpu().numpy()
    return [row[: np.argmax(row == tokenizer.end) if (row == tokenizer.end).any() else len(row)] for row in rows]


def _with_attention(layer: nn.Module) -> tuple[Layer, SelfAttention]:
    assert isinstance(layer, Layer)
    attention = layer.attention["self"]
    assert isinstance(attention, SelfAttention)
    return layer, attention


def _allowed(likely: Tensor, tokenizer: Tokenizer, first: bool) -> Tensor:
    """Log likelihoods without special pieces; [SEP] ends a caption, but an empty one says nothing."""
    allowed = torch.zeros(tokenizer.size, dtype=torch.bool, device=likely.device)
    allowed[torch.from_numpy(tokenizer.ordinary).to(likely.device)] = True
    allowed[tokenizer.end] = not first
    return likely.masked_fill(~allowed, -torch.inf)
