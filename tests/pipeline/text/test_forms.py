"""In which forms a word of a vocabulary stands in text."""

import re
import subprocess
import sys

import pytest

from vlmixer.bank.concepts import BUILT_IN, load_vocabulary
from vlmixer.pipeline.text.forms import COMPOUNDS, SPELLINGS, forms_of, inflections_of


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("dog", ["dogs"]), ("bus", ["buses", "busses"]), ("glass", ["glasses"]), ("lens", ["lenses"]),
            ("fox", ["foxes"]),
        ("bench", ["benches"]), ("brush", ["brushes"]), ("puppy", ["puppies"]), ("donkey", ["donkeys"]),
        ("knife", ["knives"]), ("wolf", ["wolves"]), ("leaf", ["leaves"]), ("loaf", ["loaves"]), ("calf", ["calves"]),
        ("giraffe", ["giraffes"]), ("roof", ["roofs"]), ("hoof", ["hooves", "hoofs"]), ("scarf", ["scarves", "scarfs"]),
        ("man", ["men"]), ("woman", ["women"]), ("gentleman", ["gentlemen"]), ("snowman", ["snowmen"]),
        ("ottoman", ["ottomans"]), ("human", ["humans"]), ("child", ["children"]), ("person", ["people", "persons"]),
        ("goose", ["geese"]), ("mouse", ["mice"]), ("foot", ["feet"]), ("tooth", ["teeth"]), ("ox", ["oxen"]),
        ("sheep", []), ("deer", []), ("moose", []), ("aircraft", []), ("fish", ["fishes"]), ("salmon", []),
        ("shrimp", ["shrimps"]), ("squid", ["squids"]), ("octopus", ["octopuses", "octopi"]),
        ("hippopotamus", ["hippopotamuses", "hippopotami"]), ("walrus", ["walruses"]),
        ("cactus", ["cacti", "cactuses"]), ("potato", ["potatoes", "potatos"]), ("piano", ["pianos"]),
        ("mango", ["mangoes", "mangos"]),
        ("die", ["dice"]), ("tv", ["tvs"]), ("compass", ["compasses"]), ("tennis", []), ("wife", ["wives"]),
    ],
)  # fmt: skip
def test_plurals(word, forms):
    found = [form for form in inflections_of(word) if form != word]
    assert found == forms


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("trees", ["tree"]), ("men", ["man"]), ("women", ["woman"]), ("people", ["person"]), ("children", ["child"]),
        ("geese", ["goose"]), ("feet", ["foot"]), ("skis", ["ski"]), ("skies", ["sky"]), ("leaves", ["leaf"]),
        ("knives", ["knife"]), ("boxes", ["box"]), ("earrings", ["earring"]), ("stairs", ["stair"]),
        ("palm trees", ["palm tree"]), ("french fries", []), ("roller skates", ["roller skate"]),
        ("glasses", []), ("eyeglasses", []), ("scissors", []), ("shorts", []), ("jeans", []), ("trousers", []),
        ("pants", []), ("binoculars", []), ("goggles", []), ("clothes", []), ("woods", []), ("dice", []),
        ("swim trunks", []), ("sweat pants", []),
    ],
)  # fmt: skip
def test_a_plural_has_no_plural_and_a_singular_only_if_that_is_the_same_thing(word, forms):
    assert [form for form in inflections_of(word) if form != word] == forms


@pytest.mark.parametrize(
    ("phrase", "forms"),
    [
        ("hot dog", ["hot dogs"]), ("loaf of bread", ["loaves of bread"]), ("chest of drawers", ["chests of drawers"]),
        ("bow and arrow", ["bow and arrows", "bows and arrows"]), ("man's hand", ["man's hands"]),
        ("salt and pepper shakers", ["salt and pepper shaker"]), ("bow-tie", ["bow-ties"]), ("t-shirt", ["t-shirts"]),
        ("woman's", []), ("she", []), ("a", []), ("2", []), ("number 2", []), ("", []), ("!!!", []), ("hund äpfel", []),
    ],
)  # fmt: skip
def test_what_inflects_in_a_phrase(phrase, forms):
    assert list(inflections_of(phrase)) == forms


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("teddy bear", {"teddy bears", "teddybear", "teddybears"}),
        ("hotdog", {"hotdogs", "hot dog", "hot dogs"}),
        ("backpack", {"backpacks", "back pack", "back packs"}),
        ("donut", {"donuts", "doughnut", "doughnuts"}),
        ("doughnut", {"doughnuts", "donut", "donuts"}),
        ("gray cat", {"gray cats", "grey cat", "grey cats", "graycat", "graycats", "greycat", "greycats"}),
        ("t-shirt", {"t-shirts", "tshirt", "tshirts"}),
        ("pajamas", {"pyjamas"}),
        ("ski pants", {"skipants"}),
        ("camera lens", {"camera lenses", "cameralens", "cameralenses"}),
        ("dryer", {"dryers"}),
    ],
)
def test_spellings(word, forms):
    assert set(forms_of(word)) - {word} == forms
    assert forms_of(word)[0] == word


def test_a_dryer_with_something_before_it_may_be_a_drier():
    assert {"hair drier", "hair driers", "hairdrier"} <= set(forms_of("hair dryer"))


def test_the_tables_say_nothing_twice():
    assert len(set(SPELLINGS)) == len(SPELLINGS)
    assert len(set(COMPOUNDS)) == len(COMPOUNDS)
    assert all(len(pair) == 2 for pair in SPELLINGS + COMPOUNDS)


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_form_of_a_built_in_word_is_malformed(name):
    """Mistakes that a library for plurals makes on plurals: "treess", "mens", "peoples"; on singulars: "bu", "len"."""
    wrong = re.compile(r"(?:men|people|children|feet|teeth|geese|mice)s$")
    for word in load_vocabulary(name).claims:
        for form in forms_of(word):
            assert not wrong.search(form), (word, form)
            assert not (word.endswith("s") and form == f"{word}s"), (word, form)
            assert form == form.strip()
            assert form
    assert "bu" not in forms_of("bus")
    assert "len" not in forms_of("lens")


def test_inflect_is_imported_without_checks_that_take_a_second_to_make():
    program = """
import typeguard
before = typeguard.typechecked
from vlmixer.pipeline.text.forms import inflections_of
print(inflections_of("giraffe"))
import inflect
print(inflect.engine.plural_noun.__globals__["typechecked"] is before)
print("TypeCheckMemo" in inflect.engine.plural_noun.__code__.co_names, typeguard.typechecked is before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["('giraffes',)", "False", "False True"]
