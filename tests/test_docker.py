"""The Dockerfile: what it names exists, it keeps no secrets, and its processes are no root's."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import REPOSITORY

from gan_experiments.launch import entry

sys.path.append(str(REPOSITORY / "benchmarks"))

import docker_steps
from docker_steps import chain, copied, environment, instructions, last, stages

TEXT = (REPOSITORY / "Dockerfile").read_text()
FOUND = stages(TEXT)
TARGETS = [name for name in FOUND if last(FOUND, name, "ENTRYPOINT") is not None]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
DOCS = (REPOSITORY / "docs" / "docker.md").read_text()


def test_there_is_an_image_for_each_use() -> None:
    assert {"train", "serve"} <= set(TARGETS)
    assert [*FOUND][-1] == "train"  # what `docker build` makes without --target


@pytest.mark.parametrize("target", TARGETS)
def test_the_command_of_an_image_exists(target: str) -> None:
    entrypoint, command = last(FOUND, target, "ENTRYPOINT"), last(FOUND, target, "CMD")
    assert entrypoint is not None
    assert entrypoint.words[0] in PROJECT["scripts"]
    if command is not None and command.words != ["--help"]:
        verb, *words = command.words
        assert verb in entry.VERBS
        keys = OmegaConf.load(REPOSITORY / "conf" / f"{verb}.yaml")
        assert {word.partition("=")[0] for word in words} <= {str(key) for key in keys}


@pytest.mark.parametrize("target", TARGETS)
def test_the_user_is_not_root_and_owns_the_volumes(target: str) -> None:
    user, volumes = last(FOUND, target, "USER"), last(FOUND, target, "VOLUME")
    assert user is not None
    assert volumes is not None
    made = "\n".join(one.rest for stage in chain(FOUND, target) for one in stage.instructions if one.name == "RUN")
    number = re.search(rf"useradd --uid (\d+) .*{user.rest}$", made, re.MULTILINE)
    assert number is not None
    assert int(number[1]) >= 1000
    owned = re.search(rf"install --directory --owner {user.rest} --group {user.rest} (.*)$", made, re.MULTILINE)
    assert owned is not None
    assert set(volumes.words) <= set(owned[1].split())
    after = [one.name for stage in chain(FOUND, target) for one in stage.instructions]
    assert "RUN" not in after[after.index("USER") :]  # what is installed belongs to root


def test_what_is_installed_is_named_in_the_project() -> None:
    arguments = dict(one.rest.split("=", 1) for one in instructions(TEXT) if one.name == "ARG")
    named = {arguments["EXTRAS"], *re.findall(r"`([\w,]+)` (?:is the usual one|also serves|trains on)", DOCS)}
    extras = {extra for words in named for extra in words.split(",") if "python" not in words}
    assert {"serve", "export", "sweep", "medical"} == extras
    assert extras <= set(PROJECT["optional-dependencies"])
    assert set(re.findall(r"`(\w+)=`", DOCS)) == set(arguments)


def test_what_is_copied_is_there_and_is_sent_and_nothing_else() -> None:
    patterns = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    sources = [
        word
        for one in instructions(TEXT)
        if one.name == "COPY" and not one.rest.startswith("--from")
        for word in one.words[:-1]
    ]
    assert sources
    for word in sources:
        assert (REPOSITORY / word).exists()
        assert copied(Path(word), patterns), word
    for word in ("src/gan_experiments/run.py", "conf/model/dcgan.yaml"):
        assert copied(Path(word), patterns)
    for word in (".git/config", "outputs/a/b.ckpt", ".env", "tests/conftest.py", "docs/runs.md", "data/x.png"):
        assert not copied(Path(word), patterns), word
    assert not copied(Path("src/gan_experiments/__pycache__/api.cpython-312.pyc"), patterns)
    built = PROJECT["readme"], *PROJECT["license-files"]
    assert set(built) <= set(sources)


def test_caches_lie_in_the_volumes_and_nothing_is_secret() -> None:
    values = environment(FOUND, "train")
    assert all(value.startswith("/cache/") for key, value in values.items() if re.search("CACHE|HOME|DIR", key))
    assert {"GAN_EXPERIMENTS_CACHE", "TORCH_HOME", "WANDB_DATA_DIR"} <= set(values)
    assert not re.search(r"(?i)token|password|api_key|https?://(?!127\.0\.0\.1)", TEXT)


def test_the_health_check_asks_what_the_service_answers() -> None:
    check = last(FOUND, "serve", "HEALTHCHECK")
    port = last(FOUND, "serve", "EXPOSE")
    assert check is not None
    assert port is not None
    assert f":{port.rest}/health" in check.rest
    assert OmegaConf.load(REPOSITORY / "conf" / "serve.yaml").port == int(port.rest)
    assert '"/health"' in (REPOSITORY / "src" / "gan_experiments" / "service" / "app.py").read_text()


def test_steps_are_read_as_docker_reads_them() -> None:
    text = "ARG A=1\nFROM x AS one\nRUN a \\\n    b\n# c\nENV P=/q/r:/s \\\n    Q=2\n"
    text += "FROM one AS two\nCOPY --from=one /a /b\n"
    found = stages(text)
    assert [one.rest for one in found["one"].instructions] == ["a b", "P=/q/r:/s Q=2"]
    assert environment(found, "two") == {"P": "/q/r:/s", "Q": "2"}
    assert [stage.name for stage in chain(found, "two")] == ["one", "two"]
    assert docker_steps.last(found, "two", "RUN") == docker_steps.Instruction("RUN", "a b", 3)
