"""Beginning with another run: what is taken, what is drawn anew, what is refused; and frozen first layers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matrix import batches_of, drive
from omegaconf import DictConfig, OmegaConf
from support import GENERATIVE, compose, difference, inherited, run, shrink, small, train, write_images
from torch import Tensor, nn

from gan_experiments.assembly import build, check, pretrained
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.models.game import Game
from gan_experiments.runs import resume

COMMON = ("data.batch_size=4", "metrics=none")
LETTERS = list("abcdefghij")
PLAIN = ("model.discriminator.conditioning=none", "model.generator.classes=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs to begin with."""
    return tmp_path_factory.mktemp("runs")


def config(folder: Path, *words: str) -> DictConfig:
    """A small config; only words that choose files are composed, which takes longer than all else here."""
    chosen = [word for word in words if "." not in word.partition("=")[0] or word.startswith("data.classes=")]
    cfg = compose(folder, *COMMON, *chosen)
    for word in words:
        if word not in chosen:
            key, _, value = word.lstrip("+").partition("=")
            OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return shrink(cfg)


def written(folder: Path, *words: str, names: tuple[str, ...] = ()) -> AdversarialModule:
    """Write a run whose weights no other draws, and whose averages differ from them; return its model."""
    cfg = config(folder, *words)
    model = build.build_model(cfg)
    shapes = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.rand(parameter.shape, generator=shapes) / 8 + 0.1)
    model.class_names = list(names)
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    resume.write(checkpoint, folder)
    return model


def begun(folder: Path, *words: str, names: tuple[str, ...] = ()) -> tuple[AdversarialModule, str]:
    """A model that begins with a run, and what it says of that."""
    cfg = config(folder / "here", *words, f"model.pretrained='{folder}'")
    model = build.build_model(cfg)
    return model, "\n".join(pretrained.take_up(model, str(folder), cfg.model, names))


# ------------------------------------------------------------------------------------------ the table

SOURCES = {
    "dcgan": ("model=dcgan",),
    "dcgan of labels": ("model=cdcgan",),
    "dcgan, spectral norm": ("model=dcgan", "technique=[spectral_norm]"),
    "stylegan2": ("model=stylegan2",),
    "stylegan2 without labels": ("model=stylegan2", "data.classes=0"),
    "pggan": ("model=pggan",),
    "stylegan": ("model=stylegan",),
    "r3gan": ("model=r3gan",),
    "wgan_gp": ("model=wgan_gp",),
    "sngan": ("model=sngan",),
    "sngan of labels": ("model=sngan_projection",),
    "sngan of 64 pixels": ("model=sngan", "data.resolution=64"),
    "biggan": ("model=biggan",),
    "biggan without labels": ("model=biggan", *PLAIN),
    "gan": ("model=gan",),
    "cyclegan": ("model=cyclegan",),
}
BY_NAME = "10 -> 10 classes: j, a by name, the others drawn anew, in "
PAIRS = {  # source, words here, and what each network says, or the refusal
    "itself": ("dcgan", "model=dcgan", "generator: taken 19 of 19 tensors|discriminator: taken 14 of 14 tensors"),
    "another loss": ("dcgan", "model=lsgan", "generator: taken 19 of 19 tensors|discriminator: taken 14 of 14 tensors"),
    "translators": (
        "cyclegan",
        "model=cyclegan",
        "generator_ab: taken 16 of 16 tensors|generator_ba: taken 16 of 16 tensors"
        "|discriminator_a: taken 8 of 8 tensors|discriminator_b: taken 8 of 8 tensors",
    ),
    "spectral norm": (
        "dcgan, spectral norm",
        "model=dcgan technique=[spectral_norm]",
        "discriminator: taken 18 of 18 tensors",
    ),
    # classes
    "labels, in the first layer": (
        "dcgan of labels",
        "model=cdcgan",
        f"generator: taken 19 of 19 tensors; {BY_NAME}layers.0"
        f"|discriminator: taken 14 of 14 tensors; {BY_NAME}layers.0",
    ),
    "labels, in the norms": (
        "sngan of labels",
        "model=sngan_projection",
        f"generator: taken 57 of 57 tensors; {BY_NAME}blocks.0.norm1.gain, blocks.0.norm1.bias"
        f"|discriminator: taken 34 of 34 tensors; {BY_NAME}head.embedding",
    ),
    "labels, in an embedding": (
        "stylegan2",
        "model=stylegan2",
        f"generator: taken 66 of 66 tensors; {BY_NAME}mapping.embedding",
    ),
    "to labels": (
        "dcgan",
        "model=cdcgan",
        "generator: taken 19 of 19 tensors; 0 -> 10 classes: drawn anew, in layers.0",
    ),
    "to labels, in the norms": (
        "sngan",
        "model=sngan_projection",
        "generator: taken 57 of 57 tensors; 0 -> 10 classes"
        "|discriminator: taken 32 of 34 tensors; drawn anew: head.embedding; 0 -> 10 classes",
    ),
    "to labels, in an embedding": (
        "stylegan2 without labels",
        "model=stylegan2",
        "generator: taken 63 of 66 tensors; drawn anew: mapping.embedding, mapping.layers.0; 0 -> 10 classes",
    ),
    "to labels, hierarchical": (
        "biggan without labels",
        "model=biggan",
        "generator: taken 77 of 90 tensors; drawn anew: emb",
    ),
    "from labels": (
        "dcgan of labels",
        "model=dcgan",
        "generator: taken 19 of 19 tensors|discriminator: taken 14 of 14",
    ),
    "from labels, in the norms": (
        "sngan of labels",
        "model=sngan",
        "generator: taken 57 of 57 tensors; 10 -> 0 classes"
        "|discriminator: taken 32 of 32 tensors; 10 -> 0 classes; not used: head.embedding",
    ),
    "from labels, in an embedding": (
        "stylegan2",
        "model=stylegan2 data.classes=0",
        "generator: taken 63 of 64 tensors; drawn anew: mapping.layers.0; 10 -> 0 classes; not used: mapping.embedding",
    ),
    # resolutions
    "64 pixels, by blocks": (
        "stylegan2",
        "model=stylegan2 data.resolution=64",
        "discriminator: taken 39 of 46 tensors; drawn anew: from_rgb, blocks.0.conv0, blocks.0.conv1, blocks.0.skip",
    ),
    "64 pixels, grown": (
        "pggan",
        "model=pggan data.resolution=64",
        "generator: taken 24 of 30 tensors; drawn anew: blocks.3.0, blocks.3.3, to_rgb.4"
        "|discriminator: taken 26 of 32 tensors; drawn anew: from_rgb.4.0, blocks.3.0, blocks.3.2",
    ),
    "64 pixels, grown by styles": (
        "stylegan",
        "model=stylegan data.resolution=64",
        "generator: taken 61 of 75 tensors|discriminator: taken 26 of 32 tensors",
    ),
    "64 pixels, in a list": (
        "r3gan",
        "model=r3gan data.resolution=64",
        "generator: taken 23 of 30 tensors|discriminator: taken 23 of 30 tensors; drawn anew: layers.0, layers.1.conv1",
    ),
    "64 pixels, of one width": (
        "wgan_gp",
        "model=wgan_gp data.resolution=64",
        "generator: taken 50 of 73 tensors|discriminator: taken 16 of 28 tensors; drawn anew: blocks.0.conv1",
    ),
    "64 pixels, half as wide": (
        "dcgan",
        "model=dcgan data.resolution=64 model.generator.width=2 model.discriminator.width=2",
        "generator: taken 18 of 25 tensors; drawn anew: layers.9, layers.10, layers.12"
        "|discriminator: taken 13 of 20 tensors; drawn anew: layers.0, layers.2, layers.3",
    ),
    # refused
    "64 pixels, as wide": (
        "dcgan",
        "model=dcgan data.resolution=64",
        "REFUSED its generator is of 32 pixels there, 64 here, and at the same size of maps layers.0 has another width"
        " ([8, 16, 4, 4] there, [8, 32, 4, 4] here); type model.generator.width=2 model.discriminator.width=2 or"
        " data.resolution=32",
    ),
    "128 pixels": (
        "sngan of 64 pixels",
        "model=sngan data.resolution=128",
        "REFUSED its generator is of 64 pixels there",
    ),
    "rectangles": (
        "stylegan2",
        "model=stylegan2 data.resolution=[32,64]",
        "REFUSED its generator is not like this one (32 pixels there, [32, 64] here: images of another shape); type",
    ),
    "layers of all pixels": ("gan", "model=gan data.resolution=64", "REFUSED its generator is of 32 pixels there"),
    "a width": (
        "dcgan",
        "model=dcgan model.generator.width=3",
        "REFUSED its generator has width=4 and this one 3; type model.generator.width=4, or model.pretrained= another",
    ),
    "colours": (
        "dcgan",
        "model=dcgan data.channels=3",
        "REFUSED its generator has channels=1 and this one 3; type data.channels=1, or model.pretrained= another run",
    ),
    "another network": (
        "sngan",
        "model=dcgan",
        "REFUSED its generator is a SNGANGenerator and this one a DCGANGenerator; type model.generator._target_=gan_ex",
    ),
    "norms alone there": (
        "dcgan, spectral norm",
        "model=dcgan",
        "REFUSED its discriminator has spectral norm and this one has not; type technique=[spectral_norm]",
    ),
    "norms alone here": (
        "dcgan",
        "model=dcgan technique=[spectral_norm]",
        "REFUSED its discriminator has no spectral norm and this one has; leave out technique=[spectral_norm]",
    ),
    "no networks in common": ("cyclegan", "model=dcgan", "REFUSED that run has no generator or discriminator; type"),
}


@cache
def _source(folder: Path, name: str) -> Path:
    words = SOURCES[name]
    path = folder / name
    written(path, *words, *_data_of(folder, words), names=() if "data.classes=0" in words else tuple(LETTERS))
    return path


def _data_of(folder: Path, words: tuple[str, ...]) -> list[str]:
    """Translators need images that lie there."""
    if "model=cyclegan" not in words:
        return []
    for name in ("trainA", "trainB"):
        if not (folder / "images" / name).exists():
            write_images(folder / "images" / name, 2, seed=1)
    return [f"data.root='{folder / 'images'}'", "data.resolution=32", "data.load_resolution=36"]


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_taken_and_what_is_refused(pair: str, runs: Path) -> None:
    source, typed, said = PAIRS[pair]
    words = tuple(typed.split())
    folder = _source(runs, source)
    names = ("j", "x", "y", "a", *"klmnop")
    if said.startswith("REFUSED"):
        (line,) = check.faults(config(folder / "here", *words, f"model.pretrained='{folder}'"))
        assert line.startswith(f"model.pretrained={folder}: {said.removeprefix('REFUSED ')}")
        return
    _, lines = begun(folder, *words, *_data_of(runs, words), names=names)
    for line in said.split("|"):
        assert f"\n  {line}" in lines


# ------------------------------------------------------------------------------------------ the values


def test_networks_and_averages_go_on_each_as_they_were(runs: Path) -> None:
    there = written(runs / "averaged", "model=dcgan")
    here, _ = begun(runs / "averaged", "model=dcgan")
    assert difference(there.generator.state_dict(), there.network("generator").state_dict()) != {}
    for name in there.network_names:
        for ema in (True, False):
            assert difference(here.network(name, ema).state_dict(), there.network(name, ema).state_dict()) == {}


def test_rows_follow_the_names_of_the_classes(runs: Path) -> None:
    """Three classes become five: `cat` is the third there and the first here."""
    there = written(runs / "three", "model=sngan_projection", "data.classes=3", names=("ant", "bee", "cat"))
    names = ("cat", "dog", "ant", "eel", "fox")
    here, said = begun(runs / "three", "model=sngan_projection", "data.classes=5", names=names)
    assert "3 -> 5 classes: cat, ant by name, the others drawn anew, in head.embedding" in said
    cfg = config(runs / "plain", "model=sngan_projection", "data.classes=5")
    drawn = build.build_model(cfg)
    rows = [_embedding(model) for model in (there, here, drawn)]
    assert torch.equal(rows[1], torch.stack([rows[0][2], rows[2][1], rows[0][0], *rows[2][3:]]))


def _embedding(model: Any) -> Tensor:
    return model.discriminator.head.embedding.parametrizations.weight.original


@pytest.mark.parametrize("model", ["sngan", "dcgan", "pggan"])
def test_a_generator_that_gets_labels_makes_what_it_made(model: str, runs: Path) -> None:
    """With a label of no class, where those are in the first layer; equalised layers have another scale then."""
    there: Any = written(runs / f"plain {model}", f"model={model}")
    words = {"sngan": "model=sngan_projection", "dcgan": "model=cdcgan"}
    labelled = ("+model.generator.classes=10", "+model.generator.conditioning=concatenation")
    here: Any = begun(runs / f"plain {model}", *([words[model]] if model in words else ["model=pggan", *labelled]))[0]
    z = torch.randn(2, there.latent_dim)
    if model == "sngan":
        made = here.generator.eval()(z, torch.tensor([3, 7]))
    else:
        first = here.generator.input if model == "pggan" else here.generator.layers[0]
        with torch.no_grad():
            (first.weight[:, 8:] if model == "pggan" else first.weight[8:]).zero_()
        if model == "pggan":  # z is normalised with the label here, by sqrt((|z|^2 + 1) / 18) and not sqrt(|z|^2 / 8)
            wanted = there.generator.input.weight * there.generator.input.scale
            assert torch.allclose(first.weight[:, :8] * first.scale, wanted)
            return
        made = here.generator.eval()(z, torch.tensor([3, 7]))
    assert torch.allclose(made, there.generator.eval()(z), atol=1e-6)


def test_one_without_labels_has_the_mean_of_the_classes(runs: Path) -> None:
    there: Any = written(runs / "labelled", "model=sngan_projection", names=tuple(LETTERS))
    here: Any = begun(runs / "labelled", "model=sngan")[0]
    norms = there.generator.blocks[0].norm1, here.generator.blocks[0].norm1
    assert torch.allclose(norms[1].weight, 1 + norms[0].gain.weight.mean(0))
    assert torch.equal(norms[1].running_var, norms[0].norm.running_var)


def test_blocks_of_another_resolution_are_those_of_the_same_size(runs: Path) -> None:
    there: Any = written(runs / "small", "model=stylegan2")
    here: Any = begun(runs / "small", "model=stylegan2", "data.resolution=64")[0]
    for i in range(3):
        assert (
            difference(here.discriminator.blocks[i + 1].state_dict(), there.discriminator.blocks[i].state_dict()) == {}
        )
    ws = torch.randn(1, 8, 8)
    images = [model.generator.synthesis for model in (there, here)]
    x = rgb = None
    for synthesis in images:
        maps = synthesis.const[None]
        for i, block in enumerate(synthesis.blocks[:4]):
            maps, rgb = block(maps, *ws.unbind(1)[max(2 * i - 1, 0) :][:1], *ws.unbind(1)[2 * i : 2 * i + 2], None)
        assert x is None or (torch.equal(x[0], maps) and torch.equal(x[1], rgb))
        x = maps, rgb


def test_reference_images_are_those_of_the_new_data(runs: Path) -> None:
    words = ("model=dcgan", "model.discriminator.reference_batch=4")
    there: Any = written(runs / "virtual", *words)
    there.discriminator.reference.rows.zero_()
    checkpoint: dict[str, Any] = {"state_dict": there.state_dict()}
    there.on_save_checkpoint(checkpoint)
    resume.write(checkpoint, runs / "virtual")
    here: Any = begun(runs / "virtual", *words)[0]
    assert here.discriminator.reference.rows.isnan().all()


# ------------------------------------------------------------------------------------------ commands


def test_settings_come_from_the_run_unless_typed(runs: Path, tmp_path: Path) -> None:
    """Widths, the length of z, the layers; said in a line. A run that goes on has them when the first is gone."""
    narrow = ("model.generator.width=3", "model.discriminator.width=2", "model.generator.latent_dim=7")
    written(runs / "narrow", "model=dcgan", *narrow)
    common = ("model=dcgan", f"model.pretrained={runs / 'narrow'}", "logger=none", "trainer=cpu", *COMMON)
    words = (*common, "images=8", "callbacks.checkpoints.every=4", "hydra.run.dir=a", "trainer.precision=32-true")
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    begin = done.stdout.index("as in ")
    assert done.stdout[begin:].splitlines()[0] == (
        f"as in {runs / 'narrow'}: generator.latent_dim=7 generator.width=3 discriminator.width=2"
    )
    assert "\n  generator: taken 19 of 19 tensors\n  discriminator: taken 14 of 14 tensors\n" in done.stdout
    assert OmegaConf.load(tmp_path / "a" / "config.yaml").model.generator.width == 3

    (runs / "narrow").rename(runs / "gone")
    again = run("ckpt=a", "images=12", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert resume.load(tmp_path / "a" / "checkpoints" / "last.ckpt")["gan_experiments"]["images_seen"] == 12

    (runs / "gone").rename(runs / "narrow")
    wide = run(*common, "experiment=digits", "check=true", folder=tmp_path)
    assert wide.returncode == 2
    assert wide.stderr.strip() == (
        f"model.pretrained={runs / 'narrow'}: its generator has width=3 and this one 32; type model.generator.width=3,"
        " or model.pretrained= another run"
    )


# ------------------------------------------------------------------------------------------ freeze_d

WITH_DISCRIMINATOR = [model for model in GENERATIVE if model not in ("srresnet", "rrdb_psnr")]
GROWS = {"pggan": ["model.start_resolution=32"], "stylegan": ["model.start_resolution=32"]}


def distinct() -> list[str]:
    """One model for each set of discriminators."""
    found: dict[str, str] = {}
    for model in WITH_DISCRIMINATOR:
        kinds: dict[str, dict[str, Any]] = {}
        for file in reversed([*inherited(model)]):
            for name, node in OmegaConf.to_container(file, resolve=False).items():  # type: ignore[union-attr]
                if str(name).startswith("discriminator"):
                    kinds.setdefault(str(name), {}).update(node if isinstance(node, dict) else {"like": node})
        told = [(name, *map(node.get, ("_target_", "conditioning", "like"))) for name, node in kinds.items()]
        found.setdefault(repr(told), model)
    return [*found.values()]


@pytest.mark.parametrize("model", distinct())
def test_exactly_the_first_layers_of_each_discriminator_stay(model: str, tmp_path: Path) -> None:
    """The first two that an image goes through, in each part that sees it; all others learn."""
    cfg = small(tmp_path / "run", model, *GROWS.get(model, []))
    number = 1 if model == "unrolled_gan" else 2  # of two layers
    technique = {"_target_": "gan_experiments.techniques.freeze_d.FreezeD", "layers": number}
    OmegaConf.update(cfg, "technique.freeze_d", technique, force_add=True)
    module = build.build_model(cfg)
    assert isinstance(module, Game)
    module.configure_model()
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    networks = module.networks_of("discriminator")
    order: dict[str, list[nn.Module]] = {name: [] for name in networks}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _, name=name: order[name].append(layer))  # type: ignore[misc]
        for name, network in networks.items()
        for layer in network.modules()
    ]
    before = {name: {k: v.clone() for k, v in network.named_parameters()} for name, network in networks.items()}
    drive(module, batches_of(data, 1))
    for hook in hooks:
        hook.remove()
    for name, network in networks.items():
        stays = {key for key, value in network.named_parameters() if torch.equal(value, before[name][key])}
        frozen = {key for key, value in network.named_parameters() if id(value) in (module._frozen or ())}
        assert frozen <= stays
        patches = [
            p for p in network.children() if isinstance(p, nn.ModuleList) and type(network).__name__.startswith("Multi")
        ]
        parts = [*patches[0]] if patches else [network]
        expected = {id(layer) for part in parts for layer in first_layers(part, order[name], number)}
        matrices = {
            id(owner)
            for path, owner in network.named_modules()
            if "parametrizations" not in path
            and matrix_of(owner) is not None
            and id(matrix_of(owner)) in module._frozen
        }
        assert matrices == expected


def matrix_of(layer: nn.Module) -> nn.Parameter | None:
    """The matrix or kernel of a layer that looks at images or maps of them."""
    own = dict(layer.named_parameters(recurse=False))
    if hasattr(layer, "parametrizations"):
        own |= {"weight": layer.parametrizations.weight.original}  # type: ignore[union-attr, dict-item]
    other = ("Virtual", "Embedding", "ParametrizedEmbedding", "ParametrizationList")
    norm = type(layer).__name__.startswith(other)
    return next((value for value in own.values() if value.ndim > 1 and not norm), None)


def first_layers(part: nn.Module, order: list[nn.Module], number: int) -> list[nn.Module]:
    """The first layers of a part in the order in which they were called."""
    inside = {id(module) for module in part.modules()}
    called = dict.fromkeys(layer for layer in order if id(layer) in inside and matrix_of(layer) is not None)
    return [*called][:number]


def test_frozen_layers_are_those_of_the_run_and_a_resume_is_exact(runs: Path, tmp_path: Path) -> None:
    there: Any = written(runs / "to freeze", "model=dcgan")
    words = (*COMMON, "model=dcgan", f"model.pretrained='{runs / 'to freeze'}'", "technique=[freeze_d,r1]", "images=16")
    cfg = config(tmp_path / "straight", *words)
    start = lambda model: pretrained.take_up(model, model.pretrained, cfg.model, ())  # noqa: E731
    straight: Any = train(cfg, every=8, change=start)
    layers, before = straight.discriminator.layers, there.discriminator.layers
    assert torch.equal(layers[0].weight, before[0].weight)
    assert difference(layers[3].state_dict(), before[3].state_dict()) == {}  # the norm of the second
    assert not torch.equal(layers[5].weight, before[5].weight)
    half = config(tmp_path / "half", *words)
    half.images = 8
    train(half, every=8, change=start)
    half.images = 16
    half.ckpt = str(tmp_path / "half")
    resumed = train(half, checkpoint=tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert difference(resumed.state_dict(), straight.state_dict()) == {}


def test_more_layers_than_there_are_is_one_line(tmp_path: Path) -> None:
    for model, technique, message in (
        (
            "dcgan",
            "[freeze_d]",
            "model.discriminator has 4 layers and 4 are to be frozen; type technique.freeze_d.layers=3",
        ),
        (
            "pggan",
            "[freeze_d,gradient_penalty]",
            "the first layers of a discriminator that grows come last; type model",
        ),
    ):
        cfg = small(tmp_path / "run", model, f"technique={technique}")
        cfg.technique.freeze_d.layers = 4
        (line,) = check.faults(cfg)
        assert line.startswith(f"technique=freeze_d: {message}")


def test_freezing_what_was_drawn_is_remarked(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "dcgan", "technique=[freeze_d]")
    said = [*check.remarks(cfg, build.build_model(cfg))]
    assert any(line.startswith("technique=[freeze_d] without model.pretrained=") for line in said)
