"""How the verbs answer wrong values: every key of every group and verb, given each kind of wrong value.

    python benchmarks/wrong_inputs.py              # all: some thousand cases
    python benchmarks/wrong_inputs.py --most 300   # an even selection
    python benchmarks/wrong_inputs.py --only data.batch_size
    python benchmarks/wrong_inputs.py --part 2/12 --json 2.jsonl   # a part, which goes on where it was interrupted

Each case is a fork of one warm process, with an empty working folder and no standard input. It is right where it ends
with status 2, at most one line, no traceback and nothing left behind within 10 seconds of its processor; or with
status 0 where the type of the key allows the value. What the type does not allow must be refused.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from gan_experiments import bounds
from gan_experiments.assembly import check, options
from gan_experiments.exploration.directions import Directions
from gan_experiments.launch import entry
from gan_experiments.runs import configs, resume

SECONDS = 10  # of the processor
PATIENCE = 90  # of the clock, on a machine that does other things too
VERBS = tuple(entry.VERBS)
GROUPS = ("model", "data", "technique", "loss", "augment", "perceptual", "metrics", "logger", "callbacks", "trainer")
SERVES = ("serve", "demo")
"""Verbs that do not end by themselves."""
SMALL = ["images=4", "logger=csv", "trainer=cpu", "metrics=none", "data.batch_size=4"]
NARROW = ["model.generator.width=4", "model.discriminator.width=4"]
READERS = {
    "paired": "pix2pix",
    "unpaired": "cyclegan",
    "glyphs": "zi2zi",
    "super_resolution": "srresnet",
    "masked_random": "context_encoder_random",
    "masked": "context_encoder",
    "domains_celeba": "stargan",
    "domains": "stargan",
    "grid": "wgan_gp_toy",
    "ring": "wgan_gp_toy",
    "drums": "wavegan",
    "waves": "wavegan",
    "moving_digits": "mocogan",
    "clips": "mocogan",
    "shapes": "gan3d",
    "voxels": "gan3d",
}
"""A model for each kind of data that the usual one does not read."""
FIT = {
    "stargan": ["model.discriminator.layers=4"],
    "cyclegan": ["model.generator_ab.width=4", "model.generator_ab.blocks=1"],
}
"""What a model needs at 32 x 32."""
SCORED = {
    **dict.fromkeys(("digits_clips", "i3d"), "mocogan"),
    **dict.fromkeys(("drums", "sounds", "vggish"), "wavegan"),
    "paired": "pix2pix",
    "volumes": "gan3d",
}
"""A model of what metrics are of, where that is not images."""
PROGRESS = re.compile(r".*: downloading$|.*Loaded pretrained weights for efficientnet-lite0$|Downloading: ")
"""Lines that tell of long work, and are no answer."""
FILES = ("run", "ckpt", "a", "b", "weights", "real", "fake", "test", "mask", "images", "runs", "root", "directions")
"""Keys that name files which have to be there."""


FIXED = [
    *("logger=null", "loss=[hinge,minimax]", "resume=1", "check=banana", "~trainer", "model.generator.widht=4"),
    *("data.batch_size=1000000000000", "metrics.num_real=100000", "technique=[r1x]", "images="),
    *("output=nan", "model._target_=gan_experiments.models.noise_to_image.NoiseToImagex"),
]
"""Words of run.py of which the tests try each."""


@dataclass
class Case:
    """A command, what is wrong in it, and whether its key's type allows the value all the same."""

    verb: str
    words: list[str]
    key: str
    kind: str
    allowed: bool = False


@dataclass
class Answer:
    """What came of a case."""

    case: Case
    status: int
    lines: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def fault(self) -> str:  # noqa: PLR0911
        """Why it is not right; nothing where it is."""
        text = "\n".join(self.lines)
        if self.status < 0 or self.seconds > SECONDS:
            return "too slow"
        if "Traceback (most recent call last)" in text:
            return "traceback"
        if self.status == 0:
            return "" if self.case.allowed else "accepted"
        if self.status != 2:
            return "" if self.status == 1 and self.case.allowed and len(self.lines) <= 1 else f"status {self.status}"
        if self.left:
            return "files left behind"
        if len(self.lines) > 1:
            return "several lines"
        named = self.case.allowed or any(part in text for part in re.findall(r"\w+", self.case.key)[-1:])
        return "" if named else "another reason"


# -------------------------------------------------------------------- the cases


def values(usual: Any, key: str) -> Iterator[tuple[str, str]]:
    """Wrong values for a key by what it usually is: the kind of mistake, and the value as it is typed."""
    yield "null", "null"
    yield "a group", "{x:1}"
    if isinstance(usual, bool):
        yield from (("type", word) for word in ("banana", "2", "1", "yes", "[true]"))
        return
    if isinstance(usual, (int, float)):
        yield from (("type", word) for word in ("banana", "true", "[1]", "''"))
        yield from (("sign", "-1"), ("zero", "0"), ("huge", str(10**15)), ("nan", "nan"), ("nan", "inf"))
        if isinstance(usual, int):
            yield "type", "1.5"
    elif isinstance(usual, list):
        yield from (("type", "banana"), ("type", "5"), ("type", "[banana,-1]"), ("zero", "[]"), ("nan", "[nan]"))
    elif isinstance(usual, dict):
        yield from (("type", "banana"), ("type", "5"), ("type", "[1]"))
    else:
        yield from (("type", "[1]"), ("type", "-1"), ("type", "nan"), ("choice", "bananna"), ("zero", "''"))


def of_run(places: dict[str, Path]) -> Iterator[Case]:
    """The cases of the verb that trains: each argument of each class once, and each key beside."""
    seen: set[str] = set()
    for group in GROUPS:
        choices = sorted(path.stem for path in (configs.conf_dir() / group).glob("*.yaml"))
        usual = next(iter(entry[group] for entry in _defaults() if group in entry))
        yield Case("run", [f"{group}={choices[0]}x"], group, "choice")
        yield Case("run", [f"{group}=null"], group, "null")
        yield Case("run", [f"+{group}x=1"], group, "key")
        if group not in ("technique", "logger"):  # of which there may be several
            yield Case("run", [f"{group}=[{choices[0]},{choices[-1]}]"], group, "type")
        for choice in sorted(choices, key=lambda one: one != usual):
            typed = f"technique=[{choice}]" if group == "technique" else f"{group}={choice}"
            yield from _of_choice(typed, group, seen, places)
    for key in (*bounds.OPTIONS["run"], "seed"):
        if "." not in key and key not in GROUPS:
            yield from _of_key("run", [], key, OmegaConf.load(configs.conf_dir() / "run.yaml").get(key), places)


def _defaults() -> list[Any]:
    entries = OmegaConf.load(configs.conf_dir() / "run.yaml").defaults
    return [entry for entry in entries if isinstance(entry, DictConfig)]


def _of_choice(typed: str, group: str, seen: set[str], places: dict[str, Path]) -> Iterator[Case]:
    """The arguments of a choice's classes that no choice before it had."""
    choice = typed.partition("=")[2].strip("[]")
    if group == "model" and "_target_" not in OmegaConf.load(configs.conf_dir() / group / f"{choice}.yaml"):
        return  # it only changes values of another
    file = configs.of_choice(group, choice)
    nodes = [*_nodes(OmegaConf.to_container(file) or {}, group)]
    if not all(_importable(node["_target_"]) for _, node in nodes):
        return
    words = [typed, *_files_of(typed, places), *_small_words(nodes)]
    for path, node in nodes:
        target = str(node["_target_"])
        for key in node:
            if key in check.SPECIAL or f"{target}.{key}" in seen:
                continue
            seen.add(f"{target}.{key}")
            usual = None if isinstance(node[key], str) and node[key][:2] in ("??", "${") else node[key]
            yield from _of_key("run", words, f"{path}.{key}", usual, places, _hint(target, key))
        if target not in seen:
            seen.add(target)
            yield Case("run", [*words, f"+{path}.bananna=1"], path, "key")
            yield Case("run", [*words, f"{path}._target_={target}x"], path, "choice")
    if group == "model" and "more" not in seen:
        seen.add("more")
        for key, value in (("clip_grad_norm", 1.0), ("schedules", {}), ("ema", {}), ("optimizers", {})):
            yield from _of_key("run", words, f"model.{key}", value, places, bounds.Positive | None)
        for key in ("half_life", "ramp_up"):
            yield from _of_key("run", words, f"model.ema.generator.{key}", 1.0, places, bounds.NotNegative | None)
        for where in ("schedules", "optimizers", "ema"):
            yield Case(
                "run", [*words, f"+model.{where}.generatr={{_target_:torch.optim.Adam}}"], f"model.{where}", "key"
            )
    if group == "trainer" and "trainer" not in seen:
        seen.add("trainer")
        for key, value in OmegaConf.load(configs.conf_dir() / "trainer" / "default.yaml").items():
            hint = bounds.OPTIONS["run"].get(f"trainer.{key}", Any)
            yield from _of_key("run", words, f"trainer.{key}", value, places, hint)


def _nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nodes of a plain config that have a `_target_`, with their paths."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}")


def _hint(target: str, key: str) -> Any:
    return check.signature(get_object(target)).hints.get(key, Any)


def _importable(target: str) -> bool:
    try:
        get_object(target)
    except ImportError:  # of a package that is not here
        return False
    return True


def _of_key(
    verb: str, words: list[str], key: str, usual: Any, places: dict[str, Path], hint: Any = None
) -> Iterator[Case]:
    hint = bounds.OPTIONS[verb].get(key, Any) if hint is None else hint
    if usual is None:  # what it would be
        usual = next((one for one in (True, 1, 1.0, [1.0], "word") if bounds.fits(one, hint)), "word")
    for kind, value in values(usual, key):
        allowed = hint is not Any and bounds.fits(_read(value), hint)
        yield Case(verb, [*words, f"{key}={value}"], key, kind, allowed)
    yield Case(verb, [*words, f"{key}x=1"], key, "key")
    if key.rpartition(".")[2] in FILES:
        for kind in ("missing file", "file for folder", "empty folder", "damaged file", "pipe"):
            yield Case(verb, [*words, f"{key}={places[kind]}"], key, kind, allowed="data=glyphs" in words)  # has fonts


def _read(value: str) -> Any:
    """A value as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(f"x={value}").value()


def _small_words(nodes: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Words that make the networks of a model narrow, where they have such a key."""
    import support

    return [
        f"{path}.{key}={value}"
        for path, node in nodes
        for key, value in support.SMALL.items()
        if path.startswith("model") and isinstance(node.get(key), int) and node[key]
    ]


def _narrow(model: str) -> list[str]:
    """Words that make a model's networks narrow."""
    file = OmegaConf.to_container(configs.of_choice("model", model)) or {}
    return _small_words([*_nodes(file, "model")])


def _files_of(typed: str, places: dict[str, Path]) -> list[str]:
    """What a choice needs to be run at all: small files of its kind, no weights."""
    import support

    group, _, choice = typed.partition("=")
    words: list[str] = []
    if group == "model":
        data = [
            str(value)
            for node in support.inherited(choice)
            for entry in node.get("defaults", [])
            if not isinstance(entry, str)
            for key, value in entry.items()
            if str(key).startswith("override /data")
        ]
        words = support.small_data(places["data"] / "x", data[0]) if data and data[0] in support.SMALL_DATA else []
        words += support.WITHOUT_WEIGHTS.get(choice, [])
    if group == "data" and choice in support.SMALL_DATA:
        model = next((name for start, name in READERS.items() if choice.startswith(start)), "dcgan")
        words = [*support.small_data(places["data"] / "x", choice), f"model={model}", *_narrow(model)]
        words += support.WITHOUT_WEIGHTS.get(model, []) + FIT.get(model, [])
    elif group == "data" and choice in READERS:
        words = [f"model={READERS[choice]}", *_narrow(READERS[choice])]
    if group == "metrics" and choice in SCORED:
        words = [f"model={SCORED[choice]}", *_narrow(SCORED[choice])]
    if typed == "metrics=torchvision":  # whose weights have to be said
        words = ["metrics.extractor.weights=null", "metrics.num_fake=8", "metrics.num_real=8"]
    if group == "perceptual":
        words = [*support.small_data(places["data"] / "x", "super_resolution"), "model=srgan", "model.pixel_weight=4"]
    return words


def of_verb(verb: str, places: dict[str, Path]) -> Iterator[Case]:
    """The cases of a verb that does not train."""
    given = {
        "sample": [f"run={places['run']}", "n=4", "device=cpu"],
        "evaluate": [f"run={places['run']}", "metrics=digits", "n=20", "device=cpu"],
        "translate": [f"run={places['translator']}", f"images={places['photo']}", "device=cpu", "out=translated"],
        "explore": [f"run={places['run']}", "device=cpu"],
        "compare": [f"runs=[{places['run']}]"],
        "interpolate": [f"a={places['run']}", f"b={places['run']}"],
        "convert": [f"weights={places['damaged file']}"],
        "usefulness": [f"run={places['run']}", "steps=1", "seeds=1", "parts=[1.0]", "n=8", "device=cpu"],
        "export": [f"run={places['run']}", "format=safetensors"],
        "serve": [f"run={places['run']}", "port=0", "device=cpu"],
        "demo": [f"run={places['run']}", "port=0", "device=cpu"],
    }[verb]
    usual = options._usual(verb)
    for key in bounds.OPTIONS[verb]:
        value = usual.get(key)
        if key in usual:
            before = [word for word in given if resume.key_of(word) != key]
            before += ["what=mixing"] if verb == "explore" else []
            yield from _of_key(verb, before, key, None if value == "???" else value, places)
        yield Case(verb, [*given, f"{key}x=1"], key, "key")
    for group in ("what", "metrics", "data", "perceptual"):
        if verb == "explore" or (verb == "evaluate" and group in ("metrics", "data")):
            yield Case(verb, [*given, f"{group}=bananna"], group, "choice")
    if verb != "explore":
        return
    for path in sorted((configs.conf_dir() / "what").glob("*.yaml")):
        node = OmegaConf.load(path)
        for key, hint in check.signature(get_object(node["_target_"])).hints.items():
            if key in node and key not in ("judge", "data", "perceptual"):
                plain = OmegaConf.to_container(node)[key]
                value = None if plain == "???" else plain
                words = [*given, f"what={path.stem}", "perceptual=none"]
                needed = {
                    "project": f"what.images={places['photo']}",
                    "edit": f"what.directions={places['directions']}",
                }
                words += [word for word in (needed.get(path.stem),) if word and resume.key_of(word) != f"what.{key}"]
                yield from _of_key(verb, words, f"what.{key}", value, places, hint)


# -------------------------------------------------------------------- carrying them out


def answer(case: Case) -> Answer:
    """Do a case in a fork of this process."""
    with tempfile.TemporaryDirectory() as folder:
        work, said = Path(folder) / "work", Path(folder) / "said"
        work.mkdir()
        start = time.monotonic()
        child = os.fork()
        if not child:
            _be(case, work, said)
        status = usage = None
        while status is None:
            done, code, usage = os.wait4(child, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(code)
            elif case.verb in SERVES and said.exists() and b"http://" in said.read_bytes():
                os.kill(child, signal.SIGTERM)  # it serves, until it is told to stop
                _, _, usage = os.wait4(child, 0)
                status = 0
            elif time.monotonic() - start > PATIENCE:
                os.killpg(child, signal.SIGKILL)
                _, _, usage = os.wait4(child, 0)
                status = -9
            else:
                time.sleep(0.01)
        text = said.read_text(errors="replace") if said.exists() else ""
        left = [str(path.relative_to(work)) for path in sorted(work.rglob("*"))]
        lines = [line for line in text.splitlines() if line.strip() and not PROGRESS.match(line)]
        return Answer(case, status, lines, left, usage.ru_utime + usage.ru_stime)


def _be(case: Case, work: Path, said: Path) -> None:
    """Be the command; never returns."""
    os.setsid()
    os.chdir(work)
    out = os.open(said, os.O_WRONLY | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    os.close(0)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 2, SECONDS + 5))
    sys.argv = [str(Path(sys.executable).with_name("gan-experiments")), *case.words]  # which other ranks start again
    code = 0
    try:
        entry.do(case.verb)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def prepare(folder: Path, names: tuple[str, ...] = VERBS) -> dict[str, Path]:
    """The files that the cases need: a run, a translator's run, images, and what is damaged."""
    import support

    places = {name: folder / name for name in ("data", "run", "translator", "empty folder", "missing file")}
    for name in ("data", "empty folder"):
        places[name].mkdir(parents=True)
    places["photo"] = support.write_images(folder / "photos", 1) / "0.png"
    places["damaged file"], places["file for folder"] = folder / "damaged.zip", folder / "note.txt"
    places["damaged file"].write_bytes(b"PK\x03\x04 and no more")
    places["file for folder"].write_text("nothing\n")
    places["pipe"] = folder / "none" / "such" / "place"
    if set(names) - {"run", "convert"}:
        support.train(support.small(folder / "run", "dcgan"), every=16)
    places["directions"] = folder / "directions.pt"
    if "explore" in names:
        Directions("z", torch.eye(8)[:1], torch.ones(1), ["one"], None).write(places["directions"])
    if "translate" in names:
        support.train(support.small(folder / "translator", "pix2pix"), every=8)
    for name in ("run", "translator"):
        if (folder / name).is_dir():
            config = resume.load(folder / name / "checkpoints" / "last.ckpt")["gan_experiments"]["config"]
            (folder / name / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    return places


def cases(places: dict[str, Path], verbs: tuple[str, ...] = VERBS) -> list[Case]:
    """All of them; those of training begin with what keeps an accepted value short."""
    found = []
    for verb in verbs:
        for case in of_run(places) if verb == "run" else of_verb(verb, places):
            typed = {resume.key_of(word) for word in case.words}
            short = [w for w in SMALL if resume.key_of(w) not in typed] if verb == "run" else []
            if verb == "run" and "model" not in typed and not any(key.startswith("data") for key in typed):
                short += [w for w in NARROW if resume.key_of(w) not in typed]
            found.append(Case(verb, [*short, *case.words], case.key, case.kind, case.allowed))
    unique = {(case.verb, *case.words): case for case in found}
    return list(unique.values())


def report(answers: list[Answer]) -> str:
    """The table: how many of each kind were answered right, and those that were not."""
    rows: dict[tuple[str, str], list[Answer]] = collections.defaultdict(list)
    for one in answers:
        rows[one.case.verb, one.case.kind].append(one)
    lines = ["| verb | kind | cases | refused | accepted, rightly | not right |", "|---|---|---|---|---|---|"]
    for (verb, kind), some in sorted(rows.items()):
        right = [one for one in some if not one.fault]
        refused = sum(one.status == 2 for one in right)
        lines.append(
            f"| {verb} | {kind} | {len(some)} | {refused} | {len(right) - refused} | {len(some) - len(right)} |"
        )
    right = sum(not one.fault for one in answers)
    spent = sum(one.seconds for one in answers)
    lines += ["", f"{right} of {len(answers)} right; {spent / max(1, len(answers)):.2f} s of a processor each", ""]
    for one in answers:
        if one.fault:
            said = one.lines[-1][:160] if one.lines else ""
            lines.append(f"{one.fault:18}{one.case.verb} {' '.join(one.case.words[-3:])}   {said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=0, help="an even selection of so many cases")
    parser.add_argument("--part", default="0/1", help="k/n: each n-th of them, from the k-th on")
    parser.add_argument("--only", default="", help="cases whose key holds this")
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--fixed", action="store_true", help="the few that the tests try; status 1 if one is not right")
    parser.add_argument("--count", action="store_true", help="only say how many there are")
    parser.add_argument("--json", type=Path, help="keep every answer there, and go on after those that it has")
    typed = parser.parse_args()
    verbs = tuple(typed.verbs.split(","))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GAN_EXPERIMENTS_CACHE"] = f"{folder}/cache"
        os.environ["WANDB_MODE"] = "offline"
        places = prepare(Path(folder), verbs)
        if typed.fixed:
            short = ["images=4", "logger=csv", "trainer=cpu", *NARROW]
            some = [Case("run", [*short, word], resume.key_of(word), "fixed") for word in FIXED]
            some.append(Case("run", [*short, "metrics=none", "callbacks=none"], "", "right", True))
        else:
            some = [case for case in cases(places, verbs) if typed.only in case.key]
        if typed.most and len(some) > typed.most:
            some = [some[index * len(some) // typed.most] for index in range(typed.most)]
        first, _, step = typed.part.partition("/")
        some = some[int(first) :: int(step)]
        if typed.count:
            print(len(some), collections.Counter(case.verb for case in some))
            return
        answers = []
        kept = typed.json or Path(os.devnull)
        if typed.json and kept.is_file():
            known = [json.loads(line) for line in kept.read_text().splitlines()]
            answers = [Answer(Case(**one.pop("case")), **one) for one in known]
        with kept.open("a") as file:
            for case in some[len(answers) :]:
                answers.append(answer(case))
                file.write(json.dumps(asdict(answers[-1])) + "\n")
                file.flush()
                if answers[-1].fault:
                    print(
                        f"{answers[-1].fault}: {' '.join(case.words)}", *answers[-1].lines[:1], sep="\n    ", flush=True
                    )
                print(f"{len(answers)}/{len(some)}", end="\r", file=sys.stderr, flush=True)
        print(report(answers))
    sys.exit(any(one.fault for one in answers))


if __name__ == "__main__":
    main()
