"""Without the extras, a command that needs one ends with a line that says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.model.world import World, write_shards

from vlmixer.artifacts.extras import install_command

WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
from vlmixer.pipeline.commands.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command where the packages `absent` are not installed."""
PIPELINE = ("apache_beam", "inflect", "spacy", "torchvision", "zstandard")
TRAIN = ("safetensors", "tokenizers", "torch")


def without(absent: tuple[str, ...]) -> str:
    """The program."""
    return WITHOUT.replace("{absent}", repr(absent))


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
        [sys.executable, "-c", without(PIPELINE + TRAIN), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: `vlmixer {arguments[0]}` needs packages that are not installed: ")
    assert line.endswith(f" Run `{install_command(*extras)}`.")


def test_training_needs_the_extra_train_alone(tmp_path: Path) -> None:
    world = World()
    samples = [world.mixed(number) for number in range(8)] + [world.image(number) for number in range(2)]
    shards = write_shards(str(tmp_path / "shards"), samples, per_shard=5)
    model = {"layers": 1, "hidden_size": 8, "heads": 2, "feed_forward_size": 8, "projection_size": 4}
    train = {"shards": shards, "steps": 1, "batch_size": 4, "workers": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model, "train": train}))
    done = subprocess.run(
        [sys.executable, "-c", without(PIPELINE), "train", "config.yaml", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()
