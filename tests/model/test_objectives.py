import math

import pytest
import torch

from vlmixer.model.objectives import contrastive, masked_language_modelling, masked_tag_prediction


def cross_entropy(logits, target):
    """The definition, one row at a time."""
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


@pytest.fixture
def logits():
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(0))


def test_masked_language_modelling_is_the_mean_over_pieces(logits):
    targets = [3, 0, 6, 3]
    expected = sum(cross_entropy(row, target) for row, target in zip(logits.tolist(), targets, strict=True)) / 4
    assert masked_language_modelling(logits, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-5)


def test_masked_tag_prediction_is_the_mean_over_tags_of_the_mean_over_their_pieces(logits):
    targets = [3, 0, 6, 3]
    a, b, c, d = (cross_entropy(row, target) for row, target in zip(logits.tolist(), targets, strict=True))
    found = masked_tag_prediction(logits, torch.tensor(targets), torch.tensor([0, 1, 1, 1]), 2)
    assert found.item() == pytest.approx((a + (b + c + d) / 3) / 2, rel=1e-5)


def test_nothing_masked_costs_nothing_and_has_a_gradient():
    empty, none = torch.zeros(0, 7, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    for loss in (masked_language_modelling(empty, none), masked_tag_prediction(empty, none, none, 0)):
        assert loss.item() == 0
        loss.backward()


def slow_contrastive(text, view, sentences, temperature):
    total, count = 0.0, len(text)
    for queries, answers in ((text, view), (view, text)):
        for i in range(count):
            others = [j for j in range(count) if j == i or sentences[j] != sentences[i]]
            row = [sum(a * b for a, b in zip(queries[i], answers[j], strict=True)) / temperature for j in others]
            total += cross_entropy(row, others.index(i)) / count
    return total / 2


@pytest.mark.parametrize("sentences", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 0], [7, 7, 7, 7, 7]])
def test_contrastive_agrees_with_the_definition(sentences):
    random = torch.Generator().manual_seed(1)
    text, view = (torch.nn.functional.normalize(torch.randn(5, 3, generator=random), dim=-1) for _ in range(2))
    found = contrastive(text, view, torch.tensor(sentences), 0.1).item()
    assert found == pytest.approx(slow_contrastive(text.tolist(), view.tolist(), sentences, 0.1), rel=1e-4, abs=1e-6)


def test_equal_sentences_are_no_negatives_so_their_gradient_is_finite_and_zero():
    text = torch.eye(2, requires_grad=True)
    contrastive(text, torch.eye(2), torch.tensor([5, 5]), 0.1).backward()
    assert text.grad is not None
    assert text.grad.abs().max() == 0


def test_contrastive_over_nothing_is_zero():
    empty = torch.zeros(0, 3)
    assert contrastive(empty, empty, torch.zeros(0, dtype=torch.int64), 0.1).item() == 0
