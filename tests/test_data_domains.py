"""Images of several domains, or with several attributes, in one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import ready, require_exact

from gan_experiments.contracts import ConfigError
from gan_experiments.data.domains import CelebAAttributes, Domains

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for (name, colour), number in zip(COLOURS.items(), (4, 3, 5), strict=True):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", (8, 8), tuple(max(value, 10 * i) for value in colour)).save(
                tmp_path / "set" / name / f"{i}.png"
            )
    return tmp_path / "set"


def domains(root: Path, cache: Path, **settings: Any) -> Domains:
    return Domains(str(root), **{"resolution": 8, "classes": 3, "batch_size": 8, "cache": str(cache), **settings})


def test_each_folder_is_a_domain(root: Path, tmp_path: Path) -> None:
    data = domains(root, tmp_path / "cache", batch_size=12)
    data.prepare_data()
    assert data.describe() == f"Domains {root}: 12 images 3x8x8, 3 classes"
    assert data.class_names == ["blue", "green", "red"]
    assert data.provides == {"real", "label", "domain"}
    batch = ready(data)
    assert batch.keys() == {"real", "label", "domain"}
    assert batch["domain"].shape == (12, 3)
    assert batch["domain"].dtype == batch["real"].dtype
    assert batch["domain"].sum(0).tolist() == [4, 3, 5]  # one stream over all
    assert torch.equal(batch["domain"].argmax(1), batch["label"])
    assert torch.equal(batch["real"][:, :, 0, 0].argmax(1), 2 - batch["label"])
    again = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(again["domain"], batch["domain"])
    fixed = data.fixed(5)
    assert fixed["label"].tolist() == fixed["domain"].argmax(1).tolist() == [0, 1, 2, 0, 1]


def test_ranks_and_going_on(root: Path, tmp_path: Path) -> None:
    require_exact(lambda **more: domains(root, tmp_path / "cache", flip=True, **more))


def test_mistakes(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=0: domains are the subfolders"):
        domains(root, tmp_path, classes=0)
    with pytest.raises(ConfigError, match=r"has 3 classes \(blue, green, red\): type data\.classes=3"):
        domains(root, tmp_path / "cache", classes=2).setup()
    with pytest.raises(ConfigError, match=r"no split 'test': type data\.test_root="):
        domains(root, tmp_path).reference("test")


# CelebA's attributes

HAS = {"Bald": "10010", "Male": "11000", "Smiling": "01100"}


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    lines = ["5", " ".join(HAS)]
    for i in range(5):
        Image.new("RGB", (178, 218), (50 * i, 0, 0)).save(folder / f"{i:06d}.png")
        lines.append(" ".join([f"{i:06d}.png", *("1" if has[i] == "1" else "-1" for has in HAS.values())]))
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("\n".join(lines))
    return tmp_path


def attributes(root: Path, *names: str, **settings: Any) -> CelebAAttributes:
    given = {"resolution": 8, "batch_size": 10, "cache": str(root / "cache"), "classes": len(names), **settings}
    return CelebAAttributes(str(root), attributes=names, **given)


def test_attributes_are_domains_that_overlap(celeba: Path) -> None:
    names = ("Smiling", "Bald", "Male")
    data = attributes(celeba, *names)
    data.setup()
    assert (data.class_names, data.provides) == (list(names), {"real", "domain"})
    batch = ready(data)
    assert batch.keys() == {"real", "domain"}
    for red, row in zip(batch["real"][:, 0, 0, 0], batch["domain"], strict=True):
        face = round((red.item() + 1) * 127.5 / 50)
        assert row.tolist() == [float(HAS[name][face]) for name in names]
    assert torch.equal(data.on_after_batch_transfer(batch, 0)["domain"], batch["domain"])
    fixed = data.fixed(5)
    assert fixed["domain"].tolist() == [[float(HAS[name][face]) for name in names] for face in range(5)]
    require_exact(lambda **more: attributes(celeba, *names, **more))


def test_mistakes_with_attributes(celeba: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes=5 with 2 data\.attributes: type data\.classes=2"):
        attributes(celeba, "Bald", "Male", classes=5)
    with pytest.raises(ConfigError, match=r"data\.attributes=Smile is not one of CelebA's: Bald, Male, Smiling"):
        attributes(celeba, "Bald", "Smile").setup()
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(ConfigError, match=r"data\.attributes needs .*list_attr_celeba\.txt"):
        attributes(celeba, "Bald").setup()
