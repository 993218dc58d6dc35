"""Captions grow with kept keys and values as they would without, and what is to come stays unseen."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.tasks.decoding import Decoder, beam_search, caption_sight, drawn, greedy
from vlmixer.model.views import NOWHERE, TAG_SEGMENT, TEXT_SEGMENT, Regions, View

BEGIN, END, MASK = 2, 3, 4
FEATURE_DIM, TAGS_FROM, LIMIT = 3, 8, 5
CONFIG = ModelConfig(layers=2, hidden_size=8, heads=2, feed_forward_size=16, max_text_tokens=14, projection_size=5)


@pytest.fixture
def network(tokenizer):
    torch.manual_seed(0)
    network = Network(CONFIG, tokenizer.size, FEATURE_DIM).eval()
    for parameter in network.parameters():  # far from the first values, with which all pieces are about as likely
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def of_image(tags, regions, seed=0, caption=()):
    """A view of a caption, if any, then tags and [SEP], then regions; and the turns of its items."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(regions, FEATURE_DIM)).astype(np.float16)
    ids = np.array([*caption, *tags, END])
    places = np.concatenate([np.arange(len(caption)), TAGS_FROM + np.arange(len(tags) + 1)])
    box = random.random((regions, 6), np.float32)
    segments = np.where(np.arange(len(ids)) < len(caption), TEXT_SEGMENT, TAG_SEGMENT)
    return View(ids, places, np.full(len(ids), NOWHERE), segments, Regions(features, box, np.full(regions, NOWHERE)))


IMAGES = [([6, 8], 3, 1), ([], 2, 2), ([7], 0, 3)]


def contexts():
    return pad([of_image(*image) for image in IMAGES])


def whole(captions):
    """The sequences of the images with these captions, of one length, and the turns."""
    length = len(captions[0])
    batch = pad([of_image(*image, caption=caption) for image, caption in zip(IMAGES, captions, strict=True)])
    column = torch.arange(batch.mask.shape[1]).expand(batch.mask.shape)
    return batch, torch.where(column < length, column, -1)


def states_of(network, captions):
    batch, turns = whole(captions)
    return network.bert(batch, caption_sight(batch.mask, turns))


def likely(network, captions):
    """(images, vocabulary): the log likelihood of the piece after these captions, without anything that was kept."""
    at = torch.tensor([[row, len(captions[0])] for row in range(len(captions))])
    with torch.no_grad():
        states = states_of(network, [[*caption, MASK] for caption in captions])
        return network.words(states, at).log_softmax(-1)


def test_sight():
    mask = torch.tensor([[True] * 5 + [False]])
    sight = caption_sight(mask, torch.tensor([[0, 1, 2, -1, -1, -1]]))
    assert sight[0].int().tolist() == [
        [1, 0, 0, 1, 1, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
    ]


def test_a_later_piece_changes_nothing_before_it(network):
    first = states_of(network, [[BEGIN, 5, 6, 7, END]] * 3)
    second = states_of(network, [[BEGIN, 5, 6, 8, MASK]] * 3)
    assert torch.equal(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:5], second[:, 3:5])
    assert torch.equal(first[:, 5:], second[:, 5:])  # tags and regions never see the caption


def test_tags_and_regions_are_seen(network):
    batch, turns = whole([[BEGIN, 5, END]] * 3)
    before = network.bert(batch, caption_sight(batch.mask, turns))
    other = replace(batch, regions=batch.regions + 1)
    after = network.bert(other, caption_sight(batch.mask, turns))
    assert not torch.allclose(before[:2, :3], after[:2, :3])
    assert torch.allclose(before[2, :5], after[2, :5])  # the image without regions


def test_probes_predict_every_piece_at_once(network):
    """Probes next to the caption say what a [MASK] at its end says, turn by turn, and change nothing else."""
    caption = [BEGIN, 5, 8, 6]
    probed = [[*caption, *[MASK] * len(caption)]] * 3
    batch, turns = whole(probed)
    positions, turns, probes = batch.positions.clone(), turns.clone(), torch.zeros_like(batch.mask)
    positions[:, 4:8] = turns[:, 4:8] = torch.arange(1, 5)
    probes[:, 4:8] = True
    batch = replace(batch, positions=positions)
    states = network.bert(batch, caption_sight(batch.mask, turns, probes))
    for turn in range(1, 5):
        at = torch.tensor([[row, 3 + turn] for row in range(3)])
        expected = likely(network, [caption[:turn]] * 3)
        assert torch.allclose(network.words(states, at).log_softmax(-1), expected, atol=1e-5)
    plain = states_of(network, [caption] * 3)
    assert torch.allclose(states[:, :4], plain[:, :4], atol=1e-5)
    assert torch.allclose(states[0, 8:], plain[0, 4:], atol=1e-5)


def test_kept_keys_and_values_change_nothing(network, tokenizer):
    decoder = Decoder(network, tokenizer, contexts(), LIMIT)
    captions = [[BEGIN], [BEGIN], [BEGIN]]
    for words in ([5, 6, 7], [8, 8, 5], [6, 5, 6], [7, 7, 7]):
        found = decoder.next(torch.tensor([caption[-1] for caption in captions]))
        assert torch.allclose(found, likely(network, captions), atol=1e-5)
        captions = [[*caption, word] for caption, word in zip(captions, words, strict=True)]


def test_captions_can_be_taken_on(network, tokenizer):
    decoder = Decoder(network, tokenizer, contexts(), LIMIT, copies=2)
    decoder.next(torch.full((6,), BEGIN))
    decoder.next(torch.tensor([5, 6, 5, 6, 5, 6]))
    decoder.take(torch.tensor([1, 1, 2, 2, 5, 4]))
    found = decoder.next(torch.tensor([7, 8, 7, 8, 7, 8]))
    for row, caption in enumerate([[6, 7], [6, 8], [5, 7], [5, 8], [6, 7], [5, 8]]):
        assert torch.allclose(found[row], likely(network, [[BEGIN, *caption]] * 3)[row // 2], atol=1e-5)


def uncached(network):
    """Greedy captions, with a whole pass for each piece."""
    captions = []
    for image in range(len(IMAGES)):
        caption = [BEGIN]
        while len(caption) <= LIMIT:
            scores = likely(network, [caption] * 3)[image]
            scores[[0, 1, BEGIN, MASK] + ([END] if len(caption) == 1 else [])] = -torch.inf
            if int(scores.argmax()) == END:
                break
            caption.append(int(scores.argmax()))
        captions.append(caption[1:])
    return captions


@pytest.mark.parametrize("seed", range(4))
def test_greedy_captions_are_those_of_whole_passes(network, tokenizer, seed):
    torch.manual_seed(seed)
    torch.nn.init.normal_(network.cls["predictions"].bias, std=1.0)
    assert [caption.tolist() for caption in greedy(network, tokenizer, contexts(), LIMIT)] == uncached(network)


def test_beam_search_finds_the_best_of_all_captions(network, tokenizer):
    """With as many beams as there are captions it must find the one that is likeliest per piece."""
    limit, words = 3, [5, 6, 7, 8]
    found = [caption.tolist() for caption in beam_search(network, tokenizer, contexts(), limit, beams=4**limit)]
    for image in range(len(IMAGES)):
        scores = {}
        for length in range(1, limit + 1):
            for caption in itertools.product(words, repeat=length):
                pieces = list(caption) if length == limit else [*caption, END]
                sums = [
                    likely(network, [[BEGIN, *pieces[:turn]]] * 3)[image, pieces[turn]] for turn in range(len(pieces))
                ]
                scores[caption] = float(sum(sums)) / len(pieces)
        assert tuple(found[image]) == max(scores, key=lambda caption: scores[caption])


def test_one_beam_is_greedy(network, tokenizer):
    """Where the greedy caption is cut by the limit; one that ends could still lose to a longer one."""
    network.cls["predictions"].bias.data[END] = -100
    one = beam_search(network, tokenizer, contexts(), LIMIT, beams=1)
    assert [len(caption) for caption in one] == [LIMIT] * 3
    for found, expected in zip(one, greedy(network, tokenizer, contexts(), LIMIT), strict=True):
        assert found.tolist() == expected.tolist()


def test_captions_end_and_are_not_empty(network, tokenizer):
    network.cls["predictions"].bias.data[END] = 100
    random = torch.Generator().manual_seed(0)
    for captions in (
        greedy(network, tokenizer, contexts()),
        beam_search(network, tokenizer, contexts()),
        drawn(network, tokenizer, contexts(), random, copies=1),
    ):
        assert [len(caption) for caption in captions] == [1, 1, 1]


def test_captions_are_drawn_as_likely_as_the_network_says(network, tokenizer):
    network.cls["predictions"].bias.data[END] = 100  # one piece and [SEP]
    random = torch.Generator().manual_seed(0)
    captions = drawn(network, tokenizer, contexts(), random, copies=4000)
    assert len(captions) == 12_000
    first = likely(network, [[BEGIN]] * 3)[:, 5:].softmax(-1).numpy()
    for image in range(3):
        counts = np.bincount([int(caption[0]) for caption in captions[4000 * image : 4000 * (image + 1)]], minlength=9)
        assert counts[5:] / 4000 == pytest.approx(first[image], abs=0.03)
