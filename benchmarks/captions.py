"""Does a caption steer? Asks a run of data=captioned_digits for digits, and measures what it draws.

    python src/gan_experiments/run.py model=gan_int_cls images=60_000 hydra.run.dir=outputs/captions \\
        model.generator.width=24 model.discriminator.width=24
    python benchmarks/captions.py outputs/captions [--encoders outputs/damsm]

The digit is read by the classifier of `metrics=digits`; a tenth would be right by chance. Of thick and thin, and so
on, the same noise and digit are drawn with either word, and pairs in the right order are counted: a half by chance.
Spearman's rank correlation is that of less, nothing and more being asked for with what is measured; of the real digits,
whose three tenths are called so, it is 0.94.
With the run of a model=damsm there is also the R-precision of held-out captions, beside that of the real images and
that of images of other captions.
"""

from __future__ import annotations

import argparse
import logging
from types import SimpleNamespace

import torch
from torchmetrics.functional import spearman_corrcoef

import gan_experiments as gx
from gan_experiments.assembly import trained
from gan_experiments.data.digit_looks import NAMES, looks
from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.extractors import DigitsExtractor
from gan_experiments.metrics.r_precision import RPrecisionEvaluator
from gan_experiments.metrics.request import Request

EACH = 30  # samples of a digit
LEVELS = torch.tensor([-1.0, 0.0, 1.0]).repeat_interleave(EACH)
PAIRS = {
    "thickness": ("a thick {}", "a thin {}"),
    "slant": ("a {} leaning right", "a {} leaning left"),
    "width": ("a wide {}", "a narrow {}"),
}


def correlation(run: gx.Run, name: str, words: tuple[str, str]) -> float:
    """Return Spearman's rank correlation of what is asked of a look (less, nothing, more) and what is drawn.

    The same noise is asked for all three; the mean over the digits is returned.
    """
    plain = words[0].replace("thick ", "").replace("wide ", "").replace(" leaning right", "")
    found = torch.stack([looks(drawn(run, caption, seed=2))[name] for caption in (words[1], plain, words[0])])
    of_digits = found.view(3, len(NAMES), EACH).transpose(0, 1).flatten(1).float()
    return float(sum(spearman_corrcoef(values, LEVELS) for values in of_digits) / len(NAMES))


def drawn(run: gx.Run, caption: str, seed: int) -> torch.Tensor:
    """Return EACH samples of every digit of a caption, float [10 EACH, 1, H, W] in [-1, 1]."""
    captions = [caption.format(name) for name in NAMES for _ in range(EACH)]
    return run.sample(len(captions), seed, captions, exact=True, form="tensor")


def r_precision(run: gx.Run, encoders: str) -> dict[str, float]:
    """Return the R-precision of the images of held-out captions, of the real ones, and of those of other captions."""
    evaluator = RPrecisionEvaluator(encoders=encoders, num_fake=2000)
    real = evaluator.real(run.data())
    made, judge = run.model.sampler(0), trained.open_run(encoders, images=False).model
    shuffled = real.tokens[torch.randperm(len(real.tokens), generator=torch.Generator().manual_seed(0))]

    def of_others(index: int, rows: torch.Tensor) -> torch.Tensor:
        start = index * evaluator.batch_size
        return made.told(index, shuffled[start : start + len(rows)])

    others = SimpleNamespace(model=made.model, told=of_others)
    samples = {"the real images": judge.sampler(0), "images of held-out captions": made, "of other captions": others}
    return {
        name: evaluator.measure(sample, real, Request("cpu", ema=True)).scores["r_precision"].value
        for name, sample in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--encoders", help="a run of model=damsm, by which R-precision is measured")
    given = parser.parse_args()
    run = gx.load(given.run, "cpu")
    logging.disable(logging.WARNING)
    asked = torch.arange(len(NAMES)).repeat_interleave(EACH)
    _, logits = DigitsExtractor()(to_uint8(drawn(run, "a {}", seed=1)))
    print("| asked for | drawn so | by chance |\n|---|---|---|")
    print(f"| a digit | {(logits.argmax(1) == asked).float().mean():.2f} | 0.10 |")
    for name, words in PAIRS.items():
        more, less = (looks(drawn(run, word, seed=2))[name] for word in words)
        print(f"| {words[0].format('digit')}, {words[1].format('digit')} | {(more > less).float().mean():.2f} | 0.50 |")
    for name, words in PAIRS.items():
        found = correlation(run, name, words)
        print(f"| {name}: less, nothing, more said; rank correlation with what is drawn | {found:.2f} | 0.00 |")
    for name, value in (r_precision(run, given.encoders) if given.encoders else {}).items():
        print(f"| R-precision, {name} | {value:.3f} | 0.010 |")


if __name__ == "__main__":
    main()
