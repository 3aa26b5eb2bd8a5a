"""Conversion of the names and sizes of NVIDIA's StyleGAN2-ADA networks to ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gan_experiments.contracts import ConfigError
from gan_experiments.official.files import Network, State

GENERATOR = (
    (r"mapping\.embed\.(weight|bias)", "mapping.embedding.{0}"),
    (r"mapping\.fc(\d+)\.(weight|bias)", "mapping.layers.{0}.{1}"),
    (r"mapping\.w_avg", "mapping.average"),
    (r"synthesis\.b4\.const", "synthesis.const"),
    (r"synthesis\.(b\d+)\.(conv[01])\.(weight|affine\.weight|affine\.bias)", "synthesis.blocks.{0}.{1}.conv.{2}"),
    (r"synthesis\.(b\d+)\.(conv[01])\.bias", "synthesis.blocks.{0}.{1}.bias"),
    (r"synthesis\.(b\d+)\.(conv[01])\.noise_strength", "synthesis.blocks.{0}.{1}.strength"),
    (r"synthesis\.(b\d+)\.(conv[01])\.noise_const", "synthesis.blocks.{0}.{1}.noise"),
    (r"synthesis\.(b\d+)\.torgb\.(weight|affine\.weight|affine\.bias)", "synthesis.blocks.{0}.to_rgb.{1}"),
    (r"synthesis\.(b\d+)\.torgb\.bias", "synthesis.blocks.{0}.bias"),
)
DISCRIMINATOR = (
    (r"mapping\.embed\.(weight|bias)", "mapping.embedding.{0}"),
    (r"mapping\.fc(\d+)\.(weight|bias)", "mapping.layers.{0}.{1}"),
    (r"b\d+\.fromrgb\.(weight|bias)", "from_rgb.{0}"),
    (r"b4\.conv\.(weight|bias)", "conv.{0}"),
    (r"b4\.fc\.(weight|bias)", "linear.{0}"),
    (r"b4\.out\.(weight|bias)", "output.{0}"),
    (r"(b\d+)\.(conv[01]|skip)\.(weight|bias)", "blocks.{0}.{1}.{2}"),
)
"""Patterns of NVIDIA's names, each with our name; a block's b<pixels> becomes its index."""
WIDTH = r"synthesis\.b\d+\.conv1\.bias"


def generator(network: Network) -> State:
    """Return these weights as the state dict of a `StyleGAN2Generator`. Raises ConfigError for another network."""
    return renamed(network.state, GENERATOR, lambda pixels: pixels.bit_length() - 3)


def discriminator(network: Network, resolution: int) -> State:
    """Return these weights as the state dict of a `StyleGAN2Discriminator`. Raises ConfigError for another network."""
    return renamed(network.state, DISCRIMINATOR, lambda pixels: resolution.bit_length() - pixels.bit_length())


def renamed(
    state: State, names: tuple[tuple[str, str], ...], number: Callable[[int], int], source: str = "StyleGAN2-ADA"
) -> State:
    """Return a state with our names for those that the patterns `names` know, the index of a block by its pixels.

    Raises ConfigError for a name that none of them knows; `source` is whose networks they are.
    """
    found_all = {}
    for name, tensor in state.items():
        if name.rpartition(".")[2] == "resample_filter":
            continue  # always [1, 3, 3, 1]
        for pattern, ours in names:
            if found := re.fullmatch(pattern, name):
                words = [number(int(word[1:])) if re.fullmatch(r"b\d+", word) else word for word in found.groups()]
                found_all[ours.format(*words)] = tensor.detach().clone()
                break
        else:
            raise ConfigError(f"has {name}, which {source}'s networks have not (of architecture orig or resnet)")
    return found_all


def settings(made: Network, judge: Network | None) -> dict[str, Any]:
    """Return the config keys of model=stylegan2 that fit these networks. Raises ConfigError for other networks.

    No tensor tells the group size of the minibatch standard deviation: it is 4 if the file has no arguments. Half
    precision is left out: feature maps are computed in float32 and not clamped, while NVIDIA's code clamps them in
    layers that it trained in float16.
    """
    state = made.state
    widths = {int(name.split(".")[1][1:]): len(state[name]) for name in state if re.fullmatch(WIDTH, name)}
    if not widths or "mapping.fc0.weight" not in state:
        raise ConfigError(f"holds no generator of StyleGAN2-ADA's, but {', '.join([*state][:3])}, ...")
    resolution, label = max(widths), state.get("mapping.embed.weight")
    channel_max, channel_base = max(widths.values()), widths[resolution] * resolution
    if any(min(channel_base // pixels, channel_max) != width for pixels, width in widths.items()):
        raise ConfigError(f"has channels {widths}, which no channel_base and channel_max make")
    found: dict[str, Any] = {
        "data.resolution": resolution,
        "data.channels": len(state["synthesis.b4.torgb.bias"]),
        "data.classes": 0 if label is None else label.shape[1],
        "model.generator.latent_dim": state["mapping.fc0.weight"].shape[1] - (0 if label is None else len(label)),
        "model.generator.w_dim": state["synthesis.b4.conv1.affine.weight"].shape[1],
        "model.generator.channel_base": channel_base,
        "model.generator.channel_max": channel_max,
        "model.generator.mapping_layers": layers(state),
    }
    if judge is not None:
        found |= of_discriminator(judge, resolution)
        if label is not None:
            found["+model.discriminator.mapping_layers"] = layers(judge.state)
    return found


def of_discriminator(judge: Network, resolution: int) -> dict[str, Any]:
    """Return the config keys of a discriminator's architecture and group."""
    told = judge.arguments.get("epilogue_kwargs", {})
    group = told.get("mbstd_group_size") if isinstance(told, Mapping) else None
    return {
        "model.discriminator.architecture": "resnet" if f"b{resolution}.skip.weight" in judge.state else "orig",
        "model.discriminator.group": group if type(group) is int and group > 0 else 4,
    }


def layers(state: State) -> int:
    """Return the number of layers of a mapping."""
    return sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in state)
