"""The search of `sweep=optuna`: a Hydra sweeper that asks optuna for values, launches jobs and reports their scores.

The study is kept in the sweep's folder, so that the same command continues it. Hydra imports this file before every
command, through `hydra_plugins/`. Therefore optuna and torch are imported only when a search begins.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.launch import sweeps
from gan_experiments.runs import names, run_folder

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial


class Search(Sweeper):
    """A search for the values with the best first score, `n_jobs` trials at a time until `n_trials` are done.

    The keys to search are those of `params` and of the command's words that have several values, an interval or a
    range. `storage` is the URL of the study's database; without one the study is not kept. `direction` is "minimize",
    "maximize" or None, for the better direction of the score.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self,
        study_name: str,
        storage: str | None,
        direction: str | None,
        n_trials: int,
        n_jobs: int,
        sampler: DictConfig,
        params: DictConfig | None,
    ) -> None:
        self.study_name, self.storage, self.direction = study_name, storage, direction
        self.n_trials, self.n_jobs, self.sampler = n_trials, n_jobs, sampler
        self.params = [f"{key!s}={value}" for key, value in (params or {}).items()]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra passes, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are left; with `check=true` a single one, which is not kept.

        An interrupted trial is tried again with the same values, so that it continues in its own folder. A failed trial
        counts as done and does not stop the others. Raises ConfigError if optuna is not installed or a setting is
        invalid.
        """
        start = sweeps.Sweep.current
        assert start is not None
        try:
            import optuna
        except ImportError as error:
            raise ConfigError("optuna is not installed: type pip install 'optuna>=4,<5'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        direction = self._direction()
        self._sampler(0)  # so that its error comes before the study begins
        space, fixed = self._space([*self.params, *arguments])
        self._require_composed(space, fixed)
        wanted, done, launched, failed = (1 if start.check else self.n_trials), 0, 0, False
        if start.check or not self.storage:
            study = optuna.create_study(direction=direction)
        else:
            study = self._open(self.storage, direction)
            done = self._take_stock(study, space)
        while done < wanted and not start.asked_to_stop():
            study.sampler = self._sampler(done)
            trials = [_asked(study, space, fixed) for _ in range(min(self.n_jobs, wanted - done))]
            words = [_words(trial.params, fixed) for trial in trials]
            returned: Sequence[JobReturn] = self.launcher.launch(words, initial_job_idx=launched)
            done, launched = done + len(trials), launched + len(trials)
            for trial, job in zip(trials, returned, strict=True):
                score = _score(job)
                failed = failed or score is None
                if not _told(study, trial.number, score):
                    done = wanted
        if not start.check and not start.asked_to_stop():
            self._conclude(study, failed)

    def _direction(self) -> str:
        """Return the direction of the search. Raises ConfigError if a setting is invalid or there is no score."""
        for key, count in {"n_trials": self.n_trials, "n_jobs": self.n_jobs}.items():
            if type(count) is not int or count < 1:
                raise ConfigError(f"hydra.sweeper.{key}={count}: a whole number is needed; type hydra.sweeper.{key}=1")
        if self.direction not in (None, "minimize", "maximize"):
            raise ConfigError(f"hydra.sweeper.direction={self.direction}: type minimize or maximize, or leave it out")
        better = better_direction(self.config)
        return self.direction or better

    def _space(self, words: list[str]) -> tuple[dict[str, BaseDistribution], dict[str, str]]:
        """Return the searched keys with their distributions, and the others with their values; later words win."""
        space: dict[str, BaseDistribution] = {}
        fixed: dict[str, str] = {}
        for word in OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words):
            key = word.get_key_element()
            space.pop(key, None)
            fixed.pop(key, None)
            if word.is_sweep_override():
                space[key] = _distribution(word)
            else:
                fixed[key] = word.get_value_element_as_str()
        if not space:
            raise ConfigError("sweep=optuna has nothing to search: type for example model.generator.width=16,32")
        return space, fixed

    def _require_composed(self, space: dict[str, Any], fixed: dict[str, str]) -> None:
        """Compose configs that together have every choice, so that Hydra raises its errors before the first trial."""
        values = [getattr(among, "choices", None) or [among.low] for among in space.values()]
        for index in range(max(map(len, values))):
            chosen = {key: each[min(index, len(each) - 1)] for key, each in zip(space, values, strict=True)}
            self.validate_batch_is_legal([_words(chosen, fixed)])

    def _open(self, url: str, direction: str) -> Study:
        """Open the study on disk, or create it.

        Raises ConfigError if its database cannot be opened, is of another version of optuna, or has another direction.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        try:
            storage = optuna.storages.RDBStorage(url, skip_compatibility_check=True)
            known, current = storage.get_all_versions(), storage.get_current_version()
            if current != storage.get_head_version():
                upgrade = f"optuna storage upgrade --storage {shlex.quote(url)}"
                how = upgrade if current in known else "pip install --upgrade optuna"
                raise ConfigError(f"{url} was written by another version of optuna: type {how}")
            study = optuna.create_study(
                study_name=self.study_name, storage=storage, direction=direction, load_if_exists=True
            )
        except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError) as error:
            why = str(error).strip().splitlines()[0].rstrip(".")
            others = "hydra.sweep.dir= another folder or hydra.sweeper.storage= another database"
            raise ConfigError(f"{url} cannot be opened ({why}): type {others}") from error
        if study.direction.name.lower() != direction:
            raise ConfigError(
                f"{url} holds a search to {study.direction.name.lower()} and this is one to {direction}:"
                " type hydra.sweep.dir= another folder"
            )
        return study

    def _take_stock(self, study: Study, space: dict[str, BaseDistribution]) -> int:
        """Return the number of trials that are done, and put interrupted ones in the study's queue again."""
        from optuna.distributions import check_distribution_compatibility
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        for key, before in ((key, trial.distributions[key]) for trial in trials for key in trial.distributions):
            try:
                check_distribution_compatibility(before, space.get(key, before))
            except ValueError as error:
                raise ConfigError(
                    f"{key} was searched in {before} and is now in {space[key]}: type hydra.sweep.dir= another folder"
                ) from error
        complete = [self._folder(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        waiting = [trial.system_attrs.get("fixed_params") for trial in trials if trial.state == TrialState.WAITING]
        failed: set[Path] = set()
        again: dict[Path, dict[str, Any]] = {}
        for trial in trials:
            folder = self._folder(trial)
            if trial.state not in (TrialState.RUNNING, TrialState.FAIL):
                continue
            if trial.state == TrialState.RUNNING:
                try:
                    with run_folder.held(folder) if folder.exists() else contextlib.nullcontext():
                        _told(study, trial.number, None)
                except run_folder.Busy:
                    continue
            ended = run_folder.outcome(folder)
            if folder in complete or not trial.params:
                continue
            if ended is not None and ended.status == "failed":
                failed.add(folder)
            else:
                again[folder] = trial.params
        for params in again.values():
            if params not in waiting:
                study.enqueue_trial(params)
        done = len(complete) + len(failed)
        if done or again:
            goes_on = f", {len(again)} interrupted, to go on" if again else ""
            print(f"study.db: {done} of {self.n_trials} trials done{goes_on}", flush=True)
        return done

    def _folder(self, trial: FrozenTrial) -> Path:
        return Path(self.config.hydra.sweep.dir) / names.job_folder(_words(trial.params, trial.user_attrs))

    def _sampler(self, done: int) -> Any:
        """Make a new sampler, seeded by the number of trials done, so that an interrupted search draws the same."""
        seed = self.sampler.get("seed")
        try:
            return instantiate(self.sampler, **({} if seed is None else {"seed": seed + done}))
        except InstantiationException as error:
            why = " ".join(str(error.__cause__ or error).split())
            known = "hydra.sweeper.sampler._target_=optuna.samplers.TPESampler"
            raise ConfigError(f"hydra.sweeper.sampler={self.sampler}: {why}; type for example {known}") from error

    def _conclude(self, study: Study, failed: bool) -> None:
        """Write the best values into the sweep's folder; print that there are none if no trial has a score.

        Raises TrainingFailure instead if none of those trials failed.
        """
        from optuna.trial import TrialState

        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            nothing = "no trial has a score: there is no best one"
            if not failed:
                raise TrainingFailure(nothing)
            print(nothing, file=sys.stderr)  # the sweep ends with the status of those that failed
            return
        best = {"name": "optuna", "best_params": study.best_params, "best_value": study.best_value}
        OmegaConf.save(OmegaConf.create(best), Path(self.config.hydra.sweep.dir) / "optimization_results.yaml")


def better_direction(config: DictConfig) -> str:
    """Return the better direction of the first score. Raises ConfigError if there is no score."""
    from gan_experiments.assembly import scoring
    from gan_experiments.metrics.names import higher_is_better

    here, missing = scoring.settled(config)
    if not here.metrics or "scores" not in config.callbacks:
        off = "callbacks=none" if here.metrics else missing or "metrics=none"
        raise ConfigError(f"{off}: sweep=optuna has no score to go by; type metrics=digits or metrics=inception")
    return "maximize" if higher_is_better(here.metrics.scores[0]) else "minimize"


def _distribution(word: Override) -> BaseDistribution:
    """Return the distribution of a word in Hydra's grammar.

    It draws integers if both ends are integers. A range does not include its end.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = word.value()
    try:
        if word.is_interval_sweep():
            low, high, step = value.start, value.end, None
        elif word.is_range_sweep() and not value.shuffle:
            numbers = sorted(value.range())
            low, high, step = numbers[0], numbers[-1], abs(value.step)
        else:
            each: Any = word.sweep_iterator()
            return CategoricalDistribution([x if isinstance(x, (int, float)) else Transformer.str(x) for x in each])
        log = "log" in value.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log, step=step or 1)
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except (ValueError, IndexError) as error:
        key = word.get_key_element()
        raise ConfigError(
            f"{word.input_line}: {error}; type for example {key}='interval(1, 2)' or {key}=1,2"
        ) from error


def _asked(study: Study, space: dict[str, BaseDistribution], fixed: dict[str, str]) -> Trial:
    """Ask the study for a trial's values. Raises ConfigError if the sampler cannot search such a space."""
    try:
        trial = study.ask(space)
    except ValueError as error:
        raise ConfigError(f"hydra.sweeper.sampler: {error}; type another hydra.sweeper.sampler._target_=") from error
    for key, value in fixed.items():
        trial.set_user_attr(key, value)
    return trial


def _words(params: dict[str, Any], fixed: dict[str, Any]) -> list[str]:
    """Return the words of a trial's job."""
    return [f"{key}={value}" for key, value in {**params, **fixed}.items()]


def _score(job: JobReturn) -> float | None:
    """Return the score that a job has returned; None if it failed or has none."""
    try:
        score = job.return_value
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return None
    return None if score is None or math.isnan(score) else float(score)


def _told(study: Study, number: int, score: float | None) -> bool:
    """Report the score of a trial to the study, None for a failure; return False if nothing is left to try."""
    from optuna.trial import TrialState

    try:
        study.tell(number, score, state=TrialState.FAIL if score is None else TrialState.COMPLETE)
    except RuntimeError:  # an exhausted sampler calls study.stop(), which fails outside optuna's own loop
        if not study.trials[number].state.is_finished():
            raise
        return False
    return True
