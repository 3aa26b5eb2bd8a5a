"""A tally of the image files read: sizes, kinds of pixels, their values and frames; and its description in words."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gan_experiments.bounds import sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.rasters import OWN

DARK = 1 / 4  # of the scale: images are nearly black if no value is above
LITTLE = 0.005  # the share of an image that may be cut off, or be padding, without a word about it
NAMED = 5  # how many are named of the files left out, and of a long list of classes


@dataclass(frozen=True)
class Seen:
    """One image as it lies in its file.

    `size` is width and height, `frames` how many the file holds. `values` are the least and the greatest of a file of
    more than 8 bits, None for others; `full` is the value that becomes white. An `opaque` one was asked for
    transparency and has none; an `empty` one is a slice without an image, and nothing else is known of it.
    """

    size: tuple[int, int]
    kind: str
    frames: int = 1
    values: tuple[float, float] | None = None
    full: float | None = None
    opaque: bool = False
    empty: bool = False


@dataclass
class About:
    """What is known of a set of images beside its pixels.

    `notes` say how folders and lists were interpreted, `empty` are subfolders that hold no image, and `left_out` some
    of the files left out and why. `met` is what `Met.facts` returned: {} for old caches and sets that are not of files.
    """

    notes: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    met: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Mapping[str, Any], notes: Sequence[str] = ()) -> About:
        """Read it from the content of a cache's facts.json."""
        left_out = dict(list(facts.get("skipped_files", {}).items())[:NAMED])
        return cls([*notes], facts.get("empty_classes", []), left_out, facts.get("met", {}))

    @property
    def values(self) -> tuple[float, float] | None:
        """The values that are black and white in all files; None if some have 8 bits, or others than the rest."""
        kinds = self.met.get("kinds", {}).values()
        if not kinds or not all("values" in of for of in kinds) or self.met.get("window") == OWN:
            return None
        whites = {of.get("white") for of in kinds}
        if self.range is None and (len(whites) > 1 or None in whites):
            return None
        return self.range or (0.0, float(whites.pop()))

    @property
    def range(self) -> tuple[float, float] | None:
        """The values that became black and white, if `data.range` gave or found them; otherwise None."""
        found = self.met.get("range")
        return None if found is None else (found[0], found[1])


class Met:
    """A tally of the images read; any number of threads may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.kinds: Counter[str] = Counter()
        self.values: dict[str, tuple[float, float]] = {}
        self.fulls: dict[str, set[float]] = {}
        self.pixels: tuple[float, float] | None = None
        self.several = self.frames = self.opaque = self.empty = 0

    def add(self, seen: Seen) -> None:
        """Count one file or frame."""
        with self._lock:
            if seen.frames > 1:
                self.several += 1
                self.frames += seen.frames
            self.opaque += seen.opaque
            self.empty += seen.empty
            if seen.empty:
                return
            self.sizes[seen.size] += 1
            self.kinds[seen.kind] += 1
            if seen.values is not None:
                self.values[seen.kind] = _joined(self.values.get(seen.kind), seen.values)
                if seen.full is not None and seen.values[1] > 0:
                    self.fulls.setdefault(seen.kind, set()).add(seen.full)

    def add_pixels(self, pixels: Tensor) -> None:
        """Note the least and the greatest value of decoded images, uint8."""
        if pixels.numel():
            low, high = torch.aminmax(pixels)
            self.pixels = _joined(self.pixels, (int(low), int(high)))

    def fitted(self, resolution: int | Sequence[int], how: str = "crop", across: int = 1) -> dict[str, Any]:
        """Return what it takes to bring the images to the shape of `resolution`, see `decode.fit`, in plain types.

        "cut" counts the images that lose more than half of their area, or gain more than that. For rectangles and for
        other ways than "crop" there is also "fitted": the height and width, `how`, and the mean share of an image that
        is cut off, or of the result that is padding. `across` is how many images lie side by side in each file.
        """
        tall, wide = sides(resolution)
        kept = [
            (min(width * tall, across * height * wide) / max(width * tall, across * height * wide), images)
            for (width, height), images in self.sizes.items()
        ]
        found: dict[str, Any] = {"cut": sum(images for share, images in kept if 2 * share < 1)}
        if (tall == wide and how == "crop") or not kept:
            return found
        mean = sum(share * images for share, images in kept) / sum(images for _, images in kept)
        return {**found, "fitted": [tall, wide, how, 1 - mean]}

    def facts(
        self, taken: str | None = "first", bounds: tuple[float, float] | None = None, window: str | None = None
    ) -> dict[str, Any]:
        """Return the tally in plain types.

        `taken` is "first" or "all" of the frames, None if there is no choice. `bounds` are the values that became black
        and white, and `window` is its name, if they were chosen.
        """
        if not self.sizes:
            return {}
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        common, images = self.sizes.most_common(1)[0]
        kinds = {
            kind: {"images": n, **({"values": list(self.values[kind])} if kind in self.values else {})}
            for kind, n in self.kinds.most_common()
        }
        for kind, fulls in self.fulls.items():
            if len(fulls) == 1:
                kinds[kind]["white"] = next(iter(fulls))
        facts: dict[str, Any] = {
            "sizes": {
                "smallest": list(by_area[0]),
                "largest": list(by_area[-1]),
                "commonest": [*common, images],
                "different": len(by_area),
            },
            "kinds": kinds,
        }
        if self.pixels is not None:
            facts["values"] = list(self.pixels)
        if self.several:
            facts["frames"] = {"files": self.several, "frames": self.frames, "taken": taken}
        if bounds is not None:
            facts["range"] = list(bounds)
        facts |= {
            key: value
            for key, value in (("window", window), ("opaque", self.opaque), ("empty_slices", self.empty))
            if value
        }
        return facts

    def require_shown(self, where: str) -> None:
        """Raise ConfigError if images would come out nearly black, clipped, or on different scales.

        That can only happen to files of more than 8 bits that are read without a range. `where` names them in the
        message, as key=value.
        """
        for kind, (low, high) in self.values.items():
            fulls = self.fulls.get(kind, set())
            full = max(fulls, default=1.0)
            if low < -full / 512 or high > full:  # less is below one level of 256
                fault = f"which would be cut off at 0 and {_text(full)}"
            elif len(fulls) > 1:
                fault = f"some of which would be read as of {_text(min(fulls))}, others as of {_text(full)}"
            elif 0 < high < DARK * full:
                fault = f"nearly black on the scale of 0..{_text(full)}"
            else:
                continue
            found = f"{where}: its {self.kinds[kind]:,} files of {kind} hold the values {_span(low, high)}, {fault}"
            if not where.startswith("data."):
                raise ConfigError(f"{found}: write them as 8-bit images first")
            window = "data.range=lung or bone, brain, ..., " if "Hounsfield" in kind else ""
            window += f"data.range={OWN} for the window of each file, " if "DICOM" in kind else ""
            raise ConfigError(
                f"{found}: type {window}data.range=auto to have black and white where the values end, or yourself "
                f"data.range=[{_text(low)},{_text(high)}], or as they are data.range=[0,{_text(full)}]"
            )


def counted(number: int) -> str:
    """Return "1 file" or "2 files"."""
    return "1 file" if number == 1 else f"{number:,} files"


def lines(number: int, counts: Mapping[str, int], about: About, skipped: int = 0, instead: str = "") -> list[str]:
    """Return how a set of `number` images was interpreted, a line for each thing that there is to say.

    `counts` are the numbers of images of each class; `instead` is what can be typed if much is cut off.
    """
    said = [f"{'folders':10}{note}" for note in about.notes]
    if counts:
        said.append(f"{'classes':10}{_classes(counts)}")
    if about.empty:
        said.append(f"{'no class':10}{_some(about.empty)}: no image in it, left out")
    met = about.met
    if "sizes" in met:
        said.append(f"{'sizes':10}{_sizes(met['sizes'], number)}")
        said.append(f"{'pixels':10}{_kinds(met)}")
    if "fitted" in met:
        height, width, how, share = met["fitted"]
        said += _fitted((height, width), how, share, met["cut"], instead)
    elif met.get("cut"):
        said.append(
            f"{'cut':10}{met['cut']:,} images lose more than half of their area: the square in their middle is kept"
            + (f"; {instead}" if instead else "")
        )
    if "frames" in met:
        several = met["frames"]
        volumes = any("NIfTI" in kind or "DICOM" in kind for kind in met["kinds"])
        first = "the first of each, of a volume the middle, is taken" if volumes else "the first of each is taken"
        said.append(
            f"{'frames':10}{counted(several['files'])} with {several['frames']:,} frames; "
            + ("all are taken" if several["taken"] == "all" else first)
            + ("; data.frames=all takes all" if several["taken"] == "first" else "")
        )
    if "empty_slices" in met:
        said.append(f"{'empty':10}{met['empty_slices']:,} slices of one value throughout are left out")
    if "opaque" in met:
        said.append(f"{'alpha':10}{met['opaque']:,} images have no transparency: they are opaque")
    if skipped:
        some = _some([f"{name} ({why})" for name, why in about.left_out.items()], skipped)
        said.append(f"{'left out':10}{counted(skipped)}" + (f": {some}" if some else ""))
    return said


def _fitted(size: tuple[int, int], how: str, share: float, most: int, instead: str) -> list[str]:
    """Return a line on how images got the shape of `size`, height and width; none if they had it before."""
    shape = f"{size[0]}x{size[1]} (height x width)"
    part, several = f"{share:.0%}", f"; of {most:,} images more than half" if most else ""
    if share < LITTLE:
        return []
    if how == "stretch":
        return [f"{'stretched':10}to {shape}, whatever their shape is"]
    if how == "pad":
        return [f"{'padded':10}to {shape} by their outermost pixels: {part} of all{several}"]
    kept = f"the largest piece of the shape {shape} in the middle is kept"
    return [f"{'cut':10}{part} of all is cut off{several}: {kept}" + (f"; {instead}" if instead and most else "")]


def _classes(counts: Mapping[str, int]) -> str:
    some = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[: 2 * NAMED])
    if len(counts) <= 2 * NAMED:
        return f"{len(counts)}: {some}"
    fewest, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    return f"{len(counts)}: {some}, ...; from {counts[fewest]:,} ({fewest}) to {counts[most]:,} ({most})"


def _sizes(sizes: Mapping[str, Any], number: int) -> str:
    smallest, largest = ("x".join(map(str, sizes[key])) for key in ("smallest", "largest"))
    if sizes["different"] == 1:
        return f"all {smallest}"
    width, height, images = sizes["commonest"]
    common = f", most often {width}x{height} ({images:,})" if images > 1 else ""
    return f"{smallest} to {largest}{common}; {sizes['different']:,} different ones"


def _kinds(met: Mapping[str, Any]) -> str:
    parts = []
    for kind, of in met["kinds"].items():
        values = f" (values {_span(*of['values'])})" if "values" in of else ""
        parts.append(f"{of['images']:,} of {kind}{values}")
    said = ", ".join(parts)
    deep = any("values" in of for of in met["kinds"].values())
    if met.get("window") == OWN and deep:
        said += "; black and white are those of the window that each file names"
    if "range" in met:
        low, high = met["range"]
        said += f"; window {met['window']}" if "window" in met else ""
        said += (
            f"; {_text(low)} becomes black and {_text(high)} white" if deep else "; data.range changes none of 8 bits"
        )
    if "values" in met:
        low, high = met["values"]
        said += f"; trained on as {_span(low, high)} of 0..255"
        said += ": NEARLY BLACK" if high < DARK * 255 else ""
    return said


def _span(low: float, high: float) -> str:
    return f"{_text(low)}..{_text(high)}"


def _text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def _some(names: Iterable[str], number: int | None = None) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (", ..." if (number or len(names)) > min(NAMED, len(names)) else "")


def _joined(old: tuple[float, float] | None, new: tuple[float, float]) -> tuple[float, float]:
    return new if old is None else (min(old[0], new[0]), max(old[1], new[1]))
