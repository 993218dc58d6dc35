"""Results that somebody forged so that their manifests match: what reads them says so in a line."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from tests.model.runs import SHORT, SMALL
from tests.pipeline import forged_readers
from tests.pipeline.forgeries import FORGERIES
from tests.pipeline.forging import Forgery, seal
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.model.checkpoint import load_checkpoint
from vlmixer.model.config import Settings
from vlmixer.model.state import packed_state
from vlmixer.model.training import train
from vlmixer.pipeline.mix.upstream import read_upstream
from vlmixer.pipeline.verification.verify import verify

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


SEEN = {
    ("tagged", "rows of 10^12"): ("part-00000.parquet", "rows, the manifest says 1000000000000"),
    ("tagged", "one sentence_id"): ("part-00000.parquet", "occurs twice in row group 0"),
    ("bank", "index of ones"): ("index.faiss", "its vectors are not those of the patches' features"),
    ("bank", "candidates 4611686018427387904"): ("concepts.parquet", "the manifest counts 491 regions read"),
    ("bank", "candidates 0"): ("concepts.parquet", "fewer candidates than patches"),
    ("bank", "many synonyms"): ("concepts.parquet", "are not those of the manifest's vocabulary_hash"),
    ("bank", "context twice"): ("patches.parquet", "contexts are not the other concepts"),
    ("bank", "similarity NaN"): ("manifest.json", "details say duplicate_similarity -1e+308, its settings 0.95"),
    ("shards", "seed huge"): ("manifest.json", "its settings 3"),
    ("shards", "huge number"): ("mixed-000000.tar", "cannot be read"),
    ("run", "weights inf"): ("model.safetensors", "are not finite"),
    ("run", "weights 0.0"): ("model.safetensors", "has the same number everywhere"),
    ("run", "hidden size of 10^6"): ("config.yaml", "its settings are not those that the manifest says"),
    ("run", "a seed of 10^400"): ("config.yaml", "config.yaml"),
    ("run", "reference nan"): ("reference.safetensors", "are not finite"),
    ("run", "pieces of 10^7"): ("tokenizer.json", "each id takes a row"),
    ("run", "padding"): ("tokenizer.json", "cuts texts or pads them"),
    ("run", "state: losses"): ("checkpoints/step-00000012", "losses of more steps than there were"),
    ("run", "state: precision"): ("checkpoints/step-00000012", "lacks the settings of the run"),
}


@pytest.mark.parametrize(("folder", "name"), SEEN)
def test_verify_sees_a_forged_result(trained: Path, tmp_path: Path, folder: str, name: str) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out", ignore=shutil.ignore_patterns("work", "regions")))
    forged(folder, name).make(out)
    seal(out)
    report = verify(str(out / folder))
    file, what = SEEN[folder, name]
    found = [(problem.file.removeprefix(f"{out}/{folder}/"), problem.what) for problem in report.problems]
    assert any(place == file and what in said for place, said in found), found


def test_verify_compares_what_manifests_say_about_each_other(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    for name in ("detector ours", "feature_dim 3"):
        forged("bank", name).make(out)
    seal(out)
    found = {problem.what for problem in verify(str(out)).problems if problem.file == f"{out}/bank/manifest.json"}
    assert {f"another {what} than regions/, from which it was made" for what in ("detector", "feature_dim")} <= found


def test_verify_finds_another_run_s_files(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    run = out / "run"
    assert verify(str(run)).sound
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((run / name).read_bytes())
        (run / name).write_text(json.dumps(content | {"auto_map": {"AutoModel": "evil.Model"}}))
    swapped = load_file(run / "model.safetensors")
    save_file({key: -value for key, value in swapped.items()}, run / "model.safetensors")
    earlier = run / "checkpoints" / "step-00000008"
    with zipfile.ZipFile(earlier / "optimizer.pt", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(print, protocol=2))
    state = json.loads((earlier / "state.json").read_bytes())
    del state["content_hash"]
    state["files"]["optimizer.pt"] = files.sha256(str(earlier / "optimizer.pt"))
    (earlier / "state.json").write_bytes(packed_state(state))
    seal(out)
    found = "\n".join(f"{problem.file}: {problem.what}" for problem in verify(str(run)).problems)
    for what in (
        "/config.json: cannot be read: ValueError: auto_map",
        "/tokenizer_config.json: cannot be read: ValueError: auto_map",
        "step-00000012: cannot be read: ValueError: its model.safetensors is not the run's",
        "optimizer.pt: cannot be read: ValueError: its pickle names '__builtin__ print'",
    ):  # fmt: skip
        assert what in found


def test_a_run_is_verified_without_torch(trained: Path) -> None:
    program = f"""
import sys
from vlmixer.pipeline.verification.verify import verify
assert verify({str(trained / "run")!r}).sound
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


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
