"""Unrolled Generative Adversarial Networks.

Luke Metz, Ben Poole, David Pfau, Jascha Sohl-Dickstein, 2017, arXiv:1611.02163.
Differs from the paper: none; as in the authors' demonstration (poolio/unrolled_gan) the unrolled steps are those of the
discriminator's own optimizer, continuing from its current averages, and both players step at once, on the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from gan_experiments import distributed
from gan_experiments.bounds import Few
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.phases import Phase
from gan_experiments.losses.adversarial import Minimax
from gan_experiments.losses.penalties import eager
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate

Descent = Callable[[Tensor, Tensor], Tensor]
"""A function (parameters [P], their gradient [P]) -> the parameters [P] after a step; each call is the next step."""


class UnrolledGAN(NoiseToImage):
    """A generator trained against the discriminator as it will be `unrolling_steps` steps later (eq. 2 to 6).

    The generator's gradient flows through these steps, so that it also learns how it changes the discriminator. Then
    they are discarded; the discriminator's own step is the ordinary one. With `loss=minimax` the generator minimises
    the whole value function, whose real part depends on it through the unrolled steps. With another loss it minimises
    its own part of that loss.

    An unrolled step uses the whole batch of all ranks. Batch norm in the discriminator normalises each step by the
    batch, and its running statistics do not include the unrolled steps. With several ranks it needs
    `trainer.sync_batchnorm=true` to be exact. Terms that techniques add to the discriminator's loss are not unrolled.

    Args:
        unrolling_steps: K; 0 makes a GAN with simultaneous steps.
        options: the other arguments of `NoiseToImage`. The discriminator's optimizer is Adam or SGD, without extras.

    Raises ConfigError for another optimizer, a negative number of steps, and accumulated batches.
    """

    def __init__(self, unrolling_steps: Few = 5, **options: Any) -> None:
        super().__init__(reuse_fakes=True, **options)
        if unrolling_steps < 0:
            raise ConfigError(f"model.unrolling_steps={unrolling_steps}: type model.unrolling_steps=5, or 0 for a GAN")
        self.unrolling_steps = unrolling_steps
        if unrolling_steps:
            unrolled(self.make_optimizer["discriminator"]([nn.Parameter(torch.zeros(1))]), rate=0.0)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return the optimizers. Raises ConfigError for accumulated batches: steps are unrolled on the whole batch."""
        if self.unrolling_steps and self.run.accumulate > 1:
            raise ConfigError(
                f"trainer.accumulate={self.run.accumulate}: the unrolled steps are on the whole batch; type"
                " trainer.accumulate=1, or a smaller data.batch_size"
            )
        return super().configure_optimizers()

    def phases(self) -> list[Phase]:
        """Return the generator's phase, then the discriminator's, on the same fakes.

        The generator comes first because it must see the discriminator unchanged.
        """
        discriminator, generator, *others = super().phases()
        return [generator, discriminator, *others]

    def generator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Equation 5: the loss by the discriminator as it will be K steps later; for minimax with the real part too."""
        if not self.unrolling_steps:
            return super().generator_loss(update)
        real_logits, fake_logits = self._foresee(update.batch)
        fake_logits = self.selected(fake_logits)
        if isinstance(self.loss, Minimax):
            return {"adversarial": -self.loss.discriminator(real_logits, fake_logits)}
        return {"adversarial": self.loss.generator(fake_logits, real_logits)}

    def _foresee(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of real images and fakes after the unrolled steps (equations 2 to 4)."""
        logits = _Logits(self)
        moved = {id(parameter) for parameter in self.trained_parameters(logits)}
        own = {name: parameter for name, parameter in logits.named_parameters() if id(parameter) in moved}
        shapes = {name: parameter.shape for name, parameter in own.items()}
        # Copies, so that the unrolled steps leave no trace in running statistics.
        buffers = {name: buffer.clone() for name, buffer in logits.named_buffers()}
        # One vector for all parameters: one reduction over the ranks in each step, and few small operations.
        theta = torch.cat([parameter.detach().flatten() for parameter in own.values()]).requires_grad_()
        step = unrolled(self.optimizer_of("discriminator"), self.learning_rate("discriminator"))

        def judge() -> tuple[Tensor, Tensor]:
            parts = theta.split([shape.numel() for shape in shapes.values()])
            parameters = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            return torch.func.functional_call(logits, {**parameters, **buffers}, (batch,))

        with eager():
            for _ in range(self.unrolling_steps):
                (gradient,) = torch.autograd.grad(self.loss.discriminator(*judge()), theta, create_graph=True)
                theta = step(theta, distributed.mean_over_ranks(gradient))
            return judge()


class _Logits(nn.Module):
    """The discriminator's logits of a batch, as a function of its parameters for `torch.func.functional_call`."""

    def __init__(self, model: UnrolledGAN) -> None:
        super().__init__()
        self.discriminator = model.discriminator
        self.update_of = lambda batch: PlayerUpdate(model, batch, of_generator=True)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        update = self.update_of(batch)
        return update.real_logits, update.fake_logits


def unrolled(optimizer: Optimizer, rate: float) -> Descent:
    """Return the next steps of an optimizer, as a differentiable function of all of its parameters in one vector.

    The optimizer itself does not change. Raises ConfigError unless it is Adam or SGD, and for extras: momentum, weight
    decay, AMSGrad.
    """
    (group,) = optimizer.param_groups
    extras = [key for key in ("momentum", "weight_decay", "amsgrad", "maximize") if group.get(key)]
    if type(optimizer) not in (Adam, SGD) or extras:
        given = type(optimizer).__name__ + (f" with {', '.join(extras)}" if extras else "")
        raise ConfigError(
            f"model.optimizers.discriminator is {given}: only plain Adam and SGD can be unrolled; type"
            " model.optimizers.discriminator._target_=torch.optim.Adam, and leave the extras out"
        )
    if isinstance(optimizer, SGD):
        return lambda theta, gradient: theta - rate * gradient
    states = [optimizer.state.get(parameter, {}) for parameter in group["params"]]
    averages = [
        torch.cat([s.get(key, torch.zeros_like(p)).flatten() for s, p in zip(states, group["params"], strict=True)])
        for key in ("exp_avg", "exp_avg_sq")
    ]
    done = max((int(state["step"]) for state in states if state), default=0)
    return _adam(rate, group["betas"], group["eps"], averages[0], averages[1], done)


def _adam(rate: float, betas: tuple[float, float], eps: float, mean: Tensor, square: Tensor, done: int) -> Descent:
    """Return Adam's next steps after `done` steps, from these averages of the gradient and its square."""
    beta1, beta2 = betas

    def step(theta: Tensor, gradient: Tensor) -> Tensor:
        nonlocal mean, square, done
        done += 1
        mean = torch.lerp(mean, gradient, 1 - beta1)
        square = torch.lerp(square, gradient.square(), 1 - beta2)
        moved = square > 0  # elsewhere the root has no derivative, and NaN would spread from there
        root = torch.where(moved, torch.where(moved, square, 1.0).sqrt(), 0.0)
        correction1, correction2 = 1 - beta1**done, (1 - beta2**done) ** 0.5
        return theta - rate / correction1 * mean / (root / correction2 + eps)

    return step
