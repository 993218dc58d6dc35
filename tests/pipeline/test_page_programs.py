"""The programs of pages that have no test of their own run as they are, on a small result in the demo's place."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def programs(page: str) -> list[str]:
    """The Python blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(small_run, tmp_path, monkeypatch) -> Path:
    """The present folder, where `out` and `demo-out` are a finished run, and a photo has the name of the page's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(small_run.folder))
    (tmp_path / "out").symlink_to(small_run.folder / "out")
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "bank").symlink_to(small_run.folder / "out" / "bank")
    photos = tmp_path / "demo-out" / "world" / "photos"
    photos.mkdir(parents=True)
    (photos / "scene-001168.jpg").symlink_to(small_run.photos / "0001.jpg")
    return tmp_path


def run(program: str, **names: object) -> dict[str, object]:
    """Run it; what it defined."""
    exec(compile(program, "page", "exec"), names)
    return names


def test_readme(here, capsys):
    (program,) = programs("README.md")
    run(program)
    assert len(capsys.readouterr().out.splitlines()) > 30


def test_bank(here):
    first, second = programs("docs/bank.md")
    found = run(first)
    assert len(found["hits"]) == 8  # type: ignore[arg-type]
    # The demo's detector is part of vlmixer; the small result has one of its own.
    run(
        second.replace('"bus"', '"dog"').replace(
            'embedder("demo-out/bank")', 'embedder("out/bank", trust_detector=True)'
        )
    )


def test_vocabularies(here):
    (program,) = programs("docs/vocabularies.md")
    assert run(program)["vocabulary"].shared_words["bow"] == ["bow (decorative ribbons)", "bow (weapon)"]  # type: ignore[attr-defined]


def test_your_detector(here):
    detector, test = programs("docs/your-detector.md")
    found = run(detector + test, pixels=np.full((40, 60, 3), 100, np.uint8))
    found["test_my_detector"]()  # type: ignore[operator]


def test_every_page_with_programs_is_tested():
    tested = {
        "README.md", "docs/bank.md", "docs/vocabularies.md", "docs/your-detector.md",  # here
        "docs/reading-tables.md", "docs/reading-shards.md",  # test_tables.py, test_readers.py
        "docs/training.md",  # tests/model/test_training_page.py
        "docs/slurm.md",  # scripts: jobs/test_shares.py; the page says what of the rest has run
    }  # fmt: skip
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    assert {str(page.relative_to(ROOT)) for page in pages if programs(str(page.relative_to(ROOT)))} == tested
