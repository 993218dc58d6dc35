"""Files of a finished output folder that somebody changed: every command says so in a line."""

import shutil
from pathlib import Path

import pytest
from tests.model.runs import SHORT, SMALL
from tests.pipeline.hostile_calls import attempt
from tests.pipeline.hostile_changes import changes
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.model.config import Settings
from vlmixer.model.training import train

FILES = ("bank/manifest.json", "bank/concepts.parquet", "bank/patches.parquet", "bank/features.npy", "bank/index.faiss",
         "shards/manifest.json", "shards/mixed-000000.tar", "contents.json", "shards/tally.json")  # fmt: skip
OF_STAGES = ("tagged/manifest.json", "tagged/part-00000.parquet", "tagged/record/not-meant.parquet",
             "regions/part-00000.parquet", "regions/record/images.parquet")  # fmt: skip
OF_THE_RUN = ("run/manifest.json", "run/config.yaml", "run/tokenizer.json", "run/model.safetensors",
              "run/checkpoints/step-00000012/state.json", "run/checkpoints/step-00000012/optimizer.pt")  # fmt: skip
EVERY = 97
"""`benchmarks/hostile_files.py` makes any number of changes of all files; here it is each 97th, and the first ones."""


@pytest.fixture(scope="module")
def trained(small_run: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished OUT with a run."""
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path_factory.mktemp("trained") / "out"))
    train(Settings(seed=1, out=str(out), model=SMALL, train=SHORT), pipeline="seed: 1\n")
    return out


def try_changes(out: Path, name: str, every: int, config: Path, place: Path) -> None:
    found = list(changes(out / name))
    for change in [*found[1:7:2], *found[7::every]]:
        place.mkdir(exist_ok=True)
        _, wrong = attempt(out, name, change, config, place, light=True)
        assert not wrong, wrong[0]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_one_line_for_every_command(small_run: Corpus, tmp_path: Path, name: str) -> None:
    try_changes(small_run.folder / "out", name, EVERY, small_run.folder / "config.yaml", tmp_path / "place")


@pytest.mark.parametrize("name", [*OF_STAGES, *OF_THE_RUN])
def test_so_it_is_in_the_other_folders(trained: Path, small_run: Corpus, tmp_path: Path, name: str) -> None:
    try_changes(trained, name, 2 * EVERY, small_run.folder / "config.yaml", tmp_path / "place")
