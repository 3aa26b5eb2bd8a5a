"""benchmarks/real_data.py: what it makes of a package's network."""

from __future__ import annotations

import pickle
import sys
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import REPOSITORY
from torchvision.models import squeezenet1_1
from torchvision.transforms.functional import normalize

from gan_experiments.losses.perceptual import LPIPS

sys.path.append(str(REPOSITORY / "benchmarks"))
import real_data


def package(folder: Path, content: object) -> None:
    """A package like ndf in `folder`, with such a pickle, of NumPy 1."""
    path = folder / "squeezenet_weights.pkl"
    path.write_bytes(pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core."))
    with tarfile.open(folder / "ndf-0.tar.gz", "w:gz") as file:
        file.add(path, f"ndf-0/ndf/example_models/weights/{path.name}")


def test_squeezenet_takes_the_images_that_torchvisions_takes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = squeezenet1_1().eval()
    names = {"0": "conv1"} | {str(i): f"fire{n}" for n, i in enumerate((3, 4, 6, 7, 9, 10, 11, 12), 2)}
    arrays = {"conv10": [theirs.classifier[1].weight, theirs.classifier[1].bias]}
    for name, layer in theirs.features.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            place, _, part = name.partition(".")
            arrays[names[place] + (f"/{part.replace('squeeze', 'squeeze1x1')}" if part else "")] = [
                layer.weight,
                layer.bias,
            ]
    keras = {
        name: [weight.detach().numpy().transpose(2, 3, 1, 0), bias.detach().numpy()]
        for name, (weight, bias) in arrays.items()
    }
    package(tmp_path, keras)
    said = real_data.squeezenet(tmp_path, tmp_path, tmp_path)
    assert said.startswith("1,235,496 weights")
    ours = squeezenet1_1().eval()
    ours.load_state_dict(torch.load(tmp_path / "squeezenet1_1.pth", weights_only=True))
    rgb = torch.rand(2, 3, 64, 64)
    caffe = 255 * rgb.flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
    with torch.no_grad():
        wanted = theirs(caffe)
        found = ours(normalize(rgb, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert wanted.std() > 0.1
    lpips = LPIPS("squeeze", str(tmp_path / "squeezenet1_1.pth"))
    assert (lpips.published, lpips(rgb, rgb.flip(3)).shape) == (False, (2,))


def test_a_package_may_hold_arrays_alone(tmp_path: Path) -> None:
    package(tmp_path, {"conv1": [np.zeros(1), Path("x")]})
    with pytest.raises(pickle.UnpicklingError, match="is no part of an array"):
        real_data.squeezenet(tmp_path, tmp_path, tmp_path)


def test_an_emoji_that_moves_is_in_one_split_with_all_its_skin_tones(tmp_path: Path) -> None:
    assets = tmp_path / "made" / "package" / "assets"
    assets.mkdir(parents=True)
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in [*(f"1f60{i:x}" for i in range(10)), "1f609-1f3fb", "1f609-1f3ff", "1f4a1"]:
        more = {} if name == "1f4a1" else {"save_all": True, "append_images": pictures[1:]}
        pictures[0].save(assets / f"{name}.webp", **more)
    with tarfile.open(tmp_path / "lobehub-fluent-emoji-anim-1-1.0.0.tgz", "w:gz") as file:
        file.add(assets.parent, "package")
    real_data.animated_emoji(tmp_path, tmp_path, tmp_path / "work")
    names = {
        split: {path.stem for path in (tmp_path / "animated_emoji" / split).iterdir()} for split in ("train", "test")
    }
    assert names["test"] == {"1f609", "1f609-1f3fb", "1f609-1f3ff"}
    assert names["train"] == {f"1f60{i:x}" for i in range(9)}


def test_spoken_digits_are_held_out_by_their_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def say(words: str, voice: str, speed: int, pitch: int) -> np.ndarray:
        asked.append((words, voice, speed, pitch))
        return np.array([0, 5, -9000, 300, 90, 80], dtype=np.int16)

    monkeypatch.setattr(real_data, "speaker", lambda folder: (say, 22050))
    with zipfile.ZipFile(tmp_path / "espeakng_loader-0.whl", "w") as file:
        file.writestr("espeakng_loader/x", "")
    said = real_data.spoken_digits(tmp_path, tmp_path, tmp_path)
    assert "'train': 810, 'test': 270" in said
    assert len(set(asked)) == 1080
    (one, *_), of_test = [
        sorted((tmp_path / "spoken_digits" / split / "seven").iterdir()) for split in ("train", "test")
    ]
    assert {path.stem.split("-")[0] for path in of_test} == {"m2", "f3", "f5"}
    with wave.open(str(one)) as file:
        assert np.frombuffer(file.readframes(9), np.int16).tolist() == [-9000, 300]
