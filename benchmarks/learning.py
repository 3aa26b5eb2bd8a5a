"""Does each variant learn? Gives each that draws images from noise the same CPU time, and scores what it draws.

    nohup python benchmarks/learning.py > learning.md &   # all, on digits and emoji: 5 minutes and the scores for each
    python benchmarks/learning.py --models dcgan wgan_gp --data digits --minutes 20 --seeds 0 1 2

Prints a row when a run is done. What has been run is only read, what was interrupted goes on where it was. One thread,
at the lowest priority: other work is not held up. `--data emoji emoji_64` (32x32 and 64x64) needs `python
benchmarks/real_data.py emoji`, `--data photos` (64x64) `python benchmarks/real_data.py pieces`, all three the two
packages that conf/metrics/lite0.yaml names; benchmarks/pages.py puts the results into the pages of docs/models/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from gan_experiments.assembly import check
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.runs import configs, resolvers, resume, run_folder

RUN = Path(__file__).resolve().parents[1] / "src" / "gan_experiments" / "run.py"


def narrow(generator: int, discriminator: int | None = None) -> list[str]:
    return [f"model.generator.width={generator}", f"model.discriminator.width={discriminator or generator}"]


def both(setting: str) -> list[str]:
    return [f"++model.{player}.{setting}" for player in ("generator", "discriminator")]


def rates(generator: float, discriminator: float) -> list[str]:
    return [f"model.optimizers.generator.lr={generator}", f"model.optimizers.discriminator.lr={discriminator}"]


# A decay of 0.9999 a step leaves the average, after the few steps here, at the untrained network.
SOON_AVERAGED = [
    "~model.ema.generator.decay",
    "+model.ema.generator.half_life=10000",
    "+model.ema.generator.ramp_up=0.05",
    "++model.ema.generator.start=0",
]
DCGANS = [*narrow(32), *rates(8e-4, 5e-4)]

FEWER_CRITICS = ["model.n_critic=2", "data.batch_size=16"]  # more steps of the generator in the same time

GROWING = [
    *both("channel_base=256"),
    *both("channel_max=64"),
    "model.generator.latent_dim=64",
    *rates(2e-3, 2e-3),
    "data.batch_size=16",
]
REDUCED = {  # what a variant is given to learn in minutes on one core; those not named run as their papers have them
    "acgan": DCGANS,
    "biggan": [*narrow(8, 6), *rates(4e-4, 8e-4), *SOON_AVERAGED, "data.batch_size=16"],
    "biggan_deep": [*narrow(16), *rates(4e-4, 8e-4), *SOON_AVERAGED, "data.batch_size=16"],
    "cdcgan": narrow(32),  # at the rates of the others it is lost on the emoji
    "dcgan": DCGANS,
    "improved_gan": DCGANS,
    "lsgan": DCGANS,
    "pggan": [*GROWING, *SOON_AVERAGED, "model.stable_images=5000", "model.fade_images=5000"],
    "r3gan": [  # whole convolutions: those of groups take as long on a CPU
        *narrow(64),
        *both("full_width_to=4"),
        *both("group_width=256"),
        *both("blocks=1"),
        *rates(1e-3, 1e-3),
        "augment=none",
        "model.gamma=[1,0.1]",
        "model.burn_in=${images}",
        "model.half_life=[0,1000]",
        "data.batch_size=8",
    ],
    "sagan": [*narrow(8, 12), *rates(2e-4, 8e-4), *SOON_AVERAGED, "data.batch_size=16"],
    "sngan": [*narrow(8, 12), *rates(4e-4, 4e-4), *FEWER_CRITICS, "model.generator_batch=1"],
    "sngan_projection": [*narrow(8, 12), *rates(4e-4, 4e-4), *FEWER_CRITICS, "model.generator_batch=1"],
    "stylegan": [  # by the loss of the paper's configuration for CelebA-HQ: by the other all digits became one
        *GROWING,
        "loss=wasserstein",
        "technique=[gradient_penalty,drift]",
        "model.generator.w_dim=64",
        "model.generator.mapping_layers=4",
        "+model.ema.generator.ramp_up=0.05",
        "model.stable_images=4000",
        "model.fade_images=4000",
    ],
    "stylegan2": [
        "model.generator.channel_base=512",
        "model.generator.channel_max=64",
        "model.generator.latent_dim=64",
        "model.generator.w_dim=64",
        "model.generator.mapping_layers=4",
        "model.ema.generator.half_life=5000",
        "+model.ema.generator.ramp_up=0.05",
        "technique.r1.gamma=0.1",
        "technique.path_length.decay=0.001",
        "data.batch_size=16",
    ],
    "unrolled_gan_dcgan": [*narrow(16), *rates(8e-4, 5e-4), "data.batch_size=32"],
    # The first 25 steps of the generator by the authors' schedule would take all the time.
    # At rates of 5e-4 a step moves a weight by a twentieth of its bound, and the digits get no better after 4 minutes.
    "wgan": [*narrow(32), *rates(2e-4, 2e-4), "technique=[weight_clipping]", "model.n_critic=2"],
    "wgan_gp": [*narrow(16), *rates(4e-4, 4e-4), *FEWER_CRITICS, "model.generator_batch=1"],
    "wgan_gp_64": [*narrow(8), *rates(4e-4, 4e-4), *FEWER_CRITICS],
    "wgan_gp_conditional": [  # by the paper's weight of 0.1 the labels are not followed within the time
        *narrow(16),
        *rates(4e-4, 4e-4),
        *FEWER_CRITICS,
        "model.generator_batch=1",
        "technique.auxiliary_classifier.generator_weight=1",
    ],
    "wgan_gp_dcgan": [*narrow(32), *rates(1e-3, 5e-4), "data.batch_size=32"],
}
LITE0 = ["metrics=lite0", "metrics.num_fake=2000", "metrics.threads=1"]
EMOJI = ["data=folder", "data.root=${oc.env:GAN_EXPERIMENTS_DATA,data}/emoji", "data.classes=9", *LITE0]
DATA = {
    "digits": ["data=digits", "metrics=digits"],
    "emoji": [*EMOJI, "data.resolution=32"],
    "emoji_64": [*EMOJI, "data.resolution=64"],
    "photos": [
        "data=folder",
        "data.root=${oc.env:GAN_EXPERIMENTS_DATA,data}/pieces/train",
        "data.resolution=64",
        "data.flip=true",
        *LITE0,
    ],
}
WITHOUT_CLASSES = ("photos",)
CLASSES_OPTIONAL = ("biggan", "biggan_deep", "r3gan", "sagan")  # of classes unless told that there are none
EVERYWHERE = ["trainer=cpu", "trainer.channels_last=true", "logger=csv"]
SAVED = ["callbacks.scores.every=0", "callbacks.checkpoints.every=5000"]
COLUMNS = ("fid", "kid", "is", "precision", "recall", "coverage")


class Clock(L.Callback):
    """Ends a training after `seconds` of this process's CPU time, over all of its starts.

    The batch that is begun then is the last one. The scores of the untrained and the trained networks are not counted;
    sheets and checkpoints in between are.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.used = seconds, 0.0
        self._since: float | None = None

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        now = time.process_time()
        self.used += now - (now if self._since is None else self._since)
        self._since = now
        if self.used >= self.seconds:
            module.run.images = module.images_seen + 1

    def state_dict(self) -> dict[str, float]:
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.used = state["used"]


@dataclass(frozen=True)
class Cell:
    """One variant on one data set from one seed, and the folder of its run."""

    model: str
    data: str
    seed: int
    minutes: float
    out: Path
    name: str = ""  # of what `more` makes of it, for its folder
    more: tuple[str, ...] = ()
    length: int = 0  # in images, in place of the minutes

    @property
    def folder(self) -> Path:
        name = "-".join(filter(None, [self.model, self.name, self.data]))
        length = f"{self.length}images" if self.length else f"{self.minutes:g}min"
        return self.out.resolve() / f"{name}-{self.seed}-{length}"

    @property
    def words(self) -> list[str]:
        """What a person types for it, but for its length."""
        reduced = REDUCED.get(self.model, [])
        untold = self.data in WITHOUT_CLASSES and self.model in CLASSES_OPTIONAL
        classes = ["model.discriminator.conditioning=none"] if untold else []
        words = [*DATA[self.data], *EVERYWHERE, *reduced, *classes, *self.more]
        return [f"model={self.model}", *words, f"seed={self.seed}"]

    def result(self) -> dict[str, Any]:
        """What came of it: trained where it has not been. Raises RuntimeError where its command fails."""
        path = self.folder / "cell.json"
        if not path.exists():
            images = self.length or self._images()
            seconds = math.inf if self.length else 60 * self.minutes
            outcome = run_folder.outcome(self.folder)
            if outcome is None or outcome.status != "finished":
                self._train(seconds, self.folder, *self.words, *SAVED, f"images={images}", "resume=true")
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(json.dumps(self._read(images), indent=1))
            unfinished.replace(path)
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    def _images(self) -> int:
        """Images that take a tenth more than the time, for the schedules, whose ends are in images."""
        folder, seconds = self.folder / "speed", max(5.0, 3 * self.minutes)
        outcome = run_folder.outcome(folder)
        if outcome is None or outcome.status != "finished":
            self._train(seconds, folder, *self.words, "callbacks=none", "images=1000000000")
            outcome = run_folder.outcome(folder)
            assert outcome, "the run has ended well"
        return int(1.1 * outcome.images * 60 * self.minutes / seconds)

    def _train(self, seconds: float, folder: Path, *words: str) -> None:
        """Run the command with a clock; what it prints goes to `printed.log`."""
        folder.mkdir(parents=True, exist_ok=True)
        clock = f"+callbacks.clock={{_target_: learning.Clock, seconds: {seconds}}}"
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        with (folder / "printed.log").open("a") as log:
            child = subprocess.Popen(
                [sys.executable, str(RUN), *words, clock, f"hydra.run.dir='{folder}'"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            # It saves where it is when asked to stop; Ctrl-C reaches it by itself.
            before = {
                signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
                signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
            }
            status = child.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
        if abs(status) % 128 in (signal.SIGINT, signal.SIGTERM):  # 128 + n where it saved, -n where it had not begun
            sys.exit(128 + abs(status) % 128)
        if status:
            raise RuntimeError(f"exit status {status}, see {run_folder.shown(folder / 'printed.log')}")

    def _read(self, images: int) -> dict[str, Any]:
        clock = resume.load(self.folder / "checkpoints" / "last.ckpt")["callbacks"]["Clock"]
        command = shlex.join(["python", "src/gan_experiments/run.py", *self.words, f"images={images}"])
        return {
            "model": self.model,
            "data": self.data,
            "seed": self.seed,
            "minutes": self.minutes,
            "cpu_minutes": round(clock["used"] / 60, 2),
            "command": command.replace(str(self.out.resolve()), str(self.out)),
            "parameters": json.loads((self.folder / "parameters.json").read_text()),
            **self._found(),
            "date": f"{datetime.date.today()}",
            "machine": f"one thread of {processor()}, torch {torch.__version__.partition('+')[0]}",
        }

    def _found(self) -> dict[str, Any]:
        """How long it was in images, what it scores, and the path of a sheet."""
        history = json.loads((self.folder / "scores.json").read_text())["history"]
        first, last = ({name.split("_")[0]: value for name, value in row.items()} for row in (history[0], history[-1]))
        return {
            "images": last["images"],
            "extractor": next(name for name in history[-1] if name.startswith("fid")).partition("_")[2],
            "untrained": {name: first[name] for name in COLUMNS},
            "trained": {name: last[name] for name in COLUMNS},
            "sheet": str(sorted((self.folder / "samples").glob("[0-9]*.png"))[-1].relative_to(self.folder.parent)),
        }


def processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def composed(*words: str) -> DictConfig:
    """The config of a command, for reading."""
    resolvers.register_resolvers()
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("run", overrides=list(words))
    cfg.output = "outputs"
    return cfg


@cache
def variants() -> list[str]:
    """The files of conf/model/ whose model draws images from noise."""
    names = sorted(path.stem for path in (configs.conf_dir() / "model").glob("*.yaml"))
    return [name for name in names if issubclass(get_class(configs.of_choice("model", name)._target_), NoiseToImage)]


def refused(cell: Cell) -> list[str]:
    """Why this variant cannot be trained on these data."""
    return list(dict.fromkeys(check.faults(composed(*cell.words))))


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    for data in options.data:
        for seed in options.seeds:
            for model in options.models or variants():
                yield Cell(model, data, seed, options.minutes, options.out)


def heading() -> str:
    titles = ["model", "data", "seed", "images", "CPU minutes", *COLUMNS]
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"


def row(result: dict[str, Any]) -> str:
    """One line of the table: the scores, the untrained network's before the arrow."""
    before, after = result["untrained"], result["trained"]
    scores = [f"{before[name]:.3g} -> {after[name]:.3g}" for name in COLUMNS]
    told = [result["model"], result["data"], result["seed"], f"{result['images']:,}", f"{result['cpu_minutes']:.1f}"]
    return f"| {' | '.join(map(str, [*told, *scores]))} |"


def parser(about: str | None, models: Iterable[str], minutes: float, out: str) -> argparse.ArgumentParser:
    """What can be typed to a benchmark of cells."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=models, metavar="MODEL", help="default: all")
    parser.add_argument("--minutes", type=float, default=minutes, help="CPU minutes of training for each (%(default)g)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the runs")
    return parser


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    options = parser(__doc__, variants(), 5.0, "outputs/learning")
    options.add_argument("--data", nargs="+", choices=DATA, default=["digits", "emoji"])
    return options.parse_args(words)


def told(cells: Iterable[Cell], row: Callable[[dict[str, Any]], str]) -> int:
    """Print the row of each cell when it is done, at the lowest priority; 1 where a training has failed."""
    os.nice(19)
    status = 0
    for cell in cells:
        try:
            print(row(cell.result()), flush=True)
        except RuntimeError as error:
            print(f"| {cell.model} | {cell.data} | {cell.seed} | failed: {error} |", flush=True)
            status = 1
    return status


def taken(options: argparse.Namespace) -> Iterator[Cell]:
    """The cells that can be trained; says of the others why not."""
    for cell in cells(options):
        if why := refused(cell):
            print(f"| {cell.model} | {cell.data} | refused: {'; '.join(why)} |", flush=True)
        else:
            yield cell


def main() -> int:
    """Train what is asked for and print the table; 1 where a training has failed."""
    options = parsed()
    print(heading(), flush=True)
    return told(taken(options), row)


if __name__ == "__main__":
    sys.exit(main())
