"""StarGAN: a step of the authors' code, where its targets come from, and what its directions ask for."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose, shrink, small, small_data, train
from test_steps_official import Recorded, filled, formula
from torch import Tensor

from gan_experiments import distributed
from gan_experiments.assembly import build, check, trained
from gan_experiments.contracts import ConfigError
from gan_experiments.models.image_to_image import Direction
from gan_experiments.models.stargan import StarGAN

LABEL, ORDER = torch.tensor([0, 2, 1, 2]), torch.tensor([2, 0, 3, 1])
SEVERAL = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 1]])
HAIR = ["Black_Hair", "Blond_Hair", "Male"]


def attributes(folder: Path, *words: str) -> Any:
    """A small run on CelebA's attributes."""
    return shrink(
        compose(folder, "model=stargan", "data=domains_celeba", *small_data(folder, "domains_celeba"), *words)
    )


# Terms and fingerprints of the gradients of one iteration of train() in stargan 94dd002's solver.py, at float64.
OFFICIAL: dict[str, Any] = {
    "exclusive": (
        [0.002299580838814874, 7.382025066796058, 10907.557973606712],
        [-0.7027745756333109, 6.12866412487052, 5.700071325081737],
        (30971.445419810854, 36043.83275653011, -12752.724020792904),
        (45.913627373480516, 18.977556979752833, -45.473988287314405),
    ),
    "attributes": (
        [0.02362367820999145, 5.542693309304813, 11002.668871857579],
        [-0.724015626775685, 5.981684491674661, 5.695276593563659],
        (30900.47439974285, 34868.72878101577, -13556.347704116904),
        (42.866228050953566, 35.834899847064676, -51.41688912704919),
    ),
}


@pytest.mark.parametrize("kind", OFFICIAL)
def test_a_batch_is_an_iteration_of_the_authors_solver(kind: str, tmp_path: Path) -> None:
    """Their weights, targets and α; cross entropy as for RaFD, binary ones summed over attributes as for CelebA."""
    module = build.build_model(small(tmp_path, "stargan", "model.n_critic=1")).double()
    assert isinstance(module, StarGAN)
    module.attributes = HAIR if kind == "attributes" else []
    for name in module.network_names:
        filled(getattr(module, name))
    optimizers = [Recorded(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, misc]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    module.draw = lambda sampler, n: 0.5 + formula(1001, n) if sampler is torch.rand else ORDER  # type: ignore[method-assign, assignment, misc]
    module.on_fit_start()
    module.train()
    domain = SEVERAL.double() if kind == "attributes" else torch.eye(3, dtype=torch.float64)[LABEL]
    module.training_step({"real": 2 * formula(2000, 4, 3, 32, 32), "domain": domain}, 0)

    def term(name: str) -> float:
        return module._history[name][0][1].item()

    terms = (("discriminator", "adversarial", "classification", "gradient_penalty"),)
    terms += (("generator", "adversarial", "classification", "reconstruction"),)  # type: ignore[assignment]
    for (phase, *names), values in zip(terms, OFFICIAL[kind], strict=False):
        assert [term(f"{phase}/{name}") for name in names] == pytest.approx(values, rel=1e-9)
    for optimizer, gradient in zip(("discriminator", "generator"), OFFICIAL[kind][2:], strict=True):
        assert module._optimizers[optimizer].seen == pytest.approx(gradient, rel=1e-8)  # type: ignore[attr-defined]


def test_classification_is_summed_over_attributes_and_a_mean_over_images(tmp_path: Path) -> None:
    module = build.build_model(attributes(tmp_path / "run"))
    assert isinstance(module, StarGAN)
    logits, domains = torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    by_hand = (3 * math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert module.misclassified(logits, domains).item() == pytest.approx(by_hand)
    exclusive = build.build_model(small(tmp_path / "other", "stargan"))
    assert isinstance(exclusive, StarGAN)
    by_hand = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert exclusive.misclassified(logits, domains).item() == pytest.approx(by_hand)


def test_targets_are_the_whole_batch_in_another_order_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each of two ranks, each with its batch in two parts; the same in both phases."""
    module = build.build_model(small(tmp_path, "stargan"))
    assert isinstance(module, StarGAN)
    batch = {"real": torch.zeros(8, 3, 32, 32), "domain": torch.arange(8.0)[:, None].expand(-1, 3)}

    def targets(ranks: int, accumulate: int) -> list[float]:
        found: list[Tensor] = []
        module.run.accumulate = accumulate
        monkeypatch.setattr(distributed, "world_size", lambda: ranks)
        monkeypatch.setattr(distributed, "gather_rows", lambda _: batch["domain"])
        for rank in range(ranks):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            n = 8 // ranks
            own = {key: rows[rank * n : (rank + 1) * n] for key, rows in batch.items()}
            module._batch = own
            module._once.clear()
            for micro, part in enumerate(module._parts(own, n // accumulate)):
                module._micro = micro
                module._seed_draws("discriminator")
                found.append(module.targets(part))
                module._seed_draws("generator")
                assert torch.equal(module.targets(part), found[-1])
        return torch.cat(found)[:, 0].tolist()

    whole = targets(1, 1)
    assert sorted(whole) == list(range(8))
    assert whole != list(range(8))
    assert targets(2, 1) == targets(1, 4) == targets(2, 2) == whole


def test_directions_of_exclusive_domains(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path, "stargan"))
    batch = {"real": torch.rand(2, 3, 32, 32), "domain": torch.eye(3)[:2]}
    assert list(module.directions) == ["0", "1", "2"]
    assert module.wanted(batch, "1").tolist() == [[0, 1, 0], [0, 1, 0]]
    cells = module.sheet(batch)
    assert cells.shape == (2, 4, 3, 32, 32)
    assert torch.equal(cells[:, 0], batch["real"])
    with torch.no_grad():
        expected = module.generator(batch["real"], torch.tensor([[0.0, 0, 1]] * 2))
    torch.testing.assert_close(cells[:, 3], expected)
    assert torch.equal(module.translate({"real": batch["real"]}, "2"), cells[:, 3])  # an image without its domain


def test_a_run_knows_its_domains_by_their_folders_names(tmp_path: Path) -> None:
    """From the checkpoint alone, as the data may be gone; one without names goes by numbers."""
    train(small(tmp_path / "run", "stargan", "images=2"), every=2)
    shutil.rmtree(tmp_path / "domains")
    module = trained.open_run(str(tmp_path / "run"), "cpu").model
    assert isinstance(module, StarGAN)
    assert list(module.directions) == ["black", "blond", "brown"]
    assert [module.direction(to) for to in ("", "blond", "2")] == ["black", "blond", "brown"]
    batch = {"real": torch.rand(1, 3, 32, 32)}
    assert torch.equal(module.translate(batch, "blond"), module.translate(batch, "1"))
    assert module.wanted(batch, "blond").tolist() == [[0, 1, 0]]
    with pytest.raises(ConfigError, match=r"^to=3: .*; type to=black or to=blond or to=brown$"):
        module.translate(batch, "3")

    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["gan_experiments"]["class_names"]
    torch.save(checkpoint, path)
    module = trained.open_run(str(tmp_path / "run"), "cpu").model
    assert list(module.directions) == ["0", "1", "2"]  # type: ignore[arg-type]


def test_a_name_that_is_a_number_means_the_folder(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path, "stargan"))
    module.name_classes(["1", "2", "3"])
    assert [module.direction(to) for to in ("1", "3", "0")] == ["1", "3", "1"]
    assert module.wanted({"real": torch.rand(1, 3, 32, 32)}, "1").tolist() == [[1, 0, 0]]


def test_directions_of_attributes(tmp_path: Path) -> None:
    """create_labels of the authors' code: an attribute turns into its contrary, but of hair colours there is one."""
    module = build.build_model(attributes(tmp_path / "run"))
    module.attributes = HAIR
    module.directions = {name: Direction("real", number=number) for number, name in enumerate(HAIR)}
    batch = {"real": torch.rand(4, 3, 32, 32), "domain": SEVERAL}
    assert module.wanted(batch, "Male").tolist() == [[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]]
    assert module.wanted(batch, "Blond_Hair").tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert torch.equal(batch["domain"], SEVERAL)
    module.judge = lambda images: (None, 2 * SEVERAL - 1) if images.shape[-1] == 32 else None
    photograph = {"real": torch.rand(4, 3, 48, 40)}
    assert torch.equal(module.wanted(photograph, "Male"), module.wanted(batch, "Male"))


def test_it_learns_several_attributes_at_once(tmp_path: Path) -> None:
    cfg = attributes(tmp_path / "run", "images=8")
    check.require(cfg)
    after = train(cfg)
    assert list(after.directions) == ["Male", "Young"]  # type: ignore[arg-type]
    assert all(torch.isfinite(p).all() for p in after.parameters())


@pytest.mark.parametrize(("resolution", "multiple"), [(32, 64), (96, 128), (100, 128)])
def test_a_smaller_resolution_takes_what_the_message_says(resolution: int, multiple: int, tmp_path: Path) -> None:
    """At the default depth; as deep as leaves 2x2 or more."""
    cfg = compose(tmp_path, "model=stargan", f"data.resolution={resolution}")
    with pytest.raises(ConfigError, match=r"it needs one that 64 divides") as caught:
        check.require(cfg)
    (fault,) = caught.value.faults
    word, other = fault.partition("; type ")[2].split(" or ")
    assert other == f"data.resolution={multiple}"
    for words in ([f"data.resolution={resolution}", word], [other]):
        cfg = compose(tmp_path, "model=stargan", *words)
        check.require(cfg)
        with torch.device("meta"):
            module = build.make(cfg.model)
            images = torch.empty(2, 3, cfg.data.resolution, cfg.data.resolution)
            _, classes = module.judge(module.generator(images, torch.empty(2, 2)))
        assert classes.shape == (2, 2)


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (["data=domains_celeba"], [8_430_528, 44_762_048]),
        (["data.classes=8"], [8_439_936, 44_786_624]),  # RaFD
    ],
)
def test_as_configured_it_has_the_official_sizes_and_weights(
    words: list[str], sizes: list[int], tmp_path: Path
) -> None:
    cfg = compose(tmp_path, "model=stargan", *words)
    with torch.device("meta"):
        module = build.make(cfg.model)
    assert list(build.parameters(module).values()) == sizes
    assert (module.gp_weight, module.classification_weight, module.reconstruction_weight) == (10, 1, 10)
    assert [phase.every for phase in module.phases()] == [1, 5]
    rates = [[schedule(images * cfg.images) for images in (0, 0.5, 0.75, 1)] for schedule in module.schedules.values()]
    assert rates == [[1, 1, 0.5, 0]] * 2


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_networks_of_other_classes_than_the_data_are_refused(player: str, tmp_path: Path) -> None:
    for classes, said in (
        (7, f"model.{player} has 7 classes and data 3; set both by data.classes"),
        (0, "of 1 or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            check.require(small(tmp_path / "run", "stargan", f"model.{player}.classes={classes}"))
