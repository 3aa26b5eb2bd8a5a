"""The resolvers of `${...}` in the configs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, _utils, base, grammar_parser

from gan_experiments import processes
from gan_experiments.runs import names


def register_resolvers() -> None:
    """Register RESOLVERS with OmegaConf, so that configs can use them, and let it parse equal `${...}` once.

    A config is read dozens of times while it is checked, and parsing would be a fifth of the time of the check.
    """
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
    base.parse = _utils.parse = _parsed


_parsed = lru_cache(maxsize=1000)(grammar_parser.parse)
"""OmegaConf's parser; it only reads the trees that it makes."""


def output_dir() -> str:
    """Return Hydra's output folder of this run."""
    if HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return HydraConfig.get().runtime.output_dir
    return "outputs"  # the config is only printed, nothing runs


def times(a: float, b: Any) -> int | list[int]:
    """Return a · b, rounded to an integer; for a resolution [height,width] that of both sides."""
    if isinstance(b, Sequence) and not isinstance(b, str):
        return [round(float(a) * float(side)) for side in b]
    return round(float(a) * float(b))


RESOLVERS: dict[str, Callable[..., Any]] = {
    "times": times,
    "sum": lambda *numbers: sum(map(int, numbers)),
    "below": lambda a, b, x, y: x if (max(a) if isinstance(a, Sequence) else a) < b else y,
    "r1_gamma": lambda r, batch: 2e-4 * (math.prod(r) if isinstance(r, Sequence) else r**2) / batch,
    "outputs": output_dir,
    "run_name": processes.run_name,
    "sweep_name": names.name,
    "job_folder": names.job_folder,
}
"""The resolvers that configs can use, by name.

`${times:a,b}` (rounded to an integer), `${sum:a,b,...}`, `${below:a,b,x,y}` (x if a < b, else y; of a resolution
[height,width] the longer side counts), `${r1_gamma:resolution,batch}` (StyleGAN2-ADA's rule, 0.0002 · pixels / batch),
`${outputs:}` (the run folder), `${run_name:}`, `${sweep_name:}` (null for a run outside a sweep),
`${job_folder:words}`. None reads the environment or a file.
"""
