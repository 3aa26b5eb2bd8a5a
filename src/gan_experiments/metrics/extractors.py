"""Networks that map images to the features and logits from which scores are computed."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import shutil
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan_experiments.bounds import Place
from gan_experiments.contracts import ConfigError
from gan_experiments.files import require_unpacked
from gan_experiments.kinds import Image, Kind
from gan_experiments.metrics.names import published_with

URL_INCEPTION_V3 = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
"""Where torch-fidelity has its Inception; a copy, because its import takes a second."""
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
DIGITS_WEIGHTS = Path(__file__).with_name("digits_classifier.pt")
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer
UNASKED = (5.0, 120.0)  # seconds to the first answer and to the end of a download that the user did not ask for


_backends: Any = torch.backends  # Any, because mypy does not see its types
EXACT = (
    (_backends.cuda.matmul, "fp32_precision", "ieee"),
    (_backends.cudnn.conv, "fp32_precision", "ieee"),
    (_backends.cudnn.rnn, "fp32_precision", "ieee"),
    (_backends.mkldnn.matmul, "fp32_precision", "ieee"),
    (_backends.mkldnn.conv, "fp32_precision", "ieee"),
    (_backends.cudnn, "benchmark", False),
    (_backends.cudnn, "deterministic", True),
)


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Compute in true float32 and without gradients within, whatever autocast, TF32 and cuDNN settings are active."""
    before = [getattr(owner, key) for owner, key, _ in EXACT]
    try:
        for owner, key, value in EXACT:
            setattr(owner, key, value)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for (owner, key, _), value in zip(EXACT, before, strict=True):
            setattr(owner, key, value)


class Extractor(nn.Module):
    """A frozen network that computes features of samples, and the facts about it for passports.

    Attributes:
        reads: the kind of samples that it looks at, images unless a class says otherwise.
        name: the extractor's name.
        suffix: the suffix of its scores' names, except for those in `published`.
        published: the scores that papers compute with this extractor.
        weights_hash: the first 16 hex digits of the sha256 of the weights, or of their file if there is one.
        resize: the resizing of images, in words.
        features: the number D of features.
        classes: the number K of logits, 0 for a network that does not classify.
        class_names: the names of the classes that `class_logits` tells apart, none if they are unknown.
    """

    reads: ClassVar[type[Kind]] = Image
    name: str
    suffix: str
    published: tuple[str, ...] = ()
    weights_hash: str
    resize: str
    features: int
    classes: int
    class_names: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Extractor:
        """Stay in evaluation mode, also when a parent module is put into training mode."""
        return super().train(False)

    def names(self, score: str) -> str:
        """Return the name under which the score "fid", "kid", ... is reported when computed from these features."""
        return score if score in self.published else score + self.suffix

    def see(self, kind: Kind) -> None:
        """Prepare for samples of this kind: of waves, for their rate."""

    def class_logits(self, logits: Tensor) -> Tensor:
        """Return the logits [N, len(class_names)] of the named classes, given all logits [N, K]."""
        return logits

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, D] and logits [N, K], float32, of samples as their kind views them, on the same device.

        Images come as uint8 [N, 1 or 3, H, W].
        """
        with plain_float32(images.device):
            features, logits = self(images)
        return features, logits


RESIZES = {
    "tf": "bilinear as in TensorFlow 1 (no antialiasing) to 299x299",
    "clean": "antialiased bicubic as in PIL (floats, clipped to 0..255) to 299x299",
}


class InceptionExtractor(Extractor):
    """The Inception of published FIDs (2015-12-05, TensorFlow's weights).

    Heusel et al. 2017, arXiv:1706.08500; the network is torch-fidelity's. The features are its last pooling layer
    (2048), the logits are without bias (1008), as in the original Inception Score. `weights` is a path; by default the
    file in torch's cache folder, or else a download. `resize` is "tf", TensorFlow 1's, with which FIDs are published,
    or "clean", that of clean-fid (Parmar et al. 2022, arXiv:2104.11222, section 3), which adds `_clean` to the scores'
    names.

    Raises ConfigError for weights that are neither found nor downloaded, and for those of another network.
    """

    name = "inception"
    features = 2048
    classes = 1008

    def __init__(self, weights: Place | None = None, resize: str = "tf") -> None:
        super().__init__()
        if resize not in RESIZES:
            raise ConfigError(f"metrics.extractor.resize={resize}: type {' or '.join(RESIZES)}")
        self.clean, self.resize = resize == "clean", RESIZES[resize]
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = find_inception_weights(weights)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.weights_hash = sha256[:16]
        # Only the published weights give the published score: the scores of others carry their hash.
        ours = "" if sha256 == PUBLISHED_SHA256 else f"_{sha256[:8]}"
        if self.clean:
            self.suffix = f"_inception{ours}_clean" if ours else "_clean"
        else:
            self.suffix = f"_inception{ours}"
            self.published = () if ours else published_with(self.name)
        try:
            copy = clean_copy(path)
            with torch.random.fork_rng(devices=[]):  # it draws initial weights before it loads the given ones
                net = FeatureExtractorInceptionV3(self.name, ["2048"], feature_extractor_weights_path=copy)
        except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError) as error:
            raise ConfigError(
                f"metrics.extractor.weights={path} does not hold torch-fidelity's Inception: fetch {URL_INCEPTION_V3}, "
                "give its path, or type metrics=none"
            ) from error
        fold_batch_norms(net)
        *body, self.head = net.children()  # in the order of the forward pass
        self.body = nn.Sequential(*body)
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 2048] and logits [N, 1008] of uint8 images [N, C, H, W], grey or RGB."""
        x = images.to(torch.float32)
        if self.clean:
            x = F.interpolate(x, (299, 299), mode="bicubic", antialias=True).clamp(0, 255)
        else:
            from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

            x = interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False)
        features = self.body((x.expand(-1, 3, -1, -1) - 128) / 128).flatten(1)
        return features, features @ self.head.weight.T


def find_inception_weights(weights: str | None) -> Path:
    """Return the path of the FID Inception's weights: the given file, else that in torch's cache, else a download.

    Raises ConfigError where all three fail. The message says which file to fetch and where to put it.
    """
    if weights is not None:
        if not Path(weights).is_file():
            raise ConfigError(
                f"metrics.extractor.weights={weights} is not a file: fetch {URL_INCEPTION_V3} and give its path, or "
                "type metrics=none"
            )
        return Path(weights)
    path = _cached()
    if not path.is_file():
        try:
            download(URL_INCEPTION_V3, path, PUBLISHED_SHA256)
        except (OSError, HTTPException) as error:
            raise ConfigError(
                f"metrics=inception needs the FID Inception's weights and no download came through ({error}): fetch "
                f"{URL_INCEPTION_V3} into {path.parent}, or type metrics.extractor.weights=PATH, or metrics=none"
            ) from error
    return path


def why_no_inception(fetch: bool = True) -> str:
    """Return the reason why the FID Inception's weights are not in torch's cache, "" if they are.

    With `fetch` a download is tried once; it is given up soon if there is no answer.
    """
    if _cached().is_file():
        return ""
    return _try_download(_cached()) if fetch else "a run tries to download them first"


@functools.cache
def _try_download(path: Path) -> str:
    """Download within the time limits UNASKED, once per process; return the reason of a failure, "" for success."""
    answered, given_up = threading.Event(), threading.Event()
    ended: list[str] = []

    def copy(answer: Any, file: Any) -> None:
        answered.set()
        while block := answer.read(1 << 16):
            if given_up.is_set():
                raise OSError("too slow")
            file.write(block)

    def attempt() -> None:
        try:
            download(URL_INCEPTION_V3, path, PUBLISHED_SHA256, copy)
            ended.append("")
        except (OSError, HTTPException) as error:
            ended.append(f"no download came through: {getattr(error, 'reason', error)}")
        answered.set()

    # In a daemon thread, because a silent name server would block this one for long.
    worker = threading.Thread(target=attempt, daemon=True)
    worker.start()
    if answered.wait(UNASKED[0]):
        worker.join(UNASKED[1])
    given_up.set()
    return ended[0] if ended else "no download came through in time"


def _cached() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]


def clean_copy(path: Path) -> io.BytesIO:
    """Return a copy of a file of weights that is safe to unpickle, because torch-fidelity unpickles any file."""
    copy = io.BytesIO()
    require_unpacked(path)
    torch.save(torch.load(path, map_location="cpu", weights_only=True), copy)
    copy.seek(0)
    return copy


def download(url: str, path: Path, sha256: str, copy: Callable[[Any, Any], None] = shutil.copyfileobj) -> None:
    """Download `url` to `path`; the file appears there only when it is complete and its hash is `sha256`.

    `copy` writes the response to a file. Raises OSError or HTTPException.
    """
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                copy(answer, file)
            found = hashlib.sha256(Path(part).read_bytes()).hexdigest()
            if found != sha256:
                raise OSError(f"the file's sha256 is {found[:8]}..., not {sha256[:8]}...")
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)


def fold_batch_norms(net: nn.Module) -> None:
    """Fold each batch norm of an Inception in evaluation mode into the convolution before it, in place, in float64."""
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

    for block in net.modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv.double(), block.bn.double()).float()
            block.bn = nn.Identity()


class DigitsClassifier(nn.Module):
    """A small classifier of handwritten digits, float [N, 1, 32, 32] in [-1, 1]."""

    features = 64
    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),  # [N, 16, 16, 16]
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 32, 8, 8]
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 64, 4, 4]
            nn.Flatten(),
            nn.Linear(1024, self.features),
            nn.LeakyReLU(0.1),  # with a plain ReLU a third of the features would be dead
        )
        self.head = nn.Linear(self.features, self.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, 10]."""
        features = self.body(x)
        return features, self.head(features)


class DigitsExtractor(Extractor):
    """The packaged classifier of the embedded digits; the names of its scores end in `_digits`.

    They cannot be compared with published values. `python -m gan_experiments.metrics.train_digits` trains its weights.
    """

    name = "digits"
    suffix = "_digits"
    resize = "mean over channels, antialiased bilinear to 32x32"
    features = DigitsClassifier.features
    classes = DigitsClassifier.classes
    class_names = tuple("0123456789")

    def __init__(self) -> None:
        super().__init__()
        self.weights_hash = hashlib.sha256(DIGITS_WEIGHTS.read_bytes()).hexdigest()[:16]
        with torch.random.fork_rng(devices=[]):
            self.net = DigitsClassifier().float()
        self.net.load_state_dict(torch.load(DIGITS_WEIGHTS, map_location="cpu", weights_only=True))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, 10] of uint8 images [N, C, H, W], grey or RGB, of any size."""
        x = images.to(torch.float32).mean(dim=1, keepdim=True) / 127.5 - 1
        if x.shape[-2:] != (32, 32):
            x = F.interpolate(x, (32, 32), mode="bilinear", antialias=True)
        return self.net(x)
