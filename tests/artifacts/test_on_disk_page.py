"""docs/on-disk.md names every column, every field and every reason, and no others."""

import re
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest

from vlmixer.artifacts import manifest, rejects, schemas
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.stages import WITH_MANIFEST

PAGE = (Path(__file__).parents[2] / "docs" / "on-disk.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def tables(section):
    """The tables of a section: for each the cells of its rows below the head."""
    found = re.findall(r"^\|(?:[- ]+\|)+\n((?:\|.*\n)+)", SECTIONS[section], re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()] for table in found]


def columns(section, table=0):
    """Column -> type, as a table lists them; several columns may share a row."""
    listed = {}
    for names, types, *_ in tables(section)[table]:
        names, types = re.findall(r"`(.+?)`", names), types.split(", ")
        parent = names[0].partition(".")[0]
        for number, name in enumerate(names):
            listed[parent + name if name.startswith(".") else name] = types[min(number, len(types) - 1)]
    return listed


def described(schema):
    """The columns of a schema in the words of the page."""
    words = {"float": "float32", "halffloat": "float16", "fixed_size_list": "float32[4]"}

    def kind(column):
        if pa.types.is_fixed_size_list(column):
            return "float16[D]" if pa.types.is_float16(column.value_type) else "float32[4]"
        if pa.types.is_list(column):
            return f"list of {'struct' if pa.types.is_struct(column.value_type) else kind(column.value_type)}"
        return words.get(str(column), str(column))

    inner = {f"{field.name}.{part.name}": kind(part.type) for field in schema if pa.types.is_list(field.type)
             and pa.types.is_struct(field.type.value_type) for part in field.type.value_type}  # fmt: skip
    return {field.name: kind(field.type) for field in schema} | inner


@pytest.mark.parametrize(
    ("section", "table", "schema"),
    [
        ("tagged/", 0, schemas.TAGGED),
        ("regions/", 0, schemas.regions(8)),
        ("bank/", 0, schemas.CONCEPTS),
        ("bank/", 1, schemas.PATCHES),
    ],
)
def test_columns(section, table, schema):
    assert columns(section, table) == described(schema)


def test_columns_of_rejects():
    listed = re.search(r"The columns are strings: (.*?)an integer", SECTIONS["rejects/"], re.DOTALL)
    assert listed
    assert re.findall(r"`(\w+)`", listed[1]) == schemas.REJECTS.names


def test_reasons_of_rejects():
    listed = {cells[0].strip("`"): cells[1] for cells in tables("rejects/")[1]}
    assert listed == dict.fromkeys(rejects.BAD, "bad") | dict.fromkeys(rejects.UNUSED, "unused")


def test_fields_of_manifests():
    listed = {cells[0].strip("`") for cells in tables("manifest.json")[0]}
    assert listed == {field.name for field in fields(Manifest)} | {"content_hash"}
    assert f"| `schema_version` | {manifest.SCHEMA_VERSION};" in SECTIONS["manifest.json"]


def test_details_of_manifests():
    listed = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[3])) for cells in tables("manifest.json")[1]}
    for stage in WITH_MANIFEST:
        assert {field.name for field in fields(stage.details)} <= listed.pop(stage.name)
    assert not listed


def test_the_examples_of_samples_have_every_field():
    from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch

    mixed, image = (re.findall(rf'^{{"kind": "{kind}".*?^```', PAGE, re.M | re.S)[0] for kind in ("mixed", "image"))
    for text, kinds in ((mixed, (MixedSample, Mention, Patch)), (image, (ImageSample, Patch))):
        wanted = {field.name for kind in kinds for field in fields(kind)} - {"features", "picture", "crop"}
        assert set(re.findall(r'"(\w+)":', text)) == wanted | {"kind"}
