"""Sets of volumes: {"real", "label"}. A person's own voxels and meshes, and furniture that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import BelowOne, Classes, Count, Depth, OneOf, Place, Seed, Width, Workers, shown, sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places, words
from gan_experiments.data.batches import BatchStream, Stream
from gan_experiments.data.cache import ImageArray, cached, collect
from gan_experiments.data.image_module import FromFiles, ImageData
from gan_experiments.data.labels import Labels
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import NAMED
from gan_experiments.data.sources import BLOCK, Block, Files, Settings, Source, load_blocks, spread, stacked
from gan_experiments.data.splits import ALL, FOLDERS, Lists, Patterns
from gan_experiments.data.voxels import SUFFIXES, UP, grid_of, resized
from gan_experiments.kinds import VOLUME

Side = Annotated[int, Field(ge=8, le=128)]
QUARTERS = 4


@dataclass(frozen=True)
class VolumeSettings(Settings):
    """The form that volumes get: cubes of `resolution` voxels a side. `up` is the axis of meshes that points up."""

    up: str = "y"

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one volume: (1, depth, height, width)."""
        return 1, *[sides(self.resolution)[0]] * 3

    @override
    def plain(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key in ("resolution", "up")} | {"volumes": 1}


class VolumeData(ImageData):
    """A set of volumes: "real" float [N, 1, R, R, R] in [-1, 1] and, if `classes` > 0, "label" int64 [N].

    A voxel is 1 where there is something and -1 where there is nothing. The indices count from the front to the back,
    from the top down and from left to right. `resolution` is R. With `turns` each volume is there four times, turned
    about the vertical axis by quarters. `flip` mirrors half of what is trained on, left to right.
    """

    kind = VOLUME
    items = "volumes"

    def __init__(self, resolution: Side, channels: Width = 1, turns: bool = False, **settings: Any) -> None:
        if channels != 1:
            raise ConfigError(f"data.channels={channels}: voxels are occupied or not, type data.channels=1")
        if not isinstance(resolution, int):
            raise ConfigError(f"data.resolution={shown(resolution)}: volumes are cubes, type data.resolution=32")
        super().__init__(resolution=resolution, channels=1, **settings)
        self.turns = turns

    def _volume_settings(self, up: str = "y") -> VolumeSettings:
        return VolumeSettings(self.resolution, 1, up=up)

    @override
    def reference(self, split: str = "train") -> ImageArray:
        if split in self.splits and self.turns and split not in self._opened:
            self._opened[split] = Turned(super().reference(split))
        return super().reference(split)

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return BatchStream(self.training(), self.batch_size, self.seed, self.flip, rank=rank, world=world)

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        batch = dict(batch)
        flip = batch.pop("flip", None)
        if flip is not None:
            mirrored = flip[:, None, None, None, None]
            batch["real"] = torch.where(mirrored, batch["real"].flip(-1), batch["real"])
        if batch["real"].dtype == torch.uint8:
            batch["real"] = batch["real"].to(torch.get_default_dtype()).sub_(127.5).div_(127.5)
        return batch

    @override
    def understood(self) -> list[str]:
        volumes = self.training()
        lines, met = super().understood(), volumes.about.met
        if met.get("open"):
            some = ", ".join(met["open_files"]) + (", ..." if met["open"] > len(met["open_files"]) else "")
            lines.append(f"{'open':10}{met['open']:,} meshes are not watertight, their visual hull is taken: {some}")
        if self.turns:
            lines.append(f"{'turns':10}each volume is there in {QUARTERS} quarter turns")
        return lines


class Shapes(VolumeData):
    """Seats and tables at 32 voxels a side that come with the package; shapes.txt has their authors and licences.

    Other resolutions enlarge these voxels or join them.
    """

    def __init__(
        self,
        resolution: Side = 32,
        channels: Width = 1,
        classes: Classes = 3,
        turns: bool = False,
        flip: bool = True,
        batch_size: Count = 16,
        workers: Workers = 0,
        seed: Seed = 0,
        limit: Count | None = None,
    ) -> None:
        super().__init__(
            resolution,
            channels,
            turns,
            classes=classes,
            flip=flip,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            limit=limit,
        )

    @override
    def load(self, split: str) -> ImageArray:
        return collect(PackedShapes(self.limit), self._volume_settings(), split)


class PackedShapes(Source):
    """The furniture of shapes.npz, at most `limit`, evenly spread."""

    name = where = "shapes"

    def __init__(self, limit: int | None = None) -> None:
        self.class_names = ["chair", "sofa", "table"]
        with np.load(Path(__file__).with_name("shapes.npz")) as packed:
            grids, self._labels = packed["voxels"], torch.from_numpy(packed["labels"]).long()
        self._grids = np.unpackbits(grids, axis=1).reshape(-1, 32, 32, 32).astype(bool)
        self._rows = spread(len(grids), limit)

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def identity(self) -> list[object]:
        return [self._rows]

    @override
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        side = sides(settings.resolution)[0]
        grids = np.stack([resized(self._grids[row], side) for row in self._rows])
        yield Block(torch.from_numpy(grids).to(torch.uint8)[:, None] * 255, self._labels[self._rows], [])


class VolumeFiles(Files):
    """The files among those of a folder or an archive that hold a volume, see `voxels.grid_of`."""

    wanted = f"give a folder or a zip archive of volumes ({', '.join(SUFFIXES)}), {{key}}=..."

    def _understand(self, wanted: Sequence[str]) -> tuple[Labels, dict[str, bool]]:
        labels, taken = super()._understand(wanted)
        kept = {name: one for name, one in taken.items() if _may_be(self._store.paths[name])}
        if not kept:
            raise ConfigError(f"{self.where} holds no volumes: {self.wanted.format(key=self.where.partition('=')[0])}")
        if len(kept) < len(taken):
            self.notes.append(f"{len(taken) - len(kept):,} other files beside the volumes are not read")
        return labels, kept

    @override
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        assert isinstance(settings, VolumeSettings)
        open_ones: dict[int, str] = {}

        def load(row: int) -> Tensor:
            name = self._names[row]
            grid, seen = grid_of(self._read(name), self._store.paths[name], settings.shape[1], settings.up)
            if seen:
                open_ones[row] = self._store.shown(name)
            return grid

        for start, results in load_blocks(load, len(self), threads, BLOCK // 8):
            yield stacked(results, start, settings.shape, self._labels, self._names)
        self._open = [open_ones[row] for row in sorted(open_ones)]

    _open: Sequence[str] = ()

    @override
    def facts(self, frames: str | None = None) -> dict[str, Any]:
        return {"volumes": True, "open": len(self._open), "open_files": [*self._open[:NAMED]]}

    @override
    def _has_image(self, label: int) -> bool:
        for name in (name for name, of in self._others if of == label):
            try:
                grid_of(self._read(name), self._store.paths[name], 8)
            except (UnreadableImageError, OSError):
                continue
            return True
        return False


def _may_be(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


class Voxels(VolumeData, FromFiles):
    """Any voxels and meshes below `root`, a folder, a zip or tar archive, or several; classes are the subfolders.

    Arrays and binvox are padded to cubes and brought to `resolution`; meshes are voxelised, `up` being their axis that
    points upwards. That is done once, into the cache. What is broken or empty is left out and named; meshes that are
    not watertight are named. `test_root` is the folder or archive of the split "test"; without it, folders train, val,
    test in `root` are the splits. The other arguments are those of `images.Folder`.
    """

    splits = ("train", "val", "test")
    chosen = ALL
    many_frames = False

    def __init__(
        self,
        root: Places = "data",
        resolution: Side = 32,
        up: Annotated[str, OneOf(*UP)] = "y",
        channels: Width = 1,
        test_root: Places | None = None,
        classes: Classes = 0,
        turns: bool = False,
        flip: bool = False,
        batch_size: Count = 16,
        workers: Workers = 0,
        seed: Seed = 0,
        cache: Place | None = None,
        limit: Count | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        classes_from: Annotated[str, OneOf(*FOLDERS)] | Depth | None = None,
        test_fraction: BelowOne = 0.0,
        split_seed: Seed = 0,
        split_list: Lists = None,
    ) -> None:
        super().__init__(
            resolution,
            channels,
            turns,
            classes=classes,
            flip=flip,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            cache=cache,
            limit=limit,
            include=include,
            exclude=exclude,
            classes_from=classes_from,
            test_fraction=test_fraction,
            split_seed=split_seed,
            split_list=split_list,
        )
        if up not in UP:
            raise ConfigError(f"data.up={up}: type data.up={' or '.join(UP)}")
        self.root, self.test_root, self.up = root, test_root, up

    @override
    def images_of(self, *arguments: Any, **options: Any) -> VolumeFiles:
        return VolumeFiles(*arguments, **options)

    @override
    def load(self, split: str) -> ImageArray:
        return cached(self.files(split), self._volume_settings(self.up), self.cache, split)

    @property
    @override
    def title(self) -> str:
        return f"Voxels {words(self.root)}"


class Turned(ImageArray):
    """The volumes of another array, each in four quarter turns about the vertical axis, one after another."""

    def __init__(self, of: ImageArray) -> None:
        labels = None if of.labels is None else of.labels.repeat_interleave(QUARTERS)
        pixels: Any = _Turns(of.pixels)
        super().__init__(
            pixels, labels, f"{of.fingerprint}-turned", of.split, of.class_names, of.skipped, None, of.about
        )
        self.of = of

    def __reduce__(self) -> Any:
        return Turned, (self.of,)


class _Turns:
    """As much of voxels uint8 [4 N, 1, D, H, W] as is asked of them, turned when they are."""

    def __init__(self, of: Tensor) -> None:
        self._of = of

    def __len__(self) -> int:
        return QUARTERS * len(self._of)

    @cached_property
    def shape(self) -> torch.Size:
        """[4 N, 1, D, H, W]."""
        return torch.Size([len(self), *self._of.shape[1:]])

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        chosen = torch.arange(len(self))[rows]
        found = self._of[chosen // QUARTERS]
        for quarter in range(1, QUARTERS):
            ours = chosen % QUARTERS == quarter
            found[ours] = torch.rot90(found[ours], quarter, (-3, -1))
        return found

    def index_select(self, _: int, rows: Tensor) -> Tensor:
        """Return some rows."""
        return self[rows]
