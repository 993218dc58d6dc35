"""The table of text formats. To add one, write a `TextFormat` in a file of its own and enter it here."""

from vlmixer.pipeline.text.readers.base import TextFormat
from vlmixer.pipeline.text.readers.json_lines import JsonLines
from vlmixer.pipeline.text.readers.json_list import JsonList
from vlmixer.pipeline.text.readers.packing import is_packed, unpacked_name
from vlmixer.pipeline.text.readers.parquet import ParquetColumn
from vlmixer.pipeline.text.readers.plain import PlainText
from vlmixer.pipeline.text.readers.table import TextTable
from vlmixer.pipeline.text.readers.tar import TarSamples

FORMATS: dict[str, TextFormat] = {
    "jsonl": JsonLines(),
    "ndjson": JsonLines(),
    "json": JsonList(),
    "parquet": ParquetColumn(),
    "tar": TarSamples(),
    "csv": TextTable(","),
    "tsv": TextTable("\t"),
}
"""Formats by the ending of the unpacked file's name."""

OTHER: TextFormat = PlainText()
"""The format of files with any other ending, or none."""


def format_of(name: str) -> TextFormat:
    """The format of a file, by its name."""
    return FORMATS.get(unpacked_name(name).rpartition(".")[2], OTHER)


def is_side_file(name: str) -> bool:
    """Whether the name is typical of files next to the data in a folder: documentation, statistics, hidden files."""
    base = name.replace("\\", "/").rpartition("/")[2].lower()
    return (
        base.startswith((".", "_"))
        or base in ("thumbs.db", "desktop.ini", "dataset_infos.json", "state.json", "dataset_info.json")
        or base.partition(".")[0] in ("readme", "license", "licence", "copying", "changelog", "notice")
        or base.endswith(("_stats.json", ".md", ".py", ".lock"))
        or "/__MACOSX/" in name
    )


def can_split(name: str) -> bool:
    """Whether reading can begin in the middle of the file."""
    return not is_packed(name) and format_of(name).splits
