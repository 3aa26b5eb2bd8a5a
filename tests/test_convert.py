"""Weights of NVIDIA's StyleGAN2-ADA become ours, the numbers those of its own PyTorch code; no pickle's code is run."""

from __future__ import annotations

import math
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from support import run
from torch import Tensor

from gan_experiments.assembly import pretrained, trained
from gan_experiments.contracts import ConfigError
from gan_experiments.official import files
from gan_experiments.verbs import convert

WIDTHS = {4: 8, 8: 8, 16: 4}
Z, W, CLASSES = 6, 8, 3


def generator(classes: int = 0) -> dict[str, Tensor]:
    """The state of a generator by NVIDIA's names, filled by a rule."""
    shapes: dict[str, tuple[int, ...]] = {}
    if classes:
        shapes |= {"mapping.embed.weight": (W, classes), "mapping.embed.bias": (W,)}
    for i in range(2):
        inputs = W if i else Z + (W if classes else 0)
        shapes |= {f"mapping.fc{i}.weight": (W, inputs), f"mapping.fc{i}.bias": (W,)}
    shapes |= {"mapping.w_avg": (W,), "synthesis.b4.const": (WIDTHS[4], 4, 4)}
    before = 0
    for pixels, width in WIDTHS.items():
        for name, inputs in (("conv0", before), ("conv1", width)):
            if inputs:
                layer = f"synthesis.b{pixels}.{name}"
                shapes |= {f"{layer}.weight": (width, inputs, 3, 3), f"{layer}.bias": (width,)}
                shapes |= {f"{layer}.affine.weight": (inputs, W), f"{layer}.affine.bias": (inputs,)}
                shapes |= {f"{layer}.noise_strength": (), f"{layer}.noise_const": (pixels, pixels)}
                shapes |= {f"{layer}.resample_filter": (4, 4)}
        layer = f"synthesis.b{pixels}.torgb"
        shapes |= {f"{layer}.weight": (3, width, 1, 1), f"{layer}.bias": (3,)}
        shapes |= {f"{layer}.affine.weight": (width, W), f"{layer}.affine.bias": (width,)}
        before = width
    return filled(shapes)


def discriminator(classes: int = 0, skips: bool = True) -> dict[str, Tensor]:
    """The like of a discriminator."""
    shapes: dict[str, tuple[int, ...]] = {
        "b16.fromrgb.weight": (WIDTHS[16], 3, 1, 1),
        "b16.fromrgb.bias": (WIDTHS[16],),
    }
    for pixels in (16, 8):
        width, after = WIDTHS[pixels], WIDTHS[pixels // 2]
        for name, outputs in (("conv0", width), ("conv1", after)):
            shapes |= {f"b{pixels}.{name}.weight": (outputs, width, 3, 3), f"b{pixels}.{name}.bias": (outputs,)}
        if skips:
            shapes[f"b{pixels}.skip.weight"] = (after, width, 1, 1)
    wide = WIDTHS[4]
    if classes:
        shapes |= {"mapping.embed.weight": (wide, classes), "mapping.embed.bias": (wide,)}
        shapes |= {"mapping.fc0.weight": (wide, wide), "mapping.fc0.bias": (wide,)}
    shapes |= {"b4.conv.weight": (wide, wide + 1, 3, 3), "b4.conv.bias": (wide,)}
    shapes |= {"b4.fc.weight": (wide, wide * 16), "b4.fc.bias": (wide,)}
    shapes |= {"b4.out.weight": (wide if classes else 1, wide), "b4.out.bias": (wide if classes else 1,)}
    return filled(shapes)


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Numbers that follow from name and place, of about the size that they have there."""
    state = {}
    for name, shape in shapes.items():
        size = 140.0 if name.startswith("mapping.fc") and len(shape) == 2 else 1.4
        state[name] = size * torch.sin(torch.arange(math.prod(shape)) * 0.7 + sum(map(ord, name)) % 97).view(shape)
    return state


def inputs(classes: int) -> tuple[Tensor, Tensor | None]:
    z = torch.cos(torch.arange(4 * Z) * 1.3).view(4, Z)
    return z, torch.tensor([0, 2, 1, 2]) if classes else None


def converted(weights: Path, out: Path, **other: Any) -> trained.TrainedRun:
    cfg = {"weights": str(weights), "out": str(out), "existing": "refuse", **other}
    assert convert.convert(OmegaConf.create(cfg)) == 0
    return trained.open_run(str(out), "cpu")


@pytest.mark.parametrize(
    ("classes", "pixel", "truncated", "logits"),
    [
        (
            0,
            [-3.5442731380462646, -1.1694434881210327, -3.2373383045196533],
            [-2.645669937133789, -0.8143858909606934, 6.443936824798584],
            [-3.995779037475586, -0.9905928373336792, -0.9223360419273376, -6.4322052001953125],
        ),
        (
            CLASSES,
            [-8.973319053649902, 3.232614040374756, -4.198227405548096],
            [-9.553504943847656, 2.7013659477233887, 5.842613220214844],
            [16.635967254638672, 10.665386199951172, 65.05769348144531, 34.83795166015625],
        ),
    ],
    ids=["resnet", "orig, with labels"],
)
def test_images_and_logits_are_those_of_the_official_code(
    classes: int, pixel: list[float], truncated: list[float], logits: list[float], tmp_path: Path
) -> None:
    """Numbers of stylegan2-ada-pytorch d72cc7d on a CPU, of these weights: noise_mode="const", truncation_psi=0.5."""
    state = {"G_ema": generator(classes), "D": discriminator(classes, skips=not classes)}
    torch.save(state, tmp_path / "weights.pt")
    run = converted(tmp_path / "weights.pt", tmp_path / "run")
    z, label = inputs(classes)
    generator_, discriminator_ = run.model.network("generator"), run.model.network("discriminator")
    discriminator_.deviation.group = 2  # no state dict tells
    with torch.no_grad():
        images = generator_(z, label)
        assert images[1, :, 5, 9].tolist() == pytest.approx(pixel, rel=1e-5)
        assert generator_(z, label, truncation=0.5)[2, :, 15, 0].tolist() == pytest.approx(truncated, rel=1e-5)
        assert discriminator_(images, label).tolist() == pytest.approx(logits, rel=1e-4)
    assert run.cfg.data.classes == classes
    assert run.cfg.model.discriminator.architecture == ("orig" if classes else "resnet")
    assert pretrained.weights(str(tmp_path / "run"), ("generator", "discriminator"))  # a training can begin with it


def test_every_kind_of_file_holds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = generator()
    torch.save(state, tmp_path / "state.pt")
    save_file({f"G_ema.{name}": tensor for name, tensor in state.items()}, tmp_path / "state.safetensors")
    write_pickle(tmp_path / "network.pkl", state, monkeypatch)
    for name in ("state.pt", "state.safetensors", "network.pkl"):
        read = files.read(tmp_path / name, "weights")["G_ema"].state
        assert read.keys() == state.keys(), name
        assert all(torch.equal(read[key], state[key]) for key in state), name
    assert files.read(tmp_path / "network.pkl", "weights")["G_ema"].arguments == {"z_dim": Z}


def write_pickle(path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle as NVIDIA's: persistent objects that carry their source, which must not be run, and an EasyDict."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    for name, module in (("torch_utils.persistence", persistence), ("dnnlib.util", util)):
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))
        monkeypatch.setitem(sys.modules, name, module)

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        raise AssertionError("the code of the file was run")

    class EasyDict(dict[str, Any]):
        pass

    class Persistent:
        def __init__(self, state: dict[str, Any]) -> None:
            self.state = state

        def __reduce__(self) -> Any:
            source = "raise SystemExit"
            meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Network", "state": self.state}
            return _reconstruct_persistent_obj, (EasyDict(meta),)

    for thing, module in ((_reconstruct_persistent_obj, persistence), (EasyDict, util)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)

    def network(part: dict[str, Tensor]) -> Persistent:
        own = {name: tensor for name, tensor in part.items() if "." not in name}
        children = dict.fromkeys(name.partition(".")[0] for name in part if "." in name)
        below = {c: {n.partition(".")[2]: t for n, t in part.items() if n.startswith(f"{c}.")} for c in children}
        modules = {child: network(tensors) for child, tensors in below.items()}
        parameters = {n: torch.nn.Parameter(t) for n, t in own.items() if n in ("weight", "bias")}
        buffers = {n: t for n, t in own.items() if n not in parameters}
        return Persistent({"_parameters": parameters, "_buffers": buffers, "_modules": modules, "training": False})

    whole = network(state)
    whole.state["_init_kwargs"] = EasyDict(z_dim=Z)
    with path.open("wb") as file:
        pickle.dump({"G_ema": whole, "D": None, "training_set_kwargs": EasyDict(path="photos")}, file)


class Evil:
    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def test_a_pickle_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(pickle.dumps({"G_ema": Evil()}))
    with pytest.raises(ConfigError, match=r"asks for builtins.exec, .* not opened"):
        files.read(Path("evil.pkl"), "weights")
    assert not Path("ran").exists()


def test_mistakes_are_one_line_each_and_leave_nothing(tmp_path: Path) -> None:
    torch.save({"layers.0.weight": torch.zeros(3)}, tmp_path / "other.pt")
    Path(tmp_path / "broken.pkl").write_bytes(b"nothing")
    torch.save({"D": discriminator()}, tmp_path / "discriminator.pt")
    for name, said in (
        ("missing.pkl", "there is no such file"),
        ("other.pt", "holds no generator of StyleGAN2-ADA's, but layers.0.weight"),
        ("broken.pkl", "cannot be read"),
        ("discriminator.pt", "holds no generator"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            converted(tmp_path / name, tmp_path / "run")
        assert "\n" not in str(error.value)
        assert str(tmp_path / name) in str(error.value)
        assert not (tmp_path / "run").exists()
    torch.save(generator(), tmp_path / "good.pt")
    converted(tmp_path / "good.pt", tmp_path / "run")
    with pytest.raises(ConfigError, match="existing=replace"):
        converted(tmp_path / "good.pt", tmp_path / "run")
    converted(tmp_path / "good.pt", tmp_path / "run", existing="replace")


def test_the_verb_and_what_can_be_done_with_its_run(tmp_path: Path) -> None:
    torch.save(generator(), tmp_path / "good.pt")
    done = run("weights=good.pt", verb="convert", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("outputs/good  (generator ")
    drawn = run("run=outputs/good", "n=4", "truncation=0.7", "device=cpu", verb="sample", folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    again = run("weights=good.pt", "out=outputs/good", verb="convert", folder=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
