"""What every verb does around its work: find the configs, compose them, and answer a mistake with one line.

Nothing here imports torch, so that `--help` and a misspelt name answer at once.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments import resume
from gan_experiments.contracts import ConfigError, TrainingFailure


def conf_dir() -> Path:
    """The folder of the configs: the repository's `conf/`, else the copy in the installed package."""
    package = Path(__file__).resolve().parent
    repository = package.parents[1] / "conf"
    return repository if repository.is_dir() else package / "conf"


def register_resolvers() -> None:
    """Teach the configs `${times:a,b}` (whole), `${outputs:}` (the run folder), `${fastest_precision:accelerator}`."""
    OmegaConf.register_new_resolver("times", lambda a, b: round(float(a) * float(b)), replace=True)
    OmegaConf.register_new_resolver("outputs", _output_dir, replace=True)
    OmegaConf.register_new_resolver("fastest_precision", _fastest_precision, replace=True)


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


def main(verb: Callable[[DictConfig], int], config: str) -> None:
    """Compose `config` from the command line, do the verb's work in it, exit with its status.

    Exit status: 0 done, 1 the training failed, 2 a mistake of the user's (each in one line, nothing left behind),
    128 + n stopped by signal n.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # waiting threads leave the cores to others; read when torch loads
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here as exceptions
    register_resolvers()
    status: list[int] = []

    def job(cfg: DictConfig) -> None:
        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        folder = Path(_output_dir())
        status.append(0)
        try:
            status[-1] = verb(cfg)
            if cfg.get("check"):
                _forget(folder)
        except (ConfigError, TrainingFailure, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise
            if sweeping:
                raise
            if not isinstance(error, TrainingFailure):
                _forget(folder)
            raise SystemExit(_answer(error)) from error

    try:
        sys.argv[1:] = resume.command_line(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config)(job)()
    except (ConfigError, TrainingFailure) as error:
        sys.exit(_answer(error))
    except (HydraException, OmegaConfBaseException) as error:
        print(_explain(error, config), file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if status:  # not Hydra, which could not make the folder, but the verb
            raise
        print(
            f"the run folder cannot be made ({error.strerror}: {error.filename}); type hydra.run.dir=...",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(max(status, default=0))


def _answer(error: ConfigError | TrainingFailure | OSError) -> int:
    if isinstance(error, OSError):
        where = error.filename2 or error.filename or "the run folder"
        error = ConfigError(f"no space left on the device that holds {where}: free some and type the command again")
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        print(error, file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _forget(folder: Path) -> None:
    """Remove what a run that has not begun left in its folder, and the folder with it; nothing of anyone else's."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # the first rank of the machine tidies up
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in files]
    if not all(name.startswith(".hydra/") or name in ("run.log", "wandb/run-id") for name in names):
        return  # `hydra.run.dir=` can name any folder, and an earlier run's
    for path in files:
        path.unlink()
    for path in (folder / ".hydra", folder / "wandb", folder, *folder.parents[:2]):  # the day's folder, if now empty
        if path != Path.cwd() and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def nearest(word: str, known: list[str]) -> str:
    """' (did you mean X?)' with the known word that is most like `word`; nothing where none is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _explain(error: Exception, config: str) -> str:
    """One line for an error in the composition of the config."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = [option for option in error.options or [] if not option.startswith("_")]
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
                where, _, last = key.rpartition(".")
                siblings = {k[len(where) + 1 :] if where else k for k in known if k.rpartition(".")[0] == where}
                near = nearest(last, sorted(siblings)) or nearest(key, known)
                return f"{key}: there is no such key{near}; `--cfg job` prints them all"
    bare = [word for word in sys.argv[1:] if "=" not in word and word[0] not in "-~"]
    if isinstance(error, OverrideParseException) and bare:
        return f"{bare[0]}: not understood; type key=value"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


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


def _flatten(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flatten(value, f"{prefix}{key}.")]
    return keys
