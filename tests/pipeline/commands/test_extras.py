"""Without the extras, a command that needs one ends with a line that says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from vlmixer.artifacts.extras import install_command

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["apache_beam", "spacy", "torch", "tokenizers", "safetensors", "zstandard"]))
from vlmixer.pipeline.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (["demo"], ("pipeline", "train")),
        (["tag", "config.yaml"], ("pipeline",)),
        (["run", "config.yaml"], ("pipeline",)),
        (["plan", "config.yaml"], ("pipeline",)),
        (["train", "config.yaml"], ("train",)),
        (["eval", "retrieval", "--run", "run", "--images", "pairs.jsonl"], ("pipeline", "train")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_missing_extra_is_one_line(tmp_path: Path, arguments: list[str], extras: tuple[str, ...]) -> None:
    (tmp_path / "text.txt").write_text("A dog.\n")
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "config.yaml").write_text("text: {inputs: [text.txt]}\nimages: {inputs: [photo.jpg]}\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: `vlmixer {arguments[0]}` needs packages that are not installed: ")
    assert line.endswith(f" Run `{install_command(*extras)}`.")
