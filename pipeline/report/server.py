"""`vlmixer bank serve`: the bank's page with live queries, and a JSON API, over one bank that is opened once.

Requests name concepts and patch ids, which are looked up in the bank, or send a picture, which is kept in memory only.
No path from a request is ever opened. The only files read are the bank's own and the images of its patches.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np

from vlmixer.artifacts import memory
from vlmixer.artifacts.errors import CallError, UserError, explain
from vlmixer.artifacts.extras import install_command
from vlmixer.bank.records import PatchRecord
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.report.bank import Card, live_bank_page, make_card, small_image
from vlmixer.pipeline.report.pictures import Pictures, Refused
from vlmixer.pipeline.report.texts import Texts

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    from vlmixer.pipeline.report.connections import Limits, OneLength, Server, files_left, limited, listen
except ModuleNotFoundError as error:
    raise UserError(f"`bank serve` needs starlette and uvicorn. Run `{install_command('serve')}`.") from error

LOG = logging.getLogger(__name__)

LIMITS = Limits()
MAX_BODY = 1 << 20
"""Maximum bytes of a request's body. A feature of 4,096 numbers takes some 80 kB."""
MAX_CONTEXT = 32
MAX_DIGITS = 18
"""Of a whole number in a request. Python makes no number of more than 4,300 digits, and NumPy none of more than 19."""
REFUSABLE = (Refused, UserError, OSError, MemoryError, RuntimeError)
"""Errors that may be no mistake in this program."""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}


def make_app(
    bank: PatchBank,
    *,
    max_k: int,
    pictures: Pictures | None = None,
    texts: Texts | None = None,
    hosts: Sequence[str] = LOOPBACK,
    max_body: int = MAX_BODY,
) -> Starlette:
    """The server's application.

    GET / is the page. GET /api/bank describes the bank. GET /api/concepts/ID?k= gives a concept's first patches, POST
    /api/search {"concept", "like": patch id or feature, "text", "context": [names], "k"} the best ones. POST
    /api/search/picture?concept=&context=&k= compares with the picture that is its body. GET /crops/ID is a patch's
    JPEG, GET /images/ID its image, upright and scaled down. pictures: None if the bank's detector is not known. texts:
    None if its features cannot be compared with texts. hosts: host names that requests may use. max_body: maximum bytes
    of a request's JSON.
    """
    page = live_bank_page(bank, max_k, pictures.limits.file_bytes if pictures else 0, texts=texts is not None)

    def described(request: Request, body: Any) -> Response:
        details = bank.manifest.details
        return JSONResponse(
            {
                "patches": len(bank),
                "feature_dim": bank.feature_dim,
                "detector": details.detector.name,
                "vocabulary": details.vocabulary,
                "concepts": [
                    {"id": c.id, "words": (c.name, *c.synonyms), "patches": bank.counts[c.name]} for c in bank.concepts
                ],
                "max_k": max_k,
                "pictures": pictures is not None,
                "texts": texts is not None,
            }
        )

    def of_concept(request: Request, body: Any) -> Response:
        asked = request.path_params["number"]
        number = int(asked) if asked.isdecimal() and len(asked) < MAX_DIGITS else len(bank.concepts)
        if number >= len(bank.concepts):
            raise Refused(404, f"no concept with the id {asked[:MAX_DIGITS]!r}; there are {len(bank.concepts)}")
        k = _count(request.query_params.get("k", min(16, max_k)), max_k)
        return _patches([(record, None) for record in bank.patches(bank.concepts[number].name)[:k]])

    def search(request: Request, body: Any) -> Response:
        if not isinstance(body, dict) or set(body) - {"concept", "like", "text", "context", "k"}:
            raise Refused(
                400, 'expected a JSON object with "concept", "like", "text", "context" and "k", all of them optional'
            )
        concept, like, context = body.get("concept"), body.get("like"), body.get("context", [])
        if not (concept is None or isinstance(concept, str)):
            raise Refused(400, "concept: expected a name")
        if not isinstance(context, list) or not all(isinstance(word, str) for word in context):
            raise Refused(400, "context: expected a list of names")
        _check_context(context)
        if isinstance(like, list):
            if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in like):
                raise Refused(400, "like: expected a patch id or a list of numbers")
            like = np.array(like, np.float32)
        elif not (like is None or isinstance(like, str)):
            raise Refused(400, "like: expected a patch id or a list of numbers")
        if body.get("text") is not None:
            like = of_text(body["text"], like)
        hits = bank.search(concept, like=like, context=context, k=_count(body.get("k", min(16, max_k)), max_k))
        return _patches([(hit.patch, None if like is None else hit.similarity) for hit in hits])

    def of_text(text: Any, like: Any) -> np.ndarray:
        if not isinstance(text, str) or like is not None:
            raise Refused(400, "text: expected a text, and no like")
        if texts is None:
            raise Refused(
                501, "this server does not search for texts: the bank's features are not those of CLIP or SigLIP"
            )
        return texts.feature(text)

    def search_picture(request: Request, data: bytes) -> Response:
        assert pictures is not None
        asked = request.query_params
        concept = asked.get("concept", "").strip() or None
        context = [word.strip() for word in asked.get("context", "").split(",") if word.strip()]
        k = _count(asked.get("k", min(16, max_k)), max_k)
        # What is wrong with the question is said before the picture is looked at.
        if set(asked) - {"concept", "context", "k"}:
            raise Refused(400, "expected concept, context and k in the address, all of them optional")
        _check_context(context)
        named = None if concept is None else bank.concept_named(concept).name
        for word in context:
            bank.concept_named(word)
        hits = bank.search(named, like=pictures.feature(data, named), context=context, k=k)
        return _patches([(hit.patch, hit.similarity) for hit in hits])

    def crop(request: Request, body: Any) -> Response:
        return Response(_patch(bank, request).crop, media_type="image/jpeg")

    def image(request: Request, body: Any) -> Response:
        data = small_image(bank, _patch(bank, request))
        if data is None:
            raise Refused(404, "the patch's image cannot be read")
        return Response(data, media_type="image/webp")

    routes = [
        Route("/", lambda request: HTMLResponse(page, headers=HEADERS)),
        Route("/api/bank", _answering(described, max_body)),
        Route("/api/concepts/{number}", _answering(of_concept, max_body)),
        Route("/api/search", _answering(search, max_body), methods=["POST"]),
        Route("/api/search/picture", _answering_pictures(search_picture, pictures), methods=["POST"]),
        Route("/crops/{patch_id}", _answering(crop, max_body)),
        Route("/images/{patch_id}", _answering(image, max_body)),
    ]
    errors = {404: _nowhere, 405: _other_method, 500: _failed}
    two = _refusal("expected Content-Length or Transfer-Encoding, not both", 400, {"Connection": "close"})
    # Refuses pages of other sites whose host name points to this machine (DNS rebinding).
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)), Middleware(OneLength, refusal=two)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=errors)


def _nowhere(request: Request, error: Exception) -> Response:
    known = "/api/bank, /api/concepts/ID, /api/search, /api/search/picture, /crops/ID, /images/ID"
    return _refusal(f"{request.url.path[:200]}: no such address. There are /, {known}.", 404)


def _other_method(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    expected = ", ".join(sorted(allowed.get("Allow", "another method").split(", ")))
    return _refusal(f"{request.method}: expected {expected} here.", 405, allowed)


def _failed(request: Request, error: Exception) -> Response:
    return _refusal("the server failed at this request. Its log has the traceback.", 500)


def _refusal(why: str, status: int, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    return JSONResponse({"error": why}, status, {**HEADERS, **headers})


def _answering(answer: Callable[[Request, Any], Response], max_body: int) -> Callable[[Request], Any]:
    """An endpoint that reads the body, up to `max_body` bytes, and answers in a thread."""

    async def respond(request: Request) -> Response:
        body = await _body(request, max_body) if request.method == "POST" else None
        return await run_in_threadpool(_answered, answer, request, body)

    return _refusing(respond)


def _answering_pictures(
    answer: Callable[[Request, bytes], Response], pictures: Pictures | None
) -> Callable[[Request], Any]:
    """An endpoint that reads a picture and answers in a thread, one picture after the other."""
    turn = asyncio.Lock()

    async def respond(request: Request) -> Response:
        if pictures is None:
            raise Refused(501, "this server does not search for pictures: the bank's detector is not known to it")
        headers = request.headers
        sent = pictures.received(
            headers.get("content-type", ""), headers.get("content-length", ""), request.stream()
        )  # fmt: skip
        async with sent as data, turn:
            if await request.is_disconnected():  # while it waited
                raise ClientDisconnect
            try:
                return await run_in_threadpool(_answered, answer, request, data)
            finally:
                memory.give_back()  # a picture and what the detector makes of it take hundreds of megabytes

    return _refusing(respond)


def _refusing(respond: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Any]:
    """The endpoint, whose refusals are JSON {"error"}."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await respond(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except REFUSABLE as error:
            response = _refused(error)
        response.headers.update(HEADERS)
        return response

    return endpoint


def _answered(answer: Callable[[Request, Any], Response], request: Request, body: Any) -> Response:
    """The answer or the refusal. An error that left the thread would keep all that was computed until Python looks for
    cycles."""
    try:
        return answer(request, body)
    except REFUSABLE as error:
        return _refused(error)


def _refused(error: Exception) -> Response:
    """The answer to a request that cannot be fulfilled. Raises what is a mistake in this program."""
    if not isinstance(error, Refused | UserError):
        explained = explain(error)
        if explained is None:
            raise error
        error = Refused(503, str(explained))
    status = error.status if isinstance(error, Refused) else 404 if "no patch" in str(error) else 400
    if status == 503 or not isinstance(error, Refused | CallError):
        LOG.error("%s", error)
    return JSONResponse({"error": str(error)}, status)


async def _body(request: Request, max_body: int) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "expected a body of the type application/json")
    data = bytearray()
    too_long = Refused(413, f"the body is longer than {max_body:,} bytes")
    if int(request.headers.get("content-length", "0")) > max_body:  # uvicorn accepts nothing but up to 20 digits
        raise too_long
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_body:
            raise too_long
    try:
        body = json.loads(data, parse_int=lambda digits: int(digits) if len(digits) < MAX_DIGITS else float(digits))
        json.dumps(body, ensure_ascii=False).encode()  # fails at half a character, which no answer and no log can hold
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON") from None
    return body


def _check_context(context: Sequence[str]) -> None:
    if len(context) > MAX_CONTEXT:
        raise Refused(400, f"context: expected at most {MAX_CONTEXT} names, found {len(context)}")


def _count(value: Any, most: int) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = 0
    if not 1 <= count <= most:
        raise Refused(400, f"k: expected a number from 1 to {most}, found {value!r}"[:200])
    return count


def _patch(bank: PatchBank, request: Request) -> PatchRecord:
    return bank.patch(request.path_params["patch_id"])


def _patches(found: Sequence[tuple[PatchRecord, float | None]]) -> Response:
    cards: list[Card] = [
        make_card(record, f"crops/{record.patch_id}", f"images/{record.patch_id}", similarity)
        for record, similarity in found
    ]
    return JSONResponse(
        {
            "patches": [
                {**card, "similarity": similarity, **record.to_json()}
                for card, (record, similarity) in zip(cards, found, strict=True)
            ]
        }
    )


def serve(
    bank: PatchBank, host: str, port: int, *, max_k: int, pictures: Pictures | None = None, texts: Texts | None = None
) -> None:
    """Serve the bank until it is interrupted. Raises CallError if the address cannot be used."""
    server = make_server(bank, host, port, max_k=max_k, pictures=pictures, texts=texts)
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    server.address = f"{bank}: http://{shown}:{listening.getsockname()[1]}"
    if host not in LOOPBACK:
        LOG.info("listening beyond this machine: everyone who can reach it sees the bank and its images")
    with suppress(KeyboardInterrupt):  # this is how it ends
        server.run(sockets=[listening])


def make_server(
    bank: PatchBank,
    host: str,
    port: int,
    *,
    max_k: int,
    pictures: Pictures | None = None,
    texts: Texts | None = None,
    max_body: int = MAX_BODY,
    limits: Limits = LIMITS,
) -> Server:
    """The server, not started. Raises UserError if the process may open too few files."""
    limits = limits.fitting(files_left())
    hosts = LOOPBACK if host in LOOPBACK else ("*",)
    app = make_app(bank, max_k=max_k, pictures=pictures, texts=texts, hosts=hosts, max_body=max_body)
    # Requests beyond the number of threads (40, anyio's) wait; how many there are is limited by the connections.
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="asyncio",
            http=limited(limits),
            ws="none",
            proxy_headers=False,
            access_log=False,
            log_level="warning",
            timeout_keep_alive=5,
            backlog=limits.accepted,
        )
    )
