"""Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs.

Sangwoo Mo, Minsu Cho, Jinwoo Shin, 2020. arXiv:2002.10964

The first layers of each discriminator stay as `model.pretrained=` gave them. Layers are counted as in StyleGAN2-ADA's
option `--freezed`: from the image on, each layer with a weight matrix or kernel, a shortcut too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from gan_experiments.bounds import Count
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.virtual_batch_norm import VirtualBatchNorm
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.models.game import Game


class FreezeD(Technique):
    """The first `layers` layers of each discriminator frozen, with their norms (Mo et al. 2020, arXiv:2002.10964)."""

    def __init__(self, layers: Count = 2) -> None:
        super().__init__()
        self.layers = layers

    def join(self, model: Game) -> None:
        """Freeze the layers; raises ConfigError if a discriminator has no more than these, or is still to grow."""
        start = getattr(model, "start_resolution", None)
        if start is not None and start < model.resolution:
            raise ConfigError(
                "the first layers of a discriminator that grows come last; type model.start_resolution= the resolution"
                " of the data"
            )
        for name, network in model.networks_of("discriminator").items():
            for chain in chains(network):
                known = sum(map(_is_layer, _holders(chain)))
                if known <= self.layers:
                    raise ConfigError(
                        f"model.{name} has {known} layers and {self.layers} are to be frozen; type"
                        f" technique.freeze_d.layers={max(known - 1, 1)} or less"
                    )
                freeze(chain, self.layers)


def chains(network: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a discriminator from the image on: a list for each of those that it is made of.

    It is one list of its children in the order in which they were made, unless the network has a method `chains` that
    returns something else.
    """
    own = getattr(network, "chains", None)
    return [[network]] if own is None else own()


def freeze(chain: Iterable[nn.Module], number: int) -> None:
    """Freeze the parameters of the first `number` layers of a chain, and of the norms that go with them.

    A norm goes with the layer before it in its own module, or with the next one if there is none. Other parameters of a
    module with layers, as the gain of an attention, are frozen if all of these are.
    """
    holders = list(_holders(chain))
    layers = [module for module in holders if _is_layer(module)]
    frozen = {id(layer) for layer in layers[:number]}
    parents = {id(child): id(module) for part in chain for module in part.modules() for child in module.children()}
    for place, module in enumerate(holders):
        inside = [layer for layer in layers if layer is not module and any(layer is one for one in module.modules())]
        if inside:
            still = all(id(layer) in frozen for layer in inside)
        elif id(module) in frozen or _is_layer(module):
            still = id(module) in frozen
        else:
            before, after = ([one for one in part if _is_layer(one)] for part in (holders[:place], holders[place:]))
            siblings = [one for one in before if parents.get(id(one)) == parents.get(id(module))]
            near = siblings[-1:] or after[:1]
            still = any(id(one) in frozen for one in near)
        if still:
            for parameter in _own(module):
                parameter.requires_grad_(False)


def _holders(chain: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield the modules of a chain that have parameters of their own, in the order in which they were made."""
    for part in chain:
        for name, module in part.named_modules():
            if "parametrizations" not in name.split(".") and any(True for _ in _own(module)):
                yield module


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield a module's own parameters, also those behind a parametrization, as spectral norm is one."""
    yield from module.parameters(recurse=False)
    if is_parametrized(module):
        yield from module.parametrizations.parameters()  # type: ignore[union-attr]


def _is_layer(module: nn.Module) -> bool:
    """Return True for a layer with a matrix or a kernel; embeddings of labels do not look at the image."""
    no_layer = isinstance(module, (nn.Embedding, VirtualBatchNorm))  # the latter's scales are [C, 1, 1]
    return not no_layer and any(parameter.ndim > 1 for parameter in _own(module))
