"""`metrics.csv` in the run folder: one row for each time that something was logged."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from gan_experiments import files
from gan_experiments.bounds import Place
from gan_experiments.loggers.run_logger import RunLogger


class MetricsFile(RunLogger):
    """A CSV file whose first column is the images seen; a new name adds a column, rows are only ever appended.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Place) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.columns = self._columns_on_disk()

    @property
    def name(self) -> str:
        """The name that Lightning asks for."""
        return "metrics"

    @property
    def version(self) -> str:
        """The version that Lightning asks for."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's config lies beside this file."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row at `step` images."""
        row = {"images": step, **metrics}
        new = [name for name in row if name not in self.columns]
        if new:
            self._rewrite([*self.columns, *new], self._rows())
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def forget_after(self, images: int) -> None:
        """Drop the rows at more than `images` images, which lie beyond the checkpoint that the run is resumed from."""
        if self.path.exists():
            self._rewrite(self.columns, [row for row in self._rows() if int(row["images"]) <= images])

    def _columns_on_disk(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return next(csv.reader(file), [])

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        text = self.path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]  # a kill can leave half a row
        return list(csv.DictReader(io.StringIO(whole, newline="")))

    def _rewrite(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        self.columns = columns
        with files.whole(self.path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
