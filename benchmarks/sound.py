"""What a run of sounds has learnt, and how fast sounds are read and learnt.

    python src/gan_experiments/run.py experiment=drums trainer=cpu hydra.run.dir=outputs/drums
    python benchmarks/sound.py outputs/drums            # the table of docs/sound.md; two minutes of one core
    python benchmarks/sound.py outputs/drums --write docs/sound    # with the sheet and the WAVs
    python benchmarks/sound.py --speed                  # decoding, and a step beside a plain loop

Drum hits of each class are asked for, and a judge says what they are: a perceptron on the envelope and the mean
spectrum, trained on the real hits but every fifth, which is another network than that of `metrics=drums` and sees other
things. The rows of real hits are those that it was not trained on. Attack, decay and pitch are measured on the waves.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import gan_experiments as gx
from gan_experiments import sound
from gan_experiments.kinds import Wave

BANDS, FRAMES, EACH = 32, 32, 50


# ------------------------------------------------------------------------------------------------ the judge


def looked(waves: Tensor, rate: int) -> Tensor:
    """Envelope and mean spectrum, both in dB, of waves [N, L]: [N, FRAMES + BANDS]."""
    parts = waves.unfold(1, waves.shape[1] // FRAMES, waves.shape[1] // FRAMES)
    envelope = sound.decibels(parts.square().mean(dim=2).sqrt())
    spectrum = sound.decibels(sound.mel_bands(waves, rate, 64, 512, BANDS).mean(dim=2))
    return torch.cat([envelope, spectrum], dim=1).clamp(min=-70) / 20 + 2


def judge(waves: Tensor, labels: Tensor, rate: int) -> nn.Module:
    """A perceptron trained on waves [N, L] and their labels; each call gives the same one."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(FRAMES + BANDS, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    weights, seen = len(labels) / labels.bincount().float(), looked(waves, rate)
    for _ in range(1500):
        rows = torch.randint(len(waves), (64,))
        softer = seen[rows] - 0.5 * torch.rand(64, 1) + 0.15 * torch.randn(64, seen.shape[1])
        loss = F.cross_entropy(net(softer), labels[rows], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


# ------------------------------------------------------------------------------------------------ by ear


def attack(waves: Tensor, rate: int) -> Tensor:
    """Milliseconds to the loudest 4 ms of each wave [N, L]."""
    size = rate // 250
    return waves.square().unfold(1, size, size).mean(dim=2).argmax(dim=1) * 4.0


def decay(waves: Tensor, rate: int) -> Tensor:
    """Milliseconds until 95% of the energy has passed."""
    passed = waves.square().cumsum(dim=1)
    return (passed < 0.95 * passed[:, -1:]).sum(dim=1) * 1000.0 / rate


def pitch(waves: Tensor, rate: int) -> Tensor:
    """The frequency in hertz below and above which half of the energy lies."""
    energy = torch.fft.rfft(waves, dim=1).abs().square().cumsum(dim=1)
    return (energy < 0.5 * energy[:, -1:]).sum(dim=1) * float(rate) / waves.shape[1]


def table(folder: str, write: Path | None) -> None:
    run = gx.load(folder)
    data = run.data()
    drums: Any = data.training()
    rate, names, speeds = data.rate, run.model.class_names, data.speeds
    real = sound.to_float(drums.images(0, len(drums)))[:, 0]
    held_out = torch.arange(len(drums)) // speeds % 5 == 0
    net = judge(real[~held_out], drums.labels[~held_out], rate)
    labels = torch.arange(len(names)).repeat_interleave(EACH)
    trained = torch.as_tensor(run.sample(len(labels), seed=1, label=labels.tolist(), form="tensor")).float()[:, 0]
    torch.manual_seed(0)
    fresh = gx.load(folder)
    for layer in fresh.model.network("generator", True).modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    untrained = torch.as_tensor(fresh.sample(len(labels), seed=1, label=labels.tolist(), form="tensor")).float()[:, 0]
    rows = {
        "real, held out": (real[held_out], drums.labels[held_out]),
        "untrained": (untrained, labels),
        f"after {run.model.images_seen:,} hits": (trained, labels),
    }
    print(f"| | {' | '.join(names)} | all |\n|---|{'---|' * (len(names) + 1)}")
    with torch.no_grad():
        for title, (waves, asked) in rows.items():
            right = net(looked(waves, rate)).argmax(dim=1) == asked
            shares = [right[asked == c].float().mean().item() for c in range(len(names))]
            print(f"| {title} | {' | '.join(f'{share:.0%}' for share in shares)} | {right.float().mean():.0%} |")
    print(f"\nBy chance {1 / len(names):.0%}.\n\n| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for what, measure in {"attack, ms": attack, "95% of the energy, ms": decay, "half of it, Hz": pitch}.items():
        for title, (waves, asked) in rows.items():
            if title != "untrained":
                of = [measure(waves[asked == c], rate).median().item() for c in range(len(names))]
                print(f"| {what}, {title} | {' | '.join(f'{value:.0f}' for value in of)} |")
    print("\n" + ", ".join(f"{name} {score.value:.3g}" for name, score in run.scores.items()))
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        kind, across = Wave(rate=float(rate)), 5
        some = torch.cat([torch.arange(across) + EACH * c for c in range(len(names))])
        hits = [
            (drums.labels == c).nonzero()[speeds // 2 :: speeds, 0] for c in range(len(names))
        ]  # at their own speed
        first = torch.cat([of[torch.linspace(0, len(of) - 1, across).long()] for of in hits])
        both = torch.stack([of.view(-1, across, 1, of.shape[1]) for of in (real[first], trained[some])], dim=1)
        picture = kind.sheet(both.flatten(0, 2)[:, None], 2 * across, smallest=1)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).quantize(32).save(write / "drums.png", optimize=True)
        for title, waves in (("real", real[first]), ("generated", trained[some])):
            two = waves.unflatten(0, (-1, across))[:, :2].flatten(0, 1)
            raw = sound.wav_of(sound.joined(two[:, None], rate, gap=0.02), rate, run.model.model_name)
            (write / f"{title}.wav").write_bytes(raw)
        print(f"\n{write}: real and generated sounds, {across} of each class, side by side in drums.png")


# ------------------------------------------------------------------------------------------------ speed


def cpu(work: Callable[[], object], times: int) -> float:
    """CPU-seconds of a call, the least of some."""
    work()
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def speed() -> None:
    """Print how many sounds of 1 s are decoded and read in a CPU-second, and the time of a step beside a plain loop."""
    import soundfile

    from gan_experiments.data.recordings import Form, decode, packed

    torch.set_num_threads(1)
    print("| 1 s of noise at 44,100 Hz, stereo, to 16,000 Hz mono | decoded in a CPU-second |\n|---|---|")
    noise = (0.1 * torch.randn(44_100, 2)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "ogg", "mp3"):
            path = Path(folder) / f"a.{suffix}"
            soundfile.write(path, noise, 44_100)
            raw = path.read_bytes()
            form = Form(16_000, 1, 16_384)
            print(f"| {suffix} | {1 / cpu(lambda raw=raw, form=form: decode(raw, form), 20):,.0f} |")
    rows = torch.randint(0, 2000, (64,))
    waves = [(1000 * torch.randn(16_384, 1)).to(torch.int16).numpy()] * 2000
    kept = packed(waves, None, 16_384, "first", [])
    seconds = cpu(lambda: sound.to_float(kept.read(rows)), 20)
    print(f"| read again, 16 bits to floats, in batches of 64 | {64 / seconds:,.0f} |\n")
    steps()


def steps() -> None:
    """Print the CPU time of the critic's and the generator's steps by the engine, and by a plain loop."""
    from gan_experiments.networks.wavegan import WaveGANDiscriminator, WaveGANGenerator

    batch, length, batches = 32, 4096, 20
    torch.manual_seed(0)
    generator, critic = WaveGANGenerator(length=length, width=16), WaveGANDiscriminator(length=length, width=16)
    adam = {net: torch.optim.Adam(net.parameters(), 1e-4, (0.5, 0.9), fused=True) for net in (generator, critic)}
    real = torch.rand(batch, 1, length) * 2 - 1

    def draw(sampler: Callable[..., Tensor], *shape: int, shared: bool = False) -> Tensor:
        return sampler(*shape)

    def loop() -> None:
        for number in range(batches):
            adam[critic].zero_grad()
            with torch.no_grad():
                fake = generator(torch.randn(batch, 100))
            alpha = torch.rand(batch, 1, 1)
            between = (alpha * real + (1 - alpha) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between, draw=draw).sum(), between, create_graph=True)
            penalty = 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
            (critic(fake, draw=draw).mean() - critic(real, draw=draw).mean() + penalty).backward()
            adam[critic].step()
            if number % 5 == 4:
                adam[generator].zero_grad()
                (-critic(generator(torch.randn(batch, 100)), draw=draw).mean()).backward()
                adam[generator].step()

    plain = cpu(loop, 3) / batches
    print("| WaveGAN, 4,096 samples, width 16, batches of 32, five critic steps for one | CPU-ms a batch |\n|---|---|")
    print(f"| a plain loop | {1000 * plain:.0f} |")
    with tempfile.TemporaryDirectory() as folder:

        def engine(count: int) -> float:
            words = ["model=wavegan", "trainer=exact", "trainer.accelerator=cpu", f"hydra.run.dir={folder}/{count}"]
            words += ["metrics=none", "callbacks=none", "logger=none", "model.ema={}", f"images={count * batch}"]
            words += [f"data.batch_size={batch}", "model.generator.width=16", "model.discriminator.width=16"]
            start = time.process_time()
            gx.train(words)
            return time.process_time() - start

        engine(batches)
        less, more = engine(batches + 1), engine(3 * batches + 1)
    print(f"| the engine | {1000 * (more - less) / (2 * batches):.0f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run on data=drums with classes")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where to write a sheet and two WAVs")
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        speed()
    if options.run:
        table(options.run, options.write)
    if not (options.run or options.speed):
        parser.print_help()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
