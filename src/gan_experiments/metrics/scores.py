"""The scores as pure functions of features and logits, computed in float64 on the inputs' device."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [D] and the unbiased covariance [D, D] of `features` [N, D], N >= 2, in float64."""
    n, d = features.shape
    mean = torch.zeros(d, dtype=torch.float64, device=features.device)
    products = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    # In blocks, because a float64 copy of all features might not fit; in one buffer, to avoid memory fragmentation.
    place = torch.empty(min(n, 1024), d, dtype=torch.float64, device=features.device)
    for block in features.split(1024):
        mean += place[: len(block)].copy_(block).sum(dim=0)
    mean /= n
    for block in features.split(1024):
        centred = place[: len(block)].copy_(block).sub_(mean)
        products.addmm_(centred.T, centred)
    return mean, products.div_(n - 1)


def square_root(cov: Tensor) -> Tensor:
    """Return a matrix A [D, D], float64, with A @ A.T = `cov` [D, D], which may be singular."""
    values, vectors = torch.linalg.eigh(cov.double())
    return vectors * values.clamp(min=0).sqrt()  # values below zero are rounding errors


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, root1: Tensor | None = None) -> float:
    """Return the squared Frechet distance of two Gaussians, given their means [D] and covariances [D, D].

    FID is this distance between Inception features: Heusel et al. 2017, arXiv:1706.08500, eq. 6. The covariances may be
    singular, as they are with fewer images than features. Pass `square_root(cov1)` as `root1` if it is known: computing
    it takes two thirds of the time.
    """
    mean1, cov1, mean2, cov2 = mean1.double(), cov1.double(), mean2.double(), cov2.double()
    # The eigenvalues of cov1 @ cov2 are those of the symmetric root1.T @ cov2 @ root1, whose solver returns real ones.
    # Those below zero are rounding errors, whose square root would be NaN.
    root1 = square_root(cov1) if root1 is None else root1
    product = root1.T @ cov2 @ root1
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return distance.item()


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 100, subset_size: int = 1000, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """Return mean and standard deviation over random subsets of the unbiased MMD^2 of features [N, D] and [M, D].

    KID with the kernel (x.y / D + 1)^3: Binkowski et al. 2018, arXiv:1801.01401, eq. 4 and section 4. A subset is never
    larger than the smaller sample (of at least two images). `generator` (on the CPU) draws the subsets; by default it
    is a new generator of seed 0, never the global one.
    """
    generator = generator or torch.Generator().manual_seed(0)
    size = min(subset_size, len(real), len(fake))

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)].double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        k = x @ y.T
        k /= x.shape[1]  # in place: three times as fast
        k += 1
        return k.pow_(3)

    def between(x: Tensor) -> Tensor:  # the mean over pairs of different images
        k = kernel(x, x)
        return (k.sum() - k.trace()) / (size * (size - 1))

    values = []
    for _ in range(subsets):
        x, y = draw(real), draw(fake)
        values.append((between(x) + between(y) - 2 * kernel(x, y).mean()).item())  # a tensor would stay in memory
    found = torch.tensor(values, dtype=torch.float64)
    return found.mean().item(), found.std(correction=0).item()


def inception_score(logits: Tensor, splits: int = 10, generator: torch.Generator | None = None) -> tuple[float, float]:
    """Return mean and standard deviation over `splits` parts of exp(E KL(p(y|x) || p(y))), given `logits` [N, K].

    Salimans et al. 2016, arXiv:1606.03498, section 4. `generator` (on the CPU) shuffles the images before they are
    split. Without it the parts are consecutive, and images sorted by class would score too low. There are never more
    parts than images.
    """
    order = torch.arange(len(logits)) if generator is None else torch.randperm(len(logits), generator=generator)
    values = []
    for rows in order.to(logits.device).tensor_split(min(splits, len(logits))):
        log_p = logits[rows].double().log_softmax(dim=1)
        p = log_p.exp()
        marginal = p.mean(dim=0)
        # The mean divergence is the entropy of the mean minus the mean entropy.
        values.append((log_p.mul_(p).sum(dim=1).mean() - torch.xlogy(marginal, marginal).sum()).exp())
    found = torch.stack(values)
    return found.mean().item(), found.std(correction=0).item()
