"""Train the classifier behind `metrics=drums` and pack its weights: `python -m gan_experiments.metrics.train_drums`.

It takes about two minutes on one core. Every fifth hit is held out at all its speeds, and the accuracy on the held-out
ones is printed.
"""

from __future__ import annotations

import torch

from gan_experiments import sound
from gan_experiments.data.waves import Drums
from gan_experiments.metrics.sounds import DRUMS_WEIGHTS, DrumsClassifier
from gan_experiments.metrics.train_sounds import report, train


def main() -> None:
    """Train, report, and write the weights into the package."""
    torch.set_num_threads(1)  # the same bits on machines of the same kind
    data = Drums()
    drums = data.training()
    assert drums.labels is not None
    waves, labels = sound.to_float(drums.images(0, len(drums)))[:, 0], drums.labels
    held_out = torch.arange(len(drums)) // data.speeds % 5 == 0
    net = train(DrumsClassifier, waves[~held_out], labels[~held_out])
    report("seen", net, waves[~held_out], labels[~held_out])
    report("held out", net, waves[held_out], labels[held_out])
    torch.save(net.state_dict(), DRUMS_WEIGHTS)
    print(f"{DRUMS_WEIGHTS}: {DRUMS_WEIGHTS.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
