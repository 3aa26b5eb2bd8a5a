"""Train the classifier behind fvd_digits and pack its weights: `python -m gan_experiments.metrics.train_moving_digits`.

It takes some minutes on one core. Its clips are of all directions and of speeds from slow to fast; the accuracy is
printed on clips of digits that are in no training clip.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.data.cache import ImageArray
from gan_experiments.data.moving_digits import MovingDigits
from gan_experiments.metrics.clip_extractors import FRAMES, MOVING_DIGITS_WEIGHTS, SIDE, MovingDigitsClassifier
from gan_experiments.metrics.train_digits import jitter

CLIPS = 50_000
EPOCHS = 1
BATCH = 50


def train(clips: ImageArray, digit: Tensor, epochs: int = EPOCHS) -> MovingDigitsClassifier:
    """Return a classifier trained on clips [N, 1, 16, 32, 32], their labels and digits [N]; the same at each call."""
    assert clips.labels is not None
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = MovingDigitsClassifier()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = epochs * -(-len(clips) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(clips), generator=generator).split(BATCH):
            pixels = clips.pixels.index_select(0, index) / 127.5 - 1
            features = net.body(jitter(pixels[:, 0], generator)[:, None])  # the frames of a clip are its channels
            loss = F.cross_entropy(net.direction(features), clips.labels[index])
            loss = loss + F.cross_entropy(net.digit(features), digit[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    # Features of mean square 1, for which KID's kernel is neither nearly constant nor a bare cube.
    with torch.no_grad():
        size = net.body(clips.images(0, 1000) / 127.5 - 1).square().mean().sqrt()
        last = net.both[0]
        assert isinstance(last, nn.Linear)
        last.weight.div_(size)
        last.bias.div_(size)
        net.direction.weight.mul_(size)
        net.digit.weight.mul_(size)
    return net.eval()


@torch.no_grad()
def report(name: str, net: MovingDigitsClassifier, clips: ImageArray, digit: Tensor) -> None:
    """Print the accuracy of the direction and of the digit."""
    features = net.body(clips.images(0, len(clips)) / 127.5 - 1)
    found = {"direction": (net.direction(features), clips.labels), "digit": (net.digit(features), digit)}
    told = (
        f"{what} {(logits.argmax(1) == truth).double().mean().item():.2%}" for what, (logits, truth) in found.items()
    )
    print(f"{name}: {len(clips):,} clips, {', '.join(told)}", flush=True)


def main() -> None:
    """Train, report, and write the weights into the package, in half precision."""
    torch.set_num_threads(1)  # the same bits on machines of the same kind
    data = MovingDigits(SIDE, length=FRAMES, clips=CLIPS, classes=8, speed=[0.01, 0.06])
    seen, held_out = data.reference("train"), data.reference("test")
    net = train(seen, seen.digit[:, 0])  # type: ignore[attr-defined]
    net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
    report("held out", net, held_out, held_out.digit[:, 0])  # type: ignore[attr-defined]
    torch.save({name: value.half() for name, value in net.state_dict().items()}, MOVING_DIGITS_WEIGHTS)
    print(f"{MOVING_DIGITS_WEIGHTS}: {MOVING_DIGITS_WEIGHTS.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
