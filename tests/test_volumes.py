"""Volumes: read, turned, drawn, saved, scored, and 3D-GAN, which makes them."""

from __future__ import annotations

import io
import logging
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from support import compose
from torch import nn
from torch.nn import functional as F

from gan_experiments import rendering
from gan_experiments.assembly import build, scoring
from gan_experiments.callbacks import memorisation
from gan_experiments.contracts import ConfigError
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.volumes import Shapes, Turned, VolumeSettings, Voxels
from gan_experiments.data.voxels import grid_of, hull
from gan_experiments.kinds import VOLUME, kind_of
from gan_experiments.kinds.volume import surface_of
from gan_experiments.metrics.measures.volume_matching import ShapePairs, surface
from gan_experiments.metrics.volumes import VolumeEvaluator, VolumeExtractor
from gan_experiments.networks.gan3d import GAN3DDiscriminator, GAN3DGenerator
from gan_experiments.provenance import Mark

MARK = Mark(model="gan3d", run="r", images_seen=8, seed=0)


def chair(side: int = 16) -> np.ndarray:
    """A seat with a back at its rear and one arm on its right, occupied or not: no two axes of it are alike."""
    grid = np.zeros((side,) * 3, dtype=bool)
    low, high = side // 8, side - side // 8
    grid[low:high, high - 2 : high, low:high] = True  # the seat
    grid[high - 2 : high, low:high, low:high] = True  # the back, far from the front and above the seat
    grid[low:high, high - 5 : high, high - 2 : high] = True  # the arm
    return grid


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def binvox(grid: np.ndarray) -> bytes:
    """What binvox would write of voxels [D, H, W]: x, z, y in its own axes, in runs of at most 255."""
    flat = grid[::-1, ::-1].transpose(2, 0, 1).reshape(-1)
    body = bytearray()
    start = 0
    for end in [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]:
        for at in range(start, end, 255):
            body += bytes([int(flat[start]), min(255, end - at)])
        start = end
    return b"#binvox 1\ndim %d %d %d\ntranslate 0 0 0\nscale 1\ndata\n" % (grid.shape[2], *grid.shape[:2]) + bytes(body)


def iou(one: Any, other: Any) -> float:
    one, other = np.asarray(one).squeeze() > 0, np.asarray(other).squeeze() > 0
    return float((one & other).sum() / (one | other).sum())


# -------------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".ply", ".off", ".glb"])
def test_a_ball_of_each_kind_of_mesh_is_a_ball_of_voxels(suffix: str) -> None:
    exported = trimesh.creation.icosphere(subdivisions=3, radius=5).export(file_type=suffix[1:])
    grid, seen = grid_of(exported if isinstance(exported, bytes) else exported.encode(), f"ball{suffix}", 24)
    places = torch.cartesian_prod(*[torch.arange(24) - 11.5] * 3).reshape(24, 24, 24, 3)
    assert (grid.shape, grid.dtype, seen) == ((1, 24, 24, 24), torch.uint8, "")
    assert set(grid.unique().tolist()) == {0, 255}
    occupied, far = grid[0] > 0, places.norm(dim=-1)  # of a voxel's centre; its corners are 0.87 away
    assert occupied[far < 10.8].all(), "the mesh is a little within the ball"
    assert not occupied[far > 11 + 0.87].any()


def test_meshes_come_upright_and_are_not_mirrored() -> None:
    mesh = surface_of(chair().astype(np.uint8) * 255)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(chair().mean(), rel=0.15)
    assert mesh.bounds[0, 0] < -0.3
    right = mesh.vertices[mesh.vertices[:, 0] > 0.3]
    left = mesh.vertices[mesh.vertices[:, 0] < -0.3]
    assert len(right) > len(left), "the arm is on the right"
    top = mesh.vertices[:, 1] > 0.1
    assert (mesh.vertices[top, 2] < 0).all(), "the back is at the rear, and rises"
    for up, turn in (("y", np.eye(3)), ("z", np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]))):
        turned = trimesh.Trimesh(mesh.vertices @ turn.T, mesh.faces)
        grid, _ = grid_of(turned.export(file_type="ply"), "chair.ply", 16, up)
        assert all(iou(grid, chair()) > iou(grid, np.flip(chair(), axis)) + 0.02 for axis in range(3)), up


def test_what_is_inside_of_an_open_mesh_is_what_cannot_be_seen_from_outside() -> None:
    box = trimesh.creation.box((2, 2, 2))
    open_box = trimesh.Trimesh(box.vertices, box.faces[box.face_normals[:, 2] < 0.5])  # its front is missing
    grid, seen = grid_of(open_box.export(file_type="ply"), "box.ply", 10)
    assert seen == "not watertight"
    assert (grid > 0).sum() == 8 * 8 * 8 - 7 * 6 * 6  # a tray: walls on five sides, free from the open one
    shell = np.zeros((5, 5, 5), dtype=bool)
    shell[1:4, 1:4, 1:4] = True
    shell[2, 2, 2] = False
    assert hull(shell).sum() == 27


def test_arrays_and_binvox_are_padded_to_cubes() -> None:
    grid = chair()[:, :10]
    found, _ = grid_of(npy(grid), "a.npy", 16)
    assert (np.asarray(found[0])[:, 3:13] > 0).tolist() == grid.tolist()
    assert not found[0, :, :3].any()
    assert iou(grid_of(binvox(chair()), "a.binvox", 16)[0], chair()) == 1
    floats = np.where(chair(), 0.9, 0.1)
    assert iou(grid_of(npy(floats), "a.npy", 16)[0], chair()) == 1
    half, _ = grid_of(npy(chair(32)), "a.npy", 16)
    assert (half[0] > 0).tolist() == (F.max_pool3d(torch.from_numpy(chair(32))[None].float(), 2)[0] > 0).tolist()


@pytest.mark.parametrize(
    ("raw", "name", "why"),
    [
        (b"no mesh", "a.stl", "."),
        (b"v 0 0 0\nv 1 0 0\n", "a.obj", "empty: no triangle in it"),
        (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "a.obj", "empty"),
        (npy(np.zeros((4, 4, 4))), "a.npy", "empty: no voxel is occupied"),
        (npy(np.ones((2, 4, 4, 4))), "a.npy", "float64 2x4x4x4: one volume of three sides"),
        (npy(np.full((4, 4, 4), np.nan)), "a.npy", "not finite"),
        (b"#binvox 1\ndim 4 4 4\ndata\n\x01\x05", "a.binvox", "5 voxels, and its header says 64"),
        (b"#binvox 1\ndim 9999 9999 9999\ndata\n\x01\x05", "a.binvox", "sides of"),
        (b"PK", "a.npz", "."),
        (b"", "a.txt", "no volume"),
    ],
)
def test_what_is_broken_or_empty_is_refused_with_the_reason(raw: bytes, name: str, why: str) -> None:
    with pytest.raises(UnreadableImageError, match=why):
        grid_of(raw, name, 16)


def test_a_folder_of_volumes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("chair/a.npy", "chair/b.npy", "table/a.npy"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy(chair()))
    box = trimesh.creation.box((1, 1, 1))
    trimesh.Trimesh(box.vertices, box.faces[2:]).export(tmp_path / "set" / "table" / "open.obj")
    (tmp_path / "set" / "table" / "open.mtl").write_text("newmtl white\n")
    (tmp_path / "set" / "table" / "broken.binvox").write_text("no")
    settings: dict[str, Any] = {"root": str(tmp_path / "set"), "resolution": 16, "cache": str(tmp_path / "cache")}
    data = Voxels(classes=2, **settings)
    with caplog.at_level(logging.WARNING):
        data.prepare_data()
    assert "table/broken.binvox (no header of binvox)" in caplog.text
    said = "\n".join(data.understood())
    assert "classes   2: chair 2, table 2" in said
    assert "1 meshes are not watertight, their visual hull is taken: table/open.obj" in said
    assert "1 other files beside the volumes are not read" in said
    assert data.describe() == f"Voxels {tmp_path / 'set'}: 4 volumes 1x16x16x16, 2 classes, 1 file left out"
    again = Voxels(classes=2, **settings)
    assert again.training().folder == data.training().folder
    assert torch.equal(again.fixed(4)["real"], data.fixed(4)["real"])
    assert iou(data.fixed(4)["real"][0], chair()) == 1
    with pytest.raises(ConfigError, match=r"data.classes=3, but .* has 2 classes"):
        Voxels(classes=3, **settings).training()
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match=r"holds no volumes: give a folder .*data.root="):
        Voxels(root=str(empty), resolution=16).training()


def test_turns_and_mirror_images() -> None:
    plain, turned = Shapes(limit=3, flip=False), Shapes(limit=3, turns=True, flip=True, classes=0)
    one, four = plain.training(), turned.training()
    assert isinstance(four, Turned)
    assert four.fingerprint != one.fingerprint
    pixels = four.images(0, 12)
    for row in range(12):
        expected = torch.rot90(one.pixels[row // 4], row % 4, (-3, -1))
        assert torch.equal(pixels[row], expected)
        assert torch.equal(four.pixels.index_select(0, torch.tensor([row]))[0], expected)
    batch = turned.stream().batch(0)
    rows = turned.stream().indices(0)  # type: ignore[attr-defined]
    assert batch["flip"].any()
    assert not batch["flip"].all()
    real = turned.on_after_batch_transfer(batch)["real"]
    for row, flip, volume in zip(rows.tolist(), batch["flip"], real, strict=True):
        expected = pixels[row].flip(-1) if flip else pixels[row]
        assert torch.equal(volume > 0, expected > 0)
    assert (real.min(), real.max()) == (-1, 1)


def test_the_furniture_is_whole() -> None:
    """Each is one piece between margins, and stands in the list of authors."""
    data = Shapes()
    pixels = data.training().pixels
    assert data.class_counts == [63, 28, 51]
    assert [*pixels.shape] == [142, 1, 32, 32, 32]
    inner = pixels[:, :, 1:-1, 1:-1, 1:-1]
    assert (inner > 0).sum() == (pixels > 0).sum()
    listed = (Path(rendering.__file__).parent / "data" / "shapes.txt").read_text().partition("object, author\n")[2]
    rows = listed.splitlines()
    assert len(rows) == 142
    assert all("CC0" in row or "CC BY 3.0" in row for row in rows)
    assert [row[5:11].strip() for row in rows] == [data.class_names[label] for label in data.training().labels]


# -------------------------------------------------------------------- drawing and saving


def test_a_turned_volume_looks_as_from_where_the_eye_has_gone() -> None:
    volume = torch.from_numpy(chair()).float()[None, None] * 2 - 1
    front = rendering.rendered(volume, 30, 20, 48)
    assert front.shape == (1, 3, 48, 48)
    assert (front[:, :, 0, 0] == 255).all()
    assert 0.1 < (front < 255).any(1).float().mean() < 0.6
    around = rendering.rendered(torch.rot90(volume, 1, (-3, -1)), 30 + 90, 20, 48)
    other = rendering.rendered(torch.rot90(volume, 1, (-3, -1)), 30 - 90, 20, 48)
    same, different = sorted((front.int() - one.int()).abs().float().mean() for one in (around, other))
    assert same < 0.5
    assert different > 10
    assert (rendering.rendered(torch.full_like(volume, -1), 0, 0, 16) == 255).all()
    assert (rendering.rendered(torch.full_like(volume, math.nan), 0, 0, 16) == 255).all()


def test_light_comes_from_above_and_near_things_hide_far_ones() -> None:
    grid = -torch.ones(2, 1, 16, 16, 16)
    grid[0, :, 2:14, 6:10, 2:14] = 1
    grid[1] = grid[0]
    grid[1, :, 0:2, 2:14, 6:10] = 1  # a post in front
    top = rendering.rendered(grid[:1], 0, 60, 64)[0].float().mean(0)
    front = rendering.rendered(grid[:1], 0, 0, 64)[0].float().mean(0)
    assert top[top < 255].mean() > front[front < 255].mean()
    both = rendering.rendered(grid, 0, 0, 64)
    assert (both[1] < 255).sum() > (both[0] < 255).sum()


def test_many_volumes_look_as_each_does_alone() -> None:
    """They are looked at some at once, along the rays that meet them."""
    coarse = torch.randn(rendering.TOGETHER + 3, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    volumes = torch.nn.functional.interpolate(coarse, (8, 12, 10), mode="trilinear")
    volumes[1] = -1.0
    alone = torch.cat([rendering.rendered(one[None], 215, 20, 24) for one in volumes])
    assert torch.equal(rendering.rendered(volumes, 215, 20, 24), alone)
    assert len({*alone.flatten(1).sum(1).tolist()}) == len(volumes)


def test_sheets_turntables_and_files(tmp_path: Path) -> None:
    cells = torch.from_numpy(chair()).float()[None, None, None].expand(3, 1, -1, -1, -1, -1) * 2 - 1
    assert VOLUME.sheet(cells).dtype == torch.uint8
    VOLUME.play(cells, tmp_path / "a.gif", MARK)
    film = Image.open(tmp_path / "a.gif")
    assert film.n_frames == 24
    for suffix in (VOLUME.suffix, *VOLUME.others):
        VOLUME.save(cells[0, 0], tmp_path / f"a{suffix}", MARK)
        VOLUME.save(-torch.ones(1, 8, 8, 8), tmp_path / f"empty{suffix}", None)
    with np.load(tmp_path / "a.npz") as packed:
        assert iou(packed["voxels"] > 127, chair()) == 1
        assert '"model": "gan3d"' in str(packed["made"])
    assert '"model": "gan3d"' in (tmp_path / "a.obj").read_text().splitlines()[0]
    meshes: list[Any] = [trimesh.load(tmp_path / f"a{suffix}", force="mesh") for suffix in VOLUME.others]
    assert {round(float(mesh.volume), 5) for mesh in meshes} == {round(float(meshes[0].volume), 5)}
    data = {"real": cells[:, 0], "label": torch.zeros(3)}
    assert VOLUME.data_sheet(data, ["", "", ""]).shape[0] == 3


def test_copies_are_known_by_their_voxels() -> None:
    real = torch.stack([Shapes().fixed(12)["real"][row] for row in range(12)])
    fake = torch.cat([real[:2].flip(-1), real[2:3] * 0.3, -torch.ones_like(real[:1])])
    traits = [VOLUME.traits(real), VOLUME.traits(real.flip(-1))]
    found, part, which = memorisation.compared(VOLUME.traits(fake), traits, VOLUME)
    assert which[:3].tolist() == [0, 1, 2]
    assert part[:3].tolist() == [0, 0, 0]
    assert found.copies == 0.75
    assert VOLUME.apart(traits[0][:1], traits[0][:1]).item() == 0


# -------------------------------------------------------------------- scores


def test_distances_of_shapes_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(n, 5, 5, 5, generator=generator) < 0.2 for n in (4, 3))
    fake[3] = False
    pairs = ShapePairs(fake, real)
    chamfer, overlap = torch.empty(3, 4).double(), torch.empty(3, 4).double()
    for i, one in enumerate(real):
        for j, other in enumerate(fake):
            overlap[i, j] = 1 - (one & other).sum() / (one | other).sum()
            a, b = (surface(shape[None])[0].nonzero().double() / 5 for shape in (one, other))
            apart = torch.cdist(a, b) ** 2
            chamfer[i, j] = apart.min(1).values.mean() + apart.min(0).values.mean() if len(b) else 6
    for score, expected in (("mmd_chamfer", chamfer), ("mmd_iou", overlap)):
        nearest, which = pairs.distances(score)
        assert torch.allclose(nearest, expected.amin(1), atol=1e-6)
        assert which.tolist() == expected.argmin(0).tolist()


def test_a_cube_has_a_surface() -> None:
    cube = torch.zeros(1, 6, 6, 6, dtype=torch.bool)
    cube[0, 1:5, 1:5, 1:5] = True
    assert surface(cube).sum() == 64 - 8
    assert surface(torch.ones(1, 4, 4, 4, dtype=torch.bool)).sum() == 64 - 8


def test_scores_of_copies_of_a_part_and_of_dust(tmp_path: Path) -> None:
    data = Shapes(limit=20)
    judge = VolumeEvaluator(
        VolumeExtractor(), num_fake=12, batch_size=5, kid_subset_size=10, cache=str(tmp_path), density_k=3
    )
    real = judge.real(data)
    pixels = data.training().pixels

    def copies(index: int, n: int) -> torch.Tensor:
        return pixels[(torch.arange(n) + 5 * index) % 6].float() / 127.5 - 1

    def dust(index: int, n: int) -> torch.Tensor:
        draw = torch.rand(n, 1, 32, 32, 32, generator=torch.Generator().manual_seed(index))
        return (draw < 0.05).float() * 2 - 1

    good = judge.evaluate(copies, real, "cpu", ema=False)
    bad = judge.evaluate(dust, real, "cpu", ema=False)
    assert [*good] == [judge.extractor.names(name) if name in judge.scores else name for name in judge.chosen]
    assert good["cov_iou"].value == good["cov_chamfer"].value == 6 / 20
    assert good["one_piece"].value == 1
    assert bad["one_piece"].value == 0
    for name in ("fid_volumes", "mmd_chamfer", "mmd_iou"):
        assert good[name].value < bad[name].value
    assert good["mmd_iou"].passport["resize"] == "32 voxels a side"
    assert "of the real ones 1.000 are" in good["one_piece"].passport["estimator"]
    assert good["fid_volumes"].passport["extractor"] == "volumes"
    with pytest.raises(ConfigError, match="needs a classifier's logits, and volumes gives none"):
        VolumeEvaluator(VolumeExtractor(), scores=["is"])
    with pytest.raises(ConfigError, match=r"metrics.scores=.*: type some of .*mmd_iou.* one of features"):
        VolumeEvaluator(VolumeExtractor(), scores=["mmd_iou"])


# -------------------------------------------------------------------- 3D-GAN


def _weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_automatic_scores_of_a_run_are_of_its_volumes(tmp_path: Path) -> None:
    """As `evaluate run=... metrics=auto` asks for them, without data of its own."""
    asked = compose(tmp_path, "metrics=auto")
    asked.data = {}
    assert scoring.required(asked, compose(tmp_path, "model=gan3d"))._target_.endswith("VolumeEvaluator")


def test_the_networks_have_the_papers_sizes() -> None:
    """64 in x out for each convolution of 4x4x4, and two for each channel of a batch norm."""

    def counted(*widths: int) -> list[int]:
        inner = 64 * sum(a * b for a, b in pairwise(widths))
        of_generator = 64 * (200 * widths[0] + widths[-1]) + inner + 2 * sum(widths)
        return [of_generator, 64 * (widths[-1] + widths[0]) + inner + 2 * sum(widths[:-1])]

    with torch.device("meta"):
        sizes = {side: (GAN3DGenerator(200, side), GAN3DDiscriminator(side)) for side in (64, 32)}
    assert [_weights(network) for network in sizes[64]] == [17_569_664, 11_048_704] == counted(512, 256, 128, 64)
    assert [_weights(network) for network in sizes[32]] == [5_903_232, 2_642_688] == counted(256, 128, 64)


def test_the_networks_are_the_papers_layers() -> None:
    """Section 3.1 as a list: each layer by its function, with the weights of ours."""
    torch.manual_seed(0)
    generator, discriminator = GAN3DGenerator(5, 16, width=3).eval(), GAN3DDiscriminator(16, width=3).eval()
    weights = [weight for name, weight in generator.state_dict().items() if weight.ndim == 5]
    z = torch.randn(2, 5)
    x = F.conv_transpose3d(z[:, :, None, None, None], weights[0], stride=1, padding=0)
    assert x.shape == (2, 6, 4, 4, 4)
    norms = [layer for layer in generator.layers if isinstance(layer, nn.BatchNorm3d)]
    for norm, weight in zip(norms, weights[1:], strict=True):
        x = F.relu(norm(x))
        x = F.conv_transpose3d(x, weight, stride=2, padding=1)
    assert torch.allclose((generator(z) + 1) / 2, torch.sigmoid(x), atol=1e-6)
    kernels = [weight for weight in discriminator.state_dict().values() if weight.ndim == 5]
    (norm,) = [layer for layer in discriminator.layers if isinstance(layer, nn.BatchNorm3d)]
    y = F.leaky_relu(F.conv3d(torch.tanh(x), kernels[0], stride=2, padding=1), 0.2)
    y = F.leaky_relu(norm(F.conv3d(y, kernels[1], stride=2, padding=1)), 0.2)
    assert torch.allclose(discriminator(torch.tanh(x)), F.conv3d(y, kernels[2]).flatten(), atol=1e-6)
    assert kind_of(generator) == VOLUME
    with pytest.raises(ConfigError, match=r"1x8x8x8: it was made for 1x16x16x16; type data.resolution=16"):
        discriminator(torch.zeros(1, 1, 8, 8, 8))


def test_settings_are_part_of_the_caches_name() -> None:
    assert VolumeSettings(16, 1).plain() != VolumeSettings(16, 1, up="z").plain()
    assert VolumeSettings(16, 1).shape == (1, 16, 16, 16)
    assert build.make(compose(Path("r"), "data=shapes").data).shapes == {"label": (), "real": (1, 32, 32, 32)}
