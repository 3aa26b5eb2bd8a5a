"""What every request for images can say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.inference.contract import Generates

Name = Annotated[str, Field(max_length=200)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Degrees = Annotated[float, Field(ge=-360, le=360)]


class Asked(BaseModel):
    """A request for images."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Name | None = Field(None, description="one of GET /models; may be left out if there is one")
    seed: Seed = Field(0, description="of the noise: the same seed gives the same bytes")


class Told(Asked):
    """A request for samples, and what their generator is told."""

    model_config = ConfigDict(strict=True)

    label: int | Name | None = Field(
        None, description="the class by number or name, or the caption; null for each class in turn"
    )
    camera: list[Degrees] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="yaw to the right and pitch above the horizon in degrees, of models that are told cameras",
    )
    truncation: float | None = Field(None, gt=0, le=100, description="largest |z|; ψ where the model has styles")

    def told(self, model: Generates, n: int) -> Tensor | None:
        """Return the labels or the cameras of n samples, [n, ...]; None without any. Raises ConfigError."""
        if self.camera is None:
            return model.labels(n, self.seed, self.label)
        if not model.facts.cameras:
            raise ConfigError("camera: this model is told no camera; leave it out")
        if self.label is not None:
            raise ConfigError("label: this model is told cameras and knows no classes; leave it out")
        return model.labels(n, self.seed, self.camera, key="camera")
