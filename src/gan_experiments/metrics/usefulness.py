"""The value of generated images as training data of a classifier.

The classification accuracy score (Ravuri & Vinyals, "Classification Accuracy Score for Conditional Generative Models",
2019, arXiv:1905.10887): a classifier is trained on generated images alone and tested on real ones. A second score is
the gain in accuracy from adding the generated images to a part of the real ones. Differs from the paper: the classifier
is a small network instead of a ResNet-50, so the scores cannot be compared with the paper's; images of unconditional
models are labelled by another classifier.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import Shape
from gan_experiments.data.sources import Files, Settings
from gan_experiments.metrics.evaluator import Score
from gan_experiments.metrics.passports import versions

LEARNING_RATE = 3e-3
SHIFT = 1 / 16
CHUNK = 500
PSEUDO = "by a classifier trained on the same real images"


@dataclass(frozen=True)
class Subset:
    """A subset of an array of images: `pixels` uint8 [M, C, H, W] of all, the subset's `rows` and `labels` int64 [N].

    `labels` is None if they are unknown.
    """

    pixels: Tensor
    rows: Tensor
    labels: Tensor | None

    @classmethod
    def all_of(cls, pixels: Tensor, labels: Tensor | None) -> Subset:
        """Return the subset of all images of `pixels` [N, C, H, W]."""
        return cls(pixels, torch.arange(len(pixels)), labels)

    def __len__(self) -> int:
        return len(self.rows)

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Return the names of the classes without an image."""
        assert self.labels is not None
        counts = self.labels.bincount(minlength=len(names)).tolist()
        return [name for name, number in zip(names, counts, strict=True) if not number]

    def take(self, index: Tensor) -> Subset:
        """Return the images at `index` [n]."""
        return replace(self, rows=self.rows[index], labels=None if self.labels is None else self.labels[index])

    def part(self, share: float, seed: int) -> Subset:
        """Draw a share of each class, at least one image; a smaller share of the same seed is part of a larger one."""
        return self.take(self._part(share, seed))

    def split(self, share: float, seed: int) -> tuple[Subset, Subset]:
        """Return the complement of `part(share, seed)`, and that part."""
        index = self._part(share, seed)
        left = torch.ones(len(self), dtype=torch.bool)
        left[index] = False
        return self.take(left.nonzero()[:, 0]), self.take(index)

    def _part(self, share: float, seed: int) -> Tensor:
        assert self.labels is not None
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        members = [order[self.labels[order] == c] for c in self.labels.unique()]
        return torch.cat([rows[: max(1, round(share * len(rows)))] for rows in members])


def open_folder(key: str, path: str, resolution: Shape, channels: int) -> ImageArray:
    """Open the images of a folder or zip archive, given as the option `key`=`path`; its subfolders are the classes.

    Without subfolders there are no labels. Raises ConfigError if there are no images, or if only some of them are in
    subfolders.
    """
    images = cached(Files(path, key), Settings(resolution, channels))
    assert images.labels is not None
    if images.class_names and images.labels.min() < 0:
        raise ConfigError(f"{key}={path}: some images lie in no subfolder; move each into that of its class")
    return images


def labelled(images: ImageArray, names: Sequence[str], what: str) -> Subset:
    """Return all images, labelled by the index of their class in `names`; raises ConfigError for a class not in it."""
    unknown = [name for name in images.class_names if name not in names]
    if unknown or not images.class_names:
        raise ConfigError(
            f"{what} has {_some(unknown) or 'no subfolders'}, and the real images have the classes {_some(names)}: "
            "name its subfolders like them"
        )
    assert images.labels is not None
    return Subset.all_of(images.pixels, torch.tensor([names.index(name) for name in images.class_names])[images.labels])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


class Classifier(nn.Module):
    """A small residual network of images [N, C, H, W] in [-1, 1] -> logits [N, classes]; 164,000 parameters at 32x32.

    It halves the sides, the shorter one down to about 4 pixels, and averages over positions.
    """

    def __init__(self, channels: int, resolution: Shape, classes: int) -> None:
        super().__init__()
        halvings = max(2, round(math.log2(min(sides(resolution)) / 8)))  # besides that of the first convolution
        widths = [*[24] * (halvings - 1), 48, 96]
        self.body = nn.Sequential(
            nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            *(_Block(a, b) for a, b in pairwise(widths)),
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, classes]."""
        return self.head(self.body(x).mean(dim=(2, 3)))


class _Block(nn.Module):
    """A residual block [N, a, H, W] -> [N, b, H/2, W/2]."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1, bias=False),
            nn.BatchNorm2d(b),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.skip(x))


@dataclass(frozen=True)
class Recipe:
    """The training recipe of all classifiers: `steps` of Adam on batches of `batch_size` images, in float32.

    The learning rate follows a one-cycle schedule. Each image is shifted by up to a sixteenth of its shorter side. If
    real and generated images are mixed, the share `fake_share` of every batch is generated.
    """

    steps: int = 500
    batch_size: int = 64
    fake_share: float = 0.5
    device: torch.device | str = "cpu"

    def train(self, sources: Sequence[tuple[Subset, int]], classes: int, seed: int) -> Classifier:
        """Train a classifier, reproducible by the seed. `sources` are pairs (images, number of them in each batch)."""
        generator = torch.Generator().manual_seed(seed)
        pixels = sources[0][0].pixels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Classifier(pixels.shape[1], pixels.shape[2:], classes).float().to(self.device)
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=self.steps)
        streams = [_batches(images, number, generator) for images, number in sources]
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for _ in range(self.steps):
                images, labels = (torch.cat(drawn).to(self.device) for drawn in zip(*map(next, streams), strict=True))
                loss = F.cross_entropy(net(_float(_shifted(images, generator))), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return net.eval()

    @torch.no_grad()
    def predict(self, net: Classifier, images: Subset) -> Tensor:
        """Return the predicted class of each image, int64 [N] on the CPU."""
        chunks = images.rows.split(CHUNK)
        return torch.cat([net(_float(images.pixels[rows].to(self.device))).argmax(dim=1).cpu() for rows in chunks])

    def passport(self, shape: Sequence[int], classes: int) -> dict[str, Any]:
        """Return the passport entries on the classifier of images of `shape` [N, C, H, W]."""
        channels, height, width = shape[1:]
        with torch.device("meta"):
            size = sum(p.numel() for p in Classifier(channels, (height, width), classes).parameters())
        return {
            "classifier": f"residual network, {size:,} parameters, {channels}x{height}x{width}",
            "optimizer": f"Adam, one cycle to {LEARNING_RATE:g}",
            "augmentation": f"shifts by up to {round(SHIFT * min(height, width))} pixels",
            "steps": self.steps,
            "batch_size": self.batch_size,
            "versions": versions("torch"),
        }


def _batches(images: Subset, number: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels of `number` images at a time, without end; each epoch holds every image once."""
    assert images.labels is not None
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < number:
            left = torch.cat([left, torch.randperm(len(images), generator=generator)])
        index, left = left[:number], left[number:]
        yield images.pixels[images.rows[index]], images.labels[index]


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image [N, C, H, W] by up to SHIFT of its shorter side; edge pixels are repeated."""
    n, _, height, width = images.shape
    most = round(SHIFT * min(height, width))
    by = torch.randint(-most, most + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + by[0]).clamp(0, height - 1).to(images.device)
    columns = (torch.arange(width) + by[1]).clamp(0, width - 1).to(images.device)
    index = torch.arange(n, device=images.device)
    return images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _float(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32) / 127.5 - 1


@dataclass(frozen=True)
class Training:
    """One classifier's training: `on` "real", "fake" or "both" images, with the share `part` of the real ones."""

    on: str
    part: float
    seed: int

    @property
    def key(self) -> str:
        """The key of its accuracy among the results."""
        return f"{self.on} {self.part:g} seed {self.seed}"

    def __str__(self) -> str:
        real = f"{100 * self.part:g}% of the real images"
        what = {"real": real, "both": f"{real} + generated", "fake": "generated alone"}[self.on]
        return f"{what}, seed {self.seed}"


class Usefulness:
    """Training of classifiers on `real` and `fake` images of `classes` classes, and their test on `test`.

    Generated images without labels are labelled by a classifier that was trained on the same part of the real images
    alone.
    """

    def __init__(self, real: Subset, test: Subset, fake: Subset, classes: int, recipe: Recipe) -> None:
        self.real, self.test, self.fake, self.classes, self.recipe = real, test, fake, classes, recipe
        self._labels: dict[tuple[float, int], Tensor] = {}

    def accuracy(self, training: Training) -> float:
        """Train the classifier and return its accuracy on the test images."""
        net = self._train(training)
        assert self.test.labels is not None
        return self.recipe.predict(net, self.test).eq(self.test.labels).double().mean().item()

    def labelled(self, part: float, seed: int) -> Subset:
        """Return the generated images with their own labels, else with those of a classifier of that part of `real`."""
        if self.fake.labels is not None:
            return self.fake
        if (part, seed) not in self._labels:
            self._train(Training("real", part, seed))
        return replace(self.fake, labels=self._labels[part, seed])

    def _train(self, training: Training) -> Classifier:
        part, seed, whole = training.part, training.seed, self.recipe.batch_size
        of_fakes = {"real": 0, "both": round(self.recipe.fake_share * whole), "fake": whole}[training.on]
        sources = []
        if of_fakes < whole:
            sources.append((self.real.part(part, seed), whole - of_fakes))
        if of_fakes:
            sources.append((self.labelled(part, seed), of_fakes))
        net = self.recipe.train(sources, self.classes, seed)
        if training.on == "real" and self.fake.labels is None:
            self._labels[part, seed] = self.recipe.predict(net, self.fake)
        return net


def trainings(parts: Sequence[float], seeds: Sequence[int]) -> list[Training]:
    """Return all trainings for a table of these parts, including those with all real images (1.0)."""
    mixed = [Training(on, part, seed) for part in rows(parts) for seed in seeds for on in ("real", "both")]
    return mixed + [Training("fake", 1.0, seed) for seed in seeds]


def rows(parts: Sequence[float]) -> list[float]:
    """Return the parts of a table's rows: the given ones in order, and 1.0."""
    return sorted({*map(float, parts), 1.0})


def scores(
    accuracy: dict[str, float],
    real: Subset,
    num_fake: int,
    parts: Sequence[float],
    seeds: Sequence[int],
    passport: dict[str, Any],
    fake_share: float,
) -> dict[str, Score]:
    """Return the mean and std over seeds of each accuracy and of the gain from generated images, as scores by name.

    `accuracy` holds accuracies by `Training.key`. The names are `cas`, and for each part `accuracy_real_0.01`,
    `accuracy_both_0.01` and `gain_0.01`. All accuracies are from 0 to 1.
    """

    def of(on: str, part: float) -> list[float]:
        return [accuracy[Training(on, part, seed).key] for seed in seeds]

    def score(name: str, values: list[float], **more: float) -> Score:
        std = statistics.stdev(values) if len(values) > 1 else None
        return Score(name, statistics.fmean(values), std, passport | more | {"seeds": list(seeds)})

    made = [score("cas", of("fake", 1.0), num_real=0, num_fake=num_fake)]
    for part in rows(parts):
        number = len(real.part(part, seeds[0]))
        mixed = {"num_real": number, "num_fake": num_fake, "fake_share": fake_share}
        alone, both = of("real", part), of("both", part)
        made += [
            score(f"accuracy_real_{part:g}", alone, num_real=number, num_fake=0),
            score(f"accuracy_both_{part:g}", both, **mixed),
            score(f"gain_{part:g}", [b - a for a, b in zip(alone, both, strict=True)], **mixed),
        ]
    return {s.name: s for s in made}


def table(found: dict[str, Score]) -> str:
    """Return a text table of the result of `scores`, in percent."""
    lines = [f"{'real images':>20}{'real alone':>16}{'real + generated':>20}{'gain':>16}"]
    for name, alone in found.items():
        if name.startswith("accuracy_real_"):
            part = name.removeprefix("accuracy_real_")
            both, gain = found[f"accuracy_both_{part}"], found[f"gain_{part}"]
            number = f"{alone.passport['num_real']:,} ({100 * float(part):g}%)"
            lines.append(f"{number:>20}{_percent(alone):>16}{_percent(both):>20}{_percent(gain, '+'):>16}")
    cas, real = found["cas"], found["accuracy_real_1"]
    lines.append(
        f"classification accuracy score, {cas.passport['num_fake']:,} generated images alone: {_percent(cas)}"
        f" (all {real.passport['num_real']:,} real ones: {_percent(real)})"
    )
    return "\n".join(lines)


def _percent(score: Score, sign: str = "") -> str:
    spread = "" if score.std is None else f" ± {100 * score.std:.1f}"
    return f"{100 * score.value:{sign}.1f}{spread}"
