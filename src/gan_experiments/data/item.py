"""What an item of a person's dataset is: where its image and its label are, and how an image lies in an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Reading, has_alpha, match_channels, picture, to_8_bit
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import Seen

LAYOUTS = ("chw", "hwc")
GREY_OR_COLOUR = (1, 3, 4)


class Form:
    """The form of items: where an item has its image and its label, and how an image lies in an array."""

    def __init__(
        self, where: str, image: str | int | None, label: str | int | None, layout: str | None, labelled: bool
    ) -> None:
        self.where, self.image, self.label, self.layout, self.labelled = where, image, label, layout, labelled

    def plain(self) -> list[object]:
        """Return it in plain values, for a cache's key."""
        return [self.image, self.label, self.layout, self.labelled]

    def parts(self, item: Any) -> tuple[Any, Any]:
        """Return the image and the label of an item; None for no label.

        Raises UnreadableImageError if there is none, ConfigError if it has another form.
        """
        if isinstance(item, Exception):
            raise UnreadableImageError(said_of(item)) from None
        if item is None:
            raise UnreadableImageError("is None")
        if isinstance(item, Mapping):
            return self._keyed(item)
        if isinstance(item, (tuple, list)):
            return self._placed(item)
        if self.image is not None or (self.label is not None and self.labelled):
            raise ConfigError(
                f"is {described(item)}, and neither tuple nor dict: leave out data.image= and data.label="
            )
        return item, None

    def _keyed(self, item: Mapping[Any, Any]) -> tuple[Any, Any]:
        image, label = "image" if self.image is None else self.image, "label" if self.label is None else self.label
        keys = ", ".join(map(str, item))
        if image not in item:
            raise ConfigError(f"has no key {image!r}: type data.image= one of its keys, {keys}")
        if self.labelled and label not in item:
            raise ConfigError(f"has no key {label!r}: type data.label= one of its keys, {keys}, or data.classes=0")
        return self._there(item[image], image), item.get(label)

    def _placed(self, item: Sequence[Any]) -> tuple[Any, Any]:
        if self.image is None and len(item) not in (1, 2):
            raise ConfigError(
                f"{_parted(item)}, and one or two were expected: type"
                " data.image=0 data.label=1, the places of image and label in it"
            )
        image = 0 if self.image is None else self.image
        label = self.label if self.label is not None else 1 if self.image is None and len(item) == 2 else None
        for key, place in (("image", image), ("label", label if self.labelled else None)):
            if place is not None and not (isinstance(place, int) and 0 <= place < len(item)):
                raise ConfigError(f"{_parted(item)}: type data.{key}= a place in it, from 0")
        parts = dict(enumerate(item))
        return self._there(parts[image], image), None if label is None else parts.get(label)  # type: ignore[index, arg-type]

    @staticmethod
    def _there(image: Any, key: object) -> Any:
        if image is None:
            raise UnreadableImageError(f"has None at {key!r}")
        return image

    def numbered(self, label: Any) -> int | str:
        """Return a label as a plain number or name.

        Raises ConfigError if there is none, UnreadableImageError if it is neither.
        """
        if isinstance(label, (Tensor, np.ndarray, np.generic)) and getattr(label, "size", 0) != 0:
            values = label.tolist()
            while isinstance(values, list) and len(values) == 1:
                values = values[0]
            label = values
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, (str, int)) and label != "":
            return label if isinstance(label, str) else int(label)
        if label is None:
            raise ConfigError("has no label: type data.classes=0, or give (image, label)")
        raise UnreadableImageError(f"has the label {described(label)}: a whole number or a name is needed")

    def pixels(self, image: Any, channels: int, reading: Reading) -> tuple[Tensor, Seen]:
        """Convert a PIL image, an array or a tensor to uint8 [channels, H, W] at its own size."""
        if isinstance(image, Image.Image):
            return picture(image, channels, reading)
        array = array_of(image)
        if array is None:
            raise ConfigError(
                f"has {described(image)} for an image: a PIL image, an array, a tensor or the bytes of a file is needed"
            )
        array = self._channels_first(array, image, channels)
        values, kind, bounds = None, _kind(array), reading.bounds
        if array.dtype == bool:
            array = array.astype(np.uint8) * 255
        elif array.dtype != np.uint8:
            values = float(array.min()), float(array.max())
            if not np.isfinite(values).all():
                raise UnreadableImageError("holds values that are no numbers")
            if bounds is None:
                likely = range_of(values, "data.range=")
                raise ConfigError(f"has {described(image)}: type the values that are black and white, as {likely}")
            array = to_8_bit(array, bounds)
        pixels = torch.from_numpy(np.ascontiguousarray(array))
        if len(pixels) != channels and (reading.bands or not {len(pixels), channels} <= {*GREY_OR_COLOUR}):
            asked = "1 (grey), 3 (RGB) or 4 (RGB and transparency)" if channels in GREY_OR_COLOUR else channels
            raise UnreadableImageError(f"has {len(pixels)} channels: {asked} are needed")
        opaque = has_alpha(channels, reading.bands) and len(pixels) != 4
        full = None if bounds is None else bounds[1]
        seen = Seen((array.shape[2], array.shape[1]), kind, 1, values, full, opaque)
        return match_channels(pixels[None], channels)[0], seen

    def values(self, item: Any) -> tuple[float, float] | None:
        """Return the least and the greatest value of an item that is not of 8 bits; None for others and for broken."""
        try:
            image = self.parts(item)[0]
        except (UnreadableImageError, ConfigError):  # reported when it is read
            return None
        deep = isinstance(image, Image.Image) and (image.mode[0] == "I" or image.mode == "F")
        array = np.asarray(image) if deep else array_of(image)
        if array is None or array.dtype in (np.uint8, bool) or not array.size or not np.isfinite(array).all():
            return None
        return float(array.min()), float(array.max())

    def _channels_first(self, array: np.ndarray, image: Any, channels: int) -> np.ndarray:
        if array.ndim == 2:
            return array[None]
        if array.ndim != 3 or not array.size:
            raise UnreadableImageError(f"has {described(image)} for an image: [C, H, W], [H, W, C] or [H, W] is needed")
        layout = self.layout
        if layout is None:
            possible = {*GREY_OR_COLOUR, channels}
            first, last = array.shape[0] in possible, array.shape[2] in possible
            if first and last:
                raise ConfigError(
                    f"has {described(image)}, whose channels may be the first or the last: type data.layout=chw or"
                    " data.layout=hwc"
                )
            layout = "hwc" if last or (not first and array.shape[2] < array.shape[0]) else "chw"
        return array.transpose(2, 0, 1) if layout == "hwc" else array


def described(value: Any) -> str:
    """Return in words what a value is: "a float32 tensor 3x32x32 with the values -1..1", "'cat'", "a list"."""
    array = array_of(value)
    if array is not None:
        shape = "x".join(map(str, array.shape)) or "of one value"
        kind = "tensor" if isinstance(value, Tensor) else "array"
        values = f" with the values {array.min():.4g}..{array.max():.4g}" if array.size else ""
        return f"a {array.dtype} {kind} {shape}{values}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode}"
    if value is None or isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return f"a {type(value).__name__}"


def _parted(item: Sequence[Any]) -> str:
    return f"is a {type(item).__name__} of {len(item)} ({', '.join(map(described, item))})"


def array_of(value: Any) -> np.ndarray | None:
    """Return an array or a tensor of numbers as an array; None for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else None


def _kind(array: np.ndarray) -> str:
    """Return in words what kind of pixels an array [C, H, W] has, as files are described."""
    colours = {1: "grey", 3: "RGB", 4: "RGB and transparency"}.get(len(array), f"{len(array)} channels")
    if array.dtype == bool:
        return f"1-bit {colours}"
    return f"8-bit {colours}" if array.dtype == np.uint8 else f"{array.dtype} {colours}"


def range_of(values: tuple[float, float], key: str) -> str:
    """Return words for the values that are likely to be black and white, as `key` takes them, given least and greatest.

    `key` ends in "=".
    """
    low, high = values
    if low < 0:
        likely = "[-1,1]" if low >= -1 and high <= 1 else f"[{low:.6g},{high:.6g}]"
    else:
        likely = f"[0,1] or {key}[-1,1]" if high <= 1 else f"[0,{255 if high <= 255 else f'{high:.6g}'}]"
    return f"{key}{likely}"


def said_of(error: Exception) -> str:
    """Return in words what reading an item raised."""
    return f"raises {type(error).__name__}: {' '.join(str(error).split())[:160]}".rstrip(": ")
