"""Pictures as queries of `bank serve`: what an upload may be, and the feature that the bank's own detector gives it.

A picture is decoded as the photos of a run are. It stays in memory while it is searched for, and nowhere else.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlmixer.artifacts.errors import UserError
from vlmixer.bank.query import Embed
from vlmixer.pipeline.image.decoding import MAX_SIDE, ImageRejected, decode

TYPES = ("image/", "application/octet-stream")
"""How the type of an upload must begin. Pages of other sites cannot send these types without asking first."""


class Refused(Exception):
    """A request that is refused, with the HTTP status and the reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class PictureLimits:
    """For pictures that are sent as queries.

    file_bytes: of one. held_bytes: of all that are in memory at a time. pixels: of one.
    """

    file_bytes: int = 20 << 20
    held_bytes: int = 80 << 20
    pixels: float = 5e7


class Pictures:
    """Receives pictures and makes features of them. One at a time is to be decoded: `feature` is not for threads."""

    def __init__(self, load: Callable[[], Embed], limits: PictureLimits = PictureLimits()) -> None:
        """load: makes the function that turns a picture into a feature; called for the first picture."""
        self.limits = limits
        self._load = load
        self._embed: Embed | None = None
        self._held = 0

    @asynccontextmanager
    async def received(self, kind: str, length: str, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The picture that a request sends, which counts as held in the block.

        kind, length: the request's Content-Type and Content-Length, "" if it has none. Raises Refused.
        """
        if not kind.strip().lower().startswith(TYPES):
            raise Refused(415, "expected a picture, with its type (such as image/jpeg) as Content-Type")
        too_long = Refused(413, f"the picture has more than {self.limits.file_bytes:,} bytes. Send a smaller copy.")
        if length.isdecimal() and int(length[:20]) > self.limits.file_bytes:
            raise too_long
        data = bytearray()
        try:
            async for chunk in chunks:
                data += chunk
                self._held += len(chunk)
                if len(data) > self.limits.file_bytes:
                    raise too_long
                if self._held > self.limits.held_bytes:
                    raise Refused(503, "too many pictures are searched for at this time. Try again in a few seconds.")
            yield bytes(data)
        finally:
            self._held -= len(data)

    def feature(self, data: bytes, concept: str | None) -> np.ndarray:
        """(D,): what the bank's detector sees in the picture, of `concept` if it sees that. Raises Refused."""
        try:
            picture = Image.fromarray(decode(data, max_pixels=self.limits.pixels))
        except ImageRejected as rejected:
            if rejected.reason == "too_many_pixels":
                most = f"{self.limits.pixels / 1e6:g} million"
                raise Refused(
                    413,
                    f"the picture has {rejected.detail} pixels; expected at most {most}, and {MAX_SIDE:,} on a side. "
                    "Send a smaller copy.",
                ) from None
            raise Refused(415, f"not usable as an image: {rejected}") from None
        if self._embed is None:
            try:
                self._embed = self._load()
            except (UserError, ImportError, OSError) as error:
                raise Refused(503, f"the bank's detector cannot be loaded: {error}") from error
        try:
            return self._embed(picture, concept)
        except UserError as error:
            raise Refused(422, str(error)) from None
