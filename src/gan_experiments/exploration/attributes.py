"""Directions towards classes, as normals of linear models of the latents: Shen et al. 2020, arXiv:1907.10786."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from gan_experiments.assembly import build, scoring
from gan_experiments.bounds import Cells, Numbers, Samples
from gan_experiments.contracts import ConfigError
from gan_experiments.drawing import to_uint8, viewed
from gan_experiments.exploration.directions import STRENGTHS, Directions, write_sheets
from gan_experiments.exploration.latent_space import CHUNK, LatentSpace, numbers
from gan_experiments.metrics.extractors import Extractor

SOURCES = ("network", "data", "generator")
HELD_OUT = 0.25  # share of the samples, on which the accuracy is measured
FEWEST = 20  # samples to learn from that are needed of a class, and of all others
# On digits of a StyleGAN2, seven of ten classes are classified better on held-out images than with 0.0003, one worse,
# and edits are three times as large.
RIDGE = 0.1
REAL = 5_000  # the most real images from which classes are learnt


class Attributes:
    """A direction of w (or z) towards each class from all others, and a sheet along it.

    The images of `samples` latents are classified, and the direction is the normal of a logistic regression of the
    classes on the latents. `labels` says what classifies the images: "network", the network of the metrics by its own
    classes; "data", a linear model of that network's features, trained on the classes of the real images; "generator",
    the labels given to a conditional generator with styles. `classes` are names or labels; None: all that occur often.

    `judge` and `data` are the configs of `metrics=` and `data=`. Raises ConfigError for other `labels` or `strengths`.
    """

    def __init__(
        self,
        labels: str = "network",
        classes: Sequence[str | int] | str | int | None = None,
        samples: Samples = 4_000,
        rows: Cells = 5,
        strengths: Numbers = STRENGTHS,
        judge: Any = None,
        data: Any = None,
    ) -> None:
        if labels not in SOURCES:
            raise ConfigError(f"what.labels={labels}: type what.labels= one of {', '.join(SOURCES)}")
        self.source, self.samples, self.rows = labels, samples, rows
        self.strengths = numbers("what.strengths", strengths)
        self.asked = [classes] if isinstance(classes, str | int) else classes
        self.judge, self.data = judge, data

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return ("attributes.pt", "attributes-*.png")

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write attributes.pt, and attributes-<class>.png for each class; print the accuracies; return 0.

        Raises ConfigError if `labels` does not suit the generator or too few images are of a class.
        """
        wanted = generator.labels(self.samples)
        w = generator.mapped(generator.noise(self.samples), wanted)
        if self.source == "generator":
            if not generator.styled or not generator.classes or generator.only is not None:
                what = "all of its classes, and no class=" if generator.classes else "classes"
                raise ConfigError(
                    f"what.labels=generator needs a generator with styles and {what}; type what.labels=network or data"
                )
            assert wanted is not None
            seen, names = wanted.cpu(), generator.class_names
        else:
            seen, names = self._told(generator, w, wanted)
        chosen = self._chosen(names)
        w = w.cpu().double()
        kept = int(self.samples * (1 - HELD_OUT))
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(generator.seed))
        learnt, held = order[:kept], order[kept:]
        normals, found, lines = [], [], []
        for index in chosen:
            is_one = seen == index
            counts = [int(part.sum()) for one in (is_one, ~is_one) for part in (one[learnt], one[held])]
            if min(counts[::2]) < FEWEST or min(counts) == 0:
                if self.asked is not None:
                    raise ConfigError(
                        f"what.classes={names[index]}: {int(is_one.sum())} of {self.samples} images are of it; type a"
                        " larger what.samples, or another class"
                    )
                continue
            normal, offset = logistic_regression(w[learnt], is_one[learnt])
            right = balanced_accuracy(w[held] @ normal + offset, is_one[held])
            lines.append(
                f"{names[index]}: {right:.1%} right on {len(held):,} held-out images, 50% by chance"
                f" ({int(is_one.sum()):,} of {self.samples:,} are of it)"
            )
            normals.append(normal)
            found.append(names[index])
        if not found:
            raise ConfigError(f"what.samples={self.samples}: no class has {FEWEST} images in and out of it; type more")
        print("\n".join(lines))
        directions = Directions.of(generator, torch.stack(normals), found)
        directions.write(out / "attributes.pt")
        latents, labels = generator.latents(self.rows, stream=2), generator.labels(self.rows)
        write_sheets(generator, directions, latents, labels, self.strengths, out / "attributes")
        return 0

    def _chosen(self, names: list[str]) -> list[int]:
        """Return the indices of the classes that were asked for. Raises ConfigError for an unknown class."""
        if self.asked is None:
            return list(range(len(names)))
        for word in self.asked:
            if str(word) not in names:
                some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
                raise ConfigError(f"what.classes={word}: there is no such class; type some of {some}")
        return [names.index(str(word)) for word in self.asked]

    def _told(self, generator: LatentSpace, w: Tensor, labels: Tensor | None) -> tuple[Tensor, list[str]]:
        """Classify the images of w: return the classes int64 [n] and the names of all classes."""
        judge = scoring.required(OmegaConf.create({"metrics": self.judge or {}}))
        extractor = getattr(build.make(judge) if judge else None, "extractor", None)
        if not isinstance(extractor, Extractor):
            raise ConfigError(
                f"what.labels={self.source} needs a network that looks at images: type metrics=digits or lite0, ..."
            )
        extractor = extractor.to(generator.device)
        model, names = None, [str(index) for index in range(extractor.classes)]
        if self.source == "data":
            *model, names = self._learnt(extractor, generator)
        elif not names:
            raise ConfigError("what.labels=network: that of the metrics has no classes; type what.labels=data")
        seen = []
        for rows in tqdm(torch.arange(len(w)).split(CHUNK), "images", disable=None, leave=False):
            latents, asked = generator.placed(w[rows]), None if labels is None else labels[rows]
            features, logits = _extracted(extractor, to_uint8(generator.draw(latents, asked)).to(generator.device))
            seen.append((features @ model[0].T + model[1] if model else logits).argmax(1))
        return torch.cat(seen), names

    def _learnt(self, extractor: Extractor, generator: LatentSpace) -> tuple[Tensor, Tensor, list[str]]:
        """Fit a linear model of real images' features: return weights [K, D], offsets [K] and the K class names."""
        real = build.open_data(self.data).reference()
        names = real.class_names
        if real.labels is None or len(names) < 2:
            raise ConfigError(
                "what.labels=data: the real images are of no classes; type data= others, or what.labels=network"
            )
        rows = torch.randperm(len(real), generator=torch.Generator().manual_seed(generator.seed))[:REAL]
        rows = rows[real.labels[rows] >= 0]
        chunks = tqdm(rows.split(CHUNK), "real images", disable=None, leave=False)
        features = torch.cat([_extracted(extractor, real.pixels[part].to(generator.device))[0] for part in chunks])
        labels, kept = real.labels[rows], int(len(rows) * (1 - HELD_OUT))
        models = [logistic_regression(features[:kept], labels[:kept] == index) for index in range(len(names))]
        weights, offsets = (torch.stack(part) for part in zip(*models, strict=True))
        right = ((features @ weights.T + offsets).argmax(1) == labels)[kept:].double().mean().item()
        print(
            f"the classes of the data, by {extractor.name}: {right:.1%} right on {len(rows) - kept:,} held-out images"
        )
        return weights, offsets, names


@torch.no_grad()
def _extracted(extractor: Extractor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and logits of uint8 images, float64 on the CPU."""
    features, logits = extractor.extract(viewed(images))
    return features.cpu().double(), logits.cpu().double()


def logistic_regression(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the normal [d] and the offset of the plane between the rows of x [n, d] where y is true and the others.

    It minimises the mean log-loss, in which both sides have the same weight, plus RIDGE / 2 · |normal|², with x in
    units of its root mean square deviation. Among directions that separate y equally well, the ridge prefers those in
    which x varies the most, and these change images.
    """
    centre, deviation = x.mean(0), x.var(0).mean().sqrt()
    inputs, truth = (x - centre) / deviation, y.to(x)
    share = truth.mean()
    balance = torch.where(y, 0.5 / share, 0.5 / (1 - share))
    theta = torch.zeros(x.shape[1] + 1, dtype=x.dtype, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ theta[:-1] + theta[-1]
        value = F.binary_cross_entropy_with_logits(logits, truth, balance) + RIDGE / 2 * theta[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    normal = theta[:-1].detach() / deviation
    return normal, theta[-1].detach() - normal @ centre


def balanced_accuracy(scores: Tensor, y: Tensor) -> float:
    """Return the balanced accuracy of scores [n]: the mean of the shares of y and of not y on the right side of 0."""
    right = (scores > 0) == y
    return (right[y].double().mean() + right[~y].double().mean()).item() / 2
