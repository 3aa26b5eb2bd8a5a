"""The study of `sweep=optuna`, on disk in the sweep's folder: what is done, what goes on, what is left."""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, open_dict, read_write
from optuna.trial import TrialState

from gan_experiments import run_folder, scoring, sweeps
from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.names import higher_is_better


def take_up(config: DictConfig, only_checked: bool) -> None:
    """Make Hydra's optuna sweeper go on with the study in the sweep's folder: only the trials that are left.

    An interrupted trial is tried again with the same values, so that it goes on in its own folder.
    """
    here, missing = scoring.settled(config)
    if not here.metrics or "scores" not in config.callbacks:
        off = "callbacks=none" if here.metrics else missing or "metrics=none"
        raise ConfigError(f"{off}: sweep=optuna has no score to go by; type metrics=digits or metrics=inception")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper._impl").addFilter(
        lambda record: not record.getMessage().startswith("Failed experiment")  # the job has said why
    )
    sweeper = config.hydra.sweeper
    with read_write(config), open_dict(config):
        sweeper.direction = "maximize" if higher_is_better(here.metrics.scores[0]) else "minimize"
        if only_checked:
            sweeper.storage, sweeper.n_trials = None, 1
            return
        if not sweeper.storage:
            return
        study = optuna.create_study(
            study_name=sweeper.study_name, storage=sweeper.storage, direction=sweeper.direction, load_if_exists=True
        )
        done, again = _take_stock(study, Path(config.hydra.sweep.dir))
        if done or again:
            goes_on = f", {again} interrupted, to go on" if again else ""
            print(f"study.db: {done} of {sweeper.n_trials} trials done{goes_on}", flush=True)
        sweeper.n_trials = max(0, sweeper.n_trials - done)
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += done  # or the same values would be drawn again


def _take_stock(study: Any, folder: Path) -> tuple[int, int]:
    """The trials that are done, and those that were interrupted: these wait in the study for another go."""

    def place(trial: Any) -> Path:
        return folder / sweeps.job_folder(
            [f"{key}={value}" for key, value in {**trial.params, **trial.user_attrs}.items()]
        )

    trials = study.get_trials(deepcopy=False)
    complete = [place(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    waiting = [trial.system_attrs.get("fixed_params") for trial in trials if trial.state == TrialState.WAITING]
    failed: set[Path] = set()
    again: dict[Path, dict[str, Any]] = {}
    for trial in trials:
        where = place(trial)
        if trial.state not in (TrialState.RUNNING, TrialState.FAIL):
            continue
        if trial.state == TrialState.RUNNING:
            try:
                with run_folder.held(where) if where.exists() else contextlib.nullcontext():
                    study.tell(trial.number, state=TrialState.FAIL)
            except run_folder.Busy:
                continue
        ended = run_folder.outcome(where)
        if where in complete or not trial.params:
            continue
        if ended is not None and ended.status == "failed":
            failed.add(where)
        else:
            again[where] = trial.params
    for params in again.values():
        if params not in waiting:
            study.enqueue_trial(params)
    return len(complete) + len(failed), len(again)
