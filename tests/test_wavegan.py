"""WaveGAN: its layers beside the authors' list written out in numpy, phase shuffle, sizes, classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import compose, small, train
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.phase_shuffle import PhaseShuffle, shifted
from gan_experiments.networks.wavegan import SameConv1d, WaveGANDiscriminator, WaveGANGenerator

Array = NDArray[np.float64]

# The authors' code (chrisdonahue/wavegan 40e85e8) is TensorFlow 1: its layers are written out here, channels last.


def same_convolution(x: Array, w: Array, b: Array, stride: int) -> Array:
    """[N, L, c] by [k, c, d] with padding "SAME": the extra zero comes last."""
    k, length = len(w), x.shape[1] // stride
    total = max((length - 1) * stride + k - x.shape[1], 0)
    padded = np.pad(x, ((0, 0), (total // 2, total - total // 2), (0, 0)))
    out = np.zeros((len(x), length, w.shape[2]))
    for t in range(length):
        out[:, t] = np.einsum("nkc,kcd->nd", padded[:, t * stride : t * stride + k], w)
    return out + b


def same_transposed(x: Array, w: Array, b: Array, stride: int) -> Array:
    """[N, L, c] by [k, d, c]: the gradient of the convolution with padding "SAME"."""
    k, length = len(w), x.shape[1] * stride
    total = k - stride
    whole = np.zeros((len(x), length + total, w.shape[1]))
    for t in range(x.shape[1]):
        whole[:, t * stride : t * stride + k] += np.einsum("nc,kdc->nkd", x[:, t], w)
    return whole[:, total // 2 : total // 2 + length] + b


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def official_generator(net: WaveGANGenerator, z: Array, strides: list[int], nearest: bool = False) -> Array:
    state = {name: numbers(value) for name, value in net.state_dict().items()}
    weights = [state[name] for name in state if name.startswith("layers") and name.endswith("weight")]
    biases = [state[name] for name in state if name.startswith("layers") and name.endswith("bias")]
    h = z @ state["input.weight"].T + state["input.bias"]
    h = np.maximum(h.reshape(len(z), -1, 16).transpose(0, 2, 1), 0)  # the code's columns are in another order
    for index, (w, b, stride) in enumerate(zip(weights, biases, strides, strict=True)):
        if nearest:
            h = same_convolution(h.repeat(stride, axis=1), w.transpose(2, 1, 0), b, 1)
        else:
            h = same_transposed(h, w.transpose(2, 1, 0), b, stride)
        h = np.maximum(h, 0) if index < len(strides) - 1 else np.tanh(h)
    return h.transpose(0, 2, 1)


def official_discriminator(net: WaveGANDiscriminator, x: Array, strides: list[int], phases: list[int]) -> Array:
    state = {name: numbers(value) for name, value in net.state_dict().items()}
    h = x.transpose(0, 2, 1)
    for index, stride in enumerate(strides):
        w, b = state[f"blocks.{index}.0.weight"], state[f"blocks.{index}.0.bias"]
        h = same_convolution(h, w.transpose(2, 1, 0), b, stride)
        h = np.maximum(0.2 * h, h)
        if index < len(phases):
            left, right = max(phases[index], 0), max(-phases[index], 0)
            h = np.pad(h, ((0, 0), (left, right), (0, 0)), mode="reflect")[:, right : right + h.shape[1]]
    return h.transpose(0, 2, 1).reshape(len(x), -1) @ state["output.weight"][0] + state["output.bias"]


@pytest.mark.parametrize(("length", "strides"), [(4096, [4] * 4), (2048, [4, 4, 4, 2]), (64, [4])])
@pytest.mark.parametrize("upsample", ["zeros", "nearest"])
def test_generator_is_the_authors_list_of_layers(length: int, strides: list[int], upsample: str) -> None:
    torch.manual_seed(0)
    net = WaveGANGenerator(latent_dim=5, length=length, channels=2, width=2, upsample=upsample).double()
    z = torch.randn(2, 5, dtype=torch.float64)
    uniform = torch.distributions.Normal(0.0, 1.0).cdf(z) * 2 - 1
    by_hand = official_generator(net, numbers(uniform), strides, upsample == "nearest")
    made = net(z)
    assert made.shape == (2, 2, length)
    assert np.abs(numbers(made) - by_hand).max() < 1e-12
    assert np.abs(by_hand).max() > 0.01


@pytest.mark.parametrize(("length", "strides"), [(4096, [4] * 4), (2048, [4, 4, 4, 2])])
def test_discriminator_is_the_authors_list_of_layers(length: int, strides: list[int]) -> None:
    torch.manual_seed(0)
    net = WaveGANDiscriminator(length=length, width=2).double()
    waves, phases = torch.randn(3, 1, length, dtype=torch.float64), [2, -1, 0]
    drawn = iter(phases)

    def draw(sampler: Any, *shape: int, shared: bool = False) -> Tensor:
        assert shared, "one shift for the whole batch"
        return torch.full(shape, (next(drawn) + 2.5) / 5)

    judged = net(waves, draw=draw)
    assert next(drawn, None) is None, "after all layers but the last"
    assert np.abs(numbers(judged) - official_discriminator(net, numbers(waves), strides, phases)).max() < 1e-12
    assert np.abs(numbers(net(waves)) - official_discriminator(net, numbers(waves), strides, [])).max() < 1e-12
    assert not torch.allclose(judged, net(waves))


@pytest.mark.parametrize(
    ("length", "width", "generator", "discriminator"),
    [
        (16384, 64, 19_065_345, 17_427_969),
        (16384, 32, 5_180_673, 4_361_985),
        (32768, 64, 73_149_953, 69_875_201),
        (65536, 64, 73_149_953, 69_875_201),
        (65536, 32, 19_115_777, 17_478_401),
        (4096, 16, 476_161, 271_489),
    ],
)
def test_parameter_counts_of_the_code(length: int, width: int, generator: int, discriminator: int) -> None:
    with torch.device("meta"):
        networks = WaveGANGenerator(length=length, width=width), WaveGANDiscriminator(length=length, width=width)
    assert [sum(p.numel() for p in net.parameters()) for net in networks] == [generator, discriminator]


def test_maps_are_shifted_and_filled_by_reflection() -> None:
    x = torch.tensor([[[1.0, 2, 3, 4, 5]]])
    for shift, wanted in {
        0: [1, 2, 3, 4, 5],
        1: [2, 1, 2, 3, 4],
        -1: [2, 3, 4, 5, 4],
        2: [3, 2, 1, 2, 3],
        -2: [3, 4, 5, 4, 3],
    }.items():
        assert shifted(x, torch.tensor([[shift]])).tolist() == [[wanted]]
    both = shifted(x.expand(2, 2, 5), torch.tensor([[1, -1], [0, 2]]))
    assert both.tolist() == [[[2, 1, 2, 3, 4], [2, 3, 4, 5, 4]], [[1, 2, 3, 4, 5], [3, 2, 1, 2, 3]]]


@pytest.mark.parametrize(("per", "distinct"), [("batch", (1, 1)), ("sample", (5, 1)), ("map", (5, 5))])
def test_who_shares_a_shift(per: str, distinct: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(sampler: Any, *shape: int, shared: bool = False) -> Tensor:
        assert shared == (per == "batch")
        return sampler(shape, generator=generator)

    x = torch.arange(16.0).expand(40, 30, 16)
    middle = 8 - PhaseShuffle(2, per)(x, draw)[:, :, 8]  # the shift of each map
    assert len(middle.unique()) == distinct[0]
    assert max(len(row.unique()) for row in middle) == distinct[1]
    if per == "map":  # each of the five shifts is as likely
        shares = middle.long().add(2).flatten().bincount() / middle.numel()
        assert (shares - 0.2).abs().max() < 0.04


def test_nothing_is_shuffled_without_draws() -> None:
    x = torch.randn(2, 3, 8)
    assert PhaseShuffle(2)(x) is x
    assert PhaseShuffle(0)(x, lambda *_, **__: pytest.fail("nothing is drawn")) is x
    with pytest.raises(ConfigError, match="shuffle_per=wave"):
        PhaseShuffle(2, "wave")
    with pytest.raises(ConfigError, match="cannot reflect maps of 8 samples"):
        PhaseShuffle(8)(x, torch.rand)


def test_the_penalty_is_shuffled_too(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "wavegan", "images=4", "data.length=1024", "model.ema={}")
    drawn: list[bool] = []

    def listen(model: Any) -> None:
        plain = model.draw

        def draw(*given: Any, shared: bool = False) -> Tensor:
            drawn.append(shared)
            return plain(*given, shared=shared)

        model.draw = draw

    assert train(cfg, change=listen).batches == 1
    assert drawn.count(True) == 3 * 2, "after two layers of three, for real, fake and the points between"


@pytest.mark.parametrize("length", [0, 32, 4000, 5000])
def test_other_lengths_are_refused(length: int) -> None:
    for network in (WaveGANGenerator, WaveGANDiscriminator):
        with pytest.raises(ConfigError, match=r"type data\.length=(64|4096)$"):
            network(length=length)


def test_even_kernels_and_short_ones() -> None:
    conv = SameConv1d(1, 1, 2, 4)
    assert conv(torch.ones(1, 1, 16)).shape == (1, 1, 4)
    with pytest.raises(ConfigError, match="kernel=3 is shorter than the stride 4"):
        WaveGANGenerator(length=64, kernel=3)


def test_classes_change_what_is_made_and_judged() -> None:
    torch.manual_seed(0)
    generator = WaveGANGenerator(length=64, width=4, classes=3, conditioning="concatenation")
    discriminator = WaveGANDiscriminator(length=64, width=4, classes=3, conditioning="projection")
    z, labels = torch.randn(1, 100).expand(2, -1), torch.tensor([0, 2])
    waves = generator(z, labels)
    assert not torch.allclose(waves[0], waves[1])
    same = waves[:1].expand(2, -1, -1)
    assert not torch.allclose(*discriminator(same, labels).detach())
    with pytest.raises(ConfigError, match="was given no labels"):
        generator(z)
    auxiliary = WaveGANDiscriminator(length=64, width=4, classes=3, conditioning="auxiliary")
    assert auxiliary.classify(auxiliary.features(waves)).shape == (2, 3)


def test_default_runs_on_the_packed_drums(tmp_path: Path) -> None:
    cfg = compose(tmp_path, "model=wavegan")
    assert (cfg.data.length, cfg.data.rate, cfg.model.generator.length, cfg.model.generator.width) == (
        4096,
        8000,
        4096,
        64,
    )
