"""Captioning, from official files to captions."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model.runs import Killed, losses
from tests.model.tasks.test_decoding import BEGIN, END, MASK
from tests.model.tasks.toy import concept_of, settings, write_json, write_regions

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.rng import generator
from vlmixer.model.finetuning import finetune, load_finetuned
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.caption_inputs import take
from vlmixer.model.tasks.caption_learning import CaptioningConfig
from vlmixer.model.tasks.captioning import Captioning, mask_caption
from vlmixer.model.tasks.cider import CiderD
from vlmixer.model.tasks.data import Encoding, TaskLoader, with_photos
from vlmixer.model.tasks.decoding import Decoder, drawn, greedy
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.photos import Photos


def coco(photos=24):
    """COCO's captions of the toy world: three of each photo."""
    annotations = [
        {"image_id": photo, "id": 10 * photo + n, "caption": text.format(concept_of(photo))}
        for photo in range(photos)
        for n, text in enumerate(["A {} here.", "a {} here", "there is one {} here"])
    ]
    images = [{"id": photo, "file_name": f"{photo}.jpg"} for photo in range(photos)]
    return {"info": {}, "images": images, "licenses": [], "annotations": annotations}


@pytest.fixture
def asked(tmp_path):
    regions = write_regions(tmp_path / "regions")
    train = write_json(tmp_path / "captions_train2014.json", coco())

    def asked(**changes):
        given = {"text_tokens": 10, "caption_tokens": 8, "learning_rate": 0.01, **changes}
        return settings(regions, [train], CaptioningConfig, **given)

    return asked


@pytest.mark.parametrize("learn", ["masked", "all"])
def test_captions_say_what_is_in_the_photo(asked, tmp_path, learn):
    run = finetune(Captioning(), asked(learn=learn, epochs=40, label_smoothing=0.0), str(tmp_path / "run"))
    found = evaluate_run(run, "captioning")
    result = json.loads(found.evaluation.result)
    assert [row["image_id"] for row in result] == list(range(24))
    assert all(f"{concept_of(row['image_id'])} here" in row["caption"] for row in result)
    scores = {measure.name: measure.value for measure in found.evaluation.measures}
    assert scores["CIDEr-D"] > 300
    assert found.counts.read == found.counts.written == 24


def test_reward_counts_runs_of_words_in_all_captions(asked, tmp_path):
    run = finetune(Captioning(), asked(learn="reward", steps=2, beams=1), str(tmp_path / "run"))
    assert len(losses(run)) == 2
    labels = load_finetuned(run).setup.labels
    assert labels["images"] == 24
    assert labels["runs"]["here"] == 24
    assert labels["runs"]["a dog here"] == 6
    assert len(evaluate_run(run, "captioning").evaluation.answers) == 24


def test_masking(tokenizer):
    config = CaptioningConfig(mask_probability=0.5)
    random = generator(0, "test")
    caption = np.array([BEGIN, 5, 6, 7, 8, 5, 6, 7, 8, END])
    columns: Counter[int] = Counter()
    states: Counter[str] = Counter()
    for _ in range(4000):
        masked, at, pieces = mask_caption(caption, tokenizer, config, random)
        assert len(at) == 3  # 50 % of 9 pieces, but 3 at most
        assert pieces.tolist() == caption[at].tolist()
        assert np.array_equal(np.delete(masked, at), np.delete(caption, at))
        columns.update(at.tolist())
        states.update(np.where(masked[at] == MASK, "mask", np.where(masked[at] == pieces, "same", "other")).tolist())
    assert sorted(columns) == list(range(1, 10))  # [SEP], but not [CLS]
    assert max(columns.values()) < 1.2 * min(columns.values())
    assert [states[name] / 12_000 for name in ("mask", "same", "other")] == pytest.approx([0.8, 0.12, 0.08], abs=0.02)
    assert len(mask_caption(caption[[0, 1, 9]], tokenizer, replace(config, mask_probability=0.01), random)[1]) == 1


def test_a_caption_may_not_be_longer_than_its_place():
    with pytest.raises(CallError, match=r"task.caption_tokens: 20, and \[CLS\] and \[SEP\], do not fit"):
        CaptioningConfig(text_tokens=21)


def test_tags_need_a_position(asked, tmp_path):
    with pytest.raises(CallError, match=r"task.text_tokens: 64 leaves no position for tags"):
        finetune(Captioning(), asked(text_tokens=64), str(tmp_path / "run"))


def test_the_loss_of_reward(asked, tmp_path):
    """Minus the mean over drawn captions of (CIDEr-D - that of the greedy caption) × log likelihood."""
    run = finetune(Captioning(), asked(learn="reward", steps=1, batch_size=4), str(tmp_path / "run"))
    tuned, task = load_finetuned(run), Captioning()
    module = task.objective(tuned.setup, tuned.network, Ranks())
    network, tokenizer = tuned.network.network, tuned.setup.tokenizer
    words = np.unique(tokenizer.encode(["a dog here cat kite boat"])[0].ids)
    network.cls.get_submodule("predictions").get_parameter("bias").data[words] = (
        6.0  # so that drawn captions have words of the right ones
    )
    photos = Photos(tuned.setup.settings.regions, "detector")
    examples, _ = task.read(tuned.setup.settings.train, tuned.setup.settings, RejectLog("finetune"), True)
    found = with_photos(task, examples[::3][:4], photos, RejectLog("finetune"), 4)
    encoded = Encoding(task, tuned.setup, photos).encode(found, 0, 4, training=True)
    batch = task.assemble(tuned.setup, [task.part(tuned.setup, encoded, generator(0, "test"))])
    torch.manual_seed(3)
    loss = module(batch)
    torch.manual_seed(3)
    random = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
    captions = drawn(network, tokenizer, batch.context, random, copies=5, limit=8)
    base = greedy(network, tokenizer, batch.context, 8)
    references = [example.answers for example in found.examples]
    scorer = CiderD(references, module.known)
    total = 0.0
    for row, caption in enumerate(captions):
        photo = row // 5
        decoder = Decoder(network, tokenizer, take(batch.context, torch.tensor([photo])), 8)
        pieces = [*caption.tolist(), tokenizer.end][:8]
        before = [tokenizer.begin, *pieces[:-1]]
        with torch.no_grad():
            likely = [decoder.next(torch.tensor([one]))[0, piece] for one, piece in zip(before, pieces, strict=True)]
        gain = scorer.score(photo, tokenizer.text(caption)) - scorer.score(photo, tokenizer.text(base[photo]))
        total -= gain * float(sum(likely)) / len(captions)
    assert total != 0
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)


def test_a_killed_run_resumes_to_the_same_bytes(asked, tmp_path, monkeypatch):
    whole = TaskLoader.batches

    def batches(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == 5:
                raise Killed
            yield batch

    straight, stopped = (str(tmp_path / name) for name in ("straight", "stopped"))
    finetune(Captioning(), asked(steps=6), straight)
    with monkeypatch.context() as patch:
        patch.setattr(TaskLoader, "batches", batches)
        with pytest.raises(Killed):
            finetune(Captioning(), asked(steps=6), stopped)
    finetune(Captioning(), asked(steps=6), stopped, resume=True)
    assert losses(stopped) == losses(straight)
    for name in ("model.safetensors", "manifest.json"):
        assert Path(stopped, name).read_bytes() == Path(straight, name).read_bytes()


def test_the_regions_that_a_caption_rests_on(asked, tmp_path):
    """The first region of a toy photo shows what the caption says, the second nothing."""
    run = finetune(Captioning(), asked(tags="none", epochs=40, label_smoothing=0.0), str(tmp_path / "run"))
    tuned, photos = load_finetuned(run), Photos(asked().task.regions, "none")
    task = Captioning()
    examples, read = task.read(asked().task.train, tuned.setup.settings, RejectLog("eval"), training=False)
    found = with_photos(task, examples, photos, RejectLog("eval"), read)
    encoded = Encoding(task, tuned.setup, photos).encode(found, 0, 4, training=False)
    lost = np.stack(
        [
            task.mattered(tuned.setup, tuned.network, one, f"a {concept_of(photo)} here")[0]
            for photo, one in enumerate(encoded)
        ]
    )
    assert lost.shape == (4, 2)  # of one of the concepts the caption may be the same without looking
    assert lost[:, 0].sum() > 0.2 > abs(lost[:, 1].sum())


def test_reward_goes_on_from_a_captioning_run(asked, tmp_path):
    first = finetune(Captioning(), asked(steps=2), str(tmp_path / "first"))
    given = asked(learn="reward", steps=1, learning_rate=1e-30, init=first)
    second = finetune(Captioning(), replace(given, model={}), str(tmp_path / "second"))
    one, other = (load_finetuned(run).network.state_dict() for run in (first, second))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    with pytest.raises(CallError, match=r"model.layers: 3, but the network of task.init"):
        finetune(Captioning(), replace(given, model={"layers": 3}), str(tmp_path / "third"))
