"""The small corpus, and a finished run over it, for the tests of several packages."""

import pytest
from tests.pipeline.jobs.small_corpus import Corpus, make_corpus, run


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """150 photos, 300 sentences, a config that mixes them into several shards."""
    return make_corpus(tmp_path)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Corpus:
    """The small corpus with a whole run over it in its folder `out`. Read it; copy it before changing anything."""
    corpus = make_corpus(tmp_path_factory.mktemp("small-run"))
    assert run(corpus.write_config(), corpus.folder / "out") == 0
    return corpus
