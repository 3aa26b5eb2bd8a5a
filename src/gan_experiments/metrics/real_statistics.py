"""What the scores need of the real images, kept on disk."""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.metrics.scores import moments


@dataclass(frozen=True)
class RealStatistics:
    """Features [N, D] float32 of the real images, with their mean [D] and covariance [D, D] in float64."""

    features: Tensor
    mean: Tensor
    cov: Tensor

    @classmethod
    def of(cls, features: Tensor) -> RealStatistics:
        """Compute the statistics of features [N, D], N >= 2."""
        return cls(features, *moments(features))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> RealStatistics | None:
        """Return on `device` what `save` wrote to `path`; None where there is no readable file."""
        try:
            return cls(**torch.load(path, map_location=device, weights_only=True))
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError):
            return None

    def save(self, path: Path) -> None:
        """Write to `path` all at once, so that no other process ever reads half a file; warn where that fails."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save({"features": self.features, "mean": self.mean, "cov": self.cov}, file)
                os.replace(part, path)
            finally:
                Path(part).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            warnings.warn(f"the features of the real images are not kept for the next time: {error}", stacklevel=2)
