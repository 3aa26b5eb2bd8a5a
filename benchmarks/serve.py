"""How fast the service answers, how it bears ten minutes, and what 200 hostile requests do to it.

    python benchmarks/serve.py load                    # 1, 8 and 64 clients, beside calling the model directly
    python benchmarks/serve.py soak --minutes 10       # its memory, minute by minute
    python benchmarks/serve.py hostile                 # the same request before and after gets the same bytes

Each starts `gan-experiments serve` on a free port of 127.0.0.1, and ends it by SIGTERM; nothing else is asked. Without
--runs it trains a DCGAN on 640 digits and a CycleGAN on a few images of noise first, which takes a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import hashlib
import io
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLIENTS = (1, 8, 64)
SMALL = ["metrics=none", "logger=csv", "callbacks.samples.n=4"]
SAMPLE, TRANSLATE = "sample", "translate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "soak", "hostile"])
    parser.add_argument("--runs", nargs=2, metavar=("DRAWS", "TRANSLATES"), help="a run of each kind")
    parser.add_argument("--seconds", type=float, default=15, help="of each row of load")
    parser.add_argument("--minutes", type=int, default=10, help="of soak")
    parser.add_argument("--rounds", type=int, default=3, help="of hostile: so often all of its requests")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16], help="of load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = arguments.runs or train(Path(folder))
        if arguments.what == "load":
            load(runs[0], arguments.seconds, arguments.batch_sizes)
        elif arguments.what == "soak":
            with service(runs) as server:
                asyncio.run(soak(server, arguments.minutes))
        else:
            with service(runs, "body_seconds=1", "request_seconds=20") as server:
                asyncio.run(hostile(server, arguments.rounds))


# -------------------------------------------------------------------- the service, and a client


@dataclass
class Server:
    """A service in a process: the names of its two models, and what it says."""

    process: subprocess.Popen[bytes]
    port: int
    models: list[str]
    log: Path


def train(folder: Path) -> list[str]:
    """Train two small runs."""
    for name in ("trainA", "trainB"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(4):
            picture(64, index).save(folder / "images" / name / f"{index}.png")
    size = [f"data.root={folder / 'images'}", "data.resolution=64", "data.load_resolution=72", "data.batch_size=2"]
    for words in (
        ["model=dcgan", "images=640", f"hydra.run.dir={folder / 'digits'}"],
        ["model=cyclegan", "model.generator_ab.width=16", *size, "images=4", f"hydra.run.dir={folder / 'painted'}"],
    ):
        command = [sys.executable, "-m", "gan_experiments", *SMALL, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [str(folder / name) for name in ("digits", "painted")]


def picture(side: int, seed: int = 0) -> Image.Image:
    """Smooth noise in colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@contextlib.contextmanager
def service(runs: list[str], *words: str) -> Iterator[Server]:
    """Start the command; afterwards end it, and see to it that it has told of no mistake of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        command = [sys.executable, "-m", "gan_experiments", "serve", f"run=[{','.join(runs)}]", "port=0", *words]
        with out.open("wb") as said, log.open("wb") as told:
            process = subprocess.Popen(command, stdout=said, stderr=told)
        try:
            while not (found := re.search(r"http://127.0.0.1:(\d+) serves (.*); ", out.read_text())):
                if process.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.1)
            yield Server(process, int(found[1]), found[2].split(", "), log)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
        print(f"\nat SIGTERM it ended with status {status}; it said: {log.read_text().strip()!r}")


@dataclass
class Answer:
    """A status, 0 where the connection was cut off, and a body."""

    status: int
    body: bytes = b""


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, request: bytes) -> Answer:
        """Send bytes, and read an answer."""
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> Answer:
        """Read an answer."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length else await self.reader.read()
        except (OSError, asyncio.IncompleteReadError):
            return Answer(0)
        return Answer(int(head.split()[1]), body)


def http(method: str, path: str, body: bytes = b"", kind: str = "application/json", *headers: str) -> bytes:
    """Return a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def sampled(model: str, n: int = 1, seed: int = 0, **more: object) -> bytes:
    """Return a request for samples."""
    return http("POST", "/sample", json.dumps({"model": model, "n": n, "seed": seed, **more}).encode())


def form(**parts: bytes | str) -> tuple[bytes, str]:
    """Return the body of a form, whose bytes are files, and its content type."""
    body = b""
    for key, value in parts.items():
        file = '; filename="../../../etc/passwd"' if isinstance(value, bytes) else ""
        body += f'--x\r\nContent-Disposition: form-data; name="{key}"{file}\r\n\r\n'.encode()
        body += (value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")) + b"\r\n"
    return body + b"--x--\r\n", "multipart/form-data; boundary=x"


def translated(image: bytes, **more: bytes | str) -> bytes:
    """Return a request for a translation."""
    return http("POST", "/translate", *form(image=image, **more))


def coded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


async def metric(port: int, name: str) -> float:
    """Return a value that /metrics tells."""
    async with Client(port) as client:
        text = (await client.ask(http("GET", "/metrics"))).body.decode()
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# -------------------------------------------------------------------- load


def load(run: str, seconds: float, batch_sizes: list[int]) -> None:
    """Print throughput and latencies of requests for one image, and the model's own beside them."""
    print("one image a request\n")
    print("| | images/s | p50 ms | p95 ms | p99 ms | CPU ms an image | answers other than 200 |")
    print("|---|---|---|---|---|---|---|")
    for size in batch_sizes:
        times, cpu = directly(run, size, seconds)
        row(f"the model itself, {size} at once", size * len(times) / sum(times), times, cpu, 0)
    for size in batch_sizes:
        with contextlib.redirect_stdout(io.StringIO()), service([run], f"batch_size={size}") as server:
            results = []
            for number in CLIENTS:
                before = processor(server.process.pid)
                times, wrong, took = asyncio.run(clients(server, number, seconds))
                results.append((times, wrong, took, (processor(server.process.pid) - before) / len(times)))
        for number, (times, wrong, took, cpu) in zip(CLIENTS, results, strict=True):
            name = f"`batch_size={size}`, {number} client{'s' * (number > 1)}"
            row(name, len(times) / took, times, cpu, wrong)


def row(name: str, rate: float, times: list[float], cpu: float, wrong: int) -> None:
    """Print a row of the table."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    shown = " | ".join(f"{1000 * seconds:.1f}" for seconds in (cuts[49], cuts[94], cuts[98], cpu))
    print(f"| {name} | {rate:.0f} | {shown} | {wrong} |", flush=True)


def processor(pid: int) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def directly(run: str, size: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds of calls of the model for so many images, on as many threads, and CPU seconds an image."""
    import torch

    from gan_experiments.data.cache import cores
    from gan_experiments.inference.run import open_run

    model = open_run(run)
    torch.set_num_threads(min(cores(), torch.get_num_threads()))
    times: list[float] = []
    spent = time.process_time()
    with torch.no_grad():
        while sum(times) < seconds:
            z = model.noise(size, len(times))
            began = time.perf_counter()
            model.draw(z, model.labels(size, 0))
            times.append(time.perf_counter() - began)
    return times, (time.process_time() - spent) / (size * len(times))


async def clients(server: Server, number: int, seconds: float) -> tuple[list[float], int, float]:
    """Return the seconds of each request of clients that ask again at once, how many failed, and the seconds in all."""
    times: list[float] = []
    wrong = 0

    async def one(index: int) -> None:
        nonlocal wrong
        async with Client(server.port) as client:
            for seed in range(index * 1_000_000, index * 1_000_000 + 100_000):
                sent = time.perf_counter()
                if sent >= end:
                    return
                answer = await client.ask(sampled(server.models[0], seed=seed))
                wrong += answer.status != 200
                times.append(time.perf_counter() - sent)

    begin = time.perf_counter()
    end = begin + seconds
    await asyncio.gather(*(one(index) for index in range(number)))
    return times, wrong, time.perf_counter() - begin


# -------------------------------------------------------------------- soak


async def soak(server: Server, minutes: int) -> None:
    """Ask for samples and translations of many kinds for so long, and print what each minute brought."""
    print("8 clients, each of which waits 0 to 0.4 s before the next request\n")
    print("| minute | requests | answers other than 200 | p50 ms | p99 ms | memory MB |")
    print("|---|---|---|---|---|---|")
    uploads = [coded(picture(side, side), kind) for side in (48, 100, 200, 321) for kind in ("PNG", "JPEG", "WEBP")]
    for minute in range(minutes):
        times: list[float] = []
        codes: collections.Counter[int] = collections.Counter()
        end = time.perf_counter() + 60

        async def one(
            index: int, end: float, times: list[float], codes: collections.Counter[int], rng: random.Random
        ) -> None:
            async with Client(server.port) as client:
                while time.perf_counter() < end:
                    await asyncio.sleep(rng.uniform(0, 0.4))
                    kind = rng.choice(["png", "sheet", "zip", "json"])
                    request = sampled(server.models[0], rng.randint(1, 24), rng.randrange(2**32), format=kind)
                    if index % 4 == 0:
                        request = translated(rng.choice(uploads), model=server.models[1])
                    sent = time.perf_counter()
                    codes[(await client.ask(request)).status] += 1
                    times.append(time.perf_counter() - sent)

        await asyncio.gather(*(one(i, end, times, codes, random.Random(8 * minute + i)) for i in range(8)))
        cuts = statistics.quantiles(times, n=100)
        memory = await metric(server.port, "process_resident_memory_bytes") / 1e6
        wrong = len(times) - codes[200]
        print(
            f"| {minute + 1} | {len(times)} | {wrong} | {1000 * cuts[49]:.0f} | {1000 * cuts[98]:.0f} | {memory:.1f} |"
        )


# -------------------------------------------------------------------- hostile requests


def bomb(side: int, kind: int = 0, depth: int = 1) -> bytes:
    """Return a small PNG that says it is large."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(2_000_000), 9)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def scans(number: int) -> bytes:
    """Return a JPEG whose last scan is there again and again."""
    raw = coded(picture(640), "JPEG", progressive=True)
    place = raw.rindex(b"\xff\xda")
    return raw[:place] + raw[place:-2] * number + b"\xff\xd9"


Part = bytes | float
"""Bytes to send, or seconds to wait."""


def attacks(draws: str, translates: str) -> Iterator[tuple[str, list[Part]]]:
    """Yield 200 requests by kind, for a model that draws and one that translates."""
    yield from bombs(translates)
    yield from files(translates)
    yield from values(draws, translates)
    yield from connections(draws, translates)


def bombs(translates: str) -> Iterator[tuple[str, list[Part]]]:
    """Yield small files that are large once they are decoded."""
    good = coded(picture(64))
    for side, kind, depth in [(s, k, d) for s in (20_000, 65_000, 2**31 - 1) for k, d in ((0, 1), (2, 8), (6, 16))]:
        yield "bomb", [translated(bomb(side, kind, depth), model=translates)]
    for number in (150, 1000, 4000):
        yield "bomb", [translated(scans(number), model=translates)]
    text = zlib.compress(bytes(60_000_000), 9)
    chunk = b"zTXtx\0\0" + text
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    yield "bomb", [translated(good[:33] + packed + good[33:], model=translates)]
    frames = [Image.new("1", (1900, 1900), i % 2) for i in range(60)]
    yield "bomb", [translated(coded(frames[0], "GIF", save_all=True, append_images=frames[1:]), model=translates)]
    yield "bomb", [translated(coded(Image.new("1", (60_000, 60)), "TIFF", compression="group4"), model=translates)]


def files(translates: str) -> Iterator[tuple[str, list[Part]]]:
    """Yield files that are no images, or broken ones."""
    rng = random.Random(0)
    good, jpeg = coded(picture(64)), coded(picture(200), "JPEG")
    wrong = [
        b"",
        b"hello",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n",
        b"PK\x03\x04" * 50,
    ]
    wrong += [
        b"\x93NUMPY\x01\x00" + bytes(200),
        bytes(128) + b"DICM" + bytes(200),
        b"\x1f\x8b" + bytes(99),
        b"\x80\x04.",
    ]
    wrong += [b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", b"BM" + b"\xff" * 60]
    wrong += [
        b"II*\0" + b"\xff" * 60,
        b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(30),
        b"GIF89a" + b"\xff" * 40,
        bytes(70_000),
    ]
    for raw in wrong:
        yield "wrong type", [translated(raw, model=translates)]
    for raw in (good, jpeg, coded(picture(99), "WEBP"), coded(picture(99), "TIFF")):
        for share in (0.1, 0.4, 0.7, 0.95):
            yield "truncated file", [translated(raw[: int(len(raw) * share)], model=translates)]
        broken = bytearray(raw)
        for place in rng.sample(range(10, len(raw)), 40):
            broken[place] = rng.randrange(256)
        yield "damaged file", [translated(bytes(broken), model=translates)]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        whole = translated(jpeg, model=translates)
        yield "upload cut off", [whole[: int(len(whole) * share)], 0.2]
        yield "upload that stops", [whole[: int(len(whole) * share)], 4.0]


def values(draws: str, translates: str) -> Iterator[tuple[str, list[Part]]]:
    """Yield well-formed requests that ask for what is not there."""
    good = coded(picture(64))
    names = [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x",
        "%2e%2e%2f",
        "file:///etc/passwd",
        "\0",
        "~root/.ssh/id_rsa",
        "C:\\x",
    ]
    for name in names:
        yield "traversal", [sampled(name)]
        yield "traversal", [translated(good, model=name)]
        yield "traversal", [translated(good, model=translates, to=name)]
    for path in (
        "/../../etc/passwd",
        "//etc/passwd",
        "/docs/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f",
    ):
        yield "traversal", [http("GET", path)]
    numbers: list[object] = [-1, 0, 65, 4097, 2**63, 1e300, True, "1", None, [], {}, "\ud800", 0.5, "9" * 1000]
    for value in numbers:
        yield "wrong value", [sampled(draws, **{"n": value})]
        yield "wrong value", [sampled(draws, **{"label" if value in (0, 65, 4097) else "seed": value})]
    for word in ("NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1e-400"):
        yield "not a number", [http("POST", "/sample", f'{{"model": "{draws}", "truncation": {word}}}'.encode())]
        yield "not a number", [http("POST", "/sample", f'{{"model": "{draws}", "n": {word}}}'.encode())]
    for words in ("ünïcödé", "🙂" * 40, "\u202e\u0000", "\ufeff", "א" * 100, "a\u0300" * 50):
        yield "unicode", [sampled(draws, label=words)]
        yield "unicode", [translated(good, model=words)]
    for body in (
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"n": ' + b"9" * 60_000 + b"}",
        b'"' + b"\\u0000" * 9000 + b'"',
        b" " * 65_536,
    ):
        yield "huge JSON", [http("POST", "/sample", body)]
    yield "huge JSON", [http("POST", "/sample", b'{"model": "' + b"x" * 5_000_000 + b'"}')]
    yield "huge JSON", [http("POST", "/translate", b'{"x": 1}' * 10_000)]


def connections(draws: str, translates: str) -> Iterator[tuple[str, list[Part]]]:
    """Yield what strains the connection itself."""
    good = coded(picture(64))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "PURGE", "get", "G@T"):
        yield "wrong method", [http(method, "/sample"), 0.1]
    many = "\r\n".join(f"X-{i}: {'a' * 100}" for i in range(3000))
    for head in (many, "X: " + "a" * 100_000, "Host: evil.example", "Transfer-Encoding: chunked", "Content-Length: -1"):
        yield "header flood", [http("GET", "/models", b"", "text/plain", head), 0.3]
    for start in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 5000,
        b"GET " + b"/a" * 30_000,
        b"\0" * 4000,
    ):
        yield "no HTTP", [start, 2.0]
    for size in (10**8, 10**18):
        yield (
            "too long",
            [
                http("POST", "/translate", b"x", "multipart/form-data; boundary=x").replace(
                    b"Length: 1", f"Length: {size}".encode()
                )
            ],
        )
    for parts in (500, 5000):
        yield "many parts", [http("POST", "/translate", *form(**{f"f{i}": "x" for i in range(parts)}))]
    for pause in (0.3, 0.5):
        slow: list[Part] = []
        for byte in translated(good, model=translates)[:60]:
            slow += [bytes([byte]), pause / 4]
        yield "slow headers", slow
        head, _, body = translated(good, model=translates).partition(b"\r\n\r\n")
        trickle: list[Part] = [head + b"\r\n\r\n"]
        for byte in body[:20]:
            trickle += [bytes([byte]), pause / 2]
        yield "slow body", trickle
        yield "silence", [4 * pause]
    for seed in range(20):
        yield "goes away", [sampled(draws, n=64, seed=seed), 0.01]


async def attack(server: Server, parts: list[Part]) -> int:
    """Send one request, and return the status of the answer; 0 where the connection was cut off without one."""
    try:
        async with Client(server.port) as client:
            answer = asyncio.ensure_future(client.answer())
            for part in parts:
                if answer.done():
                    break
                if isinstance(part, bytes):
                    client.writer.write(part)
                    await client.writer.drain()
                else:
                    await asyncio.wait({answer}, timeout=part)
            if isinstance(parts[-1], float) and parts[-1] < 1 and not answer.done():
                answer.cancel()
                return -1
            return (await asyncio.wait_for(answer, 30)).status
    except OSError:
        return 0


async def hostile(server: Server, rounds: int) -> None:
    """Send all of them, a few times, and compare what the service is like before and after."""
    kinds: dict[str, collections.Counter[int]] = {}
    states = [await state(server)]
    began, number = time.perf_counter(), 0
    for _ in range(rounds):
        async for kind, status in _sent(server):
            kinds.setdefault(kind, collections.Counter())[status] += 1
            number += 1
        states.append(await state(server))
    took = time.perf_counter() - began
    before, after = states[0], states[-1]
    print("| kind | requests | status of the answers |\n|---|---|---|")
    named = {0: "cut off", -1: "went away itself"}
    for kind, found in kinds.items():
        codes = ", ".join(f"{named.get(code, code)}: {times}" for code, times in sorted(found.items()))
        print(f"| {kind} | {found.total()} | {codes} |")
    print(f"\n{number} requests in {took:.0f} s")
    print(f"the same sample and translation before and after: {before[0] == after[0]} ({after[0][:16]})")
    print(f"memory before and after each round: {', '.join(f'{held / 1e6:.0f}' for _, held in states)} MB")
    print(f"answers of 500: {sum(found[500] for found in kinds.values())}")
    print(f"tracebacks in its log: {server.log.read_text().count('Traceback')}")


async def _sent(server: Server) -> AsyncIterator[tuple[str, int]]:
    """Send a few at a time, and yield kind and status."""
    few = asyncio.Semaphore(4)

    async def one(kind: str, parts: list[Part]) -> tuple[str, int]:
        async with few:
            return kind, await attack(server, parts)

    for done in asyncio.as_completed([one(*given) for given in attacks(*server.models)]):
        yield await done


async def state(server: Server) -> tuple[str, float]:
    """Return a hash of what is answered to two fixed requests, and the service's memory in bytes."""
    async with Client(server.port) as client:
        sample = await client.ask(sampled(server.models[0], 5, 7, format="json"))
        translation = await client.ask(translated(coded(picture(100, 5)), model=server.models[1]))
    assert (sample.status, translation.status) == (200, 200), (sample, translation)
    assert len({base64.b64decode(image) for image in json.loads(sample.body)["images"]}) == 5
    found = hashlib.sha256(sample.body + translation.body).hexdigest()
    return found, await metric(server.port, "process_resident_memory_bytes")


if __name__ == "__main__":
    main()
