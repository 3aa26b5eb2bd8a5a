"""benchmarks/peers.py: a peer's script is counted and stopped, its networks are taken, a missing clone is told."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import pytest
import torch
from support import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

import peers
from learning import composed
from torch import nn

SCRIPT = """
import sys
import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.utils import save_image

class Judge(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, width, bias=opt.bias), nn.Linear(width, 1), nn.Sigmoid())

    def forward(self, images):
        return self.layers(images.view(len(images), -1))

def sample_images():
    raise AssertionError("sheets are not drawn")

opt = type("opt", (), {"bias": False})
size = int(sys.argv[1])
loader = DataLoader(datasets.MNIST("nowhere", download=True), batch_size=size, shuffle=True, num_workers=4)
players = [Judge(8), Judge(16)]
optimizers = [torch.optim.SGD(player.parameters(), lr=0.1) for player in players]
for images, _ in loader:
    with open("batches.txt", "a") as file:
        file.write(f"{tuple(images.shape)}\\n")
    for number in (0, 1, 1):
        optimizers[number].zero_grad()
        players[number](images).mean().backward()
        optimizers[number].step()
    sample_images()
    save_image(images, "nowhere/sheet.png")
"""
PARAMETERS = 64 * 8 + 8 + 1 + 64 * 16 + 16 + 1


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clones with one, and a case of it."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "train.py").write_text(SCRIPT)
    given = {"opt": type("opt", (), {"bias": True})}
    case = peers.Case(
        "tiny",
        "tiny",
        "train.py",
        ("4",),
        (),
        (1, 8, 8),
        images=4,
        steps=(3, 2),
        cycles=5,
        differs="nothing",
        parts={"discriminator": peers.Part("train.py", "Judge", (8,), given=given)},
    )
    monkeypatch.setitem(peers.CASES, "tiny", case)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_script_is_measured_and_ends_with_the_last_step_of_its_last_cycle(clone: Path) -> None:
    result = clone / "measured.json"
    if not (child := os.fork()):
        try:
            peers.drive("tiny", "theirs", clone, clone, result)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert (clone / "batches.txt").read_text().splitlines() == ["(4, 1, 8, 8)"] * (peers.WARM + 5)
    found = peers.Measured(**json.loads(result.read_text()))
    assert found.parameters == PARAMETERS
    assert found.start > 0
    assert found.ms > 0
    assert found.memory > 10


def test_steps_that_choose_the_precision_are_not_the_trainings(tmp_path: Path) -> None:
    watch = peers.Watch(1, 5, 1, tmp_path / "measured.json")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=0.1)
    names: dict[str, object] = {}
    for file in ("fastest.py", "other.py"):
        exec(compile("def step(watch, optimizer): watch(optimizer)", f"{os.sep}{file}", "exec"), names)
        names["step"](watch, optimizer)  # type: ignore[operator]
        assert len(watch.times) == (file == "other.py")


def test_a_network_is_taken_from_a_script_without_running_it_and_ends_in_logits(clone: Path) -> None:
    network = peers.Theirs(str(clone), "tiny", "discriminator")
    assert sum(p.numel() for p in network.parameters()) == 64 * 8 + 8 + 8 + 1
    logits = network(torch.randn(6, 1, 8, 8).to(memory_format=torch.channels_last) * 100)
    assert logits.shape == (6,)
    assert logits.abs().max() > 1


def test_a_clone_that_is_missing_is_one_line_that_says_what_to_clone(clone: Path) -> None:
    there, lines = peers.present(["tiny", "sngan", "wgan_gp"], clone)
    assert there == ["tiny"]
    place = clone / "mimicry"
    told = f"{place} is not there: git clone https://github.com/kwotsin/mimicry {place}; left out: sngan, wgan_gp"
    assert lines == [told]


@pytest.mark.parametrize("name", ["dcgan_32", "cyclegan"])
def test_our_command_names_neither_precision_nor_layout(name: str, tmp_path: Path) -> None:
    cfg = composed(*peers.CASES[name].command(name, tmp_path, tmp_path))
    assert (cfg.trainer.precision, cfg.trainer.channels_last) == ("auto", "auto")
    assert cfg.images > 100 * cfg.data.batch_size
    assert all(cfg.model[part]._target_ == "peers.Theirs" for part in peers.CASES[name].parts)


def test_a_row_holds_both_sides_and_the_networks_are_the_same(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = clone / "tiny" / "cache" / "fastest" / "any.json"
    answer.parent.mkdir(parents=True)
    answer.write_text('{"found": {"precision": "32-true", "channels_last": true}}')
    measured = {
        "theirs": [peers.Measured(2.0, ms, 500.0, 7) for ms in (3.0, 4.0, 6.0)],
        "ours": [peers.Measured(start, 2.0, 600.0, 7) for start in (9.0, 5.0, 6.0)],
    }
    turns: list[str] = []

    def measure(name: str, side: str, *_: Path) -> peers.Measured:
        turns.append(side)
        return measured[side][turns.count(side) - 1]

    monkeypatch.setattr(peers, "measure", measure)
    told = "tiny; nothing | tiny | 4 (3-6) / 2 (2-2) | **2.00 (1.50-3.00)** | 2.0 / 5.5 (9.0) | 500 / 600"
    assert peers.row("tiny", clone, clone, 3) == f"| {told} | 32-true, channels last |"
    assert turns == ["theirs", "ours"] * 3

    turns.clear()
    measured["ours"][2].parameters = 8
    with pytest.raises(AssertionError, match="not the same parameters"):
        peers.row("tiny", clone, clone, 3)
