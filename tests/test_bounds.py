"""Every value that a person types has a type and bounds, said by the class or the verb that takes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import jsonschema
import pytest
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf
from support import REPOSITORY, Started, compose, run

from gan_experiments import bounds, processes
from gan_experiments.assembly import check, options, signatures
from gan_experiments.contracts import ConfigError
from gan_experiments.launch import mistakes
from gan_experiments.launch.sweeps import Sweep
from gan_experiments.runs import configs, resume

sys.path.append(str(REPOSITORY / "benchmarks"))

import wrong_inputs

CONF = REPOSITORY / "conf"
FILES = [path for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in ("experiment", "sweep")]
VERBS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "quiet")


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("_target_", "???") != "???":  # the class of a person is typed
            yield node
        for value in node.values():
            yield from _nodes(value)


@cache
def _targets() -> dict[str, list[tuple[str, str, Any]]]:
    """The targets of all choices that can be imported, with each (file, key, value) that a choice gives them."""
    found: dict[str, list[tuple[str, str, Any]]] = {}
    for path in FILES:
        for node in _nodes(OmegaConf.to_container(configs.of_choice(path.parent.name, path.stem))):
            target = node["_target_"]
            if not target.startswith("efficientnet_lite"):  # of another package
                found.setdefault(target, []).extend((path.stem, key, value) for key, value in node.items())
    return found


def _bare(hint: Any) -> bool:
    """Whether a type is a number without bounds, or holds one."""
    if hasattr(hint, "__metadata__") or get_origin(hint) is Callable:
        return False
    return hint in (int, float) or any(map(_bare, get_args(hint)))


NAMES = {"classes", "named", "styles"}
"""Arguments whose numbers are names: of classes, of directions, of styles."""


def test_every_number_of_every_class_that_a_config_names_has_bounds() -> None:
    targets = [target for target in _targets() if target.startswith("gan_experiments.") and "DDP" not in target]
    hints = {(t, key): hint for t in targets for key, hint in signatures.signature(get_object(t)).hints.items()}
    hints |= {("WeightAverage", key): hint for key, hint in signatures.signature(check.WeightAverage).hints.items()}
    assert len(hints) > 400
    assert not [key for key, hint in hints.items() if _bare(hint) and key[1] not in NAMES]
    assert not [key for key, hint in hints.items() if hint is Any and key[1] not in ("judge", "data")], "is a group"


def test_every_value_of_every_choice_is_one_that_its_class_takes() -> None:
    for target, values in _targets().items():
        hints = signatures.signature(get_object(target)).hints
        for file, key, value in values:
            plain = yaml.safe_dump(value)
            if key in hints and "${" not in plain and "???" not in plain:
                assert bounds.fault(key, value, hints[key]) is None, (file, target)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_has_a_type_which_its_usual_value_is_of(verb: str) -> None:
    known, usual = bounds.OPTIONS[verb], options._usual(verb)
    groups = {"defaults", "hydra", "existing", "trust", "trainer"}
    told = {key for key in usual if key.partition(".")[0] not in groups}
    assert not {key for key in told if key not in known and not any(one.startswith(f"{key}.") for one in known)}
    for key, hint in known.items():
        if key in usual and "${" not in f"{usual[key]}" and usual[key] != "???" and key not in groups:
            assert bounds.fault(key, usual[key], hint) is None
        assert not _bare(hint) or key in ("class", "to", "images", "runs")


def test_an_editor_is_told_the_same(tmp_path: Path) -> None:
    """The schema that `--schema` prints takes every config of the repository, and no value that its class does not."""
    done = run("--schema", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    schema = jsonschema.Draft202012Validator(json.loads(done.stdout))
    schema.check_schema(schema.schema)
    for path in sorted(CONF.rglob("*.yaml")):
        found = OmegaConf.to_container(OmegaConf.load(path))
        assert not [(path.name, error.message) for error in schema.iter_errors(found)]
    dcgan = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "dcgan.yaml"))
    for key, value in {"n_critic": 0, "widht": 3, "generator": {**dcgan["generator"], "width": "abc"}}.items():
        assert not schema.is_valid({**dcgan, key: value})


# ------------------------------------------------------------------------------------------ wrong values


WRONG = {
    "images=abc": "images=abc: a whole number of 1 or more is needed; type for example images=200000",
    "images=1e6": "images=1000000.0: a whole number of 1 or more is needed; type for example images=1000000",
    "images=true": "images=true: a whole number",
    "seed=4294967296": "seed=4294967296: a whole number from 0 to 4,294,967,295",
    "resume=yes": "resume=yes: true or false is needed; type for example resume=true",
    "check=banana": "check=banana: true or false",
    "data.flip=0": "data.flip=0: true or false is needed; type for example data.flip=false",
    "data.flip='true'": "data.flip=true: true or false",
    "model=context_encoder model.mean_colour=[]": "model.mean_colour=[]: a list [a number from 0 to 255,",
    "data.workers=-1": "data.workers=-1: a whole number from 0",
    "trainer=ddp_cpu trainer.strategy.process_group_backend=x": "trainer.strategy.process_group_backend=x: one of",
    "data.batch_size=1000000000000": "data.batch_size=1000000000000: its images alone take 16.4 PB and this",
    "model.n_critic=1.5": "model.n_critic=1.5: a whole number",
    "model.clip_grad_norm=-1": "model.clip_grad_norm=-1: a number above 0, or null is needed",
    "model.generator.width=nan": "model.generator.width=nan: a whole number",
    "model.ema.generator.half_life=-5": "model.ema.generator.half_life=-5: a number of 0 or more",
    "model.ema.generator.ramp_up=-1": "model.ema.generator.ramp_up=-1: a number of 0 or more",
    "+model.ema.generator.halflife=5": "model.ema.generator.halflife: WeightAverage takes no such argument (did you",
    "+model.ema.generatr.half_life=5": "model.ema.generatr: there is nothing of that name (did you mean generator?)",
    "+model.schedules.generatr={}": "model.schedules.generatr: there is nothing of that name (did you mean generator?)",
    "+model.optimizers.generatr={_target_:torch.optim.Adam,_partial_:true}": "model.optimizers.generatr: the model has",
    "~model.optimizers.generator": "model.optimizers.generator is not given",
    "model.optimizers.generator.lr=inf": "model.optimizers.generator.lr=inf: a number of 0 or more",
    "model.optimizers.generator.betas=[0.5,1]": "model.optimizers.generator.betas=[0.5,1]: a list [a number of 0 or",
    "model.optimizers=null": "model.optimizers=null: a group, each a node with a _target_",
    "model.generator=null": "model.generator=null: a node with a _target_",
    "callbacks.samples=null": "callbacks.samples=null: a group of keys is needed",
    "callbacks.samples.n=0": "callbacks.samples.n=0: a whole number from 1 to 4,096",
    "callbacks.samples.n=100000": "callbacks.samples.n=100000: a whole number from 1 to 4,096",
    "trainer.devices=banana": "trainer.devices=banana: ",
    "trainer.precision=8": "trainer.precision=8: type one of 32-true, bf16-mixed",
    "~seed": "seed is not there: leave out ~seed",
    "~data": "data is null or not there",
}


CAUSES = {
    "model=bicyclegan model.generator=5": "model.generator=5: a node with a _target_ is needed",
    "model=context_encoder data.resolution=[1]": "data.resolution=[1]: a whole number",
    "technique=[r1_auto] data.resolution=banana": "data.resolution=banana: a whole number",
    "data=5": "data=5: there is no such data; type data= one of captioned, capt",
    "model.discriminator=[1]": "model.discriminator=[1]: model.discriminator has keys of its own, which one value",
    "technique=5": "technique=5: there is no such technique; type technique= one of",
}
"""Words whose last one is wrong, and from which other values are computed or chosen."""


@pytest.mark.parametrize("words", CAUSES)
def test_what_follows_of_a_wrong_value_is_not_told(words: str, tmp_path: Path) -> None:
    done = run(*words.split(), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line[: len(CAUSES[words])] for line in done.stderr.splitlines()] == [CAUSES[words]]


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_value_is_one_line_that_names_key_value_and_type(word: str, tmp_path: Path) -> None:
    (fault,) = check.faults(compose(tmp_path, "callbacks=default", "metrics=digits", *word.split()))
    assert fault.startswith(WRONG[word])
    assert "\n" not in fault


def test_a_schedule_that_starts_after_its_end(tmp_path: Path) -> None:
    (fault,) = check.faults(compose(tmp_path, "model=wgan_gp", "+model.schedules.generator.start=500_000"))
    assert fault.startswith("model.schedules.generator.start=500000 lies after model.schedules.generator.end=200000")


def test_a_value_that_others_are_computed_from_is_one_fault(tmp_path: Path) -> None:
    (fault,) = check.faults(compose(tmp_path, "model=cyclegan", "metrics=none", "data.channels=x"))
    assert fault.startswith("data.channels=x: a whole number")
    # Data may have no classes; both networks of zi2zi, whose numbers of them are those of the data, must have some.
    (fault,) = check.faults(compose(tmp_path, "model=zi2zi", "metrics=none", "data.classes=0"))
    assert fault.startswith("data.classes=0: a whole number of 1 or more is needed; type for example data.classes=40")


def test_a_batch_is_measured_against_the_memory_that_there_is(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(processes, "memory", lambda: 1e6)
    (fault,) = check.faults(compose(tmp_path, "data.batch_size=640", "metrics=none"))
    assert "its images alone take 10.5 MB and this machine has 1 MB; type for example data.batch_size=" in fault


@pytest.mark.parametrize("word", ["resume=yes", "resume=1", "resume=", "resume='true'", "++resume=on", "~resume"])
def test_a_resume_that_is_not_true_or_false_looks_for_no_run(word: str) -> None:
    with pytest.raises(ConfigError, match=r"true or false is needed; type resume=true"):
        resume.command_line(["model=dcgan", word])


@pytest.mark.parametrize("word", ["output=", "output=''", "hydra.run.dir=", 'hydra.run.dir=""', "hydra.sweep.dir="])
def test_a_folder_without_a_name_is_not_the_current_one(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{word}: a folder is needed; type {word.partition('=')[0]}=outputs/mine"):
        resume.command_line(["model=dcgan", word])
    with pytest.raises(ConfigError, match=rf"^{word}: a folder is needed"):
        Sweep.of(["run.py", "seed=0,1", word])


def test_resume_in_any_case_is_understood(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert resume.command_line(["resume=True"]) == ["resume=True"]
    assert resume.command_line(["resume=FALSE"]) == ["resume=FALSE"]


def test_a_group_without_a_choice(monkeypatch: Any) -> None:
    answers = {"logger": "none", "loss": "non_saturating", "augment": "none", "data": "digits", "callbacks": "default"}
    for group, choice in answers.items():
        monkeypatch.setattr(sys, "argv", ["run.py", f"{group}=null"])
        wanted = "none" if group == "callbacks" else choice
        assert mistakes.no_choice("run") == f"{group}=null: a choice is needed; type {group}={wanted}"


HINTS: list[tuple[Any, Sequence[Any], Sequence[Any]]] = [
    (bounds.Count, [1, 10**12], [0, -1, 1.0, True, "1", None, float("nan"), 10**13, [1]]),
    (bounds.Positive, [1, 0.5], [0, -1.0, True, "1", float("inf"), float("nan"), 10**400]),
    (bounds.Share | None, [0, 1, 0.3, None], [1.1, -0.1, False, "x"]),
    (tuple[bounds.Positive, bounds.Positive], [[1, 2.0]], [[], [1], [1, 2, 3], [1, 0]]),
    (bool, [True, False], [0, 1, "yes", "true", None]),
    (Sequence[tuple[int, float]], [[], [[1, 2], [3, 0.5]]], [[1], [[1]], [[1.5, 2]], "ab", {"a": 1}]),
    (Annotated[int, bounds.OneOf(1, 2)] | None, [1, 2, None], [True, 0, 3, "1", [1]]),
    (bounds.Crop, ["centre", "random"], ["middle", True, 1, None, ""]),
    (bounds.Place | None, ["a", None], ["", 5, True, ["a"]]),
    (bounds.Node | None, [{}, {"_target_": "x"}, None], [5, "x", {"a": 1}]),
]


@pytest.mark.parametrize(("hint", "right", "wrong"), HINTS, ids=lambda value: str(value)[:30])
def test_types_are_strict(hint: Any, right: Sequence[Any], wrong: Sequence[Any]) -> None:
    assert [bounds.fits(value, hint) for value in right] == [True] * len(right)
    assert [bounds.fits(value, hint) for value in wrong] == [False] * len(wrong)


def test_wrong_inputs_as_they_are_typed() -> None:
    """A fixed sample of benchmarks/wrong_inputs.py: status 2, one line, no traceback, nothing left behind."""
    words = ["wrong_inputs.py", "--fixed", "--verbs", "run"]
    done = Started(words, wrong_inputs.main, Path.cwd(), {}).wait()
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_a_verb_refuses_all_that_is_wrong_at_once() -> None:
    cfg = OmegaConf.load(CONF / "sample.yaml")
    cfg.update({"n": 0, "ema": "yes", "run": 5, "truncation": -1})
    with pytest.raises(ConfigError) as raised:
        check.require_options(cfg, "sample")
    assert [fault.partition("=")[0] for fault in raised.value.faults] == ["ema", "run", "n", "truncation"]
