"""What tests of several packages share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """The folder with real photos, captions and models that lies beside the checkout on some machines."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data here")
    return SHARED
