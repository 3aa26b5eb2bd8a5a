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


def step(
    folder: Path, model: str, *words: str, batch: dict[str, Tensor] | None = None
) -> tuple[dict[str, float], dict[str, Fingerprint]]:
    """The terms of the losses and the gradients of a first batch, of four images, in the engine's own step."""
    words = words if batch else ("data=cifar10", *words)
    module = build.build_model(small(folder, model, "data.batch_size=4", *words)).double()
    assert isinstance(module, NoiseToImage)
    module.n_critic = 1
    for name in module.network_names:
        filled(getattr(module, name))
    optimizers = [Recorded(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, misc]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    module.train()
    module.on_fit_start()
    phases = iter(range(2 * module.run.accumulate))

    def draw(sampler: Callable[..., Tensor], n: int, *shape: int) -> Tensor:
        phase, part = divmod(next(phases), module.run.accumulate)
        return 3 * formula(1000 + phase, n * module.run.accumulate, *shape)[part * n :][:n]

    module.draw = draw  # type: ignore[method-assign]
    module.training_step(batch or {"real": 2 * formula(2000, 4, 3, 32, 32), "label": LABEL}, 0)
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


STAGE_1 = "model.generator.stage_1"
STACKGAN_WORDS = {
    "stackgan_1": ["model.generator.noise_dim=6"],
    "stackgan_2": [f"{STAGE_1}.noise_dim=6", f"{STAGE_1}.condition_dim=8", "model.discriminator.width=2"],
    "stackgan_v2": ["model.generator.noise_dim=6", "model.discriminator.width=2"],
    "stackgan_v2_unconditional": ["model.generator.noise_dim=6", "model.discriminator.width=2"],
}
# StackGAN-Pytorch e72ef88 (the stages) and StackGAN-v2 6228e34: their networks and losses, with wrong images in place
# of shifted captions, and stage I of the second in evaluation mode.
STACKGAN: dict[str, tuple[dict[str, float], dict[str, Fingerprint]]] = {
    "stackgan_1": (
        {"discriminator/adversarial": 2.62407530510231, "generator/adversarial": 0.08763398831903071}
        | {"generator/kl": 1.0637148054934291},
        {
            "discriminator": (7.614034514041748, -3.6616209190106415, -0.30370926026549877),
            "generator": (1.7503773332803374, -0.4501285839341921, 2.562024898204944),
        },
    ),
    "stackgan_2": (
        {"discriminator/adversarial": 1.6092664718028544, "generator/adversarial": 0.7579055728107038}
        | {"generator/kl": 1.0637148054934291},
        {
            "discriminator": (2.1340637631336623, -2.6193507382869283, 0.9122579091680774),
            "generator": (3.582346005326885, -2.270692461282323, 0.0736247853581552),
        },
    ),
    "stackgan_v2": (
        {"discriminator/adversarial": 14.234873520718418, "generator/adversarial": 4.849270189427272}
        | {"generator/kl": 0.21697018963874687},
        {
            "discriminator": (16.97161861663823, 12.161935835143895, -6.458138181266777),
            "generator": (5.696195314531863, -1.6660645796257114, -4.134504734094524),
        },
    ),
    "stackgan_v2_unconditional": (
        {"discriminator/adversarial": 5.446499996725715, "generator/adversarial": 1.5587927086564743}
        | {"generator/colour": 3.6902012393910244},
        {
            "discriminator": (14.051447229286122, -3.719352311479117, -17.10738641464334),
            "generator": (13.888333229293623, -1.9225082147725958, -3.9735873777042845),
        },
    ),
}


@pytest.mark.parametrize("model", STACKGAN)
def test_stackgans_are_their_trainers_steps(model: str, tmp_path: Path) -> None:
    size = 64 if model == "stackgan_1" else 256
    own = ["data=captioned_digits", f"data.resolution={size}", "data.channels=3", *STACKGAN_WORDS[model]]
    if model != "stackgan_v2_unconditional":
        own += ["model.generator.condition_dim=8", "model.text_encoder.features=16"]
    batch = {
        "real": 2 * formula(2000, 4, 3, size, size),
        "wrong": 2 * formula(2001, 4, 3, size, size),
        "caption": torch.tensor([[2, 3, 4, 0], [5, 2, 0, 0], [6, 7, 8, 9], [3, 0, 0, 0]]),
    }
    terms, gradients = step(tmp_path, model, *own, batch=batch)
    expected, expected_gradients = STACKGAN[model]
    assert terms == pytest.approx(expected, rel=1e-9)
    for player in PLAYERS:
        assert gradients[player] == pytest.approx(expected_gradients[player], rel=1e-8)


def test_attngan_is_its_trainers_step(tmp_path: Path) -> None:
    """AttnGAN 0d000e6, trainer.py and miscc/losses.py with γ1 = 5, a batch without classes, and captions of one length.

    With wrong images in place of shifted captions. Of captions of several lengths the authors' mask is another one.
    """
    own = ["data=captioned_digits", "data.resolution=256", "data.channels=3", "model.generator.noise_dim=6"]
    own += ["model.generator.condition_dim=8", "model.generator.width=2", "model.discriminator.width=2"]
    own += ["model.text_encoder.features=16", "model.damsm_weight=5"]
    encoder = "{_target_:gan_experiments.networks.damsm.ImageEncoder,features:16,resolution:256,channels:3,width:2}"
    caption = torch.zeros(4, 16, dtype=torch.int64)
    caption[:, :3] = torch.tensor([[2, 3, 4], [5, 2, 3], [6, 7, 8], [3, 4, 9]])
    images = {"real": 2 * formula(2000, 4, 3, 256, 256), "wrong": 2 * formula(2001, 4, 3, 256, 256)}
    batch = {**images, "caption": caption}
    terms, gradients = step(tmp_path, "attngan", *own, f"model.image_encoder={encoder}", batch=batch)
    expected = {"adversarial": 4.225310441352928, "kl": 2.4595650075584654}
    expected |= {"words": 70.41191133057563, "sentences": 13.985780638645341}
    of_generator = {f"generator/{name}": value for name, value in expected.items()}
    assert terms == pytest.approx({"discriminator/adversarial": 4.4859634441016745, **of_generator}, rel=1e-9)
    of_discriminator = (5.093511172115468, -3.173898525278683, 1.8296315839938024)
    assert gradients["discriminator"] == pytest.approx(of_discriminator, rel=1e-8)
    assert gradients["generator"] == pytest.approx(
        (9.060216280366257, 1.540064643475637, -18.951803105396856), rel=1e-8
    )


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
