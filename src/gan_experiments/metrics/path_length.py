"""Perceptual path length: the LPIPS distance of images for a small step in latent space (arXiv:1812.04948)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.extractors import plain_float32
from gan_experiments.metrics.measures.path_length import EPSILON, PathLength
from gan_experiments.models.latents import slerp

SAMPLINGS = ("full", "end")


def perceptual_path_length(
    generate_pair: Callable[[int, int], tuple[Tensor, Tensor]],
    distance: Callable[[Tensor, Tensor], Tensor],
    n: int = 50_000,
    epsilon: float = EPSILON,
    batch_size: int = 50,
    resolution: int = 256,
    device: torch.device | str = "cpu",
) -> tuple[float, float]:
    """Return mean and standard deviation of d(x(t), x(t + epsilon)) / epsilon^2 over `n` paths, without the extremes.

    Karras et al. 2019, arXiv:1812.04948, section 4.1, as in NVlabs/stylegan2-ada-pytorch's perceptual_path_length.py:
    images are not clamped to [-1, 1]. Published values use LPIPS with VGG, and crop FFHQ's faces unless they are called
    "ppl2_wend"; this function does not crop.

    Args:
        generate_pair: (chunk, size) -> the images [size, C, H, W] at t and at t + epsilon, a function of its arguments
            alone. Chunk `i` holds the paths from i * batch_size on. See `latent_pairs`.
        distance: two batches of images -> [size], squared as LPIPS is.
        n: number of paths.
        epsilon: the step of `generate_pair`.
        batch_size: paths in a chunk.
        resolution: larger images are averaged over squares, with the integer factor that brings the short side nearest
            to this length, but not below it.
        device: the device of images and distance, which compute in true float32, because TF32's rounding would outweigh
            the step.
    """
    metric = PathLength(distance, epsilon, resolution)
    with plain_float32(torch.device(device)):
        for index, start in enumerate(range(0, n, batch_size)):
            metric.update(*generate_pair(index, min(batch_size, n - start)))
    mean, std = metric.values(torch.cat(metric.lengths)[:, 0])["ppl"]
    assert std is not None, "a path length has one"
    return mean, std


@contextmanager
def full_precision(network: nn.Module) -> Iterator[None]:
    """Let half-precision blocks compute in their parameters' dtype within: rounding would outweigh the step."""
    blocks: dict[Any, Any] = {m: m.half_dtype for m in network.modules() if getattr(m, "half_dtype", None)}
    try:
        for block in blocks:
            block.half_dtype = None
        yield
    finally:
        for block, half in blocks.items():
            block.half_dtype = half


def latent_pairs(
    sample: Callable[[Tensor], Tensor],
    latent_dim: int,
    seed: int,
    epsilon: float = EPSILON,
    sampling: str = "full",
    mapping: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Return the function (chunk, n) -> images at t and at t + epsilon of n paths, for `perceptual_path_length`.

    A path is the arc from one z ~ N(0, 1) of `latent_dim` components to another. It keeps their lengths; NVIDIA's is on
    the unit sphere, which makes no difference to a generator that normalises z. `sampling` is "full", t uniform in
    [0, 1], or "end", t = 0. `sample` maps z, float32 [n, latent_dim] on the CPU, to images [n, C, H, W], unclamped.
    With a `mapping` z -> w [n, ...] the path is the straight line in w, and `sample` maps w instead.

    `sample` is called twice, and only z (or w) may be random: a generator with noise inputs needs the same noise in
    both calls. Raises ConfigError for another `sampling`.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(f"sampling={sampling}: type {' or '.join(SAMPLINGS)}")

    def pair(index: int, n: int) -> tuple[Tensor, Tensor]:
        mixed = np.random.SeedSequence([seed, index]).generate_state(1)[0]  # a CPU generator uses 32 bits of its seed
        generator = torch.Generator().manual_seed(int(mixed))
        z0, z1 = torch.randn(2, n, latent_dim, generator=generator, dtype=torch.float64)
        t = torch.rand(n, 1, generator=generator, dtype=torch.float64) * (sampling == "full")
        if mapping is None:
            here, there = (slerp(z0, z1, at).float() for at in (t, t + epsilon))
        else:
            w0, w1 = mapping(z0.float()), mapping(z1.float())
            t = t.view(-1, *[1] * (w0.ndim - 1))
            here, there = (w0.lerp(w1, at.to(w0)) for at in (t, t + epsilon))
        return sample(here), sample(there)

    return pair
