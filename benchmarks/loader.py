"""How fast images come: from the cache to float batches, and from JPEG files into the cache.

    python benchmarks/loader.py [--photos DIR]

One core, 64x64x3, batches of 64. Prints tables; rates are the median and the best of several turns, interleaved so
that other work on the machine hits every row alike, per second of the clock and of the processor.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan_experiments.data.batches import BatchStream, StreamLoader, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.sources import Files, Settings

RESOLUTION, BATCH, TARGET = 64, 64, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photographs to cut the JPEGs from (default: gradients)")
    parser.add_argument("--images", type=int, default=2000, help="JPEG files to decode")
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        jpegs = Path(folder) / "jpegs"
        write_jpegs(jpegs, arguments.images, arguments.photos)
        images = decoding(jpegs, Path(folder) / "caches", arguments.turns)
        reading(images, arguments.turns)


def write_jpegs(folder: Path, number: int, photos: Path | None) -> None:
    """Write `number` JPEGs 178x218 at quality 95."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    large = []
    for path in sorted(photos.rglob("*.jpg")) if photos else []:
        image = Image.open(path).convert("RGB")
        if min(image.size) >= 218:
            large.append(image)
    for i in range(number):
        if large:
            image = large[i % len(large)]
            x, y = rng.integers(image.width - 177), rng.integers(image.height - 217)
            image = image.crop((x, y, x + 178, y + 218))
        else:
            blobs = Image.fromarray(rng.integers(0, 256, (14, 11, 3), dtype=np.uint8))
            smooth = np.asarray(blobs.resize((178, 218), Image.Resampling.BICUBIC), np.float32)
            noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255)
            image = Image.fromarray(noisy.astype(np.uint8))
        image.save(folder / f"{i:06d}.jpg", quality=95)


def decoding(jpegs: Path, caches: Path, turns: int) -> ImageArray:
    """Compare building a cache with a plain loop over PIL, file by file; returns the images."""
    files = sorted(jpegs.iterdir())
    settings = Settings(RESOLUTION, 3)
    made: list[ImageArray] = []

    def build(threads: int) -> Callable[[], object]:
        def turn() -> None:
            made.append(cached(Files(jpegs), settings, str(caches / str(len(made))), threads=threads))

        return turn

    def loop(name: Image.Resampling) -> Callable[[], object]:
        def turn() -> None:
            for path in files:
                image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
                np.asarray(image.crop((0, 20, 178, 198)).resize((RESOLUTION, RESOLUTION), name))

        return turn

    timings = interleave(
        {
            "PIL, bicubic": loop(Image.Resampling.BICUBIC),
            "PIL, Lanczos": loop(Image.Resampling.LANCZOS),
            "cache, 1 thread": build(1),
            "cache, 2 threads": build(2),
        },
        max(3, turns // 3),
    )
    print(f"decode {len(files):,} JPEGs of 178x218 to {RESOLUTION}x{RESOLUTION}")
    print(f"{'':24}{'clock s':>9}{'CPU s':>9}{'images / CPU s':>16}{'CPU of PIL bicubic':>20}")
    base = statistics.median(cpu for _, cpu in timings["PIL, bicubic"])
    for name, pairs in timings.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:24}{wall:9.2f}{cpu:9.2f}{len(files) / cpu:16,.0f}{cpu / base:20.2f}")
    return made[0]


def reading(images: ImageArray, turns: int) -> None:
    """Measure batches from the memory-mapped cache to float in [-1, 1]."""
    batches = 150

    def read(flip: bool, channels_last: bool) -> Callable[[], object]:
        iterator = iter(StreamLoader(BatchStream(images, BATCH, flip=flip), lambda: 0))

        def turn() -> None:
            for _ in range(batches):
                batch = next(iterator)
                to_float(batch["real"], batch.get("flip"), channels_last)

        return turn

    timings = interleave(
        {
            f"flips {'on' if flip else 'off'}, {'channels_last' if last else 'contiguous'}": read(flip, last)
            for flip in (False, True)
            for last in (False, True)
        },
        turns,
    )
    print(f"\ncache to float batches of {BATCH}, {RESOLUTION}x{RESOLUTION}x3, one core (target {TARGET:,} images/s)")
    print(f"{'':24}{'median':>10}{'best':>10}{'per CPU s':>12}")
    for name, pairs in timings.items():
        walls, cpus = zip(*pairs, strict=True)
        rates = [batches * BATCH / t for t in (statistics.median(walls), min(walls), statistics.median(cpus))]
        print(
            f"{name:24}{rates[0]:10,.0f}{rates[1]:10,.0f}{rates[2]:12,.0f}  {'ok' if rates[2] >= TARGET else 'MISSED'}"
        )


def interleave(jobs: dict[str, Callable[[], object]], turns: int) -> dict[str, list[tuple[float, float]]]:
    """Run all jobs in turns; returns (clock, CPU) seconds of each turn, the first one (warming up) left out."""
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(turns + 1):
        for name, job in jobs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            job()
            if turn:
                timings[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return timings


if __name__ == "__main__":
    main()
