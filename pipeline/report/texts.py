"""Texts as queries of `bank serve`: the feature that the bank's own encoder gives a text."""

import threading
from collections.abc import Callable

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.report.pictures import Refused

MAX_CHARACTERS = 1000

ReadText = Callable[[str], np.ndarray]


class Texts:
    """Makes features of texts, one at a time: tokenizers are not for threads. load: makes the function that does it;
    called for the first text."""

    def __init__(self, load: Callable[[], ReadText]) -> None:
        self._load = load
        self._read: ReadText | None = None
        self._turn = threading.Lock()

    def feature(self, text: str) -> np.ndarray:
        """(D,): what the bank is compared with. Raises Refused."""
        if not text.strip() or len(text) > MAX_CHARACTERS:
            raise Refused(400, f"text: expected 1 to {MAX_CHARACTERS} characters, found {len(text)}")
        with self._turn:
            if self._read is None:
                try:
                    self._read = self._load()
                except (UserError, ImportError, OSError) as error:
                    raise Refused(503, f"the bank's encoder cannot be loaded: {error}") from error
            return self._read(text)
