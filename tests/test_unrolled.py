"""Unrolled GANs: the generator's gradient through the discriminator's steps, by hand, by differences, and untraced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support import compose, difference, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.phases import Phase
from gan_experiments.losses.adversarial import Minimax, NonSaturating
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.models.unrolled_gan import UnrolledGAN, unrolled
from gan_experiments.networks.toy import ToyDiscriminator, ToyGenerator


class Constant(nn.Module):
    """A generator that always makes its one parameter."""

    latent_dim = 1

    def __init__(self, value: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(value))

    def forward(self, z: Tensor) -> Tensor:
        return self.theta.expand(len(z), 1, 1, 1)


class Slope(nn.Module):
    """A discriminator that multiplies by its one parameter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(value))

    def forward(self, images: Tensor) -> Tensor:
        return self.theta * images.flatten(1).squeeze(1)


class Bilinear(Minimax):
    """f = θ_G θ_D, which D ascends and G descends."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return fake_logits.mean()


def ready(model: UnrolledGAN) -> UnrolledGAN:
    """As in the generator's phase, without a trainer."""
    model._base_rates = {"discriminator": [0.1]}
    optimizer = model.make_optimizer["discriminator"](list(model.discriminator.parameters()))
    model._optimizers = {"discriminator": SimpleNamespace(optimizer=optimizer)}  # type: ignore[dict-item]
    model._rng = torch.Generator().manual_seed(0)
    model._frozen = frozenset()
    model.discriminator.requires_grad_(False)
    return model


def unrolled_gan(generator: nn.Module, discriminator: nn.Module, steps: int, kind: Any, loss: Any) -> UnrolledGAN:
    optimizers = {name: lambda p: kind(p, lr=0.1) for name in ("generator", "discriminator")}
    return ready(UnrolledGAN(steps, generator=generator, discriminator=discriminator, loss=loss, optimizers=optimizers))


def surrogate(model: UnrolledGAN, real: Tensor) -> Tensor:
    """What the generator minimises."""
    model._once.clear()
    model._rng = torch.Generator().manual_seed(0)
    return model.generator_loss(PlayerUpdate(model, {"real": real}, of_generator=True))["adversarial"]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# By hand


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_bilinear_game(steps: int) -> None:
    """θ_D^K = θ_D + Kηθ_G, so d(θ_G θ_D^K)/dθ_G = θ_D + 2Kηθ_G; with the steps detached it would be θ_D + Kηθ_G."""
    model = unrolled_gan(Constant(0.7), Slope(-0.3), steps, torch.optim.SGD, Bilinear())
    loss = surrogate(model, torch.zeros(3, 1, 1, 1))
    (gradient,) = torch.autograd.grad(loss, [model.generator.theta])  # type: ignore[list-item]
    assert loss.item() == pytest.approx(0.7 * (-0.3 + steps * 0.1 * 0.7))
    assert gradient.item() == pytest.approx(-0.3 + 2 * steps * 0.1 * 0.7)
    assert model.discriminator.theta.item() == -0.3


class Perceptrons:
    """A small game with curvature, of which every part is smooth."""

    def __init__(self, kind: Any, steps: int, loss: Any = None) -> None:
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Unflatten(1, (2, 1, 1)))
        generator.latent_dim = 3  # type: ignore[assignment]
        discriminator = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
        self.model = unrolled_gan(generator, discriminator, steps, kind, loss or Minimax())
        self.real = torch.randn(5, 2, 1, 1)

    def numerical(self, parameter: nn.Parameter, step: float = 1e-6) -> Tensor:
        """The gradient of the surrogate by central differences."""
        found = torch.zeros_like(parameter)
        for index in range(parameter.numel()):
            values = []
            for sign in (1, -1):
                parameter.data.view(-1)[index] += sign * step
                values.append(surrogate(self.model, self.real).item())
                parameter.data.view(-1)[index] -= sign * step
            found.view(-1)[index] = (values[0] - values[1]) / (2 * step)
        return found


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=["minimax", "non_saturating"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_the_gradient_is_that_of_differences(kind: Any, loss: Any) -> None:
    """What a detached step, or one whose square root of averages is not differentiated, fails."""
    game = Perceptrons(kind, 3, loss)
    parameter = next(game.model.generator.parameters())
    (gradient,) = torch.autograd.grad(surrogate(game.model, game.real), [parameter])
    torch.testing.assert_close(gradient, game.numerical(parameter), rtol=1e-5, atol=1e-9)


def test_a_detached_unrolling_is_another_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    game = Perceptrons(torch.optim.SGD, 3)
    parameter = next(game.model.generator.parameters())
    (whole,) = torch.autograd.grad(surrogate(game.model, game.real), [parameter])
    monkeypatch.setattr("gan_experiments.distributed.mean_over_ranks", Tensor.detach)
    (detached,) = torch.autograd.grad(surrogate(game.model, game.real), [parameter])
    assert (whole - detached).norm() > 0.05 * whole.norm()


def test_the_surrogate_can_be_differentiated_twice() -> None:
    game = Perceptrons(torch.optim.Adam, 2)
    bias = game.model.generator[2].bias  # type: ignore[index]

    def loss(b: Tensor) -> Tensor:
        return torch.func.functional_call(Loss(game), {"model.generator.2.bias": b}, ())

    assert torch.autograd.gradgradcheck(loss, (bias.detach().clone().requires_grad_(),), atol=1e-4)


class Loss(nn.Module):
    def __init__(self, game: Perceptrons) -> None:
        super().__init__()
        self.model, self.real = game.model, game.real

    def forward(self) -> Tensor:
        return surrogate(self.model, self.real)


# The steps are the optimizer's own


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_unrolled_steps_are_those_of_torch(kind: Any) -> None:
    """From the middle of a training on; the last two gradients are 0, whose averages' root has no derivative."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))]
    gradients = torch.randn(5, 8)
    gradients[:, -2:] = 0
    optimizer = kind(parameters, lr=0.1)

    def ordinary(gradient: Tensor) -> None:
        parameters[0].grad, parameters[1].grad = gradient[:6].view(3, 2), gradient[6:]
        optimizer.step()

    for gradient in gradients[:2]:
        ordinary(gradient)
    theta = nn.utils.parameters_to_vector(parameters).detach()
    gradients.requires_grad_()
    step = unrolled(optimizer, rate=0.1)
    for gradient in gradients[2:]:
        theta = step(theta, gradient)
        ordinary(gradient.detach())
    torch.testing.assert_close(theta, nn.utils.parameters_to_vector(parameters), rtol=1e-12, atol=1e-14)
    assert torch.autograd.grad(theta.sum(), gradients)[0].isfinite().all()


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        (torch.optim.RMSprop, "RMSprop"),
        (torch.optim.AdamW, "AdamW with weight_decay"),
        (lambda p: torch.optim.SGD(p, lr=1, momentum=0.9), "SGD with momentum"),
    ],
)
def test_other_optimizers_are_refused(optimizer: Any, given: str) -> None:
    with pytest.raises(ConfigError, match=f"is {given}: only plain Adam and SGD.*type model"):
        unrolled(optimizer([nn.Parameter(torch.zeros(1))]), 0.1)


# In a run


def start(tmp_path: Path, steps: int = 2, *words: str) -> Any:
    cfg = small(tmp_path / "run", "unrolled_gan", *words, "trainer.precision=64-true")
    cfg.model.unrolling_steps = steps
    return cfg


class Simultaneous(NoiseToImage):
    """Both players step at once: the generator's phase comes first, and sees the discriminator unchanged."""

    def phases(self) -> list[Phase]:
        return super().phases()[::-1]


def test_without_steps_it_is_the_gan_bit_for_bit(tmp_path: Path) -> None:
    cfg = start(tmp_path, 0)
    made = train(cfg).state_dict()
    OmegaConf.set_struct(cfg, False)
    del cfg.model.unrolling_steps
    cfg.model._target_, cfg.model["reuse_fakes"] = f"{__name__}.Simultaneous", True
    assert difference(made, train(cfg).state_dict()) == {}
    cfg.model._target_ = "gan_experiments.models.noise_to_image.NoiseToImage"
    assert difference(made, train(cfg).state_dict()) != {}  # one after the other


@pytest.mark.parametrize("steps", [0, 3])
def test_the_discriminator_keeps_its_ordinary_step_alone(steps: int, tmp_path: Path) -> None:
    """After one batch it is what one step makes of it, whatever the generator foresaw."""
    made = []
    for number in (steps, 1):
        cfg = start(tmp_path, number)
        cfg.images = cfg.data.batch_size
        made.append(train(cfg))
    assert difference(made[0].discriminator.state_dict(), made[1].discriminator.state_dict()) == {}
    assert difference(made[0].generator.state_dict(), made[1].generator.state_dict()) != {}


def test_the_first_unrolled_step_is_the_discriminators_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its optimizer has a past, and its learning rate a schedule."""
    seen: list[Tensor] = []

    def watching(optimizer: Any, rate: float) -> Any:
        step = unrolled(optimizer, rate)

        def watched(theta: Tensor, gradient: Tensor) -> Tensor:
            seen.append(step(theta, gradient))
            return seen[-1]

        return watched

    monkeypatch.setattr("gan_experiments.models.unrolled_gan.unrolled", watching)
    cfg = start(tmp_path, 1)
    cfg.model.schedules = {"discriminator": {"_target_": "gan_experiments.schedules.Linear", "end": cfg.images}}
    model = train(cfg)
    assert len(seen) == model.batches == 4
    torch.testing.assert_close(seen[-1], nn.utils.parameters_to_vector(model.discriminator.parameters()).double())


def test_unrolled_steps_leave_no_trace_in_batch_norm(tmp_path: Path) -> None:
    """Its running statistics are of the discriminator's own step: of real images, and of fakes."""
    cfg = small(tmp_path / "run", "unrolled_gan_dcgan", "model.discriminator.batch_norm=true")
    cfg.images = cfg.data.batch_size
    norms = [layer for layer in train(cfg).discriminator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert {layer.num_batches_tracked.item() for layer in norms} == {2}


def test_the_memory_layout_does_not_matter(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "unrolled_gan_dcgan", "trainer.precision=64-true")
    made = [
        train(cfg, change=lambda model, layout=layout: model.to(memory_format=layout)).state_dict()
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    assert all(gap < 1e-10 for gap in difference(*made).values())


def test_a_batch_in_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.accumulate=2: .*type trainer\.accumulate=1"):
        train(start(tmp_path, 2, "trainer.accumulate=2"))


def test_impossible_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unrolling_steps=-1: type model\.unrolling_steps=5"):
        build.build_model(start(tmp_path, -1))


@pytest.mark.parametrize("data", ["ring", "grid"])
def test_toys_pass_the_check(data: str, tmp_path: Path) -> None:
    check.require(compose(tmp_path, f"data={data}", "model=unrolled_gan"))


# The networks of points


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_depth_and_activation_of_the_toy_networks() -> None:
    generator = ToyGenerator(5, 7, depth=3, activation="relu")
    assert parameters(generator) == (5 + 1) * 7 + 2 * (7 + 1) * 7 + (7 + 1) * 2
    assert [type(layer) for layer in generator.layers] == 3 * [nn.Linear, nn.ReLU]
    discriminator = ToyDiscriminator(7, depth=1)
    assert parameters(discriminator) == (2 + 1) * 7 + 7 + 1
    assert [type(layer) for layer in discriminator.layers] == [nn.Linear, nn.Tanh]


def test_minibatch_discrimination_sees_a_collapse() -> None:
    """The logit of a point depends on the others of its batch, and among copies of itself on their number."""
    points = torch.randn(4, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    for minibatch, extra in (("none", 0), ("discrimination", 8)):
        discriminator = ToyDiscriminator(16, minibatch=minibatch)
        assert parameters(discriminator) == parameters(ToyDiscriminator(16)) + (16 * 8 * 4 + 8 if extra else 0)
        alone, copied = discriminator.features(points[:1]), discriminator.features(points[:1].expand(4, -1, -1, -1))
        assert alone.shape[1] == 16 + extra
        torch.testing.assert_close(copied[0, :16], alone[0, :16])
        torch.testing.assert_close(copied[0, 16:], 4 * alone[0, 16:])
        assert discriminator(points).shape == (4,)


def test_unrolling_goes_through_minibatch_discrimination(tmp_path: Path) -> None:
    model = train(small(tmp_path / "run", "unrolled_gan", "model.discriminator.minibatch=discrimination"))
    assert all(p.isfinite().all() for p in model.parameters())


def test_unknown_choices_of_the_toy_networks() -> None:
    with pytest.raises(ConfigError, match=r"no activation=elu: type activation=tanh or relu"):
        ToyGenerator(activation="elu")
    with pytest.raises(ConfigError, match=r"no minibatch=stddev: type minibatch=none or discrimination"):
        ToyDiscriminator(minibatch="stddev")


def test_a_network_of_points_on_images_is_told_where_points_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"makes images \[2, 1, 1\] .*; type data=grid or data=ring"):
        check.require(compose(tmp_path, "data=digits", "model=unrolled_gan"))
