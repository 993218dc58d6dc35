"""2,000 damaged images beside whole ones: nothing is lost, nothing stops, the whole ones keep their regions."""

from benchmarks.fuzz_images import compare, write_mutations
from tests.pipeline.jobs.small_corpus import Corpus

from vlmixer.artifacts.rejects import BAD

MEGAPIXELS = 4.0


def test_two_thousand_damaged_images(corpus: Corpus):
    photos = sorted(corpus.photos.iterdir())[:40]
    write_mutations(photos, corpus.folder / "mutations", 2000, seed=0)
    images = {"detector": "demo", "device": "cpu", "min_regions": 1}
    config = {"vocabulary": "coco", "images": images}
    found = compare(config, photos, corpus.folder / "mutations", corpus.folder, MEGAPIXELS)
    assert found.read == 2040
    assert found.read == found.written + sum(found.rejected.values())
    assert set(found.rejected) <= {*BAD, "no_region", "duplicate"}
    assert found.rejected["truncated_image"] > 100
    assert found.rejected["too_many_pixels"] > 50
    assert found.written > 100
    assert found.neighbours_kept
    assert found.peak_fuzzed <= found.peak_clean + found.allowed
