"""One full step of both players against the authors' own code: losses, and gradients after all penalties.

The numbers are those of the official implementations, run once in float64 with the same weights, images, labels and
noise, all by `formula`: no code of theirs is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import small
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_experiments.assembly import build
from gan_experiments.layers.spectral_norm import SpectralNorm
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate

Fingerprint = tuple[float, float, float]
PLAYERS = ("generator", "discriminator")
LABEL = torch.tensor([0, 3, 9, 3])


def formula(k: int, *shape: int) -> Tensor:
    """Numbers in [-½, ½) without a pattern, so that no matrix of them is nearly singular."""
    i = torch.arange(math.prod(shape), dtype=torch.float64) + 1
    return ((torch.sin(12.9898 * i + k) * 43758.5453) % 1 - 0.5).view(shape)


def filled(network: nn.Module) -> None:
    """Every parameter by the formula, and singular vectors that fit: the official code iterates at each forward."""
    for k, parameter in enumerate(network.parameters()):
        parameter.data = formula(k, *parameter.shape)
    layer: Any
    for layer in network.modules():
        if hasattr(layer, "parametrizations"):
            (norm,) = layer.parametrizations.weight
            assert isinstance(norm, SpectralNorm)
            matrix = layer.parametrizations.weight.original.detach().flatten(1)
            norm.u.copy_(torch.linalg.svd(matrix, full_matrices=False)[0][:, 0])


def fingerprint(gradients: list[Tensor]) -> Fingerprint:
    """The norm of all gradients as one vector, and two projections of it."""
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    i = torch.arange(len(whole), dtype=torch.float64)
    return whole.norm().item(), (whole @ torch.sin(0.7 * i)).item(), (whole @ torch.cos(1.3 * i + 1)).item()


class Recorded:
    """An optimizer as the engine knows it, which keeps what it was given."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self, closure: Callable[[], Any]) -> None:
        closure()
        self.seen = fingerprint([p.grad for group in self.param_groups for p in group["params"]])
        self.optimizer.step()


def step(folder: Path, model: str, *words: str) -> tuple[dict[str, float], dict[str, Fingerprint]]:
    """The terms of the losses and the gradients of a first batch, of four images, in the engine's own step."""
    module = build.build_model(small(folder, model, "data=cifar10", "data.batch_size=4", *words)).double()
    assert isinstance(module, NoiseToImage)
    module.n_critic = 1
    for name in module.network_names:
        filled(getattr(module, name))
    optimizers = [Recorded(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, misc]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    module.on_fit_start()
    phases = iter(range(2 * module.run.accumulate))

    def draw(sampler: Callable[..., Tensor], n: int, *shape: int) -> Tensor:
        phase, part = divmod(next(phases), module.run.accumulate)
        return 3 * formula(1000 + phase, n * module.run.accumulate, *shape)[part * n :][:n]

    module.draw = draw  # type: ignore[method-assign]
    module.train()
    module.training_step({"real": 2 * formula(2000, 4, 3, 32, 32), "label": LABEL}, 0)
    terms = {
        name: values[0][1].item() for name, values in module._history.items() if "/" in name and "norm" not in name
    }
    return terms, {name: optimizer.seen for name, optimizer in module._optimizers.items()}  # type: ignore[attr-defined]


R3GAN_WORDS = ("augment=none", "model.gamma=[400,400]", *(f"model.{p}.group_width=4" for p in PLAYERS))


def test_r3gan_is_its_trainers_step(tmp_path: Path) -> None:
    """AdversarialTraining of R3GAN/Trainer.py (brownvc/R3GAN 19a7ddf), the discriminator first, γ = 400."""
    terms, gradients = step(tmp_path, "r3gan", *R3GAN_WORDS)
    losses = {"adversarial": 0.6966953900868974, "r1": 0.08052297457318562, "r2": 0.07620394719409947}
    expected = {f"discriminator/{name}": value for name, value in losses.items()}
    assert terms == pytest.approx({**expected, "generator/adversarial": 0.6917156519513474}, rel=1e-9)
    assert gradients["discriminator"] == pytest.approx(
        (0.8654098423012901, -0.3271178766167722, 0.600114588099521), rel=1e-9
    )
    assert gradients["generator"] == pytest.approx(
        (0.061448459351560125, -0.02408249487745313, -0.052663095898591646), rel=1e-7
    )


def test_biggan_is_its_training_function(tmp_path: Path) -> None:
    """GAN_training_function of train_fns.py (BigGAN-PyTorch 9845943): hinge, two parts a batch, G_ortho = 0.02.

    It iterates spectral norm at each forward, ours once an update, so the generator's step agrees to 1e-7 alone.
    """
    words = ["model.fake_labels=batch", "technique.orthogonal.beta=0.01", "trainer.accumulate=2"]
    words += [f"model.optimizers.{player}.lr=1e-4" for player in PLAYERS]
    terms, gradients = step(tmp_path, "biggan", *words)
    assert terms["discriminator/adversarial"] == pytest.approx(25.04370271601505, rel=1e-9)
    assert terms["generator/adversarial"] == pytest.approx(-15.535534662035467, rel=1e-6)
    assert gradients["discriminator"] == pytest.approx(
        (99.08353707945679, 23.088595530170746, -21.161949849278564), rel=1e-9
    )
    assert gradients["generator"] == pytest.approx((14.683168814355176, 7.808526537562925, -6.35890757197797), rel=1e-6)


# PyTorch-StudioGAN 947b35e, losses.py and ops.py, on our discriminator: each term, and its gradient.
STUDIO: dict[str, tuple[float, Fingerprint]] = {
    "hinge": (19.38670886770572, (112.1272031762529, 79.02388902458907, -8.311277132381843)),
    "gradient_penalty": (0.26916183160774476, (1.3124905839569634, 0.1005033019931677, 0.8201402409896854)),
    "dragan": (0.2654499966067256, (1.2039171274222815, 0.0403498374666309, 0.6041527755547)),
    "r1": (0.11782118190334825, (0.5821054345628282, -0.061699090479711116, -0.29691678206847477)),
    "lecam": (4.554949633423909, (476.5475259740077, 337.0640567771811, -30.35446962768671)),
}


@pytest.mark.parametrize("name", STUDIO)
def test_terms_are_studiogans(name: str, tmp_path: Path) -> None:
    """DRAGAN's standard deviation is the population's here: 4e-5 apart in a batch of 12,288 numbers."""
    weights = {"gradient_penalty": "weight=1", "dragan": "weight=1", "r1": "gamma=1", "lecam": "weight=1"}
    words = [f"technique=[{name}]", f"technique.{name}.{weights[name]}"] if name in weights else []
    words += ["technique.lecam.start=7"] if name == "lecam" else []
    module = build.build_model(small(tmp_path, "sngan", "data=cifar10", *words)).double()
    assert isinstance(module, NoiseToImage)
    filled(module.discriminator)
    draws = iter(range(2))
    module.draw = lambda _, *shape: 0.5 + formula(1000 + next(draws), *shape)  # type: ignore[method-assign, assignment]
    # LeCam's averages follow three batches, then move slowly through two more.
    for images in (0, 4, 8, 12, 16) if name == "lecam" else (16,):
        turn = PlayerUpdate(module, {"real": 2 * formula(2000, 4, 3, 32, 32) * (1 + images / 4) / 5})
        fake = 2 * formula(2001, 4, 3, 32, 32) * (1 + images / 4) / 5
        turn.__dict__["_fakes"] = (fake, None, fake)
        module.images_seen = images
        term = module.techniques[name].term(turn) if name in weights else module.discriminator_loss(turn)["adversarial"]
    module.discriminator.zero_grad()
    term.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.discriminator.parameters()]
    value, gradient = STUDIO[name]
    tolerance = 1e-4 if name == "dragan" else 1e-9
    assert term.item() == pytest.approx(value, rel=tolerance)
    assert fingerprint(gradients) == pytest.approx(gradient, rel=10 * tolerance)
