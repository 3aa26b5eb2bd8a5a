"""Train the classifier behind `metrics=digits` and pack its weights: `python -m gan_experiments.metrics.train_digits`.

It takes about a minute on one core. Every fifth image is held out, and the accuracy on the held-out images is printed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.data.images import Digits
from gan_experiments.metrics.extractors import DIGITS_WEIGHTS, DigitsClassifier
from gan_experiments.metrics.scores import inception_score

EPOCHS = 60
BATCH = 100


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift each image [N, 1, H, W] in [-1, 1] a little (up to 12 degrees, 10 %, 2 pixels)."""

    def uniform(bound: float, *shape: int) -> Tensor:
        return (2 * torch.rand(len(images), *shape, generator=generator) - 1) * bound

    angle, scale, shear = uniform(0.2), 1 + uniform(0.1, 2), uniform(0.15)
    rows = [scale[:, 0] * angle.cos(), shear - angle.sin(), angle.sin(), scale[:, 1] * angle.cos()]
    affine = torch.cat([torch.stack(rows, dim=1).view(-1, 2, 2), uniform(0.125, 2, 1)], dim=2)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # pixels from outside are black


def train(images: Tensor, labels: Tensor, epochs: int = EPOCHS) -> DigitsClassifier:
    """Return a classifier trained on images [N, 1, 32, 32] in [-1, 1] and labels [N]; each call gives the same one."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = DigitsClassifier()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = F.cross_entropy(net(jitter(images[index], generator))[1], labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    # Features of mean square 1, for which KID's kernel is neither nearly constant nor a bare cube.
    with torch.no_grad():
        size = net(images)[0].square().mean().sqrt()
        last = net.body[-2]
        assert isinstance(last, nn.Linear)
        last.weight.div_(size)
        last.bias.div_(size)
        net.head.weight.mul_(size)
    return net.eval()


@torch.no_grad()
def report(name: str, net: DigitsClassifier, images: Tensor, labels: Tensor) -> None:
    """Print the accuracy and the Inception Score of real images, which bounds that of a generator."""
    _, logits = net(images)
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    score, _ = inception_score(logits, splits=1)
    print(f"{name}: {len(images)} images, accuracy {accuracy:.2%}, Inception Score {score:.3f} of 10")


def main() -> None:
    """Train, report, and write the weights into the package."""
    torch.set_num_threads(1)  # the same bits on machines of the same kind
    digits = Digits().reference()
    assert digits.labels is not None
    images, labels = digits.pixels / 127.5 - 1, digits.labels
    held_out = torch.arange(len(images)) % 5 == 0
    net = train(images[~held_out], labels[~held_out])
    report("seen", net, images[~held_out], labels[~held_out])
    report("held out", net, images[held_out], labels[held_out])
    torch.save(net.state_dict(), DIGITS_WEIGHTS)
    print(f"{DIGITS_WEIGHTS}: {DIGITS_WEIGHTS.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
