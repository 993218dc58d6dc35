import numpy as np

from artifacts.samples import ImageSample, Mention, MixedSample, Patch
from bank.store import PatchRecord
from pipeline.mix.cutmix import Pasted
from pipeline.mix.samples import image_sample, mixed_sample, sample_key

RECORD = PatchRecord(7, "i1-002", "i1", "kite", 0.75, (1.0, 2.0, 3.0, 4.0), 640, 480, {"source": "photos/a.jpg"},
                     ("dog",), 100, 20)  # fmt: skip
MENTIONS = (Mention(2, 5, "dog", "dog", "dog"), Mention(17, 22, "kite", "kites", "kite"))


def test_keys_are_unique_and_without_dots():
    keys = [sample_key(sentence, view) for sentence in ("aa-000000000001", "aa-000000000002") for view in range(1000)]
    assert len(set(keys)) == 2000
    assert keys[:2] == ["aa-000000000001-00", "aa-000000000001-01"]
    assert not any("." in key for key in keys)


def test_a_mixed_sample_traces_every_patch():
    features = np.ones((2, 4), np.float16)
    pasted = [Pasted(1, RECORD), Pasted(1, RECORD)]
    sample = mixed_sample("s-1", 3, "a dog chases two kites", MENTIONS, pasted, features)
    patch = Patch(1, "i1-002", "i1", "kite", 0.75, (1.0, 2.0, 3.0, 4.0), 640, 480)
    assert vars(sample) == vars(
        MixedSample("s-1-03", "s-1", 3, "a dog chases two kites", MENTIONS, (1,), (patch, patch), features)
    )


def test_replaced_mentions_are_ascending_and_each_once():
    pasted = [Pasted(2, RECORD), Pasted(0, RECORD), Pasted(2, RECORD)]
    assert mixed_sample("s", 0, "", (), pasted, np.zeros((3, 4), np.float16)).replaced == (0, 2)


def test_a_sample_without_patches_is_the_plain_sentence():
    sample = mixed_sample("s", 0, "a dog", MENTIONS[:1], [], np.zeros((0, 4), np.float16))
    assert (sample.replaced, sample.patches, sample.features.shape) == ((), (), (0, 4))


def test_an_image_sample_has_each_tag_once_most_confident_first():
    concepts = ["kite", "dog", "kite", "hot dog"]
    patches = [Patch(None, f"i1-{number:03d}", "i1", concept, 0.9 - number / 10, (0.0, 0.0, 5.0, 5.0), 640, 480)
               for number, concept in enumerate(concepts)]  # fmt: skip
    features = np.ones((4, 2), np.float16)
    sample = image_sample(patches, "photos/a.jpg", features)
    assert vars(sample) == vars(
        ImageSample("i1", "i1", "photos/a.jpg", 640, 480, ("kite", "dog", "hot dog"), tuple(patches), features)
    )
