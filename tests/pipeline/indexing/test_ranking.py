"""Which regions are candidates: the cut of a concept, and the places it is found by."""

import numpy as np
from tests.pipeline.indexing.small_regions import VOCABULARY, make_regions

from vlmixer.artifacts import manifest
from vlmixer.bank import selection
from vlmixer.pipeline.indexing.candidates import other_concepts
from vlmixer.pipeline.indexing.ranking import Cut, Places, Ranking, list_places
from vlmixer.pipeline.indexing.units import SIZES
from vlmixer.pipeline.jobs.index import _KeepBest


def test_a_cut_takes_the_best_and_ties_by_place():
    places = np.array([(-0.9, 0, 1), (-0.5, 0, 2), (-0.5, 0, 3), (-0.5, 1, 0), (-0.1, 0, 0)], selection.PLACE)
    assert Cut(5, -0.5, 0, 3).candidates(places).tolist() == [True, True, True, False, False]


def test_the_combiner_finds_the_cut_however_places_come_together():
    rng = np.random.default_rng(0)
    ranks = -rng.integers(0, 9, (9, 50)) / 9
    places = np.array([(rank, *place) for place, rank in np.ndenumerate(ranks)], selection.PLACE)
    keep = _KeepBest(40)
    last = selection.best(places, 40)[-1]
    for pieces in (1, 3, 17):
        accumulators = []
        for group in np.array_split(rng.permutation(places), pieces):
            accumulator = keep.create_accumulator()
            for piece in np.array_split(group, 4):
                accumulator = keep.add_input(accumulator, Places(piece, len(piece)))
                assert len(accumulator.best) <= 2 * 40 + len(piece)
            accumulators.append(accumulator)
        cut = keep.extract_output(keep.merge_accumulators(accumulators))
        assert (cut.total, cut.rank, cut.part, cut.row) == (450, *last.tolist())


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
