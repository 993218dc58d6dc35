"""Records that belong together and do not match, under manifests that were written anew to match every byte."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.jobs.small_corpus import run
from tests.pipeline.verification.rewriting import reseal, rewrite_manifest, rewrite_rows

from vlmixer.artifacts import manifest
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, read_shard, write_shard
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.verification.integrity import Depth
from vlmixer.pipeline.verification.ties import Digests
from vlmixer.pipeline.verification.verify import verify

MIXED, IMAGES = "shards/mixed-000000.tar", "shards/images-000000.tar"
NO_SENTENCE = "tagged/ has no such sentence with this text and these mentions"
OTHER_PATCH = "has another feature, concept, score, box or size in bank/"
NO_IMAGE = "regions/ has no such image with these regions"


def what_verify_finds(out: Path) -> list[tuple[str, str]]:
    """The problems, as (file relative to the folder, what), after making sure that no byte gives the change away."""
    reseal(out)
    assert verify(str(out), Depth(records=False)).problems == []
    return [(each.file.removeprefix(f"{out}/"), each.what) for each in verify(str(out)).problems]


def rewrite_first(path: Path, change: Callable[[Sample], Sample]) -> None:
    """Change the first sample of a shard."""
    first, *others = read_shard(str(path))
    with path.open("wb") as file:
        write_shard(file, [change(first), *others])


def mixed(**changes: object) -> Callable[[Sample], Sample]:
    def change(sample: Sample) -> Sample:
        assert isinstance(sample, MixedSample)
        return replace(sample, **changes)  # type: ignore[arg-type]

    return change


def other_lemma(sample: Sample) -> Sample:
    assert isinstance(sample, MixedSample)
    return replace(sample, mentions=(replace(sample.mentions[0], lemma="wolf"), *sample.mentions[1:]))


def longer_text(sample: Sample) -> Sample:
    assert isinstance(sample, MixedSample)
    return replace(sample, text=f"{sample.text}!")


def one_bit(sample: Sample) -> Sample:
    features = sample.features.copy()
    features.view(np.uint16)[0, 0] ^= 1
    return replace(sample, features=features)


def first_patch(**changes: object) -> Callable[[Sample], Sample]:
    def change(sample: Sample) -> Sample:
        first = replace(sample.patches[0], **changes)  # type: ignore[arg-type]
        return replace(sample, patches=(first, *sample.patches[1:]))

    return change


def fewer_regions(sample: Sample) -> Sample:
    assert isinstance(sample, ImageSample)
    return replace(
        sample, patches=sample.patches[:1], features=sample.features[:1], tags=(sample.patches[0].concept,)
    )  # fmt: skip


def other_source(sample: Sample) -> Sample:
    assert isinstance(sample, ImageSample)
    return replace(sample, source="elsewhere.jpg")


def test_samples_that_are_not_what_they_were_made_from(out):
    """One change per shard, so that one verification finds them all."""
    shards = sorted((out / "shards").glob("mixed-*.tar"))
    changes: list[tuple[Callable[[Sample], Sample], str]] = [
        (longer_text, NO_SENTENCE),
        (mixed(sentence_id="983c4fa64c0a-000000999999"), NO_SENTENCE),
        (other_lemma, NO_SENTENCE),
        (one_bit, OTHER_PATCH),
        (first_patch(score=0.5), OTHER_PATCH),
        (first_patch(image_id="0123456789abcdef"), OTHER_PATCH),
        (first_patch(patch_id="0123456789abcdef-000"), "is not in bank/"),
    ]
    assert len(shards) >= len(changes)
    for shard, (change, _) in zip(shards, changes, strict=False):
        rewrite_first(shard, change)
    images = sorted((out / "shards").glob("images-*.tar"))
    of_images = [one_bit, fewer_regions, other_source]
    for shard, one in zip(images, of_images, strict=True):
        rewrite_first(shard, one)
    found = what_verify_finds(out)
    for shard, (_, what) in zip(shards, changes, strict=False):
        said = [each for file, each in found if file == f"shards/{shard.name}" and each.endswith(what)]
        assert len(said) == 1, (shard, what, found)
    for shard in images:
        said = [each for file, each in found if file == f"shards/{shard.name}" and each.endswith(NO_IMAGE)]
        assert len(said) == 1, (shard, found)


def test_a_bank_whose_features_are_not_those_of_the_regions(out):
    features = np.load(out / "bank" / "features.npy")
    features[3, 0] += 1
    np.save(out / "bank" / "features.npy", features)
    found = what_verify_finds(out)
    assert ("regions", "1 patches of bank/ are not here with the same feature, score, box and crop") in found


def test_regions_that_were_changed(out):
    rewrite_rows(out / "regions" / "part-00000.parquet", lambda rows: rows[0].update(score=0.25))
    assert any(what.endswith(NO_IMAGE) for _, what in what_verify_finds(out))


def test_images_of_a_part_are_not_as_many_as_the_manifest_says(out):
    details = manifest.read(str(out / "regions"), DETECT).details
    first, *others = details.images_by_part
    rewrite_manifest(out / "regions", details=replace(details, images_by_part=(first + 1, *others)))
    reseal(out)
    found = [problem.what for problem in verify(str(out)).problems]
    assert found == [f"{first} images in its row groups, the manifest has {first + 1}"]


@pytest.mark.parametrize("folder", ["tagged", "regions", "bank", "shards"])
def test_counts_that_were_emptied(out, folder):
    rewrite_manifest(out / folder, counts={})
    reseal(out)
    assert verify(str(out)).problems != []


def test_counts_that_are_not_those_of_the_stage_before(out):
    counts = manifest.read(str(out / "shards")).counts
    views = counts["views"]
    more = Counts(views.read + 5, views.written, {**views.rejected, "no_patch": views.rejected.get("no_patch", 0) + 5})
    rewrite_manifest(out / "shards", counts=counts | {"views": more})
    reseal(out)
    what = f"{views.read + 5} views read, but there are {views.read} in what it was made from"
    assert [problem.what for problem in verify(str(out), Depth(records=False)).problems] == [what]


@pytest.mark.parametrize("mix", [{"phrases": "head"}, {"crops": True, "image_samples": False}])
def test_other_settings_of_mixing_are_sound(small_run, out, mix):
    assert run(small_run.write_config("other.yaml", mix=mix), out, "--overwrite", command="mix") == 0
    assert verify(str(out)).problems == []


def test_digests_know_what_was_added():
    known, none = Digests(), Digests()
    for digest in (5, 2**64 - 1, 3):
        known.add(digest)
    assert known.lacks([3, 4, 5, 2**64 - 1, 0]).tolist() == [False, True, False, False, True]
    assert none.lacks([3]).tolist() == [True]
    assert (known.count_not_in(none), none.count_not_in(known)) == (3, 0)
