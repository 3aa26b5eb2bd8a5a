"""Clips out of a person's own films: mp4, webm, GIF, APNG, animated WebP, and folders of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from gan_experiments import films
from gan_experiments.bounds import Place, Resolution
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.archives import is_visible
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.clip_module import ClipData
from gan_experiments.data.decode import decode, fit, frames_of, match_channels, pixels_of
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.sources import Block, Settings, Source, load_blocks, spread
from gan_experiments.data.splits import SPLITS, are_splits

FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v")
"""Files that PyAV reads."""
ANIMATIONS = (".gif", ".apng", ".webp", ".png")
"""Files that Pillow reads, of one frame or more."""
STILLS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""The frames in a folder of frames."""
TASK = 16
"""Films that are decoded between two writes: bounds the memory."""


@dataclass(frozen=True)
class ClipSettings(Settings):
    """The form that clips get: `length` frames, every `stride`-th of the film; see `Settings` for the frames' form.

    With `windows` "all" a film gives as many clips as it has room for, one after the other; "first" takes one.
    """

    length: int = 16
    stride: int = 1
    windows: str = "all"

    @property
    @override
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.channels, self.length, *super().shape[1:]


def frames_in(path: Path, settings: Settings, most: int | None = None, stride: int = 1) -> Tensor:
    """Return every `stride`-th frame of a film, a folder of frames or an image, uint8 [T, C, H, W], `most` at most.

    Raises UnreadableImageError if it cannot be read, and ConfigError if PyAV is needed and not installed.
    """
    shape = settings.resolution, settings.channels
    if path.is_dir():
        kept = _stills(path)[::stride][:most]
        return torch.stack([decode(limits.read(file), *shape, settings.crop, how=settings.fit) for file in kept])
    if path.suffix.lower() not in FILMS:
        raw = limits.read(path)
        times = range(0, frames_of(raw), stride)[:most]
        frames = decode(raw, *shape, settings.crop, frames=list(times), how=settings.fit)
        return frames if frames.ndim == 4 else frames[None]
    films.require(f"{path.name} needs")
    found = []
    try:
        for time, frame in enumerate(films.frames_of(path)):
            if time % stride == 0:
                small = fit(frame, settings.resolution, settings.crop, settings.fit)
                found.append(match_channels(small[None], settings.channels)[0])
            if most is not None and len(found) == most:
                break
    except Exception as error:  # FFmpeg's, of many kinds
        why = getattr(error, "strerror", "") or " ".join(str(error).split())[:120]
        raise UnreadableImageError(f"it cannot be decoded ({why})") from None
    if not found:
        raise UnreadableImageError("it has no frames")
    return torch.stack(found)


def whole_film(path: Path) -> Tensor:
    """Return all frames of a film, a folder of frames or an image at their own size, uint8 [T, 1 or 3, H, W].

    Raises UnreadableImageError if it cannot be read, and ConfigError if PyAV is needed and not installed.
    """
    if path.suffix.lower() in FILMS and not path.is_dir():
        films.require(f"{path.name} needs")
        try:
            width, height = films.size_of(path)
        except (OSError, ValueError, IndexError) as error:  # FFmpeg's are of these
            raise UnreadableImageError(f"it is no film ({' '.join(str(error).split())[:120]})") from None
    else:
        shown = limits.read(_stills(path)[0] if path.is_dir() else path)
        height, width = pixels_of(shown).shape[1:]
    return frames_in(path, Settings((height, width), 3))


def _stills(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in STILLS and is_visible(file.name))


def first_frames(given: object, frames: int, key: str) -> list[Path]:
    """Return the films that the option `key` names: a path or several, of films, of folders of them, of still images.

    A still image is a film of one frame; a folder of such is one film where more `frames` than one are read. Raises
    ConfigError if nothing is there.
    """
    found: list[Path] = []
    for word in [
        str(one) for one in (given if isinstance(given, Sequence) and not isinstance(given, str) else [given])
    ]:
        path = Path(word).expanduser()
        if not path.is_dir():
            found += [path] if path.is_file() else []
            continue
        for film in _films(path):
            still = film.is_dir() and frames == 1
            found += sorted(file for file in film.iterdir() if file.suffix.lower() in STILLS) if still else [film]
    if not found:
        raise ConfigError(f"{key}={given}: there is no such film or image; give films, or a folder of some")
    return found


class ClipFiles(Source):
    """Films below a folder, at any depth; a folder that holds images and no film is one too, of its frames.

    The classes are the top-level folders, unless these are splits (see `splits.SPLITS`): then the films of `split` are
    taken, and the classes are the folders in it. At most `limit` films are taken, evenly spread. Raises ConfigError if
    there is no such folder, no film in it, or no folder of the split.
    """

    items = "films"
    wanted = "give a folder of films (mp4, webm, gif, apng, webp) or of folders of frames, {key}=..."

    def __init__(self, root: Path, split: str, limit: int | None = None, key: str = "data.root") -> None:
        self.where, self.name, self.notes = f"{key}={root}", root.name, []
        if not root.is_dir():
            raise ConfigError(f"{self.where} is no folder: give one of films or of folders of frames, {key}=...")
        folders = [path.name for path in sorted(root.iterdir()) if path.is_dir() and is_visible(path.name)]
        self.split_folders = are_splits(folders)
        if self.split_folders:
            wanted = ("train",) if split == "train" else ("test", "val")
            taken = next((name for kind in wanted for name in folders if SPLITS[name.lower()] == kind), None)
            if taken is None:
                raise ConfigError(f"{self.where} has no folder of the split {split}: call one of its folders so")
            self.notes = [f"{', '.join(folders)} are splits, not classes: {taken} is taken"]
            root = root / taken
        found = [*_films(root)]
        if not found:
            raise ConfigError(f"{self.where} holds no films: {self.wanted.format(key=key)}")
        parts = [path.relative_to(root).parts for path in found]
        self.class_names = sorted({part[0] for part in parts if len(part) > 1})
        rows = spread(len(found), limit)
        self.paths = [found[row] for row in rows]
        self._names = ["/".join(parts[row]) for row in rows]
        self._labels = [self.class_names.index(parts[row][0]) if len(parts[row]) > 1 else -1 for row in rows]

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, row: int) -> str:
        """Return the path of a film below the root."""
        return self._names[row]

    def label(self, row: int) -> int:
        """Return a film's label, -1 if it is in no class."""
        return self._labels[row]

    @override
    def identity(self) -> list[object]:
        """List names, classes, sizes and times of change; of folders of frames those of their frames."""
        stamps = []
        for path in self.paths:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            stamps.append([[file.stat().st_size, file.stat().st_mtime_ns] for file in files])
        return [self._names, self._labels, stamps, self.class_names]

    @override
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the films on `threads` threads; those that are too short or broken are left out, with the reason."""
        assert isinstance(settings, ClipSettings)
        if any(path.suffix.lower() in FILMS for path in self.paths):
            films.require(f"{self.where} holds films that need")

        def load(row: int) -> Tensor | UnreadableImageError:
            most = settings.length if settings.windows == "first" else None
            frames = frames_in(self.paths[row], settings, most, settings.stride)
            number = len(frames) // settings.length
            if not number:
                every = f", of every {settings.stride}th" if settings.stride > 1 else ""
                raise UnreadableImageError(f"{len(frames)} frames{every}, and data.length={settings.length} are needed")
            return frames[: number * settings.length].unflatten(0, (number, settings.length)).transpose(1, 2)

        for start, results in load_blocks(load, len(self), threads, TASK):
            clips, labels, skipped = [], [], []
            for row, result in enumerate(results, start):
                if isinstance(result, Tensor):
                    clips.append(result)
                    labels += [self._labels[row]] * len(result)
                else:
                    skipped.append((self._names[row], str(result)))
            pixels = torch.cat(clips) if clips else torch.zeros(0, *settings.shape, dtype=torch.uint8)
            yield Block(pixels.contiguous(), torch.tensor(labels, dtype=torch.int64), skipped)


def _films(folder: Path) -> Iterator[Path]:
    """Yield the films below a folder and the folders of frames, in order."""
    entries = [path for path in sorted(folder.iterdir()) if is_visible(path.name)]
    files = [path for path in entries if path.is_file()]
    of_frames = [path for path in files if path.suffix.lower() in STILLS]
    moving = [path for path in files if path.suffix.lower() in FILMS]
    moving += [path for path in files if path.suffix.lower() in ANIMATIONS and _moves(path)]
    if moving:
        yield from sorted(moving)
    elif of_frames:
        yield folder
    for path in entries:
        if path.is_dir():
            yield from _films(path)


def _moves(path: Path) -> bool:
    """Return True if a file is a GIF or APNG by its name, or else has several frames."""
    if path.suffix.lower() in (".gif", ".apng"):
        return True
    try:
        return frames_of(limits.read(path)) > 1
    except (UnreadableImageError, OSError):
        return False


class Clips(ClipData):
    """Clips of the films in the folder `root`.

    Args:
        root: a folder of films and of folders of frames. Its subfolders are the classes, or train and test.
        test_root: that of the split "test", if it is another one.
        stride: every so many-th frame of a film is taken.
        windows: "all" takes as many clips of a film as there is room for, one after the other; "first" the first one.
        crop: the middle of each frame that is used, a side or height and width in pixels; None for all.
        settings: the other arguments of `ClipData`; `length` frames make a clip, and shorter films are left out.
    """

    splits = ("train", "test")

    def __init__(
        self,
        root: Place = "data",
        resolution: Resolution = 64,
        test_root: Place | None = None,
        stride: Annotated[int, Field(ge=1, le=1000)] = 1,
        windows: str = "all",
        crop: Resolution | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        if windows not in ("all", "first"):
            raise ConfigError(f"data.windows={windows}: type data.windows=all or first")
        self.root, self.test_root, self.stride, self.windows, self.crop = root, test_root, stride, windows, crop

    def prepare_data(self) -> None:
        """Look for the held-out films of `test_root`, if that is given; then as every ImageData does."""
        if self.test_root is not None:
            self._found("test")
        super().prepare_data()

    def _found(self, split: str) -> ClipFiles:
        key = "test_root" if split == "test" and self.test_root is not None else "root"
        return ClipFiles(Path(str(getattr(self, key))).expanduser(), split, self.limit, f"data.{key}")

    @override
    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        source = self._found(split)
        if split == "test" and self.test_root is None and not source.split_folders:
            raise ConfigError(f"{self.title} has no split 'test': type data.test_root=<folder of films>")
        settings = ClipSettings(
            self.resolution,
            self.channels,
            self.crop,
            self.max_pixels,
            fit=self.fit,
            length=self.length,
            stride=self.stride,
            windows=self.windows,
        )
        return cached(source, settings, self.cache, split)

    @property
    @override
    def title(self) -> str:
        return f"Clips {self.root}"
