from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from vlmixer.artifacts.errors import UserError
from vlmixer.model.bert import load_bert
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.padding import MaskedArrays, pad, padded, used_items
from vlmixer.model.views import NOWHERE, Regions, View

CONFIG = ModelConfig(
    layers=2,
    hidden_size=8,
    heads=2,
    feed_forward_size=16,
    max_text_tokens=12,
    projection_size=5,
)
VOCABULARY, FEATURE_DIM = 20, 3


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network(CONFIG, VOCABULARY, FEATURE_DIM).eval()


def view(ids, regions, positions=None, segment=0, seed=0):
    random = np.random.default_rng(seed)
    count = len(ids)
    features = random.normal(size=(regions, FEATURE_DIM)).astype(np.float16)
    at = np.full(regions, NOWHERE) if positions is None else np.array(positions)
    return View(
        np.array(ids),
        np.arange(count),
        np.full(count, NOWHERE),
        np.full(count, segment),
        Regions(features, np.ones((regions, 6), np.float32), at),
    )


VIEWS = [view([2, 7, 8, 9, 3], 0), view([2, 3], 4, seed=1), view([2, 7, 3], 2, [1, 1], seed=2)]


def test_shapes(network):
    batch = pad(VIEWS)
    assert batch.ids.shape == (3, 5)
    assert batch.regions.shape == (3, 4, FEATURE_DIM + 6)
    assert batch.mask.sum(1).tolist() == [5, 6, 5]
    assert network.bert(batch).shape == (3, 6, 8)
    assert network.embed(batch).shape == (3, 5)
    chosen = torch.tensor([[0, 1], [2, 1]])
    states = network.bert(batch)
    assert network.words(states, chosen).shape == network.tag_pieces(states, chosen).shape == (2, VOCABULARY)


def test_embeddings_have_length_one(network):
    assert network.embed(pad(VIEWS)).norm(dim=-1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("pooling", ["content", "mean", "cls"])
def test_padding_changes_nothing(pooling):
    torch.manual_seed(0)
    network = Network(replace(CONFIG, pooling=pooling), VOCABULARY, FEATURE_DIM).eval()
    together = network.embed(pad(VIEWS))
    alone = torch.cat([network.embed(pad([one])) for one in VIEWS])
    assert torch.allclose(together, alone, atol=1e-6)
    chosen = torch.tensor([[2, 1]])
    one, other = (network.bert(pad(views)) for views in (VIEWS, VIEWS[2:]))
    assert torch.allclose(network.words(one, chosen), network.words(other, chosen * torch.tensor([0, 1])), atol=1e-6)


def test_content_is_all_but_the_special_pieces_unless_there_is_nothing_else():
    batch = pad([*VIEWS, view([2, 3], 0)])
    # Words; regions; a word and two regions; [CLS] and [SEP] of an empty view.
    assert [row.nonzero().flatten().tolist() for row in batch.content] == [[1, 2, 3], [2, 3, 4, 5], [1, 3, 4], [0, 1]]


def test_the_mean_of_the_content_does_not_see_the_special_pieces_states(network):
    batch = pad(VIEWS)
    states = network.bert(batch)
    changed = states.clone()
    changed[:, 0] += 1.0  # [CLS]
    network.pooling = "content"
    assert torch.equal(network.project(states, batch), network.project(changed, batch))
    network.pooling = "mean"
    assert not torch.allclose(network.project(states, batch), network.project(changed, batch), atol=1e-3)


def test_a_set_of_regions_has_no_order_but_positions_matter(network):
    def embed(order, positions=None):
        one = view([2, 3], 3, positions)
        parts = (part[order] for part in (one.regions.features, one.regions.geometry, one.regions.positions))
        return network.embed(pad([View(one.ids, one.positions, one.words, one.segments, Regions(*parts))]))

    assert torch.allclose(embed([0, 1, 2]), embed([2, 0, 1]), atol=1e-6)
    assert not torch.allclose(embed([0, 1, 2]), embed([0, 1, 2], [1, 2, 3]), atol=1e-4)


def test_every_part_of_the_input_matters(network):
    plain = network.embed(pad([view([2, 7, 3], 1)]))
    for other in (view([2, 8, 3], 1), view([2, 7, 3], 1, segment=1), view([2, 7, 3], 1, seed=5), view([2, 7, 3], 0)):
        assert not torch.allclose(plain, network.embed(pad([other])), atol=1e-4)


def bert_names(layers):
    """Names of Hugging Face's BertForPreTraining, as its documentation and files have them."""
    names = [f"bert.embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")]
    modules = ["bert.embeddings.LayerNorm", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"]
    for layer in range(layers):
        modules += [
            f"bert.encoder.layer.{layer}.{part}"
            for part in (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            )
        ]
    return {*names, "cls.predictions.bias", *(f"{module}.{part}" for module in modules for part in ("weight", "bias"))}


def test_parameters_have_berts_names(network):
    own = {name for name in network.state_dict() if not name.startswith(("tags.", "projection.", "bert.region_"))}
    assert own == bert_names(2)


def bert_weights(network, rows=16):
    """Other weights in BERT's layout, with more positions and with BERT's pooler."""
    random = torch.Generator().manual_seed(9)
    state = network.state_dict()
    weights = {name: torch.randn(state[name].shape, generator=random) for name in sorted(bert_names(2))}
    weights["bert.embeddings.position_embeddings.weight"] = torch.randn(rows, 8, generator=random)
    weights["bert.pooler.dense.weight"] = torch.zeros(8, 8)
    return weights


def older(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def shorter(name):
    return name.removeprefix("bert.")


@pytest.mark.parametrize("rename", [str, older, shorter])
def test_berts_weights_load_by_name(network, tmp_path, rename):
    weights = bert_weights(network)
    path = str(tmp_path / "bert.safetensors")
    safetensors.torch.save_file({rename(name): value for name, value in weights.items()}, path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_bert(network, path, CONFIG)
    for name, value in network.state_dict().items():
        expected = weights[name][: len(value)] if name in weights else before[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("prefix", ["module.", "model.", "text_encoder.bert."])
def test_berts_weights_load_from_checkpoints_of_others(network, tmp_path, prefix):
    weights = bert_weights(network)
    renamed = {f"{prefix}{shorter(name)}": value for name, value in weights.items() if not name.startswith("cls.")}
    renamed |= {
        f"{prefix.removesuffix('bert.')}{name}": value for name, value in weights.items() if name.startswith("cls.")
    }
    torch.save({"state_dict": renamed, "epoch": 3}, tmp_path / "bert.ckpt")
    load_bert(network, str(tmp_path / "bert.ckpt"), CONFIG)
    for name, value in network.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name][: len(value)]), name


def test_robertas_weights_are_refused(network, tmp_path):
    renamed = {f"roberta.{shorter(name)}": value for name, value in bert_weights(network).items()}
    torch.save(renamed, tmp_path / "roberta.bin")
    with pytest.raises(UserError, match="RoBERTa's weights, which count positions differently"):
        load_bert(network, str(tmp_path / "roberta.bin"), CONFIG)


def test_berts_weights_of_another_size_are_refused(network, tmp_path):
    path = str(tmp_path / "bert.safetensors")
    weights = bert_weights(network)
    weights["bert.embeddings.word_embeddings.weight"] = torch.zeros(99, 8)
    safetensors.torch.save_file(weights, path)
    with pytest.raises(UserError, match=r"word_embeddings.weight of shape \(99, 8\), the config needs \(20, 8\)"):
        load_bert(network, path, CONFIG)


@pytest.mark.parametrize("content", [None, b"no safetensors"])
def test_a_file_that_holds_no_weights_is_named(network, tmp_path, content):
    path = tmp_path / "bert.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.init: .*bert\.safetensors"):
        load_bert(network, str(path), CONFIG)


@pytest.fixture(scope="module")
def huggingface():
    """transformers.BertModel with random weights, also in biases and LayerNorms, where its own start has 0 and 1."""
    torch.manual_seed(3)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=60,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            max_position_embeddings=40,
        )
    ).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return bert


def test_every_layers_hidden_states_are_those_of_transformers_bert_model(huggingface, tmp_path):
    path = str(tmp_path / "model.safetensors")
    safetensors.torch.save_file({name: value.contiguous() for name, value in huggingface.state_dict().items()}, path)
    config = ModelConfig(layers=3, hidden_size=48, heads=4, feed_forward_size=96, max_text_tokens=30)
    torch.manual_seed(4)
    network = Network(config, 60, FEATURE_DIM).eval()
    load_bert(network, path, config)
    states = []
    for layer in network.bert.encoder.layer:
        layer.register_forward_hook(lambda module, given, found: states.append(found))
    random = np.random.default_rng(5)
    views = [
        view(random.integers(0, 60, length).tolist(), 0, segment=segment)
        for length, segment in ((30, 0), (7, 1), (2, 0), (19, 1))
    ]
    batch = pad(views)
    with torch.no_grad():
        last = network.bert(batch)
        theirs = huggingface(
            input_ids=batch.ids,
            token_type_ids=batch.segments,
            attention_mask=batch.mask.long(),
            output_hidden_states=True,
        )
    assert len(states) == 3
    for own, expected in zip([*states, last], [*theirs.hidden_states[1:], theirs.last_hidden_state], strict=True):
        assert (own - expected)[batch.mask].abs().max() < 1e-5


def test_regions_carry_the_segment_of_their_text_where_the_setting_says_so():
    def embed(segment, **settings):
        torch.manual_seed(0)
        network = Network(replace(CONFIG, **settings), VOCABULARY, FEATURE_DIM).eval()
        with torch.no_grad():
            network.bert.embeddings.token_type_embeddings.weight.mul_(50)
        batch = pad([view([2, 3], 2, segment=segment)])
        return network.bert.region_embeddings(
            batch.regions, batch.region_positions, batch.segments[:, :1], network.bert.embeddings
        )

    assert torch.equal(embed(0), embed(1))
    assert not torch.allclose(embed(0, patch_segments=True), embed(1, patch_segments=True), atol=1e-3)
    assert not torch.allclose(embed(0, patch_segments=True), embed(0), atol=1e-3)


@pytest.mark.parametrize("pooling", ["content", "mean", "cls", None])
@pytest.mark.parametrize("multiple", [1, 4, 128])
def test_a_last_layer_for_used_items_alone_gives_the_same_losses_and_gradients(pooling, multiple):
    torch.manual_seed(0)
    network = Network(replace(CONFIG, pooling=pooling or "content"), VOCABULARY, FEATURE_DIM)
    batch = pad(VIEWS)
    chosen = torch.tensor([[0, 2], [1, 4], [1, 4], [2, 1]])  # a patch may predict several pieces

    def losses_and_gradients(used):
        network.zero_grad()
        states = network.bert(batch, used=used)
        words = network.words(states, chosen).logsumexp(1).sum()
        vectors = network.project(states, batch)[:, 0].sum() if pooling else torch.zeros(())
        (words + vectors).backward()
        gradients = {name: part.grad.clone() for name, part in network.named_parameters() if part.grad is not None}
        return states, words, vectors, gradients

    used = torch.from_numpy(used_items(padded(VIEWS), chosen.numpy(), pooling, multiple))
    states, words, vectors, gradients = losses_and_gradients(used)
    plain, plain_words, plain_vectors, plain_gradients = losses_and_gradients(None)
    assert torch.allclose(words, plain_words, rtol=1e-6)
    assert torch.allclose(vectors, plain_vectors, atol=1e-6)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, plain_gradients[name], atol=1e-6), name
    others = np.setdiff1d(np.arange(batch.mask.numel()), used.numpy())
    assert torch.allclose(states.flatten(0, 1)[used], plain.flatten(0, 1)[used], atol=1e-6)
    assert not states.flatten(0, 1)[others].any()


def test_the_items_that_are_used():
    batch = padded(VIEWS)  # three sequences of six places; the last of the first and of the third is padding
    chosen = np.array([[0, 2], [1, 4], [1, 4]])
    assert used_items(batch, chosen, None, 1).tolist() == [2, 10]
    assert used_items(batch, chosen, "cls", 1).tolist() == [0, 2, 6, 10, 12]
    assert used_items(batch, chosen, "content", 1).tolist() == [1, 2, 3, 8, 9, 10, 11, 13, 15, 16]
    assert used_items(batch, chosen, None, 4).tolist() == [2, 10, 0, 1]
    assert used_items(batch, chosen, None).tolist()[:2] == [2, 10]
    assert sorted(used_items(batch, chosen, None).tolist()) == list(range(18))


def test_layers_for_items_alone_give_the_same_states_and_gradients_without_padding():
    torch.manual_seed(0)
    network = Network(replace(CONFIG, layers=3), VOCABULARY, FEATURE_DIM)
    arrays, chosen = padded(VIEWS), np.zeros((0, 2), np.int64)
    masked = MaskedArrays(arrays, chosen, chosen[:, 0], chosen[:, 0]).tensors()
    batch, items = masked.sequences, torch.nonzero(masked.sequences.mask.flatten()).flatten()
    assert torch.isin(items, masked.items).all()
    assert len(items) < batch.mask.numel()
    found = []
    for rows in (items, masked.items, None):
        network.zero_grad()
        states = network.bert(batch, items=rows)[batch.mask]
        states.square().sum().backward()
        found.append(
            [states.detach(), *(part.grad.clone() for part in network.bert.parameters() if part.grad is not None)]
        )
    for one in found[:2]:
        assert all(torch.allclose(own, plain, rtol=1e-4, atol=1e-5) for own, plain in zip(one, found[2], strict=True))
