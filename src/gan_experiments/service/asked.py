"""What every request for images can say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(max_length=200)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Asked(BaseModel):
    """A request for images."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Name | None = Field(None, description="one of GET /models; may be left out if there is one")
    seed: Seed = Field(0, description="of the noise: the same seed gives the same bytes")
