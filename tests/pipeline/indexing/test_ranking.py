"""Which regions are candidates: the cut of a concept, and the places it is found by."""

import numpy as np
from tests.pipeline.indexing.small_regions import VOCABULARY, make_regions

from vlmixer.artifacts import manifest
from vlmixer.bank import selection
from vlmixer.pipeline.indexing.candidates import other_concepts
from vlmixer.pipeline.indexing.ranking import Cut, Places, Ranking, find_cuts, list_places, write_places
from vlmixer.pipeline.indexing.units import SIZES


def test_a_cut_takes_the_best_and_ties_by_place():
    places = np.array([(-0.9, 0, 1), (-0.5, 0, 2), (-0.5, 0, 3), (-0.5, 1, 0), (-0.1, 0, 0)], selection.PLACE)
    assert Cut(5, -0.5, 0, 3).candidates(places).tolist() == [True, True, True, False, False]


def test_the_cut_is_the_same_however_regions_are_grouped(tmp_path):
    rng = np.random.default_rng(0)
    ranks = -rng.integers(0, 9, (9, 50)) / 9
    places = np.array([(rank, *place) for place, rank in np.ndenumerate(ranks)], selection.PLACE)
    last = selection.best(places, 40)[-1]
    for groups in (1, 3, 17):
        paths = []
        for number, group in enumerate(np.array_split(rng.permutation(places), groups)):
            found = {5: Places(group, len(group) + 1), 7: Places(group[:1], 1)} if number else {5: Places(group, 9)}
            paths.append(str(tmp_path / f"{groups}-{number}.places"))
            write_places(paths[-1], found)
        cuts = find_cuts(paths, 40).by_concept
        total = sum(len(group) + 1 for group in np.array_split(places, groups)[1:]) + 9
        assert cuts[5] == Cut(total, *last.tolist())
        assert (cuts[7].total if groups > 1 else 0) == groups - 1


def test_a_group_without_regions_has_no_places(tmp_path):
    write_places(str(tmp_path / "none.places"), {})
    assert find_cuts([str(tmp_path / "none.places")], 40).by_concept == {}


def test_places_of_a_group(tmp_path):
    rows = make_regions(tmp_path, images=25)
    ranking = Ranking("score", 3, 0, VOCABULARY.ids, str(tmp_path / "regions"))
    (group,) = SIZES.plan_groups(manifest.read(str(tmp_path / "regions")).parts)
    found = list_places(group, ranking)
    assert {VOCABULARY.names[number]: places.total for number, places in found.items()} == {
        name: sum(row["concept"] == name for row in rows) for name in ("dog", "cat", "kite")
    }
    dogs = sorted(-row["score"] for row in rows if row["concept"] == "dog")[:3]
    assert found[0].best["rank"].tolist() == dogs


def test_other_concepts_of_an_image():
    images, ids = np.array([0, 0, 0, 1, 2, 2]), np.array([5, 1, 5, 5, 2, 0])
    found = other_concepts(images, ids, np.array([0, 1, 3, 4]))
    assert [concepts.tolist() for concepts in found] == [[1], [5], [], [0]]
