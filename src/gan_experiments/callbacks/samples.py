"""Sample sheets from inputs that stay the same through the run, and a GIF of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gan_experiments.bounds import Cells, Place, Positive, Whole
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.callbacks.record import log_picture
from gan_experiments.data.module import DataModule
from gan_experiments.drawing import save_gif, save_png
from gan_experiments.engine.module import AdversarialModule


class SampleSheets(RunCallback):
    """Sample sheets `samples/<images seen, eight digits>.png`: at the start, every `every` images and at the end.

    Beside a sheet of clips lies a GIF, beside one of waves a WAV: what the kind of samples `plays`.

    Args:
        folder: the run folder.
        every: images from one sheet to the next.
        n: cells of a sheet.
        ema: whether the averaged networks make them, if the variant has any.
        gif_seconds: length of `samples/training.gif`, made at the end.
    """

    def __init__(
        self, folder: Place, every: Whole, n: Cells = 64, ema: bool = True, gif_seconds: Positive = 6.0
    ) -> None:
        self.folder = Path(folder) / "samples"
        self.every, self.n, self.ema, self.gif_seconds = every, n, ema, gif_seconds
        self.latest: Path | None = None
        self._inputs: dict[str, Tensor] = {}
        self._real: Tensor | None = None

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Choose the inputs; draw the sheet of the untrained networks."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        fixed = data.fixed(self.n)
        self._inputs, self._real = module.sheet_inputs(fixed, self.n), fixed.get("real")
        if module.images_seen == 0:
            self._draw(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Draw a sheet if one is due."""
        if module.passed(self.every) or module.at_end():
            self._draw(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Join the sheets to a GIF."""
        if trainer.is_global_zero:
            sheets = sorted(p for p in self.folder.glob("[0-9]*.png") if p.stem.isdigit() and len(p.stem) >= 8)
            film = self.folder / "training.gif"
            save_gif(sheets, film, module.mark(), self.gif_seconds, hold=1.5)
            if film.exists():
                log_picture(trainer, "training", film, module.images_seen, "the same inputs from first to last")

    def _caption(self, module: AdversarialModule, columns: int | None) -> str:
        """Return in words what a sheet shows."""
        names = module.class_names
        classes = f"; columns: {', '.join(names)}" if names and columns and columns % len(names) == 0 else ""
        averaged = "averaged networks" if self.ema and module.averages else "networks in training"
        return f"after {module.images_seen:,} images, by the {averaged}{classes}"

    def _draw(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        with module.paused():
            if trainer.is_global_zero:
                with torch.random.fork_rng(devices=[]):
                    cells = module.sheet(self._inputs, self.ema)
                self.latest = self.folder / f"{module.images_seen:08d}.png"
                columns = module.conditions.columns(len(cells))
                titles = module.conditions.titles(self._inputs.get("label"), columns)
                picture = module.kind.sheet(cells, columns, real=self._real, titles=titles)
                save_png(picture, self.latest, module.mark())
                caption = self._caption(module, columns)
                log_picture(trainer, "samples", self.latest, module.images_seen, caption)
                for suffix in module.kind.plays:
                    played = self.latest.with_suffix(suffix)
                    module.kind.play(cells, played, module.mark())
                    log_picture(trainer, f"samples_{suffix[1:]}", played, module.images_seen, caption)
