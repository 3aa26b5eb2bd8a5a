"""A trained generator and its latent space, as all kinds of exploration use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from gan_experiments.conditions import Cameras, Captions
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import Image
from gan_experiments.models import scenes
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.networks.text import Text

CHUNK = 32  # images at a time
DRAWN = 10_000  # w whose mean and standard deviation are taken (arXiv:1912.04958, appendix D)
RANGES = {"coarse": (4, 8), "middle": (16, 32), "fine": (64, 1024)}
"""The resolutions of a named range of styles: Karras et al. 2019, arXiv:1812.04948, section 3.1."""


class LatentSpace:
    """A generator, or with `ema` its average if it has one, and the latents that its images are made from.

    The latent of an image is ws [styles, w_dim], one w for each style, if the generator has styles; else z
    [latent_dim]. A conditional generator makes images of the class `only`, a label or a name, or without it of all
    classes in order; a text-to-image one makes them of `caption`, or without it of captions of the data; one that
    renders scenes has them seen from `camera`, [yaw, pitch] in degrees, or without it from where each is seen by
    itself. `truncation` is ψ for w, or the largest |z|; None for none. `mark` is what pictures of the images say of
    their making.

    Raises ConfigError if there is no such class, no word of the caption is known, the camera or the truncation is
    invalid, or the samples are not images.
    """

    def __init__(
        self,
        model: NoiseToImage,
        ema: bool = True,
        truncation: float | None = None,
        only: int | str | None = None,
        seed: int = 0,
        caption: str | None = None,
        camera: Sequence[float] | None = None,
    ) -> None:
        self.network: Any = model.network("generator", ema).eval()
        self.network.requires_grad_(False)
        self.styled, self.latent_dim, self.classes = model.styled, model.latent_dim, model.classes
        self.device, self.dtype = model.device, next(model.generator.parameters()).dtype
        self.class_names = [model.class_name(label) for label in range(model.classes)]
        self.truncation, self.seed = truncation, seed
        self.conditions = model.conditions if model.conditional else None
        self.told, self.only, self.only_name = model.told, None, ""
        if only is not None:
            self.only = torch.tensor(model.class_number(only))
            self.only_name = self.class_names[int(self.only)]
        if caption is not None:
            if not isinstance(self.conditions, Captions):
                raise ConfigError(f"caption={caption}: this generator reads no captions; leave it out")
            self.only, self.only_name = self.conditions.of_words([caption])[0], caption
        self.camera: Tensor | None = None
        if camera is not None:
            scenes.require(self.network, f"camera={camera}")
            (seen_from,) = scenes.cameras_at(self.network, self.conditions, *scenes.at_degrees(camera))
            if self.conditions is None:
                self.camera = seen_from.to(self.device, self.dtype)
            else:
                self.only, (self.only_name,) = seen_from, self.conditions.titles(seen_from[None], 1)
        self.mark = model.mark(seed=seed)
        if truncation is not None and (isinstance(truncation, bool) or not isinstance(truncation, int | float)):
            raise ConfigError(f"truncation={truncation}: a number is needed; type for example truncation=0.7")
        if truncation is not None and truncation <= 0 and not self.styled:
            raise ConfigError(f"truncation={truncation}: the largest |z| is above 0; type for example truncation=1")
        self.shape = self.images(self.latents(1), self.labels(1)).shape[1:]
        if not isinstance(model.kind, Image):
            raise ConfigError(
                f"this generator makes {model.kind.name} and no images; type gan-experiments sample run=..."
            )

    def require_styles(self, what: str) -> None:
        """Raise ConfigError unless the generator has styles."""
        if not self.styled:
            raise ConfigError(
                f"what={what} needs a generator with styles, as StyleGAN's, and {type(self.network).__name__} has none;"
                " type what=truncation, what=walk, what=attributes, what=project or what=edit"
            )

    @property
    def space(self) -> str:
        """The name of the latent space: "w" if the generator has styles, else "z"."""
        return "w" if self.styled else "z"

    @property
    def dim(self) -> int:
        """The number of components of w, or of z."""
        return int(self.network.w_dim) if self.styled else self.latent_dim

    @property
    def form(self) -> tuple[int, ...]:
        """The shape of a latent."""
        return (int(self.network.styles), self.dim) if self.styled else (self.latent_dim,)

    def labels(self, n: int) -> Tensor | None:
        """Return the classes int64 [n] of n images, or the tokens of their captions [n, length]; None without both."""
        if self.conditions is None:
            return None
        if self.only is not None:
            return self.only.expand(n, *self.only.shape).to(self.device)
        every = torch.arange(n) % self.classes if self.classes else self.conditions(n, self.seed)
        assert every is not None, "a conditional generator has conditions"
        return every.to(self.device)

    def fit(self, labels: object, n: int) -> bool:
        """Return whether something read from a file is what `labels` could return for n images."""
        usual = self.labels(n)
        if usual is None or not isinstance(labels, Tensor):
            return usual is None and labels is None
        numbers = len(self.conditions.vocabulary) if isinstance(self.conditions, Captions) else self.classes
        alike = labels.dtype == usual.dtype and labels.shape == usual.shape
        if labels.is_floating_point():
            return alike and bool(labels.isfinite().all())
        return alike and bool((labels >= 0).all() and (labels < numbers).all())

    def noise(self, n: int, stream: int = 0) -> Tensor:
        """Draw z [n, latent_dim] from N(0, 1) with the seed; another `stream` gives other draws."""
        generator = torch.Generator().manual_seed((self.seed + stream * 0x9E3779B1) % 2**32)
        return torch.randn(n, self.latent_dim, generator=generator).to(self.device, self.dtype)

    @torch.no_grad()
    def mapped(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map z [n, latent_dim] to w [n, w_dim], not truncated; return z itself if there are no styles."""
        if not self.styled:
            return z
        parts = torch.arange(len(z), device=self.device).split(8 * CHUNK)
        return torch.cat([self.network.mapping(z[rows], None if labels is None else labels[rows]) for rows in parts])

    @torch.no_grad()
    def placed(self, w: Tensor, truncation: float | None = None, cutoff: int | None = None) -> Tensor:
        """Return the latents of w [n, w_dim] (or z), truncated by `truncation`, or by the object's own if it is None.

        Of the styles only the first `cutoff` are truncated.
        """
        psi = self.truncation if truncation is None else truncation
        if self.styled:
            return self.network.truncate(w, psi, cutoff)
        return w if psi is None else truncated(w, psi)

    def latents(self, n: int, stream: int = 0) -> Tensor:
        """Draw n latents with the seed; another `stream` gives other draws."""
        return self.placed(self.mapped(self.noise(n, stream), self.labels(n)))

    def spread(self, n: int = DRAWN) -> tuple[Tensor, Tensor]:
        """Return the mean [dim] and covariance [dim, dim] of n draws of w, not truncated; for z, 0 and the identity."""
        if not self.styled:
            return torch.zeros(self.dim).to(self.device, self.dtype), torch.eye(self.dim).to(self.device, self.dtype)
        w = self.mapped(self.noise(n, stream=1), self.labels(n)).cpu().double()  # a Mac's GPU has no float64
        return w.mean(0).to(self.device, self.dtype), w.T.cov().to(self.device, self.dtype)

    def images(
        self, latents: Tensor, labels: Tensor | Text | None, noise: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Generate images [n, C, H, W] from latents [n, ...], differentiable and not clipped.

        `noise` replaces the buffers of these names in the synthesis network.
        """
        if self.styled:
            seen_from = (None, labels) if isinstance(self.conditions, Cameras) else ()
            return functional_call(self.network.synthesis, dict(noise or {}), (latents, *seen_from))
        if self.camera is not None:
            return self.network.seen(latents, self.camera.expand(len(latents), -1)).images
        return self.network(latents, *self.told(labels))

    @torch.no_grad()
    def draw(self, latents: Tensor, labels: Tensor | None, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Generate the same images clipped to [-1, 1], float32 on the CPU, without gradients."""
        made = []
        for rows in torch.arange(len(latents), device=self.device).split(CHUNK):
            images = self.images(latents[rows], None if labels is None else labels[rows], noise)
            made.append(images.clamp(-1, 1).float().cpu())
        return torch.cat(made)

    def styles(self, word: str | int) -> tuple[int, int]:
        """Return the first style of a range and the one after its last.

        A range is "coarse", "middle", "fine", "2-5", 2 or "all". Raises ConfigError if this generator does not have it.
        """
        number, (_, height, width) = self.form[0], self.shape
        text = str(word)
        if text == "all":
            return 0, number
        if text in RANGES:
            low, high = (2 * (side.bit_length() - 3) for side in RANGES[text])
            first, last = low, min(high + 1, number - 1)
        else:
            ends = text.split("-")
            if not 1 <= len(ends) <= 2 or not all(end.isdecimal() for end in ends):
                raise ConfigError(f"what.styles={word}: type {', '.join(RANGES)}, all, or numbers as 2-5")
            first, last = int(ends[0]), int(ends[-1])
        if not first <= last < number:
            raise ConfigError(
                f"what.styles={word}: this generator of {height}x{width} has the styles 0 to {number - 1}, two for each"
                f" resolution from 4x4 on; type for example what.styles=0-{min(3, number - 1)}"
            )
        return first, last + 1


def truncated(z: Tensor, largest: float) -> Tensor:
    """Map components from N(0, 1) to N(0, 1) truncated to [-largest, largest], each to the same quantile.

    The distribution is that of the truncation trick, which redraws components that are beyond (Brock et al. 2019,
    arXiv:1809.11096, section 3.1). Without redrawing, z changes continuously with `largest`.
    """
    edge = torch.special.ndtr(torch.tensor(-largest, dtype=torch.float64))
    return torch.special.ndtri(edge + torch.special.ndtr(z.cpu().double()) * (1 - 2 * edge)).to(z)


def numbers(key: str, values: Any, least: int = 1) -> list[float]:
    """Return values as a list of floats. Raises ConfigError if they are not numbers, or fewer than `least`."""
    found = list(values) if isinstance(values, list | tuple) else [values]
    if len(found) < least or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in found):
        raise ConfigError(f"{key}={values}: numbers are needed, {least} or more; type for example {key}=[-2,0,2]")
    return [float(value) for value in found]
