"""Which variants find all modes? Trains them on Gaussians in the plane, prints what they found, draws what they did.

    python benchmarks/modes.py                                    # ring of 8, grid of 25, three seeds
    python benchmarks/modes.py --toys ring --models gan wgan_gp --seeds 0 --images 64000
    python benchmarks/modes.py --words model.optimizers.discriminator.lr=1e-3   # more for all of them

Each run is an experiment of conf/experiment/, as long as that says. The table is of the last points, one number a seed,
and of the mean over the second half of the run, for a GAN goes round the modes. The pictures have a row for each model
and a column for each sixth of its run, of the first seed: fakes over real points. A run that was interrupted goes on
where it was; one that is done is only read.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import hydra
import matplotlib as mpl
import torch
from PIL import Image, ImageDraw, ImageFont

from gan_experiments.assembly import build, check
from gan_experiments.runs import configs, resolvers

MODELS = {
    "gan": ("GAN", "gan", []),
    "minibatch": ("minibatch\ndiscrimination", "gan", ["model.discriminator.minibatch=discrimination"]),
    "unrolled": ("unrolled GAN,\n5 steps", "unrolled", []),
    "wgan_gp": ("WGAN-GP", "wgan_gp", []),
}
TOYS = {"ring": 8, "grid": 25}
DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS, CELL, LEFT, TOP = 7, 160, 130, 24  # pixels of the pictures
LOOKS = 24  # scores, sheets and checkpoints of a run


def train(folder: Path, words: list[str]) -> None:
    """Train what the words say, or what is left of it."""
    if (folder / "finished").exists():
        return
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("run", overrides=["logger=none", "trainer=cpu", *words])
    cfg.output = str(folder)
    for name in ("samples", "scores", "checkpoints"):
        cfg.callbacks[name].every = cfg.images // LOOKS
    check.require(cfg)
    last = folder / "checkpoints" / "last.ckpt"
    run = build.build(cfg)
    with run.opened():
        run.train(last if last.exists() else None)
    (folder / "finished").touch()


def row(name: str, folders: list[Path], modes: int) -> str:
    """One line of the table."""
    histories = [json.loads((folder / "scores.json").read_text())["history"] for folder in folders]
    ends = [history[-1] for history in histories]
    late = [row for history in histories for row in history if 2 * row["images"] > history[-1]["images"]]
    found = ", ".join(f"{end['modes']:.0f}" for end in ends)
    good = ", ".join(f"{100 * end['high_quality']:.0f}" for end in ends)
    means = [statistics.mean(row[key] for row in late) for key in ("modes", "high_quality")]
    cells = [name.replace("\n", " "), f"{ends[0]['images']:,}", f"{found} of {modes}", good, f"{means[0]:.1f}"]
    return f"| {' | '.join(cells)} | {100 * means[1]:.0f} |"


def draw(rows: dict[str, Path], path: Path) -> None:
    """Rows of models and columns of sixths of their runs, from the runs' sheets."""
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 13)
    page = Image.new("RGB", (LEFT + COLUMNS * CELL, TOP + len(rows) * CELL), "white")
    pen = ImageDraw.Draw(page)
    for x in range(COLUMNS):
        title = {0: "untrained", COLUMNS - 1: "end of the run"}.get(x, f"{x}/{COLUMNS - 1}")
        pen.text((LEFT + x * CELL + CELL // 2, TOP // 2), title, "black", font, anchor="mm")
    for y, (name, folder) in enumerate(rows.items()):
        sheets = sorted((folder / "samples").glob("[0-9]*.png"))
        images = f"{int(sheets[-1].stem):,}\nimages"
        pen.text((4, TOP + y * CELL + CELL // 2), f"{name}\n{images}", "black", font, anchor="lm")
        for x in range(COLUMNS):
            sheet = sheets[round(x * (len(sheets) - 1) / (COLUMNS - 1))]
            page.paste(Image.open(sheet).resize((CELL, CELL)), (LEFT + x * CELL, TOP + y * CELL))
    page.save(path)


def main() -> None:
    """Train what is asked for, print the tables, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toys", nargs="+", choices=TOYS, default=list(TOYS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="in place of the experiments' own")
    parser.add_argument("--words", nargs="+", default=[], help="of run.py, for all of the runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/modes"))
    parser.add_argument("--docs", type=Path, default=DOCS, help="where ring.png and grid.png go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    resolvers.register_resolvers()
    words = options.words + ([f"images={options.images}"] if options.images else [])
    for toy in options.toys:
        folders: dict[str, list[Path]] = {}
        for seed in options.seeds:  # a whole comparison after each seed
            for key in options.models:
                name, experiment, own = MODELS[key]
                folder = options.out / f"{toy}-{key}-{seed}"
                train(folder, [f"experiment={toy}_{experiment}", f"seed={seed}", *own, *words])
                folders.setdefault(name, []).append(folder)
        print(f"\n| {toy} | images | modes | high quality, % | modes, later half | high quality, later half, % |")
        print("|---|---|---|---|---|---|")
        for name, own_folders in folders.items():
            print(row(name, own_folders, TOYS[toy]), flush=True)
        draw({name: own_folders[0] for name, own_folders in folders.items()}, options.docs / f"{toy}.png")


if __name__ == "__main__":
    main()
