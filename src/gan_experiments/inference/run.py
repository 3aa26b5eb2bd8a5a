"""A trained run as something that draws samples or translates images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from gan_experiments.assembly import build, trained
from gan_experiments.bounds import sides
from gan_experiments.conditions import Cameras, Captions, Conditions
from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Range
from gan_experiments.drawing import to_uint8
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.inference import tiling
from gan_experiments.inference.contract import SAMPLE, TILE, TRANSLATE, Facts, Generates
from gan_experiments.kinds import Bands, Image, Kind
from gan_experiments.metrics.evaluator import Score
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.models.noise_to_image import NoiseToImage

CHUNK = 64
"""Samples that are generated at a time."""

CAMERAS = 24
"""Cameras of the data that `Facts` tells of, and that an exported file draws from."""


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
        self._facts: Facts | None = None

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def facts(self) -> Facts:
        """What a user has to know of the model."""
        if self._facts is None or self._facts.images_seen != self.model.images_seen:  # trained further
            self._facts = self._found()
        return self._facts

    def _found(self) -> Facts:
        model: Any = self.model
        trained.require_images(model, self.folder)
        if isinstance(model, NoiseToImage):
            known = model.conditions
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
                words=known.vocabulary.words if isinstance(known, Captions) else (),
                caption_length=known.vocabulary.length if isinstance(known, Captions) else 0,
                cameras=tuple(map(tuple, known.rows[known.saved_rows(CAMERAS)].tolist()))
                if isinstance(known, Cameras)
                else (),
                rate=model.kind.rate,
            )
        reads_label = any("label" in way.also for way in model.directions.values())
        named = [name for name, way in model.directions.items() if way.number is not None]
        data = self.cfg.data
        bands = data.get("bands") or data.channels not in (1, 3, 4)
        return Facts(
            TRANSLATE,
            model.model_name,
            (Bands if bands else Image).name if isinstance(model.kind, Image) else model.kind.name,
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

    @property
    def kind(self) -> Kind:
        """The kind of samples that the model makes."""
        return self.model.kind

    @property
    def config(self) -> dict[str, Any]:
        """The config that the model was trained with, in plain types."""
        plain: dict[str, Any] = OmegaConf.to_container(self.cfg, resolve=True)  # type: ignore[assignment]
        return plain

    @property
    def scores(self) -> dict[str, Score]:
        """The last scores that were measured in the training, by name; empty if there are none."""
        from gan_experiments.comparison import read

        last = read.read(self.folder).last if (self.folder / "config.yaml").is_file() else None
        found = last.scores if last else {}
        return {
            name: Score(
                name, one["value"], one["std"], one["passport"], tuple(one["interval"]) if "interval" in one else None
            )
            for name, one in found.items()
        }

    @property
    def generator(self) -> nn.Module:
        """The generator alone, with averaged weights where there are any: see `network`."""
        names = [name for name in self.model.network_names if name.startswith("generator")]
        if len(names) != 1:
            raise ConfigError(f"this model has {' and '.join(names)}: run.network({names[0]!r}) gives one")
        return self.network(names[0])

    def network(self, name: str, ema: bool = True) -> nn.Module:
        """Return a network of the model as a plain module of its own, which shares nothing with the run.

        Spectral norm is folded into its weights, so that it can be saved and taken apart. It is in evaluation mode,
        contiguous, without gradients, and on the run's device. With `ema` it has the averaged weights if there are any.
        Raises ConfigError if the model has no such network.
        """
        if name not in self.model.network_names:
            raise ConfigError(f"network {name!r}: this model has {', '.join(self.model.network_names)}")
        source = self.model.network(name, ema)
        told: dict[str, Any] = {}
        self.model.on_save_checkpoint(told)
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn in vain
            other = build.build_model(self.cfg)  # because copies of parametrised layers share their classes
        other.on_load_checkpoint(told)
        fresh: nn.Module = getattr(other, name).to(next(source.parameters()))
        fresh.load_state_dict(
            {
                key: value.contiguous() if isinstance(value, Tensor) else value
                for key, value in source.state_dict().items()
            }
        )
        fresh.to(memory_format=torch.contiguous_format).requires_grad_(False).eval()
        normalised: list[Any] = [layer for layer in fresh.modules() if is_parametrized(layer)]
        for layer in normalised:
            for parameter in [*layer.parametrizations]:
                remove_parametrizations(layer, parameter)
        return fresh.requires_grad_(False)

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
        if model.conditional and labels is None:
            needed = f"the {model.condition} of each sample, int64 [n, ...]"
            raise ConfigError(f"this generator needs {needed}; see labels()")
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


def open_run(given: str, device: str = "auto", trusted: Any = None, compiled: bool = False) -> Run:
    """Return a run folder's or a checkpoint's model, see `trained.open_run`."""
    return of(trained.open_run(given, device, trusted, compiled))


def after(parts: build.Run) -> Run:
    """Return the model of a training that is over; its checkpoint is the last one, if any was written."""
    file = parts.folder / "checkpoints" / "last.ckpt"
    found = (file, file.stat()) if file.is_file() else (None, None)
    return Run(parts.model.eval(), parts.cfg, parts.folder, *found)


def of(run: trained.TrainedRun) -> Run:
    """Return a trained run as one that draws or translates."""
    return Run(run.model, run.cfg, run.folder, run.file, run.stat)


def _values(given: Any, model: AdversarialModule) -> Range:
    """Return what the data's option `range` stands for."""
    if given == "auto":
        return model.values
    return given if given is None or isinstance(given, str) else (given[0], given[1])


def _some(cameras: Cameras) -> tuple[tuple[float, ...], ...]:
    """Return at most CAMERAS of the cameras in plain types."""
    return tuple(map(tuple, cameras.rows[cameras.saved_rows(CAMERAS)].tolist()))
