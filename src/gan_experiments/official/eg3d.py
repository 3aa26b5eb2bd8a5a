"""Conversion of the names and settings of the official EG3D networks (NVlabs/eg3d) to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gan_experiments import cameras
from gan_experiments.contracts import ConfigError
from gan_experiments.official import stylegan2
from gan_experiments.official.files import Network, State

PLANES = 3
_WIDE = re.compile(r"b\d+\.conv0?\.bias").fullmatch
OWN = (
    (r"superresolution\.block(\d+)\.(conv[01])\.(weight|affine\.weight|affine\.bias)", "{0}.{1}.conv.{2}"),
    (r"superresolution\.block(\d+)\.(conv[01])\.bias", "{0}.{1}.bias"),
    (r"superresolution\.block(\d+)\.(conv[01])\.noise_strength", "{0}.{1}.strength"),
    (r"superresolution\.block(\d+)\.(conv[01])\.noise_const", "{0}.{1}.noise"),
    (r"superresolution\.block(\d+)\.torgb\.(weight|affine\.weight|affine\.bias)", "{0}.to_rgb.{1}"),
    (r"superresolution\.block(\d+)\.torgb\.bias", "{0}.bias"),
)
DECODER = ((r"decoder\.net\.0\.(weight|bias)", "hidden.{0}"), (r"decoder\.net\.2\.(weight|bias)", "output.{0}"))
NAMES = (
    *(
        (rf"backbone\.{theirs}", ours.replace("synthesis.", "synthesis.planes."))
        for theirs, ours in stylegan2.GENERATOR
    ),
    *((theirs, f"synthesis.super_resolution.blocks.{ours}") for theirs, ours in OWN),
    *((theirs, f"synthesis.decoder.{ours}") for theirs, ours in DECODER),
)
"""Patterns of the official names of a generator, each with our name; a block's b<pixels> becomes its index."""


def is_one(network: Network) -> bool:
    """Return whether a generator is EG3D's."""
    return "decoder.net.0.weight" in network.state


def generator(network: Network) -> State:
    """Return these weights as the state dict of an `EG3DGenerator`. Raises ConfigError for another network."""
    return stylegan2.renamed(network.state, NAMES, lambda pixels: pixels.bit_length() - 3, "EG3D")


def discriminator(network: Network, resolution: int) -> State:
    """Return these weights as the state dict of an `EG3DDiscriminator`. Raises ConfigError for another network."""
    return stylegan2.discriminator(network, resolution)


FACES = {"ray_start": 2.25, "ray_end": 3.3, "box_warp": 1, "depth_resolution": 48, "depth_resolution_importance": 48}
CARS = {"ray_start": 0.1, "ray_end": 2.6, "box_warp": 1.6, "depth_resolution": 64, "depth_resolution_importance": 64}
"""How the authors render faces and cats, and cars; for files of tensors alone, which do not say it."""
FOCAL = {2.7: 4.2647, 1.7: 131.25 / 128}
"""The focal lengths of the authors' data in parts of a side, by how far away their cameras are."""


def settings(made: Network, judge: Network | None) -> dict[str, Any]:
    """Return the config keys of model=eg3d that fit these networks. Raises ConfigError for other networks.

    A file of tensors alone does not say how rays are sampled: that is then as for cars if images have 128 pixels, and
    as for faces if they have more. Half precision is left out, as in `stylegan2.settings`.
    """
    state, told = made.state, made.arguments
    inner = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    plain = stylegan2.settings(Network(inner), None)
    resolution = _resolution(made, judge)
    cars = resolution == 128
    rendered = {**(CARS if cars else FACES), "white_back": cars, "c_gen_conditioning_zero": cars}
    if isinstance(given := made.attributes.get("rendering_kwargs", told.get("rendering_kwargs")), Mapping):
        rendered = {"white_back": False, "c_gen_conditioning_zero": False} | dict(given)
    if rendered.get("disparity_space_sampling"):
        raise ConfigError("has disparity_space_sampling, rays sampled by one over their depth, which is not done here")
    widths = [len(state[f"superresolution.block{block}.conv1.bias"]) for block in (0, 1)]
    start = 64 if resolution == 128 else 128
    side = made.attributes.get("neural_rendering_resolution", 64)
    automatic = rendered["ray_start"] == "auto"
    found = {
        "data.resolution": resolution,
        "data.channels": len(state["superresolution.block1.torgb.bias"]),
        **{key: value for key, value in plain.items() if key.startswith("model.generator.")},
        "model.generator.told_cameras": not rendered.get("c_gen_conditioning_zero", False),
        "model.generator.plane_resolution": plain["data.resolution"],
        "model.generator.plane_channels": plain["data.channels"] // PLANES,
        "model.generator.neural_resolution": side,
        "model.generator.features": len(state["decoder.net.2.bias"]) - 1,
        "model.generator.decoder_width": len(state["decoder.net.0.bias"]),
        "model.generator.samples": rendered["depth_resolution"],
        "model.generator.further": rendered["depth_resolution_importance"],
        "model.generator.near": "null" if automatic else rendered["ray_start"],
        "model.generator.far": "null" if automatic else rendered["ray_end"],
        "model.generator.box": rendered["box_warp"],
        "model.generator.white": bool(rendered["white_back"]),
        "model.generator.upsampled_from": start,
        "model.generator.upsampling_widths": f"[{widths[0]},{widths[1]}]",
        "model.generator.upsampling_noise": rendered.get("superresolution_noise_mode", "none") != "none",
        "model.generator.official_planes": True,
        "model.discriminator.dual": True,
    }
    if judge is not None:
        found |= stylegan2.of_discriminator(judge, resolution)
        sizes = {int(name[1:].partition(".")[0]): len(tensor) for name, tensor in judge.state.items() if _WIDE(name)}
        found["model.discriminator.channel_base"] = sizes[resolution] * resolution
        found["model.discriminator.channel_max"] = max(sizes.values())
        found["model.discriminator.mapping_layers"] = stylegan2.layers(judge.state)
    return found


def _resolution(made: Network, judge: Network | None) -> int:
    """Return the side of the images: the discriminator's, or the one of the arguments, or of the super-resolution."""
    if judge is not None:
        return max(int(name[1:].partition(".")[0]) for name in judge.state if re.match(r"b\d+\.", name))
    told = made.arguments.get("img_resolution")
    return told if type(told) is int else made.state["superresolution.block1.conv1.noise_const"].shape[-1]


def camera(made: Network) -> Tensor:
    """Return a camera [1, 25] in front of what the network was trained on, as far away as those of its data."""
    given = made.attributes.get("rendering_kwargs", {})
    cars = made.state["superresolution.block1.conv1.noise_const"].shape[-1] == 128
    radius = float(given.get("avg_camera_radius", 1.7 if cars else 2.7))
    pivot = torch.tensor([[float(number) for number in given.get("avg_camera_pivot", (0, 0, 0))]])
    place = torch.tensor([[0.0, 0.0, radius]])
    focal = FOCAL.get(radius, FOCAL[2.7])
    intrinsics = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    return cameras.joined(cameras.looking(place, pivot - place), intrinsics)
