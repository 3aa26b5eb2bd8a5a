"""pi-GAN: what the official modules count and compute, rays, and what a pose does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from support import small, train

from gan_experiments.assembly import build
from gan_experiments.cameras import angles_of
from gan_experiments.contracts import ConfigError
from gan_experiments.data.posed import PosedFolder
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.exploration.orbit import Orbit
from gan_experiments.exploration.shape import Shape
from gan_experiments.layers.rays import camera_on_sphere, pixel_rays
from gan_experiments.layers.volume_rendering import weights_of, where_it_counts
from gan_experiments.networks import pi_gan
from gan_experiments.networks.pi_gan import PiGANDiscriminator, PiGANGenerator
from gan_experiments.runs import configs
from gan_experiments.verbs import sample


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_official_numbers_of_parameters() -> None:
    """Counted of the authors' modules (github marcoamonteiro/pi-GAN)."""
    with torch.device("meta"):
        generator = PiGANGenerator()
        assert count(generator) == 1_910_788  # SPATIALSIRENBASELINE
        assert count(generator.siren.mapping) == 1_381_632
        assert count(PiGANDiscriminator(512, told=0)) == 12_412_465  # ProgressiveDiscriminator
        assert count(PiGANDiscriminator(512)) == 12_825_523  # ProgressiveEncoderDiscriminator


def test_a_ray_through_fog() -> None:
    """Of density 2 from 0 to 1, as the authors' fancy_integration has it; and through nothing."""
    places = torch.linspace(0, 1, 4, dtype=torch.float64)
    weights = weights_of(torch.full((4,), 2.0, dtype=torch.float64), places)
    assert weights.tolist() == pytest.approx([0.486583, 0.249820, 0.128262, 0.135335], abs=1e-6)
    assert (weights * places).sum().item() == pytest.approx(0.304117, abs=1e-6)
    assert not weights_of(torch.zeros(4), places).any()


def test_cameras_and_their_rays() -> None:
    """In front is +z, and the first row is the top."""
    front = torch.tensor([math.pi / 2], dtype=torch.float64)
    (camera,) = camera_on_sphere(front, front)
    assert torch.allclose(camera[:3, :3], torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert camera[:3, 3].tolist() == pytest.approx([0, 0, 1], abs=1e-12)
    aside = camera_on_sphere(front + torch.linspace(-1, 1, 5), front + torch.linspace(-0.5, 0.3, 5))
    towards = -aside[:, :3, 2]
    assert torch.allclose(aside[:, :3, 3] + towards, torch.zeros(5, 3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(torch.linalg.det(aside), torch.ones(5, dtype=torch.float64))
    rays = pixel_rays(2, 2, 12.0, front)
    assert rays[0].tolist() == pytest.approx([-0.103962, 0.103962, -0.989133], abs=1e-6)
    assert rays[3].tolist() == pytest.approx([0.103962, -0.103962, -0.989133], abs=1e-6)
    wide = pixel_rays(2, 4, 12.0, front).view(2, 4, 3)
    assert (wide[0, 0, 0] / wide[0, 0, 1]).item() == pytest.approx(-2)


def test_more_samples_where_it_counts() -> None:
    """All within the bin that has the weight; evenly where all weigh the same."""
    places = torch.linspace(0, 1, 6, dtype=torch.float64)
    even = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    found = where_it_counts(places, torch.tensor([0, 0, 1.0, 0, 0, 0], dtype=torch.float64), even)
    assert ((found > 0.29) & (found < 0.51)).all()
    level = where_it_counts(places, torch.ones(6, dtype=torch.float64), even)
    assert torch.allclose(level, 0.1 + 0.8 * even)


def test_it_computes_what_the_official_code_does() -> None:
    """These are the numbers of the authors' modules with the same weights in float64, every ray sampled 4 + 4 times.

    Their discriminator computes the places of its maps in float32.
    """
    generator, discriminator, z = drawn()
    image = generator(z)
    assert image.shape == (2, 3, 8, 8)
    assert image.sum().item() == pytest.approx(IMAGE, abs=1e-8)
    features = discriminator.features(image)
    told = torch.cat([discriminator.head(features)[:, None], discriminator.tell(features)], 1)
    assert told.sum().item() == pytest.approx(TOLD, abs=1e-6)
    told.sum().backward()
    gradient = generator.siren.layers[0].layer.weight.grad
    assert gradient.abs().sum().item() == pytest.approx(GRADIENT, rel=1e-6)


def drawn() -> tuple[PiGANGenerator, PiGANDiscriminator, torch.Tensor]:
    """Networks in float64 whose weights are sines of their places, and noise."""
    generator = PiGANGenerator(4, 8, width=6, samples=4).double()
    discriminator = PiGANDiscriminator(8).double()
    with torch.no_grad():
        for network in (generator, discriminator):
            for parameter in network.parameters():
                size = 0.06 if network is generator else 2 / math.sqrt(parameter[0].numel())
                parameter.copy_(size * torch.arange(1, 1 + parameter.numel()).double().sin().view_as(parameter))
    return generator, discriminator, torch.arange(1, 13).double().cos().view(2, 6)


IMAGE, TOLD, GRADIENT = -89.87186928784374, 7.242319598191385, 7566.077266898288


def test_large_batches_are_rendered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same images and gradients."""
    generator, _, z = drawn()
    image = generator(z)
    image.square().sum().backward()
    before = generator.siren.density.weight.grad.clone()
    generator.zero_grad()
    monkeypatch.setattr(pi_gan, "AT_A_TIME", 1)
    parts = generator(z)
    assert torch.equal(parts, image)
    parts.square().sum().backward()
    assert torch.allclose(generator.siren.density.weight.grad, before, rtol=1e-12)
    with torch.no_grad():
        assert torch.equal(generator(z), image)


def test_laws_of_poses() -> None:
    """Normal around the front; uniform within the bounds; uniform on the sphere."""
    z = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kinds = {law: PiGANGenerator(1, 8, width=2, depth=1, poses=law, yaw=0.3, pitch=0.2) for law in LAWS}
    pitch, yaw = (kinds["normal"].poses(z) - math.pi / 2).unbind(1)
    assert (yaw.std().item(), pitch.std().item()) == pytest.approx((0.3, 0.2), rel=0.02)
    pitch, yaw = (kinds["uniform"].poses(z) - math.pi / 2).unbind(1)
    assert (yaw.abs().max().item(), pitch.abs().max().item()) == pytest.approx((0.3, 0.2), rel=0.01)
    assert yaw.std().item() == pytest.approx(0.3 / math.sqrt(3), rel=0.02)
    whole = PiGANGenerator(1, 8, width=2, depth=1, poses="sphere", yaw=math.pi, pitch=math.pi / 2)
    height = whole.poses(z)[:, 0].cos()
    assert height.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.02)


LAWS = ("normal", "uniform", "sphere")


def test_backgrounds() -> None:
    """An empty scene is black, white, or the colour of its last sample."""
    for background, value in (("nothing", -1.0), ("white", 1.0), ("last", 0.0)):
        generator = PiGANGenerator(2, 8, width=2, depth=1, samples=3, background=background)
        with torch.no_grad():
            generator.siren.density.bias.fill_(-1e3)
            generator.siren.colour.weight.zero_()
            generator.siren.colour.bias.zero_()
            assert torch.allclose(generator(torch.zeros(1, 4)), torch.tensor(value), atol=1e-6)


def test_the_noise_of_densities_ends_and_poses_are_told(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "pi_gan", "model.noise_images=12", "images=16", "data.batch_size=4")
    seen: list[float] = []

    def change(model: Any) -> None:
        usual = model.before_batch
        model.before_batch = lambda: (usual(), seen.append(model.generator.density_noise))

    model: Any = train(cfg, change=change)
    assert seen == pytest.approx([1, 2 / 3, 1 / 3, 0])
    batch = {"real": torch.zeros(4, 1, 32, 32)}
    update = model.player_update(batch, of_generator=True)
    terms = model.generator_loss(update)
    told = model.discriminator.tell(update.fake_features)[:, -2:]
    assert terms["pose"].item() == pytest.approx(15 * (told - model.generator.poses(update.z)).square().mean().item())


def test_what_is_not_told_cannot_be_weighed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.discriminator\.told=0: .* need 2 numbers; type model"):
        train(small(tmp_path / "run", "pi_gan", "model.discriminator.told=0"))


def test_real_images_are_not_faded(tmp_path: Path) -> None:
    """Where the discriminator's layers are."""
    cfg = small(tmp_path / "run", "pi_gan", "images=400", "model.start_resolution=8", "data.batch_size=4")
    model: Any = build.build_model(cfg)
    model.images_seen = int(model.growth.stable + model.growth.fade / 2)
    model.grow()
    assert 1 < model.grown < 2
    images = torch.randn(2, 1, 32, 32)
    assert torch.allclose(model.real({"real": images}), torch.nn.functional.avg_pool2d(images, 2))
    assert model.generator(torch.zeros(1, 4)).shape[-1] == 16


def test_a_turntable(tmp_path: Path) -> None:
    """From its own side each scene looks as its z says; other generators have none."""
    generator, _, z = drawn()
    pitch, yaw = (math.pi / 2 - generator.poses(z)).unbind(1)
    view = generator.seen(z, generator.cameras(yaw, pitch))
    assert torch.allclose(view.images, generator(z), atol=1e-9)
    assert not torch.allclose(generator.seen(z, generator.cameras(yaw + 0.3, pitch)).images, generator(z), atol=1e-3)
    solid = view.opacity > 0.5
    assert solid.any()
    assert ((view.depth >= generator.near) & (view.depth <= generator.far))[solid].all()


def test_a_turntable_is_written(tmp_path: Path) -> None:
    """Of two scenes, each above its depth."""
    model: Any = build.build_model(small(tmp_path / "run", "pi_gan"))
    space = LatentSpace(model, ema=False)
    assert Orbit(cells=2, steps=4, views=3).explore(space, tmp_path) == 0
    with Image.open(tmp_path / "orbit.gif") as film, Image.open(tmp_path / "orbit.png") as sheet:
        assert film.n_frames == 4
        assert sheet.width > sheet.height * 3 / 4 - 10
    assert sorted(path.name for path in tmp_path.glob("orbit.*")) == [*Orbit().writes(space)]
    with pytest.raises(ConfigError, match=r"what\.format=avi: type what\.format=gif or mp4"):
        Orbit(format="avi")


def test_the_path_of_a_turntable(tmp_path: Path) -> None:
    """All around a scene that is seen from all sides, at its middle height; else on an ellipse around the front."""
    front: Any = build.build_model(small(tmp_path / "run", "pi_gan"))
    yaw, pitch = Orbit(steps=8).path(LatentSpace(front, ema=False)).unbind(1)
    assert yaw.abs().max().item() == pytest.approx(0.6)
    assert pitch.abs().max().item() == pytest.approx(0.3)
    words = ("poses=uniform", "yaw=3.1416", "elevation=0.3")
    around: Any = build.build_model(small(tmp_path / "run", "pi_gan", *(f"model.generator.{word}" for word in words)))
    yaw, pitch = Orbit(steps=8).path(LatentSpace(around, ema=False)).unbind(1)
    assert torch.allclose(yaw.diff(), torch.tensor(math.pi / 4))
    assert torch.allclose(pitch, torch.tensor(0.3))


class Ball(torch.nn.Module):
    """A scene of a ball of radius 0.2 in a box of 1, at the top right in front, whatever the latent."""

    box, step, middle = 1.0, 1 / 64, torch.tensor([0.1, 0.2, 0.05])

    def seen(self, latents: torch.Tensor, cameras: torch.Tensor) -> None:
        """What a scene has."""

    def densities(self, latents: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """As dense as it is near the middle, 100 at the surface."""
        return 100 + 1000 * (0.2 - (points - self.middle).norm(dim=-1))


def test_scaled_densities() -> None:
    """The same scene, denser: what is seen is nearer."""
    torch.manual_seed(0)
    thin = PiGANGenerator(4, 8, 3, 8, 1, 8, samples=4, background="white")
    thick = PiGANGenerator(4, 8, 3, 8, 1, 8, samples=4, background="white", density_scale=30)
    torch.nn.init.ones_(thin.siren.density.bias)
    thick.load_state_dict(thin.state_dict())
    z, points = torch.randn(2, 6), torch.rand(2, 5, 3) * 0.1
    assert torch.allclose(thick.densities(z, points), 30 * thin.densities(z, points))
    views = [network.seen(z, network.own_cameras(z)) for network in (thin, thick)]
    assert views[1].depth.mean() < views[0].depth.mean() - 0.01


def test_a_mesh_of_a_scene(tmp_path: Path) -> None:
    """A ball is where it is and as large as it is, its surface outwards; the usual level is as the page says."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    model: Any = build.build_model(small(tmp_path / "run", "pi_gan"))
    space = LatentSpace(model, ema=False)
    space.network = Ball()
    assert Shape(cells=1, resolution=32, level=100).explore(space, tmp_path) == 0
    mesh = trimesh.load(tmp_path / "shape-00.ply")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.2**3, rel=0.02)
    assert mesh.centroid == pytest.approx(Ball.middle.numpy(), abs=2e-3)
    usual = math.log(2) / Ball.step
    assert Shape(cells=1, resolution=32).explore(space, tmp_path / "usual") == 0
    radius = 0.2 + (100 - usual) / 1000
    assert trimesh.load(tmp_path / "usual" / "shape-00.ply").volume == pytest.approx(
        4 / 3 * math.pi * radius**3, rel=0.02
    )
    with Image.open(tmp_path / "shape.png") as picture:
        dark = torch.tensor(list(picture.convert("L").getdata())).view(picture.height, picture.width) < 250
    assert dark.any()
    with pytest.raises(ConfigError, match=r"what\.level=1000: no scene is so dense; the greatest density is 2\d\d"):
        Shape(cells=1, resolution=32, level=1000).explore(space, tmp_path)


def test_scenes_seen_from_a_camera(tmp_path: Path) -> None:
    """In explorations, from one camera, whatever z says; other generators refuse it."""
    model: Any = build.build_model(small(tmp_path / "run", "pi_gan"))
    space = LatentSpace(model, ema=False, camera=[30, 10])
    z = space.noise(2)
    yaw, pitch = torch.tensor([30.0]).deg2rad(), torch.tensor([10.0]).deg2rad()
    seen = space.network.seen(z, space.network.cameras(yaw, pitch).expand(2, -1)).images
    assert torch.equal(space.images(z, None), seen)
    z[:, -2:] = 0  # the camera of z
    assert torch.equal(space.images(z, None), seen)
    with pytest.raises(ConfigError, match=r"camera=\[30\]: a camera's yaw .* type for example camera=\[30,15\]"):
        LatentSpace(model, ema=False, camera=[30])
    plain: Any = build.build_model(small(tmp_path / "run", "dcgan"))
    with pytest.raises(ConfigError, match=r"camera=\[30, 10\]: DCGANGenerator draws images and no scenes"):
        LatentSpace(plain, ema=False, camera=[30, 10])


def test_samples_from_cameras(tmp_path: Path) -> None:
    """All from one, or each from one of a file; single images have theirs beside them, which data=posed reads."""
    train(cfg := small(tmp_path / "run", "pi_gan", "data.resolution=16"), every=16)
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    words = [f"run={tmp_path / 'run'}", "device=cpu", "n=3", "singles=true", "ema=false"]

    def drawn_by(*more: str) -> Path:
        out = tmp_path / f"drawn-{len([*tmp_path.glob('drawn-*')])}"
        with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
            assert sample.sample(hydra.compose("sample", [*words, *more, f"out={out}"])) == 0
        return out

    data = PosedFolder(str(drawn_by("camera=[90,20]") / "images"), 16, cache=str(tmp_path / "cache"))
    assert len(data.training()) == 3
    yaw, pitch = angles_of(data.cameras_of("train"))
    assert torch.allclose(yaw, torch.tensor(math.pi / 2))
    assert torch.allclose(pitch, torch.tensor(math.pi / 9))
    np.save(tmp_path / "two.npy", data.cameras_of("train")[:2].numpy())
    again = PosedFolder(str(drawn_by(f"cameras={tmp_path / 'two.npy'}") / "images"), 16, cache=str(tmp_path / "cache"))
    assert torch.equal(again.training().pixels, data.training().pixels)
    bad: dict[str, Any] = {"flat": np.zeros(24), "empty": np.zeros((0, 25)), "wrong": np.ones((2, 25))}
    for name, said in {"flat": "it holds [1,24]", "empty": "it holds [0,25]", "wrong": "row 0 is no camera"}.items():
        np.save(tmp_path / f"{name}.npy", bad[name])
        with pytest.raises(ConfigError) as refused:
            drawn_by(f"cameras={tmp_path / name}.npy")
        assert said in str(refused.value)
    for text in ("cameras=none.json", "camera=[1]", "camera=north"):
        with pytest.raises(ConfigError, match=text.split("=")[0]):
            drawn_by(text)
