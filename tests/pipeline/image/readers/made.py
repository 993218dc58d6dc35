"""Image inputs made on the fly, and what the readers find in them."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlmixer.pipeline.image.readers.base import Unreadable
from vlmixer.pipeline.image.readers.corpus import READERS, plan, read_images, survey
from vlmixer.pipeline.image.readers.references import refs_of, refs_table

MANY = 1e9


def jpeg(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 255 - number, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def refs(*patterns, contents=True, readers=READERS):
    """All references of a corpus, in the order of the inputs, read back from their form on disk."""
    pieces = plan([str(pattern) for pattern in patterns], readers).pieces
    found = [ref for piece in pieces for ref in survey(piece, contents=contents)]
    assert refs_of(refs_table(found)) == found
    assert len({ref.image_id for ref in found}) == len(found)
    return sorted(found, key=lambda ref: ref.order)


def bytes_of(found, max_bytes=MANY):
    """By name, the bytes or the reason why there are none."""
    read = list(read_images(found, max_bytes))
    assert [ref for ref, _ in read] == list(found)
    return {ref.name: data.reason if isinstance(data, Unreadable) else data for ref, data in read}


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path, images, group=3, **columns):
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=group)
    return path
