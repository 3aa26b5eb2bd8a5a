"""Show trained models on a page in the browser: `gan-experiments demo run=latest`."""

from __future__ import annotations

from omegaconf import DictConfig


def demo(cfg: DictConfig) -> int:
    """Answer the page's requests until a signal asks to end, which raises Stopped."""
    from gan_experiments.assembly import check
    from gan_experiments.verbs.serve import serving

    check.require_options(cfg, "demo")
    return serving(cfg, page=True)
