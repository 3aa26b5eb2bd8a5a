"""Extractors from any network, and from those of torch-fidelity."""

from __future__ import annotations

import hashlib
import pickle
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import MODEL_METADATA as CLIP
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP
from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA as DINO
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from gan_experiments.bounds import Finite, Place, Positive, Text, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.files import require_unpacked
from gan_experiments.layers.outputs import outputs_of, require_layers
from gan_experiments.losses.perceptual import find_weights
from gan_experiments.metrics.extractors import Extractor, clean_copy, plain_float32


def content_hash(net: nn.Module) -> str:
    """Return the first 16 hex digits of the sha256 of a network's weights and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class ModuleExtractor(Extractor):
    """Extractor from any classifier or encoder of images, of torchvision, timm or elsewhere.

    The names of its scores end in `_<name>`. They cannot be compared with published values.

    Args:
        net: the network, float [N, 3, size, size] -> [N, K], or to any output if `layer` is given. It takes grey images
            [N, 1, size, size] if `mean` has one value.
        name: the suffix of the scores.
        weights: the path of a file with the network's state dict, itself or under "state_dict"; None for the weights
            that `net` already has.
        layer: the name of a submodule whose output is the features, such as "avgpool"; None for the network's own
            output. An output [N, D, H, W] is averaged over positions; of tokens [N, T, D] the first one is used.
        classes: whether the network's output is logits [N, K], which the Inception Score needs.
        class_names: the names of the K classes in their order, as the data have them, which the accuracy needs.
        size: height and width in pixels to which images are resized, antialiased bicubic, without keeping the aspect
            ratio.
        mean, std: of red, green and blue in [0, 1]: the mean is subtracted, then the result is divided by std.

    Raises ConfigError if the file, the layer or the layer's output does not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        name: Text,
        weights: Place | None = None,
        layer: Text | None = None,
        classes: bool = False,
        class_names: list[str] | None = None,
        size: Width = 224,
        mean: tuple[Finite, Finite, Finite] = (0.485, 0.456, 0.406),
        std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.name, self.suffix = name, f"_{name}"
        if weights is not None:
            load_weights(net, weights)
        self.weights_hash = content_hash(net)
        self.net, self.size, self.has_logits = net, size, classes
        self.resize = (
            f"antialiased bicubic to {size}x{size}, less {list(mean)}, over {list(std)}, at {layer or 'output'}"
        )
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1), persistent=False)
        self.layers = [] if layer is None else [layer]
        require_layers(net, self.layers, f"metrics.extractor.layer={layer}", name)
        self.float().requires_grad_(False).eval()
        self.features, self.classes = measure(self)
        self.class_names = tuple(map(str, class_names or ()))
        if self.class_names and len(self.class_names) != self.classes:
            raise ConfigError(
                f"metrics.extractor.class_names has {len(self.class_names)} names, and {name} tells {self.classes}"
                " classes; give one for each, and classes=true"
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, D] and logits [N, K], or [N, 0], of uint8 images [N, C, H, W], grey or RGB."""
        x = images.to(torch.float32)
        x = x.expand(-1, 3, -1, -1) if self.mean.shape[1] == 3 else x.mean(dim=1, keepdim=True)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 255)
        with outputs_of(self.net, self.layers) as seen:
            output = self.net((x / 255 - self.mean) / self.std)
        found: Any = seen[self.layers[0]] if self.layers else output
        if isinstance(found, Tensor) and found.ndim == 4:
            found = found.mean(dim=(2, 3))
        elif isinstance(found, Tensor) and found.ndim == 3:
            found = found[:, 0]
        for given, key in ((found, "layer"), (output, "classes")):
            if not (isinstance(given, Tensor) and given.ndim == 2) and (key == "layer" or self.has_logits):
                what = f"shape {list(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
                raise ConfigError(f"metrics.extractor.{key}: {self.name} gives {what}, not [N, D]; name another layer")
        return found, output if self.has_logits else found[:, :0]


class FidelityExtractor(Extractor):
    """torch-fidelity's DINOv2, CLIP or VGG-16, with TensorFlow 1's resize; the names of its scores end in `_<name>`.

    `name` is "dinov2-vit-b-14", "clip-vit-b-32", ... or "vgg16". The latter's features are those of the second fully
    connected layer after its ReLU, on which precision and recall were published, with other weights. `weights` is the
    path of CLIP's own file or of torchvision's VGG-16; by default the file in torch's cache folder, or else a download.

    Raises ConfigError for an unknown name, and for weights that are neither found nor downloaded.
    """

    classes = 0

    def __init__(self, name: str, weights: Place | None = None) -> None:
        super().__init__()
        kinds = {**dict.fromkeys(DINO, "dinov2"), **dict.fromkeys(CLIP, "clip"), "vgg16": "fc2_relu"}
        makers = {"dinov2": FeatureExtractorDinoV2, "clip": FeatureExtractorCLIP, "fc2_relu": FeatureExtractorVGG16}
        if name not in kinds:
            raise ConfigError(f"metrics.extractor.name={name}: type {', '.join(kinds)}")
        if weights is not None and kinds[name] == "dinov2":
            raise ConfigError("metrics.extractor.weights: DINOv2's are looked for in torch's cache folder; type null")
        if weights is not None and not Path(weights).is_file():
            raise ConfigError(f"metrics.extractor.weights={weights} is not a file: give that of {name}'s weights")
        self.name, self.suffix = name, "_" + name.replace("-", "")
        try:
            with torch.random.fork_rng(devices=[]):
                path = _safe_weights(name, weights)
                self.net = makers[kinds[name]](name, [kinds[name]], feature_extractor_weights_path=path, verbose=False)
        except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:
            why = " ".join(str(error).split())[:120]
            hub = torch.hub.get_dir()
            raise ConfigError(
                f"metrics.extractor.name={name} needs its weights, which are not to be had here ({why}): run once with "
                f"a network, or bring {hub} from a machine where that was done"
            ) from error
        self.weights_hash = content_hash(self.net)
        self.resize = "bilinear as in TensorFlow 1 (no antialiasing), by torch-fidelity"
        self.requires_grad_(False).eval()
        self.features, _ = measure(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, D] and logits [N, 0] of uint8 images [N, C, H, W], grey or RGB."""
        (features,) = self.net(images.expand(-1, 3, -1, -1))
        return features, features[:, :0]


def _safe_weights(name: str, weights: str | None) -> Any:
    """Return weights that torch-fidelity may safely open: it unpickles any file in torch's cache and runs TorchScript.

    For VGG-16 it is a copy that holds tensors only. For CLIP it is the path of a file whose sha256 is that of CLIP's
    own file. It is None where torch-fidelity downloads the file and checks it itself.
    """
    if name == "vgg16":
        return clean_copy(find_weights("vgg", weights, "metrics.extractor."))
    if name not in CLIP:
        return None
    wanted = CLIP[name]["hash"]
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / f"{name}-{wanted}.pt"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
            given = f"metrics.extractor.weights={path}" if weights else f"metrics.extractor.name={name}: {path}"
            raise ConfigError(f"{given} is not CLIP's own file: {'give that' if weights else 'remove it'}")
    return str(path)


def load_weights(net: nn.Module, path: str) -> None:
    """Load a file's state dict, itself or under "state_dict"; raises ConfigError if it does not fit the network."""
    if not Path(path).is_file():
        raise ConfigError(f"metrics.extractor.weights={path} is not a file: give that of the network's weights")
    try:
        require_unpacked(Path(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state.get("state_dict", state))
    except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError, KeyError) as error:
        why = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"metrics.extractor.weights={path} does not hold the state dict of this {type(net).__name__} ({why})"
        ) from error


def measure(extractor: Extractor) -> tuple[int, int]:
    """Return the widths D of an extractor's features and K of its logits, found by extracting a grey image."""
    images = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    with plain_float32(images.device):
        features, logits = extractor(images)
    return features.shape[1], logits.shape[1]
