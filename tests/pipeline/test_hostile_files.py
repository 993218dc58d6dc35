"""Files of a finished output folder that somebody changed: every command says so in a line."""

from pathlib import Path

import pytest
from tests.pipeline.hostile_calls import attempt
from tests.pipeline.hostile_changes import changes
from tests.pipeline.jobs.small_corpus import Corpus

FILES = ("bank/manifest.json", "bank/concepts.parquet", "bank/patches.parquet", "bank/features.npy", "bank/index.faiss",
         "shards/manifest.json", "shards/mixed-000000.tar", "contents.json", "shards/tally.json")  # fmt: skip
EVERY = 97
"""`benchmarks/hostile_files.py` makes any number of changes of all files; here it is each 97th, and the first ones."""


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_one_line_for_every_command(small_run: Corpus, tmp_path: Path, name: str) -> None:
    out = small_run.folder / "out"
    found = list(changes(out / name))
    for change in [*found[1:7:2], *found[7::EVERY]]:
        place = tmp_path / "place"
        place.mkdir(exist_ok=True)
        _, wrong = attempt(out, name, change, small_run.folder / "config.yaml", place, light=True)
        assert not wrong, wrong[0]
