"""The command `gan-experiments`: its verbs, `--help` and `--version`. Without a verb it trains."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.types import Quote, QuotedString

from gan_experiments import __version__
from gan_experiments.contracts import ConfigError
from gan_experiments.launch import command, help_text
from gan_experiments.runs import configs, latest, quoting

VERBS = {
    "run": "train a model",
    "sample": "draw from a trained model",
    "evaluate": "score a run, or folders of images",
    "translate": "turn images into others by a trained model",
    "explore": "look into a latent space",
    "compare": "set runs side by side",
    "interpolate": "make the networks between two runs",
    "usefulness": "measure what generated images are worth as training data",
    "serve": "answer requests over HTTP",
    "export": "write a file for other programs: ONNX, torch.export, safetensors",
    "demo": "draw, edit and translate on a page in the browser",
    "convert": "make a run of the weights of StyleGAN2-ADA",
}
WITH_A_WORD = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-name", "-cn", "--config-dir", "-cd")
HELP, VERSION = ("--help", "-h"), ("--version", "-V")


def main() -> None:
    """Run the verb that the first word names; without a verb, all words belong to `run`."""
    first = next(iter(sys.argv[1:]), "")
    if first in VERBS:
        del sys.argv[1]
        quoting.verb = [first]
        do(first)
    if first in VERSION:
        _say(f"gan-experiments {__version__}")
    if first == "--schema":
        _say(json.dumps(importlib.import_module("gan_experiments.assembly.signatures").json_schema(), indent=1))
    if first == "--wandb-sweep":
        _say(configs.wandb_sweep().read_text().rstrip())
    if first == "--wandb-workspace":
        _say_or_refuse(lambda: importlib.import_module("gan_experiments.loggers.workspace").save(sys.argv[2:]))
    if first.isidentifier():
        near = difflib.get_close_matches(first, VERBS, n=1, cutoff=0.7)
        meant = (
            f"there is no such verb (did you mean {near[0]}?): type it" if near else "not understood; type key=value"
        )
        print(f"{first}: {meant}, or begin with one of {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    if first in HELP:
        _say(help_text.overview(VERBS))
    do("run")


def do(verb: str) -> None:
    """Run a verb with the words of the command line after it, and exit."""
    if set(HELP) & set(sys.argv[1:]):
        _say(help_text.of_verb(verb, VERBS[verb]))
    try:
        require_unexpanded(sys.argv[1:])
        sys.argv[1:] = configs.with_own_keys(latest.settled(sys.argv[1:]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if verb == "compare":
        sys.argv[1:] = folders_gathered(sys.argv[1:])
    command.main(getattr(importlib.import_module(f"gan_experiments.verbs.{verb}"), verb), verb)


def _say_or_refuse(made: Callable[[], str]) -> NoReturn:
    """Print what a function returns, or in one line why it does not, and exit."""
    try:
        _say(made())
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _say(text: str) -> NoReturn:
    """Print a text and exit; a reader that stops early, as `| head` does, causes no error."""
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
        sys.exit(0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def require_unexpanded(typed: list[str]) -> None:
    """Raise ConfigError if a shell made several words of one root, of which one would win: data.root=set-{0..4}.tar."""
    for one, other in itertools.pairwise(typed):
        key, _, value = one.partition("=")
        if key.startswith("data.") and "root" in key and other.startswith(f"{key}=") and other != one:
            raise ConfigError(
                f"{one} {other}: {key} is typed twice; type {key}=[{value},{other.partition('=')[2]}] for both, "
                f"or put a pattern in quotes, '{key}=\"set-{{000..004}}.tar\"'"
            )


def folders_gathered(typed: list[str]) -> list[str]:
    """Return the words of `compare` with the bare ones, which are folders, gathered into `runs=[...]`."""
    bare: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *typed], typed, strict=False):
        option = before in WITH_A_WORD or (not Path(word).exists() and ("=" in word or word.startswith(("-", "~"))))
        (others if option else bare).append(word)
    quoted = ",".join(QuotedString(word, Quote.single).with_quotes() for word in bare)
    return [*others, f"runs=[{quoted}]"] if bare else others
