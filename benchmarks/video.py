"""What the models of clips learn in minutes on one core: `python benchmarks/video.py`, the tables of docs/video.md.

Each model trains at a named reduced size on moving digits and is then looked at by their packed classifier: whether the
direction that was asked for is recognised, how sure it is of one digit, and fvd_digits against held-out real clips,
beside that of real training clips and of noise. A model that predicts is scored on held-out clips frame by frame,
beside the last given frame repeated.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments.data.batches import to_float
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.moving_digits import MovingDigits
from gan_experiments.drawing import to_uint8
from gan_experiments.inference.run import open_run
from gan_experiments.metrics.clip_extractors import MovingDigitsExtractor
from gan_experiments.metrics.likeness import psnr, ssim
from gan_experiments.metrics.scores import frechet_distance, moments

SMALL: dict[str, list[str]] = {
    "mocogan": [
        "images=20_000",
        "data.batch_size=16",
        *("model.generator.content_dim=16", "model.generator.motion_dim=8", "model.generator.images.width=16"),
        *("model.discriminator.width=16", "model.discriminator_image.width=16"),
        *("model.optimizers.generator.lr=5e-4", "model.optimizers.discriminator.lr=5e-4"),
    ],
    "vgan": [
        "images=4_000",
        "data.batch_size=16",
        *("model.generator.width=16", "model.discriminator.width=16"),
        *("model.optimizers.generator.lr=5e-4", "model.optimizers.discriminator.lr=5e-4"),
    ],
    "tgan": [
        "images=4_000",
        "data.batch_size=16",
        *("model.generator.width=16", "model.discriminator.width=16", "model.generator.temporal_width=64"),
        *("model.optimizers.generator.lr=3e-4", "model.optimizers.discriminator.lr=3e-4"),
    ],
    "vgan_prediction": [
        "images=8_000",
        "data.batch_size=16",
        *("model.generator.width=24", "model.discriminator.width=12"),
        *("model.generator.given=4", "model.future_weight=20", "model.first_weight=20"),
        *("model.optimizers.generator.lr=1e-3", "model.optimizers.discriminator.lr=3e-4"),
    ],
}
"""The reduced sizes; the rest is as in conf/model/."""
LOOKED_AT = 500
"""Clips that are drawn and looked at."""


def train(model: str, folder: Path, words: list[str]) -> float:
    """Train a model in a process of its own; return the CPU minutes that it took."""
    shutil.rmtree(folder, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    common = ["trainer=cpu", "trainer.precision=32-true", "trainer.channels_last=false", "logger=csv", "metrics=none"]
    command = [sys.executable, "-m", "gan_experiments", f"model={model}", f"output={folder}", *common, *words]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60


@torch.no_grad()
def looked_at(clips: Tensor, extractor: MovingDigitsExtractor) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [n, 64] of uint8 clips, and the probabilities of 4 directions [n, 4] and of 10 digits [n, 10]."""
    features, logits = extractor.extract(clips)
    joint = logits.exp().unflatten(1, (8, 10))
    directions = joint.sum(2)[:, ::2]
    return features, directions / directions.sum(1, keepdim=True), joint.sum(1)


def fvd(real: Tensor, fake: Tensor) -> float:
    """Return the Frechet distance of features [n, 64]."""
    mean, covariance = moments(real.double())
    return frechet_distance(mean, covariance, *moments(fake.double()))


def row(run: Any, real: Tensor, extractor: MovingDigitsExtractor) -> list[str]:
    """Return the columns of a run: the direction asked for, sureness of the digit, fvd_digits."""
    made, asked = [], []
    for index in range(LOOKED_AT // 50):
        z = run.noise(50, index)
        label = torch.arange(50) % 4 if run.model.classes else None
        made.append(to_uint8(run.draw(z, label)))
        asked += [] if label is None else [label]
    features, directions, digits = looked_at(torch.cat(made), extractor)
    right = f"{(directions.argmax(1) == torch.cat(asked)).double().mean().item():.1%}" if asked else "none is asked for"
    return [right, f"{digits.max(1).values.mean().item():.2f}", f"{fvd(real, features):.3f}"]


@torch.no_grad()
def predicted(run: Any, clips: ImageArray) -> None:
    """Print PSNR and SSIM of the frames that follow, of the prediction and of the last given frame repeated."""
    model, real = run.model, to_float(clips.images(0, 200))
    made = {"prediction": model.translate({"real": real}), "last frame repeated": model.held(real)}
    times = range(model.given, real.shape[2])
    truth = to_uint8(real).double()
    for name, score in (("PSNR", psnr), ("SSIM", ssim)):
        print(f"\n| {name} of frame | {' | '.join(str(time + 1) for time in times)} | all |")
        print(f"|---|{'---|' * (len(times) + 1)}")
        for who, samples in made.items():
            fake = to_uint8(samples).double()
            each = [[score(fake[row, :, time], truth[row, :, time]) for row in range(len(real))] for time in times]
            means = [sum(values) / len(values) for values in each]
            print(
                f"| {who} | {' | '.join(f'{value:.2f}' for value in [*means, sum(means) / len(means)])} |", flush=True
            )


def main() -> None:
    """Train what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*SMALL], choices=[*SMALL], help="by default all")
    parser.add_argument("--out", type=Path, default=Path("outputs/video"), help="folder of the runs")
    parser.add_argument("--again", action="store_true", help="look at the runs that are there")
    parser.add_argument("--words", nargs="*", default=[], help="further words of each training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, extractor = MovingDigits(32, clips=5000), MovingDigitsExtractor()
    held_out, seen = data.reference("test"), data.reference("train")
    real, directions, digits = looked_at(held_out.images(0, LOOKED_AT), extractor)
    right = (directions.argmax(1) == held_out.labels[:LOOKED_AT]).double().mean().item()
    print("| clips | CPU minutes | direction recognised (chance 25%) | sure of a digit | fvd_digits |")
    print("|---|---|---|---|---|")
    other = fvd(real, looked_at(seen.images(0, LOOKED_AT), extractor)[0])
    print(f"| real | | {right:.1%} | {digits.max(1).values.mean().item():.2f} | {other:.3f} |", flush=True)
    noise = torch.randint(0, 256, (LOOKED_AT, 1, 16, 32, 32), dtype=torch.uint8)
    print(f"| noise | | | | {fvd(real, looked_at(noise, extractor)[0]):.3f} |", flush=True)
    for model in given.models:
        folder = given.out / model
        minutes = f"{train(model, folder, SMALL[model] + given.words):.1f}" if not given.again else ""
        run = open_run(str(folder), "cpu", None)
        if model == "vgan_prediction":
            print(f"\n`{model}`, {minutes} CPU minutes")
            predicted(run, held_out)
            continue
        print(f"| `{model}` | {minutes} | {' | '.join(row(run, real, extractor))} |", flush=True)


if __name__ == "__main__":
    main()
