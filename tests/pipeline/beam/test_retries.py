"""Engines repeat work that failed, also where the first attempt was done or still writes: nothing changes by it."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from tests.pipeline.beam.test_detection import WORDS, WholeImage, png
from tests.pipeline.beam.test_transforms import run
from tests.pipeline.engine_retries import retry_bundles
from tests.pipeline.jobs.small_corpus import contents

from vlmixer.pipeline.beam import (
    BuildPatchBank,
    DetectRegions,
    MakeImageSamples,
    MixSentences,
    TagSentences,
    WriteShards,
    bank,
    detection,
    mixing,
    shards,
    tagging,
)
from vlmixer.pipeline.verification.verify import verify

Work = Callable[..., Any]
STEPS = [
    (tagging._Tag, "process"), (detection._Decode, "process"), (detection.RegionModel, "run_inference"),
    (detection._CutCrops, "process"), (bank._KeepCandidates, "process"), (bank._Choose, "process"),
    (bank._WriteBank, "process"), (mixing._Mix, "process"), (shards, "_begin"), (shards._WriteTar, "process"),
    (shards, "_publish"),
]  # fmt: skip
"""Whatever does more than count, or compute a value."""


def lost(work: Work, *given: Any) -> list[Any]:
    """The first attempt does all, but the engine does not hear of it."""
    list(work(*given))
    return list(work(*given))


def given_up(work: Work, *given: Any) -> list[Any]:
    """The first attempt is given up, but goes on."""
    # Side inputs are read by the engine's own thread.
    read = [list(each) if isinstance(each, Iterable) and not isinstance(each, Collection) else each for each in given]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: list(work(*read))) for _ in range(2)]
    return both[1].result()


def build(out: Path) -> dict[str, int]:
    """A bank and shards. Returns the counters."""

    def write(pipeline: beam.Pipeline) -> None:
        photos = pipeline | "Photos" >> beam.Create([(f"{number}.png", png(number)) for number in range(8)])
        images = photos | DetectRegions(WholeImage, WORDS)
        bank = images | BuildPatchBank(str(out / "bank"), WORDS)
        texts = pipeline | "Texts" >> beam.Create([(f"s{number}", f"dog {number}") for number in range(12)])
        tagged = texts | TagSentences(WORDS, "rules") | beam.WaitOn(bank)
        samples = tagged | MixSentences(str(out / "bank")), images | MakeImageSamples()
        _ = samples | beam.Flatten() | WriteShards(str(out / "shards"), 5, vocabulary=WORDS)

    return run(write)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, int]]:
    """Files and counters."""
    out = tmp_path_factory.mktemp("once")
    counters = build(out)
    assert verify(str(out / "bank")).problems == verify(str(out / "shards")).problems == []
    return contents(out), counters


@pytest.fixture
def expected(undisturbed: tuple[dict[str, bytes], dict[str, int]]) -> dict[str, bytes]:
    return undisturbed[0]


@pytest.mark.parametrize("again", [lost, given_up])
def test_work_that_is_done_twice_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], again: Callable[..., list[Any]]
):
    repeated = set()

    def twice(work: Work, name: str) -> Work:
        @wraps(work)
        def attempts(*given: Any) -> Iterator[Any]:
            repeated.add(name)
            return iter(again(work, *given))

        return attempts

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, twice(getattr(owner, name), f"{owner}.{name}"))
    leave_temporary_files(tmp_path)
    build(tmp_path)
    assert len(repeated) == len(STEPS)
    assert contents(tmp_path) == expected


def test_steps_that_fail_once_are_counted_once(tmp_path, monkeypatch, undisturbed):
    failed = set()

    def fails_once(work: Work, name: str) -> Work:
        @wraps(work)
        def attempts(*given: Any) -> Iterator[Any]:
            results = list(work(*given))
            if name not in failed:
                failed.add(name)
                raise RuntimeError(f"{name}: the worker is gone")
            return iter(results)

        return attempts

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, fails_once(getattr(owner, name), f"{owner}.{name}"))
    errors = retry_bundles(monkeypatch)
    counters = build(tmp_path)
    assert len(errors) == len(failed) == len(STEPS)
    assert (contents(tmp_path), counters) == undisturbed


def leave_temporary_files(out: Path) -> None:
    """What attempts leave that were killed."""
    for name in ("bank/features.npy", "bank/.concepts/000000.arrow", "shards/mixed-000000.tar", "shards/.nv-meta/a"):
        path = out / f"{name}.tmp-0123abcd"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of it")
