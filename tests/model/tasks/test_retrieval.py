"""Retrieval: it starts from what pre-training scores, learns from pairs, and puts lists in a new order."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model.runs import SHORT, SMALL, Killed, losses
from tests.model.tasks.test_captioning import coco
from tests.model.tasks.toy import DIM, settings, write_json, write_regions
from tests.model.world import World, write_shards

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.rng import generator
from vlmixer.model.checkpoint import load_run
from vlmixer.model.config import Settings
from vlmixer.model.embedding import ImageRegions, embed_images, embed_tags, embed_texts
from vlmixer.model.finetuning import finetune, load_finetuned
from vlmixer.model.likelihood import similarities
from vlmixer.model.ranks import Ranks
from vlmixer.model.reference import load_reference
from vlmixer.model.tasks.base import Example
from vlmixer.model.tasks.data import Encoding, TaskLoader, with_photos
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.photos import Photos
from vlmixer.model.tasks.retrieval import Retrieval, read_gallery
from vlmixer.model.tasks.retrieval_learning import RetrievalConfig
from vlmixer.model.tasks.retrieval_scores import FOLD, Retrieved, measures, retrieve
from vlmixer.model.tasks.retrieval_space import log_times
from vlmixer.model.training import train


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    return write_regions(tmp_path_factory.mktemp("tasks") / "regions")


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    return write_json(tmp_path_factory.mktemp("tasks") / "captions.json", coco())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A short run on features of the same width."""
    folder = tmp_path_factory.mktemp("pretrained")
    world = World()
    samples = [world.mixed(number) for number in range(40)] + [world.image(number) for number in range(12)]
    narrow = [replace(sample, features=sample.features[:, :DIM]) for sample in samples]
    shards = write_shards(str(folder / "shards"), narrow, feature_dim=DIM)
    return train(Settings(seed=1, model=SMALL, train=replace(SHORT, shards=shards)), out=str(folder / "run"))


@pytest.fixture
def asked(regions, captions, pretrained):
    def asked(scratch=False, **changes):
        given = {"init": None if scratch else pretrained, "text_tokens": 10, "warmup_steps": 0, **changes}
        made = settings(regions, [captions], RetrievalConfig, **given)
        return made if scratch else replace(made, model={})

    return asked


def values(run):
    return {measure.name: measure.value for measure in evaluate_run(run, "retrieval").evaluation.measures}


def zero_shot(pretrained, photos, texts):
    """(texts, photos): the scores without fine-tuning."""
    network, tokenizer, found = load_run(pretrained)
    images = [ImageRegions(one.features, one.boxes, one.width, one.height, one.tags) for one in photos]
    embedded = embed_texts(network, tokenizer, found.model, texts)
    of_regions, of_tags = (embed(network, tokenizer, found.model, images) for embed in (embed_images, embed_tags))
    return similarities(embedded, of_regions, of_tags, load_reference(pretrained), found.train.temperature)[2]


def factor(module):
    """By which the scores without fine-tuning are multiplied; it changes no order."""
    return module.scale.item() / module.temperature


def encoded_of(tuned, path, training, count=None):
    task, photos = Retrieval(), Photos(tuned.setup.settings.regions, "detector")
    examples, read = task.read([path], tuned.setup.settings, RejectLog("finetune"), training)
    found = with_photos(task, examples[:count], photos, RejectLog("finetune"), read)
    return found, Encoding(task, tuned.setup, photos).encode(found, 0, len(found), training), photos


def test_it_starts_from_the_scores_without_fine_tuning(asked, captions, pretrained, tmp_path):
    run = finetune(Retrieval(), asked(steps=1, learning_rate=1e-30), str(tmp_path / "run"))
    tuned = load_finetuned(run)
    found, encoded, photos = encoded_of(tuned, captions, training=False)
    module = Retrieval().objective(tuned.setup, tuned.network, Ranks()).eval()
    scores = retrieve(tuned.setup, module, found.examples, [one.extra[1] for one in encoded])
    numbers = found.photos[:, 0].tolist()
    given = photos.read(numbers, DIM)
    expected = zero_shot(pretrained, [given[number] for number in numbers], scores.texts) * factor(module)
    assert np.allclose(scores.first, expected, atol=1e-4)
    # The joint encoder adds nothing yet, so the order of a list is the same.
    for row, (new, old) in enumerate(zip(scores.by_text, scores.first, strict=True)):
        best = set(np.argsort(-old)[: tuned.setup.settings.rerank])
        assert set(np.argsort(-new)[: len(best)]) == best, row
        assert np.allclose(new[list(best)] - new[list(best)].min(), old[list(best)] - old[list(best)].min(), atol=1e-4)


def test_scores_of_a_batch_are_those_of_evaluation(asked, captions, pretrained, tmp_path):
    run = finetune(Retrieval(), asked(steps=1, learning_rate=1e-30), str(tmp_path / "run"))
    tuned, task = load_finetuned(run), Retrieval()
    found, encoded, photos = encoded_of(tuned, captions, training=True)
    batch = task.assemble(tuned.setup, [task.part(tuned.setup, encoded, generator(0, "test"))])
    module = task.objective(tuned.setup, tuned.network, Ranks())
    with torch.no_grad():
        scores = log_times(tuned.network.network, batch.texts, batch.pieces, batch.photos, module.known)
    numbers = list(dict.fromkeys(found.photos[:, 0].tolist()))
    given = photos.read(numbers, DIM)
    expected = zero_shot(pretrained, [given[n] for n in numbers], [example.text for example in found.examples])
    assert np.allclose(scores.numpy() * module.temperature, expected, atol=1e-5)
    evaluated = retrieve(tuned.setup, module.eval(), found.examples[::3], [one.extra[1] for one in encoded[::3]])
    assert np.allclose(evaluated.first, expected * factor(module), atol=1e-4)
    assert batch.owner.tolist() == np.repeat(np.arange(24), 3).tolist()
    first, joint = module(batch).tolist()
    assert first > 0
    assert joint > 0


@pytest.mark.parametrize("scratch", [False, True])
def test_it_learns_from_pairs(asked, tmp_path, scratch):
    """A caption fits the 6 of 24 photos of its concept."""
    before = values(finetune(Retrieval(), asked(scratch, steps=1, learning_rate=1e-30), str(tmp_path / "before")))
    run = finetune(Retrieval(), asked(scratch, epochs=12, learning_rate=5e-3), str(tmp_path / "run"))
    after = values(run)
    assert after["R@10 text to image"] == 100 > before["R@10 text to image"]
    assert after["R@1 text to image"] == pytest.approx(100 / 6, abs=8)
    assert after["R@10 text to image, first list"] == 100


def test_a_batch_of_one_photo_has_no_wrong_ones(asked, captions, tmp_path):
    run = finetune(Retrieval(), asked(steps=1), str(tmp_path / "run"))
    tuned, task = load_finetuned(run), Retrieval()
    _, encoded, _ = encoded_of(tuned, captions, training=True, count=3)
    batch = task.assemble(tuned.setup, [task.part(tuned.setup, encoded, generator(0, "test"))])
    assert task.objective(tuned.setup, tuned.network, Ranks())(batch).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_result_file_and_best_captions(asked, tmp_path):
    run = finetune(Retrieval(), asked(steps=1), str(tmp_path / "run"))
    evaluation = evaluate_run(run, "retrieval").evaluation
    rows = json.loads(evaluation.result)
    assert len(rows) == 72 + 24
    assert rows[0]["caption"] == "A dog here."
    assert len(set(rows[0]["images"])) == 10
    assert set(rows[0]["images"]) <= set(range(24))
    assert rows[72]["image_id"] == 0
    assert rows[72]["captions"][0] == evaluation.answers[0].answer
    right = [answer.value for answer in evaluation.answers]
    score = next(measure for measure in evaluation.measures if measure.name == "R@1 image to text")
    assert right == score.values.tolist()


def test_recall_of_both_orders():
    """Recall is that of the new order; the first lists are scored, too."""
    found = Retrieved(
        texts=("a", "b"),
        owner=np.array([0, 1]),
        first=np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]),
        by_text=np.array([[4.0, 5.0, 1.0], [1.0, 2.0, 3.0]]),
        by_photo=np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]),
    )
    examples = [Example("x", ("x.jpg",), "", ("a",)), Example("y", ("y.jpg",), "", ("b",)), Example("z", ("z",), "")]
    scores = {measure.name: measure for measure in measures(found, examples)}
    assert scores["R@1 text to image"].values.tolist() == [0.0, 0.0]
    assert scores["R@1 text to image, first list"].values.tolist() == [1.0, 0.0]
    assert scores["R@5 text to image"].units == ["x#0", "y#0"]
    assert scores["R@1 image to text"].values.tolist() == [1.0, 0.5]  # a tie; the photo without captions is not asked
    assert scores["R@1 image to text"].photos == ["x.jpg", "y.jpg"]


def test_five_captions_and_folds(asked, tmp_path):
    """The best of a photo's captions counts; lists of more than 1,000 photos are also scored by the thousand."""
    photos, of_each = FOLD + 1, 5
    owner = np.repeat(np.arange(photos), of_each)
    first = np.zeros((len(owner), photos), np.float32)
    first[np.arange(0, len(owner), of_each), np.arange(photos)] = 1  # only the first caption is recognised
    fold = np.arange(FOLD)
    rows = np.flatnonzero(np.isin(owner, fold))
    part = first[np.ix_(rows, fold)]
    found = Retrieved(("",) * len(owner), owner, first, first, first.T, ((rows, fold, part, part.T),))
    examples = [Example(str(photo), (f"{photo}.jpg",), "", ("",) * of_each) for photo in range(photos)]
    scores = {measure.name: measure for measure in measures(found, examples)}
    assert scores["R@1 image to text"].value == 100
    assert scores["R@1 text to image"].value == pytest.approx(20 + 80 / photos)
    assert scores["R@1 text to image, 1k folds"].value == pytest.approx(20 + 80 / FOLD)
    assert len(scores["R@1 image to text, 1k folds"].units) == FOLD


def test_a_list_of_photos_to_score(asked, captions, tmp_path):
    (tmp_path / "keys.tsv").write_text("3\t0\n17\t1\n")
    assert read_gallery(str(tmp_path / "keys.tsv")) == {"3", "17"}
    config = asked(gallery=str(tmp_path / "keys.tsv")).task
    examples, read = Retrieval().read([captions], config, RejectLog("eval"), training=False)
    assert ([example.key for example in examples], read) == (["3", "17"], 2)
    (tmp_path / "keys.tsv").write_text("3\n99\n")
    with pytest.raises(CallError, match=r"keys.tsv names 2 photos; 1 of them are in the files to score"):
        Retrieval().read([captions], config, RejectLog("eval"), training=False)
    (tmp_path / "keys.tsv").write_text("\n")
    with pytest.raises(CallError, match=r"no ids in it"):
        read_gallery(str(tmp_path / "keys.tsv"))


def test_a_killed_run_resumes_to_the_same_bytes(asked, tmp_path, monkeypatch):
    whole = TaskLoader.batches

    def batches(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == 5:
                raise Killed
            yield batch

    straight, stopped = (str(tmp_path / name) for name in ("straight", "stopped"))
    finetune(Retrieval(), asked(steps=6), straight)
    with monkeypatch.context() as patch:
        patch.setattr(TaskLoader, "batches", batches)
        with pytest.raises(Killed):
            finetune(Retrieval(), asked(steps=6), stopped)
    finetune(Retrieval(), asked(steps=6), stopped, resume=True)
    assert losses(stopped) == losses(straight)
    for name in ("model.safetensors", "manifest.json"):
        assert Path(stopped, name).read_bytes() == Path(straight, name).read_bytes()
