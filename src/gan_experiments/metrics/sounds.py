"""Networks that map sounds to the features and logits from which scores are computed."""

from __future__ import annotations

import hashlib
import math
import pickle
from http.client import HTTPException
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments import sound
from gan_experiments.bounds import Place
from gan_experiments.contracts import ConfigError
from gan_experiments.files import require_unpacked
from gan_experiments.kinds import Kind, Wave
from gan_experiments.metrics.extractors import Extractor

URL_VGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"
DRUMS_WEIGHTS = Path(__file__).with_name("drums_classifier.pt")
UNREADABLE = (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError, KeyError)
"""What torch raises of a file that does not hold the weights of a network."""


class SoundClassifier(nn.Module):
    """A small classifier of sounds float [N, L] in [-1, 1], of `rate` samples per second, by 40 mel bands.

    Its features are of the mean and the maximum over time of what it finds.
    """

    bands = 40
    features = 64

    def __init__(self, classes: int, rate: int) -> None:
        super().__init__()
        self.rate, self.hop = rate, max(1, rate // 125)
        self.window = 2 ** max(5, round(math.log2(rate / 32)))  # 32 ms
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),  # [N, 16, 20, T / 2]
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 40, 3, stride=2, padding=1),  # [N, 40, 5, T / 8]
            nn.ReLU(),
        )
        self.last = nn.Linear(2 * 40 * 5, self.features)
        self.head = nn.Linear(self.features, classes)

    def heard(self, waves: Tensor) -> Tensor:
        """Return the spectrogram of waves [N, L], in dB about 0: [N, bands, 1 + L // hop]."""
        return sound.decibels(sound.mel_bands(waves, self.rate, self.hop, self.window, self.bands)) / 25 + 2

    def of_spectrogram(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, classes] of what is `heard`."""
        maps = self.body(heard[:, None])
        both = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1).flatten(1)
        features = F.leaky_relu(self.last(both), 0.1)
        return features, self.head(features)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, classes] of waves [N, L]."""
        return self.of_spectrogram(self.heard(waves))


class DrumsClassifier(SoundClassifier):
    """The classifier of drum hits at 8,000 Hz."""

    class_names = ("kick", "snare", "hat", "tom", "cymbal", "tabla")

    def __init__(self) -> None:
        super().__init__(len(self.class_names), 8000)


class SoundExtractor(Extractor):
    """A network that hears waves int16 [N, C, L], of `rate` samples per second, as mono at its own rate `heard_at`."""

    reads = Wave
    heard_at: int
    rate = 0

    def see(self, kind: Kind) -> None:
        """Store the rate of the waves."""
        self.rate = round(kind.rate)

    def mono(self, waves: Tensor) -> Tensor:
        """Return waves int16 [N, C, L] as float [N, L'] in [-1, 1], at the rate `heard_at`."""
        heard = waves.float().mean(dim=1) / sound.FULL
        return sound.resampled(heard, sound.speed_of(self.rate or self.heard_at, self.heard_at))

    def names(self, score: str) -> str:
        """Return the name under which a score is reported; the Frechet distance is called FAD."""
        return super().names(score).replace("fid", "fad")


class DrumsExtractor(SoundExtractor):
    """The packaged classifier of the packed drum hits; the names of its scores end in `_drums`.

    They cannot be compared with published values. `python -m gan_experiments.metrics.train_drums` trains its weights.
    """

    name = "drums"
    heard_at = 8000
    suffix = "_drums"
    resize = "mean over channels, resampled to 8000 Hz; 40 mel bands from 20 to 4000 Hz in dB"
    features = DrumsClassifier.features
    classes = len(DrumsClassifier.class_names)
    class_names = DrumsClassifier.class_names

    def __init__(self) -> None:
        super().__init__()
        self.weights_hash = hashlib.sha256(DRUMS_WEIGHTS.read_bytes()).hexdigest()[:16]
        with torch.random.fork_rng(devices=[]):
            self.net = DrumsClassifier().float()
        self.net.load_state_dict(torch.load(DRUMS_WEIGHTS, map_location="cpu", weights_only=True))
        self.requires_grad_(False).eval()

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, 6] of waves int16 [N, C, L]."""
        return self.net(self.mono(waves))


class OwnSoundsExtractor(SoundExtractor):
    """A classifier of a person's own sounds, that `python -m gan_experiments.metrics.train_sounds` has trained.

    The names of its scores end in `_sounds_` and eight digits of its file's hash: they compare with those by the same
    file alone. Raises ConfigError where there is no such file.
    """

    name = "sounds"
    features = SoundClassifier.features

    def __init__(self, weights: Place | None = None) -> None:
        super().__init__()
        how = "type metrics.extractor.weights=PATH; `python -m gan_experiments.metrics.train_sounds FOLDER` makes one"
        if weights is None:
            raise ConfigError(f"metrics=sounds needs a classifier of your sounds: {how}")
        path = Path(weights).expanduser()
        try:
            require_unpacked(path)
            held = torch.load(path, map_location="cpu", weights_only=True)
            self.heard_at, self.class_names = int(held["rate"]), tuple(str(name) for name in held["class_names"])
            self.classes = len(self.class_names)
            with torch.random.fork_rng(devices=[]):
                self.net = SoundClassifier(self.classes, self.heard_at).float()
            self.net.load_state_dict(held["weights"])
        except OSError:
            raise ConfigError(f"metrics.extractor.weights={weights} is not a file: {how}") from None
        except (*UNREADABLE, ValueError) as error:
            raise ConfigError(f"metrics.extractor.weights={weights} holds no classifier of sounds: {how}") from error
        self.weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.suffix = f"_sounds_{self.weights_hash[:8]}"
        self.resize = (
            f"mean over channels, resampled to {self.heard_at} Hz; {SoundClassifier.bands} mel bands from 20 to"
            f" {self.heard_at // 2} Hz in dB"
        )
        self.requires_grad_(False).eval()

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 64] and logits [N, classes] of waves int16 [N, C, L]."""
        return self.net(self.mono(waves))


class VGGish(nn.Module):
    """VGGish (Hershey et al. 2017, arXiv:1609.09430): log-mel spectrograms [N, 1, 96, 64] to embeddings [N, 128].

    Its parameters have the names of torchvggish's file of weights. The last layer has no ReLU.
    """

    hidden = 4096

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        narrow = 1
        for wide in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0):
            if wide:
                layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU(inplace=True)]
                narrow = wide
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        wide = self.hidden
        self.embeddings = nn.Sequential(
            *(nn.Linear(6 * 4 * 512, wide), nn.ReLU(inplace=True), nn.Linear(wide, wide), nn.ReLU(inplace=True)),
            nn.Linear(wide, 128),
        )

    def forward(self, heard: Tensor) -> Tensor:
        """Return embeddings [N, 128] of spectrograms [N, 1, 96, 64]."""
        return self.embeddings(self.features(heard).permute(0, 2, 3, 1).flatten(1))  # TensorFlow's order of maps


def vggish_examples(waves: Tensor) -> Tensor:
    """Return the log-mel spectrograms [N, k, 96, 64] of waves float [N, L] at 16,000 Hz, as VGGish was trained with.

    Frames of 25 ms, 10 ms apart; k examples of 0.96 s one after another, what is left over is not heard. Shorter waves
    end in silence.
    """
    waves = F.pad(waves, (0, max(0, 400 + 95 * 160 - waves.shape[1])))
    hann = torch.hann_window(400, device=waves.device, dtype=waves.dtype)
    spectrum = torch.fft.rfft(waves.unfold(1, 400, 160) * hann, 512).abs()
    filters = sound.mel_filters(257, 16000, 64, 125.0, 7500.0).to(spectrum)
    heard = torch.log(spectrum @ filters + 0.01)
    number = heard.shape[1] // 96
    return heard[:, : 96 * number].unflatten(1, (number, 96))


class VGGishExtractor(SoundExtractor):
    """VGGish, with which the Frechet audio distance is published (Kilgour et al. 2019, arXiv:1812.08466): `fad_vggish`.

    The features are the 128 numbers before the last ReLU, the mean over the examples of 0.96 s of a sound. `weights` is
    a path; by default the file in torch's cache folder, or else a download. Raises ConfigError for weights that are
    neither found nor downloaded, and for those of another network.
    """

    name = "vggish"
    suffix = "_vggish"
    heard_at = 16000
    resize = "mean over channels, resampled to 16000 Hz; 64 mel bands from 125 to 7500 Hz, mean over examples of 0.96 s"
    features = 128
    classes = 0

    def __init__(self, weights: Place | None = None) -> None:
        super().__init__()
        path = find_vggish(weights)
        self.weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        with torch.random.fork_rng(devices=[]):
            self.net = VGGish()
        try:
            require_unpacked(path)
            self.net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except UNREADABLE as error:
            raise ConfigError(
                f"metrics.extractor.weights={path} does not hold torchvggish's VGGish: fetch {URL_VGGISH}, give its"
                " path, or type metrics=drums"
            ) from error
        self.requires_grad_(False).eval()

    @staticmethod
    def missing() -> bool:
        """Return True if the weights are not in torch's cache folder."""
        return not _cached().is_file()

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 128] and logits [N, 0] of waves int16 [N, C, L]."""
        heard = vggish_examples(self.mono(waves))
        found = self.net(heard.flatten(0, 1)[:, None]).unflatten(0, heard.shape[:2]).mean(dim=1)
        return found, found[:, :0]


def find_vggish(weights: str | None) -> Path:
    """Return the path of VGGish's weights: the given file, else that in torch's cache, else a download.

    Raises ConfigError where all three fail. The message says which file to fetch and where to put it.
    """
    if weights is not None:
        if not Path(weights).is_file():
            raise ConfigError(
                f"metrics.extractor.weights={weights} is not a file: fetch {URL_VGGISH} and give its path"
            )
        return Path(weights)
    path = _cached()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_VGGISH, str(path), "10086976", progress=False)
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash differs
            raise ConfigError(
                f"metrics=vggish needs VGGish's weights and no download came through ({' '.join(str(error).split())}):"
                f" fetch {URL_VGGISH} into {path.parent}, or type metrics.extractor.weights=PATH, or metrics=drums"
            ) from error
    return path


def _cached() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / URL_VGGISH.rsplit("/", 1)[1]
