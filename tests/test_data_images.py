"""The sets of single images: what each provides, where it looks for its files, what it says when they are not there."""

from __future__ import annotations

import gzip
import itertools
import pickle
import socket
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from omegaconf import OmegaConf
from PIL import Image
from support import REPOSITORY
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets

from gan_experiments.contracts import BATCH_KEYS, ConfigError
from gan_experiments.data import images as images_module
from gan_experiments.data.download import download
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import CIFAR10, MNIST, CelebA, Digits, FashionMNIST, Folder, read_idx
from gan_experiments.data.moving_digits import MovingDigits
from gan_experiments.data.posed import PosedShapes
from gan_experiments.data.volumes import Shapes
from gan_experiments.runs import configs

TOYS = ("ring", "grid", "drums", "waves")  # points, see tests/test_data_toy.py
CONFIGS = sorted(path for path in (REPOSITORY / "conf" / "data").glob("*.yaml") if path.stem not in TOYS)


def first(data: ImageData) -> dict[str, Tensor]:
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


def attach(data: ImageData, rank: int = 0, world: int = 1, **module: Any) -> None:
    """Pretend that a trainer runs."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, strategy=strategy, lightning_module=SimpleNamespace(**module)
    )


def colours(folder: Path, number: int, suffix: str = "png", size: tuple[int, int] = (16, 16), start: int = 0) -> Path:
    """Write images of one colour each, red the image's number times ten."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + number):
        Image.new("RGB", size, (10 * i, 0, 0)).save(folder / f"{i:06d}.{suffix}")
    return folder


def reds(data: ImageData, split: str = "train") -> list[int]:
    images = data.reference(split)
    return [round(value / 10) for value in images.images(0, len(images))[:, 0, 0, 0].tolist()]


# Digits


def test_digits() -> None:
    data = Digits(batch_size=100)
    data.prepare_data()
    data.setup("fit")
    assert data.describe() == "Digits: 5,000 images 1x32x32, 10 classes"
    assert data.provides == {"real", "label"}
    images = data.reference("train")
    assert (len(images), images.split, data.size) == (5000, "train", 5000)
    assert images.labels.bincount().tolist() == [500] * 10
    assert images.images(10, 13).shape == (3, 1, 32, 32)
    batch = first(data)
    assert batch.keys() == {"real", "label"}
    assert batch["real"].shape == (100, 1, 32, 32)
    assert (batch["real"].min(), batch["real"].max()) == (-1, 1)
    assert data.class_names == list("0123456789")


def test_digits_are_padded_not_stretched() -> None:
    stored, padded = Digits(28).reference().pixels, Digits(32).reference().pixels
    assert torch.equal(padded[:, :, 2:-2, 2:-2], stored)
    assert padded.sum() == stored.sum()
    assert Digits(64, limit=50).reference().pixels.shape == (50, 1, 64, 64)
    assert Digits(16, limit=50).reference().pixels.shape == (50, 1, 16, 16)
    colour = Digits(32, channels=3, limit=10).reference().pixels
    assert torch.equal(colour[:, 0], colour[:, 2])


def test_a_simple_rule_tells_the_digits_apart() -> None:
    """The labels belong to the images: the nearest class mean is right for four of five."""
    images = Digits(28).reference()
    pixels, labels = images.pixels.flatten(1).float(), images.labels
    means = torch.stack([pixels[labels == c][:400].mean(0) for c in range(10)])
    held = torch.cat([torch.nonzero(labels == c)[400:, 0] for c in range(10)])
    assert (torch.cdist(pixels[held], means).argmin(1) == labels[held]).float().mean() > 0.75


def test_without_classes_there_are_no_labels() -> None:
    data = Digits(classes=0, batch_size=4)
    assert data.provides == {"real"}
    assert Digits.provides == {"real", "label"}
    assert first(data).keys() == {"real"}
    assert data.reference("train").labels is None
    assert data.fixed(3).keys() == {"real"}
    assert data.class_names == []


def test_fixed_batches_cycle_through_the_classes() -> None:
    data = Digits()
    fixed = data.fixed(23)
    assert fixed["label"].tolist() == [i % 10 for i in range(23)]
    assert torch.equal(fixed["real"], data.fixed(23)["real"])
    assert len(fixed["real"].flatten(1).unique(dim=0)) == 23
    images = data.reference("train")
    for image, label in zip(fixed["real"], fixed["label"], strict=True):
        members = images.pixels[images.labels == label].float() / 127.5 - 1
        assert ((members - image).abs().amax((1, 2, 3)) < 1e-6).any()


def test_limit_keeps_every_class() -> None:
    assert Digits(limit=20).reference().labels.bincount().tolist() == [2] * 10
    assert Digits(limit=5).fixed(7)["label"].tolist() == [0, 2, 4, 6, 8, 0, 2]  # the classes that are left


def test_fingerprints_tell_settings_apart() -> None:
    prints = [
        Digits(r, c, limit=n).reference().fingerprint
        for r, c, n in [(32, 1, 50), (28, 1, 50), (32, 3, 50), (32, 1, 51)]
    ]
    assert len(set(prints)) == 4
    assert Digits(limit=50).reference().fingerprint == prints[0]
    assert Digits(limit=50, flip=True, seed=9, batch_size=3).reference().fingerprint == prints[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"channels": 2}, r"data\.channels=2.*type data\.channels=1 or 3"),
        ({"resolution": 0}, r"data\.resolution=0"),
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"limit": -1}, r"data\.limit=-1"),
    ],
)
def test_impossible_values(given: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Digits(**given)


def test_wrong_number_of_classes_and_splits() -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=7, but Digits has 10 classes.*type data\.classes=10"):
        Digits(classes=7).setup()
    with pytest.raises(ConfigError, match=r"no split 'test': type one of train"):
        Digits().reference("test")


# With a trainer


def test_ranks_and_the_saved_position() -> None:
    whole = list(itertools.islice(Digits(batch_size=6, flip=True).train_dataloader(), 5))
    shares = []
    for rank in range(2):
        data = Digits(batch_size=6, flip=True)
        attach(data, rank, 2, batches=3)
        shares.append(next(iter(data.train_dataloader())))
    for key, value in whole[3].items():
        assert torch.equal(torch.cat([share[key] for share in shares]), value)
    data = Digits(batch_size=7)
    attach(data, 0, 2)
    with pytest.raises(ConfigError, match=r"data\.batch_size=7 cannot be shared by 2 processes"):
        data.train_dataloader()


class Counter(LightningModule):
    """Counts batches as the engine does, and keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.shown: list[Tensor] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.automatic_optimization = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        assert batch["real"].dtype == torch.float32
        assert batch.keys() == {"real", "label"}
        self.batches += 1
        self.shown.append(batch["real"])


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_real_trainer_shows_each_batch_once(epochs: int, tmp_path: Path) -> None:
    module = Counter()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, limit_train_batches=6 // epochs, default_root_dir=tmp_path, **quiet
    )
    trainer.fit(module, datamodule=Digits(batch_size=8, flip=True))
    data = Digits(batch_size=8, flip=True)
    wanted = [data.on_after_batch_transfer(b, 0)["real"] for b in itertools.islice(data.train_dataloader(), 6)]
    assert torch.equal(torch.stack(module.shown), torch.stack(wanted))


def test_transfer_keeps_what_it_is_told() -> None:
    data = Digits(batch_size=4, channels=3, flip=True)
    data.channels_last = True
    batch = first(data)
    assert batch["real"].is_contiguous(memory_format=torch.channels_last)
    again = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(again["real"], batch["real"])  # floats pass unchanged
    assert "flip" not in batch
    assert data.train_dataloader().pin_memory is False


# MNIST's files


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, name: str = "MNIST", packed: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    arrays = {}
    for prefix, number in (("train", 40), ("t10k", 20)):
        arrays[prefix] = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        for file, array in (
            (f"{prefix}-images-idx3-ubyte", arrays[prefix]),
            (f"{prefix}-labels-idx1-ubyte", np.arange(number) % 10),
        ):
            raw = idx(array)
            (folder / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(raw) if packed else raw)
    return arrays


@pytest.mark.parametrize(("kind", "packed"), [(MNIST, False), (MNIST, True), (FashionMNIST, True)])
def test_mnist_reads_torchvisions_layout(kind: type[MNIST], packed: bool, tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path, kind.__name__, packed)
    data = kind(root=str(tmp_path), cache=str(tmp_path / "cache"))
    data.setup()
    train, test = data.reference("train"), data.reference("test")
    assert (len(train), len(test), test.split) == (40, 20, "test")
    assert np.array_equal(train.pixels[:, 0, 2:-2, 2:-2].numpy(), arrays["train"])
    assert np.array_equal(test.pixels[:, 0, 2:-2, 2:-2].numpy(), arrays["t10k"])
    assert train.labels.tolist() == [i % 10 for i in range(40)]
    assert train.fingerprint != test.fingerprint
    assert len(data.class_names) == 10
    assert len(kind(root=str(tmp_path), cache=str(tmp_path / "cache"), limit=7).reference("test")) == 7


def test_our_reader_agrees_with_torchvision(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    theirs = datasets.MNIST(str(tmp_path), train=False)
    data = MNIST(str(tmp_path), 28, cache=str(tmp_path / "cache"))
    assert torch.equal(data.reference("test").pixels[:, 0], theirs.data)
    assert torch.equal(data.reference("test").labels, theirs.targets)


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0\x08", idx(np.zeros((3, 4)))[:-1], idx(np.zeros(3)) + b"x", b"no idx file at all"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files(raw: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(raw)[: None if raw else 5] if packed else raw)
    with pytest.raises(ConfigError, match="is damaged: delete it and start again"):
        read_idx(path)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def fail(*given: Any, **options: Any) -> None:
        limits.append(socket.getdefaulttimeout())
        raise URLError("no route")

    monkeypatch.setattr(MNIST, "fetcher", fail)
    monkeypatch.setattr(datasets, "CIFAR10", fail)
    for kind, wanted in (
        (MNIST, "four idx .gz files into"),
        (CIFAR10, "fetch cifar-10-python.tar.gz and unpack it in"),
    ):
        with pytest.raises(ConfigError, match=wanted) as caught:
            kind(root=str(tmp_path / "data")).setup()
        assert "no route" in str(caught.value)
        assert "type data.root=" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert limits == [10, 10]  # or it would hang where packets vanish
    assert socket.getdefaulttimeout() is None


def test_a_download_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fetch() -> None:
        (tmp_path / "new" / "MNIST" / "raw").mkdir(parents=True)
        raise RuntimeError("no network")

    with pytest.raises(ConfigError, match="cannot be downloaded \\(no network\\)"):
        download(tmp_path / "new", fetch, "MNIST is not there", "it")
    assert list(tmp_path.iterdir()) == []


def test_downloads_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(root: Path, download: bool) -> None:
        calls.append(download)
        write_mnist(root)

    monkeypatch.setattr(MNIST, "fetcher", staticmethod(fetch))
    for _ in range(2):
        MNIST(root=str(tmp_path / "data"), cache=str(tmp_path / "cache")).prepare_data()
    assert calls == [True]


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.zeros((10_000, 3, 32, 32), np.uint8)
    pixels[:, 0], pixels[:, 1, :16], pixels[:, 2, :, 16:] = (np.arange(10_000) % 251)[:, None, None], 100, 200
    labels = [i % 10 for i in range(10_000)]
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels.reshape(10_000, -1), "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    data = CIFAR10(root=str(tmp_path), cache=str(tmp_path / "cache"), limit=100)
    with pytest.raises(ConfigError, match="is damaged"):  # torchvision knows the right files' checksums
        data.reference("test")
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *given: True)
    images = data.reference("test")
    assert images.pixels.shape == (100, 3, 32, 32)
    assert torch.equal(images.pixels, torch.from_numpy(pixels[::100]))
    assert images.labels.tolist() == labels[::100]
    grey = CIFAR10(root=str(tmp_path), channels=1, cache=str(tmp_path / "cache"), limit=5).reference("test")
    assert grey.pixels[0, 0, 0, -1] == round(0.587 * 100 + 0.114 * 200)


# CelebA


def faces(folder: Path, number: int = 6) -> None:
    """Write JPEGs 178x218: green above and below the central square of 178."""
    folder.mkdir(parents=True)
    for i in range(number):
        image = Image.new("RGB", (178, 218), (0, 255, 0))
        image.paste((10 * i, 0, 0), (0, 20, 178, 198))
        image.save(folder / f"{i + 1:06d}.jpg", quality=95)


def lists(folder: Path, number: int = 6) -> None:
    names = [f"{i + 1:06d}.jpg" for i in range(number)]
    parts = [0, 0, 0, 1, 2, 2]
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    rows = "".join(f"{name}  -1 {1 if i % 2 else -1}\n" for i, name in enumerate(names))
    (folder / "list_attr_celeba.txt").write_text(f"{number}\nBald Smiling \n{rows}")


def celeba(root: Path, **settings: Any) -> CelebA:
    return CelebA(root=str(root), resolution=32, cache=str(root.parent / "cache"), **settings)


def test_celeba_in_torchvisions_layout(tmp_path: Path) -> None:
    root = tmp_path / "data"
    faces(root / "celeba" / "img_align_celeba")
    lists(root / "celeba")
    data = celeba(root)
    data.setup()
    assert data.provides == {"real"}
    assert data.describe() == "CelebA: 3 images 3x32x32"
    assert [reds(data, split) for split in ("train", "valid", "test")] == [[0, 1, 2], [3], [4, 5]]
    assert data.reference("train").pixels[:, 1].max() < 12  # the green is outside the square of 178
    smaller = celeba(root, crop=108).reference("train")
    assert smaller.fingerprint != data.reference("train").fingerprint


@pytest.mark.parametrize("where", ["data", "data/celeba", "data/img_align_celeba", "data/celeba/img_align_celeba"])
def test_celeba_as_a_plain_folder(where: str, tmp_path: Path) -> None:
    root = tmp_path / where
    faces(root if root.name == "img_align_celeba" else root / "img_align_celeba")
    for given in {root, tmp_path / "data"}:
        data = celeba(given)
        assert reds(data) == [0, 1, 2, 3, 4, 5]
        with pytest.raises(ConfigError, match=r"list_eval_partition\.txt"):
            data.reference("test")


@pytest.mark.parametrize("where", ["celeba/img_align_celeba.zip", "img_align_celeba.zip"])
def test_celeba_as_an_archive(where: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / where).parent.mkdir(parents=True, exist_ok=True)
    faces(tmp_path / "img_align_celeba")
    with zipfile.ZipFile(root / where, "w") as archive:
        for path in sorted((tmp_path / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    assert reds(celeba(root)) == [0, 1, 2, 3, 4, 5]
    assert reds(celeba(root / where)) == [0, 1, 2, 3, 4, 5]
    lists((root / where).parent)
    assert reds(celeba(root), "test") == [4, 5]


def test_celebas_attributes_are_classes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    faces(root / "img_align_celeba")
    lists(root)
    data = celeba(root, attribute="Smiling", classes=2)
    data.setup()
    assert data.provides == {"real", "label"}
    assert data.class_names == ["not Smiling", "Smiling"]
    assert data.reference("train").labels.tolist() == [0, 1, 0]
    assert data.reference("test").labels.tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"data\.attribute=Smile is not one of CelebA's: Bald, Smiling"):
        celeba(root, attribute="Smile", classes=2).setup()
    with pytest.raises(ConfigError, match=r"type data\.classes=2"):
        celeba(root, attribute="Smiling")
    with pytest.raises(ConfigError, match=r"data\.attribute=Smiling"):
        celeba(root, classes=2)


def test_celeba_is_missing_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CelebA is not in data\.root=.*img_align_celeba\.zip.*data\.root=<"):
        celeba(tmp_path).setup()
    faces(tmp_path / "celeba" / "img_align_celeba")
    lists(tmp_path / "celeba")
    (tmp_path / "celeba" / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(ConfigError, match=r"lacks 000002\.jpg"):
        celeba(tmp_path).setup()
    (tmp_path / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(ConfigError, match=r"needs .*list_attr_celeba\.txt"):
        celeba(tmp_path, attribute="Bald", classes=2).setup()


# Folders


def test_folder_with_and_without_classes(tmp_path: Path) -> None:
    colours(tmp_path / "photos" / "cat", 3)
    colours(tmp_path / "photos" / "dog", 2, "jpg", start=3)
    colours(tmp_path / "other", 4)
    settings = {"root": str(tmp_path / "photos"), "resolution": 16, "cache": str(tmp_path / "cache")}
    plain = Folder(**settings, batch_size=4, flip=True)
    assert first(plain).keys() == {"real"}
    assert reds(plain) == [0, 1, 2, 3, 4]
    labelled = Folder(**settings, classes=2, batch_size=4)
    assert labelled.class_names == ["cat", "dog"]
    assert first(labelled).keys() == {"real", "label"}
    assert labelled.fixed(3)["label"].tolist() == [0, 1, 0]
    assert plain.fixed(7)["real"].shape == (7, 3, 16, 16)
    assert plain.fixed(2)["real"][:, 0, 0, 0].tolist() == pytest.approx([-1, 20 / 127.5 - 1])
    with pytest.raises(ConfigError, match=r"data\.classes=3.* has 2 classes \(cat, dog\): type data\.classes=2"):
        Folder(**settings, classes=3).setup()
    with pytest.raises(ConfigError, match=r"data\.test_root=<"):
        plain.reference("test")
    assert reds(Folder(**settings, test_root=str(tmp_path / "other")), "test") == [0, 1, 2, 3]
    colours(tmp_path / "photos", 1, start=9)
    with pytest.raises(ConfigError, match="lie in no class folder"):
        Folder(**settings, classes=2).setup()
    with pytest.raises(ConfigError, match=r"has 0 classes: type data\.classes=0"):
        Folder(**{**settings, "root": str(tmp_path / "other")}, classes=2).setup()


def test_folder_says_what_it_left_out(tmp_path: Path) -> None:
    colours(tmp_path / "photos", 3)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    data = Folder(root=str(tmp_path / "photos"), resolution=8, cache=str(tmp_path / "cache"))
    assert data.describe() == f"Folder {tmp_path / 'photos'}: 3 images 3x8x8, 1 file left out"


def test_relative_folders_are_where_the_command_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours(tmp_path / "photos", 3)
    monkeypatch.chdir(tmp_path)
    assert reds(Folder(root="photos", resolution=16, cache="cache")) == [0, 1, 2]
    assert (tmp_path / "cache").is_dir()


# Configs


FAKE = "torchvision.datasets.FakeData"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_data_module(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_EXPERIMENTS_DATA", "/somewhere")
    config = OmegaConf.create({"seed": 5, "data": configs.of_choice("data", path.stem)})
    needed = {"hub": {"name": "a/b"}, "table": {"file": "a.csv"}, "torch": {"dataset": {"_target_": FAKE}}}
    config.data = OmegaConf.merge(config.data, needed.get(path.stem, {}))
    OmegaConf.resolve(config)
    data = instantiate(config.data)
    assert isinstance(data, ImageData)
    assert data.seed == 5
    for key in ("resolution", "channels", "classes", "batch_size", "flip", "workers", "limit"):
        if key == "flip" and path.stem == "moving_digits":  # of which a mirrored one is no digit
            continue
        assert getattr(data, key) == config.data[key]
    assert data.cache == config.data.get("cache")
    assert data.provides <= BATCH_KEYS.keys()
    if path.stem not in needed:
        assert str(getattr(data, "root", "/somewhere")).startswith("/somewhere")
        assert isinstance(data, Digits | MovingDigits | PosedShapes | Shapes) or config.data.root.startswith(
            "/somewhere"
        )


def test_every_set_has_a_config() -> None:
    kinds = {configs.of_choice("data", path.stem)._target_ for path in CONFIGS}
    ours = {
        f"{kind.__module__}.{kind.__name__}"
        for kind in vars(images_module).values()
        if isinstance(kind, type) and issubclass(kind, ImageData) and kind.__module__ == images_module.__name__
    }
    assert ours <= kinds


def test_loaders_are_loaders() -> None:
    loader = Digits(batch_size=4, workers=2).train_dataloader()
    assert isinstance(loader, DataLoader)
    assert loader.num_workers == 2
    iterator = iter(loader)
    one = next(iterator)
    assert torch.equal(one["real"], next(iter(Digits(batch_size=4).train_dataloader()))["real"])
