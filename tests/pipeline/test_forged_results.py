"""Results that somebody forged so that their manifests match: what reads them says so in a line."""

import shutil
from pathlib import Path

import pytest
from tests.model.runs import SHORT, SMALL
from tests.pipeline import forged_readers
from tests.pipeline.forgeries import FORGERIES
from tests.pipeline.forging import Forgery, seal
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.artifacts.errors import UserError
from vlmixer.model.checkpoint import load_checkpoint
from vlmixer.model.config import Settings
from vlmixer.model.training import train
from vlmixer.pipeline.mix.upstream import read_upstream

READERS = {
    "regions": forged_readers.regions,
    "tagged": lambda folder: forged_readers.mix(str(Path(folder).parent)),
    "bank": forged_readers.bank,
    "shards": forged_readers.shards,
    "run": forged_readers.run,
}
REFUSED = {
    "regions": ("score 2.0", "score -1.0", "feature_dim 3", "feature_dim 2147483648", "rows of -5",
                "images_by_part [-1]", "crop of 400 megapixels"),
    "tagged": ("span -5 to 3", "span 0 to 1000000", "spans in no order", "surface of blanks", "other surface",
               "sentence_id ../../x"),
    "bank": ("score 2.0", "candidates -1", "most patches -1", "feature_dim -1"),
    "shards": ("mention 0 to 1000000", "other surface", "replaced none", "replaced twice", "patch of another concept",
               "score 2.0", "no view"),
    "run": ("weights nan", "reference inf", "layers of 10^9", "hidden size of 10^6", "steps"),
}  # fmt: skip


def forged(folder: str, name: str) -> Forgery:
    return next(forgery for forgery in FORGERIES if (forgery.folder, forgery.name) == (folder, name))


@pytest.fixture(scope="module")
def trained(small_run: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished OUT with a run."""
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path_factory.mktemp("trained") / "out"))
    train(Settings(seed=1, out=str(out), model=SMALL, train=SHORT), pipeline="seed: 1\n")
    return out


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder in REFUSED for name in REFUSED[folder]])
def test_what_reads_a_forged_result_refuses_it(trained: Path, tmp_path: Path, folder: str, name: str) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    forged(folder, name).make(out)
    seal(out)
    with pytest.raises(UserError):
        READERS[folder](str(out / folder))


@pytest.mark.parametrize("name", ["images_by_part []", "no counts"])
def test_counts_that_mix_needs_are_there(trained: Path, tmp_path: Path, name: str) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    folder = "regions" if name.startswith("images") else "tagged"
    forged(folder, name).make(out)
    seal(out)
    with pytest.raises(UserError, match=r"damaged \((no count of sentences|images_by_part)"):
        read_upstream(str(out))


def test_a_checkpoint_with_other_settings_is_passed_over(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    forged("run", "state: precision").make(out)
    found = load_checkpoint(str(out / "run"))
    assert found is not None
    assert found.state.step < SHORT.steps
