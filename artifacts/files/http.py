"""Fetching single files from web servers that may be slow, busy, gone or unwilling, and the time limits for it."""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.extras import install_command

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientTimeout

CONNECT_SECONDS, READ_SECONDS, REQUEST_SECONDS = 30, 60, 300
"""Limits for connecting, for waiting for the next bytes, and for a whole request, where no other limit is given."""
USER_AGENT = "vlmixer"
DISALLOWED = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""Words of the header X-Robots-Tag with which a page asks that its content is not collected; `none` is noindex and
nofollow."""
MAX_WAIT_SECONDS = 10.0
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class FetchPolicy:
    """How files are fetched from web servers.

    timeout: seconds for one file, from connecting to its last byte. retries: further attempts if the server is busy
    (429), fails (5xx) or hangs up; one that does not answer in time is not asked again. backoff: seconds before the
    first of them, doubled each time; Retry-After overrides it, up to MAX_WAIT_SECONDS. respect_robots: refuse what
    X-Robots-Tag disallows.
    """

    timeout: float = 10.0
    retries: int = 2
    backoff: float = 0.5
    respect_robots: bool = True


PATIENT = FetchPolicy()
"""The defaults."""


@dataclass(frozen=True)
class NotFetched:
    """Why there are no bytes. reason: one of artifacts.rejects, such as `http_503`."""

    reason: str
    detail: str = ""


def is_web(path: str) -> bool:
    """Whether the path is a URL of a web server."""
    return path.startswith(("http://", "https://"))


def time_limits(total: float = REQUEST_SECONDS) -> "ClientTimeout":
    """aiohttp's limits for one request that takes at most `total` seconds."""
    from aiohttp import ClientTimeout

    return ClientTimeout(total=total, sock_connect=min(CONNECT_SECONDS, total), sock_read=min(READ_SECONDS, total))


def fetch(url: str, most: int, policy: FetchPolicy = PATIENT) -> bytes | NotFetched:
    """The first `most` bytes of a file, or all; or why there are none.

    Blocks for at most `policy.timeout` per attempt. May be called from several threads. Raises CallError if aiohttp is
    not installed.
    """
    try:
        import aiohttp
    except ImportError:
        raise CallError(f"{url}: https:// needs aiohttp. Run `{install_command('http')}`.") from None
    wait = policy.backoff
    for attempt in range(policy.retries + 1):
        delay = wait
        try:
            found = asyncio.run(_attempt(url, most, policy))
        except TimeoutError:
            return NotFetched("timeout", f"no whole answer within {policy.timeout:g} s")
        except (aiohttp.InvalidURL, aiohttp.TooManyRedirects, ValueError) as error:
            return NotFetched("no_connection", f"{type(error).__name__}: {error}"[:200])
        except (aiohttp.ClientError, OSError) as error:
            found = NotFetched("no_connection", f"{type(error).__name__}: {error}"[:200]), None
        if isinstance(found, bytes):
            return found
        refusal, retry_after = found
        if retry_after is not None:
            delay = min(retry_after, MAX_WAIT_SECONDS)
        busy = refusal.reason == "http_429" or refusal.reason.startswith(("http_5", "no_connection"))
        if not busy or attempt == policy.retries:
            return refusal
        time.sleep(delay)
        wait *= 2
    raise AssertionError("unreachable")


async def _attempt(url: str, most: int, policy: FetchPolicy) -> bytes | tuple[NotFetched, float | None]:
    """The bytes; or the refusal, and the seconds after which the server wants to be asked again."""
    from aiohttp import ClientSession

    agent = {"User-Agent": _user_agent(), "Accept-Encoding": "identity"}
    # The proxies of the environment, as for all other requests.
    async with (
        ClientSession(timeout=time_limits(policy.timeout), trust_env=True, headers=agent) as session,
        session.get(url, max_redirects=10) as response,
    ):
        if response.status >= 400:
            detail = " ".join(filter(None, (str(response.status), response.reason)))
            return NotFetched(f"http_{response.status}", detail), _retry_after(response)
        if policy.respect_robots and (word := _disallows(response)):
            return NotFetched("not_allowed", f"X-Robots-Tag: {word}"), None
        parts: list[bytes] = []
        left = most
        async for block in response.content.iter_chunked(BLOCK_BYTES):
            parts.append(block[:left])
            left -= len(parts[-1])
            if not left:
                break
        return b"".join(parts)


def _disallows(response: "ClientResponse") -> str:
    """The word of X-Robots-Tag that forbids collecting, to everybody or to us; "" if none does."""
    for value in response.headers.getall("X-Robots-Tag", []):
        agent, colon, words = value.rpartition(":")
        if colon and agent.strip().lower() not in ("*", USER_AGENT):
            continue
        for word in words.split(","):
            if word.strip().lower() in DISALLOWED:
                return word.strip()
    return ""


def _retry_after(response: "ClientResponse") -> float | None:
    value: Any = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def _user_agent() -> str:
    import vlmixer

    return f"{USER_AGENT}/{vlmixer.__version__}"
