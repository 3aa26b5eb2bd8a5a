"""Regularisers that stabilise adversarial training, beside the losses and the gradient penalties; unweighted.

Functions and modules return float32 or wider. The modules hold running statistics, means over all ranks, as buffers.
Keep them as attributes of the model, so that they are saved with it, and call their `update` once a batch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import mean_over_ranks, whole_batch
from gan_experiments.losses.adversarial import AdversarialLoss, LeastSquares, NonSaturating
from gan_experiments.losses.logits import Logits, per_image, scales


class OneSidedLabelSmoothing:
    """An adversarial loss with the label `alpha` instead of 1 for real images (Salimans et al. 2016, §3.4).

    The label of fakes and the generator's loss stay unchanged, because smoothed labels of fakes would reinforce the
    generator's errors where there is no data. For least squares the label moves from b towards a. Raises ConfigError
    for a loss that has no labels, and for an `alpha` outside (½, 1].
    """

    needs_lipschitz = False
    needs_real_logits = False

    def __init__(self, loss: AdversarialLoss, alpha: float = 0.9) -> None:
        if not isinstance(loss, (NonSaturating, LeastSquares)):
            raise ConfigError(
                f"label smoothing was given the loss {type(loss).__name__}, which compares logits and has no labels to"
                " smooth; type loss=non_saturating, minimax or least_squares, or leave the smoothing out"
            )
        if not 0.5 < alpha <= 1:
            raise ConfigError(f"label smoothing was given alpha={alpha}: it needs one above 0.5 and up to 1; type 0.9")
        self.loss, self.alpha = loss, alpha
        self.zero_is_chance = loss.zero_is_chance

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss with the share α of the real images labelled real and 1 - α of them labelled fake."""
        if isinstance(self.loss, LeastSquares):
            target = self.loss.a + self.alpha * (self.loss.b - self.loss.a)
            smooth = LeastSquares(a=self.loss.a, b=target, discriminator_scale=self.loss.discriminator_scale)
            return smooth.discriminator(real_logits, fake_logits)
        # The label fake instead of real adds softplus(x) - softplus(-x) = x to the loss of a logit x.
        return self.loss.discriminator(real_logits, fake_logits) + (1 - self.alpha) * _float(real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, which is not smoothed."""
        return self.loss.generator(fake_logits, real_logits)


def instance_noise(images: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Return images + σ·noise, D's input in place of both reals and fakes (Sønderby et al. 2017, arXiv:1610.04490).

    `noise` is drawn from N(0, 1) in the images' shape. σ falls during training:
    `sigma * schedules.Linear(end)(images_seen)`.
    """
    return images + sigma * noise.to(images.dtype)


def top_k(fake_logits: Logits, share: float) -> Logits:
    """Return the largest logits of all ranks' batches, for the generator's loss (Sinha et al. 2020).

    They are the given `share` of the images, rounded, one at least: `[n]` on each rank -> `[k]`, the same on every
    rank. Gradients reach a rank's own logits. Of patches `[n, 1, h, w]` these are the patches of the k images with the
    largest mean; of a list, one for each scale, the means are added. The share falls with the images seen, from all to
    ν = ½: `schedules.Exponential(0.99, every=images of an epoch, floor=0.5)`. Among the relativistic losses only
    `relativistic_average` works with it, because the choice breaks up pairs.
    """
    gathered = [whole_batch(logits) for logits in scales(fake_logits)]
    told = per_image(gathered)
    chosen = told.topk(max(1, round(share * len(told)))).indices
    return gathered[0][chosen] if isinstance(fake_logits, Tensor) else [logits[chosen] for logits in gathered]


def feature_matching(
    real_features: Tensor, fake_features: Tensor, distance: Literal["squared_l2", "l1"] = "squared_l2"
) -> Tensor:
    """Distance of mean real and mean fake features [N, ...], a generator's loss (Salimans et al. 2016, §3.1).

    The means are over the batches of all ranks. "squared_l2" is the paper's ‖E f(x) - E f(G(z))‖². "l1" is the mean of
    the absolute differences, as in the authors' code. No gradient reaches the real features. Raises ConfigError for
    another distance.
    """
    if distance not in ("squared_l2", "l1"):
        raise ConfigError(f"feature matching was given the distance {distance!r}: it knows squared_l2 and l1; type l1")
    real, fake = (mean_over_ranks(_float(f).flatten(1).mean(0)) for f in (real_features.detach(), fake_features))
    return (fake - real).square().sum() if distance == "squared_l2" else (fake - real).abs().mean()


def consistency(logits: Tensor, other_logits: Tensor) -> Tensor:
    """Mean of (D(x) - D(T(x)))², for the discriminator; T augments an image, and gradients reach both terms.

    CR applies it to reals (Zhang et al. 2020, arXiv:1910.12027, λ = 10; T flips and shifts: ADA("xflip,xint", p=1,
    target=None)). bCR applies it to fakes as well (Zhao et al. 2021, arXiv:2002.04724, λ = 10 each). zCR's term for D
    has G(z) and G(z + δ) in the place of x and T(x) (λ = 20 at δ ~ N(0, 0.05²)).
    """
    return (_float(logits) - _float(other_logits)).square().mean()


def latent_diversity(images: Tensor, other_images: Tensor) -> Tensor:
    """Minus the mean of (G(z) - G(z + δ))² over all pixel values: zCR's term for the generator (Zhao et al. 2021).

    Minimising it makes images of neighbouring z differ, while D is trained to score them alike. λ = ½. It has no lower
    bound.
    """
    return -(_float(images) - _float(other_images)).square().mean()


class LeCam(nn.Module):
    """Penalty on logits far from the moving average of the other kind (Tseng et al. 2021, arXiv:2104.03310).

    E relu(D(x) - ᾱ_F)² + E relu(ᾱ_R - D(G(z)))² as in the authors' code, with ᾱ_R and ᾱ_F moving averages of the mean
    real and fake logits; λ is 0.3 on CIFAR-10. Up to `start` images the averages are the last batch's means and the
    penalty is zero. Averaging and penalty begin at the first batch after that, one batch later than in
    PyTorch-StudioGAN.

    Args:
        decay: the share of an average that it keeps at each batch.
        start: the images seen before the penalty begins (1,000 batches in the authors' code).
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, decay: float = 0.99, start: int = 0) -> None:
        super().__init__()
        self.decay, self.start = decay, start
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    @torch.no_grad()
    def update(self, real_logits: Tensor, fake_logits: Tensor, images_seen: int) -> None:
        """Move the averages towards this batch's means."""
        share = 1 - self.decay if images_seen > self.start else 1.0
        means = mean_over_ranks(torch.stack([_float(real_logits).mean(), _float(fake_logits).mean()]))
        self.real_mean += share * (means[0] - self.real_mean)
        self.fake_mean += share * (means[1] - self.fake_mean)

    def forward(self, real_logits: Tensor, fake_logits: Tensor, images_seen: int) -> Tensor:
        """Return the penalty, a scalar. Call `update` with the same logits first."""
        if images_seen <= self.start:
            return self.real_mean.new_zeros(())
        too_real = F.relu(_float(real_logits) - self.fake_mean).square().mean()
        too_fake = F.relu(self.real_mean - _float(fake_logits)).square().mean()
        return too_real + too_fake


class HistoricalAverage(nn.Module):
    """‖θ - (1/t) Σ θ_i‖² of one network's parameters, for its loss (Salimans et al. 2016, §3.3).

    The average includes the current parameters, so the distance is zero at t = 1. No gradient flows through the
    average.
    """

    steps: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for index, parameter in enumerate(network.parameters()):
            self.register_buffer(f"mean_{index}", torch.zeros_like(parameter))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the current parameters to the average."""
        self.steps += 1
        for mean, parameter in zip(self._means(), network.parameters(), strict=True):
            mean.add_((parameter - mean) / self.steps)

    def forward(self, network: nn.Module) -> Tensor:
        """Return the squared distance, a scalar. Call `update` first."""
        pairs = zip(self._means(), network.parameters(), strict=True)
        return torch.stack([(parameter - mean).square().sum() for mean, parameter in pairs]).sum()

    def _means(self) -> list[Tensor]:
        return [buffer for name, buffer in self.named_buffers() if name != "steps"]


def orthogonal_regularisation(
    network: nn.Module, skip: Collection[nn.Module] = (), only: Collection[nn.Parameter] | None = None
) -> Tensor:
    """Sum of ‖W Wᵀ ⊙ (1 - I)‖²_F over the weights, the filters of each as the rows of W (Brock et al. 2019, §3.1).

    The diagonal is left out, because the filters are to be orthogonal but not of length one. Parameters of one
    dimension and embedding tables do not count, nor do the parameters of the modules in `skip`, such as an embedding
    that all layers share. With `only`, nothing but those parameters counts. With spectral norm it is the weight before
    the division. The paper's β is 1e-4. The authors' code adds half of this term's gradient, so its β = 1e-4 is 5e-5
    here. Raises ValueError where no weight is left.
    """
    skipped = {id(parameter) for module in skip for parameter in module.parameters()}
    if only is not None:
        skipped |= {id(parameter) for parameter in network.parameters()} - {id(parameter) for parameter in only}
    terms = []
    for name, weight in network.named_parameters():
        layer = network.get_submodule(name.partition("parametrizations.")[0].rpartition(".")[0])
        if weight.ndim > 1 and id(weight) not in skipped and not isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
            terms.append(_off_diagonal(weight.transpose(0, 1) if transposed else weight))
    if not terms:
        raise ValueError(f"{type(network).__name__} has no weight of two dimensions that is not left out")
    return torch.stack(terms).sum()


def _off_diagonal(weight: Tensor) -> Tensor:
    with torch.autocast(device_type=weight.device.type, enabled=False):
        rows = _float(weight).flatten(1)
        gram = rows @ rows.T
        return (gram - gram.diagonal().diag()).square().sum()


class AccuracyBalance(nn.Module):
    """Rule that skips D's update while D is too accurate (Wu et al. 2016, arXiv:1610.07584, training details).

    D is trained on a batch only if its accuracy on the previous one was not above `limit`. A logit above 0 means real.
    """

    accuracy: Tensor

    def __init__(self, limit: float = 0.8) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("accuracy", torch.tensor(0.5))

    @torch.no_grad()
    def update(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Store D's accuracy, the mean of its accuracies on reals and on fakes."""
        right = 0.5 * (real_logits > 0).float().mean() + 0.5 * (fake_logits <= 0).float().mean()
        self.accuracy.copy_(mean_over_ranks(right))

    def rests(self) -> bool:
        """Return True if D's update is to be skipped in this batch; the same on every rank. Call it before `update`."""
        return bool(self.accuracy > self.limit)


def _float(values: Tensor) -> Tensor:
    """Convert to float32 unless wider: under bf16 autocast a mean would keep only three digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
