"""The base of all data modules of clips: "real" float [N, C, length, H, W] in [-1, 1], and "label"."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.data.batches import HeldOut, to_float
from gan_experiments.data.image_module import ImageData
from gan_experiments.kinds import CLIP, Clip

Length = Annotated[int, Field(ge=2, le=1000)]


class ClipData(ImageData):
    """A set of real clips of `length` frames, `rate` a second; the other arguments are those of `ImageData`."""

    kind = CLIP
    items = "clips"

    def __init__(self, *arguments: Any, length: Length = 16, rate: NotNegative = 8.0, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.length, self.rate = length, rate
        self.kind = Clip(rate=rate)

    @override
    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the clips of `split`, by default "test", one by one: their first frames tell what is to follow."""
        clips = self.reference(split or "test")

        def batch(row: int) -> Batch:
            return {"real": to_float(clips.images(row, row + 1))}

        return HeldOut(clips.split, clips.fingerprint, len(clips), batch)
