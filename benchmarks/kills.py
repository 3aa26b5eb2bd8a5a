"""Fifty kills at random moments, one result.

    python benchmarks/kills.py                                  # about 20 minutes on one core
    python benchmarks/kills.py --kills 10 --ranks 2 --out outputs/kills-2
    python benchmarks/kills.py model=damsm --kills 8 --images 9_600 --out outputs/kills-damsm

Trains DCGAN on the digits, or what is typed, once from beginning to end. Then the same again, killed (SIGKILL, every
process of it) at a random moment after its start and started again with `resume=true`, so many times; then to its end.
Says how far the two ends are apart: everything that the last checkpoint holds, the scores, and every recorded loss.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

DCGAN = ["model.generator.width=8", "model.discriminator.width=8"]
WORDS = [
    "trainer.log_every=5",
    "logger=csv",
    "metrics.num_fake=200",
    "callbacks.scores.every=10_000",
    "callbacks.samples.every=10_000",
    "callbacks.checkpoints.every=640",
]
CLOCKS = ("images_per_second",)  # what may differ


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own; what it says goes to `<folder>.log`."""
    command = [sys.executable, str(REPOSITORY / "src/gan_experiments/run.py"), *words, f"hydra.run.dir={folder}"]
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(words: list[str], folder: Path) -> None:
    """Run the command to its end."""
    status = start(words, folder).wait()
    if status:
        sys.exit(f"{folder}: exit status {status}, see {folder}.log")


def kill(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill the process and its children after so many seconds; whether it still ran."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return running


def reached(folder: Path) -> int:
    """Images seen by the last checkpoint, 0 without one."""
    from gan_experiments.runs import resume

    path = folder / "checkpoints" / "last.ckpt"
    return int(resume.load(path)["gan_experiments"]["images_seen"]) if path.exists() else 0


def compare(one: Path, other: Path) -> dict[str, Any]:
    """What differs between two finished runs."""
    from support import difference

    from gan_experiments.runs import resume

    states = [resume.load(folder / "checkpoints" / "last.ckpt") for folder in (one, other)]
    found: dict[str, Any] = difference(*states)
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (one, other)]
    if scores[0]["history"] != scores[1]["history"]:
        found["scores.json"] = scores
    tables = []
    for folder in (one, other):
        with (folder / "metrics.csv").open(newline="") as file:
            tables.append([{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)])
    if tables[0] != tables[1]:
        found["metrics.csv"] = [pair for pair in zip(*tables, strict=False) if pair[0] != pair[1]][:3]
    return found


def main() -> None:
    """Train, kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=DCGAN, help="as model=attngan ..., in place of a narrow DCGAN")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=700_000)
    parser.add_argument("--ranks", type=int, choices=(1, 2), default=1)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds from a start to its kill, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("outputs/kills"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    words = [
        *WORDS,
        *options.words,
        f"images={options.images}",
        f"trainer={'cpu' if options.ranks == 1 else 'ddp_cpu'}",
    ]
    if not (out / "whole" / "outcome.json").exists():
        finish([*words, "resume=true"], out / "whole")
    moments = random.Random(options.seed)
    cut, kills, early = out / "cut", 0, 0
    while kills < options.kills:
        seconds = moments.uniform(0.0, options.longest)
        if not kill(start([*words, "resume=true"], cut), seconds):
            print(f"the run ended after {kills} kills: more images= are needed for {options.kills}")
            break
        kills += 1
        seen = reached(cut)
        early += seen == 0
        print(f"kill {kills:3} after {seconds:5.2f} s: the last checkpoint has seen {seen:,} images", flush=True)
    finish([*words, "resume=true"], cut)
    found = compare(out / "whole", cut)
    print(f"\n{kills} kills ({early} before the first checkpoint), {kills} resumes, {options.ranks} rank(s):", end=" ")
    print("no difference" if not found else f"{len(found)} differences: {list(found.items())[:5]}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
