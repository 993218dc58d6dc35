"""What the tests of the subcommands share: a finished run, and ways to call the command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vlmixer.pipeline.commands.main import main


@pytest.fixture(scope="session")
def out(small_run) -> Path:
    """The folder of a finished run; only read."""
    return small_run.folder / "out"


@pytest.fixture
def call(capsys) -> Callable[..., tuple[int, str, str]]:
    """Calls the command; (exit code, stdout, stderr). argparse leaves by SystemExit, as it would from a shell."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_command


@pytest.fixture
def answer(call) -> Callable[..., dict]:
    """Calls the command with --json; its answer, after checking that stdout holds nothing else."""

    def ask(*arguments: object) -> dict:
        code, printed, _ = call(*arguments, "--json")
        assert code == 0
        content = json.loads(printed)
        assert isinstance(content, dict)
        return content

    return ask
