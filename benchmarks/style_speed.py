"""StyleGAN2 at 64x64: what a training step costs on a CPU, beside NVIDIA's reference operators, and what sampling does.

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch /some/where   # not ours, and not needed by the project
    python benchmarks/style_speed.py --reference /some/where
    python benchmarks/style_speed.py --widths 1024 4096 --batch 8

Without --reference only our side is measured. Both sides have the same weights, images and batch, in float32 on one
thread, ours in channels_last and with Adam's step in one kernel, as our trainings have them; theirs are the operators
that it falls back to without its CUDA extensions (impl='ref'). A phase is its loss, backward and Adam's step. They take
turns, and times are the processor's, so that other work on the machine disturbs the ratio little. A step is a batch of
training: Gmain + Dmain + Greg / 4 + Dreg / 16. Agreement is the largest difference of images and logits, as a share of
the largest value.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from speed import machine
from torch import Tensor, nn

from gan_experiments.engine.optimizers import fuse
from gan_experiments.losses.penalties import r1_penalty
from gan_experiments.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_experiments.techniques.path_length import path_lengths

RESOLUTION, LATENT, LAYERS, MIXING = 64, 512, 2, 0.9
PHASES = {"Gmain": 1, "Dmain": 1, "Greg": 4, "Dreg": 16}
"""Batches from one to the next."""


class Ours:
    """Our networks and losses."""

    def __init__(self, base: int, batch: int) -> None:
        torch.manual_seed(0)
        self.G = StyleGAN2Generator(
            LATENT, RESOLUTION, channel_base=base, channel_max=base // 32, mapping_layers=LAYERS, mixing=MIXING
        )
        self.D = StyleGAN2Discriminator(RESOLUTION, channel_base=base, channel_max=base // 32)
        for network in (self.G, self.D):
            network.to(memory_format=torch.channels_last)
        self.real = torch.rand(batch, 3, RESOLUTION, RESOLUTION) * 2 - 1
        self.real = self.real.contiguous(memory_format=torch.channels_last)
        self.z, self.mean = torch.randn(batch, LATENT), torch.zeros(())
        self.optimizers = optimizers(self.G, self.D)
        for optimizer in self.optimizers.values():
            fuse(optimizer)

    def images(self) -> Tensor:
        """Of z, with fixed noise."""
        return self.G(self.z)

    def logits(self) -> Tensor:
        return self.D(self.real)

    def loss(self, phase: str) -> None:
        """Gradients of a phase."""
        if phase == "Gmain":
            F.softplus(-self.D(self.G(self.z, draw=draw))).mean().backward()
        elif phase == "Dmain":
            real, fake = self.D(self.real), self.D(self.G(self.z, draw=draw).detach())
            (F.softplus(-real).mean() + F.softplus(fake).mean()).backward()
        elif phase == "Dreg":
            (16 * 10 * r1_penalty(self.D, self.real)).backward()
        else:
            ws = self.G.mixed(self.z[::2], None, draw)
            images = self.G.synthesis(ws, draw)
            lengths = path_lengths(images, ws, torch.randn_like(images))
            mean = self.mean.lerp(lengths.mean(), 0.01)
            self.mean = mean.detach()
            (4 * 2 * (lengths - mean).square().mean()).backward()


class Theirs:
    """The networks and the loss of a checkout, with our weights."""

    def __init__(self, ours: Ours, base: int, path: Path) -> None:
        sys.path.insert(0, str(path))
        from training import loss, networks  # type: ignore[import-not-found]

        loss.training_stats.report = lambda *_: None  # what is logged is not compared
        channels = {"channel_base": base, "channel_max": base // 32}
        mapping = {"num_layers": LAYERS}
        self.G = networks.Generator(LATENT, 0, 512, RESOLUTION, 3, mapping_kwargs=mapping, synthesis_kwargs=channels)
        self.D = networks.Discriminator(0, RESOLUTION, 3, **channels)
        for mine, their in pairs(ours.G, ours.D, self.G, self.D):
            their.data.copy_(mine.data)
        self.real, self.z, self.label = ours.real.contiguous(), ours.z, torch.zeros(len(ours.z), 0)
        self.game = loss.StyleGAN2Loss("cpu", self.G.mapping, self.G.synthesis, self.D, style_mixing_prob=MIXING)
        self.optimizers = optimizers(self.G, self.D)

    def images(self) -> Tensor:
        return self.G.eval()(self.z, self.label, noise_mode="const")

    def logits(self) -> Tensor:
        return self.D(self.real, self.label)[:, 0]

    def loss(self, phase: str) -> None:
        self.G.train()
        self.game.accumulate_gradients(phase, self.real, self.label, self.z, self.label, True, PHASES[phase])


def draw(sampler: Callable[..., Tensor], *shape: int, shared: bool = False) -> Tensor:
    return sampler(shape)


def optimizers(G: nn.Module, D: nn.Module) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.Adam(net.parameters(), 1e-3, (0.0, 0.99)) for name, net in (("G", G), ("D", D))}


def pairs(G: Any, D: Any, their_G: Any, their_D: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of our tensors with theirs."""

    def both(mine: Any, their: Any) -> Iterator[tuple[Tensor, Tensor]]:
        yield mine.weight, their.weight
        yield mine.bias, their.bias

    for i, layer in enumerate(G.mapping.layers):
        yield from both(layer, getattr(their_G.mapping, f"fc{i}"))
    yield G.mapping.average, their_G.mapping.w_avg
    yield G.synthesis.const, their_G.synthesis.b4.const
    for i, block in enumerate(G.synthesis.blocks):
        their = getattr(their_G.synthesis, f"b{4 << i}")
        for name in ("conv1",) if block.conv0 is None else ("conv0", "conv1"):
            mine, other = getattr(block, name), getattr(their, name)
            yield from both(mine.conv.affine, other.affine)
            yield mine.conv.weight, other.weight
            yield mine.bias, other.bias
            yield mine.strength, other.noise_strength
            yield mine.noise, other.noise_const
        yield from both(block.to_rgb.affine, their.torgb.affine)
        yield block.to_rgb.weight, their.torgb.weight
        yield block.bias, their.torgb.bias
    yield from both(D.from_rgb, getattr(their_D, f"b{RESOLUTION}").fromrgb)
    for i, block in enumerate(D.blocks):
        their = getattr(their_D, f"b{RESOLUTION >> i}")
        yield from both(block.conv0, their.conv0)
        yield from both(block.conv1, their.conv1)
        yield block.skip.weight, their.skip.weight
    yield from both(D.conv, their_D.b4.conv)
    yield from both(D.linear, their_D.b4.fc)
    yield from both(D.output, their_D.b4.out)


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def carry_out(side: Ours | Theirs, phase: str) -> None:
    """A phase, as a training does it."""
    trained, other = (side.G, side.D) if phase[0] == "G" else (side.D, side.G)
    trained.requires_grad_(True)
    other.requires_grad_(False)
    side.loss(phase)
    side.optimizers[phase[0]].step()
    side.optimizers[phase[0]].zero_grad()


@torch.no_grad()
def sample(side: Ours | Theirs) -> None:
    side.images()


def agreement(sides: list[Ours | Theirs]) -> str:
    if len(sides) < 2:
        return "-"
    with torch.no_grad():
        values = [(side.images(), side.logits()) for side in sides]
    gaps = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*values, strict=True)]
    return f"{max(gaps):.0e}"


def measure(base: int, batch: int, rounds: int, reference: Path | None) -> str:
    """A row of the table: medians of the rounds after a first."""
    ours = Ours(base, batch)
    sides: list[Ours | Theirs] = [ours] if reference is None else [ours, Theirs(ours, base, reference)]
    agree = agreement(sides)
    found: dict[tuple[int, str], list[float]] = {}
    for number in range(rounds + 1):
        for name in (*PHASES, "sample"):
            for index, side in enumerate(sides):
                work = (lambda s=side: sample(s)) if name == "sample" else (lambda s=side, p=name: carry_out(s, p))
                spent = seconds(work)
                if number:
                    found.setdefault((index, name), []).append(spent)
    times = [{name: statistics.median(found[i, name]) for name in (*PHASES, "sample")} for i in range(len(sides))]
    for side in times:
        side["step"] = sum(side[name] / every for name, every in PHASES.items())
    cells = [f"{base // RESOLUTION}-{base // 32}", agree]
    for name in (*PHASES, "step", "sample"):
        cell = " / ".join(f"{batch / side[name]:.2f}" for side in times)
        cells.append(cell + (f" = **{times[1][name] / times[0][name]:.2f}**" if len(times) > 1 else ""))
    return " | ".join(cells)


def memory(base: int, batch: int, reference: Path | None, theirs: bool) -> str:
    """The largest resident memory in MB of a process that carries out each phase once; Linux tells it."""
    if not Path("/proc/self/status").exists():
        return "-"
    words = [sys.executable, __file__, "--peak", "theirs" if theirs else "ours", "--widths", str(base)]
    words += ["--batch", str(batch), *(["--reference", str(reference)] if reference else [])]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]


def peak(base: int, batch: int, reference: Path | None, theirs: bool) -> None:
    ours = Ours(base, batch)
    side = Theirs(ours, base, reference) if theirs and reference else ours
    if theirs:
        del ours
    for phase in PHASES:
        carry_out(side, phase)
    # Not ru_maxrss, which begins with what the process that started this one held.
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of NVIDIA's stylegan2-ada-pytorch")
    parser.add_argument("--widths", nargs="+", type=int, default=[1024, 4096, 16384], help="channel_base; auto: 16384")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak(arguments.widths[0], arguments.batch, arguments.reference, arguments.peak == "theirs")
        return
    print(f"{machine()}\n\nImages per second of CPU time, ours / theirs = ratio; batch {arguments.batch}:\n")
    heads = ["channels at 64-4 pixels", "agreement", *PHASES, "whole step", "inference", "peak memory MB"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for base in arguments.widths:
        row = measure(base, arguments.batch, arguments.rounds, arguments.reference)
        sides = (False, True) if arguments.reference else (False,)
        peaks = " / ".join(memory(base, arguments.batch, arguments.reference, theirs) for theirs in sides)
        print(f"| {row} | {peaks} |", flush=True)


if __name__ == "__main__":
    main()
