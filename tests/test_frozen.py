"""Parameters that a network froze itself: nothing moves them, and modules of nothing else stay in evaluation mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import small, train
from test_engine import fit
from torch import Tensor, nn

from gan_experiments.assembly import build
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.module import evaluating
from gan_experiments.engine.phases import Phase
from gan_experiments.layers import spectral_norm
from gan_experiments.models.game import Game, Update
from gan_experiments.techniques.weights import Orthogonal, SpectralNorm, WeightClipping


class Backboned(nn.Module):
    """A frozen linear map with frozen batch norm, then a trained layer, times a frozen one."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(features, 4), nn.BatchNorm1d(4)).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, outputs))
        self.gain = nn.Parameter(torch.ones(outputs), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.backbone(x)) * self.gain


class Frozen(Game):
    """Two players on backbones, with weight decay, which would move what has no gradient too."""

    def __init__(self, clip: bool = False) -> None:
        torch.manual_seed(0)
        networks = {"generator": Backboned(2, 3), "discriminator": Backboned(3, 1)}
        decaying = {name: lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5) for name in networks}
        super().__init__(networks, decaying, ema={name: {"decay": 0.9} for name in networks}, clip_grad_norm=1.0)
        self.join_techniques({"weight_clipping": WeightClipping(0.01)} if clip else None)

    def phases(self) -> list[Phase]:
        return [
            Phase("discriminator", self.discriminator_loss, self.discriminator, keeps=self.generator),
            Phase("generator", self.generator_loss, self.generator),
        ]

    def fake(self, batch: Batch) -> Tensor:
        return self.generator(self.draw(torch.randn, len(batch["real"]), 2))

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"adversarial": (self.discriminator(self.fake(batch)) - self.discriminator(batch["real"])).mean()}

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"adversarial": -self.discriminator(self.fake(batch)).mean()}


def frozen_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if "gain" in name or "backbone" in name}


@pytest.mark.parametrize("clip", [False, True])
def test_frozen_stays_frozen_through_steps_and_a_resume(clip: bool, tmp_path: Path) -> None:
    module = Frozen(clip)
    before, moving = frozen_of(module), module.generator.body[0].weight.detach().clone()
    assert len(before) == 2 * 2 * 8  # of both networks and their averages: the gain, two layers, their statistics
    fit(module, 3)
    for _ in range(2):  # and in a second training of the same module, whose idle parameters asked for no gradient
        after = frozen_of(module)
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert not torch.equal(moving, module.generator.body[0].weight)
        assert not module.generator.gain.requires_grad
        assert module.generator.body[0].weight.requires_grad
        assert not module.generator.backbone.training
        assert not module.generator.backbone[1].training
        assert module.generator.body[1].training
        networks = (module.generator, module.discriminator)
        frozen = {id(p) for network in networks for p in (network.gain, *network.backbone.parameters())}
        groups = [group for optimizer in module._optimizers.values() for group in optimizer.param_groups]
        held = [p for group in groups for p in group["params"]]
        reduced = [*held, *module._running, *(p for step in module._steps for p in step.asking + step.idle)]
        assert not frozen & {id(tensor) for tensor in reduced}
        assert not {id(b) for b in module.generator.backbone.buffers()} & {id(b) for b in module._running}
        assert all(p.grad is None for network in networks for p in network.parameters())
        saved = module.state_dict()
        module = Frozen(clip)
        module.load_state_dict(saved)
        fit(module, 2)


def test_sampling_leaves_every_module_in_its_mode() -> None:
    network = Backboned(2, 3)
    network.backbone.eval()
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert (network.training, network.backbone.training, network.body[1].training) == (True, False, True)


def test_a_network_that_froze_everything_is_named() -> None:
    module = Frozen()
    module.generator.requires_grad_(False)
    with pytest.raises(ConfigError, match="the phase 'generator' has nothing to train"):
        fit(module, 1)


def test_techniques_leave_frozen_weights_alone(tmp_path: Path) -> None:
    module: Any = Frozen()
    update = Update(module, "generator", module.networks_of("generator"))
    orthogonal = Orthogonal(beta=1.0, player="generator").term(update)
    with torch.no_grad():
        module.generator.backbone[0].weight.mul_(100)
    assert Orthogonal(beta=1.0, player="generator").term(update) == orthogonal
    weight = module.discriminator.backbone[0].weight.clone()
    SpectralNorm().join(module)
    assert torch.equal(module.discriminator.backbone[0].weight, weight)
    layers = [*module.discriminator.modules(), *module.averages["discriminator"].modules()]
    assert sum(isinstance(layer, spectral_norm.SpectralNorm) for layer in layers) == 4


def test_unrolled_steps_move_what_is_trained_alone(tmp_path: Path) -> None:
    """The discriminator's first layer is frozen: theta and Adam's averages are as long as each other."""
    cfg = small(tmp_path, "unrolled_gan_dcgan", "images=8")
    model: Any = build.build_model(cfg)
    first = next(model.discriminator.parameters()).requires_grad_(False)
    before = first.clone()
    trained: Any = train(cfg, change=lambda made: next(made.discriminator.parameters()).requires_grad_(False))
    assert torch.equal(next(trained.discriminator.parameters()), before)
