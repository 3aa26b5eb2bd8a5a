"""Convert weights of NVIDIA's StyleGAN2-ADA or EG3D to a run: `gan-experiments convert weights=ffhq.pkl`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gan_experiments.runs import configs

if TYPE_CHECKING:
    from gan_experiments.engine.module import AdversarialModule


def convert(cfg: DictConfig) -> int:
    """Write a run folder of model=stylegan2 or model=eg3d with the weights of a file, as if trained here. Return 0."""
    from gan_experiments import files
    from gan_experiments.assembly import build, check, report
    from gan_experiments.conditions import Cameras
    from gan_experiments.contracts import ConfigError
    from gan_experiments.official import eg3d, stylegan2
    from gan_experiments.official import files as official
    from gan_experiments.runs import resume

    check.require_options(cfg, "convert")
    path = Path(cfg.weights)
    folder = files.place(cfg.out, Path("outputs") / path.stem, cfg.existing)
    if not resume.to_make(folder, cfg.existing):
        print(f"{report.shown(folder)} is there already, and kept")
        return 0
    networks = official.read(path, "weights")
    try:
        average, judge = networks.get("G_ema", networks.get("G")), networks.get("D")
        assert average is not None, "read() has seen to it"
        scenes = eg3d.is_one(average)
        family = eg3d if scenes else stylegan2
        settings = family.settings(average, judge)
        states = {"averages.generator.network": family.generator(average)}
        states["generator"] = family.generator(networks.get("G", average))
        if judge is not None:
            states["discriminator"] = family.discriminator(judge, settings["data.resolution"])
    except ConfigError as error:
        raise ConfigError(*(f"weights={cfg.weights}: it {fault}" for fault in error.faults)) from error
    choices = ["model=eg3d", "data=posed"] if scenes else ["model=stylegan2", "data=folder"]
    model = build.build_model(_config(choices, settings, folder))
    if scenes:
        model.data_conditions = Cameras(eg3d.camera(average))
    for place, state in states.items():
        model.get_submodule(place).load_state_dict(state)
    resume.write(_checkpoint(model), folder)
    sizes = [f"{name} {number:,}" for name, number in build.parameters(model).items() if name in states]
    print(f"{report.shown(folder)}  ({', '.join(sizes)})")
    return 0


def _config(choices: list[str], settings: dict[str, Any], folder: Path) -> DictConfig:
    """Return the config of a run of these choices of a model and data with these settings."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()  # it is done: this verb's own config is composed
    words = [f"{key}={value}" for key, value in settings.items()]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        composed = hydra.compose("run", overrides=[*choices, "metrics=none", *words])
    composed.output = str(folder)
    return composed


def _checkpoint(model: AdversarialModule) -> dict[str, Any]:
    """Return the checkpoint that a training would save of the model before its first image."""
    import lightning as L

    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "pytorch-lightning_version": L.__version__}
    checkpoint |= {"epoch": 0, "global_step": 0}
    model.on_save_checkpoint(checkpoint)
    return checkpoint
