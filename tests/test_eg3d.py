"""EG3D: sizes, images and gradients of the official modules, and its training."""

from __future__ import annotations

import functools
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from support import compose, difference, small, train
from torch import Tensor, nn

from gan_experiments import cameras
from gan_experiments.assembly import check, trained
from gan_experiments.augment.ada import ADA
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.volume_rendering import limits_of
from gan_experiments.losses.penalties import r1_penalty
from gan_experiments.models.eg3d import blurred
from gan_experiments.networks.eg3d import EG3DDiscriminator, EG3DGenerator, paired
from gan_experiments.official import files
from gan_experiments.verbs import convert


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seen_from(yaw: float = 0.3, pitch: float = 0.1) -> Tensor:
    angles = (torch.tensor([angle], dtype=torch.float64) for angle in (yaw, pitch))
    return cameras.joined(cameras.on_sphere(*angles, 2.7), cameras.intrinsics_of(18.837).double())


@pytest.mark.parametrize(
    ("resolution", "start", "widths", "sizes"),
    [
        (512, 128, (256, 128), (30_662_136, 31_359_744)),
        (512, 128, (128, 64), (29_587_512, 31_359_744)),
        (256, 128, (128, 64), (29_587_512, 31_241_216)),
        (128, 64, (128, 64), (29_587_512, 30_766_592)),
    ],
    ids=["8XDC", "8X", "4X", "2X"],
)
def test_the_official_numbers_of_parameters(
    resolution: int, start: int, widths: tuple[int, int], sizes: tuple[int, int]
) -> None:
    """Counted of the authors' modules (NVlabs/eg3d, 7cf1fd1): ffhq512 and afhq512, 256, shapenet128."""
    with torch.device("meta"):
        generator = EG3DGenerator(resolution=resolution, upsampled_from=start, upsampling_widths=widths)
        discriminator = EG3DDiscriminator(resolution)
    assert (count(generator), count(discriminator)) == sizes
    assert count(generator.mapping) + count(generator.synthesis.planes) == 29_008_301
    assert count(generator.synthesis.decoder) == 4_257


def filled(networks: dict[str, nn.Module]) -> None:
    """Give every tensor of these networks, by its official name, the sines of its places."""
    for name, tensor in official_names(networks).items():
        size = 100.0 if "mapping.fc" in name and tensor.ndim == 2 else 1.4
        values = torch.arange(tensor.numel()).double() * 0.7 + sum(map(ord, name)) % 97
        with torch.no_grad():
            tensor.copy_(size * values.sin().view_as(tensor))


def official_names(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of a generator or a discriminator of 128 pixels by the names of NVIDIA's."""
    found = {}
    for player, network in networks.items():
        names = (
            (r"synthesis\.super_resolution\.blocks\.(\d)\.", r"superresolution.block\1."),
            (r"synthesis\.decoder\.hidden\.", "decoder.net.0."),
            (r"synthesis\.decoder\.output\.", "decoder.net.2."),
            (r"synthesis\.planes\.const", "backbone.synthesis.b4.const"),
            (r"synthesis\.planes\.blocks\.(\d)\.", lambda found: f"backbone.synthesis.b{4 << int(found[1])}."),
            (r"mapping\.embedding\.", "mapping.embed."),
            (r"mapping\.layers\.(\d)\.", r"mapping.fc\1."),
            (r"mapping\.average", "mapping.w_avg"),
            (r"^mapping", "backbone.mapping" if player == "generator" else "mapping"),
            (r"(block\d|b\d+)\.bias$", r"\1.torgb.bias"),
            (r"\.to_rgb\.", ".torgb."),
            (r"\.conv\.(weight|affine)", r".\1") if player == "generator" else ("^conv\\.", "b4.conv."),
            (r"\.strength$", ".noise_strength"),
            (r"\.noise$", ".noise_const"),
            (r"^from_rgb", "b128.fromrgb"),
            (r"^blocks\.(\d)", lambda found: f"b{128 >> int(found[1])}"),
            (r"^linear", "b4.fc"),
            (r"^output", "b4.out"),
        )
        for name, tensor in network.state_dict().items():
            found[functools.reduce(lambda word, rule: re.sub(*rule, word), names, name)] = tensor
    return found


@pytest.fixture(scope="module")
def official() -> tuple[EG3DGenerator, EG3DDiscriminator]:
    """Networks of 128 pixels and few channels in float64, with weights by a rule."""
    generator = EG3DGenerator(
        8, 128, channel_base=1024, channel_max=8, neural_resolution=6, samples=6, further=5, upsampled_from=64,
        upsampling_widths=(128, 64), official_planes=True,
    ).double()  # fmt: skip
    discriminator = EG3DDiscriminator(128, channel_base=1024, channel_max=8).double()
    filled({"generator": generator})
    filled({"discriminator": discriminator})
    with torch.no_grad():
        generator.synthesis.decoder.hidden.weight.mul_(20)
    return generator, discriminator


def test_images_and_gradients_are_those_of_the_official_code(
    official: tuple[EG3DGenerator, EG3DDiscriminator],
) -> None:
    """Of NVlabs/eg3d 7cf1fd1 in float64: even places on the rays, noise_mode="const", weights by the same rule."""
    generator, discriminator = official
    z, camera = (torch.arange(8).double() * 1.3).cos()[None], seen_from()
    view = generator.seen(generator.truncate(generator.mapping(z, camera), None), camera)
    assert view.images.sum().item() == pytest.approx(53885.6636029, rel=1e-7)
    assert (view.raw.sum().item(), view.raw.std().item()) == pytest.approx((20.625354878, 0.648157721), rel=1e-7)
    assert (view.depth.sum().item(), view.depth.std().item()) == pytest.approx((92.009287920, 0.216917622), rel=1e-7)
    logits = discriminator(paired(view.images, view.raw), camera)
    assert logits.item() == pytest.approx(-597.917804, rel=1e-7)
    nn.functional.softplus(-logits / 100).mean().backward()
    synthesis = generator.synthesis
    first = synthesis.super_resolution.blocks[0].conv0.conv.weight
    found = [
        weight.grad.abs().sum().item() for weight in (synthesis.decoder.output.weight, synthesis.planes.const, first)
    ]
    assert found == pytest.approx([31.520552925, 3.391934132, 45.826990845], rel=1e-7)


def test_the_penalty_is_on_both_images(official: tuple[EG3DGenerator, EG3DDiscriminator]) -> None:
    """The gradient is that of the image and of what was rendered, as small as it is (StyleGAN2Loss of the authors)."""
    discriminator = official[1]
    discriminator.zero_grad()
    image = (torch.arange(3 * 128 * 128).double() * 0.01).sin().view(1, 3, 128, 128)
    raw = (torch.arange(3 * 36).double() * 0.1).cos().view(1, 3, 6, 6)
    penalty = r1_penalty(lambda *both: discriminator(paired(*both), seen_from()), image, raw)
    assert penalty.item() == pytest.approx(182.872252013, rel=1e-7)
    penalty.backward()
    assert discriminator.from_rgb.weight.grad.abs().sum().item() == pytest.approx(560.681576685, rel=1e-7)


DUAL = (
    *("model.generator.upsampled_from=16", "model.generator.upsampling_widths=[4,4]", "model.discriminator.dual=true"),
    *("model.generator.neural_resolution=8", "model.neural_resolution=16", "model.neural_images=8"),
    *("model.generator.further=3", "model.generator.told_cameras=true", "model.swap_images=16"),
    *("model.blur=2", "model.blur_images=12", "model.camera_noise=0.1", "technique.density.order=detached"),
    *("technique.density.every=2", "technique.r1.every=2", "data.batch_size=2", "images=8"),
)
"""A small network with super-resolution, and all that changes with the images seen."""


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model after 8 images."""
    return train(small(tmp_path_factory.mktemp("eg3d") / "run", "eg3d", *DUAL))


def test_super_resolution_trains_and_resumes_exactly(dual: Any, tmp_path: Path) -> None:
    model, folder = dual, tmp_path / "run"
    train(small(folder, "eg3d", *DUAL, "images=4"), every=4)
    again = train(small(tmp_path / "again", "eg3d", *DUAL), checkpoint=folder / "checkpoints/last.ckpt")
    assert not difference(model.state_dict(), again.state_dict())
    assert model.sample(model.fixed_noise(3, 0), labels=model.conditions(3, 0)).shape == (3, 3, 32, 32)


def test_what_changes_with_the_images_seen(dual: Any) -> None:
    model = dual
    told = {}
    for images in (0, 4, 6, 8, 12, 16):
        model.images_seen = images
        model.grow()
        told[images] = model.blurred, model.swapped_share, model.generator.synthesis.neural_resolution
    model.images_seen = 8
    model.grow()
    assert told[0] == (2, 1, 8)
    assert told[4] == pytest.approx((4 / 3, 0.875, 12))
    assert (told[6][0], told[6][2]) == (1, 14)
    assert told[12][0] == 0
    assert told[16][1:] == (0.5, 16)
    assert model.averages["generator"].network.synthesis.neural_resolution == 16


def test_cameras_of_the_mapping_are_swapped(dual: Any) -> None:
    """Each by itself with the probability; those that see the scene stay."""
    model = dual
    stream = torch.Generator().manual_seed(0)
    model.draw = lambda sampler, *shape, shared=False: sampler(shape, generator=stream)
    cameras_seen = seen_from().float().expand(2000, -1)
    swapped = (model.told_mapping(cameras_seen) != cameras_seen).any(1).double().mean().item()
    del model.draw
    assert swapped == pytest.approx(model.swapped_share, abs=0.03)


def test_the_blur_is_the_official_one() -> None:
    """A point becomes 2^-(d/σ)² over its sum, cut off at 3 σ; a third of a pixel changes nothing."""
    image = torch.zeros(1, 2, 15, 15)
    image[:, 1, 7, 7] = 1
    taps = torch.exp2(-((torch.arange(-4, 5) / 1.5) ** 2))
    expected = torch.outer(taps, taps) / taps.sum() ** 2
    assert torch.allclose(blurred(image, 1.5)[0, 1, 3:12, 3:12], expected)
    assert blurred(image, 1.5)[0, 0].abs().max() == 0
    assert blurred(image, 0.33) is image


def test_both_of_a_pair_are_augmented_alike(dual: Any) -> None:
    model = dual
    stream = torch.Generator().manual_seed(0)
    model.draw = lambda sampler, *shape, shared=False: sampler(shape, generator=stream)
    model.augment = ADA(target=None, p=0.9)
    images = torch.rand(3, 3, 32, 32)
    first, second = model.with_augmentation(torch.cat([images, images], 1)).chunk(2, 1)
    del model.draw
    model.augment = None
    assert torch.equal(first, second)
    assert not torch.allclose(first, images)


def test_scenes_and_their_densities(dual: Any) -> None:
    """What cameras see has depths between the ends of rays; a scene's densities do not depend on the camera."""
    generator = dual.network("generator")
    ws = generator.truncate(generator.mapping(torch.randn(2, 8), seen_from().float().expand(2, -1)), None)
    view = generator.seen(ws, torch.cat([seen_from(0.3), seen_from(2.0)]).float())
    assert view.images.shape == (2, 3, 32, 32)
    assert view.raw.shape == (2, 3, 16, 16)
    assert view.depth.min() > 2.7 - 0.5
    assert view.depth.max() < 2.7 + 0.5
    assert generator.densities(ws, torch.rand(2, 5, 3)).min() > 0
    assert (view.opacity >= 0).all()


def test_rectangles() -> None:
    """What is rendered has the shape of the images, and so have pixels."""
    generator = EG3DGenerator(
        4, (16, 32), w_dim=4, channel_base=64, channel_max=4, plane_resolution=16, plane_channels=2,
        neural_resolution=8, samples=3, further=0, upsampled_from=8, upsampling_widths=(4, 4),
    )  # fmt: skip
    ws = generator.truncate(torch.randn(1, 4), None)
    view = generator.seen(ws, seen_from().float())
    assert view.images.shape == (1, 3, 16, 32)
    assert view.raw.shape == (1, 3, 8, 16)
    logits = EG3DDiscriminator((16, 32), channel_base=64, channel_max=4)(paired(view.images, view.raw), seen_from())
    assert logits.shape == (1,)


def test_rays_enter_and_leave_the_box() -> None:
    origins = torch.tensor([[[0.0, 0, 2], [0, 0, 2]]])
    directions = torch.nn.functional.normalize(torch.tensor([[[0.0, 0, -1], [1, 0, 0]]]), dim=2)
    near, far = limits_of(origins, directions, 1.0)
    assert near.flatten().tolist() == [1.5, 1.5]  # the second misses it, and begins where the first does
    assert far[0, 0, 0].item() == 2.5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.discriminator.dual=true"], "type model.discriminator.dual=false"),
        (["model.neural_resolution=16"], "without super-resolution the resolution that is rendered"),
        (["model.generator.upsampled_from=5"], "or twice or four times as large"),
        (["model.generator.near=2"], "type both, or null for both"),
        (["model.generator.features=2"], r"type model\.generator\.features=32"),
        (["model.generator.half=banana"], r"^half=banana: there is no such form; type half= one of bfloat16, float16$"),
        (["model.fake_labels=uniform"], "cameras are drawn as the data have them"),
        (["data=folder"], r"trains on camera, real; type data= one of posed, posed_shapes"),
    ],
)
def test_mistakes_are_one_line(words: list[str], line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=line):
        check.require(small(tmp_path / "run", "eg3d", *words))


def test_official_sizes_are_experiments(tmp_path: Path) -> None:
    """With the parameters of the authors' networks."""
    for name, sizes in (("eg3d_ffhq", (30_662_136, 31_359_744)), ("eg3d_cars", (29_587_512, 30_766_592))):
        cfg = compose(tmp_path, f"experiment={name}", "metrics=none")
        with torch.device("meta"):
            networks = [hydra.utils.instantiate(cfg.model[player]) for player in ("generator", "discriminator")]
        assert tuple(map(count, networks)) == sizes


# ------------------------------------------------------------------------------------------ weights of the authors


class OSGDecoder:
    """A module of theirs that carries no source with it: a pickle names its class."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._parameters, self._buffers, self._modules = tensors, {}, {}


class Persistent:
    """One that does: what a pickle would run to make it."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return _reconstruct_persistent_obj, ({"module_src": "raise SystemExit", "state": self.state},)


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("the code of the file was run")


def test_their_weights_become_a_run(tmp_path: Path) -> None:
    """Of tensors alone, those for 128 pixels are taken for cars. The run makes the same images, and turns."""
    given = EG3DGenerator(
        4, 128, w_dim=8, channel_base=64, channel_max=8, told_cameras=False, plane_resolution=16, plane_channels=2,
        features=4, decoder_width=3, samples=64, further=64, near=0.1, far=2.6, box=1.6, white=True, upsampled_from=64,
        upsampling_widths=(4, 3), official_planes=True,
    )  # fmt: skip
    judge = EG3DDiscriminator(128, channel_base=128, channel_max=4)
    states = {"G_ema": official_names({"generator": given}), "D": official_names({"discriminator": judge})}
    torch.save(states, tmp_path / "cars.pt")
    cfg = {"weights": str(tmp_path / "cars.pt"), "out": str(tmp_path / "run"), "existing": "refuse"}
    assert convert.convert(OmegaConf.create(cfg)) == 0
    model: Any = trained.open_run(str(tmp_path / "run"), "cpu").model
    assert model.discriminator.state_dict().keys() == judge.state_dict().keys()
    camera = model.conditions(1, 0)
    assert camera[0, [3, 7, 11]].tolist() == pytest.approx([0, 0, 1.7])
    z = torch.randn(1, 4)
    with torch.no_grad():
        assert torch.equal(model.network("generator")(z, camera), given.eval()(z, camera))


def test_a_pickle_says_how_rays_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No class of theirs is needed, and none of their code is run."""
    for thing, module in ((OSGDecoder, "training.triplane"), (_reconstruct_persistent_obj, "torch_utils.persistence")):
        stand_in = types.ModuleType(module)
        monkeypatch.setitem(sys.modules, module.partition(".")[0], types.ModuleType(module.partition(".")[0]))
        monkeypatch.setitem(sys.modules, module, stand_in)
        monkeypatch.setattr(thing, "__module__", module)
        setattr(stand_in, thing.__name__, thing)
    inside = OSGDecoder({"weight": torch.ones(2)})
    whole = Persistent(
        _parameters={}, _buffers={}, _modules={"decoder": inside}, _init_kwargs={"img_resolution": 128},
        rendering_kwargs={"ray_start": "auto"}, neural_rendering_resolution=96,
    )  # fmt: skip
    (tmp_path / "network.pkl").write_bytes(pickle.dumps({"G_ema": whole}))
    network = files.read(tmp_path / "network.pkl", "weights")["G_ema"]
    assert network.state.keys() == {"decoder.weight"}
    assert network.attributes["rendering_kwargs"] == {"ray_start": "auto"}
    assert (network.arguments["img_resolution"], network.attributes["neural_rendering_resolution"]) == (128, 96)
