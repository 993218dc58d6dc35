import subprocess
import sys
from dataclasses import fields

import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.model.config import ModelConfig, Settings, TrainConfig, load_settings

WEIGHTS = [field.name for field in fields(TrainConfig) if field.name.endswith("_weight")]


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
        ("model: {dropout: -0.1}", "model.dropout"),
        ("train: {text_mask_probability: 2}", "train.text_mask_probability"),
        ("train: {replaced_words_weight: -1}", "train.replaced_words_weight"),
        (f"train: {{{', '.join(f'{name}: 0' for name in WEIGHTS)}}}", "weights are 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, text, named):
    with pytest.raises(CallError, match=named):
        load_settings(config_file(tmp_path, text))


def test_defaults_that_depend_on_the_size_are_berts_where_the_weights_are():
    small, bert, own = (
        ModelConfig(),
        ModelConfig(init="bert.safetensors"),
        ModelConfig(init="bert.safetensors", dropout=0.2),
    )
    assert (small.dropout_rate, bert.dropout_rate, own.dropout_rate) == (0.0, 0.1, 0.2)


def imported_by(statement):
    """The packages that a statement imports; "vlmixer.bank" for those of ours."""
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {".".join(name.split(".")[: 2 if name.startswith("vlmixer.") else 1]) for name in found}


def test_import_model_and_its_config_are_light():
    found = imported_by("import vlmixer.model, vlmixer.model.config")
    assert "vlmixer.model" in found
    assert not found & {"torch", "tokenizers", "apache_beam", "spacy"}


def test_training_and_evaluation_need_no_other_part():
    found = imported_by("import vlmixer.model.train, vlmixer.model.evaluate")
    assert "torch" in found
    assert not found & {"apache_beam", "spacy", "faiss", "vlmixer.pipeline", "vlmixer.bank"}
