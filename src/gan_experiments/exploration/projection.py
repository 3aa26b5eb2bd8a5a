"""Projection of images into a latent space: Karras et al. 2020, arXiv:1912.04958, appendix D, with other distances.

w starts at its mean and is optimised by Adam, at first with noise added to it. The noise maps can be optimised too; a
penalty on their autocorrelation keeps structure out of them. w+ has a separate w for each style (Abdal et al. 2019,
arXiv:1904.03189).
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gan_experiments.bounds import NotNegative, Positive, Rhythm
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.decode import UnreadableImageError, fit
from gan_experiments.data.photos import find_photos, read_photo
from gan_experiments.exploration import sheets
from gan_experiments.exploration.directions import save
from gan_experiments.exploration.latent_space import LatentSpace

WANDERING = 0.05  # the noise added to w at first, as a share of w's standard deviation
SETTLED = 0.75  # the share of the steps after which no noise is added
WARM, COOLING = 0.05, 0.25  # shares of the steps over which the learning rate rises, and falls
SMALLEST_MAP = 8  # side in pixels at which the pyramid of a noise map ends


@dataclass
class Projected:
    """The projection of an image: its latent [1, ...], its noise maps if optimised, and the distance at each step."""

    latent: Tensor
    noise: dict[str, Tensor] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    stopped: bool = False


class Projection:
    """A search for the latents of image files, and a sheet of the images beside their projections.

    Args:
        images: a file, a folder, a pattern, or several of them. Each is cropped to the largest piece of the generator's
            shape in its middle, and resized.
        space: "w" or "w+" if the generator has styles, else "z"; None is "w" or "z".
        steps: the number of steps of Adam, whose learning rate is at most `lr`.
        noise: whether the noise maps are optimised too; `noise_weight` is the weight of their autocorrelation.
        pixel_weight: the weight of the mean squared error of pixels in [-1, 1].
        perceptual: makes the distance of images in a network's features, which has the weight `perceptual_weight`; None
            for no such distance.

    Raises ConfigError if there are no such images, or nothing would compare them.
    """

    def __init__(
        self,
        images: Sequence[str] | str,
        space: str | None = None,
        steps: Rhythm = 1_000,
        lr: Positive = 0.1,
        noise: bool = False,
        noise_weight: NotNegative = 1e5,
        pixel_weight: NotNegative = 1.0,
        perceptual: Callable[[], Any] | None = None,
        perceptual_weight: NotNegative = 1.0,
    ) -> None:
        self.files = list(
            dict.fromkeys(file for word in _words(images) for file, _ in find_photos(word, "what.images"))
        )
        self.space, self.steps, self.lr = space, steps, lr
        self.noise, self.noise_weight = noise, noise_weight
        self.pixel_weight, self.perceptual_weight = pixel_weight, perceptual_weight
        for key in ("lr", "noise_weight", "pixel_weight", "perceptual_weight"):
            value = getattr(self, key)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or value < 0
                or (key == "lr" and not value)
            ):
                raise ConfigError(f"what.{key}={value}: a number of 0 or more is needed; type for example what.{key}=1")
        self.perceptual = perceptual() if perceptual and perceptual_weight else None
        if not pixel_weight and self.perceptual is None:
            raise ConfigError(
                "what.pixel_weight=0: nothing compares the images; type perceptual=lite0, or leave it out"
            )

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return ("projected.pt", "projected.png")

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write projected.png, targets beside projections, and projected.pt; return the exit status.

        Ctrl-C ends the search; the projections found until then are written.
        """
        space = self._space(generator)
        labels = generator.labels(1)
        if self.perceptual is not None and generator.shape[0] not in (1, 3):
            raise ConfigError(
                f"perceptual= is of grey images and RGB, and this generator makes {generator.shape[0]} channels; type"
                " perceptual=none"
            )
        if self.perceptual is not None:
            self.perceptual = self.perceptual.to(generator.device)
        targets = [self._target(path, generator) for path in self.files]
        spread = generator.spread()
        rows, done = [], []
        with tqdm(total=self.steps * len(targets), unit="step", disable=None, leave=False) as bar:
            for path, target in zip(self.files, targets, strict=True):
                bar.set_description(path.name)
                found = self._projected(generator, target, labels, space, spread, bar)
                if found.distances:
                    made = generator.draw(found.latent, labels, found.noise)
                    rows.append(torch.cat([target.float().cpu(), made]))
                    done.append(found)
                if found.stopped:
                    break
        for path, found, (target, made) in zip(self.files, done, rows, strict=False):
            error, steps = F.mse_loss(made, target).item(), len(found.distances)
            curve = [*found.distances[:: max(1, self.steps // 4)], found.distances[-1]]
            print(
                f"{path.name}: {_psnr(error):.1f} dB, squared error {error:.4f} after {steps} steps;"
                f" distance on the way {', '.join(f'{value:.4f}' for value in curve)}"
            )
        if done:
            both = generator.mark and replace(generator.mark, composite=True)
            sheets.write(rows, out / "projected.png", both, ["target", "projected"])
            self._keep(generator, done, labels, out / "projected.pt")
        if found.stopped:
            last = f", the last after {len(done[-1].distances)} of {self.steps} steps" if done else ""
            print(f"stopped: {len(done)} of {len(targets)} images{last}")
            return 128 + signal.SIGINT
        return 0

    def _keep(self, generator: LatentSpace, done: Sequence[Projected], labels: Tensor | None, path: Path) -> None:
        kept = {
            "space": generator.space,
            "latents": torch.cat([found.latent for found in done]).cpu(),
            "labels": None if labels is None else labels.expand(len(done), *labels.shape[1:]).cpu(),
            "noise": [{name: value.cpu() for name, value in f.noise.items()} for f in done] if self.noise else None,
            "names": [file.name for file in self.files[: len(done)]],
        }
        save(kept, path)

    def _space(self, generator: LatentSpace) -> str:
        """Return the latent space to use. Raises ConfigError if it, or another option, does not suit the generator."""
        spaces = ("w", "w+") if generator.styled else ("z",)
        if self.space is not None and self.space not in spaces:
            raise ConfigError(f"what.space={self.space}: of this generator type what.space={' or '.join(spaces)}")
        if self.noise and not generator.styled:
            raise ConfigError("what.noise=true: this generator has no noise maps; leave it out")
        if generator.truncation is not None:
            raise ConfigError(f"truncation={generator.truncation}: projection looks everywhere; leave it out")
        if generator.conditions is not None and not generator.styled and generator.only is None:
            kind, example = ("class", "class=0") if generator.classes else ("caption", "caption='a seven'")
            raise ConfigError(f"what=project: of which {kind} are the images? type {example}, ...")
        return self.space or spaces[0]

    def _target(self, path: Path, generator: LatentSpace) -> Tensor:
        """Read a file as an image of the generator's size, [1, C, H, W] in [-1, 1]."""
        channels, height, width = generator.shape
        try:
            pixels = read_photo(path, channels).pixels
        except UnreadableImageError as error:
            raise ConfigError(f"{path} cannot be decoded ({error}); mend it or leave it out") from None
        return to_float(fit(pixels, (height, width))[None]).to(generator.device, generator.dtype)

    def _projected(
        self,
        generator: LatentSpace,
        target: Tensor,
        labels: Tensor | None,
        space: str,
        spread: tuple[Tensor, Tensor],
        bar: tqdm,
    ) -> Projected:
        def distance(image: Tensor) -> Tensor:
            value = self.pixel_weight * F.mse_loss(image, target)
            return value if self.perceptual is None else value + self.perceptual_weight * self.perceptual(image, target)

        noise_weight = self.noise_weight if self.noise else None
        return project(generator, distance, labels, space, self.steps, self.lr, noise_weight, spread, bar)


def project(
    generator: LatentSpace,
    distance: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
    space: str = "w",
    steps: int = 1_000,
    lr: float = 0.1,
    noise_weight: float | None = None,
    spread: tuple[Tensor, Tensor] | None = None,
    bar: tqdm | None = None,
) -> Projected:
    """Search for the latent whose image [1, C, H, W] has the smallest `distance`; Ctrl-C ends the search early.

    Random draws are by the generator's seed. With `noise_weight`, the weight of their regulariser, the noise maps are
    optimised too. `spread` is that of the generator if it is already known.
    """
    mean, covariance = spread or generator.spread()
    deviation = covariance.trace().sqrt().item()
    generated = torch.Generator().manual_seed(generator.seed)
    shape = (1, *generator.form) if space == "w+" else (1, generator.dim)
    place = mean.expand(shape).clone().requires_grad_()
    noise = _noise_maps(generator, generated) if noise_weight is not None else {}
    optimizer = torch.optim.Adam([place, *noise.values()], lr=lr)

    def latent(of: Tensor) -> Tensor:
        return generator.network.truncate(of, None) if space == "w" else of

    found = Projected(latent(place.detach()), noise)
    try:
        for step in range(steps):
            passed = step / steps
            optimizer.param_groups[0]["lr"] = lr * rate(passed)
            wandering = deviation * WANDERING * max(0.0, 1 - passed / SETTLED) ** 2
            moved = place + wandering * torch.randn(shape, generator=generated).to(place)
            value = distance(generator.images(latent(moved), labels, noise))
            found.distances.append(value.item())
            optimizer.zero_grad()
            (value + (noise_weight or 0.0) * autocorrelation(list(noise.values()))).backward()
            optimizer.step()
            with torch.no_grad():
                for values in noise.values():
                    values.sub_(values.mean()).mul_(values.square().mean().rsqrt())
            if bar is not None:
                bar.set_postfix(distance=f"{value.item():.4f}", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        found.stopped = True
    found.latent = latent(place.detach())
    found.noise = {name: values.detach() for name, values in noise.items()}
    return found


def rate(passed: float) -> float:
    """Return the factor of the learning rate after a share of the steps: a linear rise, and a fall by a cosine."""
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - passed) / COOLING))
    return falling * min(1.0, passed / WARM)


def autocorrelation(maps: Sequence[Tensor]) -> Tensor | float:
    """Return the sum of the squared correlations of noise maps [..., h, w] with themselves, shifted by one pixel.

    It is over both axes and every size of the maps' pyramids down to 8x8.
    """
    total: Tensor | float = 0.0
    for values in maps:
        level = values.reshape(1, 1, *values.shape[-2:])
        while True:
            for axis in (2, 3):
                total = total + (level * level.roll(1, axis)).mean().square()
            if min(level.shape[-2:]) <= SMALLEST_MAP:
                break
            level = F.avg_pool2d(level, 2)
    return total


def _noise_maps(generator: LatentSpace, generated: torch.Generator) -> dict[str, Tensor]:
    """Draw new noise for each buffer `noise` of the synthesis network."""
    buffers = generator.network.synthesis.named_buffers()
    return {
        name: torch.randn(values.shape, generator=generated).to(values).requires_grad_()
        for name, values in buffers
        if name.rpartition(".")[2] == "noise"
    }


def _words(images: Sequence[str] | str) -> list[str]:
    return [str(word) for word in ([images] if isinstance(images, str | int) else images)]


def _psnr(squared_error: float) -> float:
    """Return the PSNR in dB of images in [-1, 1]."""
    return 10 * math.log10(4 / max(squared_error, 1e-12))
