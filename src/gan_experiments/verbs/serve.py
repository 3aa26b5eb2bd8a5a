"""Serve trained models over HTTP: `gan-experiments serve run=latest port=8000`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from gan_experiments.inference.contract import Generates

LIMITS = ("wait", "queue", "max_n", "max_pixels", "max_bytes", "body_seconds", "request_seconds", "connections")
NEEDED = {"fastapi": "fastapi", "starlette": "fastapi", "uvicorn": "uvicorn", "h11": "uvicorn"}
"""Modules of the extra `serve`, with their packages."""
BATCH = {"cpu": 4}
"""Images of a batch by kind of device; on others 16."""


def serve(cfg: DictConfig) -> int:
    """Answer requests until a signal asks to end, which raises Stopped."""
    from gan_experiments.assembly import check

    check.require_options(cfg, "serve")
    return serving(cfg)


def serving(cfg: DictConfig, page: bool = False) -> int:
    """Answer requests by a config of `serve`, or with `page` by one of `demo`, which has fewer keys."""
    from gan_experiments import files, signals
    from gan_experiments.contracts import ConfigError

    try:
        from gan_experiments.service import server
        from gan_experiments.service.app import make_app
        from gan_experiments.service.settings import Settings, listener, token
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        verb, package = "demo" if page else "serve", NEEDED[error.name]
        raise ConfigError(f"{verb} needs {error.name}, which is not installed: pip install {package}") from None
    secret = token()
    with listener(cfg.host, cfg.port, secret) as bound:
        opened = [_opened(str(run), cfg) for run in ([cfg.run] if isinstance(cfg.run, str) else cfg.run)]
        models = dict(zip(files.clean_names(model.name for model in opened), opened, strict=True))
        limits = {key: cfg[key] for key in LIMITS if key in cfg}
        settings = Settings(
            **limits, batch_size=cfg.get("batch_size") or _batch(cfg), threads=_threads(cfg), token=secret
        )
        app = make_app(models, settings, cfg.ema, cfg.tile, cfg.provenance, page)

        def ready() -> None:
            host, port = bound.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            does = f"shows {', '.join(models)};" if page else f"serves {', '.join(models)}; {url}/docs explains it,"
            print(f"{url} {does} Ctrl-C ends it", flush=True)

        number = server.serve(app, settings, bound, ready)
    if number:
        raise signals.Stopped(number)
    return 0


def _opened(given: str, cfg: DictConfig) -> Generates:
    """Return the model of a run, a checkpoint or an exported file."""
    from gan_experiments.export.exported import open_any

    return open_any(given, cfg.device, cfg.trust, _threads(cfg), bool(cfg.get("compile")))


def _batch(cfg: DictConfig) -> int:
    """Return the number of images that the device computes together well."""
    from gan_experiments.assembly.trained import device_of

    return BATCH.get(device_of(cfg.device).type, 16)


def _threads(cfg: DictConfig) -> int:
    """Return the number of torch's threads: as many as there are cores for this process."""
    import torch

    from gan_experiments.data.cache import cores

    return int(cfg.threads or min(cores(), torch.get_num_threads()))
