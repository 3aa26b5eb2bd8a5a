"""Train the classifier behind `metrics=drums` and pack its weights: `python -m gan_experiments.metrics.train_drums`.

It takes about two minutes on one core. Every fifth hit is held out at all its speeds, and the accuracy on the held-out
ones is printed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import sound
from gan_experiments.data.waves import Drums
from gan_experiments.metrics.scores import inception_score
from gan_experiments.metrics.sounds import DRUMS_WEIGHTS, DrumsClassifier

EPOCHS = 40
BATCH = 64


def jitter(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Shift waves [N, L] later by up to 10 ms, make them up to 12 dB softer, and add noise of -70 to -30 dB."""
    number, length = waves.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(number, 1, generator=generator)

    places = torch.arange(length) - uniform(0, DrumsClassifier.rate / 100).long()
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


def train(waves: Tensor, labels: Tensor, epochs: int = EPOCHS) -> DrumsClassifier:
    """Return a classifier trained on waves [N, L] in [-1, 1] and labels [N]; each call gives the same one."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = DrumsClassifier()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(waves) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    weights = len(labels) / labels.bincount().float()
    for _ in range(epochs):
        for index in torch.randperm(len(waves), generator=generator).split(BATCH):
            heard = masked(net.heard(jitter(waves[index], generator)), generator)
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
def report(name: str, net: DrumsClassifier, waves: Tensor, labels: Tensor) -> None:
    """Print the accuracy and the Inception Score of real sounds, which bounds that of a generator."""
    logits = net(waves)[1]
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    score, _ = inception_score(logits, splits=1)
    print(f"{name}: {len(waves)} sounds, accuracy {accuracy:.2%}, Inception Score {score:.3f} of 6")


def main() -> None:
    """Train, report, and write the weights into the package."""
    torch.set_num_threads(1)  # the same bits on machines of the same kind
    data = Drums()
    drums = data.training()
    assert drums.labels is not None
    waves, labels = sound.to_float(drums.images(0, len(drums)))[:, 0], drums.labels
    held_out = torch.arange(len(drums)) // data.speeds % 5 == 0
    net = train(waves[~held_out], labels[~held_out])
    report("seen", net, waves[~held_out], labels[~held_out])
    report("held out", net, waves[held_out], labels[held_out])
    torch.save(net.state_dict(), DRUMS_WEIGHTS)
    print(f"{DRUMS_WEIGHTS}: {DRUMS_WEIGHTS.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
