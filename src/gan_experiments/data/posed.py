"""Images with the cameras that took them: {"real", "camera", "label"}. A person's own, and renders of furniture."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from gan_experiments import cameras as camera_poses
from gan_experiments.bounds import Classes, OneOf, Positive, Resolution, Width, shown, sides
from gan_experiments.conditions import Cameras
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import BatchStream, Shapes, Stream, flips
from gan_experiments.data.cache import ImageArray, cached, collect
from gan_experiments.data.camera_files import UP, PosedFiles
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import Folder
from gan_experiments.data.sources import Block, Files, Settings, Source, spread
from gan_experiments.data.volumes import PackedShapes, VolumeSettings
from gan_experiments.rendering import seen_along


class Posed(ImageData):
    """Images with cameras: "camera" float [N, 25], the pose and the intrinsics of each image's, beside "real".

    The numbers are EG3D's, see `cameras.py`. `flip` mirrors half of the images, and their cameras with them. A subclass
    has `cameras_of(split)`.
    """

    provides = frozenset({"real", "label", "camera"})
    keys = {  # noqa: RUF012
        "camera": "camera of each image of real, float [N, 25]: camera to world, 4x4 row by row, and intrinsics, 3x3"
    }

    @abstractmethod
    def cameras_of(self, split: str) -> Tensor:
        """Return the cameras of the images of `reference(split)`, float32 [n, 25]."""

    @property
    @override
    def conditions(self) -> Cameras:
        return Cameras(self.cameras_of("train"))

    @override
    def conditions_of(self, split: str) -> Cameras | None:
        return None if split == "train" else Cameras(self.cameras_of(split))

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "camera": (camera_poses.NUMBERS,)}

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return PosedStream(
            self.training(), self.cameras_of("train"), self.batch_size, self.seed, self.flip, rank=rank, world=world
        )

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {**batch, "camera": batch["camera"].to(torch.get_default_dtype())}

    @override
    def at(self, rows: Tensor) -> Batch:
        return {**super().at(rows), "camera": self.cameras_of("train")[rows].to(torch.get_default_dtype())}

    @override
    def noise(self, n: int, keys: Any) -> Batch:
        """Return a batch of n items of random numbers; its cameras are in front."""
        batch = super().noise(n, [key for key in keys if key != "camera"])
        if "camera" in keys:
            angle = torch.zeros(n)
            pose = camera_poses.on_sphere(angle, angle, camera_poses.RADIUS)
            batch["camera"] = camera_poses.joined(pose, camera_poses.intrinsics_of(camera_poses.FIELD))
        return batch

    @override
    def understood(self) -> list[str]:
        cameras = self.cameras_of("train")
        yaw, pitch = (angle.rad2deg() for angle in camera_poses.angles_of(cameras))
        away = cameras[:, [3, 7, 11]].norm(dim=1)
        across = 2 * torch.atan(0.5 / cameras[:, 16]).rad2deg()
        told = (("yaw", yaw, "°"), ("pitch", pitch, "°"), ("distance", away, ""), ("field of view", across, "°"))
        spans = ", ".join(f"{name} {_span(values)}{unit}" for name, values, unit in told)
        return [*super().understood(), f"{'cameras':10}{spans}"]


def _span(values: Tensor) -> str:
    low, high = f"{values.min().item():.3g}", f"{values.max().item():.3g}"
    return low if low == high else f"{low} to {high}"


class PosedStream(BatchStream):
    """Batches of images and their cameras, "camera" float32 [n, 25]; those of flipped images are mirrored."""

    def __init__(self, images: ImageArray, cameras: Tensor, *arguments: Any, **options: Any) -> None:
        super().__init__(images, *arguments, **options)
        self.cameras = cameras

    @override
    def batch(self, number: int) -> Batch:
        batch = super().batch(number)
        cameras = self.cameras[self.indices(number)[self._mine]]
        if self.flip:
            mirror = flips(self.seed, number, self.batch_size)[self._mine]
            cameras = torch.where(mirror[:, None], camera_poses.mirrored(cameras), cameras)
        return {**batch, "camera": cameras}


class PosedFolder(Posed, Folder):
    """Images with cameras of a person's own: those that a dataset.json or a transforms.json below `root` lists.

    Args:
        root: a folder, a zip or tar archive, or several, as of `Folder`.
        up: the axis of the world that points upwards, "y" or "z"; "auto" is y of EG3D's dataset.json and z of NeRF's
            transforms.json.
        radius: the distance from the origin to bring the median camera to, by scaling the world; None leaves it.
        settings: the arguments of `Posed` and `Folder`.

    Images without a camera are left out. Raises ConfigError if none has one, or for numbers that are no camera.
    """

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 64,
        up: Annotated[str, OneOf(*UP)] = "auto",
        radius: Positive | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, resolution=resolution, **settings)
        if up not in UP:
            raise ConfigError(f"data.up={up}: type data.up={', '.join(UP[:-1])} or {UP[-1]}")
        if radius is not None and radius <= 0:
            raise ConfigError(f"data.radius={radius}: a distance above 0 is needed, type data.radius=2.7")
        if self.frames != "first":
            raise ConfigError(f"data.frames={self.frames}: a camera is of one image; type data.frames=first")
        if self.crop is not None:
            raise ConfigError(f"data.crop={self.crop}: cameras are of whole images; leave it out, data.fit says how")
        self.up, self.radius = up, radius
        self._cameras: dict[str, Tensor] = {}

    @override
    def images_of(self, *arguments: Any, **options: Any) -> Files:
        most = options.pop("limit", None)
        return PosedFiles(*arguments, up=self.up, most=most, wanted=(self.resolution, self.fit), **options)

    @override
    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split; its labels tell which camera belongs to an image."""
        source = self.files(split)
        assert isinstance(source, PosedFiles)
        images = cached(source, self._settings(split=split), self.cache, split)
        assert images.labels is not None
        places = images.labels
        cameras = source.cameras[places]
        if self.radius is not None:
            away = cameras[:, [3, 7, 11]].norm(dim=1).median() if split == "train" else self._distance()
            cameras[:, [3, 7, 11]] *= self.radius / away
        self._cameras[split] = cameras.float()
        classes = torch.tensor(source.classes)[places]
        images.labels, images.class_names = classes if source.names_of_classes else None, source.names_of_classes
        return images

    def _distance(self) -> Tensor:
        """Return the median distance of the training cameras, before the world is scaled."""
        source = self.files("train")
        assert isinstance(source, PosedFiles)
        return source.cameras[:, [3, 7, 11]].norm(dim=1).median()

    @override
    def cameras_of(self, split: str) -> Tensor:
        self.reference(split)
        return self._cameras[split]


CUBE = 0.4
"""The side of the cube of voxels that is rendered, in units of the world: all of it is seen by EG3D's cameras."""
PITCHES = (0.0, 40.0)
"""From how high cameras look at the shapes, in degrees."""
PAINT = ((0.42, 0.30, 0.58), (0.98, 0.74, 0.36))
"""The colours of a shape at the bottom and at the top of its cube."""
CLASSES_ARE = ("shapes", "sides")
FINER = 2
"""Rays for each pixel, along each side."""
VERSION = 1
"""Raise it when the same shapes would give other renders."""


class PosedShapes(Posed):
    """Renders of the seats and tables of `data=shapes`, each from `views` cameras around it, on white.

    The cameras are EG3D's: they look at the origin from a distance of 2.7 with a field of view of 18.837 degrees across
    the diagonal, from all sides and from 0 to 40 degrees above the horizon. A shape's cube has a side of 0.4. The
    renders are made once, into the cache. Classes are those of the shapes; with `classes_are` "sides" they are
    `classes` equal sectors around the vertical axis in which the camera is, for models that are told no cameras.
    """

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 3,
        classes: Classes = 0,
        views: Annotated[int, Field(ge=1, le=1000)] = 24,
        classes_are: Annotated[str, OneOf(*CLASSES_ARE)] = "shapes",
        **settings: Any,
    ) -> None:
        super().__init__(resolution, channels, classes=classes, **settings)
        if len({*sides(self.resolution)}) > 1:
            raise ConfigError(f"data.resolution={shown(self.resolution)}: renders are squares; type data.resolution=32")
        if classes_are not in CLASSES_ARE:
            raise ConfigError(f"data.classes_are={classes_are}: type data.classes_are={' or '.join(CLASSES_ARE)}")
        if classes_are == "sides" and not self.classes:
            raise ConfigError("data.classes_are=sides: of how many? type data.classes=24 for sectors of 15 degrees")
        self.views, self.classes_are = views, classes_are

    @cached_property
    def _source(self) -> ShapeViews:
        return ShapeViews(self.views, self.limit)

    @override
    def load(self, split: str) -> ImageArray:
        """Render the shapes, or open the cache of their renders."""
        images = cached(self._source, self._settings(), self.cache, split)
        if self.classes_are == "sides":
            sector = 2 * math.pi / self.classes
            yaw = camera_poses.angles_of(self._source.cameras)[0] % (2 * math.pi)
            images.labels = (yaw / sector).long().clamp_max(self.classes - 1)
            images.class_names = [f"from {math.degrees(sector * side):g} degrees on" for side in range(self.classes)]
            images.fingerprint = f"{images.fingerprint}-{self.classes}-sides"
        return images

    @override
    def cameras_of(self, split: str) -> Tensor:
        return self._source.cameras


class ShapeViews(Source):
    """Renders of the packed shapes from `views` cameras each, at most `limit`, evenly spread.

    `cameras` [n, 25] and `shapes` [n], the number of the shape, belong to them.
    """

    name = where = "posed_shapes"
    items = "renders"

    def __init__(self, views: int, limit: int | None = None) -> None:
        self._packed = PackedShapes()
        self.class_names = self._packed.class_names
        number = len(self._packed) * views
        self._rows = spread(number, limit)
        self.shapes = [row // views for row in self._rows]
        self.cameras = cameras_around(number)[self._rows]

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def identity(self) -> list[object]:
        return [VERSION, self._rows, self.shapes]

    @override
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        packed = collect(self._packed, VolumeSettings(32, 1))
        assert packed.labels is not None
        start = 0
        for shape, renders in itertools.groupby(self.shapes):
            cameras = self.cameras[start : start + len([*renders])]
            start += len(cameras)
            pixels = seen_from(
                packed.pixels[shape : shape + 1].float() / 127.5 - 1, cameras, sides(settings.resolution)[0]
            )
            if settings.channels == 1:
                pixels = pixels.float().mean(1, keepdim=True).round().to(torch.uint8)
            yield Block(pixels, packed.labels[shape].repeat(len(cameras)), [])


def cameras_around(number: int) -> Tensor:
    """Return the cameras float32 [number, 25] that shapes are rendered from, the same at each call."""
    draws = torch.rand(number, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = (math.radians(pitch) for pitch in PITCHES)
    yaw, pitch = (draws[:, 0] * 2 - 1) * math.pi, low + (high - low) * draws[:, 1]
    poses = camera_poses.on_sphere(yaw, pitch, camera_poses.RADIUS)
    return camera_poses.joined(poses, camera_poses.intrinsics_of(camera_poses.FIELD).double()).float()


def seen_from(volume: Tensor, cameras: Tensor, resolution: int) -> Tensor:
    """Render a volume [1, 1, D, H, W], a cube of side CUBE around the origin, from cameras [n, 25]: uint8 [n, 3, R, R].

    The volume's left to right, top down and front to back are x, -y and -z of the world. Each pixel is the mean of
    FINER x FINER rays.
    """
    side = FINER * resolution
    turn = torch.tensor([1.0, -1.0, -1.0])
    reach = CUBE * math.sqrt(3) / 2 * 1.1
    pictures = torch.full((len(cameras), 3, side * side), 255, dtype=torch.uint8)
    rays = zip(*camera_poses.rays(cameras, side), _worth(volume, cameras, side), strict=True)
    for picture, (origins, directions, worth) in zip(pictures, rays, strict=True):
        start, ways = origins[worth], directions[worth]
        near = (start.norm(dim=1, keepdim=True) - reach).clamp_min(0)
        first = (start + near * ways) * turn / CUBE
        picture[:, worth] = seen_along(volume, first[None], (ways * turn)[None], 2 * reach / CUBE, paint=PAINT)[0, :, 0]
    return F.avg_pool2d(pictures.unflatten(2, (side, side)).float(), FINER).round().to(torch.uint8)


def centres_of(volume: Tensor) -> Tensor:
    """Return where the middles of the occupied voxels of a volume [1, 1, D, H, W] are in the world, [m, 3]."""
    shape = torch.tensor(volume.shape[2:])
    places = (volume[0, 0] > 0).nonzero()
    deep, down, right = (((places + 0.5) / shape - 0.5) * CUBE).unbind(1)
    return torch.stack([right, -down, -deep], 1)


def _worth(volume: Tensor, cameras: Tensor, side: int) -> Tensor:
    """Return which rays pass an occupied voxel or near it, bool [n, side²]; all others see nothing."""
    places, depths = camera_poses.projected(cameras, centres_of(volume).expand(len(cameras), -1, 3))
    cells = (places * side).long()
    voxel = CUBE / max(volume.shape[2:]) * side * float(cameras[:, 16:21].max()) / float(depths.min())  # in pixels
    seen = torch.zeros(len(cameras), side, side)
    inside = ((cells >= 0) & (cells < side)).all(2)
    image = torch.arange(len(cameras))[:, None].expand_as(inside)[inside]
    seen[image, cells[..., 1][inside], cells[..., 0][inside]] = 1
    margin = math.ceil(2 * voxel) + 1
    return F.max_pool2d(seen, 2 * margin + 1, 1, margin).flatten(1) > 0
