"""The Context Encoder by hand: what it is shown, what its two losses weigh, what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import compose, ready, small
from torch import Tensor, nn

from gan_experiments.assembly import build
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.models.context_encoder import Inpainting

CENTRE, RANDOM = "context_encoder", "context_encoder_random"


def built(folder: Path, model: str = CENTRE, *words: str) -> tuple[Inpainting, Batch]:
    """A small model, and a batch of two images of 32 pixels as its data give them: a hole of 8x8 in the 16x16 made."""
    cfg = small(folder / "run", model, *words)
    data, module = build.make(cfg.data), build.build_model(cfg)
    data.prepare_data()
    data.setup("fit")
    return module, ready(data)


class Makes(nn.Module):
    """A generator that makes the same whatever it is shown, and remembers what that was."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images, self.shown = nn.Parameter(images.clone()), []

    def forward(self, shown: Tensor) -> Tensor:
        self.shown.append(shown)
        return self.images * 1


def seen(network: nn.Module) -> list[Tensor]:
    """What a network is called with from now on."""
    inputs: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    return inputs


def test_the_hole_is_filled_with_one_colour_and_nothing_of_it_is_told(tmp_path: Path) -> None:
    """117, 104, 123 in the order of the channels, as train.lua; a band of 4 pixels of what is made is shown."""
    module, batch = built(tmp_path)
    holed = module.holed(batch)
    inside = holed[:, :, 12:20, 12:20]
    for channel, value in enumerate((117, 104, 123)):
        assert inside[:, channel].unique().tolist() == pytest.approx([2 * value / 255 - 1])
    known = torch.ones(32, 32, dtype=torch.bool)
    known[12:20, 12:20] = False
    assert torch.equal(holed[:, :, known], batch["real"][:, :, known])
    other = {**batch, "real": torch.where(batch["mask"].bool(), 1.0, batch["real"])}
    assert torch.equal(module.holed(other), holed)
    grey = module.holed({**batch, "real": batch["real"][:, :1]})
    assert grey.shape == (2, 1, 32, 32)
    assert grey[0, 0, 16, 16].item() == pytest.approx(2 * (117 + 104 + 123) / 3 / 255 - 1)


def test_terms_by_hand(tmp_path: Path) -> None:
    """.999 of the squares, the band counting ten times, and .001 of -log D; one output a batch for both phases."""
    module, batch = built(tmp_path)
    real = batch["real"][:, :, 8:24, 8:24]
    module.generator = Makes(real + 1)
    module._seed_draws("discriminator")
    logits = [module.discriminator(images) for images in (real, real + 1)]
    loss = module.discriminator_loss(batch)
    assert loss.keys() == {"adversarial"}
    by_hand = F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean()
    assert loss["adversarial"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    terms = module.generator_loss(batch)
    assert terms.keys() == {"l2", "adversarial"}
    assert terms["l2"].item() == pytest.approx(0.999 * (8 * 8 + 10 * (16 * 16 - 8 * 8)) / 16**2, rel=1e-5)
    assert terms["adversarial"].item() == pytest.approx(0.001 * F.softplus(-logits[1]).mean().item(), rel=1e-5)
    assert len(module.generator.shown) == 1
    assert torch.equal(module.generator.shown[0], module.holed(batch))


def test_of_a_perfect_centre_the_adversarial_term_is_left(tmp_path: Path) -> None:
    module, batch = built(tmp_path)
    real = batch["real"][:, :, 8:24, 8:24]
    module.generator = Makes(real)
    terms = module.generator_loss(batch)
    assert terms["l2"].item() == 0
    assert sum(terms.values()).item() == pytest.approx(0.001 * F.softplus(-module.discriminator(real)).mean().item())


@pytest.mark.parametrize(("model", "part"), [(CENTRE, slice(8, 24)), (RANDOM, slice(None))])
def test_the_discriminator_sees_what_is_made_and_no_context(model: str, part: slice, tmp_path: Path) -> None:
    """From a quarter to three quarters of the side; of random regions the whole output, not pasted into the image."""
    module, batch = built(tmp_path, model)
    inputs = seen(module.discriminator)
    module.discriminator_loss(batch)
    fake = module.fake(batch)
    module.generator_loss(batch)
    real, *fakes = inputs
    assert torch.equal(real, batch["real"][:, :, part, part])
    assert len(fakes) == 2
    assert all(torch.equal(images, fake) for images in fakes)


def test_each_loss_reaches_the_network_that_it_trains(tmp_path: Path) -> None:
    module, batch = built(tmp_path)
    first, second = module.phases()
    assert (first.networks, first.keeps, second.networks) == (module.discriminator, module.generator, module.generator)
    loss = first.loss(batch)["adversarial"]
    assert torch.autograd.grad(loss, [*module.generator.parameters()], allow_unused=True, retain_graph=True) == (
        None,
    ) * len([*module.generator.parameters()])
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, [module.discriminator.layers[0].weight]))
    for term in second.loss(batch).values():
        (gradient,) = torch.autograd.grad(term, [module.generator.layers[0].weight], retain_graph=True)
        assert gradient.abs().sum() > 0


def test_what_is_known_stays_as_it_was(tmp_path: Path) -> None:
    module, batch = built(tmp_path)
    made = torch.rand(2, 3, 16, 16)
    module.generator = Makes(made)
    filled = module.translate(batch)
    mask = batch["mask"].bool().expand(-1, 3, -1, -1)
    assert torch.equal(filled[~mask], batch["real"][~mask])
    assert torch.equal(filled[:, :, 12:20, 12:20], made[:, :, 4:12, 4:12])
    fake, real = module.pair(batch, "filled")
    assert torch.equal(fake, filled)
    assert torch.equal(real, batch["real"])
    assert torch.equal(module.sheet(batch), torch.stack([module.holed(batch), filled, real], dim=1))


def test_a_hole_beyond_the_centre_is_refused(tmp_path: Path) -> None:
    module, batch = built(tmp_path, CENTRE, "data.mask=boxes")
    with pytest.raises(ConfigError, match=r"middle 16x16 of 32x32 pixels .* \(data\.mask=centre\), or train model=con"):
        module.translate(batch)


def test_random_regions_by_hand(tmp_path: Path) -> None:
    """train_random.lua with useOverlapPred=0: the whole image is made, every pixel counts the same."""
    module, batch = built(tmp_path, RANDOM)
    assert len(batch["mask"].unique(dim=0)) == 2, "a hole of its own for each image"
    module.generator = Makes(batch["real"] + 2 * batch["mask"])
    module._seed_draws("generator")
    assert module.generator_loss(batch)["l2"].item() == pytest.approx(0.999 * 4 * batch["mask"].mean().item(), rel=1e-5)
    module.generator = Makes(-batch["real"])
    mask = batch["mask"].bool()
    assert torch.equal(module.translate(batch), torch.where(mask, -batch["real"], batch["real"]))


def test_as_configured_it_has_the_authors_sizes_and_rates(tmp_path: Path) -> None:
    """Counts added up from train.lua. The generator's rate is ten times the discriminator's."""
    cfg = compose(tmp_path, f"model={CENTRE}")
    assert (cfg.data.resolution, cfg.data.batch_size) == (128, 64)
    with torch.device("meta"):
        module = build.make(cfg.model)
    sizes = [sum(p.numel() for p in getattr(module, name).parameters()) for name in ("generator", "discriminator")]
    assert sizes == [71_130_531, 2_766_529]
    rates = [module.make_optimizer[name](getattr(module, name).parameters()) for name in ("generator", "discriminator")]
    assert [(o.defaults["lr"], o.defaults["betas"][0]) for o in rates] == [(2e-3, 0.5), (2e-4, 0.5)]
    random = compose(tmp_path, f"model={RANDOM}")
    assert random.data.mask == "strokes"
    assert (random.model.generator.region, random.model.discriminator.resolution) == ("random", 128)
