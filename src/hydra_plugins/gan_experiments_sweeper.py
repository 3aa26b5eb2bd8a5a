"""Where Hydra finds the sweeper of `sweep=optuna`: it takes sweepers from this namespace package alone."""

from hydra.core.config_store import ConfigStore

from gan_experiments.launch.study import Search


class OptunaSweeper(Search):
    """The search of `gan_experiments.launch.study`; conf/sweep/optuna.yaml has its settings."""


ConfigStore.instance().store(
    group="hydra/sweeper", name="ask_and_tell", node={"_target_": f"{__name__}.OptunaSweeper", "_recursive_": False}
)
