"""Does a caption steer? Asks a run of data=captioned_digits for digits, and measures what it draws.

    python src/gan_experiments/run.py model=gan_int_cls images=60_000 hydra.run.dir=outputs/captions \\
        model.generator.width=24 model.discriminator.width=24
    python benchmarks/captions.py outputs/captions

The digit is read by the classifier of `metrics=digits`; a tenth would be right by chance. Of thick and thin, and so
on, the same noise and digit are drawn with either word, and pairs in the right order are counted: a half by chance.
"""

from __future__ import annotations

import argparse
import logging

import torch

import gan_experiments as gx
from gan_experiments.data.digit_looks import NAMES, looks
from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.extractors import DigitsExtractor

EACH = 30  # samples of a digit
PAIRS = {
    "thickness": ("a thick {}", "a thin {}"),
    "slant": ("a {} leaning right", "a {} leaning left"),
    "width": ("a wide {}", "a narrow {}"),
}


def drawn(run: gx.Run, caption: str, seed: int) -> torch.Tensor:
    """Return EACH samples of every digit of a caption, float [10 EACH, 1, H, W] in [-1, 1]."""
    captions = [caption.format(name) for name in NAMES for _ in range(EACH)]
    return run.sample(len(captions), seed, captions, exact=True, form="tensor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    run = gx.load(parser.parse_args().run)
    logging.disable(logging.WARNING)
    asked = torch.arange(len(NAMES)).repeat_interleave(EACH)
    _, logits = DigitsExtractor()(to_uint8(drawn(run, "a {}", seed=1)))
    print("| asked for | drawn so | by chance |\n|---|---|---|")
    print(f"| a digit | {(logits.argmax(1) == asked).float().mean():.2f} | 0.10 |")
    for name, words in PAIRS.items():
        more, less = (looks(drawn(run, word, seed=2))[name] for word in words)
        print(f"| {words[0].format('digit')}, {words[1].format('digit')} | {(more > less).float().mean():.2f} | 0.50 |")


if __name__ == "__main__":
    main()
