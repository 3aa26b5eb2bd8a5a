"""The limits of the service, and who may reach it."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from gan_experiments.contracts import ConfigError

TOKEN = "GAN_EXPERIMENTS_TOKEN"
"""The environment variable with the secret that requests have to bring, as `Authorization: Bearer ...`."""
SHORTEST = 16  # characters of a token


@dataclass(frozen=True)
class Settings:
    """What the service takes of one request and of all together.

    Args:
        batch_size: images that are drawn together at most.
        wait: milliseconds that a batch waits for more requests.
        queue: images of one model that may wait to be drawn, or uploads to be translated; more are refused.
        max_n: images of one request.
        max_pixels: pixels of an uploaded image.
        max_bytes: bytes of an upload.
        body_seconds: seconds in which the headers of a request have to arrive, and again its body.
        request_seconds: seconds in which a request is answered, once it has arrived.
        connections: connections that are open at the same time.
        threads: threads of torch.
        token: what requests have to bring; None for nothing, where only this machine can reach the service.
    """

    batch_size: int = 16
    wait: float = 5.0
    queue: int = 256
    max_n: int = 64
    max_pixels: int = 4_000_000
    max_bytes: int = 20_000_000
    body_seconds: float = 10.0
    request_seconds: float = 60.0
    connections: int = 256
    threads: int = 1
    token: str | None = None


def token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the token from the environment; None without one. Raises ConfigError for one that is easily guessed."""
    given = environment.get(TOKEN, "").strip()
    if given and (len(given) < SHORTEST or not given.isascii() or not given.isprintable()):
        raise ConfigError(
            f"{TOKEN}: {SHORTEST} or more letters and digits are needed; type {TOKEN}=$(openssl rand -hex 16)"
        )
    return given or None


def listener(host: str, port: int, secret: str | None) -> socket.socket:
    """Return a socket bound to an address; connections are refused until it listens.

    Raises ConfigError if the address cannot be bound, or reaches beyond this machine without a token.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"host={host}: no address of that name is known; type host=127.0.0.1") from None
    if secret is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ConfigError(
            f"host={host}: other machines would reach the service; type {TOKEN}=$(openssl rand -hex 16) before the"
            " command and give it to who may, or host=127.0.0.1"
        )
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # by which asyncio knows not to delay answers
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        why = error.strerror or error
        raise ConfigError(f"port={port}: {host} cannot be bound ({why}); type another port, or port=0") from None
    return bound
