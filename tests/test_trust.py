"""Files of others run nothing: what a config or words out of a file may name, over every verb that opens one."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import joblib
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support import small, train

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import configs, resolvers, resume, trust
from gan_experiments.verbs import compare, evaluate, explore, sample, translate, usefulness


class Malice:
    """A pickle that makes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _pickled(folder: Path, marker: Path) -> Path:
    path = folder / "evil.pkl"
    path.write_bytes(pickle.dumps(Malice(marker)))
    return path


def _array(folder: Path, marker: Path) -> Path:
    np.save(folder / "evil.npy", np.array([Malice(marker)], dtype=object), allow_pickle=True)
    return folder / "evil.npy"


def _dumped(folder: Path, marker: Path) -> Path:
    joblib.dump(Malice(marker), folder / "evil.joblib")
    return folder / "evil.joblib"


def _saved(folder: Path, marker: Path) -> Path:
    torch.save(Malice(marker), folder / "evil.pt")
    return folder / "evil.pt"


def _hub(folder: Path, marker: Path) -> Path:
    (folder / "hub").mkdir()
    (folder / "hub" / "hubconf.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\nevil = dict\n"
    )
    return folder / "hub"


HOSTILE: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "sympify": lambda folder, marker: {
        "_target_": "sympy.sympify",
        "_args_": [f"__import__('pathlib').Path({str(marker)!r}).touch()"],
    },
    "torch_load": lambda folder, marker: {
        "_target_": "torch.load",
        "f": str(_saved(folder, marker)),
        "weights_only": False,
    },
    "joblib": lambda folder, marker: {"_target_": "joblib.load", "filename": str(_dumped(folder, marker))},
    "numpy": lambda folder, marker: {
        "_target_": "numpy.load",
        "file": str(_array(folder, marker)),
        "allow_pickle": True,
    },
    "hub": lambda folder, marker: {
        "_target_": "torch.hub.load",
        "repo_or_dir": str(_hub(folder, marker)),
        "model": "evil",
        "source": "local",
    },
    "write_text": lambda folder, marker: {
        "_target_": "pathlib.Path.write_text",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(marker)]}, "x"],
    },
    "copy": lambda folder, marker: {"_target_": "shutil.copy", "src": __file__, "dst": str(marker)},
    "symlink": lambda folder, marker: {"_target_": "os.symlink", "src": __file__, "dst": str(marker)},
    "by_our_own_module": lambda folder, marker: {
        "_target_": "gan_experiments.networks.dcgan.torch.load",
        "f": str(_saved(folder, marker)),
        "weights_only": False,
    },
    "by_a_module_of_ours_that_runs_things": lambda folder, marker: {
        "_target_": "gan_experiments.launch.sweeps.shutil.copy",
        "src": __file__,
        "dst": str(marker),
    },
    "by_torch_nn": lambda folder, marker: {
        "_target_": "torch.nn.modules.module.torch.load",
        "f": str(_saved(folder, marker)),
        "weights_only": False,
    },
    "unpickler_of_ours": lambda folder, marker: {
        "_target_": "gan_experiments.loggers.wandb_run.WandbRun",
        "folder": str(marker),
        "project": "x",
    },
    "writer_of_ours": lambda folder, marker: {
        "_target_": "gan_experiments.data.photos.write_photo",
        "path": str(marker),
    },
    "a_target_that_is_put_together": lambda folder, marker: {
        "_target_": "${model.a}${model.b}",
        "src": __file__,
        "dst": str(marker),
    },
}
"""Nodes of a config that make a marker, if anything makes them."""
INTO = {"a": "shutil.", "b": "copy"}  # of the last


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small model with the data beside it."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    train(small(folder, "cdcgan", "metrics=digits", "metrics.num_fake=8"), every=16)
    checkpoint = resume.load(folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(checkpoint["gan_experiments"]["config"])))
    (folder / "metrics.csv").write_text("images\n16\n")
    return folder


Change = Callable[[dict[str, Any]], None]


def forged(honest: Path, folder: Path, change: Change) -> Path:
    """The run again, with what `change` does to what its checkpoint says of it, in its config.yaml too."""
    shutil.copytree(honest, folder)
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint["gan_experiments"])
    torch.save(checkpoint, path)
    config = OmegaConf.create(checkpoint["gan_experiments"]["config"])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return folder


def within(key: str, node: Any, **more: Any) -> Change:
    """Put a node at a key of the config."""

    def change(saved: dict[str, Any]) -> None:
        place = saved["config"]
        *way, last = key.split(".")
        for part in way:
            place = place[part]
        place[last] = node
        saved["config"]["model"] |= more

    return change


@cache
def _composed(name: str, *words: str) -> Any:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose(name, list(words))


def verb(name: str, *words: str) -> int:
    """A verb in this process."""
    known = {v.__name__.rpartition(".")[2]: v for v in (compare, evaluate, explore, sample, translate, usefulness)}
    cfg = copy.deepcopy(_composed(name, *[word for word in words if word.startswith("what=")]))
    return getattr(known[name], name)(
        OmegaConf.merge(cfg, OmegaConf.from_dotlist([word for word in words if not word.startswith("what=")]))
    )


OPEN: dict[str, Callable[[Path, Path], list[str]]] = {
    "sample": lambda run, out: [f"run={run}", "n=1", f"out={out}", "device=cpu"],
    "evaluate": lambda run, out: [f"run={run}", f"out={out}", "device=cpu"],
    "explore": lambda run, out: [f"run={run}", "what=truncation", f"out={out}", "device=cpu"],
    "translate": lambda run, out: [f"run={run}", f"images={out.parent}", f"out={out}", "device=cpu"],
    "usefulness": lambda run, out: [f"run={run}", f"out={out}", "device=cpu", "steps=1", "seeds=1"],
    "compare": lambda run, out: [f"runs=[{run}]", f"out={out}"],
}
"""What each verb that opens a run is typed."""


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_config_in_a_file_makes_nothing_but_what_it_may(
    honest: Path, tmp_path: Path, hostile: str, name: str
) -> None:
    marker = tmp_path / "marker"
    node = HOSTILE[hostile](tmp_path, marker)
    run = forged(honest, tmp_path / "theirs", within("model.generator.width", node, **INTO))
    with pytest.raises(ConfigError) as refused:
        verb(name, *OPEN[name](run, tmp_path / "out"))
    assert not os.path.lexists(marker)
    named = "shutil.copy" if "put_together" in hostile else node["_target_"]
    (line,) = [line for line in refused.value.faults if named in line]
    assert "model.generator.width._target_" in line
    assert f"type trust={named.rpartition('.')[0]}" in line


@pytest.mark.parametrize("name", OPEN)
def test_a_config_in_a_file_reads_no_environment(
    honest: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "geheim")
    run = forged(honest, tmp_path / "theirs", within("data.root", "${oc.env:SECRET}"))
    with pytest.raises(
        ConfigError, match=r"reads \$\{oc.env:SECRET\} \(at data.root\), which a file may not"
    ) as refused:
        verb(name, *OPEN[name](run, tmp_path / "out"))
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET,x}",
        "a/${ oc.env : SECRET }/b",
        "${${which}.env:SECRET}",
        "${oc.${which}:SECRET}",
        "${below:1,2,${oc.env:SECRET},0}",
        "${below:1,2,{a: ${oc.env:SECRET}},0}",
        "${below:1,2,{_target_: os.system},0}",
        "${dollar}{oc.env:SECRET}",
        "\\${oc.env:SECRET}",
        "${oc.decode:SECRET}",
        "${oc.create:{_target_: os.system}}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
    ],
)
def test_no_way_of_writing_it_reads_more(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "geheim")
    config = {"which": "oc", "dollar": "$", "data": {"root": text}}
    with pytest.raises(ConfigError) as refused:
        build.from_plain(config, tmp_path, "run=x: its config")
    assert "geheim" not in str(refused.value)


def test_our_own_resolvers_and_keys_are_read(tmp_path: Path) -> None:
    assert set(resolvers.RESOLVERS) == trust.RESOLVERS
    config = {"width": 2, "twice": "${times:2,${width}}", "data": {"root": "${output}/x", "side": "${below:1,2,3,4}"}}
    cfg = build.from_plain(config, tmp_path, "run=x: its config")
    assert (cfg.twice, cfg.data.root, cfg.data.side) == (4, f"{tmp_path}/x", 3)


def _targets(node: Any, where: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "_target_":
            if value != "???":  # a class of a person's own, which is typed
                yield f"{where}._target_", value
        elif isinstance(value, dict | list):
            yield from _targets(value, f"{where}.{key}")


OF_CONF = sorted(
    {
        found
        for path in configs.conf_dir().glob("*/*.yaml")
        if path.parent.name not in ("what", "sweep")  # what is explored is typed; a sweep's is Hydra's
        for found in _targets(
            OmegaConf.to_container(OmegaConf.load(path)),
            "trainer" if path.parent.name == "trainer" else path.parent.name,
        )
    }
)


def test_a_config_in_a_file_may_name_all_that_our_own_configs_name() -> None:
    refused = [(where, name) for where, name in OF_CONF if not trust._allowed(name, where, ())]
    assert len(OF_CONF) > 100
    assert not refused


@pytest.mark.parametrize(
    "word",
    [
        "+x={_target_: os.system}",
        "model._target_=os.system",
        "model.generator={a: [{b: {_target_: shutil.copy}}]}",
        "model.techniques=[{_target_: sympy.sympify}]",
        "model._target_=${data.name}",
        "data.root=${oc.env:SECRET}",
        "data.root='${oc.env:SECRET}'",
        "hydra/launcher=joblib",
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x={_target_: os.system}",
        "hydra.searchpath=[/tmp]",
        "--config-dir=/tmp/evil",
        "-cd",
        "--multirun",
        "experiment=../../../tmp/evil",
        "experiment=/tmp/evil",
        "technique=[r1,../../evil]",
        "+../../tmp/evil=x",
        "model@hydra.callbacks=dcgan",
        "model=dcgan,wgan",
        "seed=range(1,3)",
        "seed=choice(1,3)",
        "callbacks.samples.folder=/home",
        "+callbacks.mine={_target_: gan_experiments.callbacks.checkpoints.Checkpoints, folder: /home, every: 1}",
        "+model.x={_target_: gan_experiments.loggers.wandb_run.WandbRun, folder: x, project: y}",
        "no word",
        "",
    ],
)
def test_words_out_of_a_file_do_only_what_choices_and_values_do(honest: Path, tmp_path: Path, word: str) -> None:
    """`ckpt=` puts them before what is typed."""
    run = forged(honest, tmp_path / "theirs", lambda saved: saved.update(overrides=["model=cdcgan", word]))
    with pytest.raises(ConfigError, match=f"^ckpt={run}: it (holds the word|names)"):
        resume.command_line([f"ckpt={run}", "images=100"])


def test_words_that_belong_to_one_command_are_not_taken_out_of_a_file(honest: Path, tmp_path: Path) -> None:
    words = ["model=cdcgan", "trust=os", "check=true", "output=/home", "images=16"]
    run = forged(honest, tmp_path / "theirs", lambda saved: saved.update(overrides=words))
    words = resume.command_line([f"ckpt={run}", "images=100"])
    assert words == ["model=cdcgan", f"ckpt={run}", "images=100", f"hydra.run.dir='{run}'"]


@pytest.mark.parametrize(
    "word", ["model=cdcgan", "~augment", "+technique=[r1,lecam]", "data.root='a, b=c/../d'", "seed=1"]
)
def test_words_as_people_type_them_are_taken_out_of_a_file(word: str) -> None:
    trust.require_words([word, "model.optimizers.generator={_target_: torch.optim.AdamW, _partial_: true}"], "it")


@pytest.fixture
def own(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a network of the user's own."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "networks.py").write_text(
        "from gan_experiments.networks.dcgan import DCGANGenerator\nclass Mine(DCGANGenerator):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def change(saved: dict[str, Any]) -> None:
        saved["config"]["model"]["generator"]["_target_"] = "mine.networks.Mine"
        saved["overrides"] = ["model=cdcgan", "model.generator._target_=mine.networks.Mine"]

    yield forged(honest, tmp_path / "own", change)
    for name in [name for name in sys.modules if name.startswith("mine")]:
        del sys.modules[name]


def test_trust_opens_a_run_with_parts_of_ones_own(own: Path, tmp_path: Path) -> None:
    words = OPEN["sample"](own, tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"names mine.networks.Mine \(at model.generator._target_\).* type trust=mine.networks"
    ):
        verb("sample", *words)
    with pytest.raises(ConfigError, match=r"names mine.networks.Mine"):
        verb("sample", *words, "trust=mine.net")
    assert verb("sample", *words, "trust=[other,mine]") == 0


def test_trust_lets_a_run_with_parts_of_ones_own_go_on_and_is_recorded_nowhere(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"it names mine.networks.Mine .* type trust=mine.networks if"):
        resume.command_line([f"ckpt={own}", "images=100"])
    typed = "model.generator._target_=mine.networks.Mine"
    assert resume.command_line([f"ckpt={own}", typed])[-2:] == [typed, f"hydra.run.dir='{own}'"]
    words = resume.command_line([f"ckpt={own}", "trust=mine"])
    assert typed in words
    assert not [word for word in words if word.startswith("trust")]


@pytest.mark.parametrize("given", ["a b", "../x", "[a,b/c]", "a..b"])
def test_trust_is_a_module(honest: Path, tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match="a module of your own is needed; type for example trust="):
        verb("sample", *OPEN["sample"](honest, tmp_path / "out"), f"trust={given}")


def test_what_is_saved_holds_no_trust(honest: Path) -> None:
    config = resume.load(honest / "checkpoints" / "last.ckpt")["gan_experiments"]["config"]
    assert "trust" not in config
    cfg = OmegaConf.create(config | {"trust": "mine", "output": "x"})
    assert "trust" not in resume.plain(cfg)
