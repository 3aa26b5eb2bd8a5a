"""Networks on images of any size, whole and in tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.tiles import padded, tiled


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def identity(images: Tensor) -> Tensor:
    return images


def whole(network: nn.Module, image: Tensor, multiple: int = 1, scale: int = 1) -> Tensor:
    with torch.no_grad():
        made = padded(network, to_float(image[None]), multiple, scale)[0]
    return made.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)


SIZES = [(64, 64), (65, 64), (100, 37), (5, 200), (1, 1), (131, 129), (96, 95)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("tile", "overlap", "multiple"), [(32, 8, 1), (32, 16, 4), (48, 24, 8), (16, 8, 8), (16, 0, 1)]
)
def test_the_identity_changes_nothing(size: tuple[int, int], tile: int, overlap: int, multiple: int) -> None:
    image = picture(*size)
    assert torch.equal(tiled(identity, image, tile, overlap, multiple), image)


@pytest.mark.parametrize("size", [(70, 101), (64, 33), (20, 150), (129, 96)])
def test_no_seams_where_the_network_looks_less_far_than_the_tiles_share(size: tuple[int, int]) -> None:
    """Three 3x3 convolutions see 3 pixels to each side, and zeros beyond the borders: of the tile or of the image."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    image = picture(*size)
    wanted = whole(network, image)
    assert wanted.float().std() > 3
    found = tiled(network, image, tile=32, overlap=12)
    assert (found.int() - wanted.int()).abs().max() <= 1  # of 255: rounding
    assert (found != wanted).float().mean() < 0.01
    seams = tiled(network, image, tile=32, overlap=0)
    assert (seams.int() - wanted.int()).abs().max() > 1


def test_strides_and_enlarging() -> None:
    """A network that halves and then enlarges by four: tiles begin where its grid does."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.Conv2d(8, 12, 3, padding=1))
    network = nn.Sequential(network, nn.PixelShuffle(2), nn.Tanh())
    image = picture(53, 90)
    wanted = whole(network, image, multiple=2, scale=2)
    assert wanted.shape == (3, 106, 180)
    found = tiled(network, image, tile=32, overlap=16, multiple=2, scale=2)
    assert found.shape == wanted.shape
    assert (found.int() - wanted.int()).abs().max() <= 1
    grey = tiled(lambda x: F.interpolate(x.mean(1, keepdim=True), scale_factor=4), image, 32, 8, scale=4)
    assert grey.shape == (1, 212, 360)


def test_what_differs_between_tiles_is_blended() -> None:
    """Each tile of another brightness, as instance norm makes them: no step from one pixel to the next is large."""
    given = []

    def brightness(images: Tensor) -> Tensor:
        given.append(images.shape)
        return torch.full_like(images, 0.8 * (-1) ** len(given))

    made = tiled(brightness, picture(32, 120), tile=32, overlap=16).int()
    steps = (made[:, :, 1:] - made[:, :, :-1]).abs().max()
    assert steps <= 1.1 * 1.6 * 127.5 / 8  # 8 pixels are blended
    assert (made.max() - made.min()) > 190
    assert set(given) == {(1, 3, 32, 32)}


def test_a_function_gets_multiples() -> None:
    seen = []

    def function(images: Tensor) -> Tensor:
        seen.append(images.shape[-2:])
        return images

    image = to_float(picture(30, 45)[None])
    assert torch.equal(padded(function, image, 16), image)
    assert seen == [(32, 48)]
    edge = padded(lambda x: x.roll(-1, -1), image, 16)
    assert torch.equal(edge[..., -1], image[..., -2])  # mirrored
    assert torch.equal(padded(function, image[..., :1, :1], 16), image[..., :1, :1])
    assert torch.equal(padded(lambda x: F.interpolate(x, scale_factor=2), image, 16, 2)[..., ::2, ::2], image)
    seen.clear()
    tiled(function, picture(30, 45), tile=32, overlap=16, multiple=16)
    assert {tuple(size) for size in seen} == {(32, 32)}


@pytest.mark.parametrize(
    ("tile", "overlap", "multiple"), [(32, 20, 1), (30, 8, 16), (32, 8, 16), (0, 0, 1), (8, -1, 1)]
)
def test_impossible_sizes(tile: int, overlap: int, multiple: int) -> None:
    with pytest.raises(ConfigError, match=rf"tile={tile} overlap={overlap}: .*type tile=") as caught:
        tiled(identity, picture(64, 64), tile, overlap, multiple)
    told = dict(word.split("=") for word in str(caught.value).rpartition("type ")[2].split())
    tiled(identity, picture(64, 64), int(told["tile"]), int(told["overlap"]), multiple)
