"""AttnGAN: attention over words, three scales, the loss of trained encoders."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import small
from torch import nn

from gan_experiments.assembly import trained
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.attention import Attention, laid_over
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.losses.adversarial import NonSaturating
from gan_experiments.models.attngan import AttnGAN
from gan_experiments.networks.attngan import AttnGANGenerator, WordAttention
from gan_experiments.networks.damsm import ImageEncoder
from gan_experiments.networks.stackgan_v2 import StackGANv2Discriminator
from gan_experiments.networks.text import BagOfWords, Text
from gan_experiments.verbs import run as training


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_the_official_counts() -> None:
    """Those of G_NET and of D_NET64, 128 and 256, in the configurations for birds and for COCO."""
    with torch.device("meta"):
        birds, coco = AttnGANGenerator(), AttnGANGenerator(width=48, blocks=3)
        judges = StackGANv2Discriminator(256), StackGANv2Discriminator(256, width=96)
    assert [count(birds), count(coco)] == [7_084_592, 13_811_456]
    assert [count(scale) for scale in judges[0].scales] == [6_313_730, 19_424_002, 71_858_946]
    assert [count(scale) for scale in judges[1].scales] == [13_304_450, 42_800_258, 160_774_274]


def drawn_text() -> Text:
    """Two captions, of two words and of four."""
    source = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([[2], [4]])
    words = torch.randn(2, 6, 4, generator=source)
    return Text(torch.randn(2, 6, generator=source), words, mask)


def test_each_place_reads_the_words_of_its_own_caption_alone() -> None:
    """By loops, for a batch of captions of unequal lengths; a row is the same in a batch and alone."""
    torch.manual_seed(0)
    attention, h, text = WordAttention(6, 5), torch.randn(2, 5, 3, 2), drawn_text()
    contexts, weights = attention(h, text)
    assert text.words is not None
    assert text.mask is not None
    for n, words in ((0, 2), (1, 4)):
        e = text.words[n, :, :words].T @ attention.words.weight.T
        for y in range(3):
            for x in range(2):
                beta = (e @ h[n, :, y, x]).softmax(0)
                assert torch.allclose(weights[n, :words, y, x], beta, atol=1e-6)
                assert torch.allclose(contexts[n, :, y, x], beta @ e, atol=1e-6)
        assert weights[n, words:].abs().sum() == 0
    alone = Text(text.sentence[:1], text.words[:1], text.mask[:1])
    assert torch.allclose(attention(h[:1], alone)[0], contexts[:1], atol=1e-6)


def test_a_caption_without_words_reads_nothing() -> None:
    empty = Text(torch.zeros(1, 6), torch.zeros(1, 6, 4), torch.zeros(1, 4, dtype=torch.bool))
    contexts, weights = WordAttention(6, 5)(torch.randn(1, 5, 2, 2), empty)
    assert contexts.abs().max() == 0
    assert weights.isfinite().all()


# -------------------------------------------------------------------------------- the losses

SMALL = {"noise_dim": 3, "resolution": 16, "channels": 1, "width": 2, "condition_dim": 2, "scales": 2, "blocks": 1}


class Indifferent(nn.Module):
    """A discriminator of two scales that cannot tell: its logits are 0."""

    conditional = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def shrunk(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images, images]

    def forward(self, images: list[torch.Tensor], text: Text) -> list[torch.Tensor]:
        assert all(len(one) == len(text) for one in images)
        return [one.flatten(1).sum(1) * self.weight for one in images for _ in range(2)]


def model_of(discriminator: nn.Module, **options: Any) -> Any:
    """A model whose captions have the codes of `drawn_text`."""
    torch.manual_seed(0)
    encoder = ImageEncoder(6, resolution=16, channels=1, width=2).eval()
    arguments: dict[str, Any] = {"alike": "none", "kl_weight": 1.0, "image_encoder": encoder, **options}
    model: Any = AttnGAN(
        text_encoder=BagOfWords(9, 6),
        generator=AttnGANGenerator(6, **SMALL),
        discriminator=discriminator,
        loss=NonSaturating(),
        optimizers={},
        **arguments,
    )
    model.encode = lambda tokens: drawn_text()
    model._rng = torch.Generator().manual_seed(0)
    return model


def drawn_batch() -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    real, wrong = (torch.rand(2, 1, 16, 16, generator=source) * 2 - 1 for _ in range(2))
    return {"real": real, "wrong": wrong, "caption": torch.tensor([[2, 3, 0, 0], [2, 3, 4, 5]])}


def test_an_indifferent_discriminator_loses_two_logarithms_of_two_at_each_scale() -> None:
    """And the generator two at each, for the image with its caption and without; then λ times the encoders' losses."""
    model, batch = model_of(Indifferent()), drawn_batch()
    terms = model.generator_loss(model.player_update(batch, of_generator=True))
    lost = model.discriminator_loss(model.player_update(batch))
    assert lost["adversarial"].item() == pytest.approx(2 * 2 * math.log(2))
    assert terms.keys() == {"adversarial", "kl", "words", "sentences"}
    assert terms["adversarial"].item() == pytest.approx(2 * 2 * math.log(2))
    heavier = model_of(Indifferent(), damsm_weight=50)
    others = heavier.generator_loss(heavier.player_update(batch, of_generator=True))
    assert others["words"].item() == pytest.approx(10 * terms["words"].item())
    without = model_of(Indifferent(), damsm_weight=0, image_encoder=None)
    assert without.generator_loss(without.player_update(batch, of_generator=True)).keys() == {"adversarial", "kl"}


def test_the_losses_are_means_of_what_is_real_and_of_what_is_rejected() -> None:
    """As in the authors' code: half of two terms and a third of three, by hand from the logits."""
    model, batch = model_of(StackGANv2Discriminator(6, 16, 1, 2, 2)), drawn_batch()
    update = model.player_update(batch)
    wrong = model.logits(batch["wrong"], batch["caption"])
    expected = 0.0
    for scale in range(2):
        places = slice(2 * scale, 2 * scale + 2)
        (of, without), (fake, fake_without) = update.real_logits[places], update.fake_logits[places]
        real = [nn.functional.softplus(-logits).mean() for logits in (of, without)]
        rejected = [nn.functional.softplus(logits).mean() for logits in (fake, fake_without, wrong[2 * scale])]
        expected += (sum(real) / 2 + sum(rejected) / 3).item()
    assert model.discriminator_loss(update)["adversarial"].item() == pytest.approx(expected, rel=1e-5)


def test_the_encoders_reach_the_generator_and_stay_as_they_are() -> None:
    model, batch = model_of(Indifferent()), drawn_batch()
    terms = model.generator_loss(model.player_update(batch, of_generator=True))
    (terms["words"] + terms["sentences"]).backward()
    assert all(p.grad is not None for p in model.generator.branches.parameters())
    assert all(p.grad is None for p in model.image_encoder.parameters())


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damsm") / "run"
    words = ("data.limit=100", "model.text_encoder.features=8", "images=8", "callbacks=default", "model.alike=none")
    training.run(small(folder, "damsm", *words))
    return folder


def test_a_run_takes_both_encoders_and_shows_where_it_looks(encoders: Path, tmp_path: Path) -> None:
    """And goes on from its checkpoint when the other run is gone; the maps have a column for each word."""
    cfg = small(tmp_path / "run", "attngan", "data.limit=100", "images=8", "callbacks=default", "model.damsm_weight=5")
    cfg.model.text_encoder = str(encoders)
    training.run(cfg)
    there, here = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (encoders, tmp_path / "run"))
    taken = {name: value for name, value in there["state_dict"].items() if "encoder." in name}
    assert {name.partition(".")[0] for name in taken} == {"text_encoder", "image_encoder"}
    assert all(torch.equal(here["state_dict"][name], value) for name, value in taken.items())
    opened: Any = trained.open_run(str(tmp_path / "run")).model
    assert opened.sampler(1)(0, 2).shape == (2, 1, 32, 32)
    assert Attention(2).explore(LatentSpace(opened, caption="a thick seven"), tmp_path / "out") == 0
    assert (tmp_path / "out" / "attention.png").exists()


def test_a_map_is_brightest_where_a_word_is_read_most() -> None:
    weights = torch.zeros(1, 2, 2)
    weights[0, 1, 0] = 0.2
    made = laid_over(torch.full((1, 1, 8, 8), -1.0), weights)
    assert made[0, 0, 7, 0].item() == pytest.approx(-0.3 + 0.7)
    assert made[0, 0, 0, 7].item() == -1


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"damsm_weight=5 needs encoders .* type model\.text_encoder= a run of model=d"
    ):
        model_of(Indifferent(), image_encoder=None)
    with pytest.raises(ConfigError, match=r"type model\.generator_batch=1 and model\.fake_labels=batch"):
        model_of(Indifferent(), fake_labels="data", alike="class")
    model = model_of(Indifferent())
    model.run.accumulate = 2
    with pytest.raises(ConfigError, match=r"trainer\.accumulate=2: the DAMSM loss compares captions"):
        model.configure_optimizers()
    space = SimpleNamespace(network=nn.Linear(1, 1), conditions=None)
    with pytest.raises(ConfigError, match="needs a generator that attends to words, as model=attngan"):
        Attention().explore(space, tmp_path)  # type: ignore[arg-type]
