"""Distances between images by what a classifier of ImageNet sees in them."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models import AlexNet_Weights, VGG16_Weights

from gan_experiments.contracts import ConfigError

NETS = {"alex": AlexNet_Weights.IMAGENET1K_V1, "vgg": VGG16_Weights.IMAGENET1K_V1}
SMALLEST = {"alex": 31, "vgg": 16}


class LPIPS(nn.Module):
    """LPIPS, version 0.1 (Zhang et al. 2018, arXiv:1801.03924, eq. 1), by torchmetrics, with the heads that it brings.

    Frozen and always in evaluation mode; differentiable in both images. Autocast is the caller's to turn off: half
    precision does for a loss, not for a score. `net` is "alex", which most papers report, or "vgg", which is better as
    a loss. Its ImageNet weights are torchvision's: the file `weights`, else that of torch's cache folder, else a
    download. `weights_hash` is the first 16 hex digits of the file's sha256, `published` says whether the file is
    torchvision's own, `smallest` is the shortest side in pixels that the network can take.

    Messages name the options `<key>net` and `<key>weights`. Raises ConfigError for another net, where there are no
    weights and no network answers, and where the file does not hold that network's weights.
    """

    def __init__(self, net: str = "alex", weights: str | None = None, key: str = "") -> None:
        super().__init__()
        if net not in NETS:
            raise ConfigError(f"{key}net={net}: type {' or '.join(NETS)}")
        path = find_weights(net, weights, key)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.weights_hash = sha256[:16]
        self.published = sha256.startswith(hash_prefix(NETS[net].url))
        self.smallest = SMALLEST[net]
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            with torch.random.fork_rng(devices=[]):  # it draws initial weights before these are loaded
                self.net = _NoTrainLpips(net=net, pnet_rand=True)  # type: ignore[arg-type]
            layers = OrderedDict(pair for part in self.net.net.children() for pair in part.named_children())
            features = {name: value for name, value in state.items() if name.startswith("features.")}
            nn.Sequential(layers).load_state_dict({name.split(".", 1)[1]: value for name, value in features.items()})
        except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError) as error:
            raise ConfigError(
                f"{key}weights={path} does not hold torchvision's weights of {net}: fetch {NETS[net].url} and give its "
                f"path, {key}weights=PATH"
            ) from error

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances [N] of images [N, C, H, W] in [-1, 1], grey or RGB, of `smallest` pixels or more."""
        return self.net(x, y).flatten()  # its scaling by channel turns grey into RGB


def find_weights(net: str, weights: str | None, key: str) -> Path:
    """Return the path of torchvision's weights of "alex" or "vgg": the one given, that in torch's cache, a download.

    Raises ConfigError, with the file to fetch and the place to put it, where there is none of the three.
    """
    url = NETS[net].url
    if weights is not None:
        if not Path(weights).is_file():
            raise ConfigError(f"{key}weights={weights} is not a file: fetch {url} and give its path")
        return Path(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix(url), progress=False)
        except (OSError, HTTPException, RuntimeError) as error:  # the last for another hash
            raise ConfigError(
                f"LPIPS with net={net} needs torchvision's weights {path.name} and no download came through "
                f"({' '.join(str(error).split())}): fetch {url} into {path.parent}, or type {key}weights=PATH"
            ) from error
    return path


def hash_prefix(url: str) -> str:
    """Return the first hex digits of a file's sha256, with which torchvision ends its name: `alexnet-owt-<hex>.pth`."""
    return url.rsplit("-", 1)[1].removesuffix(".pth")
