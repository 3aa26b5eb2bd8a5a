"""`trainer.compile`: compiled networks learn the same, with penalties that are differentiated twice.

tests/test_docs_commands.py runs the command of docs/speed.md, through a C++ compiler where there is one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import difference, small, train

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError


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


def test_what_cannot_be_compiled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small(tmp_path / "a", "dcgan", "trainer.compile=[generatr]")
    with pytest.raises(ConfigError, match=r"no network of that name.*did you mean generator"):
        check.require(cfg)
    cfg.trainer.compile = ["generator"]
    check.require(cfg)
    monkeypatch.setattr(check.shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        check.require(cfg)
