import numpy as np
import pytest

from vlmixer.artifacts.samples import Mention, MixedSample, Patch
from vlmixer.model.mixed_views import mixed_views
from vlmixer.model.views import (
    IGNORED,
    NOWHERE,
    TAG_SEGMENT,
    TEXT_SEGMENT,
    geometry,
    mask_words,
    no_regions,
    regions_of,
    set_view,
    tag_view,
    text_and_tags_view,
    text_view,
    text_views,
    words_view,
)

CLS, SEP, MASK = 2, 3, 4


def patch(mention, concept):
    return Patch(mention, f"p-{concept}", "i", concept, 0.9, (10.0, 20.0, 60.0, 40.0), 100, 80)


@pytest.fixture
def sample():
    """ "a dog chases two kites": the dog is one patch, the kites are two."""
    mentions = (Mention(2, 5, "dog", "dog", "dog"), Mention(17, 22, "kite", "kites", "kite"))
    patches = (patch(0, "dog"), patch(1, "kite"), patch(1, "kite"))
    features = np.arange(6, dtype=np.float16).reshape(3, 2)
    return MixedSample("k", "s", 0, "a dog chases two kites", mentions, (0, 1), patches, features)


@pytest.fixture
def pieces(sample, tokenizer):
    return tokenizer.encode([sample.text])[0]


@pytest.fixture
def text(pieces, tokenizer):
    return text_view(pieces, tokenizer, 64, no_regions(2))


def mixed_view(sample, pieces, text, max_regions, patch_positions):
    (found,) = mixed_views([sample], [pieces], [text], max_regions, patch_positions)
    return found


def test_the_text_view_is_the_whole_sentence(pieces, tokenizer):
    view = text_view(pieces, tokenizer, 64, no_regions(2))
    assert view.ids.tolist() == [CLS, 5, 6, 7, 8, 9, 10, SEP]
    assert view.positions.tolist() == list(range(8))
    assert view.words.tolist() == [NOWHERE, 0, 1, 2, 3, 4, 4, NOWHERE]
    assert (view.segments.tolist(), len(view.regions), len(view)) == ([TEXT_SEGMENT] * 8, 0, 8)


def test_the_mixed_view_has_patches_in_place_of_the_replaced_pieces(sample, pieces, text, tokenizer):
    view, _ = mixed_view(sample, pieces, text, 50, True)
    assert view.ids.tolist() == [CLS, 5, 7, 8, SEP]
    assert view.positions.tolist() == [0, 1, 3, 4, 7]
    assert view.words.tolist() == [NOWHERE, 0, 2, 3, NOWHERE]
    assert view.regions.positions.tolist() == [2, 5, 5]
    assert view.regions.features.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert view.regions.geometry[0].tolist() == pytest.approx([0.1, 0.25, 0.6, 0.5, 0.5, 0.25])


def test_a_patch_knows_the_pieces_that_it_replaced(sample, pieces, text, tokenizer):
    _, replaced = mixed_view(sample, pieces, text, 2, True)
    assert replaced.tolist() == [[0, 6], [1, 9], [1, 10]]
    bare = MixedSample(**{**vars(sample), "replaced": (), "patches": (), "features": sample.features[:0]})
    assert mixed_view(bare, pieces, text, 2, True)[1].shape == (0, 2)


def test_patches_carry_no_position_where_the_setting_says_so(sample, pieces, text, tokenizer):
    view, _ = mixed_view(sample, pieces, text, 50, False)
    assert view.regions.positions.tolist() == [NOWHERE] * 3
    assert view.positions.tolist() == [0, 1, 3, 4, 7]


def test_a_mention_that_was_not_replaced_stays(sample, pieces, text, tokenizer):
    partly = MixedSample(
        **{**vars(sample), "replaced": (1,), "patches": sample.patches[1:], "features": sample.features[1:]}
    )
    view, _ = mixed_view(partly, pieces, text, 50, True)
    assert view.ids.tolist() == [CLS, 5, 6, 7, 8, SEP]
    assert view.regions.features.tolist() == [[2, 3], [4, 5]]


def test_a_sentence_without_replacement_is_its_own_mixed_view(sample, pieces, text, tokenizer):
    plain = MixedSample(**{**vars(sample), "replaced": (), "patches": (), "features": sample.features[:0]})
    view, _ = mixed_view(plain, pieces, text, 50, True)
    assert view.ids.tolist() == text_view(pieces, tokenizer, 64, no_regions(2)).ids.tolist()
    assert view.regions.features.shape == (0, 2)
    assert view.regions.geometry.shape == (0, 6)


def test_a_mention_beyond_the_cut_takes_its_patches_with_it(sample, pieces, text, tokenizer):
    view, _ = mixed_view(sample, pieces, text_view(pieces, tokenizer, 6, no_regions(2)), 50, True)  # a dog chases two |
    assert view.ids.tolist() == [CLS, 5, 7, 8, SEP]
    assert view.regions.features.tolist() == [[0, 1]]


def test_a_mention_that_the_cut_splits_is_replaced(sample, pieces, text, tokenizer):
    view, _ = mixed_view(
        sample, pieces, text_view(pieces, tokenizer, 7, no_regions(2)), 50, True
    )  # a dog chases two kite | s
    assert view.ids.tolist() == [CLS, 5, 7, 8, SEP]
    assert view.regions.positions.tolist() == [2, 5, 5]


def test_at_most_max_regions_patches_are_taken(sample, pieces, text, tokenizer):
    assert mixed_view(sample, pieces, text, 2, True)[0].regions.features.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("limit", [3, 6, 7, 64])
@pytest.mark.parametrize("max_regions", [1, 50])
def test_many_samples_at_once_have_the_views_that_each_has_alone(sample, tokenizer, limit, max_regions):
    bare = MixedSample(**vars(sample) | {"replaced": (), "patches": (), "features": sample.features[:0]})
    last = MixedSample(
        **vars(sample) | {"replaced": (1,), "patches": sample.patches[1:], "features": sample.features[1:] + 9}
    )
    nothing = MixedSample(**vars(bare) | {"text": "", "mentions": ()})
    samples = [bare, sample, nothing, last, sample]
    pieces = tokenizer.encode([each.text for each in samples])
    nowhere = no_regions(2)
    texts = text_views(pieces, tokenizer, limit, nowhere)
    together = mixed_views(samples, pieces, texts, max_regions, True)
    for each, own, text, (view, replaced) in zip(samples, pieces, texts, together, strict=True):
        single = text_view(own, tokenizer, limit, nowhere)
        assert all(np.array_equal(getattr(text, name), getattr(single, name)) for name in ("ids", "words", "positions"))
        alone, expected = mixed_view(each, own, single, max_regions, True)
        assert replaced.tolist() == expected.tolist()
        for name in ("ids", "positions", "words", "segments"):
            assert getattr(view, name).tolist() == getattr(alone, name).tolist()
        for name in ("features", "geometry", "positions"):
            found, one = (getattr(each.regions, name) for each in (view, alone))
            assert (found.dtype, found.shape, found.tolist()) == (one.dtype, one.shape, one.tolist())
    assert mixed_views([], [], [], 50, True) == []


def test_a_mention_before_the_text_does_not_take_its_frame(sample, pieces, text):
    early = MixedSample(**vars(sample) | {"mentions": (Mention(-9, 5, "dog", "dog", "dog"), sample.mentions[1])})
    view, _ = mixed_view(early, pieces, text, 50, True)
    assert view.ids.tolist() == [CLS, 7, 8, SEP]


def test_the_contrastive_view_without_words_is_what_an_image_is(sample, pieces, text, tokenizer):
    mixed, _ = mixed_view(sample, pieces, text, 50, True)
    alone = set_view(mixed.regions, tokenizer)
    image = set_view(regions_of(sample.patches, sample.features, 50), tokenizer)
    assert alone.ids.tolist() == image.ids.tolist() == [CLS, SEP]
    assert alone.regions.positions.tolist() == image.regions.positions.tolist() == [NOWHERE] * 3
    assert np.array_equal(alone.regions.features, image.regions.features)
    assert np.array_equal(alone.regions.geometry, image.regions.geometry)
    assert mixed.regions.positions.tolist() == [2, 5, 5]


def test_tags_count_as_one_word_each_and_have_their_own_segment(tokenizer):
    view = tag_view(tokenizer.encode(["hot air balloon", "dog"]), tokenizer, 64, no_regions(2))
    assert view.ids.tolist() == [CLS, 11, 12, 13, 6, SEP]
    assert view.words.tolist() == [NOWHERE, 0, 0, 0, 1, NOWHERE]
    assert set(view.segments) == {TAG_SEGMENT}


def test_a_question_its_tags_and_the_regions_are_one_sequence(tokenizer):
    tags = tokenizer.encode(["hot air balloon", "dog", "kite"])
    view = text_and_tags_view(tokenizer.encode(["a dog chases"])[0], tags, tokenizer, 9, no_regions(2))
    assert view.ids.tolist() == [CLS, 5, 6, 7, SEP, 11, 12, 13, SEP]  # "dog" has no room for its own [SEP]
    assert view.positions.tolist() == list(range(9))
    assert view.words.tolist() == [NOWHERE, 0, 1, 2, NOWHERE, 3, 3, 3, NOWHERE]
    assert view.segments.tolist() == [TEXT_SEGMENT] * 5 + [TAG_SEGMENT] * 4
    cut = text_and_tags_view(tokenizer.encode(["a dog chases"])[0], tags[1:], tokenizer, 9, no_regions(2), text_limit=4)
    assert cut.ids.tolist() == [CLS, 5, 6, SEP, 6, 9, SEP]
    alone = text_and_tags_view(tokenizer.encode(["a dog"])[0], tags[:1], tokenizer, 6, no_regions(2))
    assert alone.ids.tolist() == [CLS, 5, 6, SEP]


def test_a_tag_that_does_not_fit_is_left_out_whole(tokenizer):
    view = tag_view(tokenizer.encode(["dog", "hot air balloon"]), tokenizer, 5, no_regions(2))
    assert view.ids.tolist() == [CLS, 6, SEP]


def test_an_image_without_tags_or_regions_is_two_pieces(tokenizer):
    assert tag_view([], tokenizer, 64, no_regions(2)).ids.tolist() == [CLS, SEP]


def test_box_numbers_are_shares_of_each_regions_own_image():
    boxes = np.array([[0, 0, 10, 10], [5, 10, 10, 40]])
    numbers = geometry(boxes, np.array([10, 20]), np.array([20, 40]))
    assert numbers.tolist() == [[0, 0, 1, 0.5, 1, 0.5], [0.25, 0.25, 0.5, 1, 0.25, 0.75]]


WORDS = np.array([[NOWHERE, 0, 1, 1, 2, NOWHERE]] * 4000)
IDS = np.array([[CLS, 5, 9, 10, 6, SEP]] * 4000)


def test_masking_takes_whole_words_and_never_special_pieces(tokenizer):
    masked, targets = mask_words(IDS, WORDS, tokenizer, 0.5, np.random.default_rng(0))
    chosen = targets != IGNORED
    assert not chosen[:, [0, 5]].any()
    assert (chosen[:, 2] == chosen[:, 3]).all()
    assert (targets[chosen] == IDS[chosen]).all()
    assert (masked[~chosen] == IDS[~chosen]).all()


def test_masking_keeps_berts_shares(tokenizer):
    masked, targets = mask_words(IDS, WORDS, tokenizer, 0.15, np.random.default_rng(0))
    chosen = targets != IGNORED
    assert chosen[:, [1, 2, 4]].mean() == pytest.approx(0.15, abs=0.01)
    assert (masked[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.03)
    # One in nine random pieces is the right one again.
    assert (masked[chosen] == IDS[chosen]).mean() == pytest.approx(0.1 + 0.1 / 9, abs=0.02)
    assert masked[chosen & (masked != MASK)].min() >= 5


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 4 * 4000)])
def test_masking_none_or_all(tokenizer, probability, expected):
    _, targets = mask_words(IDS, WORDS, tokenizer, probability, np.random.default_rng(0))
    assert (targets != IGNORED).sum() == expected


def test_without_patches_the_contrastive_view_is_the_words_that_they_would_replace(sample, pieces, tokenizer):
    view = words_view(sample, pieces, tokenizer, 64)
    assert view.ids.tolist() == [CLS, 6, 9, 10, SEP]
    assert len(view.regions) == 0
    assert words_view(sample, pieces, tokenizer, 6).ids.tolist() == [CLS, 6, SEP]


def test_masking_agrees_with_a_plain_reference_word_by_word(tokenizer):
    """The same draws, taken in the same order, used one word and one piece at a time."""
    ids = np.array([[2, 11, 12, 13, 14, 3], [2, 15, 16, 3, 0, 0]])
    words = np.array([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, -1, -1, -1]])
    for seed in range(200):
        changed, targets = mask_words(ids, words, tokenizer, 0.4, np.random.default_rng(seed))
        random = np.random.default_rng(seed)
        by_word = random.random((2, 4))
        by_piece = random.random(ids.shape)
        strangers = random.integers(len(tokenizer.ordinary), size=ids.shape)
        for row in range(len(ids)):
            for place, word in enumerate(words[row]):
                piece, expected = ids[row, place], (ids[row, place], IGNORED)
                if word >= 0 and by_word[row, word] < 0.4:
                    if by_piece[row, place] < 0.8:
                        expected = (tokenizer.mask, piece)
                    elif by_piece[row, place] < 0.9:
                        expected = (tokenizer.ordinary[strangers[row, place]], piece)
                    else:
                        expected = (piece, piece)
                assert (changed[row, place], targets[row, place]) == expected
