"""Cameras and the rendering of three planes, held to numbers of EG3D's official code (NVlabs/eg3d, 7cf1fd1)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_experiments import cameras
from gan_experiments.layers.volume_rendering import OFFICIAL_AXES, at_planes, important, march, render, stratified

FRONT = cameras.on_sphere(torch.zeros(1), torch.zeros(1), 2.7)


def test_a_camera_in_front_and_its_rays() -> None:
    expected = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    expected[2, 3] = 2.7
    assert torch.allclose(FRONT[0], expected, atol=1e-6)
    camera = cameras.joined(FRONT, torch.tensor([[4.263391, 0, 0.5], [0, 4.263391, 0.5], [0, 0, 1.0]]))
    assert camera.shape == (1, cameras.NUMBERS)
    poses, intrinsics = cameras.parted(camera)
    assert torch.equal(poses, FRONT)
    assert intrinsics[0, 0, 0] == pytest.approx(4.263391)
    origins, directions = cameras.rays(camera, 2)
    assert torch.allclose(origins, torch.tensor([0, 0, 2.7]).expand_as(origins))
    x = 0.058438
    corners = torch.tensor([[-x, x], [x, x], [-x, -x], [x, -x]])  # the first row is the top
    assert torch.allclose(directions[0, :, :2], corners, atol=1e-6)
    assert torch.allclose(directions[0, :, 2], torch.tensor(-0.996579), atol=1e-6)


def test_cameras_look_at_the_origin_upright() -> None:
    yaw, pitch = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.2, -0.4, 1.2])
    poses = cameras.on_sphere(yaw, pitch, 3.0)
    rotation, place = poses[:, :3, :3], poses[:, :3, 3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(3))
    assert torch.allclose(rotation[:, :, 2], -place / 3, atol=1e-6)  # forwards, to the origin
    assert (rotation[:, 1, 1] < 0).all()  # down is down
    assert torch.allclose(rotation[:, 1, 0], torch.zeros(3), atol=1e-6)  # the horizon is level
    assert cameras.intrinsics_of(90.0)[0, 0] == pytest.approx(1 / math.sqrt(2))


def test_points_on_planes() -> None:
    planes = (torch.arange(16.0)[None] + 100 * torch.arange(3.0)[:, None]).view(1, 3, 1, 4, 4)
    points = torch.tensor([[[0.0, 0, 0], [0.25, 0, 0], [0, 0.25, 0], [0, 0, 0.25], [0.9, 0, 0]]])
    official = at_planes(planes, points, 1.0, OFFICIAL_AXES)[0, ..., 0]
    assert official[:, :2].tolist() == [[7.5, 8.5], [107.5, 108.5], [207.5, 211.5]]
    ours = at_planes(planes, points, 1.0)[0, ..., 0]
    assert ours[:, :4].tolist() == [[7.5, 8.5, 11.5, 7.5], [107.5, 108.5, 107.5, 111.5], [207.5, 207.5, 208.5, 211.5]]
    assert ours[0, 4] == 0  # beyond the box
    assert official[:, 2].tolist() == [11.5, 107.5, 207.5]  # y is in one plane alone, and z in none with y


def test_what_a_ray_gathers() -> None:
    depths = torch.linspace(2, 3, 4).view(1, 1, 4, 1)
    found = march(torch.full((1, 1, 4, 3), 0.5), torch.full((1, 1, 4, 1), 3.0), depths)
    assert torch.allclose(found.weights.flatten(), torch.tensor([0.507852, 0.249938, 0.123007]), atol=1e-6)
    assert found.weights.sum().item() == pytest.approx(1 - math.exp(-math.log1p(math.exp(2))), abs=1e-6)
    assert found.colours[0, 0, 0].item() == pytest.approx(-0.119203, abs=1e-6)
    assert found.depth.item() == pytest.approx(2.354357, abs=1e-6)
    white = march(torch.full((1, 1, 4, 3), 0.5), torch.full((1, 1, 4, 1), 3.0), depths, white=True)
    assert white.colours[0, 0, 0].item() == pytest.approx(0.119203, abs=1e-6)
    for samples in (2, 7, 30):  # a constant density: 1 - exp(-softplus(1)) = σ(1), for any number of samples
        depths = torch.linspace(0, 1, samples).view(1, 1, -1, 1)
        constant = march(torch.full_like(depths, 0.25), torch.full_like(depths, 2.0), depths)
        assert constant.weights.sum().item() == pytest.approx(0.7310586, abs=1e-6)
        assert constant.colours.item() == pytest.approx(-0.634471, abs=1e-6)
    empty = march(torch.full_like(depths, 0.25), torch.full_like(depths, -1e4), depths)
    assert empty.colours.item() == -1


def test_further_samples_lie_where_the_weights_are() -> None:
    depths = torch.linspace(0, 8, 9).view(1, 1, 9, 1)
    weights = torch.zeros(1, 1, 8, 1)
    weights[0, 0, 4] = 0.9  # between 4 and 5
    places = (torch.arange(200) + 0.5).view(1, 1, 200) / 200
    found = important(depths, weights, places).flatten()
    assert ((found > 2.4) & (found < 5.6)).float().mean() > 0.95  # half a step too early, as in the official code
    assert (found.diff() > 0).all()
    assert (found.min() >= 0.5) & (found.max() <= 7.5)
    moved = stratified(2.0, 3.0, 5, torch.zeros(1, 2, 3), lambda *shape: torch.full(shape, 0.5))
    assert torch.allclose(moved[0, 0, :, 0], torch.linspace(2, 3, 5) + 0.125)


def _decoded(features: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(features[..., :3]), 8 * features[..., 3:]


def test_a_picture_of_planes_has_gradients_and_no_chance() -> None:
    """Without `draw` nothing is drawn. A wall that is in the planes is seen at its depth, from both sides."""
    planes = torch.zeros(1, 3, 4, 16, 16)
    planes[:, :, 3] = -3.0
    planes[:, 1, 3, 7:9] = 9.0  # the plane of x and z: a wall where z is near 0
    planes[:, 2, 3, 7:9] = 9.0
    planes.requires_grad_()
    for yaw in (0.0, math.pi):
        pose = cameras.on_sphere(torch.tensor([yaw]), torch.zeros(1), 2.7)
        rays = cameras.rays(cameras.joined(pose, cameras.intrinsics_of(10.0)), 6)
        found = render(planes, _decoded, *rays, 2.2, 3.2, 1.0, 24, 12)
        assert torch.equal(found.colours, render(planes, _decoded, *rays, 2.2, 3.2, 1.0, 24, 12).colours)
        assert found.colours.shape == (1, 36, 3)
        assert (found.depth - 2.65).abs().max() < 0.1
        assert found.weights.sum(2).min() > 0.9
    (gradient,) = torch.autograd.grad(found.colours.sum(), planes)
    assert gradient.abs().sum() > 0
