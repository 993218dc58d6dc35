import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.crops import WIDTH, pack_crops
from vlmixer.pipeline.mix.cutmix import Mix, Pasted, Verdict
from vlmixer.pipeline.mix.samples import (
    Sentence,
    image_sample,
    image_samples,
    mix_sentences,
    mixed_sample,
    sample_key,
    why_rejected,
)  # fmt: skip
from vlmixer.pipeline.mix.settings import CutMixSettings

PATCH = Patch(1, "i1-002", "i1", "kite", 0.75, (1.0, 2.0, 3.0, 4.0), 640, 480)
MENTIONS = (Mention(2, 5, "dog", "dog", "dog"), Mention(17, 22, "kite", "kites", "kite"))
SENTENCE = Sentence("s-1", "a dog chases two kites", MENTIONS, 3)
DRAWN, LACKING, LEFT = Verdict("drawn", 0.1), Verdict("lacking"), Verdict("not_drawn", 0.7)


def jpeg(width, height, colour):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def test_keys_are_unique_and_without_dots():
    keys = [sample_key(sentence, view) for sentence in ("aa-000000000001", "aa-000000000002") for view in range(1000)]
    assert len(set(keys)) == 2000
    assert keys[:2] == ["aa-000000000001-00", "aa-000000000001-01"]
    assert not any("." in key for key in keys)


def test_a_mixed_sample_traces_every_patch():
    features = np.ones((2, 4), np.float16)
    mixed = Mix(MENTIONS, (LEFT, DRAWN), (Pasted(7, PATCH), Pasted(7, PATCH)), True)
    assert vars(mixed_sample(SENTENCE, mixed, features)) == vars(
        MixedSample("s-1-03", "s-1", 3, SENTENCE.text, MENTIONS, (1,), (PATCH, PATCH), features, True)
    )


def test_a_sample_without_patches_is_the_plain_sentence():
    sample = mixed_sample(SENTENCE, Mix(MENTIONS, (LEFT, LEFT), (), False), np.zeros((0, 4), np.float16))
    assert (sample.replaced, sample.patches, sample.features.shape) == ((), (), (0, 4))
    assert not sample.patches_only


def test_a_sample_with_crops_has_a_picture_and_says_where_its_patches_are():
    mixed = Mix(MENTIONS, (DRAWN, DRAWN), (Pasted(7, PATCH), Pasted(8, PATCH)), True)
    crops = [jpeg(30, 20, "red"), jpeg(10, 40, "blue")]
    sample = mixed_sample(SENTENCE, mixed, np.zeros((2, 4), np.float16), crops)
    assert [patch.crop for patch in sample.patches] == [(0, 0, 30, 20), (30, 0, 40, 40)]
    assert sample.picture
    picture = Image.open(io.BytesIO(sample.picture))
    assert picture.size == (40, 40)
    assert picture.crop((4, 4, 26, 16)).resize((1, 1)).tobytes()[0] > 240
    assert picture.crop((32, 4, 38, 36)).resize((1, 1)).tobytes()[2] > 240


def test_one_crop_stays_as_it_is_and_none_is_a_pixel():
    crop = jpeg(30, 20, "red")
    assert pack_crops([crop]) == (crop, [(0, 0, 30, 20)])
    picture, places = pack_crops([])
    assert Image.open(io.BytesIO(picture)).size == (1, 1)
    assert places == []


def test_crops_begin_another_row_where_the_picture_is_wide_enough():
    picture, places = pack_crops([jpeg(400, 30, "red"), jpeg(500, 60, "blue"), jpeg(200, 10, "green")])
    assert places == [(0, 0, 400, 30), (400, 0, 900, 60), (0, 60, 200, 70)]
    width, height = Image.open(io.BytesIO(picture)).size
    assert (width, height) == (900, 70)
    assert width <= WIDTH


def test_a_crop_that_does_not_decode_is_an_error():
    with pytest.raises(UserError, match="a crop cannot be decoded"):
        pack_crops([b"hello", jpeg(3, 3, "red")])


def test_an_image_sample_has_each_tag_once_most_confident_first():
    concepts = ["kite", "dog", "kite", "hot dog"]
    patches = [Patch(None, f"i1-{number:03d}", "i1", concept, 0.9 - number / 10, (0.0, 0.0, 5.0, 5.0), 640, 480)
               for number, concept in enumerate(concepts)]  # fmt: skip
    features = np.ones((4, 2), np.float16)
    sample = image_sample(patches, "photos/a.jpg", features)
    assert vars(sample) == vars(
        ImageSample("i1", "i1", "photos/a.jpg", 640, 480, ("kite", "dog", "hot dog"), tuple(patches), features)
    )


def test_image_samples_are_cut_where_the_image_changes():
    rows = [
        {"image_id": image, "patch_id": f"{image}-{n}", "concept": "dog", "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0],
         "width": 9, "height": 9, "source": f"{image}.jpg", "crop": jpeg(8, 8, "red")}
        for image, n in (("a", 0), ("a", 1), ("b", 0))
    ]  # fmt: skip
    features = np.arange(6, dtype=np.float16).reshape(3, 2)
    first, second = image_samples(rows, features, crops=True)
    assert (first.key, first.source, len(first.patches)) == ("a", "a.jpg", 2)
    assert second.features.tolist() == [[4, 5]]
    assert first.patches[1].crop == (8, 0, 16, 8)
    assert second.picture == rows[2]["crop"]
    assert next(image_samples(rows, features, crops=False)).picture is None
    assert list(image_samples([], features[:0], crops=False)) == []


@pytest.mark.parametrize(
    ("verdicts", "pasted", "settings", "reason", "concepts"),
    [
        ((LACKING, LACKING), (), {}, "no_patch", ("dog", "kite")),
        ((LACKING, DRAWN), (Pasted(7, PATCH),), {}, None, ()),
        ((LACKING, DRAWN), (Pasted(7, PATCH),), {"lacking": "reject"}, "lacking_patch", ("dog",)),
        ((LACKING, Verdict("phrase")), (), {}, "kept_phrase", ("dog", "kite")),
        ((LACKING, Verdict("phrase")), (), {"min_replaced": 0}, None, ()),
        ((LACKING, LACKING), (), {"min_replaced": 0}, "no_patch", ("dog", "kite")),
    ],
)
def test_why_no_sample_is_made(verdicts, pasted, settings, reason, concepts):
    found = why_rejected(SENTENCE, Mix(MENTIONS, verdicts, pasted, True), replace(CutMixSettings(), **settings))
    assert (found and found.reason, found.concepts if found else ()) == (reason, concepts)


def test_one_call_mixes_a_batch_without_beam(small_run):
    """What a collate function does."""
    bank = PatchBank.open(str(small_run.folder / "out" / "bank"))
    text = "a dog and a cat and a horse"
    words = {"dog": 2, "cat": 12, "horse": 22}
    mentions = tuple(Mention(at, at + len(word), word, word, word) for word, at in words.items())
    sentences = [
        *(Sentence(f"s-{number}", text, mentions) for number in range(40)),
        Sentence("only-lacking", text, mentions[2:]),
        Sentence("unknown", text, (Mention(2, 5, "no such concept", "dog", "dog"),)),
    ]
    samples = mix_sentences(sentences, bank, CutMixSettings(), seed=3)
    assert [sample.sentence_id for sample in samples] == [f"s-{number}" for number in range(40)]
    for sample in samples:
        assert sample.replaced in ((0,), (1,), (0, 1))
        rows = bank.rows([patch.patch_id for patch in sample.patches])
        assert np.array_equal(sample.features, bank.features(rows))
        assert [patch.concept for patch in sample.patches] == [("dog", "cat")[index] for index in sample.replaced]
    alone = mix_sentences([sentences[17]], bank, CutMixSettings(), seed=3)[0]
    assert vars(alone) | {"features": 0} == vars(samples[17]) | {"features": 0}
    other = mix_sentences(sentences, bank, CutMixSettings(), seed=4)
    assert any(one.patches != two.patches for one, two in zip(samples, other, strict=True))
