import subprocess
import sys

import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.model.config import ModelConfig, Settings, TrainConfig, load_settings


def config_file(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_other_stages_sections_are_left_to_them(tmp_path):
    path = config_file(tmp_path, "seed: 3\nmix: {views: 2}\nmodel: {layers: 1}\ntrain: {steps: 7}\n")
    assert load_settings(path) == Settings(seed=3, model=ModelConfig(layers=1), train=TrainConfig(steps=7))


def test_set_overrides_the_file(tmp_path):
    path = config_file(tmp_path, "train: {steps: 7, batch_size: 4}\n")
    assert load_settings(path, ["train.steps=9"]).train == TrainConfig(steps=9, batch_size=4)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("modle: {layers: 1}", "did you mean 'model'"),
        ("model: {layer: 1}", "did you mean 'layers'"),
        ("train: {stps: 1}", "did you mean 'steps'"),
        ("model: {pooling: max}", "model.pooling"),
        ("model: {hidden_size: 10, heads: 4}", "model.heads"),
        ("model: {max_text_tokens: 2}", "model.max_text_tokens"),
        ("model: {dropout: 1.5}", "model.dropout"),
        ("train: {steps: 0}", "train.steps"),
        ("train: {warmup_steps: -1}", "train.warmup_steps"),
        ("train: {masked_language_weight: 0, masked_tags_weight: 0, contrastive_weight: 0}", "weights are 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, text, named):
    with pytest.raises(CallError, match=named):
        load_settings(config_file(tmp_path, text))


def imported_by(statement):
    code = f"import sys; {statement}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_model_and_its_config_are_light():
    assert not imported_by("import model, model.config") & {"torch", "tokenizers", "apache_beam", "spacy"}


def test_training_and_evaluation_need_no_other_part():
    assert not imported_by("import model.train, model.evaluate") & {"apache_beam", "spacy", "pipeline", "bank", "faiss"}
