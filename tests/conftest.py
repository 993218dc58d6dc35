"""What tests of several packages share."""

import os
from pathlib import Path

# Before torch is imported: two threads that wait for each other by spinning take many times as long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """The folder with real photos, captions and models that lies beside the checkout on some machines."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data here")
    return SHARED
