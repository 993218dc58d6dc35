"""Captions as data sets ship them: read by a path in text.field, or refused with the line to write."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.text.readers.helpers import parquet, tar

from vlmixer.pipeline.text.readers.fields import column_number, suggested, text_of

KARPATHY = {"images": [
    {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "one dog", "tokens": ["one"]}, {"raw": "two dogs"}]},
    {"filename": "b.jpg", "split": "val", "sentences": [{"raw": "three dogs"}]},
], "dataset": "flickr30k"}  # fmt: skip
REGIONS = [{"id": 1, "regions": [{"region_id": 5, "phrase": "one dog", "x": 3}, {"phrase": "two dogs"}]},
           {"id": 2, "regions": [{"phrase": "three dogs"}]}]  # fmt: skip
LLAVA = [{"id": "1", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\none dog"},
                                                        {"from": "gpt", "value": "two dogs"}]},
         {"id": "2", "conversations": [{"from": "human", "value": "three dogs"}]}]  # fmt: skip
QUESTIONS = {"info": {"version": "2"}, "license": {"url": "x"}, "data_type": "mscoco", "questions": [
    {"image_id": 1, "question": text, "question_id": 2} for text in ("one dog", "two dogs", "three dogs")]}  # fmt: skip
SBU = {"image_urls": ["http://a", "http://b", "http://c"], "captions": ["one dog", "two dogs", "three dogs"]}
GQA = {"01": {"question": "one dog", "imageId": "1"}, "02": {"question": "two dogs"}, "03": {"question": "three dogs"}}
NAMES = {"a.jpg": ["one dog", "two dogs"], "b.jpg": ["three dogs"]}
THREE = ["one dog", "two dogs", "three dogs"]

LAYOUTS = {
    "Karpathy": (KARPATHY, "images.*.sentences.*.raw"),
    "Visual Genome": (REGIONS, "*.regions.*.phrase"),
    "LLaVA": (LLAVA, "*.conversations.*.value"),
    "VQA": (QUESTIONS, "questions.*.question"),
    "SBU": (SBU, "captions.*"),
    "GQA": (GQA, "*.question"),
    "names": (NAMES, "*"),
    "BLIP": ([{"image": "a.jpg", "caption": ["one dog", "two dogs"]}, {"caption": "three dogs"}], "caption"),
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_are_read_by_their_path(read, case, indent):
    content, field = LAYOUTS[case]
    result = read("a.json", json.dumps(content, indent=indent).encode(), field=field)
    assert (result.texts, result.rejects) == (THREE, [])
    packed = read("a.json.gz", gzip.compress(json.dumps(content).encode()), field=field)
    assert packed.texts == THREE


def test_a_star_for_the_list_at_the_top_may_be_left_out(read):
    assert read("a.json", json.dumps(LLAVA).encode(), field="conversations.*.value").texts == THREE
    lines = "".join(f"{json.dumps(item)}\n" for item in LLAVA).encode()
    assert read("a.jsonl", lines, field="conversations.*.value").texts == THREE
    members = [(f"{row}.json", json.dumps(item).encode()) for row, item in enumerate(LLAVA)]
    assert read("a.tar", tar(members), field="conversations.*.value").texts == THREE


@pytest.mark.parametrize("case", ["Karpathy", "Visual Genome", "LLaVA", "VQA", "GQA", "names"])
def test_without_the_path_the_line_to_write_is_named(read, case):
    content, field = LAYOUTS[case]
    result = read("a.json", json.dumps(content).encode())
    assert result.texts == []
    field = field.removeprefix("*.") if isinstance(content, list) else field
    field = f'"{field}"' if field.startswith("*") else field
    assert result.details[0].endswith(f"write text.field: {field}")
    assert result.reasons[0] in ("missing_field", "unreadable_file")


def test_only_the_text_that_is_missing_is_lost(read):
    content = [{"conversations": [{"value": "one dog"}, {"from": "gpt"}, {"value": 5}, {"value": "two dogs"}]},
               {"conversations": []}, {"id": 3}, {"conversations": [{"value": "three dogs"}]}]  # fmt: skip
    result = read("a.json", json.dumps(content).encode(), field="conversations.*.value")
    assert result.texts == THREE
    assert result.rejects == [("0-1", "missing_field"), ("0-2", "missing_field"), ("1", "missing_field"),
                              ("2", "missing_field")]  # fmt: skip


def test_a_file_without_the_path_is_one_reject(read):
    result = read("a.json", json.dumps(KARPATHY).encode(), field="pictures.*.raw")
    assert result.reasons == ["missing_field"]
    assert result.details[0].startswith(
        "nothing at 'pictures.*.raw'; found an object with the keys 'images', 'dataset'; "
    )
    assert result.details[0].endswith("write text.field: images.*.sentences.*.raw")


def test_parquet_columns_of_any_case_and_depth(read):
    laion = {"SAMPLE_ID": [1, 2, 3], "URL": ["http://x"] * 3, "TEXT": THREE}
    assert read("laion.parquet", parquet(laion), field="TEXT").texts == THREE
    refused = read("laion.parquet", parquet(laion))
    assert refused.details == ["no column 'caption' in: SAMPLE_ID, URL, TEXT; 3 rows; write text.field: TEXT"]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"conversations": [item["conversations"] for item in LLAVA]}), buffer)
    assert read("a.parquet", buffer.getvalue(), field="conversations.*.value").texts == THREE


CC3M = b'one dog\thttp://x.test/a b c d\n"two dogs\thttp://y.test\nthree dogs\thttp://z.test\n'
TABLES = [
    ("cc3m.tsv", CC3M, "column 1", ["one dog", '"two dogs', "three dogs"]),
    ("cc12m.tsv", b"http://x.test\tone dog\nhttp://y.test\ttwo dogs\nhttp://z.test\tthree dogs", "column 2", THREE),
    ("results.token", b"1.jpg#0\tone dog\n1.jpg#1\ttwo dogs\n2.jpg#0\tthree dogs\n", "column 2", THREE),
    ("Flickr8k.token.txt", b"1.jpg#0\tone dog\n1.jpg#1\ttwo dogs\n2.jpg#0\tthree dogs\n", "column 2", THREE),
    ("results.csv", b"image_name| comment_number| comment\n1.jpg| 0| one dog\n1.jpg| 1| two dogs\n2.jpg|0|three dogs\n",
     "comment", THREE),
    ("flickr.csv", b'raw,sentids,filename\n"[""one dog"", ""two dogs""]","[0]",1.jpg\n"[""three dogs""]",[2],2.jpg\n',
     "raw", THREE),
    ("open_clip.csv", b"filepath\ttitle\na.jpg\tone dog\nb.jpg\ttwo dogs\nc.jpg\tthree dogs\n", "title", THREE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "field", "texts"), TABLES)
def test_tables_are_read_by_column_or_refused_with_it(read, name, content, field, texts):
    result = read(name, content, field=field)
    assert (result.texts, result.rejects) == (texts, [])
    refused = read(name, content)
    assert refused.texts == []
    assert refused.reasons == ["missing_field"]
    assert refused.details[0].endswith(f"write text.field: {field}")


def test_columns_count_from_one():
    assert [column_number(field) for field in ("column 1", "column 12", "column 0", "column", "caption")] == [
        0, 11, None, None, None
    ]  # fmt: skip


def test_localized_narratives_are_json_lines(read):
    lines = "".join(f"{json.dumps({'dataset_id': 'x', 'image_id': 'a', 'caption': text})}\n" for text in THREE)
    assert read("open_images_train_v6_localized_narratives-00000-of-00010.jsonl", lines.encode()).texts == THREE


def test_a_key_with_dots_is_taken_as_it_is():
    assert text_of({"a.b": "one", "a": {"b": "two"}}, "a.b") == "one"
    assert text_of({"a": {"b": "two"}}, "a.b") == "two"
    assert suggested({"n": 1, "url": "http://a b"}) == ""
    assert suggested({"alt": "a dog", "x": "y z"}) == "write text.field: alt"
