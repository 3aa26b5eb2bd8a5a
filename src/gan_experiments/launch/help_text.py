"""The text of `--help`: one line for each option, from the comments in the configs."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from gan_experiments.runs.configs import conf_dir

EXAMPLES = {
    "run": ["model=wgan_gp data=celeba images=2_000_000 seed=1", "-m model=dcgan,wgan_gp seed=0,1,2", "resume=true"],
    "sample": ["run=latest n=64", "run=outputs/2026-11-22/12-00-00 singles=true interpolation=8"],
    "evaluate": ["run=latest", "fake=folderA real=folderB metrics=inception"],
    "translate": ["run=latest images=photo.jpg", "run=latest images=holiday out=painted to=b"],
    "explore": ["run=latest what=truncation", "run=latest what=mixing what.rows=4"],
    "compare": ["outputs/sweeps/2026-11-22/12-00-00", "outputs/2026-11-22/* out=comparison"],
    "interpolate": ["a=outputs/rrdb_psnr b=outputs/esrgan alpha=0.8"],
    "usefulness": ["run=latest", "fake=FOLDER real=FOLDER test=FOLDER data.resolution=32"],
    "serve": ["run=latest", "run=[outputs/digits,outputs/horses] port=9000"],
    "export": ["run=latest", "run=latest format=safetensors half=true"],
    "demo": ["run=latest", "run=[outputs/digits,outputs/horses] port=9000"],
    "convert": ["weights=ffhq.pkl out=outputs/ffhq"],
}
SECTIONS = {
    "run": [("trainer.", "The processes that train (trainer.KEY=VALUE)", "trainer/default")],
}
LAST = {
    "run": """\
-m, or --multirun, trains one run for each combination of values: seed=0,1,2. sweep=optuna searches.
Any value of the config can be set: model.generator.width=32. --cfg job prints them all.""",
    "compare": "Words without = are folders: of runs, of sweeps, or of any folders of them.",
}
OPTION = re.compile(r"^( *)(\w+): *([^#]*?) *(?:# *(.*))?$")


def overview(verbs: Mapping[str, str]) -> str:
    """Return the help of the command: a line for each verb."""
    lines = ["gan-experiments VERB key=value ...", ""]
    lines += [f"  {verb:12} {what}" for verb, what in verbs.items()]
    lines += ["", "Without a verb it trains: gan-experiments model=wgan_gp data=celeba."]
    lines += [
        "gan-experiments VERB --help explains the options of one; --version prints the version.",
        "--schema prints a JSON Schema by which an editor completes and checks config files,",
        "--wandb-sweep the file of a sweep that W&B's server conducts;",
        "--wandb-workspace RUN saves a workspace in the W&B project of a run.",
    ]
    return "\n".join(lines)


def of_verb(verb: str, what: str) -> str:
    """Return the help of a verb: examples, options and choices."""
    wide = min(100, shutil.get_terminal_size((100, 24)).columns)
    program = "gan-experiments" if verb == "run" else f"gan-experiments {verb}"
    lines = [f"{program}: {what}", "", *(f"  {program} {words}" for words in EXAMPLES[verb])]
    lines += ["", "Options (KEY=VALUE)", *_options(conf_dir() / f"{verb}.yaml", "", wide)]
    for prefix, title, file in SECTIONS.get(verb, ()):
        lines += ["", title, *_options(conf_dir() / f"{file}.yaml", prefix, wide)]
    groups = [*_groups(verb)]
    if groups:
        lines += ["", "Choices (GROUP=CHOICE)"]
        lines += [line for group, about in groups for line in _row(f"{group}=", about, wide)]
    for path in sorted((conf_dir() / "what").glob("*.yaml")) if verb == "explore" else ():
        about = path.read_text().partition("\n")[0].lstrip("# ")
        lines += ["", f"what={path.stem}: {about}", *_options(path, "what.", wide)]
    if verb in LAST:
        lines += ["", LAST[verb]]
    return "\n".join(lines)


def _options(path: Path, prefix: str, wide: int) -> Iterator[str]:
    """Yield the lines for each key of a config file: its default value and its comment."""
    rows: list[tuple[str, list[str]]] = []
    above: list[tuple[int, str]] = []
    for line in path.read_text().splitlines()[1:]:
        found = OPTION.match(line)
        if found is None:
            if rows and (more := re.match(r"^ +# *(.*)$", line)):
                rows[-1][1].append(more[1])
            continue
        depth, key, value, about = len(found[1]), found[2], found[3], found[4] or ""
        above = [(d, k) for d, k in above if d < depth]
        names = [k for _, k in above] + [key]
        above.append((depth, key))
        if names[0] in ("defaults", "hydra") or key.startswith("_"):
            continue
        rows.append((f"{prefix}{'.'.join(names)}={'...' if value == '???' else value}", [about]))
    for left, parts in rows:
        yield from _row(left, " ".join(parts).strip(), wide)


def _groups(verb: str) -> Iterator[tuple[str, str]]:
    """Yield each config group of a verb with its choices in words."""
    import yaml

    for entry in yaml.safe_load((conf_dir() / f"{verb}.yaml").read_text())["defaults"]:
        for group, usual in entry.items() if isinstance(entry, dict) else ():
            if (conf_dir() / group).is_dir():
                names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
                yield group, f"{', '.join(names)}{f' (usually {usual})' if usual and usual != 'null' else ''}"


def _row(left: str, about: str, wide: int) -> Iterator[str]:
    """Yield the lines for a name and its meaning, which begins below a long name and beside a short one."""
    column = 24
    folded = textwrap.wrap(about, wide - column - 2, break_long_words=False, break_on_hyphens=False) or [""]
    first = f"  {left:{column}}"
    if len(left) >= column:
        yield f"  {left}"
        if not about:
            return
        first = " " * (column + 2)
    yield f"{first}{folded[0]}".rstrip()
    yield from (" " * (column + 2) + line for line in folded[1:])
