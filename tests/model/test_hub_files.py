"""What transformers makes of a run's folder: the network's text encoder, its head for words, its word pieces."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from tests.model.runs import SMALL, settings
from tests.model.world import World, write_shards
from torch.nn import functional

from vlmixer.model import embed_texts, load_run
from vlmixer.model.padding import pad
from vlmixer.model.training import train
from vlmixer.model.views import no_regions, text_view

ROOT = Path(__file__).parents[2]
TEXTS = ["A Dog chases two kites.", "café", "", " ".join(["dog"] * 100)]


@pytest.fixture
def transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers")


def pieces_of(read, texts):
    return read(texts, padding=True, truncation=True, return_tensors="pt")


def test_auto_model_is_our_text_encoder_and_auto_tokenizer_ours(straight, transformers):
    network, tokenizer, config = load_run(straight)
    read = transformers.AutoTokenizer.from_pretrained(straight)
    encoder, report = transformers.AutoModel.from_pretrained(
        straight, add_pooling_layer=False, output_loading_info=True
    )
    assert report["missing_keys"] == set()
    inputs = pieces_of(read, TEXTS)
    nothing = no_regions(config.model.feature_dim or 0)
    ours = pad([text_view(one, tokenizer, config.model.max_text_tokens, nothing) for one in tokenizer.encode(TEXTS)])
    assert torch.equal(inputs["input_ids"], ours.ids)
    assert torch.equal(inputs["attention_mask"].bool(), ours.mask)
    with torch.inference_mode():
        theirs = encoder(**inputs).last_hidden_state
        states = network.bert(ours)
    assert states.std() > 0.5
    torch.testing.assert_close(theirs[ours.mask], states[ours.mask], rtol=0, atol=1e-5)

    # What the projection makes of the states between [CLS] and [SEP] is our embedding.
    content = ours.content.unsqueeze(-1)
    with torch.inference_mode():
        vectors = functional.normalize(network.projection((theirs * content).sum(1) / content.sum(1)), dim=-1)
    expected = embed_texts(network, tokenizer, config.model, TEXTS).vectors
    np.testing.assert_allclose(vectors.numpy(), expected, rtol=0, atol=1e-5)


def test_the_head_for_masked_words_is_ours(straight, transformers):
    network, _, _ = load_run(straight)
    model, report = transformers.AutoModelForMaskedLM.from_pretrained(straight, output_loading_info=True)
    assert report["missing_keys"] == set()
    states = torch.randn(3, SMALL.hidden_size, generator=torch.manual_seed(0))
    with torch.inference_mode():
        ours = network.cls["predictions"](states, network.bert.embeddings.word_embeddings.weight)
        torch.testing.assert_close(model.cls(states), ours, rtol=0, atol=1e-5)


def cased_words(path):
    """A vocabulary that tells capitals apart."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "a", "Dog", "dog", "##s", "Photo", "Red", "Two"]
    path.write_text("\n".join(words))


def other_rules(path):
    """Whole words, split at white space alone: no rules of BERT's."""
    words = {word: row for row, word in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] a A dog Dog dog. kites".split())}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.save(str(path))


@pytest.mark.parametrize(("name", "write"), [("vocab.txt", cased_words), ("tokenizer.json", other_rules)])
def test_a_tokenizer_of_ones_own_is_read_with_its_rules(shards, tmp_path, transformers, name, write):
    write(tmp_path / name)
    model = replace(SMALL, tokenizer=str(tmp_path / name))
    run = train(replace(settings(shards, steps=1), model=model), out=str(tmp_path / "run"))
    _, tokenizer, _ = load_run(run)
    read = transformers.AutoTokenizer.from_pretrained(run)
    texts = ["A dog", "Dog dogs. é"]
    for text, ours in zip(texts, tokenizer.encode(texts), strict=True):
        assert read(text, add_special_tokens=False)["input_ids"] == ours.ids.tolist()


def test_the_card_says_what_the_run_was_and_its_programs_run(straight, tmp_path):
    card = Path(straight, "README.md").read_text(encoding="utf-8")
    last = json.loads(Path(straight, "log.jsonl").read_text().splitlines()[-1])
    assert "| data | 52 samples; content hash of the shards `" in card
    assert "| training | 12 steps of 8 sentences, learning rate 0.001, seed 1 |" in card
    assert f"| contrastive | {last['contrastive']:.4f} |" in card
    assert "samples per second" not in card
    (tmp_path / "run").symlink_to(straight)
    programs = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    path = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for program, printed in zip(programs, ["(2, 12, 16)", "(2, 8)"], strict=True):
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.sub(r"\(2, \d+, 16\)", "(2, 12, 16)", done.stdout.strip()) == printed


def test_without_a_log_the_card_has_no_losses(tmp_path):
    world = World()
    shards = write_shards(str(tmp_path / "shards"), [world.mixed(number) for number in range(9)], per_shard=9)
    run = train(settings(shards, steps=2, checkpoint_every=1), out=str(tmp_path / "run"))
    Path(run, "log.jsonl").unlink()
    Path(run, "tokenizer_config.json").unlink()
    train(settings(shards, steps=2, checkpoint_every=1), out=run, resume=True)  # written again
    assert "| contrastive |" not in Path(run, "README.md").read_text(encoding="utf-8")
    Path(run, "README.md").write_text("of our own")
    load_run(run)
