"""Gradient penalties on the discriminator, unweighted: the model multiplies them by the paper's λ or γ.

They run with autocast off and on images of float32 at least, because a second derivative in half precision is noise.
They run `eager`, because compiled code cannot be differentiated twice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gan_experiments.distributed import mean_over_ranks
from gan_experiments.losses.logits import sum_of


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, alpha: Tensor, center: float = 1.0
) -> Tensor:
    """Mean of (‖∇D(x̂)‖₂ - center)² at x̂ = α·real + (1 - α)·fake, to be multiplied by λ (Gulrajani et al. 2017, eq. 3).

    `real` and `fake` are `[N, ...]`; `alpha` `[N]` holds one draw from U[0, 1] per sample. `fake` is detached here, so
    no gradient reaches the generator. `center=0` is the zero-centred penalty of Thanh-Tung et al. 2019. Raises
    ValueError for an `alpha` of another shape, or for batches of different shapes.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real is {list(real.shape)} and fake {list(fake.shape)}: they are interpolated pair by pair")
    real, fake = _leaf(real), _leaf(fake)
    alpha = _per_sample(alpha, real)
    return _distance_of_norms(discriminator, alpha * real + (1 - alpha) * fake, center)


def dragan_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, alpha: Tensor, noise: Tensor, center: float = 1.0
) -> Tensor:
    """Mean of (‖∇D(x̂)‖₂ - center)² around the real images, to be multiplied by λ (DRAGAN, Kodali et al. 2017).

    x̂ = real + α·½·s·noise as in the authors' code, with s the standard deviation of all pixel values in the batches of
    all ranks. `alpha` `[N]` and `noise` `[N, ...]`, of the shape of `real`, are drawn from U[0, 1]. Raises ValueError
    for other shapes.
    """
    if noise.shape != real.shape:
        raise ValueError(f"noise is {list(noise.shape)} and real {list(real.shape)}: each number has its own noise")
    real = _leaf(real)
    mean = mean_over_ranks(real.mean())
    deviation = mean_over_ranks((real - mean).square().mean()).sqrt()
    points = real + _per_sample(alpha, real) * 0.5 * deviation * noise.to(real.dtype)
    return _distance_of_norms(discriminator, points, center)


def r1_penalty(discriminator: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """½ · mean of ‖∇D(x)‖², to be multiplied by γ alone (Mescheder et al. 2018, eq. 9); on fakes it is R2 (eq. 10).

    `images` are `[N, ...]`, before any augmentation: pass `lambda x: D(augment(x))` where D's input is augmented. They
    are detached, so no gradient reaches the generator. Of a discriminator of several images the gradient is that of all
    of them.
    """
    gradients = _gradients(discriminator, *map(_leaf, images))
    return 0.5 * sum_of([gradient.flatten(1).square().sum(dim=1).mean() for gradient in gradients])


def _per_sample(alpha: Tensor, images: Tensor) -> Tensor:
    """Reshape alpha [N] to [N, 1, ...], which broadcasts over images [N, ...]."""
    if alpha.shape != images.shape[:1]:
        raise ValueError(f"alpha has shape {list(alpha.shape)}: it needs one number per sample, [{images.shape[0]}]")
    return alpha.to(images.dtype).reshape(-1, *[1] * (images.ndim - 1))


def _distance_of_norms(discriminator: Callable[[Tensor], Tensor], points: Tensor, center: float) -> Tensor:
    (gradient,) = _gradients(discriminator, points)
    norms = gradient.flatten(1).norm(dim=1)  # [N]
    return (norms - center).square().mean()


def eager() -> AbstractContextManager[Any]:
    """Return a context in which compiled networks run as they are written, to be differentiated twice."""
    if "torch._dynamo.eval_frame" not in sys.modules:  # nothing is compiled
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _leaf(images: Tensor) -> Tensor:
    return images.detach().to(torch.promote_types(images.dtype, torch.float32))


def _gradients(discriminator: Callable[..., Tensor], *images: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients `[N, ...]` of each sample's logits with respect to its images, which are differentiable."""
    leaves = [one.requires_grad_() for one in images]
    with torch.autocast(device_type=leaves[0].device.type, enabled=False), eager():
        logits = discriminator(*leaves)
        # A sum, not a mean, which would divide each sample's gradient by N.
        return torch.autograd.grad(logits.sum(), leaves, create_graph=True)
