"""Arrows between packages point one way, and light packages stay light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "vlmixer"  # links in a checkout, folders in an sdist
MAY_IMPORT = {
    "artifacts": {"artifacts"},
    "bank": {"artifacts", "bank"},
    "model": {"artifacts", "model"},
    "pipeline": {"artifacts", "bank", "model", "pipeline"},
}


def _package(module: str) -> str:
    """ "bank" for vlmixer.bank.store, "torch" for torch.nn."""
    parts = module.split(".")
    return parts[1] if parts[0] == "vlmixer" and len(parts) > 1 else parts[0]


def imported(path: Path) -> set[str]:
    """Packages of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {_package(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(_package(node.module or ""))
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package):
    paths = sorted((SOURCES / package).rglob("*.py"))
    assert paths
    for path in paths:
        assert imported(path) & MAY_IMPORT.keys() <= MAY_IMPORT[package], path


def test_only_jobs_and_transforms_import_beam():
    paths = [path for package in MAY_IMPORT for path in (SOURCES / package).rglob("*.py")]
    users = {path.parent.name for path in paths if "apache_beam" in imported(path)}
    assert users == {"jobs", "beam"}


@pytest.mark.parametrize("room", ["image", "evaluation"])
def test_rooms_of_pure_functions_know_no_jobs(room):
    paths = sorted((ROOT / "pipeline" / room).rglob("*.py"))
    assert paths
    for path in paths:
        assert "vlmixer.pipeline.jobs" not in path.read_text(), path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("vlmixer.bank", ["apache_beam", "spacy", "torch", "faiss"]),
        ("vlmixer.bank.store", ["apache_beam", "spacy", "torch", "PIL", "pydantic", "jinja2", "tqdm", "starlette"]),
        ("vlmixer.model", ["apache_beam", "spacy", "torch"]),
        ("vlmixer.model.train", ["apache_beam", "spacy", "faiss"]),
        ("vlmixer.model.tasks", ["torch", "numpy"]),
        ("vlmixer.model.finetuning", ["apache_beam", "spacy", "faiss"]),
        ("vlmixer.pipeline.evaluation.retrieval", ["apache_beam", "spacy", "faiss"]),
        ("vlmixer.pipeline.evaluation.ablation", ["apache_beam", "spacy", "faiss"]),
        ("vlmixer.pipeline.image.embedding", ["apache_beam", "spacy", "torch"]),
        ("vlmixer.pipeline.commands.main", ["apache_beam", "spacy", "torch", "faiss", "numpy"]),
    ],
)
def test_an_import_brings_only_what_it_needs(module, absent):
    program = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parquet_is_opened_in_one_place():
    """Anywhere else it would be read ahead, in threads that can abort the process when it ends."""
    opening = re.compile(r"\bpq\.(ParquetFile|read_table)\(")
    paths = [path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in paths if opening.search(path.read_text())}
    assert users == {"artifacts/parquet.py"}
