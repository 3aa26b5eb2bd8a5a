"""StackGAN: its counts, its losses, the second stage from a run of the first, and the tree of scales."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import difference, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build, check, pretrained
from gan_experiments.assembly.meta import without_memory
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.latent import kl_to_standard_normal
from gan_experiments.models.stackgan_v2 import colour_consistency
from gan_experiments.networks.stackgan import (
    ConditioningAugmentation,
    StackGAN1Generator,
    StackGAN2Generator,
    StackGANDiscriminator,
)
from gan_experiments.networks.stackgan_v2 import StackGANv2Discriminator, StackGANv2Generator
from gan_experiments.networks.text import Text


def test_the_networks_have_the_official_counts() -> None:
    """Trainable parameters of StackGAN-Pytorch e72ef88 (COCO, birds) and StackGAN-v2 6228e34, run with torch."""

    def counts(*networks: nn.Module) -> list[int]:
        return [sum(p.numel() for p in network.parameters() if p.requires_grad) for network in networks]

    with without_memory():
        assert counts(StackGAN1Generator(width=96), StackGANDiscriminator(width=96)) == [20_020_832, 12_407_425]
        assert counts(StackGAN1Generator(), StackGANDiscriminator()) == [10_301_248, 5_715_713]
        coco = StackGAN2Generator(partial(StackGAN1Generator, width=96), width=48, blocks=2)
        birds = StackGAN2Generator(StackGAN1Generator)
        assert counts(coco, birds) == [37_130_480, 26_290_080]
        assert counts(StackGANDiscriminator(resolution=256, unconditional=True)) == [71_269_122]
        tree, plain = StackGANv2Generator(), StackGANv2Generator(text_features=0)
        assert counts(tree, plain) == [21_239_696, 16_472_208]
        assert counts(*StackGANv2Discriminator(text_features=0).scales) == [2_765_569, 15_875_841, 68_310_785]


def test_captions_are_augmented_as_in_the_authors_code() -> None:
    """Their code's ReLU lets no log variance below 0; c = μ + σ ε; and the divergence is a mean over the code."""
    told = ConditioningAugmentation(3, 2)
    with torch.no_grad():
        told.layers[0].weight.zero_()
        told.layers[0].bias.copy_(torch.tensor([1.0, -1, -1, 2 * math.log(3)]))
    mean, log_variance = told(torch.zeros(1, 3))
    assert mean.tolist() == [[1, 0]]
    assert log_variance.tolist() == [[0, pytest.approx(2 * math.log(3))]]
    drawn = told.sample(torch.zeros(1, 3), torch.tensor([[0.5, -1.0]]))
    assert drawn[0].tolist() == pytest.approx([1.5, -3])
    means = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    for mean, log_variance, expected in (
        (means, torch.zeros(2, 2), 0.625),
        (torch.zeros(2, 2), torch.ones(2, 2), 0.359141),
    ):
        assert kl_to_standard_normal(mean, log_variance).mean().item() / 2 == pytest.approx(expected, abs=1e-6)


class Indifferent(nn.Module):
    """A discriminator whose `heads` logits are 0."""

    conditional = True

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.weight = heads, nn.Parameter(torch.zeros(1))
        self.told: list[Tensor] = []

    def forward(self, images: Tensor, text: Text) -> Any:
        self.told.append(text.sentence)
        logits = images.flatten(1).sum(1) * self.weight
        return [logits] * self.heads if self.heads > 1 else logits


@pytest.mark.parametrize(("stage", "heads"), [(1, 1), (2, 2)])
def test_an_indifferent_discriminator_loses_two_logarithms_of_two(stage: int, heads: int, tmp_path: Path) -> None:
    """In both stages; the generator one for each logit. It is told means that it does not train."""
    cfg = small(tmp_path, f"stackgan_{stage}", "data.limit=100")
    model: Any = build.build_model(cfg)
    data = build.make(cfg.data)
    data.setup("fit")
    model.discriminator, model._rng = Indifferent(heads), torch.Generator().manual_seed(0)
    batch = data.on_after_batch_transfer(data.stream().batch(0), 0)
    terms = model.discriminator_loss(model.player_update(batch))
    assert sum(terms.values()).item() == pytest.approx(2 * math.log(2))
    terms = model.generator_loss(model.player_update(batch, of_generator=True))
    assert terms["adversarial"].item() == pytest.approx(heads * math.log(2))
    assert terms["kl"].item() > 0
    mean, log_variance = model.augmented(batch["caption"])
    told = model.discriminator.told[-1]
    assert torch.equal(told, mean)
    assert not told.requires_grad
    assert terms["kl"].item() == pytest.approx(kl_to_standard_normal(mean, log_variance).mean().item() * 2 / 128)


def test_stage_two_begins_with_a_run_of_stage_one_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    """Its widths too; the discriminator is drawn anew, and sheets show both stages."""
    words = ("data.limit=100", "images=8", "data.resolution=16")
    first = train(small(tmp_path / "one", "stackgan_1", *words), every=8).generator.state_dict()  # type: ignore[union-attr]
    given = str(tmp_path / "one")
    cfg = small(tmp_path / "two", "stackgan_2", *words, "data.resolution=64", f"model.pretrained={given}")
    cfg.model.generator.stage_1.width = 16
    pretrained.settle(cfg)
    assert cfg.model.generator.stage_1.width == 4
    assert cfg.model.discriminator.unconditional
    said: list[str] = []
    model: Any = train(cfg, change=lambda model: said.extend(pretrained.take_up(model, given, cfg.model, ())))
    assert "  discriminator: drawn anew, as that run has none like it" in said
    assert any(line.startswith("  generator.stage_1: taken") for line in said)
    stage = model.generator.stage_1
    assert difference(dict(stage.state_dict()), dict(first)) == {}
    inputs = model.sheet_inputs({}, 4)
    cells = model.sheet(inputs)
    assert cells.shape == (4, 2, 1, 64, 64)
    drawn = stage.eval()(inputs["z"][:, : stage.latent_dim], *model.told(inputs["label"]))
    assert torch.allclose(cells[:, 0, :, ::4, ::4], drawn, atol=1e-6)


def test_the_tree_judges_what_it_draws_at_each_scale(tmp_path: Path) -> None:
    cfg = small(tmp_path, "stackgan_v2", "data.limit=100")
    model: Any = build.build_model(cfg)
    z, tokens = model.fixed_noise(2, 0), torch.tensor([[2, 3, 0], [4, 0, 0]])
    made = model.generator.eval().scales(z, *model.told(tokens))
    assert [images.shape[-1] for images in made] == [8, 16, 32]
    assert torch.equal(model.sample(z, ema=False, labels=tokens, bounded=False), made[-1])
    model.discriminator.eval()
    logits = model.logits(made, tokens)
    assert len(logits) == 6
    for size in range(3):  # a scale's discriminator sees its images alone
        other = [images * (1 if i == size else 0) for i, images in enumerate(made)]
        seen = model.logits(other, tokens)
        assert [torch.equal(a, b) for a, b in zip(seen, logits, strict=True)] == [i // 2 == size for i in range(6)]
    real = torch.rand(2, 1, 32, 32)
    assert torch.allclose(model.discriminator.shrunk(real)[0][0, 0, 1, 0], real[0, 0, 4:8, 0:4].mean())
    assert model.sheet({"z": z, "label": tokens}).shape == (2, 3, 1, 32, 32)


def test_colours_are_compared_by_their_means_and_covariances() -> None:
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert colour_consistency(images, images.flip(2)).item() == pytest.approx(0, abs=1e-20)
    assert colour_consistency(images, images + 0.1).item() == pytest.approx(0.01)
    spread = torch.stack([torch.cov(one.flatten(1), correction=0) for one in images])
    twice = (2 * (images - images.mean((2, 3), keepdim=True))) + images.mean((2, 3), keepdim=True)
    assert colour_consistency(twice, images).item() == pytest.approx(5 * (9 * spread.square().mean()).item())


def test_what_does_not_go_together_is_one_line(tmp_path: Path) -> None:
    for words, said in (
        (("stackgan_1", "loss=relativistic_paired"), "wrong pairs are rejected too; type loss=relativistic_average"),
        (
            ("stackgan_2", "data.resolution=16"),
            "StackGAN2Generator cannot make a resolution of 16.*type data.resolution=32",
        ),
        (("stackgan_v2", "data.resolution=16"), "a power of two from 32 on; type data.resolution=32"),
        (("stackgan_v2", "model.generator.scales=4", "data.resolution=64"), "type model.generator.width=8"),
    ):
        with pytest.raises(ConfigError, match=said):
            build.build_model(small(tmp_path, *words))
    model = build.build_model(cfg := small(tmp_path, "stackgan_2"))
    assert any("stage I stays as it was drawn" in line for line in check.remarks(cfg, model))


def test_a_tree_without_captions_is_a_model_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="type model=stackgan_v2_unconditional"):
        check.require(small(tmp_path / "run", "stackgan_v2", "model.generator.text_features=0"))
