"""VQA's rules. The expected values are what the official scorer (revision of 2016) gives for these cases."""

import gzip
import json

import pytest

from vlmixer.model.tasks.answers import accuracy, common_answers, normalise, soft_scores


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("", ""),
        ("Yes", "yes"),
        ("  hot\tdog\n", "hot dog"),
        ("The  cat", "cat"),
        ("a", ""),
        ("an A the", ""),
        ("a tv and the cat", "tv and cat"),
        ("none", "0"),
        ("None of the above", "0 of above"),
        ("two", "2"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("twenty two", "twenty 2"),
        # A mark becomes a space, unless it touches one somewhere: then it goes, wherever it is.
        ("t-shirt", "t shirt"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt - red", "tshirt red"),
        ("yes, it is", "yes it is"),
        ("left,right", "left right"),
        ("left,right, both", "leftright both"),
        ("why?", "why"),
        ("(yes)", "yes"),
        ("in (the) box", "in box"),
        ("10:30", "10:30"),
        ("50%", "50%"),
        ("dog's", "dog's"),
        # With a comma between digits all marks go, also those of other kinds.
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),
        ("t-shirt 1,000", "tshirt 1000"),
        ("1, 000", "1 000"),
        # A period goes unless a digit follows; a digit before it does not matter, because the look-behind is mistyped.
        ("U.S.", "us"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("5.", "5"),
        ("5. dogs", "5 dogs"),
        ("no. 7", "no 7"),
        ("no.7", "no.7"),
        # The flag that is passed as the count: only the first 32 periods of a text go.
        ("." * 32, ""),
        ("." * 33, "."),
        ("a." * 20 + "b." * 20, "a" * 20 + "b" * 12 + "b." * 8),
        # Contractions, as words of their own; the table is not symmetric.
        ("dont", "don't"),
        ("Im", "im"),
        ("its", "its"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("y'alld've", "y'all'd've"),
        ("'ows'at", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("somebodyd", "somebodyd"),
        ("it is 5 oclock", "it is 5 o'clock"),
        # Numbers and articles are words of their own, too.
        ("one-way", "1 way"),
        ("someone", "someone"),
        ("a-frame", "frame"),
    ],
)
def test_normalise(prediction, expected):
    assert normalise(prediction) == expected


@pytest.mark.parametrize(("right", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)])
def test_accuracy_is_the_mean_over_the_subsets_of_nine(right, expected):
    answers = ["dog"] * right + [f"other {number}" for number in range(10 - right)]
    assert accuracy("a dog", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        # The given answers lose only punctuation, so what else normalising removes cannot be matched …
        ("two", ["two"] * 5 + ["2"] * 5, 1.0),
        ("two", ["two"] * 9 + ["2"], 0.3),
        ("a dog", ["a dog"] * 9 + ["dog"], 0.3),
        ("dont know", ["dont know"] * 9 + ["don't know"], 0.3),
        ("Yes", ["Yes"] * 9 + ["yes"], 0.3),
        # … and if all are equal, they keep it.
        ("t-shirt", ["t-shirt"] * 10, 0.0),
        ("t shirt", ["t-shirt"] * 10, 0.0),
        ("t-shirt", ["t-shirt"] * 9 + ["t shirt"], 1.0),
        ("t-shirt", ["t-shirt"] * 2 + ["shirt"] * 8, 0.6),
        ("10:30", ["10:30"] * 3 + ["10.30"] * 7, 0.9),
    ],
)
def test_the_given_answers_are_hardly_normalised(prediction, answers, expected):
    assert accuracy(prediction, answers) == pytest.approx(expected)


def test_accuracy_needs_an_answer():
    with pytest.raises(ValueError, match="no answers"):
        accuracy("yes", [])


def test_soft_scores_are_the_official_accuracy():
    answers = ["red"] * 4 + ["dark red"] * 3 + ["maroon"] * 2 + ["wine"]
    assert soft_scores(answers) == pytest.approx({"red": 1.0, "dark red": 0.9, "maroon": 0.6, "wine": 0.3})
    assert soft_scores(answers) == pytest.approx({answer: accuracy(answer, answers) for answer in answers})


def test_soft_scores_take_answers_as_they_are():
    assert soft_scores(["The dog", "dog"]) == pytest.approx({"The dog": 0.3, "dog": 0.3})


def test_common_answers_are_normalised_and_counted():
    given = ["Yes"] * 5 + ["yes"] * 4 + ["two"] * 9 + ["the cat"] * 10 + ["dog"] * 8
    assert common_answers(given) == ["cat", "2", "yes"]
    assert common_answers(given, least=8) == ["cat", "2", "yes", "dog"]


def test_the_usual_answers_are_normalised(shared_data):
    usual = json.loads((shared_data / "tasks" / "vqa_v2" / "answers_3129.json").read_text())
    assert [answer for answer in usual if normalise(answer) != answer] == []


def test_the_best_possible_score_with_the_usual_answers(shared_data):
    folder = shared_data / "tasks" / "vqa_v2"
    usual, best = set(json.loads((folder / "answers_3129.json").read_text())), []
    for split in ("train", "valid", "test"):
        with gzip.open(folder / f"annotations_{split}.json.gz") as file:
            rows = json.load(file)["annotations"]
        for row in rows:
            scores = soft_scores(answer["answer"] for answer in row["answers"])
            best.append(max((score for answer, score in scores.items() if answer in usual), default=0.0))
    assert len(best) == 60_000
    assert 100 * sum(best) / len(best) == pytest.approx(93.28, abs=0.005)
