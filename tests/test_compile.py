"""`trainer.compile` and `compile=true`: compiled networks learn, draw and translate the same.

tests/test_docs_commands.py runs the command of docs/speed.md, through a C++ compiler where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import Variant, difference, small, train

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.export.exported import open_any
from gan_experiments.inference.contract import SAMPLE
from gan_experiments.inference.run import open_run


@pytest.mark.parametrize("model", ["wgan_gp_toy", "unrolled_gan", "cyclegan"])
def test_compiled_networks_learn_the_same(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and computed as it is written here (backend eager), so that it is equal to rounding."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *given, **how: compiled(*given, **{**how, "backend": "eager"}))
    cfg = small(tmp_path / "a", model, "images=8", "trainer.precision=64-true")
    plain = train(cfg)
    names = plain.network_names
    module = train(cfg, change=lambda module: [build.compile_parts(getattr(module, name)) for name in names])
    parts = [part for name in names for part in getattr(module, name).modules()]
    assert any(part._compiled_call_impl is not None for part in parts)
    assert max(difference(plain.state_dict(), module.state_dict()).values(), default=0.0) < 1e-9


@pytest.mark.parametrize("model", ["stylegan2", "pix2pix"])
def test_compiled_networks_draw_and_translate_the_same(
    model: str, variants: Callable[[str], Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average and the weights in training, each traced and computed as it is written here."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *given, **how: compiled(*given, **{**how, "backend": "eager"}))
    run = str(variants(model).folder)
    plain, other = open_run(run, "cpu"), open_run(run, "cpu", compiled=True)
    for ema in (True, False):
        parts = other.model.network("generator", ema).modules()
        assert any(part._compiled_call_impl is not None for part in parts)
        if plain.facts.task == SAMPLE:
            made = [one.draw(one.noise(2), one.labels(2), ema=ema, exact=True) for one in (plain, other)]
        else:
            photo = torch.randint(256, (plain.facts.channels, 32, 32), generator=torch.Generator().manual_seed(0))
            made = [one.translated(photo.byte(), ema=ema) for one in (plain, other)]
        assert torch.equal(*made)


def test_what_cannot_be_compiled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small(tmp_path / "a", "dcgan", "trainer.compile=[generatr]")
    with pytest.raises(ConfigError, match=r"no network of that name.*did you mean generator"):
        check.require(cfg)
    cfg.trainer.compile = ["generator"]
    check.require(cfg)
    normalised = small(tmp_path / "a", "sngan", "trainer.compile=[discriminator]")
    with pytest.raises(ConfigError, match=r"trainer.compile=discriminator: spectral norm moves its vectors"):
        check.require(normalised)
    normalised.trainer.compile = ["generator"]
    check.require(normalised)
    monkeypatch.setattr(check.shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=r"trainer.compile: torch needs a C\+\+ compiler"):
        check.require(cfg)
    with pytest.raises(ConfigError, match=r"compile=true: torch needs a C\+\+ compiler"):
        open_run("nowhere", compiled=True)
    with pytest.raises(ConfigError, match=r"compile=true: m.onnx is an exported file"):
        open_any("m.onnx", compiled=True)
