"""What the tests of the verification share: a copy of a finished run, and its problems."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vlmixer.pipeline.commands.main import main


@pytest.fixture
def out(small_run, tmp_path) -> Path:
    """A copy of a finished run's folder."""
    return Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))


@pytest.fixture
def problems(capsys) -> Callable[[Path], list[tuple[str, str]]]:
    """Verifies a folder; its problems as (file relative to the folder, what), after checking code and report agree."""

    def verify(folder: Path) -> list[tuple[str, str]]:
        capsys.readouterr()
        code = main(["verify", str(folder), "--json"])
        report = json.loads(capsys.readouterr().out)
        assert code == (0 if report["sound"] else 1)
        assert report["sound"] == (not report["problems"])
        return [(problem["file"].removeprefix(f"{folder}/"), problem["what"]) for problem in report["problems"]]

    return verify
