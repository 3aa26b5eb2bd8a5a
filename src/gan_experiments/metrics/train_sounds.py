"""Train the classifier behind `metrics=sounds` on a person's own sounds, by which theirs and generated ones are scored.

    python -m gan_experiments.metrics.train_sounds sounds --out sounds.pt

`sounds` is a folder with a subfolder for each class, or with folders train and test of such. Sounds are heard as
`data=waves` reads them: `--length` samples from the beginning of each file, at `--rate` samples per second. Those of
the split test are held out, or else a fifth of the files, and the accuracy on them is printed. 1,000 sounds of half a
second take two minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import files, sound
from gan_experiments.contracts import ConfigError
from gan_experiments.data.sources import splits_of
from gan_experiments.data.splits import Choice
from gan_experiments.data.waves import Waves
from gan_experiments.metrics.scores import inception_score
from gan_experiments.metrics.sounds import SoundClassifier

EPOCHS = 40
BATCH = 64
HELD_OUT = 0.2
Net = TypeVar("Net", bound=SoundClassifier)


def jitter(waves: Tensor, rate: int, generator: torch.Generator) -> Tensor:
    """Shift waves [N, L] later by up to 10 ms, make them up to 12 dB softer, and add noise of -70 to -30 dB."""
    number, length = waves.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(number, 1, generator=generator)

    places = torch.arange(length) - uniform(0, rate / 100).long()
    later = waves.gather(1, places.clamp(min=0)) * (places >= 0)
    noise = torch.randn(waves.shape, generator=generator) * 10 ** (uniform(-70, -30) / 20)
    return later * 10 ** (uniform(-12, 0) / 20) + noise


def masked(heard: Tensor, generator: torch.Generator) -> Tensor:
    """Silence up to 6 bands and up to 8 frames of each spectrogram [N, bands, T] (Park et al. 2019, SpecAugment)."""
    for axis, most in ((1, 6), (2, 8)):
        size = heard.shape[axis]
        width = torch.rand(len(heard), 1, generator=generator) * most
        start = torch.rand(len(heard), 1, generator=generator) * (size - width)
        place = torch.arange(size)
        inside = ((place >= start) & (place < start + width)).unsqueeze(3 - axis)
        heard = heard.masked_fill(inside, -2.0)
    return heard


def train(make: Callable[[], Net], waves: Tensor, labels: Tensor, epochs: int = EPOCHS) -> Net:
    """Return a classifier trained on waves [N, L] in [-1, 1] and labels [N]; each call gives the same one."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = make()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(waves) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    weights = len(labels) / labels.bincount().float()
    for _ in range(epochs):
        for index in torch.randperm(len(waves), generator=generator).split(BATCH):
            heard = masked(net.heard(jitter(waves[index], net.rate, generator)), generator)
            loss = F.cross_entropy(net.of_spectrogram(heard)[1], labels[index], weights, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    # Features of mean square 1, for which KID's kernel is neither nearly constant nor a bare cube.
    with torch.no_grad():
        size = net(waves)[0].square().mean().sqrt()
        net.last.weight.div_(size)
        net.last.bias.div_(size)
        net.head.weight.mul_(size)
    return net.eval()


@torch.no_grad()
def report(name: str, net: SoundClassifier, waves: Tensor, labels: Tensor) -> None:
    """Print the accuracy and the Inception Score of real sounds, which bounds that of a generator."""
    logits = net(waves)[1]
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    score, _ = inception_score(logits, splits=1)
    print(f"{name}: {len(waves)} sounds, accuracy {accuracy:.2%}, Inception Score {score:.3f} of {logits.shape[1]}")


def main(words: Sequence[str] | None = None) -> int:
    """Train, report, and write the weights; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of sounds, a subfolder for each class")
    parser.add_argument("--out", type=Path, default=Path("sounds.pt"), metavar="FILE")
    parser.add_argument("--rate", type=int, default=16000, help="samples per second")
    parser.add_argument("--length", type=int, default=16384, help="samples of each file")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)  # the same bits on machines of the same kind
    try:
        held_out = 0.0 if "test" in splits_of(given.folder, Choice()) else HELD_OUT
        data = Waves(given.folder, given.length, given.rate, test_fraction=held_out)
        sounds = {split: data.load(split) for split in ("train", "test")}
        names = sounds["train"].class_names
        if len(names) < 2 or sounds["test"].class_names != names:
            raise ConfigError(
                f"{given.folder}: no two classes in train and test; give each a subfolder, of five sounds"
            )
    except ConfigError as error:
        print("\n".join(error.args), file=sys.stderr)
        return 2
    heard = {}
    for split, of in sounds.items():
        assert of.labels is not None
        heard[split] = sound.to_float(of.images(0, len(of)))[:, 0], of.labels
    net = train(lambda: SoundClassifier(len(names), given.rate), *heard["train"], given.epochs)
    report("seen", net, *heard["train"])
    report("held out", net, *heard["test"])
    with files.whole(given.out) as unfinished:
        torch.save({"weights": net.state_dict(), "rate": given.rate, "class_names": list(names)}, unfinished)
    print(f"{given.out}: type metrics=sounds metrics.extractor.weights={given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
