"""How fast the framework trains, beside loops over the same networks written by hand.

    python benchmarks/speed.py [--seconds 20] [--cases dcgan_32 mlp ...]

Prints two Markdown tables. "Framework" is the real path: what build.py builds of a composed config (Lightning's
Trainer, engine, data module, the record of every 50 batches to metrics.csv), without sheets, scores and checkpoints.

1. Against the loop that one would write for speed (`dcgan_loop`, `wgan_gp_loop`): no more forwards and backwards than
   the algorithm needs, a frozen discriminator in the generator's step, Adam's step and the average of the generator's
   weights by one fused call each, losses read every 50 batches. Same networks, optimizers, batch size, float32 and
   images in memory.
2. DCGAN at 64x64 under the choices of `trainer`, against a loop as tutorials have it (`tutorial_loop`): float32,
   contiguous, nothing frozen or fused, a second batch of fakes for the generator's step, losses read at each step.

Both sides take turns inside one process: some batches of the framework, as many of the loop, again and again, so that
other work on the machine hits both alike. A ratio is the loop's time over the framework's in one round, above 1 where
the framework is faster; the median of the rounds and their range are printed. CPU time counts all threads.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the verbs do; read when torch loads

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from gan_experiments.assembly import build
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.image_module import ImageData
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.engine.optimizers import fuse
from gan_experiments.runs import configs, resolvers

ROUNDS, FEWEST_ROUNDS, LOG_EVERY = 9, 3, 50
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")


# ------------------------------------------------------------------------------------------------- what is trained


@dataclass
class Case:
    """A config to train, and the loop that does the same by hand."""

    title: str
    overrides: list[str]
    loop: Callable[[DictConfig, ImageArray], Iterator[None]]
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)  # put in place of the config's own

    def config(self, folder: str) -> DictConfig:
        """Compose the config of a run in `folder`."""
        resolvers.register_resolvers()
        common = [
            "trainer=cpu",
            "trainer.precision=32-true",
            "trainer.channels_last=false",
            "logger=csv",
            "callbacks=none",
            "metrics=none",
            "images=1_000_000_000",
        ]
        with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
            cfg = hydra.compose("run", [*common, *self.overrides, f"output={folder}"])
        OmegaConf.set_struct(cfg, False)
        for place, node in self.nodes.items():
            OmegaConf.update(cfg, place, node, merge=False)
        return cfg


class RandomImages(ImageData):
    """5,000 images of random bytes, in memory."""

    def load(self, split: str) -> ImageArray:
        """Draw the images of the only split."""
        shape = (5000, self.channels, self.resolution, self.resolution)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return ImageArray(pixels, None, "random")


class TinyGenerator(nn.Module):
    """z `[N, 32]` -> images `[N, 1, 16, 16]`, fully connected."""

    latent_dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 256), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Images of noise."""
        return self.layers(z).view(-1, 1, 16, 16)


class TinyDiscriminator(nn.Module):
    """Images `[N, 1, 16, 16]` -> logits `[N]`, fully connected."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.layers(images).squeeze(1)


class Perceptrons(nn.Module):
    """z `[N, 100]` -> images `[N, 1, 28, 28]`: the fully connected generator that tutorials take for MNIST."""

    latent_dim = 100

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(100, 128), nn.LeakyReLU(0.2)]
        for inside, outside in ((128, 256), (256, 512), (512, 1024)):
            layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside, 0.8), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(1024, 784), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Images of noise."""
        return self.layers(z).view(-1, 1, 28, 28)


class PerceptronCritic(nn.Module):
    """Images `[N, 1, 28, 28]` -> values `[N]`, fully connected."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(256, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Values of images."""
        return self.layers(images).squeeze(1)


# ------------------------------------------------------------------------------------------------- loops by hand


def batches_of(images: ImageArray, size: int) -> Iterator[Tensor]:
    """Shuffled float batches [size, C, H, W] in [-1, 1], without end."""
    while True:
        order = torch.randperm(len(images))
        for rows in order[: len(order) // size * size].split(size):
            yield images.pixels.index_select(0, rows).float().sub_(127.5).div_(127.5)


def parts_of(cfg: DictConfig, fused: bool = True) -> tuple[nn.Module, nn.Module, Any, Any]:
    """Generator, discriminator and their optimizers, of the same classes with the same arguments."""
    generator, discriminator = instantiate(cfg.model.generator), instantiate(cfg.model.discriminator)
    make = instantiate(cfg.model.optimizers, _convert_="all")
    optimizer_g = make["generator"](generator.parameters())
    optimizer_d = make["discriminator"](discriminator.parameters())
    if fused:
        fuse(optimizer_g)
        fuse(optimizer_d)
    return generator, discriminator, optimizer_g, optimizer_d


def averager(generator: nn.Module, decay: float) -> Callable[[], None]:
    """A function that moves an average of the generator's weights; its lists are made once."""
    average = WeightAverage(generator, decay).network
    averaged, current = list(average.parameters()), list(generator.parameters())
    buffers = list(zip(average.buffers(), generator.buffers(), strict=True))

    @torch.no_grad()
    def update() -> None:
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for old, new in buffers:
            old.copy_(new)

    return update


def dcgan_loop(cfg: DictConfig, images: ImageArray) -> Iterator[None]:
    """DCGAN for speed: one batch of fakes for both steps; pauses after each batch."""
    generator, discriminator, optimizer_g, optimizer_d = parts_of(cfg)
    update_average = averager(generator, 0.5 ** (cfg.data.batch_size / cfg.model.ema.generator.half_life))
    losses: list[Tensor] = []
    for real in batches_of(images, cfg.data.batch_size):
        fake = generator(torch.randn(len(real), generator.latent_dim))

        real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
        loss_d = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        loss_d.backward()
        optimizer_d.step()
        optimizer_d.zero_grad(set_to_none=True)

        discriminator.requires_grad_(False)
        loss_g = F.softplus(-discriminator(fake)).mean()
        loss_g.backward()
        optimizer_g.step()
        optimizer_g.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)

        update_average()
        read_now_and_then(losses, loss_d, loss_g)
        yield


def wgan_gp_loop(cfg: DictConfig, images: ImageArray) -> Iterator[None]:
    """WGAN-GP for speed: a critic's step a batch, each fifth with a generator's; pauses after each batch."""
    generator, critic, optimizer_g, optimizer_d = parts_of(cfg)
    update_average = averager(generator, 0.5 ** (cfg.data.batch_size / cfg.model.ema.generator.half_life))
    losses: list[Tensor] = []
    for number, real in enumerate(batches_of(images, cfg.data.batch_size), start=1):
        n = len(real)
        if step := cfg.model.dequantize:
            real.add_(1).mul_(1 - step / 2).sub_(1).add_(torch.rand_like(real), alpha=step)
        with torch.no_grad():
            fake = generator(torch.randn(n, generator.latent_dim))
        alpha = torch.rand(n, 1, 1, 1)
        between = torch.lerp(fake, real, alpha).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        loss_d = critic(fake).mean() - critic(real).mean() + cfg.model.gp_weight * penalty
        loss_d.backward()
        optimizer_d.step()
        optimizer_d.zero_grad(set_to_none=True)
        read_now_and_then(losses, loss_d)

        if number % cfg.model.n_critic == 0:
            critic.requires_grad_(False)
            loss_g = -critic(generator(torch.randn(cfg.model.generator_batch * n, generator.latent_dim))).mean()
            loss_g.backward()
            optimizer_g.step()
            optimizer_g.zero_grad(set_to_none=True)
            critic.requires_grad_(True)
            update_average()
        yield


def tutorial_loop(cfg: DictConfig, images: ImageArray) -> Iterator[None]:
    """DCGAN as tutorials have it, see the top; pauses after each batch."""
    generator, discriminator, optimizer_g, optimizer_d = parts_of(cfg, fused=False)
    criterion = nn.BCEWithLogitsLoss()
    for real in batches_of(images, cfg.data.batch_size):
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

        optimizer_d.zero_grad()
        fake = generator(torch.randn(len(real), generator.latent_dim))
        loss_d = criterion(discriminator(real), ones) + criterion(discriminator(fake.detach()), zeros)
        loss_d.backward()
        optimizer_d.step()

        optimizer_g.zero_grad()
        fake = generator(torch.randn(len(real), generator.latent_dim))
        loss_g = criterion(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()
        _ = loss_d.item(), loss_g.item()
        yield


def read_now_and_then(losses: list[Tensor], *new: Tensor) -> None:
    """Keep losses without waiting for them; read them all every 50 batches."""
    losses += [loss.detach() for loss in new]
    if len(losses) >= LOG_EVERY * len(new):
        torch.stack(losses).tolist()
        losses.clear()


# ------------------------------------------------------------------------------------------------- the measurement


@dataclass
class Round:
    """Seconds of a number of batches: of the framework and of the loop, by the processor and by the clock."""

    batches: int
    framework: tuple[float, float]
    loop: tuple[float, float]


class TakingTurns(L.Callback):
    """Lets a loop run in the pauses of a training: after some batches of the framework, as many of the loop.

    `cycle` is the number of batches after which the phases repeat. Two cycles or a second, whichever is longer, warm
    up, and the last of them sets the number of batches in a round. Ends the training after further `seconds`.
    """

    def __init__(self, step: Callable[[], None], cycle: int, seconds: float) -> None:
        self.step, self.cycle, self.seconds = step, cycle, seconds
        self.rounds: list[Round] = []
        self.batches = cycle
        self._warm_turns, self._warm_until = 0, 0.0
        self._deadline: float | None = None
        self._done, self._start = 0, (0.0, 0.0)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the framework's first turn."""
        self._warm_until = time.perf_counter() + 1.0
        self._start = now()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:  # type: ignore[override]
        """After the last batch of a turn, give the loop its turn."""
        self._done += 1
        if self._done < self.batches:
            return
        framework = since(self._start)
        start = now()
        for _batch in range(self.batches):
            self.step()
        loop = since(start)
        if self._deadline is None:
            self._warm_turns += 1
            if self._warm_turns >= 2 and time.perf_counter() >= self._warm_until:
                self._choose(framework[1] + loop[1])
        else:
            self.rounds.append(Round(self.batches, framework, loop))
            trainer.should_stop = len(self.rounds) >= FEWEST_ROUNDS and time.perf_counter() >= self._deadline
        self._done, self._start = 0, now()

    def _choose(self, seconds_a_cycle: float) -> None:
        cycles = max(1, round(self.seconds / ROUNDS / seconds_a_cycle))
        self.batches = cycles * self.cycle
        if self.batches > LOG_EVERY:  # a whole number of records in each round
            self.batches -= self.batches % LOG_EVERY
        self._deadline = time.perf_counter() + self.seconds


def now() -> tuple[float, float]:
    """The processor's and the wall's clock."""
    return time.process_time(), time.perf_counter()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Seconds since `start`, by both clocks."""
    end = now()
    return end[0] - start[0], end[1] - start[1]


def measure(case: Case, seconds: float) -> tuple[DictConfig, list[Round]]:
    """Train a case by the framework and by its loop in turns."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = case.config(folder)
        run = build.build(cfg)
        steps = case.loop(cfg, run.data.reference("train"))  # type: ignore[attr-defined]
        assert isinstance(run.model, AdversarialModule)
        cycle = max(phase.every for phase in run.model.phases())
        turns = TakingTurns(lambda: next(steps), cycle, seconds)
        run.trainer.callbacks.append(turns)  # type: ignore[attr-defined]
        with run.opened():
            run.train(None)
    return cfg, turns.rounds


# ------------------------------------------------------------------------------------------------- the tables

RANDOM = f"{__name__}.RandomImages"
DCGAN_64 = ["model=dcgan", "data.resolution=64", "data.channels=3", "data.classes=0", f"data._target_={RANDOM}"]
CASES = {
    "dcgan_32": Case("DCGAN 32x32x1, width 64", ["model=dcgan"], dcgan_loop),
    "dcgan_64": Case("DCGAN 64x64x3, width 64", DCGAN_64, dcgan_loop),
    "wgan_gp_resnet": Case(
        "WGAN-GP ResNet 32x32x1, width 32",
        ["model=wgan_gp", "model.generator.width=32", "model.discriminator.width=32"],
        wgan_gp_loop,
    ),
    "wgan_gp_conv": Case(
        "WGAN-GP Conv 32x32x1, width 32",
        ["model=wgan_gp_dcgan", "model.generator.width=32", "model.discriminator.width=32"],
        wgan_gp_loop,
    ),
    "wgan_gp_mlp": Case(
        "WGAN-GP fully connected 28x28x1, 5 critic steps",
        ["model=wgan_gp_dcgan", "data.resolution=28", "data.classes=0", f"data._target_={RANDOM}"],
        wgan_gp_loop,
        {
            "model.generator": {"_target_": f"{__name__}.Perceptrons"},
            "model.discriminator": {"_target_": f"{__name__}.PerceptronCritic"},
        },
    ),
    "mlp": Case(
        "fully connected 16x16x1, width 128",
        ["model=dcgan", "data.resolution=16", "data.classes=0", f"data._target_={RANDOM}"],
        dcgan_loop,
        {
            "model.generator": {"_target_": f"{__name__}.TinyGenerator"},
            "model.discriminator": {"_target_": f"{__name__}.TinyDiscriminator"},
        },
    ),
}
CHOICES = {
    "float32": [],
    "float32, channels_last": ["trainer.channels_last=true"],
    "float32, compiled": ["trainer.compile=[generator,discriminator]"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "bf16, channels_last": ["trainer.precision=bf16-mixed", "trainer.channels_last=true"],
}


def overheads(names: list[str], seconds: float) -> None:
    """Print the first table."""
    print("| case, batch 64, float32 | loop images/s | framework images/s | loop / framework, CPU | by the clock |")
    print("|---|---|---|---|---|")
    costs = []
    for name in names:
        case = CASES[name]
        cfg, rounds = measure(case, seconds)
        loop, framework = images_per_second(cfg, rounds)
        rates = f"{loop:,.0f} | {framework:,.0f}"
        print(f"| {case.title} | {rates} | {ratio(rounds, 0)} | {ratio(rounds, 1)} |", flush=True)
        cost = statistics.median(1000 * (r.framework[0] - r.loop[0]) / r.batches for r in rounds)
        step = statistics.median(1000 * r.loop[0] / r.batches for r in rounds)
        costs.append(f"{name} {cost:+.2f} of {step:,.2f} ({len(rounds)} rounds of {rounds[0].batches})")
    print(
        "\nIn both: averaged weights of the generator, frozen discriminator, one batch of fakes (DCGAN), losses kept."
    )
    print(
        "In the framework alone: draws that resume exactly, D(real) and D(fake), gradient norms, a check of the losses,"
    )
    print("metrics.csv, signals, schedules.")
    print(f"CPU milliseconds a batch that the framework adds to the loop's: {'; '.join(costs)}.\n")


def choices(names: list[str], seconds: float) -> None:
    """Print the second table."""
    print("| DCGAN 64x64x3, batch 64: tutorial / framework | CPU | by the clock |")
    print("|---|---|---|")
    for name in names:
        _, rounds = measure(Case(name, [*DCGAN_64, *CHOICES[name]], tutorial_loop), seconds)
        print(f"| {name} | {ratio(rounds, 0)} | {ratio(rounds, 1)} |", flush=True)


def images_per_second(cfg: DictConfig, rounds: list[Round]) -> tuple[float, float]:
    """By the clock, the medians of the loop and of the framework."""
    size = cfg.data.batch_size
    loop = statistics.median(size * r.batches / r.loop[1] for r in rounds)
    return loop, statistics.median(size * r.batches / r.framework[1] for r in rounds)


def ratio(rounds: list[Round], clock: int) -> str:
    """Loop over framework: the median of the rounds, and their range."""
    ratios = [r.loop[clock] / r.framework[clock] for r in rounds]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def machine() -> str:
    """What the numbers depend on, in one line."""
    model, flags = platform.processor() or platform.machine(), set()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            model = value if key == "model name" else model
            flags |= set(value.split()) if key in ("flags", "Features") else set()
    told = " ".join(flag for flag in TELLING_FLAGS if flag in flags) or "none of those that matter"
    amx = "" if "amx_bf16" in flags else " (no AMX: expect bf16 to be slow)"
    if platform.machine() not in ("x86_64", "AMD64"):
        amx = ""
    versions = f"torch {torch.__version__}, lightning {L.__version__}"
    return f"{date.today()}, {model}, {torch.get_num_threads()} threads, {versions}; CPU flags: {told}{amx}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison: 9 in all")
    known = [*CASES, "trainer"]
    parser.add_argument("--cases", nargs="*", default=known, choices=known, help="trainer is the second table")
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    cases = [name for name in arguments.cases if name != "trainer"]
    if cases:
        overheads(cases, arguments.seconds)
    if "trainer" in arguments.cases:
        choices(list(CHOICES), arguments.seconds)


if __name__ == "__main__":
    main()
