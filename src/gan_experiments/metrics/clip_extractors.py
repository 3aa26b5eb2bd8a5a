"""Networks that map clips to the features and logits from which scores are computed."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Place
from gan_experiments.contracts import ConfigError
from gan_experiments.data.moving_digits import DIRECTIONS
from gan_experiments.kinds import Clip
from gan_experiments.layers.clips import as_clips, as_frames
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.names import published_with

MOVING_DIGITS_WEIGHTS = Path(__file__).with_name("moving_digits_classifier.pt")
FRAMES, SIDE = 16, 32
"""What the packaged classifier reads."""
URL_I3D = "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt"
I3D_FILE = "i3d_torchscript.pt"


class ClipExtractor(Extractor):
    """An extractor of uint8 clips [N, C, T, H, W]."""

    reads = Clip


class MovingDigitsClassifier(nn.Module):
    """A small classifier of moving digits, float [N, 1, 16, 32, 32] in [-1, 1]: of the direction and of the digit."""

    features = 64
    directions = 8
    digits = 10
    classes = directions * digits

    def __init__(self) -> None:
        super().__init__()
        self.motion = nn.Sequential(
            nn.Conv3d(1, 8, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)),  # [N, 8, 16, 16, 16]
            nn.ReLU(),
            nn.Conv3d(8, 16, 3, stride=2, padding=1),  # [N, 16, 8, 8, 8]
            nn.ReLU(),
            nn.Conv3d(16, 24, 3, stride=(2, 1, 1), padding=1),  # [N, 24, 4, 8, 8]
            nn.ReLU(),
            nn.AdaptiveMaxPool3d((4, 1, 1)),
            nn.Flatten(),
        )
        self.content = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 16, 16, 16]
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 32, 8, 8]
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.both = nn.Sequential(nn.Linear(24 * 4 + 48, self.features), nn.LeakyReLU(0.1))
        self.direction = nn.Linear(self.features, self.directions)
        self.digit = nn.Linear(self.features, self.digits)

    def body(self, x: Tensor) -> Tensor:
        """Return features [N, 64]: of how the clip moves, and of what is seen in two of its frames."""
        seen = x[:, :, ::8]
        content = self.content(as_frames(seen)).unflatten(0, (-1, seen.shape[2])).mean(1)
        return self.both(torch.cat([self.motion(x), content], dim=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and the log-probability of each direction with each digit, [N, 8 · 10]."""
        features = self.body(x)
        direction, digit = self.direction(features).log_softmax(1), self.digit(features).log_softmax(1)
        return features, (direction[:, :, None] + digit[:, None]).flatten(1)


class MovingDigitsExtractor(ClipExtractor):
    """The packaged classifier of moving digits: fvd_digits, and other scores that end in `_moving_digits`.

    They cannot be compared with published values. `python -m gan_experiments.metrics.train_moving_digits` trains its
    weights.
    """

    name = "moving_digits"
    suffix = "_moving_digits"
    resize = f"mean over channels, {FRAMES} frames evenly spread, antialiased bilinear to {SIDE}x{SIDE}"
    features = MovingDigitsClassifier.features
    classes = MovingDigitsClassifier.classes
    class_names = DIRECTIONS

    def __init__(self) -> None:
        super().__init__()
        self.weights_hash = hashlib.sha256(MOVING_DIGITS_WEIGHTS.read_bytes()).hexdigest()[:16]
        with torch.random.fork_rng(devices=[]):
            self.net = MovingDigitsClassifier().float()
        self.net.load_state_dict(torch.load(MOVING_DIGITS_WEIGHTS, map_location="cpu", weights_only=True))
        self.requires_grad_(False).eval()

    @override
    def names(self, score: str) -> str:
        return "fvd_digits" if score == "fvd" else super().names(score)

    @override
    def class_logits(self, logits: Tensor) -> Tensor:
        """Return the log-probability [N, 8] of each direction, with any digit."""
        return logits.unflatten(1, (MovingDigitsClassifier.directions, -1)).logsumexp(dim=2)

    @override
    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, 80] of uint8 clips [N, C, T, H, W], grey or RGB, of any size."""
        x = clips.to(torch.float32).mean(dim=1, keepdim=True) / 127.5 - 1
        if x.shape[2] != FRAMES:
            x = x[:, :, torch.linspace(0, x.shape[2] - 1, FRAMES, device=x.device).round().long()]
        if x.shape[-2:] != (SIDE, SIDE):
            x = as_clips(F.interpolate(as_frames(x), (SIDE, SIDE), mode="bilinear", antialias=True), FRAMES)
        return self.net(x)


def _i3d() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / I3D_FILE


class I3DExtractor(ClipExtractor):
    """The I3D of published Frechet video distances, trained on Kinetics-400 (Unterthiner et al. 2018, 1812.01717).

    The file is the TorchScript of StyleGAN-V's authors (Skorokhodov et al. 2021, arXiv:2112.14683), which agrees with
    the TensorFlow original; it takes 10 frames or more. `weights` is its path; by default it is looked for in torch's
    cache folder. Raises ConfigError, which says where to fetch it, if it is not there or no such file.
    """

    name = "i3d"
    resize = "bilinear to 224x224, by the file itself"
    features = 400
    classes = 0

    def __init__(self, weights: Place | None = None) -> None:
        super().__init__()
        path = _i3d() if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"metrics=i3d needs I3D's weights and there is no {path}: fetch {URL_I3D}?dl=1 as {I3D_FILE} into"
                f" {path.parent if weights is None else 'a folder'}, or type metrics.extractor.weights=PATH, or"
                " metrics=digits_clips"
            )
        self.weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.suffix, self.published = f"_i3d_{self.weights_hash[:8]}", published_with(self.name)
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it is published in this form alone
                self.net = torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as error:
            raise ConfigError(
                f"metrics.extractor.weights={path} is no TorchScript of I3D: fetch {URL_I3D}?dl=1, or type"
                " metrics=digits_clips"
            ) from error
        self.requires_grad_(False)

    @staticmethod
    def missing() -> bool:
        """Return True if the weights are not in torch's cache folder."""
        return not _i3d().is_file()

    @override
    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 400] and no logits [N, 0] of uint8 clips [N, C, T, H, W], grey or RGB."""
        x = clips.to(torch.float32).expand(-1, 3, -1, -1, -1)
        features = self.net(x, rescale=True, resize=True, return_features=True)
        return features, features[:, :0]
