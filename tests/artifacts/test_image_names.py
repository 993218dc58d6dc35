"""A name that people write finds its image, also where only the images that may be meant are held."""

import pyarrow as pa
import pytest

from vlmixer.artifacts.image_names import ImageName, ImageNames, SimilarNames, WantedNames

IMAGES = [
    ImageName("00aa", "photos/Dog.JPG"),
    ImageName("00ab", "photos/dog 2.jpg "),
    ImageName("00ac", "a\\b\\cat.jpg"),
    ImageName("00ad", "set.tar", "x/Straße.jpg"),
    ImageName("00ae", "set.tar", "ÉTÉ.png", "https://example.org/ete.png"),
    ImageName("00af", "odd/./."),
    ImageName("00b0", "odd/bird.jpg/.."),
    ImageName("00b1", "new\nline/fish.jpg"),
]
NAMES = [
    "00AA", "dog.jpg", "/home/me/PHOTOS/dog.jpg", "file:///photos/Dog.JPG", "dog 2.jpg", "cat.jpg", "b/cat.jpg",
    "STRASSE.JPG", "straße.jpg", "été.png", "set.tar", "set.tar/x/Straße.jpg", "https://example.org/ete.png", "odd",
    "fish.jpg", "nothing.jpg", "", ".", "..", "photos/", "bird.jpg", "00b1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_images_that_may_be_meant_are_enough(name):
    columns = {
        field: pa.chunked_array([[getattr(image, field) for image in IMAGES]], pa.string())
        for field in ("image_id", "source", "key", "url")
    }
    paths = [columns["source"], columns["key"]]
    may_mean = WantedNames([name]).may_mean([columns["image_id"], columns["url"], *paths], paths)
    held = [image for image, may in zip(IMAGES, may_mean.tolist(), strict=True) if may]
    assert ImageNames(held).find(name) == ImageNames(IMAGES).find(name)


def test_similar_names_are_those_of_all_images_together():
    together = SimilarNames(["dig.jpg", "cot.jpg"])
    together.look(IMAGES)
    similar = SimilarNames(["dig.jpg", "cot.jpg"])
    for image in IMAGES:
        similar.look([image])
    assert similar.to("dig.jpg") == together.to("dig.jpg") != ()
    assert similar.to("cot.jpg") == together.to("cot.jpg") != ()
    assert similar.to("dog.jpg") == ()
