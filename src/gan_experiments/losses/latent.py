"""Losses on latent codes."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² - 1 - log σ²) over the code, [N, D] -> [N] (Kingma & Welling 2013, B).

    BicycleGAN sums it over its batch, which is one image. StackGAN averages it over the batch and the code.
    """
    wide = torch.promote_types(mean.dtype, torch.float32)
    mean, log_variance = mean.to(wide), log_variance.to(wide)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
