"""What several tests need: compose a small run of a variant, train it, compare what came of it."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import itertools
import json
import logging
import os
import pkgutil
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import composing
import hydra
import lightning as L
import matplotlib as mpl
import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

import gan_experiments
from gan_experiments import distributed, processes, sound
from gan_experiments.assembly import build, check
from gan_experiments.callbacks.checkpoints import Checkpoints
from gan_experiments.callbacks.health import Health
from gan_experiments.callbacks.record import Record
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import Batch
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.posed import cameras_around
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.launch import entry, sweeps
from gan_experiments.runs import configs, run_folder

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = sorted(path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml"))
SMALL = {"width": 4, "blocks": 1, "layers": 2, "growth": 4, "latent_dim": 8, "n_critic": 2, "depth": 1, "shared_dim": 4}
SMALL |= {"reference_batch": 4, "steps": 2, "unrolling_steps": 2, "bottleneck": 8, "embedding": 8}
SMALL |= {"w_dim": 8, "channel_base": 128, "channel_max": 8, "mapping_layers": 2}
SMALL |= {"content_dim": 2, "motion_dim": 2, "mapping_width": 4, "samples": 3}
SMALL |= {"plane_resolution": 16, "plane_channels": 2, "decoder_width": 4, "points": 8}
"""Values that make any variant small, for whichever of these keys it has and does not leave at 0."""
WITHOUT_WEIGHTS = {"srgan": ["perceptual=none", "model.pixel_weight=4"], "esrgan": ["perceptual=none"]}
WITHOUT_WEIGHTS |= {"attngan": ["model.damsm_weight=0"]}
"""What a variant does without VGG19's weights, which no test can download, or encoders of another run."""

PLAIN = [
    f"trainer.{word}" for word in ("precision=32-true", "channels_last=false", "tf32=false", "cudnn_benchmark=false")
]


def compose(folder: Path, *overrides: str) -> DictConfig:
    """The config of a run on the CPU, as the command line would compose it."""
    cfg = copy.deepcopy(_composed(*overrides))
    cfg.output = str(folder)
    return cfg


@cache
def _composed(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose("run", overrides=["logger=none", "callbacks=none", "trainer=cpu", *PLAIN, *overrides])


def small(folder: Path, model: str, *overrides: str) -> DictConfig:
    """A variant with networks of a few channels, on a few images at 32 x 32 of the kind that it trains on."""
    words = [*_small_data(folder, model), *WITHOUT_WEIGHTS.get(model, []), *overrides]
    cfg = compose(folder, f"model={model}", "images=16", *words)
    return shrink(cfg)


def shrink(cfg: DictConfig) -> DictConfig:
    """Set every key that SMALL names, wherever it stands below the model and the techniques."""
    stack = [cfg.model, cfg.technique]
    while stack:
        node = stack.pop()
        for key in list(node):
            value = node._get_node(key)
            if isinstance(value, DictConfig):
                stack.append(value)
            elif key in SMALL and node[key]:
                node[key] = min(node[key], SMALL[str(key)])
    return cfg


def few_samples(cfg: DictConfig) -> None:
    """Have the callbacks look at a few samples each, where there are any callbacks."""
    for name in ("samples", "health", "memorisation"):
        if (cfg.get("callbacks") or {}).get(name):
            cfg.callbacks[name].n = 4


def _small_data(folder: Path, model: str) -> list[str]:
    entries = [entry for node in inherited(model) for entry in node.get("defaults", []) if not isinstance(entry, str)]
    data = [value for entry in entries for key, value in entry.items() if str(key).startswith("override /data")]
    if data and data[0] in SMALL_DATA:
        return [*small_data(folder, data[0]), "images=8"]
    return ["metrics=none", "data.batch_size=4"]


@cache
def inherited(model: str) -> tuple[Any, ...]:
    """The config files that a model's is made of, its own first; to read, not to change."""
    node: Any = OmegaConf.load(REPOSITORY / "conf" / "model" / f"{model}.yaml")
    bases = [base for base in node.get("defaults", []) if isinstance(base, str)]
    return node, *(file for base in bases if base != "_self_" and base[0] != "/" for file in inherited(base))


def model_class(model: str) -> type:
    """The class that a model's config makes."""
    return get_class(next(node._target_ for node in inherited(model) if "_target_" in node))


GENERATIVE = [model for model in MODELS if getattr(model_class(model), "makes_images", True)]
"""The models that have a generator."""


def small_data(folder: Path, choice: str) -> list[str]:
    """The words for a few images at 32 x 32 of a choice of data= that SMALL_DATA names, written beside the folder."""
    root = folder.parent / choice
    words = SMALL_DATA[choice](root)
    where = [] if choice in ("torch", "hub", "moving_digits", "posed_shapes") else [f"data.root={root}"]
    size = "data.length=256" if choice == "waves" else "data.resolution=32"
    return [*where, size, "data.batch_size=2", *words]


def _unpaired(root: Path) -> list[str]:
    for name in ("trainA", "trainB"):
        write_images(root / name, 6, seed=len(name) + ord(name[-1]))
    return ["data.load_resolution=36"]


def _paired(root: Path) -> list[str]:
    for name, number in (("train", 6), ("val", 3)):
        for letter in "AB":
            write_images(root / f"{name}{letter}", number, seed=len(name) + ord(letter))
    return ["data.load_resolution=36"]


def _domains(root: Path) -> list[str]:
    for seed, name in enumerate(("black", "blond", "brown")):
        write_images(root / name, 3, seed=seed)
    return ["data.classes=3"]


def _attributes(root: Path) -> list[str]:
    images = sorted(write_images(root / "celeba" / "img_align_celeba", 6).iterdir())
    rows = [f"{path.name} {' '.join('1' if i >> bit & 1 else '-1' for bit in (0, 1))}" for i, path in enumerate(images)]
    table = "\n".join([str(len(images)), "Male Young", *rows])
    (root / "celeba" / "list_attr_celeba.txt").write_text(table)
    return ["data.attributes=[Male,Young]", "data.classes=2", "data.crop=null"]


def _glyphs(root: Path) -> list[str]:
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
    return [f"data.fonts=[{','.join(str(fonts / name) for name in names)}]", "data.classes=2", "data.characters=ABCDEF"]


def _photos(root: Path) -> list[str]:
    write_images(root, 6)
    return []


def _table(root: Path) -> list[str]:
    names = sorted(path.name for path in write_images(root, 6).iterdir())
    (root / "set.csv").write_text("\n".join(["path", *names]))
    return [f"data.file={root / 'set.csv'}"]


def _captioned(root: Path) -> list[str]:
    for place, path in enumerate(sorted(write_images(root, 6).iterdir())):
        path.with_suffix(".txt").write_text(f"picture number {place}\nthe {place}th")
    return []


def _dataset(root: Path) -> list[str]:
    write_images(root / "cats", 6)
    return ["data.dataset._target_=torchvision.datasets.ImageFolder", f"+data.dataset.root={root}"]


def _moving_digits(root: Path) -> list[str]:
    return ["data.clips=8", "data.length=16"]


def _posed(root: Path) -> list[str]:
    """Images with cameras, in the form of EG3D's data."""
    write_images(root, 6)
    cameras = cameras_around(6).tolist()
    labels = [[f"{index}.png", camera] for index, camera in enumerate(cameras)]
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return []


def _posed_shapes(root: Path) -> list[str]:
    return ["data.limit=6"]


def _waves(root: Path) -> list[str]:
    root.mkdir(parents=True, exist_ok=True)
    for index in range(6):
        time = torch.arange(300 * (index + 1)) / 16_000
        wave = torch.sin(2 * torch.pi * 200 * (index + 1) * time)[None]
        (root / f"{index}.wav").write_bytes(sound.wav_of(wave, 16_000))
    return ["data.window=random"]


def _clips(root: Path) -> list[str]:
    for index in range(3):
        write_film(root / f"{index}.gif", 16, index)
    return ["data.length=16"]


def write_film(path: Path, frames: int, seed: int = 0, size: int = 40) -> Path:
    """An animated GIF, APNG or WebP of a few colours that move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed))
    picture = torch.nn.functional.interpolate(coarse[None], size=size, mode="nearest")[0]
    pixels = [(picture.roll(time, 2) * 255).byte().permute(1, 2, 0).numpy() for time in range(frames)]
    first, *rest = [Image.fromarray(frame) for frame in pixels]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=100, loop=0, **lossless)
    return path


def _hub(root: Path) -> list[str]:
    write_images(root, 6)
    return [f"data.name={root}"]


def _voxels(root: Path) -> list[str]:
    root.mkdir(parents=True, exist_ok=True)
    for index in range(6):
        grid = np.zeros((16, 16, 16), dtype=bool)
        grid[2:14, 10 - index : 14, 4:12] = True
        np.save(root / f"{index}.npy", grid)
    return []


SMALL_DATA: dict[str, Callable[[Path], list[str]]] = {
    "unpaired": _unpaired,
    "paired": _paired,
    "domains": _domains,
    "domains_celeba": _attributes,
    "glyphs": _glyphs,
    "super_resolution": _photos,
    "super_resolution_128": _photos,
    "masked": _photos,
    "masked_random": _photos,
    "folder": _photos,
    "captioned": _captioned,
    "table": _table,
    "torch": _dataset,
    "hub": _hub,
    "moving_digits": _moving_digits,
    "waves": _waves,
    "posed": _posed,
    "posed_shapes": _posed_shapes,
    "clips": _clips,
    "voxels": _voxels,
}
"""Writes a few images for a choice of data= that takes files of any form; gives the words beside the root."""


def write_images(folder: Path, n: int, size: int = 40, seed: int = 0) -> Path:
    """n small colour PNGs of smooth noise."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for index in range(n):
        coarse = torch.rand(1, 3, 4, 4, generator=generator)
        pixels = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")[0]
        Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return folder


def random_vgg19(path: Path) -> nn.Sequential:
    """The layers of torchvision's VGG19 with random weights that keep the size of what they see, written to a file."""
    torch.manual_seed(0)
    with torch.device("meta"):
        body = make_layers(cfgs["E"])
    body.to_empty(device="cpu").requires_grad_(False)
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(std=(2 / layer.weight[0].numel()) ** 0.5)
            layer.bias.normal_(std=0.1)
    torch.save({f"features.{name}": value for name, value in body.state_dict().items()}, path)
    return body


def train(
    cfg: DictConfig,
    checkpoint: Path | None = None,
    every: int = 0,
    before: list[Any] | None = None,
    extra: list[Any] | None = None,
    change: Callable[[AdversarialModule], object] | None = None,
) -> AdversarialModule:
    """Train a composed config to its end, without loggers; with `every` also write checkpoints below its folder.

    `before` and `extra` are callbacks before and after that of the checkpoints; `change` is done to the new model.
    """
    build.quieten()
    data, model = build.make(cfg.data), build.build_model(cfg)
    data.channels_last = cfg.trainer.channels_last
    if change:
        change(model)
    checkpoints = [Checkpoints(cfg.output, every)] if every else []
    callbacks = [Record(), Stopping(), *(before or []), *checkpoints, *(extra or [])]
    trainer = build.build_trainer(cfg, callbacks, [])
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model


class KeepSome(Checkpoints):
    """Keeps the checkpoints after some numbers of batches, as a kill right after them would leave these."""

    def __init__(self, folder: Path, stops: Container[int]) -> None:
        super().__init__(folder, every=10**9)
        self.stops = stops

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Save `<batches>.ckpt` too."""
        if module.batches in self.stops:
            self.save(trainer, module, self.folder / f"{module.batches}.ckpt")
        super().on_train_batch_end(trainer, module)


class Grey(L.Callback):
    """Sheets of one colour while a model trains, as of a generator that makes the same of everything."""

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        sheet = module.sheet
        module.sheet = lambda inputs, ema: torch.zeros_like(sheet(inputs, ema))

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        del module.sheet


@dataclass(frozen=True)
class Variant:
    """A small run of a variant, which several tests look at: four batches in two epochs, watched by Health."""

    folder: Path
    """Holds the checkpoints of its first batch, `checkpoints/1.ckpt`, and of its end."""
    cfg: DictConfig
    model: AdversarialModule
    health: Health
    """Has seen sheets of one colour."""
    said: list[str]
    """Of its health."""

    @classmethod
    def trained(cls, folder: Path, model: str) -> Variant:
        """Train one."""
        cfg = small(folder, model)
        if "limit" in cfg.data:
            cfg.data.limit = 5 * cfg.data.batch_size // 2  # of digits one of each class
        for technique in cfg.technique.values():
            if technique.get("every", 1) > 1:  # a lazy one comes in a short run too
                technique.every = 2
        said: list[str] = []
        listener = logging.Handler()
        listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger(Health.__module__).addHandler(listener)
        module, health = cls.train(cfg)
        logging.getLogger(Health.__module__).removeHandler(listener)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
        return cls(folder, cfg, module, health, said)

    @staticmethod
    def train(cfg: DictConfig, checkpoint: Path | None = None) -> tuple[AdversarialModule, Health]:
        """Train a run like these, from the beginning or from a checkpoint."""
        health = Health(every=cfg.data.batch_size, warm_up=0, patience=2)
        return train(cfg, checkpoint, extra=[Grey(), health, KeepSome(Path(cfg.output), (1,))]), health


def bare_checkpoint(state: dict[str, Any] | None = None, **saved: Any) -> dict[str, Any]:
    """The least that a checkpoint holds; `saved` is of the run."""
    trainer = {"precision": "32-true", "channels_last": False, "accumulate": 1, "log_every": 1}
    config = {"model": {"_target_": "x"}, "data": {"_target_": "x"}, "trainer": trainer, "images": 8, "seed": 0}
    least = {"batches": 0, "images_seen": 0, "averaged_at": {}, "config": config}
    return {"state_dict": state or {}, "gan_experiments": least | saved}


def difference(a: Any, b: Any, path: str = "") -> dict[str, float]:
    """The largest difference of each pair of tensors or numbers at the same place of two structures, where not 0."""
    if isinstance(a, torch.Tensor):
        gap = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
        return {path: gap} if gap or a.shape != b.shape else {}
    if isinstance(a, dict):
        assert set(a) == set(b), f"{path}: {set(a) ^ set(b)}"
        pairs = [(key, a[key], b[key]) for key in a]
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        pairs = [(index, *pair) for index, pair in enumerate(zip(a, b, strict=True))]
    else:
        return {} if a == b else {path: float("nan")}
    found: dict[str, float] = {}
    for key, left, right in pairs:
        found |= difference(left, right, f"{path}/{key}")
    return found


@cache
def _load() -> None:
    """Import what commands need, before the fork and so once: W&B alone takes as long as a small training."""
    ours = [module.name for module in pkgutil.walk_packages(gan_experiments.__path__, "gan_experiments.")]
    scripts = [name for name in ours if name.endswith((".run", ".__main__", ".train_digits"))]
    for name in (*sorted(set(ours) - set(scripts)), "gan_experiments.verbs.run", *LATE):
        importlib.import_module(name)
    check.require(compose(Path("r"), "callbacks=default", "logger=wandb"))  # keeps signatures, bounds and layers' sizes


LATE = (
    "matplotlib.pyplot",
    "jinja2",
    "requests",
    "hydra._internal.logging_config",
    "torch.utils.serialization",
    "scipy.ndimage",
)
"""What other packages import when they are first used."""


class Started:
    """A command at work in a fork of this process, which has imported everything: a tenth of a new process's time."""

    def __init__(self, argv: list[str], main: Callable[[], object], folder: Path, environment: dict[str, str]) -> None:
        self.args, self.said = argv, [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv, main, folder, environment, *(file.fileno() for file in self.said))

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; what it said, and its exit status."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = []
        for file in self.said:
            file.seek(0)
            said.append(file.read().decode())
            file.close()
        return subprocess.CompletedProcess(self.args, status, *said)


def start(
    *words: str,
    verb: str = "run",
    folder: Path | None = None,
    change: Callable[[DictConfig], None] | None = None,
    **environment: str,
) -> Started:
    """Begin a verb as a person types it, in a folder; `change` is done to the config before the verb sees it."""
    _load()
    composing.prepare(verb, [*words])
    module = importlib.import_module(f"gan_experiments.verbs.{verb}")
    work = getattr(module, verb)

    def changed(cfg: DictConfig) -> int:
        if change is not None:
            change(cfg)
        return int(work(cfg))

    def main() -> None:
        setattr(module, verb, changed)
        entry.main()

    script = str(REPOSITORY / "src" / "gan_experiments" / "run.py")
    return Started([script, *([] if verb == "run" else [verb]), *words], main, folder or Path.cwd(), environment)


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same to its end."""
    return start(*words, **options).wait()


@dataclass
class Serving:
    """A service in a process: its port on 127.0.0.1 and, after its end, what it said and its exit status."""

    port: int
    done: subprocess.CompletedProcess[str] | None = None


@contextlib.contextmanager
def serving(*words: str, number: int = signal.SIGTERM, verb: str = "serve", **options: Any) -> Iterator[Serving]:
    """Start the verb `serve` or `demo`, wait until it can be asked, and end it by a signal."""
    started = start(*words, verb=verb, **options)
    said, faults = (file.fileno() for file in started.said)
    deadline = time.monotonic() + 100
    while (told := re.search(rb"http://[\w.]+:(\d+) ", os.pread(said, 1000, 0))) is None:
        assert time.monotonic() < deadline, "it does not begin"
        assert not os.waitpid(started.pid, os.WNOHANG)[0], os.pread(faults, 5000, 0)
        time.sleep(0.05)
    service = Serving(int(told[1]))
    try:
        yield service
    finally:
        started.send_signal(number)
        service.done = started.wait()


def _become(
    argv: list[str], main: Callable[[], object], folder: Path, environment: dict[str, str], out: int, err: int
) -> NoReturn:
    """Be the process that a command starts, to its end."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    _be(argv, main, folder, {**os.environ, **environment})


def _be(argv: list[str], main: Callable[[], object], folder: Path, environment: Mapping[str, str]) -> NoReturn:
    """Do a command, and end this process; `signal.alarm` ends one that hangs."""
    gc.freeze()  # or each fork would look for garbage, and so make a copy of, all that the tests have made
    status = 70
    if "trainer=ddp_cpu" in argv and "LOCAL_RANK" not in environment:
        distributed.subprocess = sweeps.subprocess = _Processes(main)  # type: ignore[assignment]
    try:
        signal.alarm(240)
        os.chdir(folder)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        sys.argv = argv
        sys.modules["__main__"].__spec__ = None  # ranks are started as this script, not as `python -m pytest`
        GlobalHydra.instance().clear()
        run_folder._command = run_folder._Command()  # of a command that a test did in this process, and
        processes.sweep.cache_clear()  # who started it
        processes._store.cache_clear()
        logging.getLogger().handlers.clear()  # pytest's
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


class _Processes:
    """Stands for `subprocess` where a command starts other ranks, or the jobs of a sweep, by commands like its own.

    A process that has imported everything, and done nothing yet, waits beside the command, and is forked for each.
    """

    def __init__(self, main: Callable[[], object]) -> None:
        self.main, self.lock = main, threading.Lock()
        here, there = socket.socketpair()
        if os.fork() == 0:
            here.close()
            self._serve(there)
        there.close()
        self.file = here.makefile("rw")

    def Popen(  # noqa: N802
        self, command: list[str], env: Mapping[str, str], cwd: str | None, start_new_session: bool = False
    ) -> _Process:
        """Start a command, as `subprocess.Popen` does."""
        return _Process(self, int(self.ask("start", command[1:], dict(env), cwd or os.getcwd(), start_new_session)))

    def ask(self, *request: Any) -> Any:
        with self.lock:
            self.file.write(json.dumps(request) + "\n")
            self.file.flush()
            return json.loads(self.file.readline())

    def _serve(self, there: socket.socket) -> NoReturn:
        file = there.makefile("rw")
        for line in file:  # until the command has ended
            what, *given = json.loads(line)
            if what == "start":
                answer = os.fork()
                if answer == 0:
                    processes._parent = os.getppid()
                    if processes.JOB_OF in given[1]:
                        given[1][processes.JOB_OF] = str(os.getppid())
                    if given[3]:
                        os.setsid()
                    _be(given[0], self.main, Path(given[2]), given[1])
            else:
                ended, status = os.waitpid(given[0], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if ended else None
            file.write(json.dumps(answer) + "\n")
            file.flush()
        os._exit(0)


class _Process:
    """As much of a `subprocess.Popen` as is asked of it."""

    def __init__(self, processes: _Processes, pid: int) -> None:
        self.processes, self.pid = processes, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.processes.ask("poll", self.pid)
        return self.returncode

    def wait(self) -> int:
        while (status := self.poll()) is None:
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def required(config: str) -> list[str]:
    """The words that a verb cannot do without."""
    return [
        f"{key}=there" for key in sorted(OmegaConf.missing_keys(OmegaConf.load(configs.conf_dir() / f"{config}.yaml")))
    ]


def batches(data: ImageData, number: int, start: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
    """The raw batches `start`, ... that a rank reads, as if a trainer ran whose model has seen `start` of them."""
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        lightning_module=SimpleNamespace(batches=start),
    )
    return list(itertools.islice(data.train_dataloader(), number))


def require_exact(make: Callable[..., ImageData], workers: int = 0) -> None:
    """Batches are a function of (seed, number): the same again, others for another seed, halves on two ranks."""
    whole = batches(make(), 6)
    assert difference(batches(make(workers=workers), 6), whole) == {}
    assert difference(batches(make(seed=7), 6), whole) != {}
    half = len(next(iter(whole[0].values()))) // 2
    for rank in range(2):
        wanted = [{key: rows[half * rank :][:half] for key, rows in batch.items()} for batch in whole[4:]]
        assert difference(batches(make(workers=workers), 2, 4, rank, 2), wanted) == {}


def ready(data: ImageData, number: int = 0) -> Batch:
    """A batch as a model gets it."""
    return data.on_after_batch_transfer(batches(data, 1, number)[0], 0)
