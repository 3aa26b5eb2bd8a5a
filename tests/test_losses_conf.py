"""Every file of conf/loss and conf/augment names a class with arguments that it takes."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support import small

from gan_experiments.assembly import check
from gan_experiments.contracts import ConfigError

CONF = Path(__file__).parents[1] / "conf"
LOSSES = sorted((CONF / "loss").glob("*.yaml"))


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_loss_can_be_built_and_used(path):
    loss = instantiate(OmegaConf.load(path))
    real, fake = torch.randn(4), torch.randn(4)
    assert torch.isfinite(loss.discriminator(real, fake) + loss.generator(fake, real))
    assert {loss.needs_lipschitz, loss.needs_real_logits} <= {True, False}


def test_the_least_squares_differ_in_their_halves():
    names = ("least_squares", "least_squares_cyclegan", "least_squares_bicyclegan")
    losses = [instantiate(OmegaConf.load(CONF / f"loss/{name}.yaml")) for name in names]
    logits = torch.tensor([-1.0, 1.0])
    assert [loss.generator(logits).item() for loss in losses] == [1, 2, 2]
    assert [loss.discriminator(logits, logits).item() for loss in losses] == [1.5, 1.5, 3]


def test_augment():
    assert instantiate(OmegaConf.load(CONF / "augment/diffaugment.yaml")).policy == ["color", "translation", "cutout"]
    assert OmegaConf.load(CONF / "augment/none.yaml") == {}


@pytest.mark.parametrize("model", ["cyclegan", "dcgan", "pix2pix"])
def test_a_critic_that_nothing_keeps_lipschitz_is_refused_by_any_name(model: str, tmp_path: Path) -> None:
    """CycleGAN has no network called discriminator."""
    with pytest.raises(ConfigError, match="needs a Lipschitz critic"):
        check.require(small(tmp_path / "run", model, "loss=wasserstein"))
