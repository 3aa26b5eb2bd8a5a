"""The page of `demo`: its files, and what it asks of a generator's latent space."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.drawing import to_uint8
from gan_experiments.exploration.directions import Directions
from gan_experiments.exploration.latent_space import RANGES, LatentSpace
from gan_experiments.exploration.mixing import mixed
from gan_experiments.exploration.sefa import affines, sefa
from gan_experiments.inference.contract import SAMPLE
from gan_experiments.inference.run import Run
from gan_experiments.models.latents import slerp
from gan_experiments.service import pictures
from gan_experiments.service.asked import Name, Seed, Told

if TYPE_CHECKING:
    from gan_experiments.service.app import Service

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
"""The page's files by their addresses."""
MOST = 10
"""Directions that are found without a file of `explore`, at most."""
HINT = "To edit along directions, find some by gan-experiments explore run=... what=attributes, and start demo again."

Strength = Annotated[float, Field(ge=-20, le=20)]


class Edit(Told):
    """Which image is to be edited, and how.

    It is row `row` of the `n` that POST /sample draws of the same seed, label or camera, and truncation.
    """

    n: int = Field(1, ge=1, le=4096, description="images that were drawn")
    row: int = Field(0, ge=0, le=4095, description="which of them")
    file: Name | None = Field(None, description="one of the model's directions, see GET /latents")
    strengths: dict[Name, Strength] = Field(
        {}, max_length=64, description="how far along each direction of it, in standard deviations"
    )
    other: Seed = Field(0, description="the seed of a second image")
    share: float = Field(0.0, ge=0, le=1, description="how far on the way to the second image")
    styles: Name | None = Field(None, description="the styles that are taken from the second image: coarse, ...")


class Latents:
    """The latent space of a run, with the directions that are known of it. Computes when it is made."""

    def __init__(self, run: Run, ema: bool) -> None:
        self.run = run
        self.space = LatentSpace(run.model, ema)  # type: ignore[arg-type]
        self.directions = self._found() or self._computed()

    def told(self) -> dict[str, Any]:
        """Return what can be edited, in plain types."""
        ranges = [word for word in RANGES if self._has(word)] if self.space.styled else []
        return {
            "directions": {name: one.names for name, one in self.directions.items()},
            "styles": ranges,
            "hint": "" if self.directions else HINT,
        }

    def edited(self, asked: Edit) -> Tensor:
        """Return the edited image, uint8 [C, H, W]. Raises ConfigError if there is no such row, direction or style."""
        if asked.row >= asked.n:
            raise ConfigError(f"row={asked.row}: of n={asked.n} images the last one is row={asked.n - 1}")
        labels = asked.told(self.run, asked.n)
        label = None if labels is None else labels[asked.row, None].to(self.space.device)
        latent = self._latent(asked.seed, asked, label)
        if asked.share or asked.styles:
            other = self._latent(asked.other, asked, label)
            if asked.share:
                between = torch.lerp if self.space.styled else slerp
                latent = between(latent, other, asked.share)
            if asked.styles:
                self.space.require_styles("styles")
                latent = mixed(latent, other, *self.space.styles(asked.styles))
        for name, strength in asked.strengths.items():
            directions = self.directions.get(asked.file or "")
            if directions is None or name not in directions.names:
                raise ConfigError(f"strengths: there is no direction {name} in file={asked.file}; see GET /latents")
            latent = directions.moved(latent, directions.names.index(name), strength)
        return to_uint8(self.space.draw(latent, label)[0])

    def _latent(self, seed: int, asked: Edit, label: Tensor | None) -> Tensor:
        space = self.space
        z = self.run.noise(asked.n, seed, asked.truncation)[asked.row, None].to(space.device, space.dtype)
        return space.placed(space.mapped(z, label), asked.truncation) if space.styled else z

    def _has(self, word: str) -> bool:
        try:
            return bool(self.space.styles(word))
        except ConfigError:
            return False

    def _found(self) -> dict[str, Directions]:
        """Return the directions that `explore` has left in the run folder, the newest of each name."""
        found = {}
        files = (self.run.folder / "explored").rglob("*.pt")
        for path in sorted(files, key=lambda path: path.stat().st_mtime):
            try:
                directions = Directions.read(str(path))
                directions.require_fit(self.space, str(path))
            except ConfigError:  # projected images, or of a checkpoint of before
                continue
            found[path.stem] = directions
        return found

    def _computed(self) -> dict[str, Directions]:
        """Return the directions that need no samples: those that change the styles most, see `exploration.sefa`."""
        if not self.space.styled:
            return {}
        k = min(MOST, self.space.dim)
        vectors, _ = sefa([weight for _, weight in affines(self.space)], k)
        names = [str(1 + index) for index in range(k)]
        return {"sefa-all": Directions.of(self.space, vectors, names, self.space.styles("all"), along=False)}


def add(app: FastAPI, service: Service) -> None:
    """Add the page and its endpoints to a service."""
    known: dict[str, Latents] = {}

    def latents(name: str) -> Latents | None:
        """Return the latent space of a model; None if it has none that can be edited. For the thread of models."""
        model = service.models[name].model
        if name not in known and isinstance(model, Run) and model.facts.task == SAMPLE:
            known[name] = Latents(model, service.ema)
        return known.get(name)

    def all_told() -> dict[str, Any]:
        found = {name: latents(name) for name in service.models}
        return {name: one.told() for name, one in found.items() if one is not None}

    def page(file: str) -> Callable[[], Awaitable[Response]]:
        async def answer() -> Response:
            return FileResponse(PAGE / file)

        return answer

    for address, file in FILES.items():
        app.get(address, include_in_schema=False)(page(file))

    @app.get("/latents", summary="What can be edited: directions and styles, by model")
    async def editable() -> Response:
        some = next(iter(service.models.values()))
        return JSONResponse(await some.batcher.alone(all_told))

    @app.post("/edit", summary="Edit a drawn image", response_class=Response)
    async def edit(asked: Edit) -> Response:
        name, served = service.of(asked.model, SAMPLE)

        def work() -> Tensor:
            space = latents(name)
            if space is None:
                raise ConfigError(f"model={name}: only trained runs can be edited, not exported files")
            return space.edited(asked)

        image = await served.batcher.alone(work)
        labels = None if asked.label is None and asked.camera is None else asked.told(served.model, 1)
        label = "" if labels is None else served.model.names_of(labels)[0]
        mark = served.model.mark(service.provenance, asked.seed, label)
        body = await service.encoded(pictures.png, image, mark)
        return Response(body, media_type=pictures.SENT["png"])
