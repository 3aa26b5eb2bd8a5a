"""A page for each variant, docs/models/<variant>.md, from its docstrings, its config and what was measured.

    python benchmarks/pages.py                              # after a change of a docstring or a config
    python benchmarks/pages.py --take outputs/learning      # and with the results of learning.py or translation.py

The results are kept in docs/models/measured.json, the sheets beside it; the papers' numbers are in papers.yaml. The
tables of all results are docs/learning.md and docs/translation.md.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import translation
import yaml
from hydra.utils import get_class
from learning import DATA, composed, heading, row, variants
from omegaconf import DictConfig, OmegaConf
from PIL import Image, ImageChops

from gan_experiments.assembly import build
from gan_experiments.kinds import IMAGE, POINTS, Kind, Volume, Wave
from gan_experiments.runs import configs

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs" / "models"
LEARNING = REPOSITORY / "docs" / "learning.md"
TRANSLATION = REPOSITORY / "docs" / "translation.md"
PAPERS = DOCS / "papers.yaml"
SOURCE = REPOSITORY / "src" / "gan_experiments"
SOURCES = {
    "C": "read in the authors' code, or in the code named",
    "S": "seen in an abstract, a README or a list of results",
    "M": "from memory, **uncertain**",
}
IDENTIFIER = r"arXiv:(\d+\.\d+)"
OF_ALL = ("digits", "emoji")  # the data sets for which all variants are asked, in the shortest of the times
ELSEWHERE = {
    type(POINTS): "How many modes it finds, with pictures: [docs/modes.md](../modes.md).",
    Volume: "What it makes of the furniture that comes with the package: [docs/volumes.md](../volumes.md).",
    Wave: "What it learns of drum hits, with sounds: [docs/sound.md](../sound.md).",
}
"""Where it is measured what models of other kinds than images learn."""
FORMULAS = "D(x) is the discriminator's logit, σ the sigmoid; the formulas are means over the batch."
NOTE = "<!-- Written by benchmarks/pages.py: change the docstrings, the config or papers.yaml, and run it. -->"

Result = dict[str, Any]


def models() -> list[str]:
    """All files of conf/model/."""
    return sorted(path.stem for path in (configs.conf_dir() / "model").glob("*.yaml"))


def measured() -> list[Result]:
    """What learning.py and translation.py have found out, as it was last taken."""
    path = DOCS / "measured.json"
    results: list[Result] = json.loads(path.read_text()) if path.exists() else []
    return results


# ---------------------------------------------------------------- papers


@cache
def papers() -> dict[str, str]:
    """arXiv id -> title, authors, year, as the files of models/ and networks/ give them, else papers.yaml."""
    known = {str(i): f"**{p['title']}.** {p['authors']}, {p['year']}" for i, p in facts()["papers"].items()}
    for path in sorted([*SOURCE.glob("models/*.py"), *SOURCE.glob("networks/*.py")]):
        title, _, rest = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")
        authors = flowing(rest.partition("\n\n")[0])
        if found := re.search(IDENTIFIER, authors):
            known[found[1]] = f"**{title}** {authors[: found.start()].rstrip(' ,.')}"
    return known


@cache
def facts() -> dict[str, Any]:
    """What papers.yaml holds."""
    content: dict[str, Any] = yaml.safe_load(PAPERS.read_text())
    return content


def paper(identifier: str) -> str:
    """Title, authors, year and link. Raises LookupError where neither a file nor papers.yaml has the paper."""
    if identifier not in papers():
        raise LookupError(f"arXiv:{identifier} has no title: add it to the papers of {PAPERS.relative_to(REPOSITORY)}")
    return f"{papers()[identifier]}, [arXiv:{identifier}](https://arxiv.org/abs/{identifier})"


def header(model: str) -> str:
    """The comment with which the config begins."""
    lines = (configs.conf_dir() / "model" / f"{model}.yaml").read_text().splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.lstrip("# ") for line in comment).rstrip(".")


def identifiers(model: str, kind: type) -> list[str]:
    """The arXiv ids that the config's comment names, else the file of the model's class; the variant's own first."""
    in_file = import_module(kind.__module__).__doc__ or ""
    return re.findall(IDENTIFIER, header(model)) or re.findall(IDENTIFIER, in_file)[:1]


# ---------------------------------------------------------------- docstrings


def flowing(text: str) -> str:
    return " ".join(text.split())


def opening(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return flowing(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0])


def link(module: str) -> str:
    """A link to the file of a module of the package."""
    path = f"{module.removeprefix('gan_experiments.').replace('.', '/')}.py"
    return f"[{path}](../../src/gan_experiments/{path})"


def differences(modules: list[str]) -> Iterator[str]:
    """What each file says of how it differs from its paper."""
    for module in dict.fromkeys(modules):
        text = import_module(module).__doc__ or ""
        if found := re.search(r"Differs from the paper: (.*?)(\n\n|\Z)", text, re.DOTALL):
            named = re.search(IDENTIFIER, text)
            yield f"- {link(module)}{f' from arXiv:{named[1]}' if named else ''}: {flowing(found[1])}"


def own_losses(kind: type) -> list[str]:
    """The methods of a model that are a phase's loss."""
    return [name for name in dir(kind) if name.endswith("_loss")]


def losses(cfg: DictConfig, kind: type) -> Iterator[str]:
    """What each phase minimises: the docstrings of the model's losses, of its adversarial loss and its techniques."""
    if "loss" not in cfg.model:  # no adversary
        yield from (f"- **{name.removesuffix('_loss')}**: {opening(getattr(kind, name))}" for name in own_losses(kind))
        return
    adversarial = get_class(cfg.model.loss._target_)
    constants = [f"{key} = {value:g}" for key, value in cfg.model.loss.items() if isinstance(value, float)]
    named = f"`{adversarial.__name__}`" + (f" ({', '.join(constants)})" if constants else "")
    techniques = {str(name): build.make(node) for name, node in (cfg.model.get("techniques") or {}).items()}
    replacing = [name for name, technique in techniques.items() if technique.replaces_generator_loss]
    n_critic = cfg.model.get("n_critic", 1)
    for name in own_losses(kind):
        player = name.removesuffix("_loss")
        rhythm = f", once in {n_critic} batches" if player == "generator" and n_critic > 1 else ""
        if player == "generator" and replacing:
            yield f"- **{player}**{rhythm}: {replacing[0]}, see below, in place of an adversarial loss."
        else:
            formula = opening(getattr(adversarial, player)).rstrip(".").partition(". ")[0]
            yield f"- **{player}**{rhythm}: `{formula}`, {named}\\\n  {opening(getattr(kind, name))}"
    for name, technique in techniques.items():
        yield f"- technique **{name}**: {opening(type(technique))}"


# ---------------------------------------------------------------- pages


def page(model: str, results: list[Result]) -> str:
    """The page of a variant."""
    cfg = composed(f"model={model}")
    kind = get_class(cfg.model._target_)
    parts_of = {str(name): node for name, node in cfg.model.items() if isinstance(node, DictConfig)}
    networks = {name: node for name, node in parts_of.items() if ".networks." in node.get("_target_", "")}
    modules = [get_class(node._target_).__module__ for node in (cfg.model, *networks.values())]
    mine = [result for result in results if result["model"] == model]
    parts = [
        NOTE,
        f"# {model}",
        *map(paper, identifiers(model, kind)),
        f"{header(model)}.",
        f"```\npython src/gan_experiments/run.py model={model}\n```",
        f"## What each phase minimises\n\n`{kind.__name__}` ({link(kind.__module__)}): {opening(kind)}\n",
        "\n".join(losses(cfg, kind)),
        *([FORMULAS] if "loss" in cfg.model else []),
        "## What differs from the papers",
        "\n".join(differences(modules)),
        f"## Networks\n\n{table_of_networks(cfg, networks)}",
        f"## Here\n\n{ELSEWHERE.get(type(kind_of_data(model))) or here(model, mine)}",
    ]
    if found := facts()["results"].get(model):
        parts.append(f"## In the papers\n\n{published(found)}")
    parts.append(
        f"## The config\n\n[conf/model/{model}.yaml](../../conf/model/{model}.yaml), composed:\n\n"
        f"```yaml\n{as_yaml(cfg.model)}```"
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def as_yaml(node: DictConfig) -> str:
    """A config, resolved, with short lists and groups on a line."""
    content = OmegaConf.to_container(node, resolve=True)
    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    return text


def table_of_networks(cfg: DictConfig, networks: dict[str, DictConfig]) -> str:
    """Class, summary and number of parameters of each network."""
    channels, *sides = get_class(cfg.data._target_).kind.shape(cfg.data)
    lines = [f"| | | parameters at {'x'.join(map(str, [*sides, channels]))} |\n|---|---|---|"]
    for name, node in networks.items():
        with torch.device("meta"):
            count = sum(p.numel() for p in build.make(node).parameters())
        kind = get_class(node._target_)
        lines.append(f"| {name} | `{kind.__name__}` ({link(kind.__module__)}): {opening(kind)} | {count:,} |")
    return "\n".join(lines)


def here(model: str, results: list[Result]) -> str:
    """What was measured, with its conditions; the sheets."""
    if not results:
        return "Not measured yet."
    shown = sheets(results)
    if model in translation.TASKS:
        return f"{translated(shown[0], results)}\n\n[All variants](../translation.md)."
    return "\n\n".join(
        [
            *(
                f"![{model}'s images of {result['data']}]({sheet_name(result)})\n\n*{caption(result)}*"
                for result in shown
            ),
            "\n".join([heading(), *map(row, results)]),
            f"{before_and_after(results)} [All variants](../learning.md). The commands, but that the time ended them:",
            "\n".join(["```", *(result["command"] for result in shown), "```"]),
        ]
    )


def translated(result: Result, results: list[Result], folder: str = "") -> str:
    """A task of translation.py: what was learnt, the sheet of one result, the scores of all, what is to be seen."""
    model = result["model"]
    parts = [
        translation.TASKS[model].about,
        f"![{model}'s images]({folder}{sheet_name(result)})",
        f"*Not trained on, after {result['images']:,} images: {', '.join(result['titles'])}*",
        "\n".join([translation.heading(), *map(translation.row, results)]),
        *([result["note"]] if "note" in result else []),
        *([looked_at] if (looked_at := facts()["looked_at"].get(model)) else []),
        f"{result['cases']:,} pairs. {measured_on(results)} The command, but that the time ended it:",
        f"```\n{result['command']}\n```",
    ]
    return "\n\n".join(parts)


def caption(result: Result) -> str:
    """What a sheet shows."""
    with torch.device("meta"):
        generator = build.make(composed(f"model={result['model']}", *DATA[result["data"]]).model.generator)
    classes = getattr(generator, "classes", 0)
    return f"{result['data']} after {result['images']:,} images{', a class in each column' if classes else ''}"


def before_and_after(results: list[Result]) -> str:
    """What stands in a row of results, and how it was measured."""
    extractors = " and ".join(dict.fromkeys(f"`metrics={r['extractor']}` on {r['data']}" for r in results))
    return f"Untrained -> trained, by {extractors}, which compare with no published value. {measured_on(results)}"


def measured_on(results: list[Result]) -> str:
    """When and where; of several machines, which rows each but the first has."""
    machines: dict[str, list[Result]] = {}
    for result in results:
        machines.setdefault(result["machine"], []).append(result)
    told = []
    for machine, mine in sorted(machines.items(), key=lambda item: -len(item[1])):
        dates = " and ".join(sorted({result["date"] for result in mine}))
        rows = ", ".join(f"{r['model']} on {r['data']} for {r['minutes']:g} minutes" for r in mine) if told else ""
        told.append(f"{rows}{': ' if rows else ''}{dates}, {machine}")
    return f"Measured {'; '.join(told)}."


def published(results: list[Result]) -> str:
    """The papers' numbers, and how sure they are."""
    lines = [f"| {r['what']} | {r['value']} | {SOURCES[r['source']]} |" for r in results]
    return "\n".join(["| | | source |\n|---|---|---|", *lines])


def index(results: list[Result]) -> str:
    """The list of all."""
    lines = [
        f"{NOTE}\n\n# The variants\n",
        "A page for each file of conf/model/: what it minimises, how it differs from its paper, its sizes, its images"
        " and scores after minutes on one core. All of these are together in [learning.md](../learning.md), those that"
        " turn images into images in [translation.md](../translation.md), those of points in [modes.md](../modes.md),"
        " those of sounds in [sound.md](../sound.md);"
        " [techniques.md](../techniques.md) can be added to each.\n",
        "| `model=` | | here: fid before and after; LPIPS of the images as they are, and translated |\n|---|---|---|",
    ]
    for model in models():
        mine = sheets([result for result in results if result["model"] == model])
        if model in translation.TASKS:
            lpips = [
                f"{next(iter(r['rows'].values()))['lpips_squeeze']:.3f} -> {r['rows'][model]['lpips_squeeze']:.3f}"
                f" ({r['cpu_minutes']:.1f} CPU minutes)"
                for r in mine
            ]
            lines.append(f"| [{model}]({model}.md) | {header(model)} | {', '.join(lpips)} |")
            continue
        fids = ", ".join(
            f"{r['data']} {r['untrained']['fid']:.3g} -> {r['trained']['fid']:.3g} ({r['cpu_minutes']:.1f} CPU minutes)"
            for r in mine
        )
        lines.append(f"| [{model}]({model}.md) | {header(model)} | {fids} |")
    return "\n".join(lines) + "\n"


def learning(results: list[Result]) -> str:
    """The page of all results of learning.py, a table for each data set and time."""
    results = [result for result in results if result["model"] not in translation.TASKS]
    parts = [
        NOTE,
        "# Does each variant learn?",
        "Each variant that draws images from noise, in the same CPU time, by benchmarks/learning.py. The variants run"
        " reduced, as a person with one core and a few minutes would run them: narrow networks, higher rates, small"
        " batches; the commands are on [their pages](models/README.md), beside sheets of what they draw. So this shows"
        " that each learns, and how soon; it does not rank them at the sizes of their papers. A run is of as many"
        " images as a try of its speed promised, and a tenth more: where it was faster than that, it ended before its"
        " time.",
        "`coverage` is the share of real images that have a generated one beside them: how much of the data is found."
        " What is found of the modes of a mixture of Gaussians is in [modes.md](modes.md).",
    ]
    least = {result["data"]: result["minutes"] for result in sorted(results, key=lambda r: -r["minutes"])}
    for data, minutes in sorted({(result["data"], result["minutes"]) for result in results}):
        mine = [result for result in results if (result["data"], result["minutes"]) == (data, minutes)]
        seeds = " ".join(str(seed) for seed in sorted({result["seed"] for result in mine}))
        every = data in OF_ALL and minutes == least[data]
        some = "" if every else f" --models {' '.join(result['model'] for result in mine)}"
        missing = sorted(set(variants()) - {result["model"] for result in mine} - set(of_others()))
        parts += [
            f"## {data}, {minutes:g} CPU minutes",
            f"```\npython benchmarks/learning.py --data {data} --minutes {minutes:g} --seeds {seeds}{some}\n```",
            "\n".join([heading(), *map(row, mine)]),
            before_and_after(mine),
            *([looked_at] if (looked_at := facts()["looked_at"].get(f"{data} {minutes:g}")) else []),
            *([f"Not measured: {', '.join(missing)}."] if missing and every else []),
        ]
    return "\n\n".join(parts if results else [*parts, "Not measured yet."]) + "\n"


def all_translated(results: list[Result]) -> str:
    """The page of all results of translation.py."""
    mine = {model: [result for result in results if result["model"] == model] for model in translation.TASKS}
    missing = [model for model, own in mine.items() if not own]
    parts = [
        NOTE,
        "# Does each variant that turns images into images learn?",
        "Each in minutes on one core, by benchmarks/translation.py, narrower than in its paper, on real images; scored"
        " on images that it was not trained on, beside what costs nothing. PSNR and SSIM are of the whole image, of the"
        " hole where one is filled, and of super-resolution's luma without four pixels at the border; L1 is of"
        " images in [0, 1]. LPIPS, where lower is nearer, has the published heads on a SqueezeNet with other weights"
        " than torchvision's: it grows with noise, blur and enlargement as it should; it compares with no paper.",
        "```\npython benchmarks/real_data.py maps unpaired skin_tones pieces fonts squeezenet\n"
        "python benchmarks/translation.py\n```",
    ]
    for model, own in mine.items():
        if own:
            section = translated(sheets(own)[0], own, "models/")
            parts.append(f"## [{model}](models/{model}.md)\n\n{section}")
    parts += [f"Not measured: {', '.join(missing)}."] if missing else []
    return "\n\n".join(parts) + "\n"


def kind_of_data(model: str) -> Kind:
    """The kind of samples on which a model trains by default."""
    kind: Kind = get_class(composed(f"model={model}").data._target_).kind
    return kind


def of_others() -> list[str]:
    """The models that make no images."""
    return [model for model in models() if type(kind_of_data(model)) is not type(IMAGE)]


# ---------------------------------------------------------------- results


def sheets(results: list[Result]) -> list[Result]:
    """For each data set the result with the most time, of the first seed."""
    order = sorted(results, key=lambda r: (r["data"], -r["minutes"], r["seed"]))
    return list({r["data"]: r for r in reversed(order)}.values())[::-1]


def sheet_name(result: Result) -> str:
    """The file of its sheet, beside the pages."""
    return f"{result['model']}-{result['data']}.png"


def take(out: Path) -> None:
    """Put the results of learning.py or translation.py, and their sheets, in the places of older ones."""

    def key(result: Result) -> tuple[Any, ...]:
        return tuple(result[name] for name in ("model", "data", "seed", "minutes"))

    new = [json.loads(path.read_text()) for path in out.glob("*/cell.json")]
    results = sorted(({key(r): r for r in [*measured(), *new]}).values(), key=key)
    (DOCS / "measured.json").write_text(json.dumps(results, indent=1) + "\n")
    for result in new:
        if result in sheets([other for other in results if other["model"] == result["model"]]):
            sheet = Image.open(out / result["sheet"]).convert("RGB")
            as_drawn(sheet).save(DOCS / sheet_name(result), optimize=True)


def as_drawn(picture: Image.Image) -> Image.Image:
    """A sheet without the enlargement that `images.sheet` gave it."""
    for factor in (4, 3, 2):
        small = picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.NEAREST)
        if ImageChops.difference(small.resize(picture.size, Image.Resampling.NEAREST), picture).getbbox() is None:
            return small
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="what learning.py or translation.py wrote")
    options = parser.parse_args()
    if options.take:
        take(options.take)
    results = measured()
    for model in models():
        (DOCS / f"{model}.md").write_text(page(model, results))
    (DOCS / "README.md").write_text(index(results))
    LEARNING.write_text(learning(results))
    TRANSLATION.write_text(all_translated(results))


if __name__ == "__main__":
    main()
