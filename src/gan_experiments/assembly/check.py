"""Checks that refuse an impossible config before anything is built: all faults at once, one line each."""

from __future__ import annotations

import copy
import inspect
import math
import re
import shutil
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode
from omegaconf.errors import InterpolationKeyError
from torch import nn

from gan_experiments import bounds, processes
from gan_experiments.assembly import build, options, pretrained, scoring
from gan_experiments.assembly.meta import Shapes, told, without_memory
from gan_experiments.assembly.signatures import SPECIAL, Signature, signature, silent
from gan_experiments.contracts import ConfigError
from gan_experiments.data.module import DataModule
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.kinds import Clip, Image, kind_of
from gan_experiments.layers.spectral_norm import SpectralNorm
from gan_experiments.metrics import names
from gan_experiments.metrics.of_captions import CaptionEvaluator
from gan_experiments.metrics.of_scenes import SceneEvaluator
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.metrics.r_precision import RPrecisionEvaluator
from gan_experiments.models import scenes
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.models.text_to_image import TextToImage
from gan_experiments.runs import resume
from gan_experiments.runs.configs import conf_dir, keys_gone, nearest, of_choice, reach

SEVERAL = ("logger",)
ALONE = ("trainer", "callbacks", "augment", "metrics", "loss", "perceptual", "data", "model")
"""The groups of a run that take one choice; `technique` takes several."""


def require(cfg: DictConfig) -> None:
    """Raise one ConfigError with all the faults of a config."""
    options.raise_all(faults(cfg))


def remarks(cfg: DictConfig, model: AdversarialModule) -> Iterator[str]:
    """Yield warnings about a valid config, a line each.

    They are about weight averages that would still contain too much of their starting weights when the run ends, and
    about layers that are frozen as they were drawn.
    """
    if "freeze_d" in (cfg.model.get("techniques") or {}) and not model.pretrained:
        yield (
            "technique=[freeze_d] without model.pretrained=: the first layers of the discriminator stay as they were"
            " drawn; type model.pretrained= a run, or leave it out"
        )
    if getattr(getattr(model, "generator", None), "frozen", False) and not model.pretrained:
        yield (
            "model.generator.frozen=true without model.pretrained=: stage I stays as it was drawn; type"
            " model.pretrained= its run, or model.generator.frozen=false"
        )
    averages: dict[str, Any] = dict(model.averages.items())
    for name, average in averages.items():
        own = {id(parameter) for parameter in getattr(model, name).parameters()}
        training = [phase for phase in model.phases() if own & {id(parameter) for parameter in phase.parameters()}]
        step = cfg.data.batch_size * min((phase.every for phase in training), default=1)
        start, share = round(average.start), average.share_of_start(cfg.images, step)
        key = f"model.ema.{name}"
        if start >= cfg.images:
            yield (
                f"{key}: a copy of the weights until {start:,} images, and images={cfg.images}: nothing is averaged;"
                f" type {key}.start=0 {key}.decay={_fast_enough(cfg.images // step)} to average"
            )
        elif share > STALE:
            untrained = "those that it began with" if model.pretrained else "the untrained weights"
            first = f"the weights at {start:,} images" if start else untrained
            decay = _fast_enough((cfg.images - start) // step)
            kind = f"decay={decay}" if average.decay is not None else f"half_life={max(1, (cfg.images - start) // 10)}"
            yield (
                f"{key}: at the end of images={cfg.images} {share:.0%} of the average are still {first};"
                f" type {key}.{kind}, or more images="
            )


STALE = 0.05
"""The largest share that the starting weights may have in an average at the end of a run."""


def _fast_enough(updates: int) -> str:
    """Return a decay, as text, with which a thousandth of the starting weights is left after so many updates."""
    return f"{0.001 ** (1 / max(updates, 1)):.3g}"


def require_readable(cfg: DictConfig) -> None:
    """Raise one ConfigError if a group of a run is missing, or if a key of `trainer` has the wrong type."""
    options.raise_all([*_groups(cfg)] or (f for f in options.faults(cfg, "run") if f.startswith("trainer")))


def require_options(cfg: DictConfig, verb: str) -> None:
    """Raise one ConfigError with all the faults of a verb's options and of the arguments in its groups."""
    options.raise_all([*options.faults(cfg, verb), *options.missing(cfg)] or _arguments(cfg))


def faults(cfg: DictConfig) -> Iterator[str]:
    """Yield each fault of a config: what was given, what is needed, what to type."""
    unreadable = [*_groups(cfg)] or [*_other_kind(cfg)]
    yield from unreadable
    if unreadable:
        return
    typed = [*options.faults(cfg, "run")]
    wrong = [*_unknown_keys(cfg), *typed, *_arguments(cfg, computed=not typed)]
    if any(fault.startswith("data._target_=") for fault in wrong):  # so that nothing is to be had of the data
        wrong = [fault for fault in wrong if "Interpolation key 'data." not in fault]
    wrong = wrong or [*_no_data_module(cfg), *_names(cfg), *_compiled(cfg), *_numbers(cfg), *_early(cfg)]
    yield from wrong
    yield from options.missing(cfg)
    yield from _unread(cfg)
    yield from _kind_of_data(cfg)
    if not any(fault.startswith(("model.", "loss.", "technique.")) for fault in wrong):
        yield from _loss(cfg)
    if not wrong:
        yield from _networks(cfg)
        yield from _optimizers(cfg)


# -------------------------------------------------------------------- keys and values


def _groups(cfg: DictConfig) -> Iterator[str]:
    """Yield the groups that are empty, and those with several choices that take one."""
    for group in (*SEVERAL, *ALONE):
        choice = _typed(group)
        if choice.startswith("[") and group in ALONE:
            first = choice.strip("[]").partition(",")[0].strip()
            yield f"{group}={choice}: one choice is taken; type {group}={first or 'none'}"
        elif not isinstance(cfg.get(group), DictConfig):
            yield f"{group} is null or not there: leave out {group}=null and ~{group}"
    yield from keys_gone(cfg, "run")


def _other_kind(cfg: DictConfig) -> Iterator[str]:
    """Yield that the data are of another kind than the model's samples, if these get no size of them."""
    try:
        generator = cfg.model.get("generator")
        maker = _class(generator if generator and "_target_" in generator else cfg.model)
        data = kind_of(_class(cfg.data))
        if type(data) is type(kind_of(maker)):
            return
        OmegaConf.to_container(cfg.model, resolve=True)
    except InterpolationKeyError:
        yield (
            f"data={_choice('data') or cfg.data._target_} has {data.name} and"
            f" model={_choice('model') or cfg.model._target_} makes {kind_of(maker).name}; {_how(maker, cfg)}"
        )
    except Exception:  # reported by _arguments
        return


def _unknown_keys(cfg: DictConfig) -> Iterator[str]:
    for where, file in (("", "run"), ("trainer", "trainer/default")):
        known = _keys(file) + ([] if where else [path.name for path in conf_dir().iterdir() if path.is_dir()])
        for key in OmegaConf.select(cfg, where) if where else cfg:
            if key not in known:
                yield f"{where and where + '.'}{key!s}: nothing reads this key{nearest(str(key), known)}; leave it out"
    callbacks = [
        str(name) for name, node in cfg.callbacks.items() if isinstance(node, DictConfig) and "_target_" in node
    ]
    for name in cfg.callbacks if callbacks else ():  # with callbacks=none an experiment's settings have no callback
        if name not in callbacks and cfg.callbacks[name]:
            yield f"callbacks.{name!s}: no callback has this name{nearest(str(name), callbacks)}; leave it out"


@cache
def _keys(file: str) -> list[str]:
    return [str(key) for key in OmegaConf.load(conf_dir() / f"{file}.yaml")]


def _numbers(cfg: DictConfig) -> Iterator[str]:
    """Yield numbers that do not go together."""
    for path, node in _nodes(cfg, copies=False):
        start, end = node.get("start"), node.get("end")
        if isinstance(start, (int, float)) and isinstance(end, (int, float)) and start > end:
            yield f"{path}.start={start:g} lies after {path}.end={end:g}; type for example {path}.start=0"
    impossible = [*build.trainer_faults(cfg.trainer)]
    yield from impossible
    if impossible:
        return
    devices, parts = cfg.trainer.devices, cfg.trainer.accumulate
    number = len(devices) if isinstance(devices, ListConfig) else devices
    ranks = number * cfg.trainer.num_nodes if isinstance(number, int) and number > 0 else 1
    if (batch := cfg.data.batch_size) % (step := ranks * parts):
        yield (
            f"data.batch_size={batch}: the whole batch is shared by {ranks} ranks and {parts} accumulation steps;"
            f" type data.batch_size={max(1, round(batch / step)) * step}"
        )
    if ranks > 1 and not cfg.trainer.strategy:
        yield f"trainer.devices={bounds.shown(devices)} without a strategy: type trainer=ddp or trainer=ddp_cpu"
    yield from _too_large(cfg, ranks * parts)


def _too_large(cfg: DictConfig, parts: int) -> Iterator[str]:
    """Yield a batch whose images alone exceed this machine's memory: each float32, with a fake and both gradients."""
    image = 4 * 4 * math.prod(kind_of(_class(cfg.data)).shape(cfg.data))
    if cfg.data.batch_size * image > parts * (here := processes.memory()):
        most = max(1, int(here / image / 64)) * parts
        yield (
            f"data.batch_size={cfg.data.batch_size}: its images alone take {_bytes(cfg.data.batch_size * image)} and"
            f" this machine has {_bytes(here)}; type for example data.batch_size={min(64 * parts, most)}"
        )


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.0f} EB"


def _names(cfg: DictConfig) -> Iterator[str]:
    """Yield the schedules of optimizers, and the averages of networks, that the model does not have."""
    optimizers = [str(key) for key in cfg.model.get("optimizers") or {}]
    networks = [name for name, _ in _network_nodes(cfg)]
    for group, known in (("schedules", optimizers), ("ema", networks)):
        for name in cfg.model.get(group) or {}:
            if name not in known:
                yield (
                    f"model.{group}.{name!s}: there is nothing of that name{nearest(str(name), known)};"
                    f" type one of {', '.join(known)}"
                )


def _compiled(cfg: DictConfig) -> Iterator[str]:
    """Yield the networks to compile that the model does not have, and what is missing to compile."""
    known = dict(_network_nodes(cfg))
    for name in cfg.trainer.get("compile") or ():
        if name not in known:
            yield (
                f"trainer.compile={name}: there is no network of that name{nearest(str(name), [*known])};"
                f" type trainer.compile=[{','.join(known)}] or some of them"
            )
        elif _spectrally_normalised(known[name]):
            yield (
                f"trainer.compile={name}: spectral norm moves its vectors in each forward, and compiled code cannot be"
                f" differentiated after that; leave {name} out"
            )
    if cfg.trainer.get("compile"):
        yield from no_compiler("trainer.compile")


def no_compiler(key: str) -> Iterator[str]:
    """Yield that torch cannot compile on this machine, as `key` asks for, if it lacks a C++ compiler."""
    if not any(map(shutil.which, COMPILERS)):
        yield f"{key}: torch needs a C++ compiler and there is none of {', '.join(COMPILERS)}; leave it out"


def _early(cfg: DictConfig) -> Iterator[str]:
    """Yield why the score that is to end a run early would not be measured."""
    node: DictConfig | None = cfg.callbacks.get("early_stopping")
    if not node or not node.get("patience"):
        return
    key, scores = f"callbacks.early_stopping.patience={node.patience}", cfg.callbacks.get("scores")
    if not cfg.metrics or not scores:
        yield f"{key}: there is no score to go by; type metrics=digits or metrics=inception, and no callbacks=none"
    elif not scores.get("every"):
        yield f"{key}: callbacks.scores.every=0 scores at the end alone; type callbacks.scores.every={node.patience}"
    elif node.get("score") and node.score not in (known := [str(name) for name in cfg.metrics.get("scores") or []]):
        what = f"callbacks.early_stopping.score={node.score}"
        yield f"{what}: this run does not measure it{nearest(node.score, known)}; type one of {', '.join(known)}"


COMPILERS = ("g++", "clang++", "c++", "cl")


def _nodes(node: Any, path: str = "", copies: bool = True) -> Iterator[tuple[str, DictConfig]]:
    """Yield every node with a `_target_`, and its path; without `copies` not those that an interpolation repeats."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in map(str, node):
            if not OmegaConf.is_missing(node, key) and (copies or not OmegaConf.is_interpolation(node, key)):
                yield from _nodes(node[key], f"{path}.{key}" if path else key, copies)
    elif isinstance(node, ListConfig):
        for index, item in enumerate(node):
            yield from _nodes(item, f"{path}.{index}", copies)


def _arguments(cfg: DictConfig, computed: bool = True) -> Iterator[str]:
    """Yield the arguments that the parts do not take; values `computed` from others only if those are right."""
    found = [*_arguments_of(cfg, computed=False)]
    yield from found
    if computed and not found:
        yield from dict.fromkeys(_arguments_of(cfg, computed=True))


def _arguments_of(cfg: DictConfig, computed: bool) -> Iterator[str]:
    nodes = [*_nodes(cfg, copies=computed)]
    for path, node in nodes:
        target = node._get_node("_target_")
        reach(node["_target_"])
        try:
            with silent("hydra.utils"):
                takes = signature(get_object(node["_target_"]))
        except Exception as error:  # an import that fails, whatever its reason
            cause = error.__cause__
            lacking = cause.name if isinstance(cause, ModuleNotFoundError) else None
            if what := build.not_installed(lacking):
                own = str(lacking).partition(".")[0]
                if str(target).startswith(f"{own}.") and own not in build.PACKAGES:
                    yield (
                        f"{path}._target_={target}: there is no module {own}; if it is your own, put {own}.py into the"
                        f" current folder or its folder on PYTHONPATH, else type pip install {own}"
                    )
                    continue
                group = path.partition(".")[0]
                yield f"{group}={_choice(group)} {what}" if _choice(group) else f"{path} {what}"
                continue
            yield f"{path}._target_={target}: cannot be imported ({_short(error)})"
            continue
        yield from _arguments_of_node(path, node, takes, str(target).rpartition(".")[2], computed)
    averages = cfg.get("model") and cfg.model.get("ema")
    takes = signature(WeightAverage)
    for name, node in averages.items() if isinstance(averages, DictConfig) else ():
        if not isinstance(node, DictConfig):
            continue  # reported for model.ema as a whole
        yield from _arguments_of_node(
            f"model.ema.{name!s}", node, takes, "WeightAverage", computed, frozenset({"network"})
        )


SOURCE = re.compile(r"\$\{(\w+(?:\.\w+)+)\}")
"""A value that is another key's, which is then the one that is wrong."""


def _arguments_of_node(
    path: str, node: DictConfig, takes: Signature, title: str, computed: bool, given: frozenset[str] = frozenset()
) -> Iterator[str]:
    typed = {str(key) for key in node} - SPECIAL
    if not takes.anything:
        for key in sorted(typed - set(takes.hints)):
            yield f"{path}.{key!s}: {title} takes no such argument{nearest(key, sorted(takes.hints))}"
    if not node.get("_partial_"):
        for key in sorted(takes.required - typed - given):
            yield f"{path}.{key} is not given: {title} needs it; type +{path}.{key}=..."
    for key in sorted(typed & set(takes.hints)):
        if not OmegaConf.is_missing(node, key) and (computed or not OmegaConf.is_interpolation(node, key)):
            value = node._get_node(key)
            source = SOURCE.fullmatch(str(value._value())) if isinstance(value, ValueNode) else None
            named = source[1] if source else f"{path}.{key}"
            found = options.fault(named, node, key, takes.hints[key], takes.usual.get(key))
            yield from () if found is None else [found]


def _unread(cfg: DictConfig) -> Iterator[str]:
    for group, key, off in (
        ("loss", "loss", None),
        ("augment", "augment", "none"),
        ("technique", "techniques", "none"),
        ("perceptual", "perceptual", "none"),
    ):
        chosen = _choice(group)
        if key not in cfg.model and cfg[group] and chosen:
            undo = f"type {group}={off} or leave it out" if off else "leave it out"
            yield f"{group}={chosen}: model={_choice('model') or 'this one'} does not read it; {undo}"


def _typed(group: str) -> str:
    """Return what was typed for a group; empty if nothing was."""
    return next((word.partition("=")[2] for word in resume.overrides() if resume.key_of(word) == group), "")


def _choice(group: str) -> str | None:
    """Return the choice of a group that was typed, or that the config has; None if Hydra did not compose it."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return None
    typed = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in HydraConfig.get().overrides.task}
    return (
        typed.get(group)
        if group in ("loss", "augment", "technique", "perceptual")
        else HydraConfig.get().runtime.choices.get(group)
    )


# -------------------------------------------------------------------- what fits what


def _kind_of_data(cfg: DictConfig) -> Iterator[str]:
    try:
        needs, provides = _class(cfg.model).needs, _class(cfg.data).provides
    except Exception:  # reported by _arguments
        return
    if not needs <= provides:
        yield _other_data(cfg, needs)


def _no_data_module(cfg: DictConfig) -> Iterator[str]:
    target = get_object(cfg.data._target_)
    if not (inspect.isclass(target) and issubclass(target, DataModule)):
        yield (
            f"data._target_={cfg.data._target_}: this is no data module; derive the class from"
            f" {DataModule.__module__}.{DataModule.__name__}, which says what it must have"
        )


def _other_data(cfg: DictConfig, needs: frozenset[str]) -> str:
    names = sorted(path.stem for path in (conf_dir() / "data").glob("*.yaml"))
    try:
        own = type(kind_of(_class(cfg.model.generator)))
    except Exception:  # of several generators, all of images; or a mistake of its own line
        own = Image
    classes = {name: _class(of_choice("data", name)) for name in names}
    fitting = [name for name, data in classes.items() if needs <= data.provides and type(data.kind) is own]
    return (
        f"data={_choice('data') or cfg.data._target_} gives batches of {', '.join(sorted(_class(cfg.data).provides))};"
        f" model={_choice('model') or cfg.model._target_} trains on {', '.join(sorted(needs))};"
        f" type data= one of {', '.join(fitting)}"
    )


def _class(node: Any) -> Any:
    with silent("hydra.utils"):
        return get_class(node["_target_"])


def _loss(cfg: DictConfig) -> Iterator[str]:
    loss = build.make(cfg.loss) if "loss" in cfg.model else None
    if getattr(loss, "needs_lipschitz", False) and not (
        _promised(cfg, "lipschitz") or _spectrally_normalised(cfg.model.get("discriminator"))
    ):
        yield (
            f"loss={_choice('loss') or type(loss).__name__} needs a Lipschitz critic and model={_choice('model')} does"
            " nothing to keep it one; type technique=[weight_clipping] or model=wgan_gp, or loss=non_saturating"
        )


def _promised(cfg: DictConfig, what: str) -> bool:
    """Return True if the attribute `what` is true of the model or of one of its techniques."""
    techniques = [build.make(node) for node in (cfg.model.get("techniques") or {}).values()]
    return getattr(_class(cfg.model), what) or any(getattr(technique, what) for technique in techniques)


def _spectrally_normalised(network: Any) -> bool:
    try:
        layers = list(on_meta(network).modules())
    except Exception:  # reported by _networks
        return False
    return any(isinstance(layer, SpectralNorm) for layer in layers)


def _networks(cfg: DictConfig) -> Iterator[str]:
    networks: dict[str, nn.Module] = {}
    impossible = False
    nodes = [*_network_nodes(cfg)]
    without_labels = [name for name, node in nodes if _lacks_labels(node)]
    if without_labels:
        impossible = True
        yield _needs_labels(cfg, without_labels)
    for name, node in nodes:
        if name in without_labels:
            continue
        target = get_object(node._target_)
        try:
            networks[name] = on_meta(node)
        except ConfigError as error:
            impossible = True
            yield from error.faults
        except Exception as error:  # a layer's own error for an impossible size
            impossible = True
            yield f"model.{name}: {target.__name__} cannot be made of these arguments ({_short(error)})"

    for name, network in networks.items():
        layers = list(network.modules())
        if "discriminator" not in name:
            continue
        if isinstance(layers[-1], (nn.Sigmoid, nn.LogSigmoid)):
            yield f"model.{name} ends in a sigmoid and the losses take logits: leave out its last layer"
        if _promised(cfg, "per_sample_penalty") and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in layers):
            yield (
                f"model.{name} has batch norm, which mixes the samples that a gradient penalty looks at one by one;"
                f" {_without_batch_norm(name, cfg.model[name])}"
            )
    if {"generator", "discriminator"} == set(networks) and issubclass(_class(cfg.model), NoiseToImage):
        yield from _fit_together(networks["generator"], networks["discriminator"], cfg)
    if not impossible:
        yield from _as_a_whole(cfg, networks)


def _as_a_whole(cfg: DictConfig, networks: dict[str, nn.Module]) -> Iterator[str]:
    try:
        model: Any = on_meta(cfg.model, **networks)
    except ConfigError as error:  # the faults that a variant or a technique finds itself
        yield from error.faults
        return
    yield from _to_begin_with(cfg, model)
    yield from filter(None, (_other_classes(name, getattr(model, name), cfg) for name in model.network_names))
    augment, channels = getattr(model, "augment", None), cfg.data.get("channels", 3)
    if augment:
        yield from augment.faults(channels)
    if channels not in (1, 3) and cfg.get("perceptual"):
        yield (
            f"perceptual={_choice('perceptual') or '...'} is of grey images and RGB, and data.channels={channels}; type"
            " perceptual=none"
        )
    provides = _class(cfg.data).provides
    if type(model).needs <= provides and not model.needs <= provides:  # labels, if its networks have classes
        yield _other_data(cfg, model.needs)
    scale = getattr(model, "scale", None)
    if scale is not None and "low" in provides and scale != cfg.data.get("scale"):
        yield (
            f"model.generator enlarges {scale} times and data.scale={cfg.data.get('scale')}: type data.scale={scale}, "
            "or leave model.generator.scale out"
        )
    if cfg.metrics and isinstance(model.kind, type(kind_of(_class(cfg.data)))):  # else the usual scores are of others
        yield from metrics_of(cfg.metrics, model)


def metrics_of(metrics: DictConfig, model: Any) -> Iterator[str]:
    """Yield why a model cannot be scored by these metrics."""
    given, paired = f"metrics={_choice('metrics') or '...'}", issubclass(_class(metrics), PairedEvaluator)
    of_captions = issubclass(_class(metrics), CaptionEvaluator)
    reads = getattr(_class(metrics.get("extractor") or metrics), "reads", Image)
    if metrics._target_ == resume.AUTOMATIC and isinstance(model.kind, (*scoring.OF_KINDS,)):
        return
    frames = isinstance(model.kind, Clip) and reads is Image  # images are scored, a frame of each clip
    if model.makes_images and not (frames or isinstance(model.kind, reads)):
        yield f"{given} is of {reads.name}, and this model makes {model.kind.name}; leave metrics= out, or type none"
    elif not model.makes_images:
        if not of_captions:
            yield f"{given} is of generated images, and this model makes none; type metrics=r_precision or metrics=none"
    elif of_captions or issubclass(_class(metrics), SceneEvaluator):
        yield from _of_captions_or_scenes(metrics, model, given)
    elif not isinstance(model, ImageToImage):
        if paired:
            yield f"{given} compares pairs, and noise makes none; type metrics=none"
        yield from _first_score(metrics, model)
    elif not model.directions[model.direction("")].truth:
        if paired:
            yield (
                f"{given}: no image is known that should come of another with this model; type metrics=inception,"
                " metrics=lite0, ... (images of the other domain) or metrics=none"
            )
    elif not paired:
        yield f"{given}: this model does not draw images from noise; type metrics=paired or metrics=none"


def _of_captions_or_scenes(metrics: DictConfig, model: Any, given: str) -> Iterator[str]:
    """Yield why a model cannot be scored by metrics of captions or of scenes."""
    if issubclass(_class(metrics), SceneEvaluator):
        if not scenes.renders(getattr(model, "generator", None)):
            yield f"{given} is of rendered scenes, and this model draws images; type another metrics="
    elif not isinstance(model, TextToImage):
        yield f"{given} is of images made of captions, and this model reads none; type another metrics="
    elif issubclass(_class(metrics), RPrecisionEvaluator):
        own = getattr(model, "image_encoder", None)
        if not metrics.encoders and own is None:
            yield f"{given} needs encoders to judge by: type metrics.encoders= a run of model=damsm"


def _first_score(metrics: DictConfig, model: Any) -> Iterator[str]:
    """Yield why the first score, which decides the best checkpoint, is none of this model."""
    first = next(iter(metrics.get("scores") or ()), "")
    if first in names.of("classes") and not getattr(model, "classes", 0):
        yield (
            f"metrics.scores=[{first},...]: the first score decides the best checkpoint, and this model is told no"
            f" classes, which {first} needs; name another one first"
        )


def _without_batch_norm(name: str, node: DictConfig) -> str:
    """Return what to type for a gradient penalty on a discriminator with batch norm."""
    if node.get("norm") == "batch":
        return f"type model.{name}.norm=instance"
    if "batch_norm" in signature(get_object(node._target_)).hints:
        return f"type model.{name}.batch_norm=false or take a critic with layer norm"
    return "leave the penalty out, or take a critic without it"


def _to_begin_with(cfg: DictConfig, model: AdversarialModule) -> Iterator[str]:
    """Yield faults in what training needs: another run's networks, a perceptual loss's network, the optimizers."""
    if model.pretrained and not cfg.ckpt:
        try:
            pretrained.require(model, model.pretrained, cfg.model)
        except ConfigError as error:
            yield from error.faults
    try:
        model.configure_model()
    except ConfigError as error:
        yield from error.faults
        return
    given, used = set(model.make_optimizer), {phase.player for phase in model.phases()}
    for name in sorted(given - used):
        yield f"model.optimizers.{name}: the model has no use for it{nearest(name, sorted(used))}; leave it out"
    for name in sorted(used - given):
        yield f"model.optimizers.{name} is not given: the model needs one of that name"


def _network_nodes(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the networks of the model, by name."""
    for name, node in dict(cfg.model).items():
        if name in ("loss", "augment") or not isinstance(node, DictConfig):
            continue
        if "_target_" in node and not node.get("_partial_"):
            target = get_object(node._target_)
            if inspect.isclass(target) and issubclass(target, nn.Module):
                yield str(name), node


def _lacks_labels(node: DictConfig) -> bool:
    """Return True if a network cannot be made without classes, but can be made with some."""
    if node.get("classes") != 0:
        return False
    conditional = copy.deepcopy(node)
    conditional.classes = 2
    try:
        on_meta(conditional)
    except Exception:  # reported by _networks
        return False
    try:
        on_meta(node)
    except ConfigError:
        return True
    return False


def _needs_labels(cfg: DictConfig, networks: list[str]) -> str:
    conditioned = [name for name in networks if "conditioning" in cfg.model[name]]
    undo = " ".join(f"model.{name}.conditioning=none" for name in conditioned)
    if any(cfg.model[name].conditioning == "auxiliary" for name in conditioned):
        undo += " technique=none"
    if len(conditioned) < len(networks):
        undo = "another model, as model=dcgan"
    return (
        f"data={_choice('data') or cfg.data._target_} has no labels (data.classes={cfg.data.get('classes', 0)}) and"
        f" model={_choice('model') or cfg.model._target_} needs some; type data.classes=N where it has N classes (of a"
        f" folder: its subfolders), or {undo}"
    )


def _fit_together(generator: nn.Module, discriminator: nn.Module, cfg: DictConfig) -> Iterator[str]:
    expected = [2, *kind_of(_class(cfg.data)).shape(cfg.data)]
    given: dict[str, tuple[torch.Tensor, ...]] = {}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if other := _other_classes(name, network, cfg):
            yield other
            return
        given[name] = told(network)
    try:
        z = torch.empty([2, int(generator.latent_dim)], device="meta")  # type: ignore[arg-type]
        with Shapes():
            images = generator(z, *given["generator"])
            made = list(images.shape)
        if made != expected:
            yield f"model.generator makes images {made[1:]} and data has {expected[1:]}; {_how(generator, cfg)}"
            if len(made) != len(expected):  # of another kind, which the discriminator reads no more than the generator
                return
        with Shapes():
            seen = torch.empty(expected, device="meta")
            beside = [seen] if getattr(discriminator, "dual", False) else []
            discriminator(torch.cat([seen, *beside], 1), *given["discriminator"])
    except Exception as error:
        yield f"model.discriminator cannot read images {expected[1:]} ({_short(error)})"


def _other_classes(name: str, network: nn.Module, cfg: DictConfig) -> str:
    """Return that a network has another number of classes than the data; empty where it has not."""
    classes = int(getattr(network, "classes", 0))
    if not classes or classes == cfg.data.get("classes", classes):
        return ""
    return f"model.{name} has {classes} classes and data {cfg.data.classes}; set both by data.classes"


def _how(generator: nn.Module | type, cfg: DictConfig) -> str:
    """Return what to type if a generator makes other samples than those of the data."""
    kind = kind_of(generator)
    if type(kind) is type(kind_of(_class(cfg.data))):
        return "set both by data.resolution and data.channels"
    files = {file.stem: _class(of_choice("data", file.stem)) for file in sorted((conf_dir() / "data").glob("*.yaml"))}
    needs = _class(cfg.model).needs
    fitting = [name for name, data in files.items() if type(data.kind) is type(kind) and needs <= data.provides]
    return f"type data={' or data='.join(fitting)}" if fitting else f"type data= a choice of {kind.name}"


def on_meta(node: DictConfig, **other: Any) -> nn.Module:
    """Make a network or a model without memory for its weights, only with shapes; `other` as in `build.make`."""
    with without_memory():
        return build.make(node, **other)


def _optimizers(cfg: DictConfig) -> Iterator[str]:
    for name, node in cfg.model.get("optimizers", {}).items():
        try:
            build.make(node)([nn.Parameter(torch.empty(1))])
        except Exception as error:
            yield f"model.optimizers.{name}: {_short(error.__cause__ or error)}"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
