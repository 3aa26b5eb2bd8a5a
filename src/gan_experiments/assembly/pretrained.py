"""Networks that begin as those of another run: `model.pretrained=<run folder or checkpoint>`.

Each network takes what fits from the network of the same name and class, tensor by tensor. What may differ is what the
data decide: the classes, whether there are any, and the resolution. Everything else, as the width, is the run's own
unless it is typed (`settle`), and refused if it differs.

- Classes. Rows of embeddings, columns of one-hot labels and outputs of classifiers are taken by the names of the
  classes. Those of new classes stay as they were drawn.
- Stages. A generator that has one of the class there as an argument, as stage II of StackGAN has stage I, takes that
  one, averaged if it was. The discriminator is then drawn anew.
- Resolution. Layers are matched by the size of the maps that they work at. Those of sizes that only one of the networks
  has are drawn, as are the layers next to the image. All others have to agree.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from gan_experiments.assembly.meta import told, without_memory
from gan_experiments.contracts import ConfigError
from gan_experiments.data.module import DataModule
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d, ConditionalBatchNorm2d
from gan_experiments.layers.virtual_batch_norm import ReferenceBatch
from gan_experiments.runs import resume, run_folder
from gan_experiments.runs.configs import conf_dir, of_choice

log = logging.getLogger(__name__)

KEY = "model.pretrained"
LABELS = ("classes", "conditioning")
OF_THE_DATA = (*LABELS, "resolution")
"""Arguments of a network that may differ from those of the run that it begins with."""
SPECTRAL = ".parametrizations.weight."
State = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """What a checkpoint holds of the networks of a model: their configs, weights and averages, by name."""

    given: str
    nodes: Mapping[str, Any]
    trained: Mapping[str, State]
    averaged: Mapping[str, State]
    class_names: Sequence[str]
    words: Sequence[str] = ()
    """The words of its captions, if it reads some."""

    @property
    def alone(self) -> bool:
        """Whether no discriminator comes with the generator, as from the first stage of super-resolution."""
        return not any(name.startswith("discriminator") for name in self.trained)


def source(given: str, names: Sequence[str], key: str = KEY) -> Source:
    """Open a run folder or a checkpoint; raises ConfigError, which names the option `key`, if there is none."""
    checkpoint = resume.load(resume.find(given, key), key)
    saved, whole = checkpoint["gan_experiments"], checkpoint["state_dict"]

    def states(form: str) -> dict[str, State]:
        prefixes = {name: form.format(name) for name in names}
        found = {
            name: {k.removeprefix(prefix): value for k, value in whole.items() if k.startswith(prefix)}
            for name, prefix in prefixes.items()
        }
        return {name: state for name, state in found.items() if state}

    return Source(
        given,
        {name: saved["config"]["model"].get(name) for name in names},
        states("{}."),
        states("averages.{}.network."),
        saved.get("class_names", []),
        (saved.get("captions") or {}).get("words", ()),
    )


def weights(given: str, names: tuple[str, ...], key: str = KEY) -> dict[str, State]:
    """Return the state dicts of the named networks that a run folder or checkpoint has, of their averages if any.

    Raises ConfigError, which names the option `key`, if there is no such run.
    """
    found = source(given, names, key)
    return {**found.trained, **found.averaged}


# -------------------------------------------------------------------- settings


def settle(cfg: DictConfig) -> None:
    """Set the arguments of the networks as they were in the run of `model.pretrained`, and log what was set.

    What is typed stays, by experiment= too, and so does what the data or other keys decide. A run that goes on
    (`ckpt=`) has the arguments that it was trained with. If there is no such run nothing is set.
    """
    given, key = (cfg.get("ckpt"), "ckpt") if cfg.get("ckpt") else (cfg.model.get("pretrained"), KEY)
    if not given or not cfg.model.get("pretrained"):
        return
    typed = [key for key in map(resume.key_of, resume.overrides()) if "." in key]  # without groups, as model
    chosen = resume.choice("experiment")
    if chosen and (conf_dir() / "experiment" / f"{chosen}.yaml").is_file():
        typed += resume.flat(OmegaConf.to_container(of_choice("experiment", chosen)))
    names = [str(name) for name, node in cfg.model.items() if isinstance(node, DictConfig) and "_target_" in node]
    try:
        nodes = source(str(given), names, key).nodes
    except ConfigError:  # said by the check, with all other faults
        return
    changed = []
    OmegaConf.set_readonly(cfg, False)
    for name, node, there in _pairs(cfg.model, names, nodes):
        if not isinstance(there, Mapping) or there.get("_target_") != node.get("_target_"):
            continue
        for argument in map(str, node):
            place = f"model.{name}.{argument}"
            if argument in OF_THE_DATA or argument not in there or not _plain(there[argument]):
                continue
            if any(place == word or place.startswith(f"{word}.") for word in typed) or _of_the_data(node, argument):
                continue
            if node[argument] != there[argument]:
                node[argument] = there[argument]
                changed.append(f"{name}.{argument}={there[argument]}")
    if changed and key == KEY and run_folder.first_rank():
        log.info("as in %s: %s", given, " ".join(changed))


def _pairs(model: DictConfig, names: Sequence[str], nodes: Mapping[str, Any]) -> Iterator[tuple[str, DictConfig, Any]]:
    """Yield the networks that are written out, by name, each with the one there that it begins with.

    Those that repeat another by an interpolation follow it.
    """
    stage = _stage_of(model.get("generator"), nodes.get("generator"))
    for name in names:
        if OmegaConf.is_interpolation(model, name) or (stage and name.startswith("discriminator")):
            continue
        if stage and name == "generator":
            yield f"{name}.{stage}", model[name][stage], nodes[name]
            continue
        yield name, model[name], nodes[name]
        for part, node in model[name].items():
            if isinstance(node, DictConfig) and "_target_" in node and isinstance(nodes[name], Mapping):
                yield f"{name}.{part}", node, nodes[name].get(part)


def _stage_of(here: Any, there: Any) -> str:
    """Return the argument of a network that is one like that there, as stage II has stage I; empty if none is."""
    if not all(isinstance(node, Mapping) and "_target_" in node for node in (here, there)):
        return ""
    parts = (key for key, node in here.items() if isinstance(node, Mapping) and "_target_" in node)
    return str(next((key for key in parts if here[key]["_target_"] == there["_target_"]), ""))


def _plain(value: Any) -> bool:
    """Return True for a value that a file may set: a number, a word, or a list of these."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and "${" not in value)


def _of_the_data(node: DictConfig, argument: str) -> bool:
    """Return True if an argument refers to the data, and so does not come from the run."""
    raw = node._get_node(argument)
    return OmegaConf.is_interpolation(node, argument) and "data." in str(getattr(raw, "_value", lambda: "")())


# -------------------------------------------------------------------- weights


def require(model: AdversarialModule, given: str, nodes: Mapping[str, Any]) -> None:
    """Raise ConfigError in one line if the run is not there, or if its networks do not fit those of the model.

    `nodes` are the configs of the model's networks, by name. The model may be on the meta device.
    """
    _taken(model, given, nodes, ())


def require_words(given: str, data: DataModule) -> None:
    """Raise ConfigError if the run reads captions of other words than those of the data.

    Its networks know words by their numbers: a caption would mean another one.
    """
    words = tuple(source(given, ()).words)
    known = getattr(data.conditions, "vocabulary", None)
    if words and known is not None and words != known.words:
        raise ConfigError(
            f"{KEY}={given}: that run reads {len(words)} words, first {', '.join(words[:3])}, and the data have"
            f" {len(known.words)}, first {', '.join(known.words[:3])}; train both on the same captions"
        )


def take_up(model: AdversarialModule, given: str, nodes: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Take from the run what fits the model's networks; return lines on what was taken and what was not.

    A network gets the weights as they were trained, and its average those of the average. A generator that comes
    without a discriminator begins with the average. `class_names` are those of the data. Raises as `require`.
    """
    found = _taken(model, given, nodes, class_names)
    lines = [f"begins with {given}"]
    for name in {**dict.fromkeys(model.network_names), **found}:
        fits = found.get(name)
        if fits is None:
            if not any(part.startswith(f"{name}.") for part in found):
                lines.append(f"  {name}: drawn anew, as that run has none like it")
            continue
        for network, state in fits.states:
            network.load_state_dict({**network.state_dict(), **state})
        lines.append(f"  {name}: {fits.said}")
    start, resolution = getattr(model, "start_resolution", 0), getattr(model, "resolution", 0)
    if isinstance(start, int) and isinstance(resolution, int) and start < resolution:
        lines.append(
            f"  it grows from {start} pixels again; type model.start_resolution={resolution} to leave that out"
        )
    return lines


@dataclass
class Fit:
    """The tensors that a network takes, for itself and its average, and words on them."""

    states: list[tuple[nn.Module, State]] = field(default_factory=list)
    said: str = ""


def _taken(
    model: AdversarialModule, given: str, nodes: Mapping[str, Any], class_names: Sequence[str]
) -> dict[str, Fit]:
    run = source(given, model.network_names)
    if not run.trained:
        raise ConfigError(f"{KEY}={given}: that run has no {' or '.join(model.network_names)}; type {KEY}= another one")
    names = (list(run.class_names), list(class_names))
    found = {}
    stage = _stage_of(nodes.get("generator"), run.nodes.get("generator"))
    for of_run, trained in run.trained.items():
        name = of_run
        if stage and name.startswith("discriminator"):
            continue
        there, here = run.nodes.get(name), _container(nodes.get(name))
        average = run.averaged.get(name, trained)
        targets = [getattr(model, name), *([model.averages[name].network] if name in model.averages else [])]
        whole = not stage or name != "generator"
        if not whole:
            targets = [getattr(target, stage) for target in targets]
            here = {key: value for key, value in here[stage].items() if key != "_partial_"}
            name, here = f"{name}.{stage}", {**here, "resolution": targets[0].resolution}
        match = Match(name, given, there, here, names, nodes)
        fit = found[name] = Fit()
        states = [trained if whole and not run.alone else average, average]
        for target, state in zip(targets, states, strict=False):
            taken = match.state(state, target)
            fit.said = fit.said or match.said(state, target, taken)
            fit.states.append((target, taken))
    return found


def _container(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node


class Match:
    """Which tensor of a network of another run is which of a network here.

    Args:
        name: the network's name.
        given: the run, for messages.
        there, here: the configs of the network.
        names: the classes' names there and here; either may be empty.
        nodes: the configs of all networks here, for messages.
        advise: whether a message about widths says which would fit.

    Raises ConfigError if they are of different classes, or their other arguments make other tensors.
    """

    def __init__(
        self,
        name: str,
        given: str,
        there: Any,
        here: Any,
        names: tuple[list[str], list[str]],
        nodes: Mapping[str, Any],
        advise: bool = True,
    ) -> None:
        self.name, self.given, self.there, self.here, self.nodes = name, given, there, here, nodes
        self.names, self.advise = names, advise
        self.known = _known(there) and _known(here) and there["_target_"] == here["_target_"]
        self.lost: list[str] = []
        self.converted: set[str] = set()
        self.shifts: dict[str, int] = {}
        if not self.known:
            return
        self.old, self.new = _made(there), _made(here)
        self.other_size = there.get("resolution") != here.get("resolution")
        self._require_alike()
        self.classes = [int(node.get("classes") or 0) for node in (there, here)]
        self.same_names = _same(names, self.classes)
        self.dims = (_class_dims(there), _class_dims(here))
        relabelled = _shapes_of(self._moved(LABELS)) or {}
        self.of_labels = {
            _unnormalised(key) for key, shape in _shapes(self.old.state_dict()).items() if relabelled.get(key) != shape
        }
        if self.other_size:
            self.sizes = _sizes(self.old, name, there), _sizes(self.new, name, here)
            self.shifts = _shifts(self.old, self.new, *self.sizes)

    # ---------------------------------------------------------------- what must agree

    def _moved(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the config there with some arguments as they are here."""
        kept = {key: value for key, value in self.there.items() if key not in arguments}
        return {**kept, **{key: self.here[key] for key in arguments if key in self.here}}

    def _require_alike(self) -> None:
        """Raise ConfigError if an argument that the data do not decide makes other tensors.

        At another resolution the width may differ, as some networks have it at the last layer; `_one` looks at that.
        """
        moved = self._moved((*OF_THE_DATA, "width") if self.other_size else OF_THE_DATA)
        bridge = _shapes_of(moved)
        if bridge == _shapes(self.new.state_dict()):
            return
        for argument in sorted({*self.there, *self.here} - {"_target_", *OF_THE_DATA}):
            here, there = (node.get(argument, "its default") for node in (self.here, self.there))
            if here == there:
                continue
            if bridge is None or argument not in self.here or _shapes_of({**moved, argument: here}) != bridge:
                raise ConfigError(
                    f"{KEY}={self.given}: its {self.name} has {argument}={there} and this one {here}; type"
                    f" {self._key_of(argument)}={there}, or {KEY}= another run"
                )
        raise self._unlike("made of other arguments")

    def _key_of(self, argument: str) -> str:
        """Return the key to type for an argument: that of the data, where the network's refers to it."""
        node = OmegaConf.select(self.nodes, self.name) if isinstance(self.nodes, DictConfig) else self.nodes[self.name]
        raw: Any = node._get_node(argument) if isinstance(node, DictConfig) else None
        text = "" if raw is None else str(raw._value())
        return text[2:-1] if text.startswith("${data.") else f"model.{self.name}.{argument}"

    def _unlike(self, why: str) -> ConfigError:
        return ConfigError(
            f"{KEY}={self.given}: its {self.name} is not like this one ({why}); type {KEY}= a run with the same"
            f" networks, or set model.{self.name} as it was there"
        )

    # ---------------------------------------------------------------- tensors

    def state(self, state: State, target: nn.Module) -> State:
        """Return the entries of a target's state dict that come from a state there; raises ConfigError as the class."""
        here = target.state_dict()
        if not self.known:
            return self._exactly(state, here)
        self._require_norms(state, here)
        modules = (dict(self.old.named_modules()), dict(target.named_modules()))
        taken: State = {}
        plain = _norms(state, *modules, self._place)
        self.lost, self.converted = [], {self._place(key) for key in plain if plain[key] is not state.get(key)}
        for key, value in plain.items():
            place = self._place(key)
            if place not in here:
                self.lost.append(key)
                continue
            found = self._one(key, value, place, here[place], modules)
            if found is not None:
                taken[place] = found
        if not any(isinstance(value, Tensor) for value in taken.values()):
            raise self._unlike(f"{self._resolutions()}: nothing of it fits")
        return taken

    def _exactly(self, state: State, here: Mapping[str, Any]) -> State:
        """Return the whole state, of a network that this file cannot make again, if it has the same shapes."""
        shapes = _shapes(here), _shapes(state)
        if apart := sorted(key for key in {*here, *state} if shapes[0].get(key) != shapes[1].get(key)):
            if _known(self.there) and _known(self.here) and self.there["_target_"] != self.here["_target_"]:
                there, own = self.there["_target_"], str(self.here["_target_"]).rpartition(".")[2]
                raise ConfigError(
                    f"{KEY}={self.given}: its {self.name} is a {there.rpartition('.')[2]} and this one a {own}; type"
                    f" model.{self.name}._target_={there}, or {KEY}= another run"
                )
            sizes = [str(list(one[apart[0]])) if apart[0] in one else "none" for one in (shapes[1], shapes[0])]
            raise self._unlike(f"{apart[0]}: {sizes[0]} there, {sizes[1]} here")
        return state

    def _require_norms(self, state: State, here: Mapping[str, Any]) -> None:
        """Raise ConfigError if a layer has spectral norm there or here alone: its weight would mean something else."""
        layers = {self._place(key).partition(SPECTRAL)[0] for key in state if SPECTRAL in key}
        own = {key.partition(SPECTRAL)[0] for key in here if SPECTRAL in key}
        plain = {self._place(key) for key in state}
        if any(f"{layer}.weight" in here for layer in layers):
            said, advice = "has spectral norm and this one has not", "type"
        elif any(f"{layer}.weight" in plain for layer in own):
            said, advice = "has no spectral norm and this one has", "leave out"
        else:
            return
        raise ConfigError(f"{KEY}={self.given}: its {self.name} {said}; {advice} technique=[spectral_norm]")

    def _one(self, key: str, value: Any, place: str, here: Any, modules: tuple[dict[str, nn.Module], ...]) -> Any:
        """Return what one tensor becomes here; None if it is to be drawn."""
        if place in self.converted:
            fits = value.shape == here.shape and (not self.other_size or self._same_size(key, place))
            return value if fits else None
        if not self._corresponds(key, place, modules):
            return None
        if not isinstance(value, Tensor):
            return value
        dims = [self.dims[side].get(_unnormalised(name)) for side, name in enumerate((key, place))]
        if dims != [None, None]:
            owners: list[Any] = [modules[side][_owner(name)] for side, name in enumerate((key, place))]
            if value.shape != here.shape and all(hasattr(owner, "scale") for owner in owners):
                value = value * (owners[0].scale / owners[1].scale)  # of an equalised layer with another fan-in
            return self._rows(value, here, dims)
        if value.shape == here.shape:
            return value
        beside = self.other_size and self._beside_the_image(key)
        if beside or _unnormalised(key) in self.of_labels or key.endswith(".0.u"):
            return None
        raise self._other_width(key, value, here)

    def _corresponds(self, key: str, place: str, modules: tuple[dict[str, nn.Module], ...]) -> bool:
        """Return True if two tensors belong to layers that do the same: of the same classes, and at the same size."""
        there, here = _owner(key), _owner(place)
        if isinstance(modules[1].get(here), ReferenceBatch) and self.name.startswith("discriminator"):
            return False  # images of the data there
        paths = [name.split(".") for name in (there, here)]
        alike = all(
            len({_kind(known.get(".".join(path[:depth]))) for known, path in zip(modules, paths, strict=True)}) == 1
            for depth in range(1, len(paths[0]) + 1)
        )
        return alike and (not self.other_size or self._same_size(key, place))

    def _rows(self, value: Tensor, here: Tensor, dims: list[int | None]) -> Tensor | None:
        """Return the tensor here with the rows of the classes of the same names, and what belongs to no class."""
        dim = dims[1] if dims[0] is None else dims[0]
        assert dim is not None
        counts = [0 if own is None else number for own, number in zip(dims, self.classes, strict=True)]
        shapes = [list(tensor.shape) for tensor in (value, here)]
        if len(shapes[0]) != len(shapes[1]) or (None not in dims and dims[0] != dims[1]):
            return None
        for shape, count in zip(shapes, counts, strict=True):
            shape[dim] -= count
        rows, others = ([] if None in dims else self.same_names), shapes[0][dim]
        if shapes[0] != shapes[1] or not (rows or others):
            return None
        result = here.clone()
        result.narrow(dim, 0, others).copy_(value.narrow(dim, 0, others))
        for there, own in rows:
            result.select(dim, others + own).copy_(value.select(dim, others + there))
        return result

    # ---------------------------------------------------------------- sizes of maps

    def _place(self, key: str) -> str:
        """Return the name here of a tensor or module there; numbers in lists are those of layers of the same size."""
        parts = key.split(".")
        for depth in range(len(parts) - 1, 0, -1):  # the deepest first: paths to lists are those there
            shift = self.shifts.get(".".join(key.split(".")[:depth]))
            if shift and parts[depth].isdigit():
                parts[depth] = str(int(parts[depth]) + shift)
        return ".".join(parts)

    def _same_size(self, key: str, place: str) -> bool:
        sizes = [_size_at(known, _owner(name)) for known, name in zip(self.sizes, (key, place), strict=True)]
        return None in sizes or sizes[0][:2] == sizes[1][:2]  # type: ignore[index]

    def _beside_the_image(self, key: str) -> bool:
        """Return True for a layer there that reads the image, or in a generator makes it."""
        size = _size_at(self.sizes[0], _owner(key))
        channels = self.there.get("channels")
        return size is not None and channels is not None and channels == size[3 if self.name == "generator" else 2]

    def _resolutions(self) -> str:
        return f"{self.there.get('resolution')} pixels there, {self.here.get('resolution')} here"

    def _other_width(self, key: str, value: Tensor, here: Tensor) -> ConfigError:
        """Return the error for a layer that works at the same size and has another width."""
        there = self.there.get("resolution")
        if len({_aspect(node.get("resolution")) for node in (self.there, self.here)}) > 1:
            return self._unlike(f"{self._resolutions()}: images of another shape")
        advice = " ".join([*self._widths(), f"or data.resolution={there}"]).removeprefix("or ")
        return ConfigError(
            f"{KEY}={self.given}: its {self.name} is of {self._resolutions()}, and at the same size of maps"
            f" {_owner(key) or key} has another width ({[*value.shape]} there, {[*here.shape]} here); type {advice}"
        )

    def _widths(self) -> Iterator[str]:
        """Yield the widths to type with which the networks would fit, if there are any."""
        there, here = self.there.get("resolution"), self.here.get("resolution")
        if not (self.advise and isinstance(there, int) and isinstance(here, int)):
            return
        for name, node in self.nodes.items():
            plain = _container(node)
            if not (isinstance(plain, dict) and isinstance(plain.get("width"), int) and "resolution" in plain):
                continue
            fitting = {**plain, "width": max(1, plain["width"] * there // here)}
            if name == self.name:
                try:
                    match = Match(name, self.given, self.there, fitting, self.names, self.nodes, advise=False)
                    match.state(match.old.state_dict(), match.new)
                except ConfigError:
                    return
            yield f"model.{name}.width={fitting['width']}"

    # ---------------------------------------------------------------- words

    def said(self, state: State, target: nn.Module, taken: State) -> str:
        """Return words on what a network takes: how many tensors, what is drawn, what is left."""
        total = [key for key, value in target.state_dict().items() if isinstance(value, Tensor)]
        number = sum(isinstance(value, Tensor) for value in taken.values())
        words = [f"taken {number} of {len(total)} tensors"]
        if anew := _listed(key for key in total if key not in taken):
            words.append(f"drawn anew: {anew}")
        if self.known:
            there, here = self.classes
            named = [self.names[1][own] for _, own in self.same_names] if all(self.names) else []
            parts = [key for key in taken if key not in self.converted and _unnormalised(key) in self.dims[1]]
            if parts and (there != here or len(self.same_names) < here):
                which = f"{', '.join(named)} by name, the others drawn anew" if named else "drawn anew"
                words.append(f"{there} -> {here} classes: {which}, in {_listed(parts)}")
            elif there != here:
                words.append(f"{there} -> {here} classes")
            if lost := _listed(self.lost):
                words.append(f"not used: {lost}")
        return "; ".join(words)


def _listed(keys: Any, most: int = 4) -> str:
    """Return the modules of some tensors as words, the first few of them."""
    modules = list(dict.fromkeys(_owner(key) or key for key in keys))
    return ", ".join(modules[:most]) + (f" and {len(modules) - most} more" if len(modules) > most else "")


def _same(names: tuple[list[str], list[str]], classes: list[int]) -> list[tuple[int, int]]:
    """Return the labels there and here of the classes of the same name; without names, all if there are as many."""
    if not all(names):
        return [(i, i) for i in range(classes[0])] if classes[0] == classes[1] else []
    there, here = names
    return [(there.index(name), i) for i, name in enumerate(here) if name in there[: classes[0]] and i < classes[1]]


def _norms(state: State, there: Mapping[str, nn.Module], here: Mapping[str, nn.Module], place: Any) -> dict[str, Any]:
    """Return a state whose batch norms are conditional where those here are, and plain where those are plain.

    All classes get the plain scale and offset; a plain norm gets the mean of those of the classes. What is converted
    has a new name or is another object.
    """
    state = dict(state)
    for name, module in there.items():
        other = here.get(place(name))
        if isinstance(module, nn.BatchNorm2d) and isinstance(other, ConditionalBatchNorm2d):
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                state[f"{name}.norm.{key}"] = state.pop(f"{name}.{key}")
            scale, offset = state.pop(f"{name}.weight"), state.pop(f"{name}.bias")
            if isinstance(other, ClassConditionalBatchNorm2d):
                size = other.gain.get_parameter("weight").shape
                state[f"{name}.gain.weight"] = (scale - 1).expand(size)
                state[f"{name}.bias.weight"] = offset.expand(size)
        elif isinstance(module, ConditionalBatchNorm2d) and isinstance(other, nn.BatchNorm2d):
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                state[f"{name}.{key}"] = state.pop(f"{name}.norm.{key}")
            gain, bias = state.pop(f"{name}.gain.weight"), state.pop(f"{name}.bias.weight")
            if isinstance(module, ClassConditionalBatchNorm2d):
                state[f"{name}.weight"], state[f"{name}.bias"] = 1 + gain.mean(0), bias.mean(0)
    return state


# -------------------------------------------------------------------- networks without memory


def _known(node: Any) -> bool:
    """Return True for the config of a network that can be made again: a class of plain arguments."""
    return isinstance(node, Mapping) and "_target_" in node and all(map(_plain, node.values()))


def _made(node: Mapping[str, Any]) -> nn.Module:
    """Make a network without memory for its weights; the class is one that the config here names."""
    with without_memory():
        return instantiate(dict(node), _convert_="all")


def _shapes_of(node: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a network's tensors; None if it cannot be made."""
    try:
        return _shapes(_made(node).state_dict())
    except Exception:
        return None


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}


def _class_dims(node: Mapping[str, Any]) -> dict[str, int]:
    """Return, by the name of a tensor, the dimension that has a place for each class."""
    if not node.get("classes"):
        return {}
    own, more = _shapes_of(node) or {}, _shapes_of({**node, "classes": node["classes"] + 1}) or {}
    found = {}
    for key, shape in own.items():
        grown = [i for i, (a, b) in enumerate(zip(shape, more.get(key, shape), strict=False)) if b == a + 1]
        if len(grown) == 1:
            found[_unnormalised(key)] = grown[0]
    return found


def _unnormalised(key: str) -> str:
    """Return the name that a tensor has without spectral norm."""
    return key.replace(f"{SPECTRAL}original", ".weight")


def _aspect(resolution: Any) -> float:
    """Return height / width of a resolution: a side, or height and width."""
    return resolution[0] / resolution[1] if isinstance(resolution, list) else 1.0


def _owner(key: str) -> str:
    """Return the name of the layer that a tensor belongs to."""
    return key.partition(".parametrizations.")[0] if ".parametrizations." in key else key.rpartition(".")[0]


def _kind(module: nn.Module | None) -> type:
    """Return the class of a layer, of which torch makes another one for spectral norm."""
    kind = type(module)
    return kind.__mro__[1] if kind.__name__.startswith("Parametrized") else kind


Size = tuple[tuple[int, ...] | None, tuple[int, ...] | None, int, int]
"""The sides of the maps that a module gets and gives (None for vectors), and the numbers of their channels."""


def _sizes(network: nn.Module, name: str, node: Mapping[str, Any]) -> dict[str, Size]:
    """Return what each module works at, in a forward of two samples; empty if that cannot be tried."""
    found: dict[str, Size] = {}

    def note(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [one if isinstance(one, Tensor) else None for one in ((*inputs, None)[0], output)]
        sides = [None if one is None or one.ndim != 4 else tuple(one.shape[2:]) for one in tensors]
        channels = [one.shape[1] if one is not None and one.ndim > 1 else 0 for one in tensors]
        found.setdefault(path, (*sides, *channels))  # type: ignore[arg-type]

    hooks = [module.register_forward_hook(functools.partial(note, path)) for path, module in network.named_modules()]
    label = told(network)
    resolution, channels = node.get("resolution"), node.get("channels", 3)
    sides = list(resolution) if isinstance(resolution, list) else [resolution, resolution]
    channels *= 2 if getattr(network, "dual", False) and "discriminator" in name else 1  # it sees pairs
    shape = [channels, *sides] if "discriminator" in name else [getattr(network, "latent_dim", 0)]
    try:
        with without_memory():
            network(torch.empty([2, *shape], device="meta"), *label)
    except Exception:
        found.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _size_at(sizes: Mapping[str, Size], path: str) -> Size | None:
    """Return what a module works at, or what the nearest module around it does; None unless that is maps to maps."""
    while path and path not in sizes:
        path = path.rpartition(".")[0]
    size = sizes.get(path) if path else None
    return size if size is not None and None not in size[:2] else None


def _shifts(
    there: nn.Module, here: nn.Module, sizes_there: Mapping[str, Size], sizes_here: Mapping[str, Size]
) -> dict[str, int]:
    """Return how far the numbers of a list's modules move, for each list whose length differs, by its name there.

    Lists agree from their beginning or from their end: where more modules then work at the same sizes.
    """
    others, found = dict(here.named_modules()), {}
    for path, module in there.named_modules():
        other = others.get(path)
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and other is not None and type(other) is type(module):
            gap = len(other) - len(module)

            def agreeing(shift: int, path: str = path) -> int:
                number = 0
                for name, size in sizes_there.items():
                    if name.startswith(f"{path}."):
                        first, _, rest = name.removeprefix(f"{path}.").partition(".")
                        moved = ".".join(filter(None, [path, str(int(first) + shift), rest]))
                        number += None not in size[:2] and sizes_here.get(moved, (None,))[:2] == size[:2]
                return number

            if gap and agreeing(gap) > agreeing(0):
                found[path] = gap
    return found
