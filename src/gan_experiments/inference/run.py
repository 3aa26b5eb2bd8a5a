"""A trained run as something that draws samples or translates images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_experiments.assembly import trained
from gan_experiments.bounds import sides
from gan_experiments.conditions import Conditions
from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Range
from gan_experiments.drawing import to_uint8
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.inference import tiling
from gan_experiments.inference.contract import SAMPLE, TILE, TRANSLATE, Facts, Generates
from gan_experiments.kinds import Bands, Image
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.models.noise_to_image import NoiseToImage

CHUNK = 64
"""Samples that are generated at a time."""


class Run(trained.TrainedRun, Generates):
    """A trained model, its config and its folder, which draws samples or translates images; see `Generates`.

    `file` is the checkpoint that the model was read from, with `stat` as that was then.
    """

    def __init__(
        self,
        model: AdversarialModule,
        cfg: DictConfig,
        folder: Path,
        file: Path | None = None,
        stat: os.stat_result | None = None,
    ) -> None:
        super().__init__(model, cfg, folder, file, stat)

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def facts(self) -> Facts:
        """What a user has to know of the model."""
        model: Any = self.model
        if isinstance(model, NoiseToImage):
            channels, *resolution = model.kind.shape(self.cfg.data)
            return Facts(
                SAMPLE,
                model.model_name,
                model.kind.name,
                model.images_seen,
                channels,
                tuple(resolution),
                self.model.values,
                tuple(model.class_names or map(str, range(model.classes))) if model.classes else (),
                tuple(model.conditions.counts) if model.classes else (),
                model.latent_dim,
                "w" if model.styled else "z",
            )
        reads_label = any("label" in way.also for way in model.directions.values())
        named = [name for name, way in model.directions.items() if way.number is not None]
        data = self.cfg.data
        bands = data.get("bands") or data.channels not in (1, 3, 4)
        return Facts(
            TRANSLATE,
            model.model_name,
            (Bands if bands else Image).name,
            model.images_seen,
            data.channels,
            sides(model.only) if model.only else None,
            _values(data.get("range"), self.model),
            tuple(named) if reads_label else (),
            directions=model.directions,
            scale=model.scale,
        )

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on."""
        return self.model.conditions

    def draw(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
    ) -> Tensor:
        """Generate samples, see `Generates`."""
        self.require_task(SAMPLE)
        model = self.model
        assert isinstance(model, NoiseToImage), "require_task has looked"
        if model.classes and labels is None:
            raise ConfigError("this generator has classes: give their labels, int64 [n]")
        exact = exact or not isinstance(model.kind, Image)
        parts = []
        for start in range(0, max(len(z), 1), CHUNK):
            rows = slice(start, start + CHUNK)
            images = model.sample(z[rows], ema, None if labels is None else labels[rows], truncation)
            parts.append((images.float() if exact else to_uint8(images)).cpu())
        return torch.cat(parts)

    def translated(
        self,
        image: Tensor,
        to: str = "",
        mask: Tensor | None = None,
        label: int | None = None,
        seed: int = 0,
        tile: int | None = TILE,
        ema: bool = True,
        told: str = "",
    ) -> Tensor:
        """Translate one image, see `Generates`."""
        self.require(to, mask, label)
        assert isinstance(self.model, ImageToImage), "require has looked"
        given = {} if label is None else {"label": torch.tensor([label])}
        return tiling.translated(self.model, image, mask, given, self.direction(to), seed, ema, tile, told)


def open_run(given: str, device: str = "auto", trusted: Any = None) -> Run:
    """Return a run folder's or a checkpoint's model, see `trained.open_run`."""
    return of(trained.open_run(given, device, trusted))


def of(run: trained.TrainedRun) -> Run:
    """Return a trained run as one that draws or translates."""
    return Run(run.model, run.cfg, run.folder, run.file, run.stat)


def _values(given: Any, model: AdversarialModule) -> Range:
    """Return what the data's option `range` stands for."""
    if given == "auto":
        return model.values
    return given if given is None or isinstance(given, str) else (given[0], given[1])
