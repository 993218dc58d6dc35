"""`vlmixer eval retrieval` is one command for training runs and for fine-tuned ones."""

import json

import pytest
from tests.model.tasks.test_captioning import coco
from tests.model.tasks.toy import settings, write_json, write_regions

from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks.retrieval import Retrieval
from vlmixer.model.tasks.retrieval_learning import RetrievalConfig
from vlmixer.pipeline.commands.main import main


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval")
    train = write_json(folder / "captions.json", coco())
    asked = settings(write_regions(folder / "regions"), [train], RetrievalConfig, text_tokens=10, steps=1)
    return finetune(Retrieval(), asked, str(folder / "run"))


def test_a_fine_tuned_run_is_scored_on_its_own_files(tuned, tmp_path, capsys):
    assert main(["eval", "retrieval", "--run", tuned, "--json", "--result", str(tmp_path / "result.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [score["name"] for score in printed["scores"]][:2] == ["R@1 text to image", "R@5 text to image"]
    assert len(json.loads((tmp_path / "result.json").read_text())) == 72 + 24


def test_what_belongs_to_the_other_kind_of_run_is_refused(tuned, tmp_path, capsys):
    assert main(["eval", "retrieval", "--run", tuned, "--images", "pairs.jsonl"]) == 2
    assert "is a fine-tuned run. Name its official files as FILE" in capsys.readouterr().err
    assert main(["eval", "retrieval", "--run", tuned, "--split", "test"]) == 2
    assert "--split: test; of a fine-tuned run validation or train" in capsys.readouterr().err
    assert main(["eval", "retrieval", "--run", str(tmp_path)]) == 2
    assert "is a training run and not fine-tuned. Name the pairs with --images" in capsys.readouterr().err
