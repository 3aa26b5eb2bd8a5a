"""The cameras of images in the lists that people have: EG3D's dataset.json and NeRF's transforms.json."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image
import torch
from PIL import ImageOps
from torch import Tensor

from gan_experiments import cameras as camera_poses
from gan_experiments.bounds import sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Shape, piece_of
from gan_experiments.data.labels import LISTING
from gan_experiments.data.limits import UnreadableImageError, why
from gan_experiments.data.sources import Files, spread
from gan_experiments.data.splits import SPLITS
from gan_experiments.data.texts import decoded
from gan_experiments.files import write_text

UP = ("auto", "y", "z")
_TRANSFORMS = re.compile(r"transforms(?:_(?P<split>\w+))?\.json", re.IGNORECASE)
_Z_UP = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
"""Turns a world whose z points upwards so that its y does."""
_TYPE = "give a folder with EG3D's dataset.json or NeRF's transforms.json, data.root=..."


@dataclass(frozen=True)
class Posing:
    """The camera of an image, float64 [25], the image's height and width (None: it is square), and its list's split."""

    camera: Tensor
    size: tuple[int, int] | None
    split: str = ""


Taken = dict[str, Posing]
"""Cameras by the path of an image below the root."""


class PosedFiles(Files):
    """Image files with cameras: the label of each is its place in `cameras`, its class that in `classes` (-1: none).

    `up` is the axis of the world that points upwards, of UP. `wanted` are resolution and fit of the images, which
    change intrinsics. Images without a camera are left out and counted. At most `most` images are taken, evenly spread.
    """

    def __init__(
        self,
        *arguments: Any,
        up: str,
        most: int | None,
        wanted: tuple[Shape, str],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        splits: Sequence[str] = options.get("splits", ())
        self.notes = [note for note in self.notes if f"{LISTING} holds vectors of {camera_poses.NUMBERS} " not in note]
        taken = self._taken(up)
        asked = next((split for split in splits if any(one.split == split for one in taken.values())), "")
        rows, found, missing, others = list[int](), list[Tensor](), list[str](), 0
        for row, name in enumerate(self._names):
            path = self._store.paths[name]
            posing = taken.get(path) or taken.get(str(PurePosixPath(path).with_suffix("")))
            if posing is None:
                missing.append(path)
            elif posing.split and asked and posing.split != asked:
                others += 1
            else:
                rows.append(row)
                found.append(fitted(posing, *wanted))
        missing = [path for path in missing if not path.lower().endswith((".json", ".txt"))]
        if not rows:
            raise ConfigError(f"{self.where}: none of its {len(missing):,} files is in its list of cameras: {_TYPE}")
        if missing:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            self.notes.append(f"{len(missing):,} without a camera left out: {some}")
        if others:
            self.notes.append(f"{others:,} are in lists of other splits, and held out")
        kept = spread(len(rows), most)
        rows, self.cameras = [rows[place] for place in kept], torch.stack([found[place] for place in kept])
        self.names_of_classes, self.classes = self.class_names, [self._labels[row] for row in rows]
        self._names, self._stamps = [self._names[row] for row in rows], [self._stamps[row] for row in rows]
        self._labels, self.class_names, self._classes_are_folders = list(range(len(rows))), [], False

    def _taken(self, up: str) -> Taken:
        """Read all lists of cameras, at any depth."""
        taken: Taken = {}
        paths = self._store.paths
        for name, path in paths.items():
            file = PurePosixPath(path)
            transforms = _TRANSFORMS.fullmatch(file.name)
            if not transforms and file.name != LISTING:
                continue
            where = f"{self.where}: {path}"
            try:
                content = json.loads(decoded(self._read(name), where))
            except (UnreadableImageError, OSError, ValueError) as error:
                raise ConfigError(f"{where} cannot be read ({error})") from None
            folder = "" if str(file.parent) == "." else f"{file.parent}/"
            below = {other[len(folder) :]: other for other in paths.values() if other.startswith(folder)}
            if transforms:
                listed = self._of_nerf(content, where, below)
                split = SPLITS.get((transforms["split"] or "").lower(), "")
            else:
                listed, split = _of_eg3d(content, where, below), ""
            if (up == "auto" and transforms) or up == "z":
                listed = {path: Posing(_upright(one.camera), one.size) for path, one in listed.items()}
            _require_cameras(listed, where)
            taken |= {path: Posing(one.camera, one.size, split) for path, one in listed.items()}
        if not taken:
            raise ConfigError(f"{self.where} has no list of cameras: {_TYPE}")
        return taken

    def _of_nerf(self, content: Any, where: str, below: Mapping[str, str]) -> Taken:
        """Return the cameras of a transforms.json, whose axes are OpenGL's, by the paths of files that are there."""
        try:
            frames = [(str(frame["file_path"]), frame) for frame in content["frames"]]
        except (KeyError, TypeError):
            raise ConfigError(f'{where} has no "frames" with a "file_path" each, as NeRF\'s have') from None
        stems = {str(PurePosixPath(path).with_suffix("")): path for path in below}
        taken: Taken = {}
        for given, frame in frames:
            path = PurePosixPath(given).as_posix().removeprefix("./")
            file = path if path in below else stems.get(path)
            if file is None:
                continue
            told = {**content, **frame}
            size = (int(told["h"]), int(told["w"])) if "h" in told and "w" in told else self._size(below[file])
            try:
                pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
                intrinsics = _intrinsics(told, size)
            except (KeyError, TypeError, ValueError):
                raise ConfigError(
                    f'{where}: {given} needs a "transform_matrix" of 4x4 numbers, and "camera_angle_x" or "fl_x"'
                ) from None
            if pose.shape != (4, 4):
                raise ConfigError(f"{where}: {given} has a transform_matrix of {list(pose.shape)} numbers, not 4x4")
            pose[:, :3] *= torch.tensor(camera_poses.OPENGL, dtype=torch.float64)
            taken[below[file]] = Posing(torch.cat([pose.flatten(), intrinsics.flatten()]), size)
        return _some(taken, [given for given, _ in frames], where)

    def _size(self, path: str) -> tuple[int, int]:
        """Return height and width of an image."""
        name = next(name for name, one in self._store.paths.items() if one == path)
        try:
            with PIL.Image.open(io.BytesIO(self._read(name))) as image:
                width, height = ImageOps.exif_transpose(image).size
        except (UnreadableImageError, OSError) as error:
            raise ConfigError(f"{self.where}: {path} cannot be read ({error})") from None
        return height, width


def _of_eg3d(content: Any, where: str, below: Mapping[str, str]) -> Taken:
    """Return the cameras of a dataset.json, of EG3D's 25 numbers, by the paths of the files that it lists."""
    labels = content.get("labels") if isinstance(content, dict) else None
    try:
        listed = {str(file): label for file, label in (labels.items() if isinstance(labels, dict) else labels or [])}
    except (TypeError, ValueError):
        raise ConfigError(f'{where} has no "labels" of pairs, a file and its 25 numbers') from None
    if listed and not any(file in below for file in listed):
        below = {file.partition("/")[2]: path for file, path in below.items()}
    taken: Taken = {}
    for file, label in listed.items():
        numbers = label if isinstance(label, list) else [label]
        if len(numbers) != camera_poses.NUMBERS or not all(type(one) in (int, float) for one in numbers):
            what = f"{len(numbers)} numbers" if isinstance(label, list) else json.dumps(label)
            raise ConfigError(
                f"{where} gives {file} {what}, and a camera has {camera_poses.NUMBERS}: its pose, camera to world, 4x4"
                " row by row, and its intrinsics, 3x3"
            )
        if file in below:
            taken[below[file]] = Posing(torch.tensor(numbers, dtype=torch.float64), None)
    if not listed:
        raise ConfigError(f"{where} names no cameras: its labels are {json.dumps(labels)[:40]}; {_TYPE}")
    return _some(taken, [*listed], where)


def _some(taken: Taken, listed: Sequence[str], where: str) -> Taken:
    """Return the cameras; raise ConfigError if files are `listed` and none of them is there."""
    if listed and not taken:
        raise ConfigError(f"{where}: none of the files that it lists is there; the first is {listed[0]}")
    return taken


def _intrinsics(told: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    """Return the intrinsics [3, 3] of a frame in parts of its image's height and width."""
    height, width = size
    if "fl_x" in told:
        across = float(told["fl_x"])
        down = float(told.get("fl_y", across))
    else:
        across = down = 0.5 * width / math.tan(float(told["camera_angle_x"]) / 2)
    x, y = float(told.get("cx", width / 2)), float(told.get("cy", height / 2))
    rows = [[across / width, 0, x / width], [0, down / height, y / height], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def _upright(camera: Tensor) -> Tensor:
    """Return a camera [25] in the world turned so that its y points upwards, where z did."""
    return torch.cat([(_Z_UP @ camera[:16].view(4, 4)).flatten(), camera[16:]])


def _require_cameras(taken: Taken, where: str) -> None:
    if not taken:
        return
    fault = camera_poses.faults_of(torch.stack([one.camera for one in taken.values()]))
    if fault is not None:
        row, why = fault
        raise ConfigError(f"{where}: the camera of {[*taken][row]} is none: {why}")


def fitted(posing: Posing, resolution: Shape, how: str) -> Tensor:
    """Return the camera [25] of an image after `decode.fit` has brought it to a resolution."""
    wanted = sides(resolution)
    size = wanted[:1] * 2 if posing.size is None else posing.size
    if posing.size is None and wanted[0] != wanted[1]:
        size = (max(wanted),) * 2
    part = piece_of(size, wanted, None, how)
    camera = posing.camera.clone()
    scale = min(side / length for side, length in zip(wanted, part, strict=True))
    for row, (length, kept, side) in enumerate(zip(size, part, wanted, strict=True)):
        focal, centre = (20, 21) if row == 0 else (16, 18)  # of the height, then of the width
        if how == "pad":
            within = max(1, round(kept * scale))
            camera[focal] *= within / side
            camera[centre] = (camera[centre] * within + (side - within) // 2) / side
        else:
            camera[focal] *= length / kept
            camera[centre] = (camera[centre] * length - (length - kept) // 2) / kept
    return camera


def read(path: Path, where: str) -> Tensor:
    """Return the cameras float32 [n, 25] of a file, `where` in messages: .npy of [n, 25], or .json.

    A .json is a list of lists of 25 numbers, or EG3D's dataset.json. Raises ConfigError for anything else.
    """
    try:
        if path.suffix.lower() == ".npy":
            found = np.load(path)
        else:
            content = json.loads(path.read_text())
            listed: Any = content.get("labels") if isinstance(content, dict) else content
            found = np.array([one[1] if len(one) == 2 else one for one in listed], dtype=np.float64)
        cameras = torch.from_numpy(np.asarray(found, dtype=np.float64))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: it is no .npy or .json of cameras ({why(error)})") from None
    cameras = cameras[None] if cameras.ndim == 1 else cameras
    if cameras.ndim != 2 or cameras.shape[1] != camera_poses.NUMBERS or not len(cameras):
        shape = ",".join(map(str, cameras.shape))
        raise ConfigError(f"{where}: it holds [{shape}] numbers, and [n,{camera_poses.NUMBERS}] are needed")
    if (fault := camera_poses.faults_of(cameras)) is not None:
        raise ConfigError(f"{where}: row {fault[0]} is no camera: {fault[1]}")
    return cameras.float()


def write(cameras: Tensor, images: Sequence[Path]) -> None:
    """Write the cameras float [n, 25] of images, which lie in one folder, as EG3D's dataset.json beside them."""
    labels = [[image.name, camera] for image, camera in zip(images, cameras.tolist(), strict=True)]
    write_text(images[0].with_name(LISTING), json.dumps({"labels": labels}))
