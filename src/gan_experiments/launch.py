"""What every verb does around its work: find the configs, compose them, and answer a mistake with one line.

Nothing here imports torch, so that `--help` and a misspelt name answer at once.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments import resume, run_folder, signals, sweeps, world
from gan_experiments.contracts import ConfigError, TrainingFailure

PLUGINS = ("joblib", "submitit_local", "submitit_slurm")


def conf_dir() -> Path:
    """The folder of the configs: the repository's `conf/`, else the copy in the installed package."""
    package = Path(__file__).resolve().parent
    repository = package.parents[1] / "conf"
    return repository if repository.is_dir() else package / "conf"


def register_resolvers() -> None:
    """Teach the configs what they cannot say themselves: RESOLVERS."""
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _output_dir() -> str:
    if HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return HydraConfig.get().runtime.output_dir
    return "outputs"  # nothing runs: the config is only printed


def _fastest_precision(accelerator: str) -> str:
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    # bfloat16 without AMX's tiles is slower than float32 on a CPU.
    return "bf16-mixed" if accelerator in ("auto", "cpu") and torch.cpu._is_amx_tile_supported() else "32-true"


RESOLVERS: dict[str, Callable[..., Any]] = {
    "times": lambda a, b: round(float(a) * float(b)),
    "below": lambda a, b, x, y: x if a < b else y,
    "r1_gamma": lambda resolution, batch: 2e-4 * resolution**2 / batch,
    "outputs": _output_dir,
    "fastest_precision": _fastest_precision,
    "run_name": world.run_name,
    "sweep_name": sweeps.name,
    "job_folder": sweeps.job_folder,
}
"""What configs can say besides values.

`${times:a,b}` (whole), `${below:a,b,x,y}` (x where a < b, else y), `${r1_gamma:resolution,batch}` (StyleGAN2-ADA's
rule, 0.0002 · resolution² / batch), `${outputs:}` (the run folder), `${fastest_precision:accelerator}`, `${run_name:}`,
`${sweep_name:}` (null for a run that belongs to none), `${job_folder:words}`. None reads the environment or a file.
"""


def main(verb: Callable[[DictConfig], int], config: str) -> None:
    """Compose `config` from the command line, do the verb's work in it, exit with its status.

    Exit status: 0 done, 1 the training failed, 2 a mistake of the user's (each in one line, nothing left behind),
    128 + n stopped by signal n. A sweep ends with the status of its jobs (see `sweeps`).
    """
    before = signals.handle(signals.stop)
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # waiting threads leave the cores to others; read when torch loads
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here as exceptions
    logging.raiseExceptions = False  # on a full disk each line of each log, W&B's among them, would print a traceback
    if world.sweep():
        sweeps.follow(world.sweep())
    try:
        code = _sweep(verb, config) if config == "run" and sweeps.is_one(sys.argv[1:]) else _command(verb, config)
    except signals.Stopped as error:
        signals.requeue(error.number)
        signals.say(f"{signal.Signals(error.number).name}: stopped")
        code = 128 + error.number
    finally:
        run_folder.undo()
        signals.give_back(before)
    sys.exit(code)


def _command(verb: Callable[[DictConfig], int], config: str) -> int:
    """Do one command; its exit status."""
    trains = config == "run"
    status: list[int] = []

    def job(cfg: DictConfig) -> None:
        try:
            status.append(_single(verb, cfg, config))
        except (ConfigError, TrainingFailure, OSError) as error:  # Hydra would add a line
            known = run_folder.mistake(error)
            if known is None or HydraConfig.get().mode == RunMode.MULTIRUN:  # the latter of a verb that does not train
                raise
            raise SystemExit(_answer(known)) from error

    try:
        if trains:
            sys.argv[1:] = [*resume.command_line(sys.argv[1:]), *world.words()]
        _through_hydra(job, config)
        return max(status, default=0)
    except BrokenPipeError:  # `| head` has read enough; in a training it may be a worker that died
        if trains:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except _MISTAKES as error:
        return _mistaken(error, config)
    except (OSError, ValueError) as error:  # of Hydra, whose folder or log cannot be written
        return _not_written(error)


def _sweep(verb: Callable[[DictConfig], int], config: str) -> int:
    """Do the jobs of a sweep; its exit status."""
    sweep: sweeps.Sweep | None = None
    try:
        world.require_alone()
        sweep, sys.argv[1:] = sweeps.Sweep.of(sys.argv)
        started = sweep
        _through_hydra(lambda cfg: started.job(verb, cfg), config)
        code = 0
    except _MISTAKES as error:
        code = _mistaken(error, config)
    except OSError as error:
        if sweep is None or sweep.folder is not None:  # not Hydra, which could not make the folder
            raise
        code = _not_written(error)
    except BaseException as error:
        if sweep is None:
            raise
        code = sweep.broken_off(error)
    return sweep.close(code) if sweep is not None else code


_MISTAKES = (ConfigError, TrainingFailure, HydraException, OmegaConfBaseException)


def _through_hydra(job: Callable[[DictConfig], Any], config: str) -> None:
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config)(job)()
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise
        raise ConfigError(_no_choice(config)) from error


def _mistaken(error: Exception, config: str) -> int:
    """Print the line of a mistake; the exit status."""
    if isinstance(error, (ConfigError, TrainingFailure)):
        return _answer(error)
    print(_explain(error, config), file=sys.stderr)
    return 2


def _not_written(error: Exception) -> int:
    """Print the line about a disk that does not take a file; raises any other error again."""
    known = run_folder.mistake(error)
    if known is None:
        raise error
    return _answer(known)


def _stays(cfg: DictConfig, folder: Path) -> bool:
    """Say whether the run in a folder is left as it is; every rank hears what the first one has found.

    Raises ConfigError where it is not said what is to become of it.
    """

    def decide() -> str:
        try:
            kept = not resume.goes_on(cfg) and run_folder.stays(folder, cfg.existing)
        except ConfigError as error:
            return str(error)
        return "kept" if kept else "begin"

    found = world.agreed("existing", decide)
    if found not in ("kept", "begin"):
        raise ConfigError(found)
    return found == "kept"


def keys_gone(cfg: DictConfig, config: str) -> Iterator[str]:
    """A line for each key of a verb's own config that a word with ~ took out of it."""
    for key in yaml.safe_load((conf_dir() / f"{config}.yaml").read_text()):
        if key not in (*cfg, "defaults", "hydra"):
            yield f"{key} is not there: leave out ~{key}"


def _single(verb: Callable[[DictConfig], int], cfg: DictConfig, config: str) -> int:
    """Do the one job of a command; its exit status.

    In a process that a sweep has started for one of its jobs, what went wrong stays in the folder.
    """
    if gone := [*keys_gone(cfg, config)]:
        raise ConfigError(*gone)
    if config not in ("run", "explore"):  # explore's groups come from its run
        from gan_experiments import options

        options.require(cfg, config)
    trains, folder = config == "run" and not cfg.check, Path(_output_dir())
    run_folder.take_note(cfg)
    if trains and _stays(cfg, folder):
        return 0
    with run_folder.held(folder) if trains else contextlib.nullcontext():
        if world.sweep():
            status, message = run_folder.attempt(lambda: verb(cfg), folder)
            if message and run_folder.first_rank():
                print(f"{folder.name}: {message}", file=sys.stderr, flush=True)
            return status
        try:
            return verb(cfg)
        except Exception as error:
            known = run_folder.mistake(error)
            if known is None:
                raise
            raise known from error


def _answer(error: ConfigError | TrainingFailure) -> int:
    """Print the line; the exit status."""
    if run_folder.first_rank():
        print(error, file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def nearest(word: str, known: list[str]) -> str:
    """' (did you mean X?)' with the known word that is most like `word`; nothing where none is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _explain(error: Exception, config: str) -> str:
    """One line for an error in the composition of the config."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if name in PLUGINS and group == "hydra/launcher":
            return f"{name} is not installed: type pip install 'gan-experiments[sweep]'"
        options = error.options or sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        known = [option for option in options if not option.startswith("_")]
        return (
            f"{group}={name}: there is no such {group}{nearest(name, known)}; type {group}= one of {', '.join(known)}"
        )
    for word in (word for word in sys.argv[1:] if not word.startswith("-")):
        try:
            if "=" not in word and not word.startswith("~"):
                continue
            override = OverridesParser.create().parse_overrides([word])[0]
        except HydraException:
            return f"{word}: not understood; type key=value, with quotes around a value that has spaces or = in it"
        key = override.key_or_group
        if f"'{key}'" in str(error) or f"full_key: {key}" in str(error):
            known = _keys(config, without=word)
            if key not in known:
                return _no_such_key(key, known)
    bare = [word for word in sys.argv[1:] if "=" not in word and word[0] not in "-~"]
    if isinstance(error, OverrideParseException) and bare:
        return f"{bare[0]}: not understood; type key=value"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _no_choice(config: str) -> str:
    """One line about a group that was set to null."""
    usual = {key: value for entry in _defaults(config) for key, value in entry.items()}
    empty = [resume.key_of(word) for word in sys.argv[1:] if word.partition("=")[2].strip() in ("null", "")]
    for group in (key for key in empty if key in usual):
        known = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        choice = "none" if "none" in known else usual[group]
        return f"{group}=null: a choice is needed; " + (f"type {group}={choice}" if choice else "leave it out")
    return "a group is set to null, and a choice is needed"


def _defaults(config: str) -> list[Any]:
    entries = yaml.safe_load((conf_dir() / f"{config}.yaml").read_text())["defaults"]
    return [entry for entry in entries if isinstance(entry, dict)]


def _keys(config: str, without: str) -> list[str]:
    """Every key of the config that the rest of the command line composes."""
    GlobalHydra.instance().clear()
    others = [word for word in sys.argv[1:] if "=" in word and word != without and not word.startswith("hydra.")]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for overrides in (others, []):
            try:
                composed = hydra.compose(config, overrides=overrides)
            except (HydraException, OmegaConfBaseException):
                continue
            groups = [path.name for path in conf_dir().iterdir() if path.is_dir()]
            return [*groups, *_flatten(OmegaConf.to_container(composed), "")]
    return []


def _no_such_key(key: str, known: list[str]) -> str:
    """One line about a key that is none of those known: the choices that would have it, or one that is like it."""
    group, _, rest = key.partition(".")
    files = sorted((conf_dir() / group).glob("*.yaml")) if rest else []
    having = [path.stem for path in files if rest in _flatten(yaml.safe_load(path.read_text()), "")]
    if having:
        names = f"[{having[0]}]" if group == "technique" else f" one of {', '.join(having)}"
        return f"{key}: what was chosen has no such key; type {group}={names} to have it"
    where, _, last = key.rpartition(".")
    siblings = {k[len(where) + 1 :] if where else k for k in known if k.rpartition(".")[0] == where}
    near = nearest(last, sorted(siblings)) or nearest(key, known)
    return f"{key}: there is no such key{near}; `--cfg job` prints them all"


def _flatten(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flatten(value, f"{prefix}{key}.")]
    return keys


register_resolvers()  # on import, so that a sweep's workers know them too
