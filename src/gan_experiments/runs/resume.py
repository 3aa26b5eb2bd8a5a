"""Checkpoints as files: how to find one, read it and resume from it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_experiments import files, processes, provenance
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import run_folder as folders
from gan_experiments.runs import saved, trust
from gan_experiments.runs.configs import of_choice
from gan_experiments.runs.quoting import parsed, quoted, value_of
from gan_experiments.runs.saved import load

log = logging.getLogger(__name__)

ONCE = ("ckpt", "check", "resume", "existing", "sweep", "hydra.run.dir", "output", "trust")
"""Keys that apply to one command only and are not recorded with the run."""
EVALUATOR, AUTOMATIC = (f"gan_experiments.metrics.evaluator.{name}" for name in ("Evaluator", "Automatic"))
SETTLED = ("precision", "channels_last", "tf32", "cudnn_benchmark")
"""Keys of `trainer` that a run settles for "auto"; the configs of runs from before these keys lack some."""
EARLY = "callbacks.early_stopping"
CONFIG, LAST = Path("config.yaml"), Path("checkpoints") / "last.ckpt"


def find(given: str, key: str = "ckpt") -> Path:
    """Return the checkpoint at a path: the file itself, or `checkpoints/last.ckpt` of a run folder.

    Raises ConfigError, which names the option `key`, if there is none.
    """
    path = Path(given)
    inside = path / "checkpoints" / "last.ckpt"
    if path.is_file():
        return path
    if inside.is_file():
        return inside
    if path.is_dir():
        raise ConfigError(
            f"{key}={given}: that folder has no checkpoints/last.ckpt; type the folder of a run that got so far"
        )
    raise ConfigError(f"{key}={given}: there is no such file or folder; type {key}= a run folder or a checkpoint")


def to_make(folder: Path, existing: str, key: str = "out") -> bool:
    """Return True if a run folder is to be written, False if `existing` "keep" keeps a run that is there.

    Raises ConfigError if a run is there and `existing` is "refuse".
    """
    return len(files.to_write((folder / name for name in (CONFIG, LAST)), existing, f"another {key}=")) == 2


def write(checkpoint: dict[str, Any], folder: Path) -> None:
    """Write a run folder for a checkpoint that no training wrote: its config and the checkpoint.

    The checkpoint is written complete or not at all.
    """
    import torch

    config = OmegaConf.to_yaml(OmegaConf.create(checkpoint["gan_experiments"]["config"]))
    with files.whole(folder / LAST) as unfinished:
        torch.save(checkpoint, unfinished)
        files.write_text(folder / CONFIG, config)


def folder_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in; None if it has been moved out of it."""
    folder = checkpoint.resolve().parents[1]
    return folder if (folder / "config.yaml").is_file() else None


def command_line(words: list[str]) -> list[str]:
    """Return the words of a command; if it names a checkpoint, those of the run that wrote it are put before them.

    What is typed now wins. The run continues in its own folder, unless that is gone or `hydra.run.dir=` names another.
    With `resume=true`, or after a restart by torchrun or SLURM, the checkpoint is searched for. `output=` is another
    word for `hydra.run.dir=`, so that all that is known of that folder holds for it.

    Words from the checkpoint may do only what the module `trust` allows; others raise ConfigError. `trust=` itself is
    dropped, so that no run records it.
    """
    for word in words:
        if key_of(word) == "resume" and word.partition("=")[2].lower() not in ("true", "false"):
            raise ConfigError(f"{word}: true or false is needed; type resume=true")
    require_folders(words)
    typed = {key_of(word): value_of(word) for word in words if not word.startswith("-")}
    named = [word for word in words if key_of(word) == "output"]
    if named and isinstance(parsed(named[-1]), str) and not {"hydra.run.dir", "-m", "--multirun"} & {*typed, *words}:
        words = [word.replace("output", "hydra.run.dir", 1) if word in named else word for word in words]
        typed["hydra.run.dir"] = typed.pop("output")
    trusted = trust.typed(words)
    words = [word for word in words if key_of(word) != "trust"]
    if typed.get("ckpt", "null") in ("", "null"):
        if typed.get("resume", "").lower() != "true" and not processes.restarted():
            return words
        folder = _unfinished(words, typed)
        words = [word for word in words if key_of(word) not in ("ckpt", "hydra.run.dir")]
        if folder is not None:
            words.append(f"hydra.run.dir={quoted(folder)}")
        if folder is None or not (folder / "checkpoints" / "last.ckpt").is_file():
            return words
        typed |= {"ckpt": f"{folder}", "hydra.run.dir": f"{folder}"}
        words.append(f"ckpt={quoted(folder / 'checkpoints' / 'last.ckpt')}")
    path = find(typed["ckpt"])
    before = [
        word for word in load(path)["gan_experiments"].get("overrides", []) if key_of(word) not in {*typed, *ONCE}
    ]
    trust.require_words(before, f"ckpt={typed['ckpt']}: it", trusted)
    folder = folder_of(path)
    here = [f"hydra.run.dir={quoted(folder)}"] if folder and "hydra.run.dir" not in typed else []
    return [*before, *words, *here]


def require_folders(words: list[str]) -> None:
    """Raise ConfigError for a folder of a run or sweep without a name, which to Hydra is the current folder."""
    for word in words:
        if (key := key_of(word)) in ("output", "hydra.run.dir", "hydra.sweep.dir") and not value_of(word):
            raise ConfigError(f"{word}: a folder is needed; type {key}=outputs/mine, or leave it out")


def _unfinished(words: list[str], typed: dict[str, str]) -> Path | None:
    """Return the folder to resume in: the one typed, that of a restarted run, or the latest run of the same words."""
    if "hydra.run.dir" in typed:
        return Path(typed["hydra.run.dir"]).resolve()
    if processes.restarted():
        return (Path("outputs") / processes.run_name()).resolve()
    wanted = _of_the_run(words)
    notes = sorted(Path("outputs").glob("*/*/.hydra/overrides.yaml"), key=lambda path: path.stat().st_mtime)
    same = (path for path in reversed(notes) if _of_the_run(OmegaConf.to_container(OmegaConf.load(path))) == wanted)
    found = next(same, None)
    return found.parents[1].resolve() if found else None


def _of_the_run(words: Any) -> list[str]:
    """Return the words that define the run, sorted."""
    words = [word for word in words if not word.startswith(("-", "hydra.", "hydra/"))]
    return sorted(word for word in words if key_of(word) not in ONCE)


def finished(cfg: DictConfig) -> bool:
    """Return True if the run that `resume=true` has found is already complete, or was ended early by its score."""
    if not (cfg.resume and cfg.ckpt):
        return False
    before = load(find(cfg.ckpt))["gan_experiments"]
    ended = folders.outcome(Path(cfg.output))
    early, now = (OmegaConf.select(OmegaConf.create(c), EARLY) for c in (before["config"], _resolved(cfg)))
    done = ended is not None and ended.status == "finished" and ended.images == before["images_seen"]
    if done and early == now and before["images_seen"] < before["config"]["images"]:
        return True
    return bool(before["images_seen"] >= cfg.images)


def goes_on(cfg: DictConfig) -> bool:
    """Return True if a run continues in its folder: by `ckpt=` or `resume=true`, restarted, or as a job of a sweep.

    The files there are then its own. A finished run without a checkpoint does not continue.
    """
    folder = Path(str(cfg.output)).resolve()
    if (
        processes.restarted()
        or processes.sweep()
        or (HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)
    ):
        return True
    if cfg.ckpt:
        return find(cfg.ckpt).resolve().is_relative_to(folder)
    ended = folders.outcome(folder)
    begun = (folder / ".hydra" / "overrides.yaml").is_file() and (ended is None or ended.status != "finished")
    return bool(cfg.resume) and begun


def choice(group: str) -> str:
    """Return the name of the config file that Hydra chose for a group; empty if it chose none."""
    return str(HydraConfig.get().runtime.choices.get(group) or "") if HydraConfig.initialized() else ""


def overrides() -> list[str]:
    """Return the words typed for the current run; empty if Hydra did not start it."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [word for word in typed if key_of(word) not in ONCE]


def prepare(cfg: DictConfig) -> Path | None:
    """Return the checkpoint that a config resumes from, None for none; warn of values that have changed since.

    Raises ConfigError if the checkpoint has already seen as many images as the config asks for.
    """
    if not cfg.ckpt:
        return None
    path = find(cfg.ckpt)
    checkpoint = load(path)
    before = checkpoint["gan_experiments"]
    if before["images_seen"] >= cfg.images:
        raise ConfigError(
            f"ckpt={cfg.ckpt} has already seen {before['images_seen']:,} images and images={cfg.images}:"
            f" type images={2 * before['images_seen']} to go on"
        )
    saved.require_training(checkpoint, path)
    typed = {key_of(word) for word in overrides()}
    now, then = (flat(OmegaConf.to_container(OmegaConf.create(c))) for c in (_resolved(cfg), before["config"]))
    for key in changed(now, then):
        known = any(key == word or key.startswith(f"{word}.") for word in (*typed, *ONCE))
        if not known and "${" not in f"{then.get(key)}":
            log.warning("%s is %s now and was %s when the checkpoint was written", key, now.get(key), then.get(key))
    return path


def changed(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Return the keys, sorted, of which two flat configs have different values.

    What a run has settled for "auto", and why, is no change; neither is a key that was not there then and is empty or
    false now, as a version later than that of the run has it. Of a callback that was not there then, the values of
    `callbacks=default` count as empty, as does the usual `provenance=`.
    """
    keys = sorted({*now, *then} - {"trainer.chosen"})
    left = [f"trainer.{key}" for key in SETTLED if now.get(f"trainer.{key}", "auto") == "auto"]
    usual = flat({"callbacks": OmegaConf.to_container(of_choice("callbacks", "default"))})
    known = {".".join(key.split(".")[:2]) for key in then if key.startswith("callbacks.")}
    later = {key for key in usual if known and ".".join(key.split(".")[:2]) not in known}
    usual |= {"provenance": provenance.USUAL}
    later |= {"provenance"}
    new = [key for key in keys if key not in then and (not now[key] or (key in later and now[key] == usual[key]))]
    return [key for key in keys if now.get(key) != then.get(key) and key not in (*left, *new)]


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config in plain types, with the run folder as a placeholder, to run it again elsewhere."""
    folder = cfg.output

    def open_folder(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: open_folder(item) for key, item in value.items()}
        if isinstance(value, list):
            return [open_folder(item) for item in value]
        return "${output}" if value == folder else value

    resolved = open_folder(OmegaConf.to_container(cfg, resolve=True))
    resolved.pop("existing", None)  # it applies to one command only; older configs lack it
    resolved.pop("trust", None)
    return {**resolved, "output": "${outputs:}", "ckpt": None, "check": False, "resume": False}


def _resolved(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys.

    The class of `metrics=auto` becomes the evaluator's, which the configs of runs from before `metrics=auto` name.
    """
    if not isinstance(node, dict):
        return {prefix: EVALUATOR if node == AUTOMATIC else node}
    return {
        k: v for key, value in node.items() for k, v in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def key_of(word: str) -> str:
    """Return the key of a word of the command line."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]
