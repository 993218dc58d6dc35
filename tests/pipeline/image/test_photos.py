"""From references to photos: duplicates, decoding ahead, batches."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmixer.pipeline.image.photos import ImageSource, Photo, PhotoReader, in_batches
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.references import refs_table
from vlmixer.pipeline.image.survey import SurveyRows


def png(value: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def survey(tmp_path):
    """A survey of whole, broken, missing and equal images."""
    contents = {"a.png": png(1), "broken.png": b"broken", "b.png": png(2), "copy.png": png(1), "empty.png": b""}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    refs = [ImageRef(str(tmp_path / name), digest=bytes(16)) for name in [*contents, "missing.png"]]
    pq.write_table(refs_table(refs), tmp_path / "survey.parquet")
    return tmp_path


def read(folder, duplicates=(), *, decode_ahead=False):
    reader = PhotoReader(str(folder), ImageSource(1e8), lambda rows: dict(duplicates))
    photos = list(reader.photos([SurveyRows("survey.parquet", 0, 6)], decode_ahead=decode_ahead))
    return photos, {met.ref.source.rpartition("/")[2]: met.reason for met in reader.met if met.reason}, reader


def test_each_image_becomes_a_photo_or_a_reject(survey):
    photos, rejects, reader = read(survey, ((1, "the first"), (3, "a.png")))
    assert [(photo.ref.name.rpartition("/")[2], photo.width, int(photo.pixels[0, 0, 0])) for photo in photos] == [
        ("a.png", 8, 1), ("b.png", 8, 2)
    ]  # fmt: skip
    assert rejects == {
        "broken.png": "not_an_image",  # a copy of a broken image counts as broken
        "copy.png": "duplicate",
        "empty.png": "empty_file",
        "missing.png": "unreadable_file",
    }
    assert len(reader.met) == len(photos) + len(rejects)
    assert reader.bytes == len(png(1)) * 2 + len(png(2)) + len(b"broken")


def test_decoding_ahead_gives_the_same_photos_and_rejects(survey):
    one, other = read(survey), read(survey, decode_ahead=True)
    assert [photo.ref for photo in one[0]] == [photo.ref for photo in other[0]]
    assert all(np.array_equal(mine.pixels, its.pixels) for mine, its in zip(one[0], other[0], strict=True))
    assert one[1] == other[1]
    assert (len(one[2].met), one[2].bytes, one[2].sha256) == (len(other[2].met), other[2].bytes, other[2].sha256)


def test_batches_are_full_at_a_number_of_photos_or_of_pixels():
    def photos(*sides):
        return (Photo(ImageRef("x"), side, side, None) for side in sides)

    def sizes(*sides):
        return [len(batch) for batch in in_batches(photos(*sides), 3, max_pixels=100)]

    assert sizes() == []
    assert sizes(1, 1, 1, 1) == [3, 1]
    assert sizes(10, 1, 9, 9, 1) == [1, 3, 1]
