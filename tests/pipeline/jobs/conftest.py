"""The small corpus as a fixture."""

import pytest
from tests.pipeline.jobs.small_corpus import Corpus, make_corpus


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """150 photos, 300 sentences, a config that mixes them into several shards."""
    return make_corpus(tmp_path)
