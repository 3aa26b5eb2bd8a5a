"""Names of the folders of sweeps and of their jobs, made from the words of the command line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import ListConfig, OmegaConf

from gan_experiments.runs import resume

COMMAND = "command.txt"
"""The file in a sweep's folder with the command that was typed; only sweeps have it."""


LEADING = ("model", "data", "loss", "augment", "experiment", "seed")
"""Keys that come first in the name of a folder, in this order."""


OF_THE_SWEEP = ("hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher", "hydra.mode", "hydra.run")
"""Beginnings of the keys that belong to the whole sweep and are not passed to its jobs."""


def folder_of(words: Sequence[str]) -> str:
    """Return the folder of the sweep that these words start; the same words give the same folder."""
    kept = [word for word in words if word not in ("-m", "--multirun") and _defines_the_sweep(word)]
    return f"outputs/sweeps/{_readable(kept, 60)[0]}-{_digest(kept)}"


def _defines_the_sweep(word: str) -> bool:
    key = resume.key_of(word)
    if key.startswith(("hydra/sweeper", "hydra.sweeper.params")):
        return True
    return not key.startswith(("hydra.", "hydra/")) and (key == "sweep" or key not in resume.ONCE)


def job_folder(words: ListConfig | list[str]) -> str:
    """Return the name of a job's folder, from all of its words in any order (`${job_folder:...}` in the configs)."""
    if isinstance(words, ListConfig):
        words = OmegaConf.to_container(words, resolve=False)  # type: ignore[assignment]
    kept = [word.lstrip("+") for word in words if resume.key_of(word) not in resume.ONCE]
    text, exact = _readable(kept, 80)
    return text if exact else f"{text}-{_digest(kept)}"


def _readable(words: list[str], length: int) -> tuple[str, bool]:
    """Turn `model=dcgan`, `seed=0` into "model-dcgan_seed-0", in characters safe for shells, Hydra and file systems.

    The most telling words come first. Also returns True if no other words can give the same text.
    """

    def importance(word: str) -> tuple[int, bool, str]:
        key = resume.key_of(word)
        return LEADING.index(key) if key in LEADING else len(LEADING), "." in key, word

    ordered = sorted(words, key=importance)
    full = "_".join(word.replace("=", "-", 1) for word in ordered)
    text = full
    if len(text) > length:  # keep only the last two parts of each dotted key
        pairs = [word.partition("=") for word in ordered]
        text = "_".join(".".join(key.split(".")[-2:]) + (mark and f"-{value}") for key, mark, value in pairs)
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:length].strip("-_.")
    return text or "as_configured", not words or text == full


def spoken(words: Sequence[str], length: int = 100) -> str:
    """Return what was typed as the name of a run: `model=dcgan`, `data.batch_size=8` as "dcgan batch_size=8".

    The choices of groups come first, by their names alone; what is said once (`ckpt`, ...) is left out.
    """
    kept = [word.lstrip("+") for word in words if not word.startswith("~")]
    pairs = [word.partition("=") for word in kept if resume.key_of(word) not in (*resume.ONCE, "images")]
    pairs = [pair for pair in pairs if not pair[0].startswith(("hydra", "logger"))]
    pairs.sort(key=lambda pair: LEADING.index(pair[0]) if pair[0] in LEADING else len(LEADING))
    last = [key.split(".")[-1] for key, _, _ in pairs]
    said = []
    for key, _, value in pairs:
        parts = key.split(".")
        short = parts[-1] if last.count(parts[-1]) == 1 else ".".join(parts[-2:])
        said.append(value if key in LEADING and key != "seed" else f"{short}={value}")
    text = " ".join(said)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _digest(words: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()[:6]


def name() -> str | None:
    """Return the name of the sweep that the run belongs to (`${sweep_name:}` in the configs); None if there is none."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return Path(hydra.sweep.dir).resolve().name
    if OmegaConf.is_missing(hydra.runtime, "output_dir"):
        return None
    place = Path(hydra.runtime.output_dir).parent  # a job resumed on its own, or in a process of its own
    return place.resolve().name if (place / COMMAND).is_file() else None
