"""Our defaults beside other people's own training loops, by turns on one core.

    python benchmarks/peers.py --peers FOLDER [--rounds 3] [--cases dcgan_64 ...]

FOLDER holds clones of other projects; for one that is missing the tool says what to clone, and leaves its cases out.

Each measurement is a process of its own with one thread. One runs the peer's training script as it stands, the next
`src/gan_experiments/run.py` as a person would type it. No precision and no layout are named: our defaults choose them.
In the peer's process random images held in memory stand in for its data set, its loader works in the same process,
and sheets of samples are not saved. Ours reads random PNGs through `data=folder`, and writes `metrics.csv`.

A hook on all optimizers notes the processor's time at each of their steps and ends the process after some cycles; a
cycle is the number of batches after which the steps of all players repeat. The two sides must train the same number of
parameters. Where our own networks are others, ours trains the peer's classes, taken from its file by their names.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

RUN = Path(__file__).resolve().parent.parent / "src" / "gan_experiments" / "run.py"
CLONES = {
    "examples": "pytorch/examples",
    "PyTorch-GAN": "eriklindernoren/PyTorch-GAN",
    "mimicry": "kwotsin/mimicry",
    "torchgan": "torchgan/torchgan",
    "BasicSR": "XPixelGroup/BasicSR",
    "PyTorch-StudioGAN": "POSTECH-CVLab/PyTorch-StudioGAN",
}
"""Folders with clones, and what they are clones of on GitHub."""
COMMON = ("callbacks=none", "metrics=none", "logger=csv", "images=100_000_000")
SILENT = ("sample_images",)
"""Functions of the peers' scripts that only save sheets of samples."""
HELD, IN_AN_EPOCH, PICTURES = 512, 50_000, 2048
WARM = 2  # cycles before those that are measured


# ------------------------------------------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class Part:
    """A network class of a clone, for use in our config.

    Args:
        source: its file in the clone, or the module that has it if the clone is a package.
        name: of the class.
        arguments: of its constructor.
        latent_dim: components of z, if it is a generator that needs noise.
        given: names of the script that the class reads.
    """

    source: str
    name: str
    arguments: tuple[Any, ...] = ()
    latent_dim: int = 0
    given: Mapping[str, Any] = field(default_factory=dict)

    def make(self, clone: Path) -> nn.Module:
        """Build the network; it ends in logits and not in a sigmoid."""
        if self.source.endswith(".py"):
            network = definitions(clone / self.source, self.given)[self.name](*self.arguments)
        else:
            sys.path.append(str(clone))
            network = getattr(importlib.import_module(self.source), self.name)(*self.arguments)
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Sigmoid):
                    setattr(module, name, nn.Identity())
        return network


class Theirs(nn.Module):
    """A network of a case's peer, for our config: z [N, latent_dim] or images -> images, patches or logits [N]."""

    def __init__(self, peers: str, case: str, name: str) -> None:
        super().__init__()
        part = CASES[case].parts[name]
        self.network = part.make(Path(peers) / CASES[case].clone)
        if part.latent_dim:
            self.latent_dim = part.latent_dim

    def forward(self, x: Tensor) -> Tensor:
        out = self.network(x)
        return out.squeeze(1) if out.ndim == 2 else out  # logits [N, 1] -> [N]


def definitions(file: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Execute the imports, classes and functions of a script, nothing else, with names `given`; return its names.

    `view` becomes `reshape`, which does the same and does not fail for images that are channels last.
    """
    kept = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if isinstance(node, kept)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "view":
            node.attr = "reshape"
    names: dict[str, Any] = {"__name__": file.stem, **given}
    exec(compile(tree, str(file), "exec"), names)
    return names


@dataclass(frozen=True)
class Case:
    """A training that a peer and ours carry out.

    Args:
        title: for the table.
        clone: a key of CLONES.
        script: the peer's file, or a function that trains as its manual has it.
        words: the options of that file.
        ours: the words of our command; `data.root` is added.
        shape: of an image, [C, H, W].
        images: real images shown in a cycle.
        steps: optimizer steps in a cycle, theirs and ours.
        cycles: how many are measured.
        differs: what one side does beyond the other.
        beyond: parameters that theirs trains beyond ours, as `differs` says.
        parts: networks of our config that are the peer's classes, by the names of their nodes.
        patch: changes what the peer's script imports; is given the clone and the shape.
    """

    title: str
    clone: str
    script: str | Callable[[tuple[int, int, int]], None]
    words: tuple[str, ...]
    ours: tuple[str, ...]
    shape: tuple[int, int, int]
    images: int
    steps: tuple[int, int]
    cycles: int
    differs: str
    beyond: int = 0
    parts: Mapping[str, Part] = field(default_factory=dict)
    patch: Callable[[Path, tuple[int, int, int]], None] | None = None

    def command(self, name: str, peers: Path, pictures: Path) -> list[str]:
        """Return the words of our command."""
        channels, side, _ = self.shape
        words = [*COMMON, *self.ours, f"data.root={pictures}", f"data.resolution={side}", f"data.channels={channels}"]
        for node in self.parts:
            made = f"{{_target_: peers.Theirs, peers: '{peers}', case: {name}, name: {node}}}"
            words += [f"~model.{node}", f"+model.{node}={made}"]
        return words


# ------------------------------------------------------------------------------------------------- one measurement


@dataclass
class Measured:
    """What one process found: CPU seconds to the first step, CPU ms an image, MB at the peak, parameters trained."""

    start: float
    ms: float
    memory: float
    parameters: int


class Watch:
    """A hook on the steps of all optimizers that measures, writes `result` after the last cycle and ends the process.

    Steps that our defaults take to choose precision and layout are not the training's and do not count.
    """

    def __init__(self, steps: int, cycles: int, images: int, result: Path, warm: int = WARM) -> None:
        self.steps, self.cycles, self.images, self.result, self.warm = steps, cycles, images, result, warm
        self.times: list[float] = []
        self.sizes: dict[int, int] = {}

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        now = time.process_time()
        if not self.times and _inside("fastest.py"):
            return
        self.times.append(now)
        groups = optimizer.param_groups
        self.sizes.setdefault(id(optimizer), sum(p.numel() for group in groups for p in group["params"]))
        if len(self.times) == self.steps * (self.warm + self.cycles):
            spent = self.times[-1] - self.times[self.steps * self.warm - 1]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
            found = Measured(self.times[0], 1000 * spent / (self.cycles * self.images), peak, sum(self.sizes.values()))
            self.result.write_text(json.dumps(asdict(found)))
            sys.stdout.flush()
            os._exit(0)  # no checkpoint, no closing words


def _inside(file: str) -> bool:
    """Return True if a function of a file of this name is being executed."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename.endswith(f"{os.sep}{file}"):
            return True
    return False


def drive(name: str, side: str, peers: Path, pictures: Path, result: Path) -> None:
    """Train one side of a case in this process, until its hook ends it."""
    case = CASES[name]
    watch = Watch(case.steps[side == "ours"], case.cycles, case.images, result)
    register_optimizer_step_post_hook(watch)
    if side == "ours":
        sys.argv = [str(RUN), *case.command(name, peers, pictures)]
        runpy.run_path(str(RUN), run_name="__main__")
    else:
        sys.pycache_prefix = str(result.parent / "bytecode")  # nothing is written to the clones
        sys.path.append(str(peers / case.clone))
        if case.patch:
            case.patch(peers / case.clone, case.shape)
        replace_data(case.shape)
        if isinstance(case.script, str):
            run_script(peers / case.clone / case.script, case.words)
        else:
            case.script(case.shape)
    raise SystemExit(f"{name}: {side} ended before its last step")


def run_script(file: Path, words: Iterable[str]) -> None:
    """Run a script as the command line would, without the functions that save sheets of samples."""
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in SILENT:
            node.body = [ast.Pass(lineno=node.lineno, col_offset=0)]
    sys.argv = [str(file), *words]
    sys.path.insert(0, str(file.parent))
    main = ModuleType("__main__")
    main.__file__ = str(file)
    sys.modules["__main__"] = main
    exec(compile(tree, str(file), "exec"), vars(main))


# ------------------------------------------------------------------------------------------------- the peers' data


class Held:
    """Random images in [-1, 1] in memory in place of a data set; its length is that of CIFAR-10.

    Items are (image, 0), or with `keys` a dict of images, each as many times smaller as its value says.
    """

    def __init__(self, shape: tuple[int, int, int], **keys: int) -> None:
        self.images = torch.rand(HELD, *shape).mul_(2).sub_(1)
        self.keys = keys

    def __len__(self) -> int:
        return IN_AN_EPOCH

    def __getitem__(self, index: int) -> Any:
        image = self.images[index % HELD]
        smaller = {key: image[:, ::times, ::times] for key, times in self.keys.items()}
        return smaller or (image, 0)


def replace_data(shape: tuple[int, int, int]) -> None:
    """Have torchvision's data sets hold random images, `save_image` do nothing, and loaders work in this process."""
    import torchvision
    from torch.utils.data import DataLoader

    for name in ("MNIST", "CIFAR10", "ImageFolder", "FakeData"):
        setattr(torchvision.datasets, name, lambda *_, **__: Held(shape))
    torchvision.utils.save_image = lambda *_, **__: None
    init = DataLoader.__init__
    alone = {"num_workers": 0, "persistent_workers": False}
    DataLoader.__init__ = lambda self, *args, **given: init(self, *args, **{**given, **alone})  # type: ignore[method-assign]


def unpaired(clone: Path, shape: tuple[int, int, int]) -> None:
    """Replace the data set of PyTorch-GAN's cyclegan.py, which is a module of its own."""
    sys.path.insert(0, str(clone / "implementations/cyclegan"))
    importlib.import_module("datasets").ImageDataset = lambda *_, **__: Held(shape, A=1, B=1)  # type: ignore[attr-defined]


def mimicry(_: Path, shape: tuple[int, int, int], networks: str = "sngan.SNGAN", width: int = 64) -> None:
    """Replace the data set, the networks and the unused scores of mimicry's example."""
    for unused in ("torch_mimicry.metrics", "skimage", "skimage.io"):  # the scores need TensorFlow
        sys.modules[unused] = Absent(unused)
    package = importlib.import_module("torch_mimicry")
    package.datasets.load_dataset = lambda *_, **__: Held(shape)
    module, _, prefix = networks.partition(".")
    nets = importlib.import_module(f"torch_mimicry.nets.{module}")
    make_g, make_d = getattr(nets, f"{prefix}Generator32"), getattr(nets, f"{prefix}Discriminator32")
    package.nets.sngan.SNGANGenerator32 = lambda: make_g(ngf=width)
    package.nets.sngan.SNGANDiscriminator32 = lambda: make_d(ndf=width // 2)


def mimicry_wgan_gp(clone: Path, shape: tuple[int, int, int]) -> None:
    """Replace the example's networks by those of WGAN-GP."""
    mimicry(clone, shape, "wgan_gp.WGANGP")


class Cpu(str):
    """The device "cpu" where a rank is expected: adds nothing to a seed, and is not rank 0, which would log to W&B."""

    def __radd__(self, seed: int) -> int:  # type: ignore[override]
        return seed


class Absent(ModuleType):
    """A module that is not needed and has every name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def studiogan(clone: Path, shape: tuple[int, int, int]) -> None:
    """Have StudioGAN train on the CPU, and replace its data set and what only its scores import."""
    for unused in (
        "h5py",
        "seaborn",
        "pandas",
        "sklearn",
        "sklearn.metrics",
        "sklearn.manifold",
        "kornia",
        "kornia.filters",
        "metrics.preparation",
    ):
        sys.modules.setdefault(unused, Absent(unused))
    from packaging.version import parse

    sys.modules["pkg_resources"] = Absent("pkg_resources")
    sys.modules["pkg_resources"].parse_version = parse  # type: ignore[attr-defined]
    sys.path.insert(0, str(clone / "src"))
    torch.cuda.current_device = lambda: Cpu("cpu")  # type: ignore[assignment,return-value]
    torch.cuda.device_count = lambda: 1
    importlib.import_module("data_util").Dataset_ = lambda **_: Held(shape)  # type: ignore[attr-defined]
    Path("sngan.yaml").write_text(
        "DATA: {name: CIFAR10, img_size: 32, num_classes: 10}\n"
        "MODEL: {apply_d_sn: true, g_conv_dim: 16, d_conv_dim: 16}\n"
        "LOSS: {adv_loss: hinge}\n"
    )


BASICSR = """
name: esrgan
model_type: ESRGANModel
scale: 4
num_gpu: 0
manual_seed: 0
datasets: {train: {name: held, type: held, num_worker_per_gpu: 0, batch_size_per_gpu: 4}}
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_feat: 32, num_block: 2, num_grow_ch: 16}
network_d: {type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 16}
path: {}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 1.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: 1.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [50000, 100000, 200000, 300000], gamma: 0.5}
  total_iter: 400000
  pixel_opt: {type: L1Loss, loss_weight: 1.0e-2, reduction: mean}
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: 5.0e-3}
logger: {print_freq: 100, save_checkpoint_freq: 5.0e+3, use_tb_logger: false}
"""
"""Its options of ESRGAN with smaller networks and batches, without VGG, validation and loggers."""


def basicsr(shape: tuple[int, int, int]) -> None:
    """Train by BasicSR's `train_pipeline`, in this folder."""
    for unused in ("cv2", "lmdb", "torchvision.transforms.functional_tensor"):
        sys.modules[unused] = Absent(unused)
    version: Any = ModuleType("basicsr.version")  # setup.py would write it
    version.__version__ = version.__gitsha__ = "unknown"
    sys.modules["basicsr.version"] = version
    train = importlib.import_module("basicsr.train")
    train.build_dataset = lambda _: Held(shape, gt=1, lq=4)  # type: ignore[attr-defined]
    Path("esrgan.yml").write_text(BASICSR)
    sys.argv = ["train.py", "-opt", "esrgan.yml"]
    train.train_pipeline(os.getcwd())


def torchgan(shape: tuple[int, int, int]) -> None:
    """Train as the docstring of torchgan's Trainer has it."""
    models, losses = importlib.import_module("torchgan.models"), importlib.import_module("torchgan.losses")
    adam = {"name": torch.optim.Adam, "args": {"lr": 0.0002, "betas": (0.5, 0.999)}}
    channels, side, _ = shape
    networks = {
        "generator": {
            "name": models.DCGANGenerator,
            "args": {"out_channels": channels, "out_size": side, "step_channels": 32},
            "optimizer": adam,
        },
        "discriminator": {
            "name": models.DCGANDiscriminator,
            "args": {"in_channels": channels, "in_size": side, "step_channels": 32},
            "optimizer": adam,
        },
    }
    trainer = importlib.import_module("torchgan.trainer").Trainer(
        networks, [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()], device=torch.device("cpu")
    )
    trainer(torch.utils.data.DataLoader(Held(shape), batch_size=64, shuffle=True))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- the cases

FOLDER = ("data=folder", "data.batch_size=64")
SNGAN = ("model=sngan", "model.generator_batch=1", "model.generator.width=16", "model.discriminator.width=16", *FOLDER)
GAN = "implementations/dcgan/dcgan.py"
GAN_GIVEN = {"opt": SimpleNamespace(latent_dim=100, img_size=32, channels=1)}
MLP = "implementations/wgan_gp/wgan_gp.py"
MLP_GIVEN = {"opt": SimpleNamespace(latent_dim=100), "img_shape": (1, 28, 28)}
CYCLEGAN = "implementations/cyclegan/models.py"
CASES: dict[str, Case] = {
    "dcgan_64": Case(
        "DCGAN 64x64x3, batch 64",
        "examples",
        "dcgan/main.py",
        ("--dataset", "folder", "--dataroot", "none"),
        ("model=dcgan", *FOLDER),
        (3, 64, 64),
        images=64,
        steps=(2, 2),
        cycles=8,
        differs="our own networks",
    ),
    "dcgan_32": Case(
        "DCGAN 32x32x1, batch 64",
        "PyTorch-GAN",
        GAN,
        (),
        ("model=dcgan", *FOLDER),
        (1, 32, 32),
        images=64,
        steps=(2, 2),
        cycles=15,
        differs="their networks",
        parts={
            "generator": Part(GAN, "Generator", latent_dim=100, given=GAN_GIVEN),
            "discriminator": Part(GAN, "Discriminator", given=GAN_GIVEN),
        },
    ),
    "wgan_gp_mlp": Case(
        "WGAN-GP 28x28x1, fully connected, batch 64, n_critic 5",
        "PyTorch-GAN",
        MLP,
        (),
        ("model=wgan_gp", "model.generator_batch=1", "model.dequantize=0", *FOLDER),
        (1, 28, 28),
        images=320,
        steps=(6, 6),
        cycles=40,
        differs="their networks; theirs carries gradients of the critic's loss through the generator",
        parts={
            "generator": Part(MLP, "Generator", latent_dim=100, given=MLP_GIVEN),
            "discriminator": Part(MLP, "Discriminator", given=MLP_GIVEN),
        },
    ),
    "sngan": Case(
        "SNGAN ResNet 32x32x3, a quarter as wide, batch 64, n_dis 5",
        "mimicry",
        "examples/sngan_example.py",
        (),
        SNGAN,
        (3, 32, 32),
        images=320,
        steps=(6, 6),
        cycles=2,
        differs="our own networks; theirs enlarge bilinearly and have a bias in the last layer",
        beyond=1,
        patch=mimicry,
    ),
    "wgan_gp": Case(
        "WGAN-GP ResNet 32x32x3, a quarter as wide, batch 64, n_critic 5",
        "mimicry",
        "examples/sngan_example.py",
        (),
        (
            "model=wgan_gp",
            "model.generator_batch=1",
            "model.dequantize=0",
            "model.generator.width=64",
            "model.discriminator.width=32",
            *FOLDER,
        ),
        (3, 32, 32),
        images=320,
        steps=(6, 6),
        cycles=2,
        differs="our own networks; theirs enlarge bilinearly",
        patch=mimicry_wgan_gp,
    ),
    "studiogan": Case(
        "SNGAN ResNet 32x32x3, a quarter as wide, batch 64, n_dis 5",
        "PyTorch-StudioGAN",
        "src/main.py",
        ("-cfg", "sngan.yaml", "-data", ".", "-save", ".", "-t", "-metrics", "none"),
        SNGAN,
        (3, 32, 32),
        images=320,
        steps=(6, 6),
        cycles=2,
        differs="our own networks; theirs have a bias in the last layer",
        beyond=1,
        patch=studiogan,
    ),
    "cyclegan": Case(
        "CycleGAN 64x64x3, 3 blocks, batch 1",
        "PyTorch-GAN",
        "implementations/cyclegan/cyclegan.py",
        ("--img_height", "64", "--img_width", "64", "--n_residual_blocks", "3"),
        ("model=cyclegan", "data=unpaired", "data.load_resolution=null", "data.flip=false"),
        (3, 64, 64),
        images=1,
        steps=(3, 2),
        cycles=12,
        differs="their networks",
        parts={
            "generator_ab": Part(CYCLEGAN, "GeneratorResNet", ((3, 64, 64), 3)),
            "discriminator_a": Part(CYCLEGAN, "Discriminator", ((3, 64, 64),)),
        },
        patch=unpaired,
    ),
    "esrgan": Case(
        "ESRGAN 32x32x3 to 128x128, 2 blocks of width 32, batch 4, without VGG",
        "BasicSR",
        basicsr,
        (),
        (
            "model=esrgan",
            "perceptual=none",
            "model.generator.width=32",
            "model.generator.blocks=2",
            "model.generator.growth=16",
            "model.discriminator.width=16",
            "data.batch_size=4",
        ),
        (3, 128, 128),
        images=4,
        steps=(2, 2),
        cycles=15,
        differs="our own networks; ours shrinks, cuts, turns and flips the images",
    ),
    "torchgan": Case(
        "DCGAN 32x32x3, width 32, batch 64",
        "torchgan",
        torchgan,
        (),
        ("model=dcgan", *FOLDER),
        (3, 32, 32),
        images=64,
        steps=(2, 2),
        cycles=20,
        differs="their networks; theirs draws fakes for each of the two steps",
        parts={
            "generator": Part("torchgan.models", "DCGANGenerator", (100, 32, 3, 32), latent_dim=100),
            "discriminator": Part("torchgan.models", "DCGANDiscriminator", (32, 3, 32)),
        },
    ),
}


# ------------------------------------------------------------------------------------------------- the table


def draw_pictures(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write PNGs of random bytes into a folder, and into trainA and trainB beside each other for unpaired data."""
    from PIL import Image

    channels, side, _ = shape
    draw = torch.Generator().manual_seed(0)
    for domain in ("trainA", "trainB"):
        (folder / domain).mkdir(parents=True)
        for i in range(PICTURES // 2):
            pixels = torch.randint(0, 256, (side, side, channels), dtype=torch.uint8, generator=draw).squeeze(2)
            Image.fromarray(pixels.numpy()).save(folder / domain / f"{i}.png")


def present(names: Iterable[str], peers: Path) -> tuple[list[str], list[str]]:
    """Return the cases whose clone is there, and a line for each clone that is not."""
    missing: dict[str, list[str]] = {}
    there = []
    for name in names:
        clone = CASES[name].clone
        if (peers / clone).is_dir():
            there.append(name)
        else:
            missing.setdefault(clone, []).append(name)
    lines = [
        f"{peers / clone} is not there: git clone https://github.com/{CLONES[clone]} {peers / clone};"
        f" left out: {', '.join(cases)}"
        for clone, cases in missing.items()
    ]
    return there, lines


def measure(name: str, side: str, peers: Path, work: Path) -> Measured:
    """Train one side of a case in a process of its own."""
    case = CASES[name]
    pictures = work / "pictures" / "x".join(map(str, case.shape))
    if not pictures.exists():
        draw_pictures(pictures, case.shape)
    here = work / name / side / "work" / "here"  # some write to ../../data
    here.mkdir(parents=True, exist_ok=True)
    result, told = here.parent / "measured.json", here.parent / "told.txt"
    result.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH")]))
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    settings["GAN_EXPERIMENTS_CACHE"] = str(work / name / "cache")
    command = [sys.executable, __file__, "--drive", name, side, str(pictures), str(result), "--peers", str(peers)]
    with told.open("w") as output:
        subprocess.run(command, cwd=here, env={**os.environ, **settings}, stdout=output, stderr=output, check=False)
    if not result.exists():
        sys.exit(f"{name}, {side} failed:\n{told.read_text()[-3000:]}")
    return Measured(**json.loads(result.read_text()))


def row(name: str, peers: Path, work: Path, rounds: int) -> str:
    """Measure a case, theirs and ours by turns, and return its row of the table."""
    case = CASES[name]
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(measure(name, "theirs", peers, work))
        ours.append(measure(name, "ours", peers, work))
    trained = {found.parameters - case.beyond for found in theirs} | {found.parameters for found in ours}
    assert len(trained) == 1, f"{name}: not the same parameters: {trained}"
    (answer,) = (work / name / "cache" / "fastest").glob("*.json")
    found = json.loads(answer.read_text())["found"]
    setting = f"{found['precision']}, {'channels last' if found['channels_last'] else 'contiguous'}"
    ms = " / ".join(spread([one.ms for one in side]) for side in (theirs, ours))
    ratio = spread([a.ms / b.ms for a, b in zip(theirs, ours, strict=True)], 2)
    begun = ours[0].start  # and decoded the images, chose precision and layout
    start = " / ".join(f"{middle(side[1:] or side, 'start'):.1f}" for side in (theirs, ours))
    memory = f"{middle(theirs, 'memory'):,.0f} / {middle(ours, 'memory'):,.0f}"
    cells = [f"{case.title}; {case.differs}", case.clone, ms, f"**{ratio}**", f"{start} ({begun:.1f})", memory]
    return f"| {' | '.join([*cells, setting])} |"


def spread(values: list[float], digits: int | None = None) -> str:
    """Return the median and, in brackets, the range."""
    three = (statistics.median(values), min(values), max(values))
    shown = [f"{v:.{digits}f}" if digits else f"{float(f'{v:.3g}'):,g}" for v in three]
    return f"{shown[0]} ({shown[1]}-{shown[2]})"


def middle(found: list[Measured], what: str) -> float:
    """Return the median of one of the numbers."""
    return statistics.median(getattr(one, what) for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="a folder of clones")
    parser.add_argument("--rounds", type=int, default=3, help="of theirs and ours")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    peers = arguments.peers.resolve()
    if arguments.drive:
        name, side, pictures, result = arguments.drive
        drive(name, side, peers, Path(pictures), Path(result))
    names, missing = present(arguments.cases, peers)
    print("\n".join(missing))
    print(
        "| case | peer | CPU ms an image, theirs / ours | theirs / ours | CPU s to the first step | peak MB | ours in |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            print(row(name, peers, Path(work), arguments.rounds), flush=True)
    print(f"\n{date.today()}, {processor()}, one thread, torch {torch.__version__}")


def processor() -> str:
    """Return the processor's name."""
    with Path("/proc/cpuinfo").open() if Path("/proc/cpuinfo").exists() else open(os.devnull) as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
