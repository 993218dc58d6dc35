"""Reports are no data: one that changed, is missing or is another program's makes nothing stale and is rewritten."""

import json
import shutil
from pathlib import Path

import pytest
from tests.pipeline.jobs.small_corpus import Corpus, contents, run
from tests.pipeline.report.small import read_page

from vlmixer.artifacts import manifest
from vlmixer.artifacts.stages import STAGES
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import MixSettings, TextSettings
from vlmixer.pipeline.jobs import tag
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.mix import packages as packages_of_mix

REPORTS = ("tagging", "mixing")


@pytest.fixture
def out(small_run: Corpus, tmp_path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))


def reports(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "reports").iterdir())}


def test_no_manifest_lists_a_page(out):
    assert set(reports(out)) == {"run.html", *(f"{name}.{ending}" for name in REPORTS for ending in ("html", "json"))}
    names = [output.name for stage in STAGES for output in manifest.read(str(out / stage.folder)).outputs]
    assert not [name for name in names if name.endswith(".html") or "report" in name or "summary" in name]


def test_a_change_of_a_style_sheet_makes_no_stage_stale(small_run: Corpus, out):
    config, before, pages = small_run.write_config(), contents(out), reports(out)
    for name in REPORTS:
        # What an earlier program with another style sheet left.
        page, numbers = out / "reports" / f"{name}.html", out / "reports" / f"{name}.json"
        page.write_text(page.read_text().replace("</style>", "body { color: red }</style>"))
        told = json.loads(numbers.read_text())
        told["report_of"]["program"] = "0.0.9 another style sheet"
        numbers.write_text(json.dumps(told))
    assert main(["verify", str(out)]) == 0
    assert run(config, out) == 0
    assert contents(out) == before
    assert reports(out) == pages


@pytest.mark.parametrize("gone", ["tagging.html", "tagging.json", "mixing.html", "mixing.json"])
def test_a_missing_report_is_written_again_without_redoing_the_stage(small_run: Corpus, out, gone, monkeypatch):
    before, pages = contents(out), reports(out)
    (out / "reports" / gone).unlink()
    assert main(["verify", str(out)]) == 0
    monkeypatch.setattr(Engine, "run", lambda *_, **__: pytest.fail("a stage is done again"))
    assert run(small_run.write_config(), out) == 0
    assert contents(out) == before
    assert reports(out) == pages


def test_a_damaged_report_is_written_again(small_run: Corpus, out):
    pages = reports(out)
    (out / "reports" / "tagging.json").write_bytes(b'{"report_of": 1')
    (out / "reports" / "mixing.json").write_bytes(b"[]")
    assert run(small_run.write_config(), out) == 0
    assert reports(out) == pages


def test_a_report_is_of_the_results_that_lie_there(small_run: Corpus, out):
    config = small_run.write_config("other.yaml", mix={"views": 2, "samples_per_shard": 40})
    pages = reports(out)
    assert run(config, out, "--overwrite", command="mix") == 0
    assert reports(out)["tagging.json"] == pages["tagging.json"]
    views = manifest.read(str(out / "shards")).counts["views"].written
    assert json.loads(reports(out)["mixing.json"])["counts"]["written"] == views
    assert any(f"{views:,}" in element.text for element in read_page(out / "reports" / "mixing.html").all("main"))


def test_versions_are_of_what_the_bytes_depend_on(out):
    versions = {stage.name: set(manifest.read(str(out / stage.folder)).versions) for stage in STAGES}
    common = {"python", "vlmixer", "pyarrow"}
    assert versions["tag"] == common | {"inflect"}
    assert versions["detect"] >= common | {"numpy", "pillow"}
    assert versions["index"] == common | {"numpy", "faiss-cpu"}
    assert versions["mix"] == common | {"numpy"}
    assert "pillow" in packages_of_mix(MixSettings(crops=True))
    assert "spacy" in tag.packages(TextSettings(spacy_model="en_core_web_sm"))
    assert "spacy" in tag.packages(TextSettings(spacy_model="rules", split="sentences"))
