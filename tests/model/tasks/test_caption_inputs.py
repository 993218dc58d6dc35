"""Captions in front of photos."""

import numpy as np
import pytest
import torch
from tests.model.tasks.test_decoding import BEGIN, CONFIG, END, FEATURE_DIM, MASK

from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.tasks.caption_inputs import (
    context_view,
    framed,
    padded_captions,
    probed_captions,
    take,
    with_captions,
)
from vlmixer.model.tasks.decoding import caption_sight
from vlmixer.model.tokenizer import Pieces
from vlmixer.model.views import NOWHERE, Regions


def pieces(*ids):
    count = len(ids)
    return Pieces(np.array(ids, np.int64), np.arange(count), np.zeros((count, 2), np.int64))


def regions(count, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, FEATURE_DIM)).astype(np.float16)
    return Regions(features, random.random((count, 6), np.float32), np.full(count, NOWHERE))


@pytest.fixture
def contexts(tokenizer):
    first = context_view([pieces(6), pieces(7, 8)], regions(2), tokenizer, 8, 14)
    second = context_view([pieces(5)], regions(1, seed=1), tokenizer, 8, 14)
    return pad([first, second])


def test_context(tokenizer):
    view = context_view([pieces(6), pieces(7, 8), pieces(6, 6, 6)], regions(2), tokenizer, 8, 14)
    assert view.ids.tolist() == [6, 7, 8, END]  # the last tag does not fit into 6 pieces with [SEP]
    assert view.positions.tolist() == [8, 9, 10, 11]
    assert view.segments.tolist() == [1, 1, 1, 1]
    assert context_view([], regions(0), tokenizer, 8, 14).ids.tolist() == [END]


def test_framed(tokenizer):
    assert framed(pieces(5, 6, 7), tokenizer, 5).tolist() == [BEGIN, 5, 6, 7, END]
    assert framed(pieces(5, 6, 7), tokenizer, 4).tolist() == [BEGIN, 5, 6, END]


def test_padding_changes_no_state(contexts):
    """Each row of captions of two lengths in front of two photos has the states that it has by itself."""
    torch.manual_seed(0)
    network = Network(CONFIG, 20, FEATURE_DIM).eval()
    captions = padded_captions([np.array([BEGIN, 5, END]), np.array([BEGIN, 5, 6, 7, END])])
    sequences, turns = with_captions(captions, contexts)
    together = network.bert(sequences, caption_sight(sequences.mask, turns))
    whole = network.bert(sequences)
    for row, length in ((0, 3), (1, 5)):
        one = captions.take(torch.tensor([row]))
        one = type(one)(*(part[:, :length] for part in vars(one).values()))
        alone, own_turns = with_captions(one, take(contexts, torch.tensor([row])))
        kept = sequences.mask[row]
        expected = network.bert(alone, caption_sight(alone.mask, own_turns))[0, alone.mask[0]]
        assert torch.allclose(together[row, kept], expected, atol=1e-5)
        assert torch.allclose(whole[row, kept], network.bert(alone)[0, alone.mask[0]], atol=1e-5)


def test_probes(tokenizer):
    captions, chosen, targets = probed_captions([np.array([BEGIN, 5, 6, END]), np.array([BEGIN, 7, END])], tokenizer)
    assert captions.ids.tolist() == [[BEGIN, 5, 6, MASK, MASK, MASK], [BEGIN, 7, MASK, MASK, 0, 0]]
    assert captions.turns.tolist() == [[0, 1, 2, 1, 2, 3], [0, 1, 1, 2, 0, 0]]
    assert captions.probes.int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]]
    assert captions.mask.sum(1).tolist() == [6, 4]
    assert chosen.tolist() == [[0, 3], [0, 4], [0, 5], [1, 2], [1, 3]]
    assert targets.tolist() == [5, 6, END, 7, END]


def test_rows_may_be_taken_several_times(contexts):
    twice = take(contexts, torch.tensor([1, 1, 0]))
    assert twice.ids.tolist() == [contexts.ids[row].tolist() for row in (1, 1, 0)]
