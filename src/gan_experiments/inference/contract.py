"""The contract of whatever makes images of noise or of other images: a trained run, or a file exported from one."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from gan_experiments.captions import PADDING, Vocabulary
from gan_experiments.conditions import Cameras, Captions, Classes, Conditions, class_number
from gan_experiments.contracts import BATCH_KEYS, LAWS, ConfigError
from gan_experiments.data.decode import Range, Reading
from gan_experiments.drawing import to_uint8
from gan_experiments.inference import pictures
from gan_experiments.kinds import IMAGE, Bands, Image, Kind, named
from gan_experiments.models import latents, scenes
from gan_experiments.models.image_to_image import Direction, direction_of
from gan_experiments.provenance import Mark

if TYPE_CHECKING:
    from gan_experiments.data.photos import Photo

SAMPLE, TRANSLATE = "sample", "translate"
TILE = 512
"""The usual side of a tile in pixels."""


@dataclass(frozen=True)
class Facts:
    """What a user has to know of a model. `dataclasses.asdict` gives plain types.

    `task` is "sample" or "translate", `model` the name of what was trained, as StyleGAN2. `kind` is the `name` of a
    kind of samples, as `kinds.Image.name`. `channels` are those of samples, or of the images to translate. `resolution`
    is height and width of samples, or those that a translator is bound to; None for any. `values` are black and white
    of files of more than 8 bits (see `decode.Range`).

    Of models that draw from noise: `latent_dim` of z, `classes` by their names (their numbers if they have none) and
    their `counts` in the data, empty if unknown. `truncation` is what a truncation acts on: "z", or "w" by ψ.
    Of text-to-image models, `words` are the vocabulary and `caption_length` is the number of tokens of a caption.
    Of models that are told cameras, `cameras` are some of the data, 25 numbers each, see `gan_experiments.cameras`.

    Of translators: `directions` by name, the first is the usual one; results have sides `scale` times as long;
    `classes` are those of the key "label", if a direction reads it.

    Of samples with time: `rate` is the number of frames or samples in a second.
    """

    task: str
    model: str
    kind: str
    images_seen: int
    channels: int
    resolution: tuple[int, ...] | None = None
    values: Range = None
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    latent_dim: int = 0
    truncation: str = ""
    words: tuple[str, ...] = ()
    caption_length: int = 0
    cameras: tuple[tuple[float, ...], ...] = ()
    directions: Mapping[str, Direction] = field(default_factory=dict)
    scale: int = 1
    rate: float = 0.0


class Generates(ABC):
    """Something that draws samples from noise, or translates images, as `facts.task` says.

    Tensors come on the CPU. All errors of users are raised as ConfigError, in one line.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of its folder or file."""

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """The SHA-256 of the checkpoint's file, in hex; empty if that is unknown."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What a user has to know of it."""

    @abstractmethod
    def draw(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
    ) -> Tensor:
        """Generate samples [n, C, H, W] from z [n, latent_dim], and from labels int64 [n] if there are classes.

        They are uint8, or with `exact` float32 in [-1, 1]; samples that are no images are float32 as they are. A row
        depends on its own z and label alone, not on the others, up to rounding. `truncation` is ψ where w is truncated;
        where z is, it changes nothing here, see `noise`. Without `ema` the generator has the weights in training, not
        their average.
        """

    @abstractmethod
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
        """Translate one image [C, H, W] of any size -> [C', scale H, scale W]: uint8, or float in [-1, 1] as it is.

        `to` is one of the directions, by default the first; `mask` uint8 [1, H, W] is 255 in the hole. Images larger
        than `tile` pixels a side are cut into tiles; None takes each whole. With `told` a bar of that name shows the
        tiles done, on a terminal.
        """

    # ---------------------------------------------------------------- for people

    @overload
    def sample(
        self,
        n: int = 1,
        seed: int = 0,
        label: object = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
        *,
        labels: str | None = None,
        form: Literal["array"] = "array",
    ) -> np.ndarray: ...

    @overload
    def sample(
        self,
        n: int = 1,
        seed: int = 0,
        label: object = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
        *,
        labels: str | None = None,
        form: Literal["tensor"],
    ) -> Tensor: ...

    @overload
    def sample(
        self,
        n: int = 1,
        seed: int = 0,
        label: object = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
        *,
        labels: str | None = None,
        form: Literal["pil"],
    ) -> list[PIL.Image.Image]: ...

    def sample(
        self,
        n: int = 1,
        seed: int = 0,
        label: object = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
        *,
        labels: str | None = None,
        form: str = "array",
    ) -> Any:
        """Draw n samples, those of `gan-experiments sample` with the same seed.

        Args:
            n: how many.
            seed: of the noise.
            label: a class by its number or name, or n of them; without it, classes in turn. Of a text-to-image model a
                caption, or n of them; without it, captions of the data. Of one that is told cameras [yaw, pitch] in
                degrees; without it, cameras of the data.
            truncation: the largest |z|, or ψ where `facts.truncation` is "w".
            ema: whether the generator has its averaged weights.
            exact: whether samples are float32 in [-1, 1], not rounded to 8 bits.
            labels: "data" draws the classes in the proportions of the data, as the command does for `singles=true`
                where they are uneven; "uniform" with equal probabilities. By default they are those of its sheet.
            form: "array" for a NumPy array [n, H, W, C], "tensor" for a tensor [n, C, H, W], "pil" for a list of PIL
                images, which shows three of several bands. Points are arrays [n, 2], always floats.
        """
        n, seed = whole("n", n, 1), whole("seed", seed, 0)
        pictures.require_form(form)
        z, told = self.noise(n, seed, truncation), self.labels(n, seed, label, labels)
        return pictures.formed(self.draw(z, told, truncation, ema, exact), form, self.kind)

    def translate(
        self,
        images: Any,
        to: object = "",
        mask: Any = None,
        label: object = None,
        seed: int = 0,
        tile: int | None = TILE,
        ema: bool = True,
        *,
        range: tuple[float, float] | None = None,
        form: str | None = None,
    ) -> Any:
        """Translate an image of any size, or several.

        Args:
            images: a PIL image, an array [H, W, C] or [H, W], a tensor [C, H, W], or a path; several of them in a list,
                a batch of four dimensions, a folder or a pattern of files. Transparency is laid over white, unless the
                model was trained with it.
            to: one of `facts.directions`, or the number of a class; by default the first.
            mask: of models that fill in, True or white in the hole, of the same size and in any of these forms; a list
                of one for each image, or one for all.
            label: of models that read one, the class by its number or name.
            seed: of what the model leaves to chance; the same for every image.
            tile: larger images are cut into tiles of so many pixels a side; None takes each whole.
            ema: whether the networks have their averaged weights.
            range: the values that are black and white in arrays and tensors that are not uint8, as (0, 1) or (-1, 1).
            form: "array", "tensor" or "pil" for results of 8 bits in another form; see `sample`.

        Each result comes in the form of its image, with its type and range of values: an array for an array, a PIL
        image for a PIL image or a file, an array for a file of more than 8 bits. Several are a list or a batch, as the
        images were.
        """
        to, seed = self.direction("" if to is None else str(to)), whole("seed", seed, 0)
        pictures.require_form(form)
        if self.facts.task == TRANSLATE and not isinstance(self.kind, Image):
            raise ConfigError(
                f"this model makes {self.kind.name} of others, and this is of images; type gan-experiments translate"
                " run=... images=..."
            )
        if label is not None:
            label = self.class_number(label) if self.facts.classes else whole("label", label, 0)
        self.require(to, mask, label)
        tile = None if tile is None else whole("tile", tile, 1)
        given, joined = pictures.several(images)
        masks = [*mask] if isinstance(mask, list | tuple) else [mask] * len(given)
        if len(masks) != len(given):
            raise ConfigError(f"mask: {len(masks)} were given for {len(given)} images: give one, or one for each")
        bands, values = self.facts.kind == Bands.name, pictures.bounds(range) if range else self.facts.values
        made = []
        for index, (image, covered) in enumerate(zip(given, masks, strict=True)):
            try:
                one = pictures.Picture.of(image, self.facts.channels, values, bands, self.read)
                hole = None if covered is None else pictures.hole(covered)
                result = self.translated(one.pixels, to, hole, label, seed, tile, ema)
            except ConfigError as error:
                raise ConfigError(f"image {index} of {len(given)}: {error}" if len(given) > 1 else str(error)) from None
            made.append(one.back(result) if form is None else pictures.formed(to_uint8(result)[None], form, IMAGE)[0])
        return joined(made)

    @property
    def kind(self) -> Kind:
        """The kind of samples that it makes."""
        return named(self.facts.kind, self.facts.channels, self.facts.rate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.facts.model}, {self.facts.images_seen:,} images)"

    # ---------------------------------------------------------------- what samples are made of

    def noise(self, n: int, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Draw z float32 [n, latent_dim], the same for a seed on any machine; with `truncation` of z, truncated."""
        self.require_task(SAMPLE)
        return latents.noise(n, self.facts.latent_dim, seed, truncation, self.facts.truncation == "w")

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on."""
        if length := self.facts.caption_length:
            return Captions(torch.tensor([[PADDING] * length]), Vocabulary(self.facts.words, length))
        if self.facts.cameras:
            return Cameras(torch.tensor(self.facts.cameras))
        return Classes(len(self.facts.classes), self.facts.counts)

    def labels(
        self, n: int, seed: int = 0, asked: object = None, law: str | None = None, key: str = "label"
    ) -> Tensor | None:
        """Return the labels int64 [n] of n samples, or their cameras float [n, 25]; None without classes.

        `asked` is a class by its number or name, or n of them; of a text-to-image model captions, and the labels are
        their tokens int64 [n, length]; of one that is told cameras [yaw, pitch] in degrees, of all n. Without it
        classes are drawn by `law`, see `contracts.LAWS`; without that too they are 0, 1, 2, ... again and again if all
        of them fit into n. Raises ConfigError, which names the option `key`, if there is no such class.
        """
        self.require_task(SAMPLE)
        if law is not None and (law not in LAWS or asked is not None):
            needed = f"type labels={' or '.join(LAWS)}" if asked is None else f"{key}= says all; leave one out"
            raise ConfigError(f"labels={law}: {needed}")
        if asked is not None and isinstance(self.conditions, Cameras):
            return self.conditions.of_angles(*scenes.at_degrees(asked, key)).expand(n, -1)
        if asked is not None:
            several = not isinstance(asked, str) and isinstance(asked, Iterable)
            given: list[object] = [*asked] if several else [asked] * n  # type: ignore[misc]
            if len(given) != n:
                raise ConfigError(f"{key} has {len(given)} classes for {n} samples: give one, or one for each")
            if isinstance(self.conditions, Captions):
                return self.conditions.of_words([str(one) for one in given], key)
            plain = [_plain(one) for one in given]
            numbers: dict[str, int] = {}  # each is looked for once; by what they look like, as 1 and True are equal
            for one in plain:
                if repr(one) not in numbers:
                    numbers[repr(one)] = self.class_number(one, key)
            return torch.tensor([numbers[repr(one)] for one in plain])
        if law:
            if not (self.facts.classes or self.conditions.known):
                raise ConfigError(f"labels={law}: this generator knows no classes; leave it out")
            return self.conditions(n, seed, law)
        return self.conditions.of_sheet(n, seed)

    def names_of(self, labels: Tensor) -> list[str]:
        """Return the class of each of n samples by name, or its caption; `labels` are those of `labels()`."""
        classes = self.facts.classes
        return [classes[number] for number in labels.tolist()] if classes else self.conditions.titles(labels, 1)

    def class_number(self, asked: object, key: str = "label") -> int:
        """Return the label of a class given its name, or given its number if no class has that name."""
        return class_number(_plain(asked), len(self.facts.classes), self.facts.classes, key)

    # ---------------------------------------------------------------- what translations are made of

    def direction(self, to: str = "") -> str:
        """Return the name of a direction given its name, or else its class's number; the usual one for an empty `to`.

        Raises ConfigError if there is no such direction.
        """
        self.require_task(TRANSLATE)
        return direction_of(self.facts.directions, to)

    def require(self, to: str = "", mask: object = None, label: int | None = None) -> None:
        """Raise ConfigError if a direction reads something that is None, or does not read something that is not."""
        to = self.direction(to)
        also = self.facts.directions[to].also
        faults = []
        for key, given in (("mask", mask), ("label", label)):
            if given is None and key in also:
                faults.append(f"this model reads {key} too ({BATCH_KEYS[key]}): type {key}=...")
            elif given is not None and key not in also:
                shown = f"={given}" if isinstance(given, str | int) else ""
                faults.append(f"{key}{shown}: this model does not read it to make {to} of an image; leave it out")
        classes = len(self.facts.classes)
        if not faults and label is not None and not 0 <= label < classes:
            faults.append(f"label={label}: this model has {classes} classes; type label=0 to label={classes - 1}")
        if faults:
            raise ConfigError(*faults)

    def read(self, file: Path | bytes, result: bool = False) -> Photo:
        """Read a photograph as the model was trained on it, or a `result` of that; see `photos.read_photo`."""
        return self._reader(result)(file)

    def _reader(self, result: bool = False) -> partial[Photo]:
        from gan_experiments.data.photos import read_photo

        values = Reading(self.facts.values).bounds if result else self.facts.values  # arrays, where DICOM was read
        bands = self.facts.channels if self.facts.kind == Bands.name else 0
        return partial(read_photo, channels=self.facts.channels, range=values, bands=bands)

    # ---------------------------------------------------------------- both

    def mark(self, kind: str, seed: int | None, label: str = "", composite: bool = False) -> Mark | None:
        """Return what a picture that it made says of its making; None if `kind`, a word of `provenance`, is "none".

        `label` is the class or the direction asked for. `composite` is whether given images are part of the picture,
        as they are of translations.
        """
        if kind == "none":
            return None
        facts = self.facts
        composite = composite or facts.task == TRANSLATE
        return Mark(facts.model, self.name, self.checkpoint, facts.images_seen, seed, label, composite)

    def require_task(self, task: str) -> None:
        """Raise ConfigError if the model does something else than `task`."""
        if self.facts.task != task:
            does = "draws samples from noise" if task == TRANSLATE else "translates images"
            raise ConfigError(f"{self.name}: this model {does}; ask it to {self.facts.task}, not to {task}")


def whole(key: str, given: Any, least: int) -> int:
    """Return a whole number. Raises ConfigError, which names the argument `key`, if it is none or below `least`."""
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, bool) or not least <= number < 2**63:
        raise ConfigError(f"{key}={given!r}: a whole number of {least} or more is needed")
    return number


def _plain(value: object) -> object:
    """Return a number of numpy or torch as Python's, and anything else as it is."""
    number = getattr(value, "item", None)
    return number() if number else value
