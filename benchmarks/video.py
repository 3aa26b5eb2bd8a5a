"""What the models of clips learn in minutes on one core, and how fast: the tables of docs/video.md.

    python benchmarks/video.py                                # all models; --models mocogan vgan for some
    python benchmarks/video.py --again --models vgan_prediction   # looks at the run that is there
    python benchmarks/video.py --speed --official mocogan/src     # steps beside loops, and decoding

Each model trains at a named reduced size on moving digits and is then looked at by their packed classifier: whether the
direction that was asked for is recognised; how many clips have a direction of 90% or more, over how many directions
they spread (2 to the entropy of their mean), how sure it is of one digit; and fvd_digits against held-out real clips,
beside real training clips and noise. A model that predicts is scored on held-out clips frame by frame, beside the last
given frame repeated.

`--official` is a folder with `models.py` of MoCoGAN's authors (github.com/sergeytulyakov/mocogan).
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the verbs do; read when torch loads

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from PIL import Image
from speed import Case, averager, batches_of, machine, measure, parts_of, ratio
from torch import Tensor, nn

from gan_experiments import films
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.clips import Clips
from gan_experiments.data.moving_digits import MovingDigits
from gan_experiments.drawing import save_gif, to_uint8
from gan_experiments.inference.run import open_run
from gan_experiments.losses.perceptual import LPIPS
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
        "images=24_000",
        "data.resolution=16",
        "data.batch_size=16",
        *("model.generator.width=24", "model.discriminator.width=24", "model.ema.generator.half_life=1_000"),
        *("model.optimizers.generator.lr=5e-4", "model.optimizers.discriminator.lr=5e-4"),
    ],
    "tgan": [
        "images=24_000",
        "data.resolution=16",
        "data.batch_size=16",
        *("model.generator.width=16", "model.discriminator.width=24", "model.generator.temporal_width=64"),
        *("model.optimizers.generator.lr=3e-4", "model.optimizers.discriminator.lr=1e-3"),
        "model.ema.generator.half_life=1_000",
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


SURE = 0.9
"""The probability from which on a direction is told."""


def columns(clips: Tensor, real: Tensor, extractor: MovingDigitsExtractor, asked: Tensor | None = None) -> str:
    """Return the columns of uint8 clips, of which the directions int64 [n] were asked for, if any were."""
    features, directions, digits = looked_at(clips, extractor)
    right = "" if asked is None else f"{(directions.argmax(1) == asked).double().mean().item():.1%}"
    sure = (directions.max(1).values > SURE).double().mean().item()
    mean = directions.double().mean(0)
    spread = 2 ** -(mean * mean.clamp(min=1e-12).log2()).sum().item()
    digit = digits.max(1).values.mean().item()
    return f"{right} | {sure:.0%} | {spread:.2f} | {digit:.2f} | {fvd(real, features):.3g}"


@torch.no_grad()
def drawn(run: Any) -> tuple[Tensor, Tensor | None]:
    """Draw the clips that are looked at, uint8, each direction as often; None without classes."""
    label = torch.arange(LOOKED_AT) % 4 if run.model.classes else None
    parts = torch.arange(LOOKED_AT).split(50)
    made = [run.draw(run.noise(50, index), None if label is None else label[part]) for index, part in enumerate(parts)]
    return to_uint8(torch.cat(made)), label


def lpips() -> LPIPS | None:
    """Return LPIPS by AlexNet, or None and say why its weights are not there."""
    try:
        return LPIPS()
    except ConfigError as error:
        print(f"\nWithout LPIPS: {error}")
        return None


@torch.no_grad()
def predicted(run: Any, clips: ImageArray) -> None:
    """Print scores of the frames that follow, of the prediction and of the last given frame repeated."""
    model, real = run.model, to_float(clips.images(0, 200))
    made = {"prediction": model.translate({"real": real}), "last frame repeated": model.held(real)}
    times = range(model.given, real.shape[2])
    scores: dict[str, Callable[[Tensor, Tensor], Any]] = {
        name: partial(_of_rows, score) for name, score in (("PSNR", psnr), ("SSIM", ssim))
    }
    distance = lpips()
    if distance is not None:
        scores["LPIPS"] = lambda fake, truth: distance(fake, truth).double()
    for name, score in scores.items():
        print(f"\n| {name} of frame | {' | '.join(str(time + 1) for time in times)} | all |")
        print(f"|---|{'---|' * (len(times) + 1)}")
        for who, samples in made.items():
            means = [score(samples[:, :, time], real[:, :, time]).mean().item() for time in times]
            print(
                f"| {who} | {' | '.join(f'{value:.2f}' for value in [*means, sum(means) / len(means)])} |", flush=True
            )


def _of_rows(score: Any, fake: Tensor, truth: Tensor) -> Tensor:
    pairs = zip(to_uint8(fake).double(), to_uint8(truth).double(), strict=True)
    return torch.tensor([score(*pair) for pair in pairs])


# ------------------------------------------------------------------------------------------------- speed


def vgan_loop(cfg: DictConfig, clips: ImageArray) -> Iterator[None]:
    """VGAN as a plain loop, with fakes of its own for each step; pauses after each batch."""
    generator, discriminator, optimizer_g, optimizer_d = parts_of(cfg)
    update_average = averager(generator, 0.5 ** (cfg.data.batch_size / cfg.model.ema.generator.half_life))
    for real in batches_of(clips, cfg.data.batch_size):
        with torch.no_grad():
            fake = generator(torch.randn(len(real), generator.latent_dim))
        (F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()).backward()
        optimizer_d.step()
        optimizer_d.zero_grad(set_to_none=True)

        discriminator.requires_grad_(False)
        made: Any = generator.streams(torch.randn(len(real), generator.latent_dim))
        loss = F.softplus(-discriminator(made.clips)).mean() + cfg.model.mask_weight * made.mask.mean()
        loss.backward()
        optimizer_g.step()
        optimizer_g.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)
        update_average()
        yield


def official_module(folder: Path) -> ModuleType:
    """Return the authors' models.py, with the one division that Python 3 reads otherwise."""
    module = ModuleType("mocogan_official")
    source = (folder / "models.py").read_text().replace("h.size(0) / video_len", "h.size(0) // video_len")
    exec(compile(source, str(folder / "models.py"), "exec"), module.__dict__)  # what the user gave
    return module


def mocogan_loop(theirs: Any, cfg: DictConfig, clips: ImageArray) -> Iterator[None]:
    """MoCoGAN by the authors' modules, in the order of their trainer; pauses after each batch."""
    classes, size, number = cfg.data.classes, cfg.data.batch_size, cfg.model.frames * cfg.data.batch_size
    generator = theirs.VideoGenerator(cfg.data.channels, 50, classes, 10, cfg.data.length)
    of_images = theirs.PatchImageDiscriminator(cfg.data.channels)
    of_clips = theirs.CategoricalVideoDiscriminator(cfg.data.channels, classes)
    networks: list[nn.Module] = [generator, of_images, of_clips]
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), weight_decay=1e-5) for net in networks]
    tell, category = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()

    def judged(logits: Tensor, right: float) -> Tensor:
        return tell(logits, torch.full_like(logits, right))

    while True:
        for rows in torch.randperm(len(clips))[: len(clips) // size * size].split(size):
            real = clips.pixels.index_select(0, rows).float().sub_(127.5).div_(127.5)
            assert clips.labels is not None
            optimizers[1].zero_grad()
            frames = real.transpose(1, 2).flatten(0, 1)[torch.randperm(size * cfg.data.length)[:number]]
            fake = generator.sample_images(number)[0].detach()
            (judged(of_images(frames)[0], 1) + judged(of_images(fake)[0], 0)).backward()
            optimizers[1].step()

            optimizers[2].zero_grad()
            (logits, told), fake = of_clips(real), generator.sample_videos(size)[0].detach()
            loss = judged(logits, 1) + judged(of_clips(fake)[0], 0) + category(told, clips.labels[rows])
            loss.backward()
            optimizers[2].step()

            optimizers[0].zero_grad()
            loss = judged(of_images(generator.sample_images(number)[0])[0], 1)
            fake, asked = generator.sample_videos(size)
            logits, told = of_clips(fake)
            (loss + judged(logits, 1) + category(told, asked)).backward()
            optimizers[0].step()
            yield


def steps(seconds: float, official: Path | None) -> None:
    """Print the CPU time of a step of VGAN and MoCoGAN by the framework, beside a loop."""
    small = ["model=vgan", "model.generator.width=16", "model.discriminator.width=16"]
    cases = [Case("VGAN, 16 clips of 16 frames, 32x32x1, width 16; a plain loop", small, vgan_loop)]
    if official is not None:
        paper = ["model=mocogan", "data.resolution=64", "data.channels=3", "data.batch_size=3", "model.ema={}"]
        loop = partial(mocogan_loop, official_module(official))
        cases.append(Case("MoCoGAN, 3 clips of 16 frames, 64x64x3; the authors' modules", paper, loop))
    print("| a step of | loop, CPU-ms | framework, CPU-ms | loop / framework |\n|---|---|---|---|")
    for case in cases:
        _, rounds = measure(case, seconds)
        loop = 1000 * statistics.median(one.loop[0] / one.batches for one in rounds)
        framework = 1000 * statistics.median(one.framework[0] / one.batches for one in rounds)
        print(f"| {case.title} | {loop:,.0f} | {framework:,.0f} | {ratio(rounds, 0)} |", flush=True)


def decoding() -> None:
    """Print how many clips a second are decoded into the cache, read from it, and made of digits."""
    print("\n| clips of 16 frames in a CPU-second | |\n|---|---|")
    number, noise = 6, torch.rand(6, 16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = [F.interpolate(clip, (256, 256), mode="bicubic").clamp(0, 1).mul(255).byte() for clip in noise]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("mp4", "gif", "apng", "webp"):
            root = Path(folder) / suffix
            root.mkdir()
            for index, frames in enumerate(smooth):
                _write(frames, root / f"{index}.{suffix}")
            data = Clips(str(root), 64, length=16, cache=f"{folder}/cache")
            start = time.process_time()
            clips = data.reference()
            print(f"| {suffix}, 256x256, to 64x64 | {number / (time.process_time() - start):,.0f} |", flush=True)
        every = [f"read from the cache, 64x64x3, as floats | {_rate(clips, number)}"]
    for side in (32, 64):
        every.append(f"moving digits, {side}x{side}x1, as floats | {_rate(MovingDigits(side).reference(), 64)}")
    print("\n".join(f"| {line} |" for line in every))


def _write(frames: Tensor, path: Path) -> None:
    """Write uint8 frames [T, 3, H, W], lossless where the format can."""
    if path.suffix == ".mp4":
        films.save_mp4(frames, path, 8.0, None)
    elif path.suffix == ".gif":
        save_gif([*frames], path, None, 2.0)
    else:
        first, *others = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
        kind = "PNG" if path.suffix == ".apng" else "WEBP"
        first.save(path, kind, save_all=True, append_images=others, duration=125, lossless=True)


def _rate(clips: ImageArray, size: int, times: int = 20) -> str:
    start = time.process_time()
    for _ in range(times):
        to_float(clips.pixels.index_select(0, torch.randint(len(clips), (size,))))
    return f"{times * size / (time.process_time() - start):,.0f}"


# ------------------------------------------------------------------------------------------------- both


def main() -> None:
    """Train what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*SMALL], choices=[*SMALL], help="by default all")
    parser.add_argument("--out", type=Path, default=Path("outputs/video"), help="folder of the runs")
    parser.add_argument("--again", action="store_true", help="look at the runs that are there")
    parser.add_argument("--words", nargs="*", default=[], help="further words of each training")
    parser.add_argument("--speed", action="store_true", help="steps and decoding in place of training")
    parser.add_argument("--official", type=Path, metavar="FOLDER", help="of MoCoGAN's models.py, for --speed")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each comparison of steps")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.speed:
        print(f"{machine()}\n")
        steps(given.seconds, given.official)
        decoding()
        return
    for model in given.models:
        folder = given.out / model
        minutes = f"{train(model, folder, SMALL[model] + given.words):.1f}" if not given.again else ""
        run: Any = open_run(str(folder), "cpu", None)
        print(f"\n`{model}` after {run.model.images_seen:,} clips, {minutes} CPU minutes")
        if model == "vgan_prediction":
            predicted(run, run.data().reference("test"))
        else:
            learnt(run)


def learnt(run: Any) -> None:
    """Print what the classifier sees in clips of a run, in real ones and in noise."""
    extractor, data = MovingDigitsExtractor(), run.data()
    seen, held_out = data.reference("train"), data.reference("test").images(0, LOOKED_AT)
    real = looked_at(held_out, extractor)[0]
    noise = torch.randint(0, 256, held_out.shape, dtype=torch.uint8)
    rows = {
        "real, of the training set": (seen.images(0, LOOKED_AT), seen.labels[:LOOKED_AT]),
        "noise": (noise, None),
        f"`{run.model.model_name}`": drawn(run),
    }
    titles = "direction asked for recognised (chance 25%) | sure of a direction | spread over directions"
    print(f"\n| clips | {titles} | sure of a digit | fvd_digits |\n|{'---|' * 6}")
    for title, (clips, asked) in rows.items():
        print(f"| {title} | {columns(clips, real, extractor, asked)} |", flush=True)


if __name__ == "__main__":
    main()
