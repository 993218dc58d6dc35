import re
from dataclasses import replace

import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.bank.concepts import HARDLY_VISUAL
from vlmixer.model.config import TrainConfig
from vlmixer.pipeline.config import BankSettings, Config, ImageSettings, MixSettings, TextSettings, load_config


@pytest.fixture
def load(tmp_path):
    def load(text, *assignments, out=None):
        (tmp_path / "c.yaml").write_text(text)
        return load_config(str(tmp_path / "c.yaml"), assignments, out)

    return load


def test_every_key_has_its_default(load):
    assert load("") == Config()
    assert Config() == Config(
        seed=0, out="out", vocabulary="coco", max_bad_fraction=0.05, train=None,
        text=TextSettings(inputs=(), field="caption", split="lines", min_characters=1, max_characters=1000,
                          spacy_model="auto", stop_words=HARDLY_VISUAL, tag_modifiers=False),
        images=ImageSettings(inputs=(), detector="torchvision:fasterrcnn_resnet50_fpn_v2", weights="default",
                             score_threshold=0.3, max_regions=36, device="auto"),
        bank=BankSettings(max_patches_per_concept=1000, selection="diverse"),
        mix=MixSettings(replace_probability=0.5, min_replaced=1, max_replaced=None, patches_per_word=1,
                        patches_per_plural=3, sampler="context", one_image=False, phrases="whole", lacking="keep",
                        patches_only=1.0, views=1, image_samples=True, crops=False, samples_per_shard=5000),
    )  # fmt: skip


FULL = """
seed: 3
out: results/
vocabulary: mine.txt
max_bad_fraction: 0.5
text: {inputs: [a.txt, "b/*.jsonl"], field: text, spacy_model: rules, min_characters: 3, max_characters: 80,
       split: sentences, stop_words: [top, "no"], tag_modifiers: true}
images:
  inputs: [photos/**/*.jpg]
  detector: my.module:Detector
  detector_options: {classes: [a, b], deep: {x: [1, 2.5, null, true]}, path: é.onnx}
  weights: w.safetensors
  score_threshold: 0.25
  max_regions: 12
  device: cpu
  crop_size: 64
  max_megapixels: 0.5
bank: {max_patches_per_concept: 5, selection: score, duplicate_similarity: 0.9}
mix: {replace_probability: 1.0e-07, patches_per_word: 2, sampler: score, views: 3, min_replaced: 0, max_replaced: 4,
      patches_per_plural: 5, one_image: true, phrases: head, lacking: reject, patches_only: 0.5, image_samples: false,
      crops: true, samples_per_shard: 7}
model: {layers: 1}
train: {steps: 10, learning_rate: 0.00001}
"""


def test_a_whole_config(load):
    config = load(FULL)
    assert config.out == "results"
    assert config.text == TextSettings(
        ("a.txt", "b/*.jsonl"), "text", "sentences", 3, 80, "rules", ("top", "no"), tag_modifiers=True
    )
    assert config.images.detector_options["deep"] == {"x": [1, 2.5, None, True]}
    assert config.bank == BankSettings(5, "score", 0.9)
    assert config.mix == MixSettings(
        replace_probability=1e-7, min_replaced=0, max_replaced=4, patches_per_word=2, patches_per_plural=5,
        sampler="score", one_image=True, phrases="head", lacking="reject", patches_only=0.5, views=3,
        image_samples=False, crops=True, samples_per_shard=7,
    )  # fmt: skip
    assert config.train == TrainConfig(steps=10, learning_rate=1e-5)


@pytest.mark.parametrize("text", ["", FULL, "train: {}", "images: {weights: '1e5', device: cpu}"])
def test_the_resolved_config_reads_back_as_the_same_config(load, text):
    config = load(text)
    again = load(config.to_yaml())
    assert again == replace(config, out="out")
    assert again.to_yaml() == config.to_yaml()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[]", ()),
        ("[orange]", ("orange",)),
        ("[default]", HARDLY_VISUAL),
        ("[default, orange]", (*HARDLY_VISUAL, "orange")),
        ("[orange, default, top, default, orange]", ("orange", *HARDLY_VISUAL)),
    ],
)
def test_default_in_the_stop_words_stands_for_the_whole_list(load, given, expected):
    config = load(f"text: {{stop_words: {given}}}")
    assert config.text.stop_words == expected
    assert load("", f"text.stop_words={given}") == config
    assert load(config.to_yaml()) == config


@pytest.mark.parametrize("given", ["default", "[no]", "[5]", "{top: 1}", "null"])
def test_stop_words_that_are_no_list_of_words(load, given):
    with pytest.raises(CallError, match=r"text\.stop_words"):
        load(f"text: {{stop_words: {given}}}")


def test_sentences_of_no_length_are_refused(load):
    for text, said in (
        ("min_characters: 0", "text.min_characters: expected a value from 1 to 1e+09, found 0"),
        ("min_characters: 5, max_characters: 4", "text.max_characters: expected a value from 5 to 1e+09, found 4"),
    ):
        with pytest.raises(CallError, match=re.escape(said)):
            load(f"text: {{{text}}}")
    assert load("text: {min_characters: 5, max_characters: 5}").text.min_characters == 5


def test_the_outputs_own_path_is_not_in_the_resolved_config(load):
    assert load(FULL).to_yaml() == load(FULL, out="elsewhere").to_yaml()
    assert "results" not in load(FULL).to_yaml()


@pytest.mark.parametrize(
    ("given", "found"),
    [("out/", "out"), ("./a//b/", "a/b"), ("/x/../y", "/y"), ("gs://bucket/a/", "gs://bucket/a/"), (".", ".")],
)
def test_out_is_made_plain(load, given, found):
    assert load(f"out: {given}").out == found
    assert load("out: other", out=given).out == found


def test_set_and_out_go_before_the_file(load):
    config = load("mix: {views: 2, sampler: score}", "mix.views=4", "text.inputs=[x.txt]", out="there")
    assert (config.mix.views, config.mix.sampler, config.text.inputs, config.out) == (4, "score", ("x.txt",), "there")


RANGES = {
    "max_bad_fraction": (0, 1, -0.1, 1.1),
    "text.max_characters": (1, 10**9, 0, 10**9 + 1),
    "images.score_threshold": (0, 1, -0.01, 1.01),
    "images.max_regions": (1, 10**6, 0, 10**6 + 1),
    "images.crop_size": (8, 4096, 7, 4097),
    "images.max_megapixels": (0.001, 178, 0, 179),
    "bank.max_patches_per_concept": (1, 10**9, 0, 10**9 + 1),
    "bank.duplicate_similarity": (0, 1, -0.1, 1.1),
    "mix.replace_probability": (0, 1, -0.1, 1.1),
    "mix.patches_per_word": (1, 100, 0, 101),
    "mix.views": (1, 1000, 0, 1001),
    "mix.min_replaced": (0, 1000, -1, 1001),
    "mix.samples_per_shard": (1, 10**9, 0, 10**9 + 1),
    "mix.max_replaced": (1, 1000, 0, 1001),
    "mix.patches_per_plural": (1, 100, 0, 101),
    "mix.patches_only": (0, 1, -0.1, 1.1),
    "mix.min_patches": (1, 10**9, 0, 10**9 + 1),
    "mix.max_uses": (1, 10**9, 0, 10**9 + 1),
}


@pytest.mark.parametrize("key", RANGES)
def test_values_outside_their_range_are_refused_by_key(load, key):
    low, high, below, above = RANGES[key]
    for value in (low, high):
        load("", f"{key}={value}")
    for value in (below, above):
        with pytest.raises(
            CallError, match=f"c.yaml: {key}: expected a value from {re.escape(f'{low:g} to {high:g}')}, "
        ):
            load("", f"{key}={value}")


@pytest.mark.parametrize("key", [key for key, (low, *_) in RANGES.items() if key.startswith(("max", "images.score"))])
def test_what_is_no_number_is_in_no_range(load, key):
    with pytest.raises(CallError, match=f"{key}: expected a value"):
        load("", f"{key}=.nan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixx: {}", "unknown key 'mixx'; did you mean 'mix'"),
        ("images: {detectr: x}", "unknown key 'images.detectr'; did you mean 'detector'"),
        ("train: {step: 1}", "unknown key 'train.step'; did you mean 'steps'"),
        ("text: {input: a.txt}", "unknown key 'text.input'; did you mean 'inputs'"),
        ("text: {split: words}", "text.split: Input should be 'lines' or 'sentences'; found 'words'"),
        ("text: {tag_modifiers: often}", "text.tag_modifiers: Input should be a valid boolean"),
        ("text: {inputs: a.txt}", "text.inputs: Input should be a valid tuple; found 'a.txt'"),
        ("images: {device: gpu}", "images.device: Input should be 'auto', 'cpu' or 'cuda'; found 'gpu'"),
        ("bank: {selection: best}", "bank.selection: Input should be 'diverse', 'score' or 'random'; found 'best'"),
        ("mix: {sampler: best}", "mix.sampler: Input should be 'uniform', 'score' or 'context'; found 'best'"),
        ("mix: {max_uses: often}", "mix.max_uses: Input should be 'auto'; found 'often'"),
        ("mix: {max_uses: often}", "mix.max_uses: Input should be a valid integer"),
        ("mix: {views: many}", "mix.views: Input should be a valid integer"),
        ("seed: 1.5", "seed: Input should be a valid integer"),
        ("model: {layers: 0}", "model.layers: 0 is not above 0"),
        ("train: {steps: -1}", "train.steps: -1 is not above 0"),
    ],
)
def test_what_does_not_fit_is_a_call_error(load, text, message):
    with pytest.raises(CallError, match=re.escape(message)):
        load(text)
