import itertools
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tests.model.world import FEATURE_DIM, World, write_shards

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import MixedSample
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.model.data import Loader
from vlmixer.model.encoding import encode_sentences, rarity
from vlmixer.model.shards import open_shards

MODEL = ModelConfig()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = World()
    samples = [world.mixed(number) for number in range(32)] + [world.image(number) for number in range(12)]
    return write_shards(str(tmp_path_factory.mktemp("data") / "shards"), samples, per_shard=8)


def loader(folder, **settings):
    shards = open_shards(folder)
    tokenizer = tokenizers.learn(shards.texts(), 200)
    return Loader(shards, tokenizer, MODEL, TrainConfig(batch_size=8, workers=0, **settings), seed=5)


def tensors(value):
    """All tensors in a batch, for comparing."""
    if isinstance(value, torch.Tensor):
        return [value]
    inner = [getattr(value, field.name) for field in fields(value)] if hasattr(value, "__dataclass_fields__") else []
    return [tensor for part in inner for tensor in tensors(part)]


def test_open_shards_reads_the_manifest(folder):
    shards = open_shards(folder)
    assert [shard.rows for shard in shards.mixed] == [8, 8, 8, 8]
    assert [shard.rows for shard in shards.images] == [8, 4]
    assert shards.feature_dim == FEATURE_DIM


def test_a_batch_follows_from_seed_and_step_alone(folder):
    straight = list(itertools.islice(loader(folder).batches(0), 9))
    for start in (1, 4, 8):
        later = next(loader(folder).batches(start))
        assert later.epoch == straight[start].epoch
        pairs = list(zip(tensors(later), tensors(straight[start]), strict=True))
        assert len(pairs) > 20
        assert all(torch.equal(one, other) for one, other in pairs)


def test_image_samples_come_in_the_ratio_asked_for(folder):
    batch = next(loader(folder, image_ratio=0.5).batches(0))
    assert (len(batch.mixed.sequences.ids), len(batch.images.sequences.ids)) == (8, 4)
    assert batch.samples == 12


def test_without_image_samples_there_are_none(folder):
    assert next(loader(folder, image_ratio=0.0).batches(0)).images is None


def test_items_count_what_is_no_padding(folder):
    batch = next(loader(folder).batches(0))
    parts = (batch.mixed.sequences, batch.images.sequences, batch.text.sequences, batch.view.sequences)
    assert batch.items == sum(int(part.mask.sum()) for part in parts)


def test_other_words_are_dropped_from_the_contrastive_view_as_often_as_asked(folder):
    for share, expected in ((1.0, {2}), (0.0, set())):
        batch = next(loader(folder, drop_words=share).batches(0))
        view = batch.view.sequences
        lengths = (view.mask.sum(1) - (view.regions.abs().sum(-1) > 0).sum(1)).tolist()
        assert set(lengths) == expected if expected else min(lengths) > 2
    some = [next(loader(folder, drop_words=0.5).batches(step)) for step in range(4)]
    views = [batch.view.sequences for batch in some]
    dropped = [int((view.mask.sum(1) - (view.regions.abs().sum(-1) > 0).sum(1) == 2).sum()) for view in views]
    assert 0 < sum(dropped) < sum(len(batch.sentences) for batch in some)


def test_without_cutmix_there_is_no_patch_anywhere_and_the_contrast_is_with_the_replaced_words(folder):
    batch, mixed = (
        next(loader(folder, cutmix=cutmix, text_mask_probability=0.0).batches(0)) for cutmix in (False, True)
    )
    assert batch.mixed.sequences.regions.shape[1] == batch.view.sequences.regions.shape[1] == 0
    assert not len(batch.view.targets)
    texts, views = batch.text.sequences.ids, batch.view.sequences.ids
    assert torch.equal(texts, mixed.text.sequences.ids)
    for text, view in zip(texts.tolist(), views.tolist(), strict=True):
        words = [piece for piece in view if piece]
        assert 2 < len(words) < len([piece for piece in text if piece])
        assert set(words) <= set(text)


def test_a_patch_that_must_predict_its_word_is_asked_for_each_piece_of_it(folder):
    plain, more = (next(loader(folder, predict_replaced=value).batches(0)).mixed for value in (False, True))
    count = len(plain.targets)
    assert torch.equal(more.targets[:count], plain.targets)
    assert torch.equal(more.chosen[:count], plain.chosen)
    text = (more.sequences.order < more.sequences.ids.shape[1]) & more.sequences.mask
    rows, items = more.chosen[count:].T
    # Items behind the text are patches, of which each is asked.
    assert (items >= text.sum(1)[rows]).all()
    assert len({(int(row), int(item)) for row, item in more.chosen[count:]}) == int((~text & more.sequences.mask).sum())


def test_the_contrasts_sentences_are_masked_as_often_as_asked(folder):
    bare, masked, whole = (
        next(loader(folder, text_mask_probability=share).batches(0)).text for share in (0.0, 0.15, 1.0)
    )
    assert not len(bare.targets)
    words = int(whole.words.max()) + 1
    assert 0 < int(masked.words.max()) + 1 < 0.5 * words
    # What is to be predicted is what stood there.
    assert torch.equal(bare.sequences.ids[masked.chosen[:, 0], masked.chosen[:, 1]], masked.targets)
    assert (masked.sequences.ids != bare.sequences.ids).any()


def test_each_patch_of_the_contrastive_view_is_asked_for_the_word_that_it_replaced(folder):
    batch = next(loader(folder, text_mask_probability=0.0).batches(0))
    view = batch.view
    rows, items = view.chosen.T
    assert (items >= 2).all()  # behind [CLS] and [SEP]
    assert {(int(row), int(item)) for row, item in view.chosen} == {
        (row, item) for row, length in enumerate(view.sequences.mask.sum(1).tolist()) for item in range(2, length)
    }
    for row, target in zip(rows.tolist(), view.targets.tolist(), strict=True):
        assert target in batch.text.sequences.ids[row].tolist()


def test_a_sentence_is_as_rare_as_the_rarest_concept_pasted_into_it(folder):
    tokenizer = tokenizers.learn(["a dog"], 100)
    samples = [World().mixed(number) for number in range(4)]
    shown = [("dog", "dog", "cat"), ("dog",), ("dog", "kite"), ()]
    samples = [
        replace(
            sample,
            patches=tuple(replace(samples[0].patches[0], concept=concept) for concept in concepts),
            features=np.zeros((len(concepts), FEATURE_DIM), np.float16),
        )
        for sample, concepts in zip(samples, shown, strict=True)
    ]
    encoded = encode_sentences(samples, tokenizer, MODEL, FEATURE_DIM)
    # Three sentences show a dog, one each a cat and a kite; one without a patch is taken for the commonest.
    assert rarity(encoded, 1.0).tolist() == [1.0, 1 / 3, 1.0, 1 / 3]
    assert rarity(encoded, 0.5).tolist() == pytest.approx([1.0, 3**-0.5, 1.0, 3**-0.5])


def test_rare_concepts_come_more_often_with_balance(tmp_path):
    world = World()
    samples = []
    for number in range(40):
        sample = world.mixed(number)
        concept = "cat" if number < 4 else "dog"
        patches = tuple(replace(patch, concept=concept) for patch in sample.patches)
        mentions = tuple(replace(mention, concept=concept) for mention in sample.mentions)
        samples.append(replace(sample, patches=patches, mentions=mentions))
    shards = write_shards(str(tmp_path / "shards"), samples)

    def cats(balance):
        made = loader(shards, balance=balance)
        numbers = Counter(int(number) for batch in itertools.islice(made.batches(0), 5) for number in batch.sentences)
        own = encode_sentences(samples[:4], made._tokenizer, MODEL, FEATURE_DIM)
        return sum(numbers[sentence.number] for sentence in own)

    # In an epoch of 40: each once, or half of all draws where (1/4) * 4 stands against (1/36) * 36.
    assert cats(0.0) == 4
    assert cats(1.0) == 20


def test_sentences_without_a_patch_are_left_out_of_the_contrast_only(tmp_path):
    world = World()
    bare = [replace(world.mixed(n), replaced=(), patches=(), features=world.mixed(n).features[:0]) for n in range(3)]
    samples = [*bare, *(world.mixed(number) for number in range(3, 8))]
    batch = next(loader(write_shards(str(tmp_path / "shards"), samples)).batches(0))
    assert len(batch.mixed.sequences.ids) == 8
    assert len(batch.text.sequences.ids) == len(batch.view.sequences.ids) == len(batch.sentences) == 5
    nothing = next(loader(write_shards(str(tmp_path / "bare"), bare)).batches(0))
    assert nothing.text is None
    assert nothing.view is None


def test_equal_sentences_have_equal_numbers(tmp_path):
    world = World()
    mentions = tuple(replace(mention, surface=mention.surface.upper()) for mention in world.mixed(0).mentions)
    again = [replace(world.mixed(0), key="again", text=world.mixed(0).text.upper(), mentions=mentions)]
    batch = next(
        loader(write_shards(str(tmp_path / "shards"), [*(world.mixed(n) for n in range(7)), *again])).batches(0)
    )
    assert sorted(Counter(batch.sentences.tolist()).values()) == [1] * 6 + [2]


def test_masked_words_are_numbered_without_gaps_and_their_targets_are_not_in_the_input(folder):
    masked = next(loader(folder, mask_probability=1.0).batches(0)).mixed
    assert sorted(set(masked.words.tolist())) == list(range(int(masked.words.max()) + 1))
    changed = masked.sequences.ids[masked.chosen[:, 0], masked.chosen[:, 1]] != masked.targets
    assert changed.float().mean() > 0.7


def test_features_of_another_width_than_the_manifests_are_named(tmp_path):
    world = World()
    odd = replace(world.mixed(1), features=np.zeros((len(world.mixed(1).patches), 5), np.float16))
    folder = write_shards(str(tmp_path / "shards"), [world.mixed(0), odd])
    with pytest.raises(UserError, match=r"mixed-000000.tar: m000001 has features of width 5, the manifest says 16"):
        next(loader(folder).batches(0))


def test_a_damaged_shard_is_named(tmp_path):
    folder = write_shards(str(tmp_path / "shards"), [World().mixed(number) for number in range(4)])
    content = (tmp_path / "shards" / "mixed-000000.tar").read_bytes()
    (tmp_path / "shards" / "mixed-000000.tar").write_bytes(content[:3000])
    with pytest.raises(UserError, match=r"mixed-000000.tar: damaged"):
        loader(folder)


def test_shards_without_mixed_samples_are_refused(tmp_path):
    folder = write_shards(str(tmp_path / "shards"), [World().image(0)])
    with pytest.raises(UserError, match="no mixed samples"):
        open_shards(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"manifest.json: no such file"):
        open_shards(str(tmp_path))


def test_all_texts_and_tags_are_there_to_learn_words_from(folder):
    samples = list(open_shards(folder).samples())
    texts = [sample.text for sample in samples if isinstance(sample, MixedSample)]
    tags = [tag for sample in samples if not isinstance(sample, MixedSample) for tag in sample.tags]
    assert texts
    assert tags
    assert list(open_shards(folder).texts()) == texts + tags


def test_a_shard_cut_off_gives_no_texts_to_learn_from(tmp_path):
    folder = write_shards(str(tmp_path / "shards"), [World().mixed(number) for number in range(4)])
    shard = tmp_path / "shards" / "mixed-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    shards = open_shards(folder)
    with pytest.raises(UserError, match=r"mixed-000000.tar"):
        list(shards.texts())


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_shards_that_are_replaced_while_they_are_read_are_not_mixed_with_the_new_ones(tmp_path, how):
    world = World()
    folder = write_shards(str(tmp_path / "shards"), [world.mixed(number) for number in range(16)], per_shard=4)
    made = loader(folder, shards_in_memory=1)
    next(made.batches(0))
    files.remove(folder)
    if how == "replaced":
        write_shards(folder, [world.mixed(number) for number in range(16, 32)], per_shard=4)
    with pytest.raises(UserError, match="shards: was replaced after it was opened"):
        list(itertools.islice(made.batches(0), 2))
