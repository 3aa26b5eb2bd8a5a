"""Images with holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import batches, ready, require_exact, write_images
from torch.nn import functional as F

from gan_experiments.contracts import ConfigError
from gan_experiments.data.masked import KINDS, Masked


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    write_images(folder / "photos", 9)
    write_images(folder / "test", 3, seed=1)
    return folder


def masked(root: Path, **settings: Any) -> Masked:
    given = {"resolution": 32, "batch_size": 6, "cache": str(root / "cache"), **settings}
    return Masked(str(root / "photos"), **given)


@pytest.mark.parametrize("kind", KINDS)
def test_masks(root: Path, kind: str) -> None:
    data = masked(root, mask=kind)
    data.setup()
    assert data.provides == {"real", "mask"}
    batch = ready(data)
    assert batch.keys() == {"real", "mask"}
    assert batch["real"].shape == (6, 3, 32, 32)
    assert batch["mask"].shape == (6, 1, 32, 32)
    assert batch["mask"].dtype == batch["real"].dtype
    assert batch["mask"].unique().tolist() == [0, 1]
    other = len({tuple(mask.flatten().tolist()) for mask in torch.cat([batch["mask"], ready(data, 1)["mask"]])})
    assert other == (1 if kind == "centre" else 12)
    fixed = data.fixed(4)
    assert torch.equal(fixed["mask"], masked(root, mask=kind).fixed(4)["mask"])
    assert fixed["real"].shape == (4, 3, 32, 32)


def test_the_centre_is_the_context_encoders(root: Path) -> None:
    """train.lua's: of 128 pixels, from the 37th on, so that the 64 that are made overlap with 4 on each side."""
    mask = masked(root, resolution=128).masks(0, range(1))[0, 0]
    assert mask[36:92, 36:92].all()
    assert mask.sum() == 56 * 56
    mask = masked(root, overlap=0).masks(0, range(1))[0, 0]
    assert mask[8:24, 8:24].all()
    assert mask.sum() == 16 * 16


def test_free_masks_hide_a_fair_part(root: Path) -> None:
    for kind, low, high in (("boxes", 0.1, 0.4), ("strokes", 0.1, 0.4)):
        masks = masked(root, mask=kind, resolution=64).masks(0, range(200)).float()
        share = masks.mean((1, 2, 3))
        assert low < share.mean() < high
        assert share.std() > 0.05
        assert share.min() > 0
        assert share.max() < 0.9
        where = masks.mean((0, 1))
        assert where[8:-8, 8:-8].min() > 0.05  # anywhere
    # A stroke is a brush's: what is left of it after erosion by half its least width, 3 of 64 pixels, is not empty.
    strokes = masked(root, mask="strokes", resolution=64).masks(1, range(20)).float()
    thin = -F.max_pool2d(-strokes, 3, 1, 1)
    assert (thin.sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("kind", ["boxes", "strokes"])
def test_ranks_and_going_on(root: Path, kind: str) -> None:
    def make(**more: Any) -> Masked:
        return masked(root, mask=kind, flip=True, resolution=24, load_resolution=32, **more)

    require_exact(make)
    assert batches(make(), 1)[0]["real"].shape == (6, 3, 32, 32)
    assert ready(make())["real"].shape == (6, 3, 24, 24)
    assert ready(make())["mask"].shape == (6, 1, 24, 24)


def test_workers(root: Path) -> None:
    require_exact(lambda **more: masked(root, mask="boxes", **more), workers=2)


def test_a_test_folder(root: Path) -> None:
    data = masked(root, test_root=str(root / "test"))
    assert len(data.reference("test")) == 3
    assert not torch.equal(data.fixed(3)["real"], masked(root).fixed(3)["real"])


def test_mistakes(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.mask=holes: type data\.mask=centre, boxes, strokes"):
        masked(root, mask="holes")
    with pytest.raises(ConfigError, match=r"data\.overlap=8 of 32 pixels leaves no hole: type data\.overlap=0"):
        masked(root, overlap=8)
    with pytest.raises(ConfigError, match=r"type data\.classes=0"):
        masked(root, classes=3)
    with pytest.raises(ConfigError, match=r"type data\.test_root="):
        masked(root).reference("test")


def test_what_is_trained_on_is_all_that_is_decoded(root: Path, tmp_path: Path) -> None:
    data = masked(root, resolution=24, load_resolution=32, cache=str(tmp_path))
    data.setup()
    assert data.describe() == "Masked: 9 images 3x24x24"
    assert (data.size, data.class_names) == (9, [])
    assert [path.name.split("-")[1] for path in tmp_path.glob("photos*")] == ["32x3"]
