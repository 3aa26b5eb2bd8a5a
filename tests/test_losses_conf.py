"""Every file of conf/loss and conf/augment names a class with arguments that it takes."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf"
LOSSES = sorted((CONF / "loss").glob("*.yaml"))


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_loss_can_be_built_and_used(path):
    loss = instantiate(OmegaConf.load(path))
    real, fake = torch.randn(4), torch.randn(4)
    assert torch.isfinite(loss.discriminator(real, fake) + loss.generator(fake, real))
    assert {loss.needs_lipschitz, loss.needs_real_logits} <= {True, False}


def test_the_two_least_squares_differ_in_the_generators_half():
    half = instantiate(OmegaConf.load(CONF / "loss/least_squares.yaml"))
    full = instantiate(OmegaConf.load(CONF / "loss/least_squares_cyclegan.yaml"))
    logits = torch.tensor([-1.0, 1.0])
    assert (half.generator(logits).item(), full.generator(logits).item()) == (1.0, 2.0)
    assert half.discriminator(logits, logits) == full.discriminator(logits, logits)


def test_augment():
    assert instantiate(OmegaConf.load(CONF / "augment/diffaugment.yaml")).policy == ["color", "translation", "cutout"]
    assert OmegaConf.load(CONF / "augment/none.yaml") == {}
