"""Images with cameras: where their numbers have things, the lists that people have, cameras as conditions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import batches, ready, require_exact
from torch import Tensor

from gan_experiments import cameras
from gan_experiments.conditions import Cameras, Conditions, restored
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import collect
from gan_experiments.data.posed import PosedFolder, PosedShapes, ShapeViews, centres_of, seen_from
from gan_experiments.data.volumes import PackedShapes, VolumeSettings

FEW: dict[str, Any] = {"limit": 6, "batch_size": 6}


@pytest.fixture(scope="module")
def shapes() -> Tensor:
    """The voxels of all shapes, [n, 1, 32, 32, 32] in [-1, 1]."""
    return collect(PackedShapes(), VolumeSettings(32, 1)).pixels.float() / 127.5 - 1


def _holds(image: Tensor, camera: Tensor, points: Tensor) -> None:
    """Points [m, 3] of the world project onto pixels of an image [3, R, R] that are not white, and onto all of them."""
    places = cameras.projected(camera[None], points[None])[0][0]
    cells = (places * image.shape[1]).long()
    coloured = (image < 0.99).any(0)
    assert coloured[cells[:, 1], cells[:, 0]].float().mean() > 0.99
    pixels = (coloured.nonzero().flip(1) + 0.5) / image.shape[1]
    assert torch.cdist(pixels, places).amin(1).max() < 1.5 / image.shape[1]


@pytest.mark.parametrize("flip", [False, True])
def test_shapes_are_where_their_cameras_have_them(flip: bool, shapes: Tensor) -> None:
    """The middles of the voxels, projected by the 25 numbers; a mirrored camera sees the mirrored shape."""
    data = PosedShapes(64, flip=flip, **FEW)
    rows = data.stream().indices(0)  # type: ignore[attr-defined]
    told, of = data.cameras_of("train"), torch.tensor(ShapeViews(24, 6).shapes)
    batch, mirrored = ready(data), 0
    for image, camera, volume in zip(batch["real"], batch["camera"], shapes[of[rows]][:, None], strict=True):
        was_mirrored = not (told == camera).all(1).any()
        _holds(image, camera, centres_of(volume.flip(-1) if was_mirrored else volume))
        mirrored += was_mirrored
    assert 0 < mirrored < 6 if flip else mirrored == 0


def test_a_block_at_the_right_is_at_the_right() -> None:
    """Left to right, top down and front to back of voxels are x, -y and -z of the world."""
    volume = torch.full((1, 1, 32, 32, 32), -1.0)
    volume[0, 0, 2:5, 3:6, 24:27] = 1  # in front, at the top, at the right
    front = cameras.joined(cameras.on_sphere(torch.zeros(1), torch.zeros(1), 2.7), cameras.intrinsics_of(18.837))
    image = seen_from(volume, front, 32)[0]
    rows, columns = (image.float().mean(0) < 250).nonzero().float().mean(0).tolist()
    (x, y, z) = centres_of(volume).mean(0).tolist()
    assert x > 0.1
    assert y > 0.1
    assert z > 0.1
    focal, deep = 4.263, 2.7 - z
    assert columns + 0.5 == pytest.approx(32 * (0.5 + focal * x / deep), abs=0.6)
    assert rows + 0.5 == pytest.approx(32 * (0.5 - focal * y / deep), abs=0.6)


def test_batches_of_posed_shapes() -> None:
    require_exact(lambda **options: PosedShapes(8, **{**FEW, "batch_size": 4, "flip": True}, **options))
    data = PosedShapes(8, classes=3, **FEW)
    fixed, batch = data.fixed(4), batches(data, 1)[0]
    assert {*fixed} == {*batch} == {"real", "label", "camera"} == data.provides
    assert fixed["camera"].shape == (4, *data.shapes["camera"]) == (4, 25)
    assert fixed["real"].shape == (4, *data.shapes["real"])
    assert "distance 2.7, field of view 13.4°" in data.understood()[-1]


def test_classes_by_side() -> None:
    """Sectors of the yaw, the first from the front on to the right; how many has to be said."""
    data = PosedShapes(8, classes=4, classes_are="sides", **FEW)
    images, yaw = data.training(), cameras.angles_of(data.cameras_of("train"))[0].rad2deg() % 360
    assert images.labels is not None
    assert images.labels.tolist() == (yaw // 90).int().tolist()
    assert data.class_names == [f"from {angle} degrees on" for angle in (0, 90, 180, 270)]
    assert data.fingerprint != PosedShapes(8, **FEW).fingerprint
    with pytest.raises(ConfigError, match=r"of how many\? type data\.classes=24"):
        PosedShapes(8, classes_are="sides")


def test_cameras_are_drawn_from_the_data() -> None:
    """By a seed each once before any comes again; a checkpoint keeps them; a row of a sheet has one of them."""
    data = PosedShapes(8, **FEW)
    known = data.conditions
    drawn = known(6, 1)
    assert drawn is not None
    assert {*map(tuple, drawn.tolist())} == {*map(tuple, data.cameras_of("train").tolist())}
    assert torch.equal(known(6, lambda n: torch.full((n,), 0.99)), known.rows[[5] * 6])  # type: ignore[arg-type]
    kept = restored(known.state())
    assert isinstance(kept, Cameras)
    assert torch.equal(kept.rows, known.rows)
    sheet = known.of_sheet(16, 0)
    assert torch.equal(sheet[0], sheet[7])
    assert len(known.titles(sheet, known.columns(16))) == 2
    assert known.passport("data") == {"cameras": "in the proportions of the data"}
    with pytest.raises(ConfigError, match="labels=uniform"):
        known(2, 0, "uniform")
    assert Conditions().state().keys() <= known.state().keys()


def test_cameras_at_angles() -> None:
    known = PosedShapes(8, **FEW).conditions
    made = known.of_angles(torch.tensor([30.0, -120.0]).deg2rad(), torch.tensor([10.0, 0.0]).deg2rad())
    assert known.titles(made, 1) == ["yaw 30° pitch 10°", "yaw -120° pitch 0°"]
    assert torch.allclose(made[:, 16:], known.rows[:2, 16:])
    assert torch.allclose(made[:, [3, 7, 11]].norm(dim=1), torch.tensor(2.7))
    middle = cameras.projected(made, torch.zeros(2, 1, 3))
    assert torch.allclose(middle[0], torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(middle[1], torch.tensor(2.7), atol=1e-5)


def _write(root: Path, name: str, size: tuple[int, int], dot: tuple[float, float] | None = None) -> Path:
    """A black image of width and height, with a white dot."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    if dot is not None:
        pixels[round(dot[1] - 1.5) : round(dot[1] + 1.5), round(dot[0] - 1.5) : round(dot[0] + 1.5)] = 255
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


POINT = (0.3, -0.2, 0.4)
"""A point of NeRF's world, whose z points upwards."""


def _nerf(root: Path, size: tuple[int, int] = (60, 40), list_name: str = "transforms.json", folder: str = "") -> Path:
    """Images of POINT as a dot, from two cameras of a transforms.json; places by NeRF's own formulas."""
    width, height = size
    focal = 0.5 * width / math.tan(0.7 / 2)
    frames = []
    for index, yaw in enumerate((0.4, 2.0)):
        back = np.array([math.sin(yaw) * 0.9, -math.cos(yaw) * 0.9, math.sqrt(1 - 0.81)])  # from the origin to the eye
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(back, right), back], 1)  # x to the right, y up, z backwards
        pose[:3, 3] = 4 * back
        x, y, z, _ = np.linalg.inv(pose) @ [*POINT, 1]
        _write(root, f"{folder}r_{index}.png", size, (width / 2 + focal * x / -z, height / 2 - focal * y / -z))
        frames.append({"file_path": f"./{folder}r_{index}", "transform_matrix": pose.tolist()})
    (root / list_name).write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
    return root


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(60, 40), (40, 60)])
def test_cameras_of_nerf(fit: str, size: tuple[int, int], tmp_path: Path) -> None:
    """A known point lies where its camera has it, in images of any shape brought to another."""
    data = PosedFolder(str(_nerf(tmp_path, size)), 48, fit=fit, radius=2.0, cache=str(tmp_path / "cache"))
    batch = data.fixed(2)
    x, y, z = POINT
    point = torch.tensor([x, z, -y]) / 2  # y upwards; 4 from the middle became 2
    for image, place in zip(batch["real"], cameras.projected(batch["camera"], point.expand(2, 1, 3))[0], strict=True):
        weight = image.mean(0) + 1
        down, right = torch.meshgrid(*[torch.arange(48) + 0.5] * 2, indexing="ij")
        seen = torch.stack([(right * weight).sum(), (down * weight).sum()]) / weight.sum() / 48
        assert torch.allclose(seen, place[0], atol=0.03)
    assert batch["camera"][:, [3, 7, 11]].norm(dim=1).tolist() == pytest.approx([2.0, 2.0])
    assert cameras.angles_of(batch["camera"])[0].tolist() == pytest.approx([0.4, 2.0], abs=1e-5)
    assert cameras.angles_of(batch["camera"])[1].tolist() == pytest.approx([math.asin(math.sqrt(0.19))] * 2, abs=1e-5)


def test_splits_of_nerf(tmp_path: Path) -> None:
    """Lists named by a split, with its folder or with one folder for all."""
    for split in ("train", "test"):
        _nerf(tmp_path / "own", list_name=f"transforms_{split}.json", folder=f"{split}/")
        _nerf(tmp_path / "shared", list_name=f"transforms_{split}.json", folder=f"images/{split}_")
    own = PosedFolder(str(tmp_path / "own"), 16, cache=str(tmp_path / "cache"))
    assert len(own.training()) == len(own.reference("test")) == 2
    held_out = own.conditions_of("test")
    assert held_out is not None
    assert torch.equal(held_out.rows, own.conditions.rows)
    shared = PosedFolder(str(tmp_path / "shared"), 16, cache=str(tmp_path / "cache"))
    assert len(shared.training()) == 2
    assert any("2 are in lists of other splits" in line for line in shared.understood())


def _eg3d(root: Path, labels: Any) -> str:
    for index in range(3):
        _write(root, f"00000/img{index}.png", (16, 16))
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return str(root)


CAMERA = PosedShapes(8, **FEW).cameras_of("train")[0].tolist()


def test_cameras_of_eg3d(tmp_path: Path) -> None:
    """The numbers as they are; images that the list lacks are left out, and no word of vectors that are no classes."""
    second = [*CAMERA[:3], 1.5, *CAMERA[4:]]
    root = _eg3d(tmp_path / "set", [["00000/img1.png", CAMERA], ["00000/img2.png", second]])
    data = PosedFolder(root, 16, cache=str(tmp_path / "cache"))
    assert torch.equal(data.cameras_of("train"), torch.tensor([CAMERA, second]))
    understood = "\n".join(data.understood())
    assert "1 without a camera left out: 00000/img0.png" in understood
    assert "vectors" not in understood
    assert len(PosedFolder(root, 16, limit=1, cache=str(tmp_path / "cache")).training()) == 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([["00000/img0.png", CAMERA[:16]]], "gives 00000/img0.png 16 numbers, and a camera has 25"),
        ([["00000/img0.png", 3]], "gives 00000/img0.png 3, and a camera has 25"),
        (
            [["00000/img0.png", [*[2.0] * 11, *CAMERA[11:]]]],
            "00000/img0.png is none: the 3x3 in its pose is no rotation",
        ),
        ([["00000/img0.png", [*CAMERA[:15], 0.0, *CAMERA[16:]]]], "the last row of its 4x4 pose"),
        ([["00000/img0.png", [*CAMERA[:16], 512.0, *CAMERA[17:]]]], "not in parts of the image's sides"),
        ([["00000/img0.png", [math.nan, *CAMERA[1:]]]], "not finite"),
        ([["other.png", CAMERA]], "none of the files that it lists is there; the first is other.png"),
        (None, "names no cameras"),
        ({"a": 1}, "gives a 1, and"),
        ([1, 2], 'has no "labels" of pairs'),
    ],
)
def test_what_is_no_camera_is_refused(labels: Any, said: str, tmp_path: Path) -> None:
    """In one line that names the list and the file."""
    with pytest.raises(ConfigError) as refused:
        PosedFolder(_eg3d(tmp_path / "set", labels), 16, cache=str(tmp_path / "cache")).training()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "transforms.json cannot be read"),
        ("[]", 'has no "frames"'),
        ('{"frames": [{"file_path": "r_0"}]}', 'r_0 needs a "transform_matrix"'),
        ('{"frames": [{"file_path": "r_0", "fl_x": 9, "transform_matrix": [[1, 0], [0, 1]]}]}', "[2, 2] numbers, not"),
        ('{"frames": [{"file_path": "gone", "transform_matrix": []}]}', "none of the files that it lists is there"),
        (None, "has no list of cameras"),
    ],
)
def test_what_is_no_list_of_nerf_is_refused(content: str | None, said: str, tmp_path: Path) -> None:
    _write(tmp_path, "r_0.png", (16, 16))
    if content is not None:
        (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(ConfigError) as refused:
        PosedFolder(str(tmp_path), 16, cache=str(tmp_path / "cache")).training()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
