"""What stands around the app: who may ask, how much and for how long; every error becomes one line."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan_experiments.service.counters import Counters
from gan_experiments.service.settings import Settings

log = logging.getLogger(__name__)

CHECKPOINT = "X-Checkpoint-SHA256"
"""The header of an answer with the hash of the checkpoint that computed it, or of all that are served."""
JSON_BYTES = 65_536
"""The greatest size of the body of a request that uploads nothing."""
BODIES = 8
"""How many uploads of the greatest size are held at the same time, by their bytes."""
OPEN = ("/health", "/", "/page.css", "/page.js", "/docs", "/openapi.json")
"""What is answered without the token, as it tells nothing about the models."""
HERE = ("127.0.0.1", "localhost", "::1")
"""The names of this machine that a browser here uses. A page elsewhere cannot give itself one of them."""
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class Refused(Exception):
    """A request that is not answered as it wishes: the status and one line."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, dict(headers or {})


class _Gone(Exception):
    """The client has closed its connection."""


def fault(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of one line, `{"error": ...}`; characters that no encoding has are escaped."""
    text = " ".join(line.split())
    return Response(json.dumps({"error": text[:500]}) + "\n", status, headers, "application/json")


def busy(seconds: int, line: str) -> Refused:
    """Return the refusal of a request that may be asked again after some seconds."""
    return Refused(503, f"{line}; ask again in {seconds} s", {"Retry-After": str(seconds)})


class Guard:
    """Answers what cannot be let in, and passes on the rest with its whole body.

    Args:
        app: what is guarded.
        settings: the limits and the token.
        counters: count every request.
        endpoints: the paths that are counted by their names.
        checkpoint: of all models, for answers that are of none.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, counters: Counters, endpoints: Collection[str], checkpoint: str
    ) -> None:
        self.app, self.settings, self.counters = app, settings, counters
        self.endpoints, self.checkpoint = frozenset(endpoints), checkpoint
        self.held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        answer: Response | None = None

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {CHECKPOINT: self.checkpoint, **SAFE}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._answered(scope, receive, sent)
        except Refused as error:
            answer = fault(error.status, error.line, error.headers)
        except _Gone:
            pass
        except Exception:
            log.exception("%s %s", scope["method"], ascii(scope["path"]))
            answer = fault(500, "this is a mistake of the service, which its log explains")
        if answer is not None and status == 0:
            await answer(scope, receive, sent)
        path = scope["path"] if scope["path"] in self.endpoints else "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self.counters.observe(method, path, status, time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._admit(headers, scope["path"])
        body = bytearray()
        try:
            await self._read(headers, receive, body)
            await self._within(scope, bytes(body), receive, send)
        finally:
            self.held -= len(body)

    def _admit(self, headers: Headers, path: str) -> None:
        """Raise Refused unless the request has the token; without a token, if a page from elsewhere sent it."""
        if self.settings.token is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self.settings.token.encode())
            if not (right and kind.lower() == "bearer") and path not in OPEN:
                raise Refused(401, "the header Authorization: Bearer <token> is needed", {"WWW-Authenticate": "Bearer"})
            return
        host = headers.get("host", "")
        name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        origin = headers.get("origin")
        if name.lower() not in HERE or (origin is not None and origin.partition("://")[2] != host):
            raise Refused(403, "without a token only pages and programs of this machine are answered")

    async def _read(self, headers: Headers, receive: Receive, body: bytearray) -> None:
        """Read a request's body. Raises Refused if it is too long or comes too slowly."""
        upload = headers.get("content-type", "").lower().startswith("multipart/")
        most = self.settings.max_bytes if upload else JSON_BYTES
        too_long = Refused(413, f"a body of more than {most:,} bytes is not taken")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > most:
            raise too_long
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    if len(body) + len(part) > most:
                        raise too_long
                    if self.held + len(part) > BODIES * self.settings.max_bytes:
                        raise busy(1, "too many uploads at the same time")
                    self.held += len(part)
                    body += part
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {self.settings.body_seconds:g} s") from None

    async def _within(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the app answer, for a limited time and as long as the client waits. Raises Refused and _Gone."""
        unread = [body]

        async def replayed() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await receive()

        work: asyncio.Future[Any] = asyncio.ensure_future(self.app(scope, replayed, send))
        gone = asyncio.ensure_future(_left(receive))
        try:
            done, _ = await asyncio.wait(
                {work, gone}, timeout=self.settings.request_seconds, return_when="FIRST_COMPLETED"
            )
            if work in done:
                work.result()
            elif gone in done:
                raise _Gone
            else:
                raise busy(1, f"this took longer than {self.settings.request_seconds:g} s")
        finally:
            for task in (work, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
