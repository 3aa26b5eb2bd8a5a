"""The endpoints: `make_app(models)` is the whole service, for a server or for tests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from gan_experiments import __version__, bounds, files
from gan_experiments.contracts import ConfigError
from gan_experiments.data import photos
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.masks import read_mask
from gan_experiments.inference.contract import SAMPLE, TRANSLATE, Generates
from gan_experiments.kinds import Bands, Image
from gan_experiments.provenance import USUAL
from gan_experiments.service import demo, pages, pictures
from gan_experiments.service.asked import Asked, Name, Told
from gan_experiments.service.batcher import Batcher, Full
from gan_experiments.service.counters import Counters
from gan_experiments.service.guard import CHECKPOINT, Guard, Refused, busy, fault
from gan_experiments.service.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.data.photos import Photo

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what a form has wrong is answered, not told


class Sample(Told):
    """What is to be drawn."""

    n: int = Field(1, ge=1, le=4096, description="images; the service has a limit of its own, see GET /models")
    format: Literal["png", "sheet", "zip", "json"] | None = Field(
        None, description="png (a sheet of several), sheet, zip of PNGs, json with PNGs in base64; else as Accept says"
    )


class Translate(Asked):
    """What an uploaded image is to become."""

    to: Name = Field("", description="one of the model's directions; its usual one if left out")
    label: Name | None = Field(None, description="the class, of models that read one")
    format: Literal["png", "jpeg"] | None = Field(None, description="png or jpeg; else as Accept says")


UPLOAD = {
    "image": {"type": "string", "format": "binary", "description": "the image: PNG, JPEG, WEBP, BMP, GIF or TIFF"},
    "mask": {
        "type": "string",
        "format": "binary",
        "description": "where a model fills in: of the same size, white there",
    },
}


@dataclass(frozen=True)
class Served:
    """A model and its queue."""

    model: Generates
    batcher: Batcher
    checkpoint: str


class Service:
    """The models by name with their queues, the counters, and the threads where models compute and images are encoded.

    There is one thread for all models, as they share one device.
    """

    def __init__(
        self, models: Mapping[str, Generates], settings: Settings, ema: bool, tile: int | None, provenance: str
    ) -> None:
        self.settings, self.tile, self.ema, self.provenance = settings, tile, ema, provenance
        self.counters = Counters()
        self.thread = ThreadPoolExecutor(1, "model", torch.set_num_threads, (settings.threads,))
        self.encoder = ThreadPoolExecutor(1, "encoder")
        self.models = {
            name: Served(
                model,
                Batcher(
                    partial(model.draw, ema=ema),
                    self.thread,
                    settings.batch_size,
                    settings.wait / 1000,
                    settings.queue,
                ),
                model.checkpoint,
            )
            for name, model in models.items()
        }

    @contextlib.asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Compute what comes, inside the `with`."""
        workers = [asyncio.create_task(served.batcher.work()) for served in self.models.values()]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            self.thread.shutdown(wait=False, cancel_futures=True)
            self.encoder.shutdown(wait=False, cancel_futures=True)

    def of(self, name: str | None, task: str) -> tuple[str, Served]:
        """Return the model of that name, or the only one. Raises ConfigError if there is none for the task."""
        if name is None:
            able = [name for name, served in self.models.items() if served.model.facts.task == task]
            if len(self.models) > 1 and len(able) != 1:
                raise ConfigError(f"model is not given: this service has {', '.join(self.models)}")
            name = next(iter(able or self.models))
        if name not in self.models:
            raise ConfigError(f"model={bounds.shown(name)}: this service has {', '.join(self.models)}")
        served = self.models[name]
        served.model.require_task(task)
        return name, served

    def about(self, name: str, served: Served, seed: int) -> dict[str, Any]:
        """Return what an answer says of itself."""
        facts = served.model.facts
        return {
            "model": name,
            "architecture": facts.model,
            "task": facts.task,
            "checkpoint": served.checkpoint,
            "images_seen": facts.images_seen,
            "seed": seed,
        }

    async def encoded(self, encode: Callable[..., Any], *given: Any) -> Any:
        """Return what a function of files returns, called in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.encoder, encode, *given)

    def values(self) -> dict[str, dict[str, float]]:
        """Return what /metrics tells of each model."""
        return {
            name: {
                "images_total": batcher.images,
                "batches_total": batcher.batches,
                "compute_seconds_total": float(batcher.seconds),
                "waiting_images": batcher.waiting,
            }
            for name, batcher in ((name, served.batcher) for name, served in self.models.items())
        }


def make_app(
    models: Mapping[str, Generates],
    settings: Settings | None = None,
    ema: bool = True,
    tile: int | None = 512,
    provenance: str = USUAL,
    page: bool = False,
) -> FastAPI:
    """Return the service of models by name, as an ASGI app, with the page of `demo` if `page` asks for it.

    `provenance` is what pictures say of their making, a word of `provenance.KINDS`. Raises ConfigError for models that
    make no images.
    """
    settings = settings or Settings()
    for name, model in models.items():
        if model.facts.kind not in (Image.name, Bands.name):
            raise ConfigError(
                f"run={name}: this model makes {model.facts.kind}, and images are served; type gan-experiments sample"
                f" run={name}"
            )
    service = Service(models, settings, ema, tile, provenance)
    app = FastAPI(
        title="gan-experiments serve",
        version=__version__,
        summary="Draws samples of trained models, and translates images by them",
        docs_url=None,  # FastAPI's page needs the network; `pages` has one that does not
        redoc_url=None,
        lifespan=service.running,
    )
    app.state.service = service
    _handle_errors(app)
    _add_endpoints(app, service)
    app.include_router(pages.router)
    if page:
        demo.add(app, service)
    paths = [str(getattr(route, "path", "")) for route in app.routes]
    hashes = ", ".join(served.checkpoint for served in service.models.values())
    app.add_middleware(Guard, settings=settings, counters=service.counters, endpoints=paths, checkpoint=hashes)
    return app


def _add_endpoints(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.get("/health", summary="Whether the service answers")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", summary="Counters as Prometheus reads them", response_class=PlainTextResponse)
    async def metrics() -> Response:
        hashes = {name: served.checkpoint for name, served in service.models.items()}
        text = service.counters.text(service.values(), hashes)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/models", summary="What is served, and the limits")
    async def models() -> Response:
        told = [
            {"name": name, "checkpoint": served.checkpoint, **asdict(served.model.facts)}
            for name, served in service.models.items()
        ]
        limits = {key: getattr(settings, key) for key in ("max_n", "max_pixels", "max_bytes", "request_seconds")}
        return JSONResponse({"models": told, "limits": limits})

    made = {
        200: {"description": "the image or images", "content": {kind: {} for kind in sorted({*pictures.SENT.values()})}}
    }
    made |= {code: {"description": '{"error": "one line"}'} for code in (401, 413, 422, 503)}

    @app.post("/sample", summary="Draw samples", responses=made, response_class=Response)  # type: ignore[arg-type]
    async def sample(asked: Sample, request: Request) -> Response:
        name, served = service.of(asked.model, SAMPLE)
        form = asked.format or _accepted(request, ("png", "zip", "json"))
        if asked.n > settings.max_n:
            raise ConfigError(f"n={asked.n}: this service draws at most {settings.max_n} images at once")
        model = served.model
        z = model.noise(asked.n, asked.seed, asked.truncation)
        labels = asked.told(model, asked.n)
        images = await served.batcher.draw(z, labels, asked.truncation)
        about = service.about(name, served, asked.seed)
        names = None if labels is None else model.names_of(labels)
        marks = [model.mark(service.provenance, asked.seed, label) for label in names or [""] * asked.n]
        if form in ("zip", "json"):
            if form == "zip" and names is not None:
                clean = dict(zip(model.facts.classes, files.clean_names(model.facts.classes), strict=True))
                names = [clean[label] for label in names] if clean else None  # captions name no folders
            encode = pictures.archive if form == "zip" else partial(pictures.as_json, about=about)
            body = await service.encoded(encode, images, names, marks)
        elif form == "png" and asked.n == 1:
            body = await service.encoded(pictures.png, images[0], marks[0])
        else:
            columns = None if asked.label is not None or asked.camera is not None else model.conditions.columns(asked.n)
            mark = marks[0] if len({*marks}) == 1 else model.mark(service.provenance, asked.seed)
            body = await service.encoded(pictures.sheet, images, columns, mark)
        return Response(body, headers={CHECKPOINT: served.checkpoint}, media_type=pictures.SENT[form])

    _add_translate(app, service, made)


def _add_translate(app: FastAPI, service: Service, made: Mapping[int, Any]) -> None:
    schema = Translate.model_json_schema()
    schema["properties"] |= UPLOAD
    upload = {"content": {"multipart/form-data": {"schema": schema | {"required": ["image"]}}}, "required": True}

    @app.post(
        "/translate",
        summary="Translate an uploaded image",
        responses=made,  # type: ignore[arg-type]
        response_class=Response,
        openapi_extra={"requestBody": upload},
    )
    async def translate(request: Request) -> Response:
        fields, uploads = await _form(request, service.settings.max_bytes)
        asked = Translate.model_validate(fields)
        _, served = service.of(asked.model, TRANSLATE)
        form = asked.format or _accepted(request, ("png", "jpeg"))
        if "image" not in uploads:
            raise ConfigError("image is not given: upload a file of that name, as curl does by -F image=@photo.jpg")
        label = None if asked.label is None else _number(served.model, asked.label)
        served.model.require(asked.to, uploads.get("mask"), label)
        await service.encoded(_require_taken, uploads, service.settings.max_pixels)  # before it waits among others
        photo, made = await served.batcher.alone(partial(_translated, served.model, uploads, asked, label, service))
        mark = served.model.mark(service.provenance, asked.seed, served.model.direction(asked.to))
        body = await service.encoded(photos.encoded, made, form.upper(), photo, mark)
        return Response(body, headers={CHECKPOINT: served.checkpoint}, media_type=pictures.SENT[form])


def _require_taken(uploads: Mapping[str, bytes], max_pixels: int) -> None:
    """Raise ConfigError unless uploads are images that the service decodes."""
    for key, raw in uploads.items():
        try:
            pictures.require_taken(raw, max_pixels)
        except UnreadableImageError as error:
            raise ConfigError(f"{key}: {error}") from None


def _translated(
    model: Generates, uploads: Mapping[str, bytes], asked: Translate, label: int | None, service: Service
) -> tuple[Photo, Tensor]:
    """Read and translate an upload, and return both. Raises ConfigError and UnreadableImageError."""
    photo = model.read(uploads["image"])
    mask = None
    if "mask" in uploads:
        try:
            mask = read_mask(uploads["mask"]).pixels
        except UnreadableImageError as error:
            raise ConfigError(f"mask: {error}") from None
    return photo, model.translated(photo.pixels, asked.to, mask, label, asked.seed, service.tile, service.ema)


def _number(model: Generates, asked: str) -> int:
    """Return the label of a class given its name or, as a form has only text, its number in digits."""
    named = asked in model.facts.classes or not (asked.isdecimal() and len(asked) < 10)
    return model.class_number(asked if named else int(asked))


class _InMemory(MultiPartParser):
    """Reads a form without writing any file; its size is limited already."""

    spool_max_size = 0  # never


async def _form(request: Request, most: int) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the fields of a form, and its files `image` and `mask`. Raises ConfigError if it is another."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ConfigError("multipart/form-data is needed, as curl sends by -F image=@photo.jpg")
    fields: dict[str, str] = {}
    uploads: dict[str, bytes] = {}
    try:
        parts = await _InMemory(
            request.headers, request.stream(), max_files=2, max_fields=len(Translate.model_fields), max_part_size=1000
        ).parse()
    except MultiPartException as error:
        raise ConfigError(f"the form cannot be read ({error.message})") from None
    for key, value in parts.multi_items():
        if key in fields or key in uploads:
            raise ConfigError(f"{bounds.shown(key)} is given twice")
        if isinstance(value, UploadFile) != (key in UPLOAD):
            what = "a file" if key in UPLOAD else "no file"
            raise ConfigError(f"{bounds.shown(key)}: {what} is needed; files are {', '.join(UPLOAD)}")
        if isinstance(value, UploadFile):
            uploads[key] = value.file.read()
        else:
            fields[key] = value
    return fields, uploads


def _accepted(request: Request, forms: tuple[str, ...]) -> str:
    """Return the form whose media type the header Accept likes best, by default the first. Raises Refused."""
    found: list[tuple[float, str]] = []
    for part in request.headers.get("accept", "*/*").split(",")[:20]:
        kind, *more = (word.strip() for word in part.split(";"))
        weight = next((word[2:] for word in more if word.startswith("q=")), "1")
        try:
            quality = float(weight)
        except ValueError:
            quality = 0.0
        fitting = [
            form for form in forms if kind in ("*/*", "image/*" if form == forms[0] else "", pictures.SENT[form])
        ]
        if fitting and math.isfinite(quality) and quality > 0:
            found.append((-quality, fitting[0]))
    if not found:
        raise Refused(406, f"Accept: one of {', '.join(pictures.SENT[form] for form in forms)} is sent")
    return min(found, key=lambda pair: pair[0])[1]


def _handle_errors(app: FastAPI) -> None:
    """Answer every error in one line."""

    @app.exception_handler(ConfigError)
    async def mistaken(request: Request, error: ConfigError) -> Response:
        return fault(422, "; ".join(error.faults))

    @app.exception_handler(UnreadableImageError)
    async def unreadable(request: Request, error: UnreadableImageError) -> Response:
        return fault(422, f"image: {error}")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return fault(422, _explained(error.errors()))

    @app.exception_handler(ValidationError)
    async def wrong(request: Request, error: ValidationError) -> Response:
        return fault(422, _explained(error.errors()))

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        raise busy(error.seconds, "too much is waiting already")

    @app.exception_handler(MemoryError)
    @app.exception_handler(torch.OutOfMemoryError)
    async def out_of_memory(request: Request, error: Exception) -> Response:
        raise busy(1, "the memory of this machine does not suffice at the moment")

    @app.exception_handler(404)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return fault(404, "there is nothing here; GET /docs tells what there is")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return fault(error.status_code, str(error.detail), error.headers)


def _explained(errors: Any) -> str:
    """Return in one line what is wrong with the values of a request."""
    lines = []
    for error in errors[:3]:
        key = ".".join(str(part) for part in error["loc"] if part != "body" and isinstance(part, str))
        given = error.get("input")
        value = f"={bounds.shown(given)}" if key and isinstance(given, str | int | float) else ""
        message = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "nothing reads this key"
        lines.append(f"{bounds.shown(key)}{value}: {message}" if key else f"the body: {message}")
    return "; ".join(lines)
