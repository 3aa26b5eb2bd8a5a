"""Exported files: every model as a file, opened again beside its run; what is refused; no code of a file is run."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import onnx
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from support import GENERATIVE, REPOSITORY, small
from support import run as command
from test_service import answers
from torch import nn

from gan_experiments.assembly import build, trained
from gan_experiments.conditions import Cameras
from gan_experiments.contracts import ConfigError
from gan_experiments.data.posed import cameras_around
from gan_experiments.export import formats, generators, making, metadata, module, parity, translators, twin
from gan_experiments.export.exported import TRUSTED, Exported, Weights, open_exported
from gan_experiments.export.signature import Options
from gan_experiments.inference import run as inference
from gan_experiments.inference.contract import Generates
from gan_experiments.inference.run import Run
from gan_experiments.kinds import Image as ImageKind
from gan_experiments.layers.spectral_norm import SpectralNorm
from gan_experiments.models.growing import Growing
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.runs import configs
from gan_experiments.verbs import export as verb
from gan_experiments.verbs import serve


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "SECONDS", 0.0)


def run_of(folder: Path, model: str, *words: str) -> Run:
    """A small run as after some training: nothing is zero any more, and weights differ from their averages."""
    cfg = small(folder / "run", model, *words)
    made = build.build_model(cfg).eval()
    torch.manual_seed(1)
    for parameter in made.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    made.images_seen = cfg.images
    if isinstance(made, Growing):
        made.grow()
    return inference.of(trained.TrainedRun(made, cfg, folder))


def picture(run: Generates, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (run.facts.channels, height, width), generator=generator, dtype=torch.uint8)


def results(run: Generates, height: int = 32, width: int = 32) -> torch.Tensor:
    """Five samples, or translations of an image in all directions, one above the other."""
    if run.facts.task == "sample":
        return run.draw(run.noise(5, seed=3), run.labels(5, seed=3))
    made = []
    for to, way in run.facts.directions.items():
        mask = torch.zeros(1, height, width, dtype=torch.uint8)
        mask[:, 13:19, 13:19] = 255
        label = 1 if "label" in way.also else None
        made.append(run.translated(picture(run, height, width), to, mask if "mask" in way.also else None, label))
    return torch.cat(made)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return (a.float() - b.float()).abs().max().item()


# -------------------------------------------------------------------- every model


@pytest.mark.parametrize("model", GENERATIVE)
def test_every_model_is_a_module_and_a_file_that_do_the_same(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is what torch.export traces; the file has the weights. Both leave the run as it is."""
    monkeypatch.setattr(generators, "BATCHES", (1, 2))
    monkeypatch.setattr(translators, "BATCHES", (1, 2))
    run = run_of(tmp_path, model)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items() if torch.is_tensor(tensor)}
    if isinstance(run.model, ImageToImage) and not isinstance(run.model.kind, ImageKind):
        with pytest.raises(ConfigError, match="and translators of images are exported"):
            module.wrap(run.model, run.cfg.data, Options())
        return
    wrapped = module.wrap(run.model, run.cfg.data, Options(pixels="float"))
    twin.separate_(wrapped.module)
    with torch.no_grad():
        found = parity.difference(
            wrapped,
            lambda rows: wrapped.module(*wrapped.arguments(rows)),
            lambda rows: wrapped.finish(wrapped.made(run.model, True, rows)),
        )
    parity.require(found, wrapped.bound)
    assert found.sizes == (2 if isinstance(run.model, ImageToImage) and not wrapped.told["size"] else 1)
    assert not any(isinstance(part, SpectralNorm) for part in wrapped.module.modules())

    made = making.export(run, Options(), tmp_path / "w.safetensors", "safetensors")
    assert made.difference.largest == 0
    opened = open_exported(tmp_path / "w.safetensors")
    assert apart(results(opened), results(run)) == 0
    assert opened.facts == run.facts
    assert isinstance(opened, Weights)
    network = opened.network(run.model.network_names[0])
    of_run = run.model.network(run.model.network_names[0])
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in of_run.parameters())
    after = run.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_file_that_is_told_cameras_knows_some_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "BATCHES", (1, 2))
    run = run_of(tmp_path, "eg3d")
    run.model.data_conditions = Cameras(cameras_around(30).float())
    run = inference.of(trained.TrainedRun(run.model, run.cfg, tmp_path))
    made = making.export(run, Options(pixels="float"), tmp_path / "w.onnx", "onnx")
    opened = open_exported(tmp_path / "w.onnx")
    assert opened.facts == run.facts
    assert torch.equal(opened.conditions.rows, torch.tensor(run.facts.cameras))  # type: ignore[attr-defined]
    assert apart(opened.draw(opened.noise(3), opened.labels(3)), run.draw(run.noise(3), opened.labels(3))) <= 1
    assert torch.equal(opened.labels(2, asked=[30, 15]), run.labels(2, asked=[30, 15]))
    assert made.difference.largest < 0.1


def test_a_scene_with_a_camera_of_its_own_is_written_for_any_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "BATCHES", (1, 2))
    run = run_of(tmp_path, "pi_gan")
    made = making.export(run, Options(pixels="float"), tmp_path / "w.pt2", "torch")
    assert made.difference.largest < 1e-5


def test_the_gate_tries_32_inputs_of_two_sizes_in_batches_of_1_and_7(tmp_path: Path) -> None:
    for model, sizes in (("cdcgan", 1), ("esrgan", 2), ("pix2pix", 1)):
        run = run_of(tmp_path / model, model)
        wrapped = module.wrap(run.model, run.cfg.data, Options())
        first = [rows[wrapped.inputs[0].name] for rows in wrapped.cases]
        assert sum(map(len, first)) == 32
        assert {1, 7} <= {len(rows) for rows in first}
        assert len({rows.shape[1:] for rows in first}) == sizes


# -------------------------------------------------------------------- formats


def test_onnx_draws_the_same_in_a_process_without_torch_at_any_truncation(tmp_path: Path) -> None:
    run = run_of(tmp_path, "stylegan2")
    run.model.averages["generator"].network.mapping.average.normal_(generator=torch.Generator().manual_seed(0))
    options = Options(truncation="input")
    made = making.export(run, options, tmp_path / "m.onnx", "onnx", licence="CC0-1.0")
    assert made.difference.largest <= 1
    assert made.difference.batches == (1, 7, 24)
    opened = open_exported(tmp_path / "m.onnx")
    assert apart(results(opened), results(run)) <= 1
    z, label = run.noise(4), run.labels(4)
    assert apart(run.draw(z, label, 0.5), run.draw(z, label)) > 10
    for psi in (0.5, 0.8, None):
        assert apart(opened.draw(z, label, psi), run.draw(z, label, psi)) <= 1

    wrapped = module.wrap(run.model, run.cfg.data, options)
    rows = wrapped.cases[1]
    np.savez(tmp_path / "rows.npz", **{port.name: rows[port.name].numpy() for port in wrapped.inputs})
    code = (
        "import sys, json, numpy, onnxruntime as ort\n"
        "session = ort.InferenceSession('m.onnx', providers=['CPUExecutionProvider'])\n"
        "about = json.loads(session.get_modelmeta().custom_metadata_map['gan_experiments'])\n"
        "rows = numpy.load('rows.npz')\n"
        "numpy.save('out.npy', session.run(None, {one['name']: rows[one['name']] for one in about['inputs']})[0])\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    alone = torch.from_numpy(np.load(tmp_path / "out.npy"))
    assert apart(alone, wrapped.finish(wrapped.made(run.model, True, rows))) <= 1


def test_a_torch_file_is_opened_only_with_trust(tmp_path: Path) -> None:
    run = run_of(tmp_path, "cdcgan")
    path = tmp_path / "m.pt2"
    making.export(run, Options(pixels="float", layout="nchw"), path, "torch")
    with pytest.raises(ConfigError, match=f"can run code as it is opened: type trust={TRUSTED}"):
        open_exported(path)
    opened = open_exported(path, TRUSTED)
    assert apart(results(opened), results(run)) <= 1
    z, label = run.noise(3), run.labels(3)
    assert apart(opened.draw(z, label, exact=True), run.draw(z, label, exact=True)) <= 1e-5


def test_float16_weights_take_half_the_space_and_the_page_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, "dcgan", "model.generator.width=8")
    number = sum(parameter.numel() for parameter in run.model.network("generator").parameters())
    making.export(run, Options(), tmp_path / "w.safetensors", "safetensors")
    for name, form in (("half.safetensors", "safetensors"), ("model.onnx", "onnx")):
        made = making.export(run, Options(half=True), tmp_path / name, form)
        assert made.loss is not None
        assert 0 < made.loss.mean < 2
        assert apart(results(open_exported(tmp_path / name)), results(run)) <= made.loss.largest + 2
    whole, halved = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("w", "half"))
    assert whole - halved > 1.9 * number
    weights = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert sum(np.prod(one.dims) for one in weights if one.data_type == onnx.TensorProto.FLOAT16) > 0.9 * number

    alone, here = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "export.md").read_text(), re.DOTALL)
    alone = alone.replace("100", str(run.facts.latent_dim)) + "import sys\nassert 'torch' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, check=True)
    assert Image.open(tmp_path / "first.png").size == (32, 32)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(here, names)
    assert len(names["images"]) == 16


def test_sizes_and_inputs_of_an_onnx_file_are_named_and_explained(tmp_path: Path) -> None:
    run = run_of(tmp_path, "cyclegan")
    making.export(run, Options(to="a"), tmp_path / "m.onnx", "onnx", licence="CC0-1.0")
    model = onnx.load(tmp_path / "m.onnx")
    image = model.graph.input[0]
    assert [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim] == ["n", "4*h", "4*w", 3]
    assert image.doc_string == "NHWC, 0 to 255"
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert props["licence"] == "CC0-1.0"
    about = json.loads(props["gan_experiments"])
    assert about["direction"] == "a"
    assert [*about["facts"]["directions"]] == ["a"]
    opened = open_exported(tmp_path / "m.onnx")
    for size in ((40, 52), (37, 61)):  # of any size: the reader pads to multiples of 4 as the run does
        assert apart(results(opened, *size), run.translated(picture(run, *size), "a")) <= 1
    with pytest.raises(ConfigError, match="to=b: this model knows no such direction"):
        opened.translated(picture(run), "b")


# -------------------------------------------------------------------- options


def untraced(run: Run, options: Options) -> Exported:
    """A file as it is read, but for the tracing: its module itself."""
    wrapped = module.wrap(run.model, run.cfg.data, options)
    about = json.loads(json.dumps(metadata.of(run, wrapped, options, None)))

    def call(rows: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return wrapped.module(*wrapped.arguments(rows))

    return Exported(Path("m.onnx"), metadata.read(json.dumps(about), "m.onnx"), call)


def test_a_fixed_truncation_is_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, "stylegan2", "data.classes=0")
    run.model.averages["generator"].network.mapping.average.normal_(generator=torch.Generator().manual_seed(0))
    fixed, z = untraced(run, Options(truncation=0.5)), run.noise(4)
    for psi in (0.5, None):
        assert apart(fixed.draw(z, truncation=psi), run.draw(z, truncation=0.5)) <= 1
    with pytest.raises(ConfigError, match=r"truncation=0.7: m was exported with truncation=0.5; leave it out"):
        fixed.draw(z, truncation=0.7)


@pytest.mark.parametrize(
    ("model", "noise"), [("pix2pix", "seeded"), ("pix2pix", "input"), ("bicyclegan", "seeded"), ("zi2zi", "input")]
)
def test_noise_is_drawn_by_a_seed_or_an_input(model: str, noise: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, model)
    seed = 5 if noise == "seeded" else 0
    opened = untraced(run, Options(noise=noise, seed=seed, size=32))
    assert any(name.startswith(("z", "noise")) for name in opened.ports) == (noise == "input")
    to = "1" if model == "zi2zi" else ""
    for seed in (5,) if noise == "seeded" else (5, 6):
        one, other = (which.translated(picture(run), to, seed=seed) for which in (opened, run))
        assert apart(one, other) <= 1


def test_classes_of_a_translator_are_a_label_for_each_image_or_one_direction(tmp_path: Path) -> None:
    run = run_of(tmp_path, "stargan")
    wrapped = module.wrap(run.model, run.cfg.data, Options())
    assert [port.name for port in wrapped.inputs] == ["image", "label"]
    assert [port.name for port in module.wrap(run.model, run.cfg.data, Options(to="1")).inputs] == ["image"]
    attributes = run_of(
        tmp_path / "other",
        "stargan",
        "data=domains_celeba",
        "data.attributes=[Male,Black_Hair,Blond_Hair]",
        "data.classes=3",
    )
    wrapped = module.wrap(attributes.model, attributes.cfg.data, Options(pixels="float"))
    assert {*wrapped.twin.network_names} == {"generator", "discriminator"}  # which sees what attributes an image has
    with torch.no_grad():
        for rows in wrapped.cases[1:3]:
            made = wrapped.module(*wrapped.arguments(rows))
            assert apart(made, wrapped.finish(wrapped.made(attributes.model, True, rows))) <= 1e-5


def test_points_are_floats(tmp_path: Path) -> None:
    run = run_of(tmp_path, "wgan_gp_toy", "data=ring")
    made = making.export(run, Options(), tmp_path / "m.pt2", "torch")
    assert made.metadata["output"]["shape"] == ["n", 2] or made.metadata["output"]["shape"] == ("n", 2)
    assert apart(open_exported(tmp_path / "m.pt2", TRUSTED).draw(run.noise(3)), run.draw(run.noise(3))) <= 1e-5


# -------------------------------------------------------------------- the gate


def test_a_file_that_differs_is_refused_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path, "dcgan")
    read = formats.read_torch

    def wrong(path: Path, given: str) -> Any:
        about, call = read(path, given)
        return about, lambda rows: call(rows).flip(0)  # rows that change places, as of a batch that was mixed up

    monkeypatch.setattr(formats, "read_torch", wrong)
    with pytest.raises(ConfigError, match=r"it differs from the run by .* of 255 levels.*\(32 inputs"):
        making.export(run, Options(), tmp_path / "new" / "folder" / "m.pt2", "torch")
    assert not (tmp_path / "new").exists()


def test_the_gate_counts_levels_and_shares() -> None:
    def found(largest: float, share: float, levels: bool) -> parity.Difference:
        return parity.Difference(largest, 0.0, share, levels, 32, 1, (1,))

    parity.require(found(1, 0.002, True), 1e-5)
    parity.require(found(1e-5, 1, False), 1e-5)
    for wrong in (found(2, 1e-6, True), found(1, 0.003, True), found(2e-5, 1, False), found(float("nan"), 0, False)):
        with pytest.raises(ConfigError, match="differs from the run"):
            parity.require(wrong, 1e-5)


def test_layers_in_half_precision_are_exported_in_float32_and_that_is_said(tmp_path: Path) -> None:
    run = run_of(tmp_path, "stylegan2", "data.classes=0", "model.generator.half_resolutions=2")
    made = making.export(run, Options(), tmp_path / "m.safetensors", "safetensors")
    assert made.difference.largest == 0
    assert made.loss is not None
    assert made.loss.largest > 0


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, "dcgan")
    next(iter(run.model.network("generator").parameters())).data[0] = 1e5
    with pytest.raises(ConfigError, match=r"has values beyond 65,504"):
        making.export(run, Options(half=True), tmp_path / "m.safetensors", "safetensors")


# -------------------------------------------------------------------- copies


def test_spectral_norm_is_folded_in_a_copy_alone(tmp_path: Path) -> None:
    """torch's own remove_parametrizations on a copy would break the original, whose class it shares."""
    run = run_of(tmp_path, "sagan")
    network = run.model.network("generator")
    z, label = run.noise(3), run.labels(3)
    before = network(z, label)
    plain = twin.folded(network)
    assert torch.equal(plain(z, label), before)
    assert torch.equal(network(z, label), before)
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert any("parametrizations" in name for name in network.state_dict())


def test_batch_norm_of_a_batch_becomes_that_of_each_image() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, track_running_stats=False).eval()
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = torch.randn(4, 3, 5, 6)
    alone = torch.cat([norm(one[None]) for one in x])
    assert (twin.EachImageNorm(norm)(x) - alone).abs().max() < 1e-6
    assert (norm(x) - alone).abs().max() > 1e-2


# -------------------------------------------------------------------- files of others


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    run = run_of(tmp_path, "dcgan")
    path = tmp_path / "w.safetensors"
    making.export(run, Options(), path, "safetensors")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["gan_experiments"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["run_config"]["config"]["model"]["generator"] = {"_target_": "os.system", "command": "touch here"}
    save_file(state, path, {"gan_experiments": json.dumps(about)})
    with pytest.raises(ConfigError, match=r"names os\.system .*which a file may not"):
        open_exported(path)
    about["run_config"]["config"]["model"]["generator"] = about["facts"]
    for text in (json.dumps({**about, "format": 99}), "{", json.dumps({}), json.dumps(about)):
        save_file(state, path, {"gan_experiments": text})
        with pytest.raises(ConfigError, match=r"w.safetensors: .*(later version|not a file|not fit|Error in call)"):
            open_exported(path)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ConfigError, match="cannot be read"):
        open_exported(path)


def test_an_onnx_file_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "in").mkdir()
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], [0.0] * 4)
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [value("x", onnx.TensorProto.FLOAT, [4])],
        [value("y", onnx.TensorProto.FLOAT, [4])],
        [weight],
    )
    path = tmp_path / "in" / "m.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(ConfigError, match="cannot be read"):
        open_exported(path)
    weight.CopyFrom(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], [0.0] * 4))
    graph.initializer[0].CopyFrom(weight)
    path.write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    with pytest.raises(ConfigError, match="not a file that `gan-experiments export` wrote"):
        open_exported(path)


# -------------------------------------------------------------------- the command


def test_the_command_writes_a_file_and_says_what_it_is(bare_machine: Path) -> None:
    folder = bare_machine / "runs" / "cdcgan"
    words = (f"run={folder}", "format=safetensors", "half=true")
    done = command(*words, verb="export", folder=bare_machine)
    assert done.returncode == 0, done.stderr
    path = folder / "exported" / "00000008-half.safetensors"
    assert path.is_file()
    assert "float16 weights change it by" in done.stdout
    assert "differs from the run by at most 0 of 255 levels" in done.stdout
    again = command(*words, f"out={path}", verb="export", folder=bare_machine)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "is there already: type existing=keep" in again.stderr
    kept = command(*words, f"out={path}", "existing=keep", verb="export", folder=bare_machine)
    assert kept.returncode == 0
    assert "is there already, and kept" in kept.stdout


@pytest.mark.parametrize(
    ("run", "words", "answer"),
    [
        ("dcgan", ["out=model.pt"], "out=model.pt: a file of format=onnx ends in .onnx; type out=model.onnx"),
        ("dcgan", ["format=tflite"], "format=tflite: one of onnx, torch, safetensors is needed"),
        ("dcgan", ["to=b"], "to=b: this model draws samples from noise; leave it out"),
        ("dcgan", ["truncation=0.5"], "truncation=0.5: this generator has no w"),
        ("dcgan", ["format=safetensors", "layout=nchw"], "layout=nchw: a file of weights alone has no inputs"),
        ("cyclegan", ["truncation=0.5"], "truncation=0.5: truncation is of models that draw samples from noise"),
        ("cyclegan", ["to=c"], "to=c: this model knows no such direction; type to=b or to=a"),
        ("cyclegan", ["size=30"], "size=30: this network takes sides that 4 divides; type size=32"),
        ("cyclegan", ["noise=input"], "noise=input: this model leaves nothing to chance; leave it out"),
        ("context_encoder_random", ["size=64"], "size=64: this network takes 32 pixels alone; leave it out"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    run: str, words: list[str], answer: str, bare_machine: Path
) -> None:
    folder = bare_machine / "runs" / run
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("export", [f"run={folder}", *words])
    with pytest.raises(ConfigError, match=re.escape(answer)) as raised:
        verb.export(cfg)
    assert len(raised.value.faults) == 1
    assert not list(folder.glob("exported/*.onnx"))


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_a_service_draws_from_an_exported_file_as_from_the_run(form: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, "cdcgan")
    path = tmp_path / f"digits.{form}"
    making.export(run, Options(), path, form)
    cfg = OmegaConf.create({"device": "cpu", "trust": None, "threads": 1})
    opened = serve._opened(str(path), cfg)
    asked = ("/sample", {"n": 3, "seed": 5, "format": "json"})
    told = json.loads(answers(asked, model=opened, batch_size=4)[0].body)
    drawn = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in told["images"]])
    labels = run.labels(3, 5)
    assert apart(torch.from_numpy(drawn)[:, None], run.draw(run.noise(3, 5), labels)) <= 1
    assert told["labels"] == run.names_of(labels)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"nowhere.onnx: there is no such file"):
        serve._opened("nowhere.onnx", cfg)
