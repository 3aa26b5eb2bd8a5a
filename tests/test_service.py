"""The service: what it answers, that nobody's request changes another's, and what it refuses, in one line each."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import io
import itertools
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import GENERATIVE, run, serving, small
from torch import Tensor

from gan_experiments import drawing, provenance
from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.inference.contract import SAMPLE, TRANSLATE, Facts, Generates
from gan_experiments.inference.run import Run, open_run
from gan_experiments.kinds import Image as ImageKind
from gan_experiments.models.image_to_image import Direction
from gan_experiments.service.app import make_app
from gan_experiments.service.counters import Counters
from gan_experiments.service.guard import JSON_BYTES
from gan_experiments.service.settings import TOKEN, Settings, listener, token

SECRET = "0123456789abcdef"


class Toy(Generates):
    """Draws grey squares of z's first number, or inverts images. What it draws depends on the size of the batch."""

    def __init__(self, name: str = "toy", task: str = SAMPLE, also: tuple[str, ...] = (), **facts: Any) -> None:
        self._name, self.batches, self.held = name, list[tuple[int, float | None]](), threading.Event()
        self.held.set()
        ways = {"inverted": Direction("real_a", also=also)} if task == TRANSLATE else {}
        usual = Facts(task, "Toy", "images", 8, 3, (8, 8), None, latent_dim=4, truncation="w", directions=ways)
        self._facts = replace(usual, **facts)

    @property
    def name(self) -> str:
        return self._name

    @property
    def checkpoint(self) -> str:
        return f"{zlib.crc32(self._name.encode()):064x}"

    @property
    def facts(self) -> Facts:
        return self._facts

    def draw(self, z: Tensor, labels: Tensor | None = None, truncation: float | None = None, **_: Any) -> Tensor:
        self.batches.append((len(z), truncation))
        assert self.held.wait(20)
        if truncation == 66:
            raise RuntimeError("secret of the inside")
        if truncation == 67:
            raise MemoryError
        values = (z[:, 0] * 40 + 128 + len(z) + (0 if labels is None else labels)).clamp(0, 255).byte()
        return values.view(-1, 1, 1, 1).expand(-1, self.facts.channels, 8, 8).clone()

    def translated(self, image: Tensor, to: str = "", mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        assert self.held.wait(20)
        inverted = -image if image.is_floating_point() else 255 - image
        return inverted if mask is None else torch.where(mask > 0, inverted, image)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        assert self.body.endswith(b"\n")
        (line,) = json.loads(self.body).values()
        assert "\n" not in line
        assert "Traceback" not in line
        return str(line)

    @property
    def picture(self) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.body)))


Ask = Callable[..., Awaitable[Answer]]


async def ask(
    app: Any,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    method: str = "",
    *,
    parts: list[bytes] | None = None,
    pause: float = 0.0,
    leaves: float | None = None,
    **headers: str,
) -> Answer:
    """Send a request to the app itself, as a server would: its body at once, or in parts with a pause before each.

    After `leaves` seconds the client is gone.
    """
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), {"content_type": "application/json", **headers}
    parts = [body or b""] if parts is None else parts
    sent: list[Any] = []
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts:
            await asyncio.sleep(pause)
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), leaves)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    sends = {"host": "127.0.0.1:8000"} | {key.replace("_", "-"): value for key, value in headers.items()}
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""}
    scope |= {"method": method or ("GET" if body is None else "POST"), "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}
    scope["headers"] = [(key.encode(), value.encode("latin-1")) for key, value in sends.items()]
    await app(scope, receive, send)
    done.set()
    if not sent:
        return Answer(0, {}, b"")
    got = {key.decode(): value.decode("latin-1") for key, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], got, b"".join(message.get("body", b"") for message in sent[1:]))


@contextlib.asynccontextmanager
async def service(*models: Generates, **limits: Any) -> AsyncIterator[Ask]:
    """A service at work, as the function that asks it."""
    app = make_app({model.name: model for model in models}, Settings(**limits))
    async with app.router.lifespan_context(app):

        async def asked(*given: Any, **options: Any) -> Answer:
            return await ask(app, *given, **options)

        asked.waiting = lambda: [served.batcher.waiting for served in app.state.service.models.values()]  # type: ignore[attr-defined]
        yield asked


async def until(true: Callable[[], bool]) -> None:
    """Let the service work until something holds."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def answers(*requests: tuple[Any, ...], model: Generates | None = None, **limits: Any) -> list[Answer]:
    """The answers to some requests, one after the other."""

    async def main() -> list[Answer]:
        async with service(model or Toy(), **limits) as asked:
            return [await asked(*given) for given in requests]

    return asyncio.run(main())


def form(**parts: bytes | str) -> tuple[bytes, dict[str, str]]:
    """A form as browsers send it: its body and its header. Bytes are files, whose names are those of attackers."""
    body = b""
    for key, value in parts.items():
        name = f'; filename="../../{key}.png"' if isinstance(value, bytes) else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{key}"{name}\r\n\r\n'
        body += head.encode() + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return body + b"--x--\r\n", {"content_type": "multipart/form-data; boundary=x"}


def coded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PHOTO = Image.fromarray(np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3))

# ------------------------------------------------------------------------------------------ batches


def test_a_request_gets_the_same_bytes_alone_and_among_others() -> None:
    """From a model that draws otherwise in batches of other sizes, as the libraries do in the last bits."""

    async def main() -> None:
        toy = Toy(classes=("a", "b"))
        async with service(toy, batch_size=8) as asked:
            mine = {"n": 5, "seed": 3, "label": "b", "format": "json"}
            alone = await asked("/sample", mine)
            others = [{"n": 1 + seed % 11, "seed": seed, "format": "png"} for seed in range(30)]
            among = await asyncio.gather(*(asked("/sample", body) for body in [*others[:15], mine, *others[15:]]))
            assert {answer.status for answer in among} == {200}
            assert among[15].body == alone.body
            assert {size for size, _ in toy.batches} == {8}
            images = sum(body["n"] for body in others) + 2 * 5
            assert len(toy.batches) < images / 8 + 8, "requests do not share batches"

    asyncio.run(main())


@pytest.mark.parametrize("model", ["cdcgan", "stylegan2"])
def test_a_trained_model_draws_the_same_bytes_alone_and_among_others(model: str, bare_machine: Path) -> None:
    async def main() -> None:
        async with service(open_run(str(bare_machine / "runs" / model), "cpu"), batch_size=4) as asked:
            mine = {"n": 3, "seed": 3, "format": "zip"}
            alone = await asked("/sample", mine)
            bodies = [{"n": 1 + seed % 3, "seed": seed} for seed in range(30)]
            among = await asyncio.gather(*(asked("/sample", body) for body in [*bodies[:15], mine, *bodies[15:]]))
            assert among[15].body == alone.body
            again = await asked("/sample", {**mine, "seed": 4})
            assert again.body != alone.body

    asyncio.run(main())


def test_what_is_drawn_is_what_the_model_draws(bare_machine: Path) -> None:
    model = open_run(str(bare_machine / "runs" / "cdcgan"), "cpu")
    (answer,) = answers(("/sample", {"n": 4, "seed": 9, "format": "json"}), model=model, batch_size=4)
    told = json.loads(answer.body)
    labels = model.labels(4, 9)
    assert labels is not None
    assert told["labels"] == [model.facts.classes[label] for label in labels]
    got = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in told["images"]]
    assert np.array_equal(np.stack(got), model.draw(model.noise(4, 9), labels)[:, 0].numpy())
    assert told["checkpoint"] == answer.headers["x-checkpoint-sha256"] == model.checkpoint


def test_truncations_do_not_share_a_batch() -> None:
    async def main() -> None:
        toy = Toy()
        async with service(toy, batch_size=4) as asked:
            toy.held.clear()
            asking = [asyncio.create_task(asked("/sample", {"n": 4}))]
            await until(lambda: len(toy.batches) == 1)
            for number, truncation in enumerate((0.5, 0.5, None, 0.7, 0.5)):
                asking.append(asyncio.create_task(asked("/sample", {"truncation": truncation})))
                await until(lambda number=number: asked.waiting() == [number + 1])
            toy.held.set()
            assert {(await one).status for one in asking} == {200}
        assert toy.batches == [(4, None), (4, 0.5), (4, None), (4, 0.7)]

    asyncio.run(main())


def test_a_full_queue_is_answered_at_once() -> None:
    async def main() -> None:
        toy = Toy()
        async with service(toy, batch_size=2, queue=4) as asked:
            await asked("/sample", {})  # which tells how long one takes
            toy.held.clear()
            asking = [asyncio.create_task(asked("/sample", {"n": 2, "seed": 0}))]
            await until(lambda: len(toy.batches) == 2)  # it is computed, so it waits no longer
            asking += [asyncio.create_task(asked("/sample", {"n": 2, "seed": seed})) for seed in (1, 2)]
            await until(lambda: asked.waiting() == [4])
            refused = await asked("/sample", {"n": 1})
            assert refused.status == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.error == f"too much is waiting already; ask again in {refused.headers['retry-after']} s"
            assert (await asked("/health")).status == 200
            toy.held.set()
            assert {(await one).status for one in asking} == {200}
            assert (await asked("/sample", {"n": 4})).status == 200

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def main() -> None:
        toy = Toy()
        async with service(toy, batch_size=1, request_seconds=2) as asked:
            toy.held.clear()
            late = asyncio.create_task(asked("/sample", {"seed": 1}))
            await until(lambda: len(toy.batches) == 1)
            gone = [asyncio.create_task(asked("/sample", {"seed": seed}, leaves=0.05)) for seed in (2, 3)]
            assert [(await one).status for one in gone] == [0, 0]
            assert asked.waiting() == [0]
            assert (await late).status == 503
            assert (await late).error == "this took longer than 2 s; ask again in 1 s"
            toy.held.set()
            assert (await asked("/sample", {"seed": 4})).status == 200
            assert len(toy.batches) == 2
            counted = (await asked("/metrics")).body.decode()
            assert 'requests_total{method="POST",endpoint="/sample",status="0"} 2' in counted

    asyncio.run(main())


def test_an_error_of_the_model_harms_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    broken, empty, fine = answers(
        ("/sample", {"truncation": 66}), ("/sample", {"truncation": 67}), ("/sample", {"truncation": 1})
    )
    assert (broken.status, broken.error) == (500, "this is a mistake of the service, which its log explains")
    assert "secret of the inside" in caplog.text
    assert (empty.status, empty.headers["retry-after"]) == (503, "1")
    assert fine.status == 200


# ------------------------------------------------------------------------------------------ answers


def test_the_forms_of_samples() -> None:
    toy = Toy(classes=("a", "b/../c"))
    one, sheet, packed, told, other, by_header, weighed, none = answers(
        ("/sample", {"n": 1, "seed": 5}),
        ("/sample", {"n": 6, "seed": 5}),
        ("/sample", {"n": 3, "seed": 5, "format": "zip"}),
        ("/sample", {"n": 3, "seed": 5, "format": "json"}),
        ("/sample", {"n": 1, "format": "sheet"}),
        model=toy,
    ) + asyncio.run(_by_header(toy))
    assert one.picture.shape == (8, 8, 3)
    assert sheet.picture.shape == (*drawing.sheet(torch.zeros(6, 1, 3, 8, 8), toy.conditions.columns(6)).shape[1:], 3)
    assert other.picture.shape[0] > 8
    with zipfile.ZipFile(io.BytesIO(packed.body)) as archive:
        assert archive.namelist() == ["a/000000.png", "b_.._c/000001.png", "a/000002.png"]
        pictures = [archive.read(name) for name in archive.namelist()]
    read = json.loads(told.body)
    assert [base64.b64decode(image) for image in read["images"]] == pictures
    assert (read["labels"], read["seed"], read["model"]) == (["a", "b/../c", "a"], 5, "toy")
    told = [provenance.of_xmp(Image.open(io.BytesIO(image)).info["XML:com.adobe.xmp"].encode()) for image in pictures]
    assert [(one.label, one.seed, one.checkpoint) for one in told if one] == [
        (label, 5, toy.checkpoint) for label in read["labels"]
    ]
    assert (by_header.headers["content-type"], weighed.headers["content-type"]) == (
        "application/zip",
        "application/json",
    )
    assert (none.status, none.error) == (406, "Accept: one of image/png, application/zip, application/json is sent")


async def _by_header(toy: Toy) -> list[Answer]:
    async with service(toy) as asked:
        accepted = (
            "application/zip",
            "text/html, image/png;q=0.1, application/json;q=0.9",
            "text/html, image/png;q=nan",
        )
        return [await asked("/sample", {}, accept=accept) for accept in accepted]


@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 8)), (4, (8, 8, 4)), (2, (8, 8)), (5, (8, 8, 3))])
def test_pictures_of_any_number_of_channels(channels: int, shape: tuple[int, ...]) -> None:
    (answer,) = answers(("/sample", {"n": 1}), model=Toy(channels=channels))
    assert answer.picture.shape == shape


def test_translations() -> None:
    header = form()[1]
    masked, _ = form(image=coded(PHOTO), mask=coded(Image.fromarray(np.eye(12, 20) > 0)))

    async def main() -> None:
        async with service(Toy("plain", TRANSLATE), Toy("filling", TRANSLATE, ("mask",)), Toy()) as asked:
            plain = await asked("/translate", form(image=coded(PHOTO), model="plain")[0], **header)
            assert np.array_equal(plain.picture, 255 - np.asarray(PHOTO))
            photo = await asked("/translate", form(image=coded(PHOTO), model="plain", format="jpeg")[0], **header)
            assert (photo.headers["content-type"], photo.body[:3]) == ("image/jpeg", b"\xff\xd8\xff")
            asking = form(image=coded(PHOTO), model="filling", mask=coded(Image.fromarray(np.eye(12, 20) > 0)))[0]
            filled = await asked("/translate", asking, **header)
            hole = np.eye(12, 20)[..., None] > 0
            assert np.array_equal(filled.picture, np.where(hole, 255 - np.asarray(PHOTO), PHOTO))
            lost = await asked("/translate", masked, **header)
            assert lost.error == "model is not given: this service has plain, filling, toy"

    asyncio.run(main())
    turned = PHOTO.getexif()
    turned[0x0112] = 6  # a telephone held upright
    upright = form(image=coded(PHOTO, exif=turned))[0]
    white = form(image=coded(Image.fromarray(np.full((4, 4), 65535, np.uint16))))[0]
    answer, deep = asyncio.run(_translations(upright, white))
    assert answer.picture.shape == (20, 12, 3)
    assert deep.body[24] == 16, "its depth is lost"
    assert (deep.picture == 0).all()


async def _translations(*bodies: bytes) -> list[Answer]:
    async with service(Toy(task=TRANSLATE)) as asked:
        return [await asked("/translate", body, **form()[1]) for body in bodies]


def test_what_the_service_tells_of_itself() -> None:
    health, models, schema, page, lost = answers(("/health",), ("/models",), ("/openapi.json",), ("/docs",), ("/x",))
    assert json.loads(health.body)["status"] == "ok"
    (told,) = json.loads(models.body)["models"]
    assert (told["name"], told["checkpoint"], told["latent_dim"]) == ("toy", Toy().checkpoint, 4)
    assert json.loads(models.body)["limits"]["max_n"] == Settings().max_n
    for answer in (health, models, schema, page, lost):
        assert answer.headers["x-checkpoint-sha256"] == Toy().checkpoint
        assert answer.headers["x-content-type-options"] == "nosniff"
    paths = json.loads(schema.body)["paths"]
    assert {"/health", "/metrics", "/models", "/sample", "/translate"} <= set(paths)
    text = page.body.decode()
    assert all(f" {path}</code>" in text for path in paths)
    assert all(key in text for key in ("truncation", "multipart", "mask") if key != "multipart")
    assert not re.search(r"<script|(src|href)=.?https?:", text), "the page needs the network"


def test_counters_are_prometheus_text() -> None:
    *_, counted = answers(
        ("/sample", {"n": 3}), ("/sample", {"n": 0}), ('/a"\n{b}', None, "PURGE"), ("/metrics",), batch_size=4
    )
    line = re.compile(r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"[^\"\n]*\"(,\w+=\"[^\"\n]*\")*\})? [0-9.e+-]+")
    text = counted.body.decode()
    assert all(line.fullmatch(one) for one in text.splitlines())
    for wanted in (
        'requests_total{method="POST",endpoint="/sample",status="200"} 1',
        'requests_total{method="POST",endpoint="/sample",status="422"} 1',
        'requests_total{method="other",endpoint="other",status="404"} 1',
        'request_seconds_count{endpoint="/sample"} 2',
        'request_seconds_bucket{endpoint="/sample",le="+Inf"} 2',
        'images_total{model="toy"} 3',
        'batches_total{model="toy"} 1',
        'waiting_images{model="toy"} 0',
        f'model_info{{model="toy",checkpoint="{Toy().checkpoint}"}} 1',
    ):
        assert f"gan_experiments_{wanted}" in text.splitlines()
    assert 'model="a\\"\\\\\\n"' in Counters().text({}, {'a"\\\n': ""})


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"n": 0}, "n=0: Input should be greater than or equal to 1"),
        ({"n": 65}, "n=65: this service draws at most 64 images at once"),
        ({"n": "7"}, "n=7: Input should be a valid integer"),
        ({"n": True}, "n=true: Input should be a valid integer"),
        ({"seed": -1}, "seed=-1: Input should be greater than or equal to 0"),
        ({"seed": 2**32}, "seed=4294967296: Input should be less than or equal to 4294967295"),
        ({"truncation": 0}, "truncation=0: Input should be greater than 0"),
        (b'{"truncation": NaN}', "truncation=nan: Input should be a finite number"),
        (b'{"truncation": 1e999}', "truncation=inf: Input should be a finite number"),
        ({"label": "a"}, "label=a: this generator knows no classes; leave it out"),
        ({"sed": 1}, "sed=1: nothing reads this key"),
        ({"model": "../../etc/passwd"}, "model=../../etc/passwd: this service has toy"),
        ({"model": "x" * 201}, "at most 200 characters"),
        ({"format": "gif"}, "format=gif: Input should be 'png', 'sheet', 'zip' or 'json'"),
        (b'{"model": "\\ud800"}', "model"),
        (b'{"model": "\\u0000\\n"}', "this service has toy"),
        (b"{", "the body: JSON decode error"),
        (b"[]", "the body: Input should be"),
        (b"", "the body: Field required"),
        (b"\xff\xfe", "the body: JSON decode error"),
        (b"[" * 60_000, "There was an error parsing the body"),
        (b'{"n": ' + b"9" * 5000 + b"}", "There was an error parsing the body"),
    ],
    ids=itertools.count(),
)
def test_a_mistake_is_answered_in_one_line(body: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Answer:
        async with service(Toy()) as asked:
            return await asked(
                "/sample", body, **({} if isinstance(body, dict) else {"content_type": "application/json"})
            )

    answer = asyncio.run(main())
    assert answer.status in (400, 422)
    assert said in answer.error
    assert not caplog.records


def bomb(side: int = 30_000) -> bytes:
    """A small PNG that says it is very large."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(side // 8 * 500), 9)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    raw = coded(PHOTO, "JPEG", progressive=True)
    place = raw.rindex(b"\xff\xda")
    return raw[:place] + raw[place:-2] * 200 + b"\xff\xd9"


UPLOADS = {
    "bomb": (bomb(), "image: more than "),
    "large": (coded(Image.new("1", (3000, 3000))), "image: has 3000x3000 pixels, and at most 4,000,000 are taken"),
    "scans": (many_scans(), "image: is a JPEG of more than 100 scans"),
    "text": (b"GIF89 is no image", "image: is no PNG, JPEG, WEBP, BMP, GIF or TIFF"),
    "nothing": (b"", "image: is no PNG"),
    "zip": (b"PK\x03\x04" + bytes(100), "image: is no PNG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image: is no PNG"),
    "array": (b"\x93NUMPY\x01\x00" + bytes(100), "image: is no PNG"),
    "page": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image: is no PNG"),
    "cut png": (coded(PHOTO)[:-30], "image: "),
    "cut jpeg": (coded(PHOTO, "JPEG")[:-200], "image: "),
    "damaged": (coded(PHOTO)[:60] + bytes(40), "image: "),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_is_no_good_image(name: str, caplog: pytest.LogCaptureFixture) -> None:
    raw, said = UPLOADS[name]
    began = time.process_time()
    first, then = asyncio.run(_translations(form(image=raw)[0], form(image=coded(PHOTO))[0]))
    assert first.status == 422
    assert first.error.startswith(said)
    assert "type data" not in first.error
    assert np.array_equal(then.picture, 255 - np.asarray(PHOTO))
    assert time.process_time() - began < 2
    assert not caplog.records


FINE = coded(PHOTO)
FORMS = {
    "no image": (form(to="")[0], "image is not given: upload a file of that name"),
    "a text": (form(image="abc")[0], "image: a file is needed; files are image, mask"),
    "a file too many": (form(image=FINE, to=b"x")[0], "to: no file is needed; files are image, mask"),
    "twice": (form(image=FINE)[0][:-7] + form(image=FINE)[0], "image is given twice"),
    "a direction": (form(image=FINE, to="../b")[0], "to=../b: this model knows no such direction; type to=inverted"),
    "a class": (form(image=FINE, label="3")[0], "this generator knows no classes"),
    "a mask": (form(image=FINE, mask=FINE)[0], "mask: this model does not read it to make inverted of an image"),
    "a seed": (form(image=FINE, seed="x")[0], "seed=x: Input should be a valid integer"),
    "a key": (form(image=FINE, path="/etc/passwd")[0], "path=/etc/passwd: nothing reads this key"),
    "a model": (form(image=FINE, model="/etc/passwd")[0], "model=/etc/passwd: this service has toy"),
    "many fields": (form(**{f"f{i}": "" for i in range(20)})[0], "the form cannot be read (Too many fields."),
    "a long field": (form(image=FINE, to="x" * 2000)[0], "the form cannot be read (Part exceeded"),
    "another": (b"hello", "the form cannot be read"),
    "an end too soon": (form(image=FINE)[0][:-20], "image is not given"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_wrong(name: str, caplog: pytest.LogCaptureFixture) -> None:
    body, said = FORMS[name]
    (answer,) = asyncio.run(_translations(body))
    assert answer.status == 422
    assert said in answer.error
    assert not caplog.records


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300]
)
def test_a_form_of_another_type(kind: str) -> None:
    async def main() -> Answer:
        async with service(Toy(task=TRANSLATE)) as asked:
            return await asked("/translate", form(image=FINE)[0], content_type=kind)

    assert asyncio.run(main()).status == 422


def test_a_request_for_what_a_model_does_not_do() -> None:
    (answer,) = answers(("/sample", {}), model=Toy(task=TRANSLATE))
    assert (answer.status, answer.error) == (
        422,
        "toy: this model translates images; ask it to translate, not to sample",
    )


@pytest.mark.parametrize(("path", "method", "status"), [("/sample", "GET", 405), ("/health", "DELETE", 405)])
def test_other_methods(path: str, method: str, status: int) -> None:
    (answer,) = answers((path, None, method))
    assert answer.status == status
    assert answer.error == "Method Not Allowed"


@pytest.mark.parametrize(
    "path", ["/..", "/../etc/passwd", "//etc/passwd", "/docs/../../x", "/\x00", "/ü", "/static/%2e"]
)
def test_other_paths(path: str) -> None:
    (answer,) = answers((path,))
    assert answer.status == 404
    assert answer.error == "there is nothing here; GET /docs tells what there is"


opened: list[str] | None = None


def _note(event: str, given: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "subprocess.Popen"):
        opened.append(f"{event} {given[0]!r}")


def test_no_request_touches_a_file() -> None:
    """Neither by a name in it nor by its size: forms of more than a megabyte are usually spooled to a file."""
    global opened  # noqa: PLW0603
    sys.addaudithook(_note)  # stays, and takes time; it notes nothing while `opened` is None
    large = coded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)))
    assert len(large) > 2_000_000

    async def main() -> list[Answer]:
        async with service(Toy(task=TRANSLATE)) as asked:
            await asked("/translate", form(image=coded(PHOTO))[0], **form()[1])  # imports what it needs
            global opened  # noqa: PLW0603
            opened = []
            return [
                await asked("/translate", form(image=large)[0], **form()[1]),
                await asked(
                    "/translate", form(image=large, model="../../etc/passwd", to="/etc/passwd")[0], **form()[1]
                ),
                await asked("/sample", {"model": "/etc/passwd"}),
                await asked("/../../etc/passwd"),
            ]

    try:
        got = asyncio.run(main())
        noted = opened
    finally:
        opened = None
    assert [answer.status for answer in got] == [200, 422, 422, 404]
    assert noted == []


# ------------------------------------------------------------------------------------------ who, how much, how long


def test_the_token() -> None:
    async def main() -> None:
        async with service(Toy(), token=SECRET) as asked:
            for given in (None, "", SECRET, f"Basic {SECRET}", f"Bearer {SECRET}x", "Bearer", "Bearer \xfc"):
                headers = {} if given is None else {"authorization": given}
                refused = await asked("/sample", {}, **headers)
                assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer"), given
                assert refused.error == "the header Authorization: Bearer <token> is needed"
            for given in (f"Bearer {SECRET}", f"bearer  {SECRET} "):
                assert (await asked("/sample", {}, authorization=given, host="gan.example")).status == 200
            for path, status in (("/health", 200), ("/docs", 200), ("/metrics", 401), ("/models", 401), ("/x", 401)):
                assert (await asked(path)).status == status
            refused = await asked("/sample", {}, parts=[bytes(10**6)] * 100, pause=1)
            assert refused.status == 401, "the body was read"

    asyncio.run(main())


def test_without_a_token_pages_from_elsewhere_get_nothing() -> None:
    async def main() -> None:
        async with service(Toy()) as asked:
            for headers, status in (
                ({}, 200),
                ({"host": "localhost"}, 200),
                ({"host": "[::1]:8000"}, 200),
                ({"origin": "http://127.0.0.1:8000"}, 200),
                ({"host": "evil.example:8000"}, 403),
                ({"host": "127.0.0.1.evil.example"}, 403),
                ({"host": ""}, 403),
                ({"origin": "https://evil.example"}, 403),
                ({"origin": "null"}, 403),
            ):
                assert (await asked("/health", **headers)).status == status, headers

    asyncio.run(main())


def test_bodies_have_limits() -> None:
    async def main() -> None:
        async with service(Toy(task=TRANSLATE), max_bytes=100_000, body_seconds=0.2) as asked:
            for headers in ({"content_length": "100001"}, {}, {"content_length": "9" * 5000}):
                long = await asked("/translate", parts=[bytes(60_000)] * 2, method="POST", **form()[1], **headers)
                assert (long.status, long.error) == (413, "a body of more than 100,000 bytes is not taken")
            long = await asked("/sample", b" " * (JSON_BYTES + 1), content_type="application/json")
            assert long.status == 413
            slow = await asked("/translate", parts=[b"x"] * 100, pause=0.03, method="POST", **form()[1])
            assert (slow.status, slow.error) == (408, "the request did not arrive within 0.2 s")
            many = [
                asked("/translate", parts=[bytes(90_000), b"x"], pause=0.02, method="POST", **form()[1])
                for _ in range(12)
            ]
            held = await asyncio.gather(*many)
            assert sorted({answer.status for answer in held}) == [422, 503], "all were held at the same time"
            gone = await asked("/translate", parts=[], method="POST", leaves=0.01, **form()[1])
            assert gone.status == 0
            assert (await asked("/translate", form(image=FINE)[0], **form()[1])).status == 200

    asyncio.run(main())


# ------------------------------------------------------------------------------------------ all models


@pytest.mark.parametrize("model", GENERATIVE)
def test_every_model_is_served(model: str, tmp_path: Path) -> None:
    """Or refused with the reason."""
    cfg = small(tmp_path / "run", model)
    opened = Run(build.build_model(cfg).eval(), cfg, tmp_path / "run")
    if not isinstance(opened.model.kind, ImageKind):
        with pytest.raises(
            ConfigError, match=f"makes {opened.model.kind.name}, and images are served; type gan-experiments sample"
        ):
            make_app({"run": opened})
        return
    if opened.facts.task == SAMPLE:
        (answer,) = answers(("/sample", {"n": 2, "format": "json"}), model=opened, batch_size=2)
        shapes = {Image.open(io.BytesIO(base64.b64decode(one))).size for one in json.loads(answer.body)["images"]}
        assert shapes == {(32, 32)}
        return
    also = next(iter(opened.facts.directions.values())).also
    given: dict[str, Any] = {"image": coded(PHOTO.resize((32, 32)))}
    hole = np.pad(np.ones((8, 8), bool), 12)
    given |= {"mask": coded(Image.fromarray(hole))} if "mask" in also else {}
    given |= {"label": opened.facts.classes[1]} if "label" in also else {}
    body, header = form(**given)

    async def main() -> Answer:
        async with service(opened) as asked:
            return await asked("/translate", body, **header)

    answer = asyncio.run(main())
    assert answer.status == 200, answer.body
    assert answer.picture.shape[:2] == (32 * opened.facts.scale, 32 * opened.facts.scale)


# ------------------------------------------------------------------------------------------ a process


def test_only_this_machine_without_a_token() -> None:
    with pytest.raises(ConfigError, match=f"other machines would reach the service; type {TOKEN}="):
        listener("0.0.0.0", 0, None)
    with pytest.raises(ConfigError, match=r"host=no\.such\.host\.invalid: no address of that name"):
        listener("no.such.host.invalid", 0, None)
    listener("0.0.0.0", 0, SECRET).close()
    for given, said in (("short", "16 or more letters"), ("ü" * 16, "16 or more letters")):
        with pytest.raises(ConfigError, match=said):
            token({TOKEN: given})
    assert token({TOKEN: SECRET}) == SECRET
    assert token({TOKEN: " "}) is None
    assert token({}) is None


@contextlib.contextmanager
def process(folder: Path, *words: str, number: int = signal.SIGTERM) -> Iterator[int]:
    """A service as a person starts it, by its port. It ends by a signal, and says nothing but that."""
    with serving(*words, "port=0", "device=cpu", number=number, folder=folder) as here:
        yield here.port
    assert here.done is not None
    assert here.done.stderr == f"{signal.Signals(number).name}: stopped\n"
    assert len(here.done.stdout.splitlines()) == 1
    assert here.done.returncode == 128 + number


def over_http(port: int, path: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    coded = None if body is None else json.dumps(body)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, coded, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_service_from_start_to_end(bare_machine: Path) -> None:
    """Two models, connections that say nothing or too much, and an end at which what was asked is still answered."""
    words = [f"run=[{bare_machine}/runs/dcgan,{bare_machine}/runs/cyclegan]", "body_seconds=0.5", "connections=20"]
    late: list[tuple[int, bytes]] = []
    with process(bare_machine, *words) as port:
        first = over_http(port, "/sample", {"n": 3, "seed": 2})
        assert first[0] == 200
        silent, slow, wrong, long = (socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4))
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        wrong.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        long.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: " + b"a" * 100_000)
        assert wrong.recv(100).startswith(b"HTTP/1.1 400 ")
        assert long.recv(100).startswith(b"HTTP/1.1 400 ")
        began = time.monotonic()
        assert (silent.recv(1), slow.recv(1)) == (b"", b""), "they are kept open"
        assert time.monotonic() - began < 5
        many = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
        time.sleep(0.1)
        assert sum(_closed(one) for one in many) >= 10
        for one in (*many, silent, slow, wrong, long):
            one.close()
        time.sleep(0.1)
        assert over_http(port, "/sample", {"n": 3, "seed": 2}) == first
        assert b'endpoint="/sample",status="200"} 2' in over_http(port, "/metrics")[1]
        asking = threading.Thread(target=lambda: late.append(over_http(port, "/sample", {"n": 64, "seed": 1})))
        asking.start()
        time.sleep(0.05)
    asking.join()
    assert [status for status, _ in late] == [200]


def _closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_an_interrupt_ends_it_too(bare_machine: Path) -> None:
    with process(bare_machine, f"run={bare_machine}/runs/dcgan", number=signal.SIGINT) as port:
        assert over_http(port, "/health")[0] == 200


def test_mistakes_before_it_starts(bare_machine: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, said in (
            ([f"run={bare_machine}/runs/dcgan", f"port={port}"], f"port={port}: 127.0.0.1 cannot be bound"),
            (["run=nowhere", "port=0"], "run=nowhere: there is no such file or folder"),
            (
                [f"run={bare_machine}/runs/dcgan", "host=0.0.0.0"],
                "host=0.0.0.0: other machines would reach the service",
            ),
            (["run=nowhere", "port=70000"], "port=70000: a whole number from 0 to 65,535 is needed"),
        ):
            done = run(*words, verb="serve", folder=bare_machine)
            assert done.returncode == 2
            assert done.stderr.startswith(said)
            assert len(done.stderr.splitlines()) == 1
