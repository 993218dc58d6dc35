"""Open-vocabulary detectors of transformers: what the library finds, for any number of concepts."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.image.detectors.small_models import equal, picture
from tests.pipeline.image.detectors.small_open import OPEN_KINDS, write_open_model
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.concepts import Concept, Vocabulary, load_vocabulary
from vlmixer.pipeline.image.detection import load_with_concepts
from vlmixer.pipeline.image.detectors.contract import check_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec
from vlmixer.pipeline.image.detectors.transformers_askers import chunks
from vlmixer.pipeline.image.detectors.transformers_folder import quiet
from vlmixer.pipeline.image.detectors.transformers_open import OpenVocabularyDetector, phrases

IMAGES = [picture(60, 80), picture(90, 45, 1)]
NAMES = ["dog", "hot dog", "cat", "fire hydrant"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    return {kind: str(write_open_model(kind, tmp_path_factory.mktemp(kind))) for kind in OPEN_KINDS}


def concepts(names: list[str]) -> list[Concept]:
    return [Concept(number, name) for number, name in enumerate(names)]


def library(folder: str) -> tuple[Any, Any]:
    with quiet():
        return AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def rows_of(found: Any, label: int) -> list[tuple[float, ...]]:
    """The regions with a label, as tuples of all their numbers, sorted."""
    rows = np.concatenate([found.scores[:, None], found.boxes, found.features], 1)[found.labels == label]
    return sorted(tuple(row) for row in rows.tolist())


@pytest.mark.parametrize("kind", OPEN_KINDS)
def test_keeps_the_contract_of_detectors(folders, kind):
    detector = OpenVocabularyDetector(folders[kind], score_threshold=0.0, concepts=concepts(NAMES))
    assert check_detector(detector, [picture(50, 70, 5)]) > 50


@pytest.mark.parametrize("kind", ["owlv2", "owlvit"])
@pytest.mark.parametrize("count", [4, 1203])
def test_owl_finds_what_the_library_finds_for_all_phrases_at_once(folders, kind, count):
    names = NAMES if count == 4 else load_vocabulary("lvis").names
    assert len(names) == count
    detector = OpenVocabularyDetector(folders[kind], score_threshold=0.0, concepts=concepts(names), template="{}")
    network, processor = library(folders[kind])
    texts = [text for text, _ in phrases(concepts(names), "{}", False)]
    for image, found in zip(IMAGES, detector.detect(IMAGES), strict=True):
        tokens = processor.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        pixels = processor.image_processor(Image.fromarray(image), return_tensors="pt")
        with torch.inference_mode():
            outputs = network(**tokens, **pixels)
        sizes = [image.shape[:2]]
        (expected,) = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes)
        assert np.allclose(found.scores, expected["scores"], atol=1e-4)
        assert np.array_equal(found.labels, expected["labels"])
        edges = [image.shape[1], image.shape[0]] * 2
        assert np.allclose(found.boxes, expected["boxes"].numpy().clip(0, edges), atol=1e-3)
        assert np.allclose(found.features, outputs.class_embeds[0], atol=1e-4)
        assert len(set(found.labels.tolist())) > 1


def direct_grounding(
    folder: str, image: np.ndarray, names: list[str]
) -> list[tuple[float, int, np.ndarray, np.ndarray]]:
    """(score, name, box, feature) of each query for one prompt, from the library alone."""
    network, processor = library(folder)
    inputs = processor(images=Image.fromarray(image), text=[names], return_tensors="pt")
    states: list[torch.Tensor] = []
    network.class_embed[-1].register_forward_hook(
        lambda module, given, named, result: states.append(named["vision_hidden_state"]), with_kwargs=True
    )
    with torch.inference_mode():
        outputs = network(**inputs)
    size = [image.shape[:2]]
    (found,) = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=size)
    words = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    own = np.cumsum([word == "." for word in words])  # the place of each token's name
    named = np.array([word not in (".", "[CLS]", "[SEP]") for word in words])
    chances = outputs.logits[0].sigmoid().numpy()[:, : len(words)]
    scores = np.stack([chances[:, named & (own == number)].max(1) for number in range(len(names))], 1)
    boxes = found["boxes"].numpy().clip(0, [image.shape[1], image.shape[0]] * 2)
    return [
        (float(row.max()), int(row.argmax()), box, state)
        for row, box, state in zip(scores, boxes, states[-1][0].numpy(), strict=True)
    ]


def same_as_direct(found: Any, expected: list[tuple[float, int, np.ndarray, np.ndarray]]) -> None:
    assert len(found.scores) == len(expected)
    for row, (score, label, box, feature) in enumerate(expected):
        assert found.scores[row] == pytest.approx(score, abs=1e-4)
        assert found.labels[row] == label
        assert np.allclose(found.boxes[row], box, atol=1e-2)
        assert np.allclose(found.features[row], feature, atol=1e-4)


def test_grounding_dino_finds_what_the_library_finds_for_one_prompt(folders):
    detector = OpenVocabularyDetector(folders["grounding-dino"], score_threshold=0.0, concepts=concepts(NAMES))
    for image, found in zip(IMAGES, detector.detect(IMAGES), strict=True):
        same_as_direct(found, direct_grounding(folders["grounding-dino"], image, NAMES))


def test_grounding_dino_in_several_prompts_finds_what_each_prompt_finds(folders):
    """Each prompt is looked for by itself, so that its result is the library's, whatever is asked before and after."""
    detector = OpenVocabularyDetector(
        folders["grounding-dino"], score_threshold=0.0, concepts=concepts(NAMES), concepts_per_prompt=2
    )
    for image, found in zip(IMAGES, detector.detect(IMAGES), strict=True):
        expected = []
        for first in (0, 2):
            rows = direct_grounding(folders["grounding-dino"], image, NAMES[first : first + 2])
            expected += [(score, label + first, box, state) for score, label, box, state in rows]
        same_as_direct(found, expected)


@pytest.mark.parametrize("kind", ["grounding-dino", "omdet-turbo"])
def test_one_concept_per_prompt_makes_concepts_independent_of_each_other(folders, kind):
    options: dict[str, Any] = {"score_threshold": 0.0, "concepts_per_prompt": 1}
    every = OpenVocabularyDetector(folders[kind], concepts=concepts(NAMES), **options).detect(IMAGES)
    turned = OpenVocabularyDetector(folders[kind], concepts=concepts(NAMES[::-1]), **options).detect(IMAGES)
    for number, name in enumerate(NAMES):
        alone = OpenVocabularyDetector(folders[kind], concepts=concepts([name]), **options).detect(IMAGES)
        for among, other, own in zip(every, turned, alone, strict=True):
            assert len(rows_of(own, 0)) == 6
            assert np.allclose(rows_of(among, number), rows_of(own, 0), atol=1e-4)
            assert np.allclose(rows_of(other, len(NAMES) - 1 - number), rows_of(own, 0), atol=1e-4)


def test_grounding_dino_is_asked_for_1203_concepts(folders):
    names = load_vocabulary("lvis").names
    detector = OpenVocabularyDetector(folders["grounding-dino"], score_threshold=0.0, concepts=concepts(names))
    prompts = detector._asker._prompts  # type: ignore[attr-defined]
    assert len(prompts) > 30
    assert all(tokens.shape[1] <= 256 for tokens, _, _ in prompts)
    (found,) = detector.detect(IMAGES[:1])
    assert len(found.scores) == 6 * len(prompts)
    assert len(set(found.labels.tolist())) > 60
    # Those of a prompt in the middle are as if it was the only one.
    first, count = prompts[20][2], len(prompts[20][1])
    rows = slice(6 * 20, 6 * 21)
    own = [text for text, _ in phrases(concepts(names), "{}", False)][first : first + count]
    expected = direct_grounding(folders["grounding-dino"], IMAGES[0], own)
    assert np.allclose(found.scores[rows], [row[0] for row in expected], atol=1e-4)
    assert (found.labels[rows] - first).tolist() == [row[1] for row in expected]


def test_omdet_turbo_finds_what_the_library_finds(folders):
    detector = OpenVocabularyDetector(folders["omdet-turbo"], score_threshold=0.0, concepts=concepts(NAMES[:3]))
    network, processor = library(folders["omdet-turbo"])
    for image, found in zip(IMAGES, detector.detect(IMAGES), strict=True):
        inputs = processor(images=Image.fromarray(image), text=[NAMES[:3]], return_tensors="pt")
        with torch.inference_mode():
            outputs = network(**inputs, output_hidden_states=True)
        (expected,) = processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, nms_threshold=1.0, target_sizes=[image.shape[:2]]
        )
        order = np.argsort(-found.scores, kind="stable")
        assert np.allclose(found.scores[order], expected["scores"], atol=1e-4)
        assert np.array_equal(found.labels[order], expected["labels"])
        assert np.allclose(found.boxes[order], expected["boxes"], atol=1e-3)
        logits = outputs.decoder_class_logits[0]
        for row in range(len(found.scores)):
            query = int((logits.sigmoid()[:, found.labels[row]] - float(found.scores[row])).abs().argmin())
            assert np.allclose(found.features[row], outputs.decoder_hidden_states[-1][0, query], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("owlv2", "owlv2.text_model"), ("grounding-dino", "model.text_backbone.encoder"),
     ("omdet-turbo", "language_backbone.model")],
)  # fmt: skip
def test_texts_are_encoded_once_and_not_per_image(folders, kind, part):
    detector = OpenVocabularyDetector(
        folders[kind], score_threshold=0.0, concepts=concepts(NAMES), concepts_per_prompt=2
    )
    calls: list[int] = []
    detector._network.get_submodule(part).register_forward_hook(lambda *_: calls.append(1))
    first = detector.detect(IMAGES)
    assert not calls, "the blank image for the width of features asked for all"
    assert all(equal(one, other) for one, other in zip(first, detector.detect(IMAGES), strict=True))


def test_an_image_goes_through_the_backbone_once_for_all_prompts(folders):
    detector = OpenVocabularyDetector(folders["grounding-dino"], concepts=concepts(NAMES), concepts_per_prompt=1)
    calls: list[int] = []
    detector._network.model.backbone.conv_encoder.register_forward_hook(lambda *_: calls.append(1))
    detector.detect(IMAGES)
    assert len(calls) == 2


def test_synonyms_and_templates():
    bow = Concept(0, "bow (weapon)", ("longbow", "bow_weapon"))
    both = [bow, Concept(1, "st. bernard")]
    assert phrases(both, "a {} here", False) == [("a bow weapon here", 0), ("a st bernard here", 1)]
    assert phrases(both, "{}", True) == [("bow weapon", 0), ("longbow", 0), ("st bernard", 1)]


def test_a_concept_gets_the_best_score_of_its_synonyms(folders):
    together = [Concept(0, "dog", ("hot dog",)), Concept(1, "cat")]
    options: dict[str, Any] = {"score_threshold": 0.0, "template": "{}"}
    (found,) = OpenVocabularyDetector(folders["owlv2"], concepts=together, synonyms=True, **options).detect(IMAGES[:1])
    (apart,) = OpenVocabularyDetector(folders["owlv2"], concepts=concepts(["dog", "hot dog", "cat"]), **options).detect(
        IMAGES[:1]
    )
    assert np.array_equal(found.scores, apart.scores)
    assert found.labels.tolist() == [{0: 0, 1: 0, 2: 1}[label] for label in apart.labels.tolist()]


def test_phrases_are_divided_by_their_lengths_alone():
    assert chunks([2, 2, 2], 4, None, "abc") == [range(2), range(2, 3)]
    assert chunks([2, 2, 2], 99, 1, "abc") == [range(1), range(1, 2), range(2, 3)]
    assert chunks([4, 1, 4], 4, None, "abc") == [range(1), range(1, 2), range(2, 3)]
    with pytest.raises(CallError, match="'b' has 5 tokens, and the model takes 4"):
        chunks([2, 5], 4, None, "ab")
    with pytest.raises(CallError, match="concepts_per_prompt: expected 1 or more, found 0"):
        chunks([2], 4, 0, "a")


def test_the_pipeline_asks_for_the_vocabulary(folders):
    vocabulary = Vocabulary("mine", tuple(concepts(NAMES)))
    spec = DetectorSpec(f"transformers:{folders['owlv2']}", None, "cpu", 0.0, {"template": "{}"})
    finder = load_with_concepts(spec, vocabulary)
    assert list(finder.detector.labels) == list(finder.concepts) == NAMES
    asked = DetectorSpec(f"transformers:{folders['owlv2']}", None, "cpu", 0.0, {"classes": ["cat", "zebra"]})
    assert load_with_concepts(asked, vocabulary).concepts == ("cat", None)


def test_mistakes_are_named(folders):
    with pytest.raises(CallError, match=r"finds what it is asked for\. Give names in .*classes"):
        OpenVocabularyDetector(folders["owlv2"])
    with pytest.raises(CallError, match=r"template: expected text with one \{\}, found 'a thing'"):
        OpenVocabularyDetector(folders["owlv2"], concepts=concepts(NAMES), template="a thing")
    with pytest.raises((CallError, UserError), match="has 257 tokens, and the model takes 254"):
        OpenVocabularyDetector(folders["grounding-dino"], concepts=concepts(["x " * 256]))
