"""Numbers: which images show one or several of what a caption names."""

import numpy as np

from vlmixer.model.numbers import NUMBER_SHARE, number_similarity


def test_an_image_fits_the_number_that_it_shows_and_says_nothing_of_what_it_lacks():
    captions: list[dict[str, bool]] = [{"dog": True}, {"dog": False}, {"dog": False}, {}, {"cat": True}]
    found = number_similarity(captions, [["dog", "cat", "dog"], ["dog"], ["cat", "cat", "cat"], []])
    several, one = 2 / 5, 3 / 5  # of three captions with dogs, one more of each kind
    rest = 1 - NUMBER_SHARE
    fits, differs, one_fits = rest + NUMBER_SHARE / several, rest, rest + NUMBER_SHARE / one
    rows = [[fits, differs, 1.0, 1.0], *[[differs, one_fits, 1.0, 1.0]] * 2, [1.0, 1.0, 1.0, 1.0]]
    np.testing.assert_allclose(found[:4], np.log(rows))
    # All captions with cats name several: (1 + 1) / (1 + 0 + 2).
    np.testing.assert_allclose(found[4], np.log([rest, 1, rest + NUMBER_SHARE * 3 / 2, 1]))


def test_two_concepts_add_up():
    images = [["dog", "dog", "cat"], ["dog", "cat", "cat"]]
    both = number_similarity([{"dog": True, "cat": False}], images)
    apart = number_similarity([{"dog": True}], images) + number_similarity([{"cat": False}], images)
    np.testing.assert_allclose(both, apart)


def test_no_caption_or_no_image_is_an_empty_matrix():
    assert number_similarity([], [["dog"]]).shape == (0, 1)
    assert number_similarity([{"dog": True}], []).shape == (1, 0)
