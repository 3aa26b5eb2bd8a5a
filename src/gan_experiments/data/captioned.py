"""Images with captions: {"real", "caption", "wrong"}, the data of text-to-image models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Classes, Count, Place, Resolution, Width
from gan_experiments.captions import PADDING, Vocabulary, words_of
from gan_experiments.conditions import Captions, Embedded
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data import digit_looks
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import BatchStream, Shapes, Stream, generator, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.caption_files import CaptionedFiles
from gan_experiments.data.embedding_files import Embeddings
from gan_experiments.data.image_module import ImageData, spread_rows
from gan_experiments.data.images import Digits, Folder
from gan_experiments.data.sources import Files

CAPTION, WRONG = 100, 101
"""Parts of the seed, as those of `batches`."""
SHEET = 2**31 - 1
"""In place of a batch's number: the draws of `fixed`."""
ATTEMPTS = 64
"""How often another wrong image is drawn for a caption that describes the one drawn."""
LONGEST = 256

Length = Annotated[int, Field(ge=1, le=LONGEST)]


class Captioned(ImageData):
    """Images that have captions: "caption" int64 [N, length], tokens of one of each image's captions, beside "real".

    "wrong" float [N, C, H, W] are images that the caption does not describe: of another class if there are classes, and
    else without a caption of these words. `length` is the greatest number of words of a caption; the rest is cut off.
    The vocabulary are the words that occur `least` times or more in the training captions, at most `most_words`.

    Data with `features` have an embedding of each caption, and "caption" is float [N, features]: the mean of those of
    `averaged` captions of an image, drawn anew each time.

    A subclass has `captions_of(split)`.
    """

    provides = frozenset({"real", "label", "caption", "wrong"})
    keys = {  # noqa: RUF012
        "caption": "tokens of a caption of each image of real, int64 [N, length]; 0 after its end; or its embedding",
        "wrong": "real images that the captions do not describe, float [N, C, H, W] in [-1, 1]",
    }

    def __init__(
        self, resolution: Resolution, length: Length = 16, least: Count = 1, most_words: Count = 20_000, **settings: Any
    ) -> None:
        super().__init__(resolution=resolution, **settings)
        self.length, self.least, self.most_words = length, least, most_words
        self.averaged, self.features = 1, 0

    @abstractmethod
    def captions_of(self, split: str) -> list[list[str]]:
        """Return the captions of each image of `reference(split)`, at least one."""

    def codes_of(self, split: str) -> Tensor | None:
        """Return the embeddings of all captions of `captions_of(split)`, float [M, features]; None without any."""
        return None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the training captions."""
        said = (caption for some in self.captions_of("train") for caption in some)
        return Vocabulary.of(said, self.length, self.least, self.most_words)

    def told(self, split: str = "train") -> Told:
        """Return the captions of a split as tokens."""
        if split not in self._told:
            said = self.captions_of(split)
            self._told[split] = Told.of(said, self.vocabulary, self.codes_of(split), self.averaged)
        return self._told[split]

    @cached_property
    def _told(self) -> dict[str, Told]:
        return {}

    @property
    @override
    def conditions(self) -> Captions:
        return self._conditions("train")

    @override
    def conditions_of(self, split: str) -> Captions | None:
        return None if split == "train" else self._conditions(split)

    def _conditions(self, split: str) -> Captions:
        told = self.told(split)
        if told.codes is None:
            return Captions(told.tokens, self.vocabulary)
        return Embedded(told.codes, self.vocabulary, told.tokens)

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "caption": (self.features or self.length,)}

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return CaptionedStream(
            self.training(), self.told(), self.batch_size, self.seed, self.flip, rank=rank, world=world
        )

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        batch = dict(batch)
        if batch["wrong"].dtype == torch.uint8:
            batch["wrong"] = to_float(batch["wrong"], batch.get("flip"), self.channels_last)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    @override
    def fixed(self, n: int) -> Batch:
        """Return `n` items evenly spread over the data, the same at each call, each with its first caption."""
        images, told = self.reference("train"), self.told()
        rows = spread_rows(n, len(images))
        wrong = told.others(rows, told.first[rows], images.labels, generator(self.seed, WRONG, SHEET))
        batch = {
            "real": to_float(images.pixels[rows]),
            "caption": told.at(told.first[rows][None]),
            "wrong": to_float(images.pixels[wrong]),
        }
        return batch if images.labels is None else {**batch, "label": images.labels[rows]}

    @override
    def noise(self, n: int, keys: Any) -> Batch:
        """Return a batch of n items of random numbers; its captions are of one word, of any vocabulary."""
        batch = super().noise(n, [key for key in keys if key != "caption"])
        if "caption" in keys and self.features:
            batch["caption"] = torch.randn(n, self.features)
        elif "caption" in keys:
            batch["caption"] = torch.full((n, self.length), PADDING)
            batch["caption"][:, 0] = 1
        return batch

    @override
    def understood(self) -> list[str]:
        told, words = self.told(), self.vocabulary
        number = told.counts.float()
        lengths = (told.tokens != PADDING).sum(1)
        several = f"{int(number.min())} to {int(number.max())}" if number.min() < number.max() else str(int(number[0]))
        line = (
            f"captions {len(told.tokens):,}, {several} an image, of {int(lengths.min())} to {int(lengths.max())} words"
        )
        first = next(iter(self.captions_of("train")))[0]
        if self.features:
            codes = f"embeddings of {self.features:,} numbers, the mean of {self.averaged}"
            return [*super().understood(), f"{line}; {codes}"]
        lines = [*super().understood(), f'{line}; vocabulary of {len(words.words):,} words; the first: "{first}"']
        cut = sum(len(words_of(caption)) > self.length for some in self.captions_of("train") for caption in some)
        if cut:
            lines.append(f"{cut:,} captions are longer than data.length={self.length} words and are cut off")
        return lines


class Told:
    """The captions of a set of images as tokens [M, length], those of image i at first[i] to first[i] + counts[i].

    `codes` [M, features] are their embeddings, if there are any; then the mean of those of `averaged` captions is told.
    """

    def __init__(self, tokens: Tensor, counts: Tensor, codes: Tensor | None = None, averaged: int = 1) -> None:
        self.tokens, self.counts, self.codes, self.averaged = tokens, counts, codes, averaged
        self.first = counts.cumsum(0) - counts
        _, self._sentence = torch.unique(tokens, dim=0, return_inverse=True)
        image = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self._sentences = int(self._sentence.max()) + 1
        self._has = torch.unique(image * self._sentences + self._sentence)

    @classmethod
    def of(
        cls,
        captions: Sequence[Sequence[str]],
        vocabulary: Vocabulary,
        codes: Tensor | None = None,
        averaged: int = 1,
    ) -> Told:
        """Encode the captions of each image."""
        flat = [caption for some in captions for caption in some]
        return cls(vocabulary.encode(flat), torch.tensor([len(some) for some in captions]), codes, averaged)

    def at(self, places: Tensor) -> Tensor:
        """Return what networks are told of captions at places [k, n]: the first's tokens, or the mean embedding."""
        return self.tokens[places[0]] if self.codes is None else self.codes[places].mean(0)

    def drawn(self, rows: Tensor, draws: torch.Generator) -> Tensor:
        """Draw one caption of each image of `rows`, int64 [n]; return their places in `tokens`, int64 [n]."""
        share = torch.rand(len(rows), generator=draws, dtype=torch.float64)
        return self.first[rows] + (share * self.counts[rows]).long()

    def describes(self, rows: Tensor, places: Tensor) -> Tensor:
        """Return whether images have a caption of the same words as those at `places`, bool [n]."""
        wanted = rows * self._sentences + self._sentence[places]
        found = torch.searchsorted(self._has, wanted).clamp_max(len(self._has) - 1)
        return self._has[found] == wanted

    def others(self, rows: Tensor, places: Tensor, labels: Tensor | None, draws: torch.Generator) -> Tensor:
        """Draw an image that each caption does not describe, of another class if there are `labels`, int64 [n].

        Raises ConfigError if none is found.
        """
        number = len(self.counts)
        found = torch.randint(number, (len(rows),), generator=draws)
        for _ in range(ATTEMPTS):
            again = self.describes(found, places)
            if labels is not None:
                again |= labels[found] == labels[rows]
            if not again.any():
                return found
            found = torch.where(again, torch.randint(number, (len(rows),), generator=draws), found)
        told = "of the same class" if labels is not None else "with the same captions"
        raise ConfigError(
            f"nearly all images are {told}, and a text-to-image model needs pairs that do not belong together: give"
            " images of other captions, or type data.classes=0"
        )


class CaptionedStream(BatchStream):
    """Batches of images, a caption of each, "caption" int64 [n, length], and "wrong" images uint8 [n, C, H, W]."""

    def __init__(self, images: ImageArray, told: Told, *arguments: Any, **options: Any) -> None:
        super().__init__(images, *arguments, **options)
        self.told, self.labels = told, images.labels

    def batch(self, number: int) -> Batch:
        """Read this rank's rows of batch `number`."""
        rows = self.indices(number)
        draws = generator(self.seed, CAPTION, number)
        several = torch.stack([self.told.drawn(rows, draws) for _ in range(self.told.averaged)])
        places = several[0]
        wrong = self.told.others(rows, places, self.labels, generator(self.seed, WRONG, number))
        batch = super().batch(number)
        if self.labels is not None:  # in another process, `data` has those of its cache
            batch["label"] = self.labels[rows[self._mine]]
        return {
            **batch,
            "caption": self.told.at(several[:, self._mine]),
            "wrong": self.data.pixels.index_select(0, wrong[self._mine]),
        }


class CaptionedFolder(Captioned, Folder):
    """Images of a person's own with their captions: a text beside each image, or a list.

    Args:
        root: a folder, a zip or tar archive, or several, as of `Folder`.
        captions: a folder of texts with the names of the images, or a list of captions (csv, tsv, jsonl, parquet,
            COCO's json), for `root` and `test_root` both; None for captions.csv or the like in the root, else for a
            text beside each image.
        caption_columns: the columns of captions in a table; empty for those with a usual name.
        embeddings: a folder of embeddings of the captions that another program made, an .npy for each image; models
            are then told these, and captions are their names.
        averaged: how many embeddings of an image, drawn anew each time, are averaged.
        settings: the arguments of `Captioned` and `Folder`.

    Images without a caption are left out. Raises ConfigError if none has one.
    """

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 64,
        captions: Place | None = None,
        caption_columns: Sequence[str] = (),
        embeddings: Place | None = None,
        averaged: Annotated[int, Field(ge=1, le=64)] = 1,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, resolution=resolution, **settings)
        if self.frames != "first":
            raise ConfigError(f"data.frames={self.frames}: a caption is of one image; type data.frames=first")
        if averaged > 1 and embeddings is None:
            raise ConfigError(
                f"data.averaged={averaged}: words have no mean; type data.embeddings= a folder of embeddings, or leave"
                " it out"
            )
        self.captions, self.caption_columns = captions, list(caption_columns)
        self._embedded = None if embeddings is None else Embeddings(embeddings)
        if self._embedded is not None:
            self.averaged, self.features = averaged, self._embedded.features

    @override
    def images_of(self, *arguments: Any, **options: Any) -> Files:
        most = options.pop("limit", None)
        given, embedded = self.captions, self._embedded
        return CaptionedFiles(
            *arguments, given=given, columns=self.caption_columns, most=most, embedded=embedded, **options
        )

    @override
    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split; its labels tell which captions belong to an image."""
        source = self.files(split)
        assert isinstance(source, CaptionedFiles)
        images = cached(source, self._settings(self.crop, split=split), self.cache, split)
        assert images.labels is not None
        places = images.labels
        self._captions[split] = [source.captions[place] for place in places.tolist()]
        if source.codes:
            codes = [source.codes[place] for place in places.tolist()]
            self._codes[split] = torch.from_numpy(np.concatenate(codes))
        classes = torch.tensor(source.classes)[places]
        images.labels, images.class_names = classes if source.names_of_classes else None, source.names_of_classes
        return images

    @override
    def captions_of(self, split: str) -> list[list[str]]:
        self.reference(split)
        return self._captions[split]

    @override
    def codes_of(self, split: str) -> Tensor | None:
        self.reference(split)
        return self._codes.get(split)

    @cached_property
    def _captions(self) -> dict[str, list[list[str]]]:
        return {}

    @cached_property
    def _codes(self) -> dict[str, Tensor]:
        return {}


class CaptionedDigits(Captioned, Digits):
    """The 5,000 digits that come with the package, with captions of what is measured of each, see `digit_looks`.

    The split "test" is every tenth digit of each class, which is not trained on.
    """

    splits = ("train", "test")

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 1,
        classes: Classes = 10,
        captions: Annotated[int, Field(ge=1, le=100)] = 4,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, channels=channels, classes=classes, **settings)
        self.captions = captions

    @override
    def load(self, split: str) -> ImageArray:
        """Decode the digits of a split."""
        every = super().load(split)
        assert every.labels is not None
        place = torch.arange(len(every)) % 10 == 9
        rows = torch.nonzero(place == (split == "test"))[:, 0]
        return ImageArray(
            every.pixels[rows], every.labels[rows], f"{every.fingerprint}-{split}", split, every.class_names
        )

    @override
    def captions_of(self, split: str) -> list[list[str]]:
        if split not in self._captions:
            images = self.load(split)
            assert images.labels is not None
            grey = to_float(images.pixels).mean(1, keepdim=True)
            seed = 0 if split == "train" else 1
            self._captions[split] = digit_looks.captions(grey, images.labels, seed, self.captions)
        return self._captions[split]

    @cached_property
    def _captions(self) -> dict[str, list[list[str]]]:
        return {}
