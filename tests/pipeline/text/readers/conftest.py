"""Files written and read in one go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.text.readers.helpers import Result, write


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Result]:
    """Write `content` under a name and read it as a whole."""

    def read(name: str, content: bytes, **options: Any) -> Result:
        return Result([write(tmp_path / name, content)], **options)

    return read
