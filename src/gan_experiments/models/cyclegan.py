"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros, 2017, arXiv:1703.10593.
Differs from the paper: none; the weights, the pool and the order of the steps are those of the authors' PyTorch code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments import distributed
from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage, side_by_side


class ImagePool(nn.Module):
    """A history of fakes for the discriminator (§4, after Shrivastava et al. 2017).

    Until `size` images are stored, each new one is stored and returned. From then on a new one is returned with
    probability 1/2; otherwise it replaces a random stored image, which is returned instead. The images are part of the
    checkpoint.
    """

    def __init__(self, size: int = 50) -> None:
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, images: Tensor, coin: Tensor, index: Tensor) -> Tensor:
        """Exchange fakes [n, C, H, W] for as many images to show. `coin` and `index` [n] are drawn from U[0, 1)."""
        if self.size == 0:
            return images
        returned = []
        for image, use_stored, place in zip(
            images, (coin < 0.5).tolist(), (index * self.size).long().tolist(), strict=True
        ):
            if len(self.images) < self.size:
                self.images.append(image.clone())
                returned.append(image)
            elif use_stored:
                returned.append(self.images[place].to(image))
                self.images[place] = image.clone()
            else:
                returned.append(image)
        return torch.stack(returned)

    @override
    def get_extra_state(self) -> list[Tensor]:
        return self.images

    def set_extra_state(self, state: list[Tensor]) -> None:
        """Restore the stored images; they move to the device of the fakes when next used."""
        self.images = list(state)


class CycleGAN(ImageToImage):
    """Two translators, each the other's inverse, and a discriminator for each domain.

    Args:
        generator_ab, generator_ba: images [N, C, H, W] of one domain -> the other, in [-1, 1].
        discriminator_a, discriminator_b: images -> logits of patches [N, 1, h, w].
        loss: least squares in the paper.
        cycle_weight: λ of equation 3.
        identity_weight: weight of the identity loss (§5.2), in units of `cycle_weight`; 0 for none.
        pool_size: images kept for each discriminator; 0 for none.
        engine: the other arguments of `ImageToImage`.
    """

    needs = frozenset({"real_a", "real_b"})

    generator_ab: nn.Module
    generator_ba: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module

    def __init__(
        self,
        generator_ab: nn.Module,
        generator_ba: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        loss: AdversarialLoss,
        cycle_weight: NotNegative = 10.0,
        identity_weight: NotNegative = 0.5,
        pool_size: Annotated[int, Field(ge=0, le=10**6)] = 50,
        **engine: Any,
    ) -> None:
        networks = {
            "generator_ab": generator_ab,
            "generator_ba": generator_ba,
            "discriminator_a": discriminator_a,
            "discriminator_b": discriminator_b,
        }
        super().__init__(networks, loss, **engine)
        self.directions = {"b": Direction("real_a"), "a": Direction("real_b")}
        self.multiple, self.smallest = getattr(generator_ab, "multiple", 1), getattr(generator_ab, "smallest", 1)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.pool_a, self.pool_b = ImagePool(pool_size), ImagePool(pool_size)

    def phases(self) -> list[Phase]:
        """Return a phase of both generators, with one optimizer, then a phase of both discriminators, with one."""
        return self.joined(
            Phase("generator", self.generator_loss, (self.generator_ab, self.generator_ba)),
            Phase("discriminator", self.discriminator_loss, (self.discriminator_a, self.discriminator_b)),
        )

    def fakes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the translations (fake_a, fake_b) of this batch; they carry gradients."""
        return self.once("fakes", lambda: (self.generator_ba(batch["real_b"]), self.generator_ab(batch["real_a"])))

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equations 1 and 2: have fakes taken for real, plus λ ‖F(G(x)) - x‖₁ for the cycle, plus ½ λ ‖F(x) - x‖₁ for
        identity; all in both directions.
        """
        real_a, real_b = batch["real_a"], batch["real_b"]
        fake_a, fake_b = self.fakes(batch)
        cycle_a, cycle_b = self.generator_ba(fake_b), self.generator_ab(fake_a)
        terms = {
            "adversarial_ab": self.fooled(self.logits(self.discriminator_b, fake_b)),
            "adversarial_ba": self.fooled(self.logits(self.discriminator_a, fake_a)),
            "cycle_a": self.cycle_weight * F.l1_loss(cycle_a, real_a),
            "cycle_b": self.cycle_weight * F.l1_loss(cycle_b, real_b),
        }
        if self.identity_weight:
            weight = self.cycle_weight * self.identity_weight
            # A translator into B leaves what is already in B as it is.
            terms["identity_a"] = weight * F.l1_loss(self.generator_ba(real_a), real_a)
            terms["identity_b"] = weight * F.l1_loss(self.generator_ab(real_b), real_b)
        return terms

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return for each domain a comparison of its real images with fakes from its pool."""
        pooled_a, pooled_b = self.once("pooled", lambda: self.pooled(batch))
        return [
            Comparison(self, "discriminator_a", batch["real_a"], pooled_a),
            Comparison(self, "discriminator_b", batch["real_b"], pooled_b),
        ]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Have each discriminator tell the real images of its domain from fakes from the pool."""
        a, b = self.compared(batch)
        self.observe(real_a=a.real_logits, fake_a=a.fake_logits, real_b=b.real_logits, fake_b=b.fake_logits)
        return {
            "adversarial_a": self.loss.discriminator(a.real_logits, a.fake_logits),
            "adversarial_b": self.loss.discriminator(b.real_logits, b.fake_logits),
        }

    def pooled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Exchange the fakes of this batch for fakes of both domains from their pools."""
        fake_a, fake_b = self.fakes(batch)
        return self.from_pool(self.pool_a, fake_a.detach()), self.from_pool(self.pool_b, fake_b.detach())

    def from_pool(self, pool: ImagePool, fakes: Tensor) -> Tensor:
        """Exchange this rank's fakes [n, C, H, W] for as many from a pool; the pool is the same on every rank."""
        n = len(fakes)
        coin, index = self.draw(torch.rand, n), self.draw(torch.rand, n)
        pooled = pool(*(distributed.gather_rows(rows) for rows in (fakes, coin, index)))
        return pooled[distributed.rank() * n :][:n]

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate images of domain A to B, or of B to A."""
        direction, reads = ("ab", "real_a") if to == "b" else ("ba", "real_b")
        return self.network(f"generator_{direction}", ema)(batch[reads])

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """Return what every sample sheet of a run is made from: the same images of both domains."""
        return {key: fixed[key][: (n + 1) // 2] for key in ("real_a", "real_b")}

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 3, C, H, W]: input, output, and output translated back; domain A first, then B."""
        cells = []
        for key, there, other, back in (("real_a", "b", "real_b", "a"), ("real_b", "a", "real_a", "b")):
            images = inputs[key].to(self.device)
            output = self.translate({key: images}, there, ema)
            cells.append(side_by_side(images, output, self.translate({other: output}, back, ema)))
        return torch.cat(cells)
