"""What every variant that turns images into images does with what it has learnt: translate, show it, be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import BATCH_KEYS, Batch, ConfigError
from gan_experiments.data.batches import HeldOut
from gan_experiments.data.resize import imresize
from gan_experiments.data.tiles import mirrored
from gan_experiments.engine.module import evaluating, number_of
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.game import Game
from gan_experiments.models.technique import Technique


@dataclass(frozen=True)
class Direction:
    """One of the things that images can be turned into.

    `reads` is the key of a batch whose images are turned; `truth`, where the data have it, the one of the images that
    should come of them. `number` is that of the class that they are turned into, where they are turned into a class:
    the direction then bears the class's name, where the data have names. `also` are the keys that are read beside it.
    """

    reads: str
    truth: str = ""
    number: int | None = None
    also: tuple[str, ...] = ()


class ImageToImage(Game):
    """Base of the models that turn images into others: translators, super-resolution, inpainting.

    A variant writes its `phases`, its `comparisons`, its `directions` and `translate_batch`.

    A translation makes images of `scale` times the side. `translate_batch` gets sides that `multiple` divides, of
    `smallest` pixels or more, or the one side `only` where there is one. Images of other sizes are mirrored beyond
    their right and lower borders, and the result is cut back.
    """

    directions: Mapping[str, Direction]
    """By the name that a person types for them; the first is the usual one."""
    scale: int = 1
    multiple: int = 1
    smallest: int = 1
    only: int | None = None
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
        """What a discriminator says of images [n, C, H, W], and of what is `given` beside them in its channels."""
        return self.logits_and_features(discriminator, images, given)[0]

    def logits_and_features(
        self, discriminator: Any, images: Tensor, given: Tensor | None = None
    ) -> tuple[Any, Tensor | None]:
        """The same logits, and the features that they were made from where the discriminator shows any."""
        seen = self.shown(images)
        if given is not None:
            seen = torch.cat([given, seen], dim=1)
        if not hasattr(discriminator, "features"):
            return discriminator(seen), None
        features = discriminator.features(seen)
        return discriminator.head(features), features

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Images [n, C, H, W] -> [n, C', scale H, scale W] in the direction `to`; the networks are in evaluation mode.

        `draw(torch.randn, n, *shape)` makes whatever the variant leaves to chance (a code z, pix2pix's dropout).
        """
        raise NotImplementedError(f"{type(self).__name__} turns nothing")

    def overview(self, image: Tensor) -> Batch:
        """Return what `translate_batch` is to know of a whole image when it gets tiles of it: one row for each key.

        `image` is the whole, float [1, C, H, W] in [-1, 1], perhaps made smaller.
        """
        return {}

    @torch.no_grad()
    def translate(self, batch: Batch, to: str = "", ema: bool = True, seed: int = 0) -> Tensor:
        """The images of a batch in the direction `to`, the usual one unless it says otherwise, in [-1, 1].

        What is left to chance depends on the seed alone. Raises ConfigError for a direction that there is none of, and
        where a key is missing that `translate_batch` reads.
        """
        to = self.direction(to)
        dtype = next(self.parameters()).dtype
        height, width = batch[self.directions[to].reads].shape[-2:]
        given = _Given()
        for key, rows in batch.items():
            here = rows.to(self.device, dtype if rows.is_floating_point() else None)
            given[key] = mirrored(here, self.multiple, self.smallest) if here.ndim == 4 else here
        with evaluating(*(self.network(name, ema) for name in self.network_names)):
            images = self.translate_batch(
                given, to, ema, partial(_draw, torch.Generator().manual_seed(seed), self.device)
            )
        return images[..., : self.scale * height, : self.scale * width].clamp(-1, 1)  # some end without a tanh

    def direction(self, to: str) -> str:
        """The name of a direction from it, or else from its class's number; the usual one's for none.

        Raises ConfigError where there is none of it.
        """
        if to in self.directions and self.directions[to].number is not None:
            number_of(to, [name for name, way in self.directions.items() if way.number is not None], f"to={to}")
        if to in self.directions or not to:
            return to or next(iter(self.directions))
        numbered = {str(way.number): name for name, way in self.directions.items() if way.number is not None}
        if to not in numbered:
            raise ConfigError(f"to={to}: this model knows no such direction; type to={' or to='.join(self.directions)}")
        return numbered[to]

    def name_classes(self, names: list[str]) -> None:
        """Take up the names of the data's classes, for directions too unless two would be called the same."""
        super().name_classes(names)
        of_number: dict[int | None, str] = dict(enumerate(names))
        named = {of_number.get(way.number, name): way for name, way in self.directions.items()}
        if len(named) == len(self.directions):
            self.directions = named

    def sampler(self, seed: int, ema: bool = True, to: str = "") -> Translations:
        """Translations in a direction, one by one and the same at each call: for scores of pairs."""
        return Translations(self, seed, ema, self.direction(to))

    def translated(
        self, data: Any, seed: int, ema: bool, split: str, batch_size: int, most: int, to: str = ""
    ) -> tuple[TranslatedSet, Any]:
        """Translations of `most` or fewer held-out images without partners, and the real images of the target domain.

        For scores of sets of images, `batch_size` at a time; the real ones are of `split`. Raises ConfigError where the
        data have no such images.
        """
        to = self.direction(to)
        way = self.directions[to]
        source, real = data.unpaired(way.reads, way.number, split)
        if source.number < 2:
            raise ConfigError(
                f"to={to}: the split {source.split} holds {source.number} images to translate: two or more are needed"
            )
        return TranslatedSet(self, source, to, ema, seed, batch_size, min(most, source.number)), real

    def pair(self, batch: Batch, to: str = "", ema: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The translations of a batch, and the images that should have come of them, both [n, C, H, W].

        Raises ConfigError where the data hold no such images.
        """
        to = self.direction(to)
        if not self.directions[to].truth:
            raise ConfigError(
                f"to={to}: no image is known that should come of another; metrics=paired has nothing to compare"
            )
        return self.translate(batch, to, ema, seed), batch[self.directions[to].truth].to(self.device)

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """What the sample sheets are made from at every interval: the same rows of the data."""
        return {key: fixed[key][:n] for key in self.needs}

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Images [n, k, C, H, W]: input, output, and what should have come of it where that is known."""
        direction = self.directions[self.direction("")]
        shown = [inputs[direction.reads], self.translate(inputs, ema=ema)]
        if direction.truth:
            shown.append(inputs[direction.truth])
        return side_by_side(*(images.to(self.device) for images in shown))


@dataclass(frozen=True)
class Translations:
    """Translates held-out images in the direction `to`, each the same whoever asks for it."""

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
        """Whether the images before translation are others than those that should come of them."""
        direction = self.model.directions[self.direction]
        return direction.reads != direction.truth

    def pair(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """The translation of item `number`, alone in its batch, and what it should be: both [1, C, H, W]."""
        return self.model.pair(batch, self.to, self.ema, seed_of(self.seed, number))

    def as_it_is(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """The image before translation, enlarged where that is (bicubic), and what it should be."""
        direction = self.model.directions[self.direction]
        image, truth = (batch[key].to(self.model.device) for key in (direction.reads, direction.truth))
        if self.model.scale > 1:
            image = imresize(image, self.model.scale)
        return image.expand(-1, truth.shape[1], -1, -1), truth


@dataclass(frozen=True)
class TranslatedSet:
    """Translations of `number` images of `source`, evenly spread, as an evaluator asks for them.

    Each is alone in its batch, so that the scores are the same for any `batch_size` and number of ranks.
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
        """What a reader of the scores must know of it."""
        return {
            "direction": self.to,
            "source_split": self.source.split,
            "source_number": self.source.number,
            "source_fingerprint": self.source.fingerprint,
        }


def seed_of(seed: int, number: int) -> int:
    """The seed of what is left to chance in the translation of item `number`."""
    return (seed * 0x9E3779B1 + number) % 2**32


class _Given(dict[str, Tensor]):
    """A batch that says what it lacks."""

    def __missing__(self, key: str) -> Tensor:
        raise ConfigError(f"this model reads {key} too ({BATCH_KEYS.get(key)}): type {key}=...")


def side_by_side(*images: Tensor) -> Tensor:
    """k times [n, C, H, W] -> [n, k, C, H, W], the smaller ones enlarged by whole pixels and the grey ones coloured."""
    channels = max(rows.shape[1] for rows in images)
    size = max(tuple(rows.shape[2:]) for rows in images)
    return torch.stack([F.interpolate(rows, size).expand(-1, channels, -1, -1) for rows in images], dim=1)


def _draw(
    generator: torch.Generator, device: torch.device, sampler: Callable[..., Tensor], n: int, *shape: int
) -> Tensor:
    return sampler((n, *shape), generator=generator).to(device)
