"""What img2dataset writes: files, tars or Parquet, with records and statistics next to them."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_tar

from vlmixer.pipeline.image.readers.corpus import plan


def img2dataset_files(folder):
    (folder / "00000").mkdir(parents=True)
    for number in range(3):
        stem = folder / "00000" / f"{number:09d}"
        stem.with_suffix(".jpg").write_bytes(jpeg(number))
        stem.with_suffix(".txt").write_text(f"caption {number}")
        stem.with_suffix(".json").write_text(
            json.dumps({"url": f"http://u/{number}", "license": None, "key": stem.name})
        )
    pq.write_table(pa.table({"url": ["http://u/0"], "key": ["000000000"]}), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")


def test_the_files_of_img2dataset(tmp_path):
    img2dataset_files(tmp_path / "out")
    corpus = plan([str(tmp_path / "out")])
    found = refs(tmp_path / "out")
    assert [os.path.basename(ref.source) for ref in found] == [f"{number:09d}.jpg" for number in range(3)]
    assert [ref.url for ref in found] == [f"http://u/{number}" for number in range(3)]
    assert len(corpus.set_aside) == 3 + 3 + 2
    # The records beside the images are found from a glob of images, too.
    assert [ref.url for ref in refs(tmp_path / "out" / "*" / "*.jpg")] == [ref.url for ref in found]


def test_the_tars_and_the_parquet_of_img2dataset(tmp_path):
    records = [{"url": f"http://u/{number}", "license": "by"} for number in range(3)]
    (tmp_path / "tars").mkdir()
    write_tar(
        tmp_path / "tars" / "00000.tar",
        [
            (f"{number:09d}.{ending}", data)
            for number, record in enumerate(records)
            for ending, data in (("jpg", jpeg(number)), ("json", json.dumps(record).encode()), ("txt", b"caption"))
        ],
    )
    pq.write_table(pa.table({"url": ["http://u/0"]}), tmp_path / "tars" / "00000.parquet")
    (tmp_path / "tars" / "00000_stats.json").write_text("{}")
    found = refs(tmp_path / "tars")
    assert [(ref.key, ref.url, ref.license) for ref in found] == [
        (f"{number:09d}.jpg", f"http://u/{number}", "by") for number in range(3)
    ]
    (tmp_path / "parquet").mkdir()
    images = [jpeg(number) for number in range(3)]
    table = pa.table({"key": ["a", "b", "c"], "jpg": images, "url": [record["url"] for record in records]})
    pq.write_table(table, tmp_path / "parquet" / "00000.parquet")
    (tmp_path / "parquet" / "00000_stats.json").write_text("{}")
    found = refs(tmp_path / "parquet")
    assert [ref.url for ref in found] == [record["url"] for record in records]
    assert list(bytes_of(found).values()) == images
