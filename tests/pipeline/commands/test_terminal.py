"""The command at a terminal: colours, and what the shell completes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "vlmixer"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", **more}


def stderr_of(*arguments: str, **more: str) -> str:
    """What the command writes to stderr if that is a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen([*COMMAND, *arguments], stderr=theirs, cwd=ROOT, env=environment(**more))
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # the other side was closed
        pass
    os.close(ours)
    assert done.wait() == 2
    return said.decode().strip()


def test_an_error_is_red_on_a_terminal_unless_no_color_is_set():
    assert stderr_of("verify", "nowhere").startswith("\x1b[31;1merror:\x1b[0m nowhere: nothing to verify")
    assert stderr_of("verify", "nowhere", NO_COLOR="1").startswith("error: nowhere: nothing to verify")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("vlmixer ban", ["bank "]), ("vlmixer bank query --conc", ["--concept "]), ("vlmixer completion z", ["zsh "])],
)
def test_the_shell_gets_what_may_come_next(tmp_path, line, expected):
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"), "IFS": "\013"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    subprocess.run(COMMAND, cwd=ROOT, env=environment(**asked), check=True)
    assert (tmp_path / "answer").read_text().split("\013") == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_given_its_code(shell, capfd):
    subprocess.run([*COMMAND, "completion", shell], cwd=ROOT, env=environment(), check=True)
    code = capfd.readouterr().out
    assert "vlmixer" in code
    assert "_ARGCOMPLETE" in code
