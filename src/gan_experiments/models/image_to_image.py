"""Translation, sample sheets and evaluation shared by all models that turn images into images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.conditions import number_of
from gan_experiments.contracts import BATCH_KEYS, Batch, ConfigError
from gan_experiments.data.batches import HeldOut
from gan_experiments.data.decode import Shape
from gan_experiments.data.resize import imresize
from gan_experiments.data.tiles import mirrored
from gan_experiments.engine.module import evaluating
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.game import Game
from gan_experiments.models.technique import Technique

LABEL = "label"
"""The direction in which each image becomes what its own label says, of models with numbered directions."""


@dataclass(frozen=True)
class Direction:
    """One of the translations that a model can make.

    `reads` is the batch key of the images to translate. `truth` is the batch key of their ground truth; empty if the
    data have none. `number` is the label of the class that images are translated into; None if there is none. With a
    label, the direction has the class's name if the data have names. `also` are further batch keys that are read.
    """

    reads: str
    truth: str = ""
    number: int | None = None
    also: tuple[str, ...] = ()


def direction_of(directions: Mapping[str, Direction], to: str) -> str:
    """Return the name of a direction given its name, or else its class's number; the first for an empty `to`.

    Raises ConfigError if there is no such direction.
    """
    if to in directions and directions[to].number is not None:
        number_of(to, [name for name, way in directions.items() if way.number is not None], f"to={to}")
    if to in directions or not to:
        return to or next(iter(directions))
    numbered = {str(way.number): name for name, way in directions.items() if way.number is not None}
    if to not in numbered:
        raise ConfigError(f"to={to}: this model knows no such direction; type to={' or to='.join(directions)}")
    return numbered[to]


class ImageToImage(Game):
    """Base of the models that turn images into others: translators, super-resolution, inpainting.

    A variant writes its `phases`, its `comparisons`, its `directions` and `translate_batch`.

    Translated images have sides `scale` times as long. `translate_batch` gets images whose sides are multiples of
    `multiple` and `smallest` pixels or longer. If `only` is set, their sides are `only` pixels, or those of the pair
    that it is. Images of other sizes are mirrored beyond their right and lower borders, and the result is cropped.
    """

    directions: Mapping[str, Direction]
    """By the name that a user types; the first is the default."""
    scale: int = 1
    multiple: int = 1
    smallest: int = 1
    only: Shape | None = None
    shows_inputs = True
    offers = frozenset({"discriminator", "nothing_beside"})

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        loss: AdversarialLoss | None = None,
        techniques: Mapping[str, Technique] | None = None,
        **engine: Any,
    ) -> None:
        super().__init__(networks, **engine)
        if loss is not None:
            self.loss = loss
        self.join_techniques(techniques)

    def logits(self, discriminator: nn.Module, images: Tensor, given: Tensor | None = None) -> Any:
        """Return a discriminator's logits for images [n, C, H, W], with the channels of `given` in front of theirs."""
        return self.logits_and_features(discriminator, images, given)[0]

    def logits_and_features(
        self, discriminator: Any, images: Tensor, given: Tensor | None = None
    ) -> tuple[Any, Tensor | None]:
        """Return the same logits, and the features that they were computed from; None if none are exposed."""
        seen = self.shown(images)
        if given is not None:
            seen = torch.cat([given, seen], dim=1)
        if not hasattr(discriminator, "features"):
            return discriminator(seen), None
        features = discriminator.features(seen)
        return discriminator.head(features), features

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate images [n, C, H, W] -> [n, C', scale H, scale W] in the direction `to`.

        The networks are in evaluation mode. `draw(torch.randn, n, *shape)` draws all random numbers that the variant
        needs (a code z, pix2pix's dropout). If directions have numbers, `to` may also be LABEL: each image is
        translated in the direction of the number under "label", int64 [n].
        """
        raise NotImplementedError(f"{type(self).__name__} turns nothing")

    def overview(self, image: Tensor) -> Batch:
        """Return what `translate_batch` needs to know of a whole image when it gets tiles of it: one row for each key.

        `image` is the whole image, float [1, C, H, W] in [-1, 1], perhaps downscaled.
        """
        return {}

    @torch.no_grad()
    def translate(self, batch: Batch, to: str = "", ema: bool = True, seed: int = 0) -> Tensor:
        """Translate the images of a batch in the direction `to`, by default the first; the results are in [-1, 1].

        Random numbers depend on the seed alone. Raises ConfigError for an unknown direction, and if the batch lacks a
        key that `translate_batch` reads.
        """
        to = self.direction(to)
        dtype = next(self.parameters()).dtype
        height, width = batch[self.directions[to].reads].shape[-2:]
        allowed = (self.only, self.only) if self.only else (self.multiple, self.smallest)
        given = _Given()
        for key, rows in batch.items():
            here = rows.to(self.device, dtype if rows.is_floating_point() else None)
            given[key] = mirrored(here, *allowed) if here.ndim == 4 else here
        with evaluating(*(self.network(name, ema) for name in self.network_names)):
            images = self.translate_batch(
                given, to, ema, partial(_draw, torch.Generator().manual_seed(seed), self.device)
            )
        return images[..., : self.scale * height, : self.scale * width].clamp(-1, 1)  # some end without a tanh

    def direction(self, to: str) -> str:
        """Return the name of a direction given its name, or else its class's number; the default's for an empty `to`.

        Raises ConfigError if there is no such direction.
        """
        return direction_of(self.directions, to)

    def name_classes(self, names: list[str]) -> None:
        """Store the data's class names, for directions too unless two of them would get the same name."""
        super().name_classes(names)
        of_number: dict[int | None, str] = dict(enumerate(names))
        named = {of_number.get(way.number, name): way for name, way in self.directions.items()}
        if len(named) == len(self.directions):
            self.directions = named

    def sampler(self, seed: int, ema: bool = True, to: str = "") -> Translations:
        """Return the translations in a direction, one by one and the same at each call, for scores of pairs."""
        return Translations(self, seed, ema, self.direction(to))

    def translated(
        self, data: Any, seed: int, ema: bool, split: str, batch_size: int, most: int, to: str = ""
    ) -> tuple[TranslatedSet, Any]:
        """Return translations of up to `most` held-out unpaired images, and the real images of the target domain.

        They are for scores of sets of images, `batch_size` at a time. The real images are of `split`. Raises
        ConfigError if the data have no such images.
        """
        to = self.direction(to)
        way = self.directions[to]
        source, real = data.unpaired(way.reads, way.number, split)
        if source.number < 2:
            raise ConfigError(
                f"to={to}: the split {source.split} holds 1 image to translate, and scores need two: give it two or"
                " more, or type metrics=none"
            )
        return TranslatedSet(self, source, to, ema, seed, batch_size, min(most, source.number)), real

    def pair(self, batch: Batch, to: str = "", ema: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the translations of a batch and their ground truth, both [n, C, H, W].

        Raises ConfigError if the direction has no ground truth.
        """
        to = self.direction(to)
        if not self.directions[to].truth:
            raise ConfigError(
                f"to={to}: no image is known that should come of another; metrics=paired has nothing to compare"
            )
        return self.translate(batch, to, ema, seed), batch[self.directions[to].truth].to(self.device)

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """Return what every sample sheet of a run is made from: the same rows of the data."""
        return {key: fixed[key][:n] for key in self.needs}

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, k, C, H, W]: input, output, and the ground truth if there is one."""
        direction = self.directions[self.direction("")]
        shown = [inputs[direction.reads], self.translate(inputs, ema=ema)]
        if direction.truth:
            shown.append(inputs[direction.truth])
        return side_by_side(*(images.to(self.device) for images in shown))


@dataclass(frozen=True)
class Translations:
    """Translations of held-out images in the direction `to`; each depends on its item and the seed alone."""

    model: ImageToImage
    seed: int
    ema: bool
    to: str = ""

    @property
    def direction(self) -> str:
        """The direction's name."""
        return self.model.direction(self.to)

    @property
    def changes(self) -> bool:
        """Whether the inputs are other images than their ground truth."""
        direction = self.model.directions[self.direction]
        return direction.reads != direction.truth

    def pair(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Return the translation of item `number`, alone in its batch, and its ground truth, both [1, C, H, W]."""
        return self.model.pair(batch, self.to, self.ema, seed_of(self.seed, number))

    def as_it_is(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Return the input, enlarged by bicubic interpolation if the model enlarges, and its ground truth."""
        direction = self.model.directions[self.direction]
        image, truth = (batch[key].to(self.model.device) for key in (direction.reads, direction.truth))
        if self.model.scale > 1:
            image = imresize(image, self.model.scale)
        return image.expand(-1, truth.shape[1], -1, -1), truth


@dataclass(frozen=True)
class TranslatedSet:
    """Translations of `number` images, evenly spread over `source`, in the form that an evaluator calls for.

    Each image is alone in its batch, so that the scores are the same for any `batch_size` and number of ranks.
    """

    model: ImageToImage
    source: HeldOut
    to: str
    ema: bool
    seed: int
    batch_size: int
    number: int

    def __call__(self, index: int, n: int) -> Tensor:
        """Translate the images from index * batch_size on: [n, C, H, W] in [-1, 1]."""
        places = range(index * self.batch_size, index * self.batch_size + n)
        rows = [place * self.source.number // self.number for place in places]
        return torch.cat(
            [self.model.translate(self.source.batch(row), self.to, self.ema, seed_of(self.seed, row)) for row in rows]
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader of the scores must know of the images that were translated."""
        return {
            "direction": self.to,
            "source_split": self.source.split,
            "source_number": self.source.number,
            "source_fingerprint": self.source.fingerprint,
        }


def seed_of(seed: int, number: int) -> int:
    """Return the seed of the random numbers in the translation of item `number`."""
    return (seed * 0x9E3779B1 + number) % 2**32


class _Given(dict[str, Tensor]):
    """A batch that raises ConfigError for a missing key."""

    def __missing__(self, key: str) -> Tensor:
        raise ConfigError(f"this model reads {key} too ({BATCH_KEYS.get(key)}): type {key}=...")


def side_by_side(*images: Tensor) -> Tensor:
    """Stack k times [n, C, H, W] -> [n, k, C, H, W].

    Smaller images are enlarged by repeating pixels, and grey ones get as many channels as the others.
    """
    channels = max(rows.shape[1] for rows in images)
    size = max(tuple(rows.shape[2:]) for rows in images)
    return torch.stack([F.interpolate(rows, size).expand(-1, channels, -1, -1) for rows in images], dim=1)


def _draw(
    generator: torch.Generator, device: torch.device, sampler: Callable[..., Tensor], n: int, *shape: int
) -> Tensor:
    return sampler((n, *shape), generator=generator).to(device)
