"""The server around the app: connections that end in time, and an orderly end when a signal asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gan_experiments import signals
from gan_experiments.contracts import ConfigError
from gan_experiments.service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

HEADER_BYTES = 32_768
SENDING = 30.0
"""Seconds in which an answer has to be taken."""


def serve(app: FastAPI, settings: Settings, bound: socket.socket, ready: Callable[[], object] = lambda: None) -> int:
    """Answer requests at a bound socket until a signal comes; return its number, or 0 if the server was stopped else.

    Requests that have arrived are answered first, unless a second signal comes. `ready` is called once the service can
    be reached. Raises ConfigError if the socket cannot listen.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what clients do wrong is counted, not told
    warnings.filterwarnings("ignore", module="PIL")  # about odd files
    server = Server(app, settings, ready)
    try:
        server.run([bound])
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise ConfigError(f"port={port}: {host} cannot be listened at ({error.strerror}); type another port") from None
    finally:
        bound.close()
    return server.number


class Server(uvicorn.Server):
    """Uvicorn's server, with the house's signals and time limits."""

    def __init__(self, app: FastAPI, settings: Settings, ready: Callable[[], object]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(settings),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=min(settings.connections, 128),
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_keep_alive=round(settings.body_seconds),
                timeout_graceful_shutdown=round(settings.request_seconds + SENDING),
            )
        )
        self.ready, self.number = ready, 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell."""
        await super().startup(sockets)
        self.ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order at the first signal, at once at the second."""
        before = signals.handle(self._asked)
        try:
            yield
        finally:
            signals.give_back(before)

    def _asked(self, number: int) -> None:
        if self.number:
            self.force_exit = True
        self.number, self.should_exit = self.number or number, True


def _protocol(settings: Settings) -> type[H11Protocol]:
    """Return the class of connections under these limits."""

    class Connection(H11Protocol):
        """One connection: it is cut off if headers do not come in time, or an answer is not taken in time."""

        timer: asyncio.TimerHandle | None = None
        state: Any = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) >= settings.connections:
                transport.abort()
                return
            super().connection_made(transport)
            self._watch(first=True)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.timer:
                self.timer.cancel()
            if self.transport is not None:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport is not None:
                super().data_received(data)
                self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def _watch(self, first: bool = False) -> None:
            """Set the time again if a request has begun, or the next one is awaited."""
            idle = self.conn.their_state is h11.IDLE
            state = None if idle else self.cycle
            if state is self.state and not first:
                return
            self.state = state
            if self.timer:
                self.timer.cancel()
            seconds = settings.body_seconds if idle else settings.body_seconds + settings.request_seconds + SENDING
            self.timer = self.loop.call_later(seconds, self.transport.abort)

    return Connection
