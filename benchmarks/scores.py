"""Can the scores be trusted, and what do they cost? Agreement with other implementations, faults and who sees them.

    python benchmarks/scores.py [agreement] [frechet] [inception_pass] [cost] [memory] [faults] [intervals] [--real DIR]

Inception has random weights here. The second table of `faults` needs Fashion-MNIST in --real:
`python benchmarks/real_data.py fashion_mnist --out DIR`; with --lite0 its features are conf/metrics/lite0.yaml's.
Times are of the CPU, on one thread.
"""

from __future__ import annotations

import argparse
import gzip
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
import torch_fidelity
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torchmetrics.image import fid as torchmetrics_fid

from gan_experiments.assembly import build
from gan_experiments.data.images import Digits
from gan_experiments.metrics.evaluator import SCORES, Evaluator, Score
from gan_experiments.metrics.extractors import DigitsExtractor, Extractor, InceptionExtractor
from gan_experiments.metrics.metric import values_of
from gan_experiments.metrics.names import collection
from gan_experiments.metrics.real_statistics import RealStatistics
from gan_experiments.metrics.request import Request
from gan_experiments.metrics.scores import frechet_distance, moments, square_root

NEIGHBOURS = ("precision", "recall", "density", "coverage", "memorised")


class Pixels:
    """Real images as the evaluator wants them, uint8 [N, C, H, W]."""

    split = "train"

    def __init__(self, pixels: Tensor, fingerprint: str = "benchmark") -> None:
        self.pixels, self.fingerprint = pixels, fingerprint

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, start: int, stop: int) -> Tensor:
        return self.pixels[start:stop]


def score(pixels: Tensor, real: Pixels, extractor: Extractor, cache: str, **settings: object) -> dict[str, float]:
    """The scores of uint8 images against real ones, without the extractor's name."""
    chosen = {"num_fake": len(pixels), "batch_size": 100, "cache": cache, **settings}
    judge = Evaluator(extractor, **chosen)
    size = judge.batch_size
    found = judge.evaluate(lambda i, n: pixels[i * size : i * size + n] / 127.5 - 1, real, "cpu", ema=False)
    return dict(zip(judge.scores, (s.value for s in found.values()), strict=True))


def spent(what: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of a call, and what it returned."""
    began = time.process_time()
    given = what()
    return time.process_time() - began, given


def row(*cells: object) -> None:
    shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"| {' | '.join(shown)} |", flush=True)


def head(*names: str) -> None:
    row(*names)
    row(*["---"] * len(names))


def random_inception(folder: str) -> str:
    """The path of a file in the format of the FID Inception's, with random weights."""
    torch.manual_seed(0)
    load, fetch = inception.FeatureExtractorInceptionV3.load_state_dict, inception.load_state_dict_from_url
    inception.FeatureExtractorInceptionV3.load_state_dict = lambda *_: None
    inception.load_state_dict_from_url = lambda *_, **__: {}
    net = inception.FeatureExtractorInceptionV3("random", ["2048"])
    inception.FeatureExtractorInceptionV3.load_state_dict, inception.load_state_dict_from_url = load, fetch
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.normal_(module.running_mean, std=0.1)
    path = Path(folder) / "inception.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def agreement(arguments: argparse.Namespace) -> None:
    """torch-fidelity from the same images to the scores, against ours."""
    digits = Digits().reference().pixels.expand(-1, 3, -1, -1)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    real = digits[order[:100]].contiguous()
    fake = (digits[order[100:200]].float() * 0.97 + 3).to(torch.uint8).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        path = random_inception(folder)
        ours = score(fake, Pixels(real), InceptionExtractor(path), folder, is_splits=1, kid_subsets=2)
        theirs = torch_fidelity.calculate_metrics(
            **{"input1": Listed(fake), "input2": Listed(real), "cuda": False, "cache": False, "verbose": False},
            **{"isc": True, "fid": True, "kid": True, "prc": True, "isc_splits": 1},
            **{"kid_subsets": 2, "kid_subset_size": 100, "batch_size": 50, "save_cpu_ram": True},
            **{"feature_extractor": "inception-v3-compat", "feature_extractor_weights_path": path},
        )
    keys = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "is": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }
    head("100 against 100 images", "ours", "torch-fidelity", "relative difference")
    for name, key in keys.items():
        other = float(theirs[key])
        row(name, f"{ours[name]:.8g}", f"{other:.8g}", f"{abs(ours[name] - other) / max(abs(other), 1e-12):.1e}")

    with_prdc()


def metrics(*names: str, **constants: int) -> list:
    """The metrics of these scores."""
    return list(collection(names, constants).values(copy_state=False))


def with_prdc() -> None:
    """prdc from the same features: the digits' own, 1,000 noised ones against 4,000."""
    try:
        from prdc import compute_prdc
    except ImportError:
        print("(prdc is not installed: pip install prdc)")
        return
    extractor, digits = DigitsExtractor(), Digits().reference()
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    real, fresh = digits.pixels[order[1000:]], digits.pixels[order[:1000]].float()
    noise = 25 * torch.randn(fresh.shape, generator=torch.Generator().manual_seed(1))
    fake = (fresh + noise).round().clamp(0, 255).to(torch.uint8)
    features = [torch.cat([extractor.extract(part)[0] for part in images.split(500)]) for images in (real, fake)]
    theirs = compute_prdc(*(x.double().numpy() for x in features), nearest_k=5)
    ours = {name: value for name, (value, _) in values_of(metrics(*theirs, manifold_k=5), *features).items()}
    print()
    head("digits, k = 5", "ours", "prdc", "relative difference")
    for name, value in theirs.items():
        row(name, f"{ours[name]:.8g}", f"{value:.8g}", f"{abs(ours[name] - value) / value:.1e}")


class Listed(torch.utils.data.Dataset):
    """Images one by one, for torch-fidelity."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


def sample_features(n: int, d: int, seed: int) -> Tensor:
    """Correlated features at least zero, as Inception's are, float32 [n, d]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(256, d, generator=generator) / 16
    x = torch.randn(n, 256, generator=generator) @ mix
    return x.add_(0.1 * torch.randn(n, d, generator=generator)).relu_()


def frechet(arguments: argparse.Namespace) -> None:
    """Two Gaussians of 2048 dimensions: scipy's root of a matrix, torchmetrics, ours with the real root kept."""
    mean1, cov1 = moments(sample_features(5000, 2048, 0))
    mean2, cov2 = moments(sample_features(5000, 2048, 1))
    root_time, root = spent(lambda: square_root(cov1))
    our_time, ours = spent(lambda: frechet_distance(mean1, cov1, mean2, cov2, root))
    whole_time, _ = spent(lambda: frechet_distance(mean1, cov1, mean2, cov2))
    their_time, theirs = spent(lambda: torchmetrics_fid._compute_fid(mean1, cov1, mean2, cov2).item())
    scipy_time, found = spent(lambda: scipy.linalg.sqrtm(cov1.numpy() @ cov2.numpy()))
    rooted = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * np.trace(np.real(found))
    head("Frechet distance, 2048-d", "value", "CPU s", "of torchmetrics", "relative difference")
    for name, value, seconds in (
        ("scipy.linalg.sqrtm", float(rooted), scipy_time),
        ("torchmetrics", theirs, their_time),
        ("ours, both roots", ours, whole_time),
        ("ours, the real root kept", ours, our_time),
    ):
        row(name, f"{value:.9g}", seconds, seconds / their_time, f"{abs(value - ours) / ours:.1e}")
    print(f"(the root, once for each real data set: {root_time:.2f} CPU s)")


def inception_pass(arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds per image of the pass, ours and torchmetrics'."""
    images = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = random_inception(folder)
        ours = InceptionExtractor(path)
        metric = torchmetrics_fid.FrechetInceptionDistance(2048, antialias=False, feature_extractor_weights_path=path)
        ours.extract(images[:16])
        times = [
            (spent(lambda: ours.extract(images))[0], spent(lambda: metric.update(images, real=True))[0]) for _ in "ab"
        ]
        mine, theirs = (min(pair[which] for pair in times) / len(images) for which in (0, 1))
        features = ours.extract(images)[0].double()
        difference = (features.mean(0) - metric.real_features_sum / metric.real_features_num_samples).abs().max()
    head("Inception pass", "CPU s per image", "of torchmetrics")
    row("torchmetrics", theirs, 1.0)
    row("ours", mine, mine / theirs)
    print(f"(mean features differ by at most {difference:.1e}, where the largest is {features.mean(0).max():.2g})")
    return mine, theirs


def cost(arguments: argparse.Namespace) -> None:
    """Of each score from features, beside the pass that all of them share."""
    n, d = 10_000, 2048
    per_image, _ = inception_pass(arguments)
    real, fake = (sample_features(n, d, seed) for seed in (0, 1))
    logits = torch.randn(n, 1008, generator=torch.Generator().manual_seed(2))
    once, statistics = spent(lambda: RealStatistics.of(real))
    near_once, statistics = spent(lambda: statistics.with_neighbours(5))
    together = ", ".join(NEIGHBOURS)
    times = {
        "fid": spent(lambda: values_of(metrics("fid"), statistics, fake))[0],
        "kid": spent(lambda: values_of(metrics("kid"), statistics, fake))[0],
        "mind": spent(lambda: values_of(metrics("mind"), statistics, fake))[0],
        "is": spent(lambda: metrics("is")[0].values(logits))[0],
        together: spent(lambda: values_of(metrics(*NEIGHBOURS), statistics, fake))[0],
    }
    head(f"{n:,} images, {d} features", "CPU s", "of the pass and FID")
    alone = n * per_image + times["fid"]
    row("pass, from the time for one image", n * per_image, n * per_image / alone)
    for name, seconds in times.items():
        row(name, seconds, seconds / alone)
    usual = sum(times.values()) - times["mind"]
    row("the usual ones", usual + n * per_image, (usual + n * per_image) / alone)
    print(f"(once for each real data set: statistics {once:.1f} CPU s, neighbours {near_once:.1f} CPU s)")
    near = times[together]
    most = 5 * n * per_image
    more = 1 + (times["kid"] + 5 * times["is"] + 25 * near) / (most + times["fid"])
    print(f"(at 50,000 images, the time for neighbours growing with the square: {more:.2f})")


class Projected(Extractor):
    """As wide as Inception and next to free."""

    name, suffix, weights_hash, resize, features, classes = "projected", "_projected", "0", "none", 2048, 1008

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mix", torch.randn(192, 2048, generator=generator) / 14)
        self.register_buffer("head", torch.randn(2048, 1008, generator=generator) / 45)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = ((images.flatten(1) - 127.5) / 74 @ self.mix).relu()
        return features, features @ self.head


def memory(arguments: argparse.Namespace) -> None:
    """Of all scores at 50,000 images, from the first pass on."""
    real = Pixels(torch.randint(0, 256, (arguments.images, 3, 8, 8), dtype=torch.uint8))
    fake = torch.randint(0, 256, (100, 3, 8, 8)) / 127.5 - 1
    extractor = Projected()
    extractor.extract(real.images(0, 100))
    with tempfile.TemporaryDirectory() as folder:
        judge = Evaluator(extractor, num_fake=arguments.images, cache=folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def sample(index: int, n: int) -> Tensor:
            return (fake[:n] * (1 - index / 2000)).clamp(-1, 1)

        seconds, _ = spent(lambda: judge.evaluate(sample, real, "cpu", ema=False))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        again, _ = spent(lambda: judge.evaluate(sample, real, "cpu", ema=False))
    head(f"{arguments.images:,} images, 2048 features, 1008 logits", "more memory at the peak", "CPU s", "CPU s again")
    row("all scores", f"{(after - before) * 1024 / 1e9:.2f} GB", seconds, again)


def fashion_mnist(folder: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 1, 28, 28] and labels [N] of the training split."""
    files = [next(folder.rglob(f"train-{kind}-ubyte.gz")) for kind in ("images-idx3", "labels-idx1")]
    pixels, labels = (np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in files)
    return torch.from_numpy(pixels[16:].copy()).view(-1, 1, 28, 28), torch.from_numpy(labels[8:].copy()).long()


def faulty(fresh: Tensor, labels: Tensor, train: Tensor) -> dict[str, Tensor]:
    """Real images that were not trained on, and what can be wrong with a generator's, uint8."""
    generator = torch.Generator().manual_seed(0)
    floats = fresh.float()
    noised = floats + 25 * torch.randn(floats.shape, generator=generator)
    blurred = F.avg_pool2d(F.pad(floats, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    few = fresh[torch.randint(0, 20, (len(fresh),), generator=generator)]
    mixed = fresh.clone()
    mixed[: len(fresh) // 10] = train[: len(fresh) // 10]
    others = (labels != 3).nonzero().flatten()
    return {
        "real, held out": fresh,
        "blurred (3x3)": blurred.round().to(torch.uint8),
        "noised (25 levels)": noised.round().clamp(0, 255).to(torch.uint8),
        "collapsed to 20 images": few,
        "class 3 missing": fresh[others.repeat(2)[: len(fresh)]],
        "a tenth memorised": mixed,
        "all memorised": train[: len(fresh)],
        "uniform noise": torch.randint(0, 256, fresh.shape, dtype=torch.uint8, generator=generator),
    }


def faults(arguments: argparse.Namespace) -> None:
    """What each score says to each fault, on two data sets."""
    digits = Digits().reference()
    sets = {"digits": (digits.pixels, digits.labels, DigitsExtractor())}
    if arguments.real:
        node = OmegaConf.load(Path(__file__).parents[1] / "conf" / "metrics" / "lite0.yaml").extractor
        extractor = build.make(node) if arguments.lite0 else DigitsExtractor()
        sets["Fashion-MNIST"] = (*fashion_mnist(arguments.real), extractor)
    for name, (pixels, labels, extractor) in sets.items():
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
        held_out = order % 5 == 0  # as for the classifier behind the scores, where it is of these digits
        seen, unseen = order[~held_out][:4000], order[held_out][:1000]
        real = Pixels(pixels[seen], name)
        with tempfile.TemporaryDirectory() as folder:
            head(f"{name}: {len(unseen):,} against {len(seen):,}", *SCORES)
            for fault, images in faulty(pixels[unseen], labels[unseen], pixels[seen]).items():
                found = score(images, real, extractor, folder)
                row(fault, *(f"{found[key]:.3f}" for key in SCORES))
        print()


def intervals(arguments: argparse.Namespace) -> None:
    """The width of the confidence intervals, against how much new draws of as many images differ."""
    digits = Digits().reference()
    real = Pixels(digits.pixels, "digits")
    n, sets, halves = 1000, 60, 100

    def drawn(seed: int) -> Tensor:  # two digits mixed: endlessly many images
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(0, len(digits), (2, n), generator=generator)
        share = 0.3 * torch.rand(n, 1, 1, 1, generator=generator)
        return ((1 - share) * digits.pixels[rows[0]] + share * digits.pixels[rows[1]]).round().to(torch.uint8)

    with tempfile.TemporaryDirectory() as folder:
        judge = Evaluator(DigitsExtractor(), num_fake=n, batch_size=n, cache=folder, kid_subsets=20)

        def measured(seed: int, bootstrap: int) -> dict[str, Score]:
            return judge.measure(lambda *_: drawn(seed), real, Request("cpu", ema=None, bootstrap=bootstrap)).scores

        with_intervals = [measured(seed, halves) for seed in range(3)]
        others = [measured(seed, 0) for seed in range(3, sets)]
    head(
        f"{n:,} images", "mean", f"standard deviation over {sets} draws", "by the intervals of three draws", "quotient"
    )
    for name in with_intervals[0]:
        values = torch.tensor([scores[name].value for scores in with_intervals + others], dtype=torch.float64)
        bounds = [scores[name].interval for scores in with_intervals]
        widths = [(high - low) / (2 * 1.96) for low, high in bounds]
        mean = sum(widths) / len(widths)
        row(name, values.mean().item(), values.std().item(), mean, mean / values.std().item())


def main() -> None:
    sections = {f.__name__: f for f in (agreement, frechet, inception_pass, cost, memory, faults, intervals)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=", ".join(sections))
    parser.add_argument("--real", type=Path, help="a folder with Fashion-MNIST's files somewhere in it")
    parser.add_argument("--lite0", action="store_true", help="ImageNet's features for Fashion-MNIST")
    parser.add_argument("--images", type=int, default=50_000, help="of `memory`")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(sections)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}: type {', '.join(sections)}")
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}, one thread\n")
    for name in arguments.sections or sections:
        sections[name](arguments)
        print(flush=True)


if __name__ == "__main__":
    main()
