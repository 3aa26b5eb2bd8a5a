"""Every model as a file of each format: how far it is from the run, how large, and how fast beside the run.

    python benchmarks/export.py                     # all of conf/model/, about half an hour of one core
    python benchmarks/export.py dcgan pix2pix       # some
    python benchmarks/export.py --rows rows.jsonl   # keep the rows in a file, and go on with those that it lacks

The networks have the size that `model=` alone gives them. Their weights are drawn, those that start at one value too,
so that no layer is idle. Differences are of float32 values of which black is -1 and white 1 (`pixels=float`), over 32
inputs in batches of 1, 7, and 24 or 8. "float16" is safetensors with `half=true`, and what it changes in levels of 255.
Milliseconds are processor time for one image with one thread. Models with the same generator are measured once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "tests")]


def composed(name: str, folder: Path) -> Any:
    """Return the config of a model as `model=` alone gives it."""
    from support import WITHOUT_WEIGHTS, compose

    words = WITHOUT_WEIGHTS.get(name, []) + (["data=ring"] if name in ("unrolled_gan", "wgan_gp_toy") else [])
    return compose(folder / "run", f"model={name}", "metrics=none", *words)


def generator_of(cfg: Any) -> str:
    """Return the configs of the networks that generate, the same for models whose files are the same."""
    from omegaconf import OmegaConf

    resolved: Any = OmegaConf.create({key: cfg[key] for key in cfg if key in ("model", "data", "seed", "images")})
    return json.dumps(
        {
            key: OmegaConf.to_container(OmegaConf.select(resolved, f"model.{key}"), resolve=True)
            for key in cfg.model
            if str(key).startswith("generator") and OmegaConf.is_dict(cfg.model[key])
        },
        sort_keys=True,
    )


def row_of(name: str, folder: Path) -> dict[str, Any]:
    """Export one model in all formats, and return what came of it."""
    import torch

    from gan_experiments.assembly import build, trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.export import formats, making
    from gan_experiments.export.signature import Options
    from gan_experiments.inference import run as inference

    torch.set_num_threads(1)
    cfg = composed(name, folder)
    row: dict[str, Any] = {"model": name, "generator": generator_of(cfg)}
    model = build.build_model(cfg).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.numel() == 1 or parameter.data.std() == 0:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.averages.clear()
    model.images_seen = cfg.images
    if hasattr(model, "grow"):
        model.grow()
    run = inference.of(trained.TrainedRun(model, cfg, folder))
    for form in ("safetensors", "torch", "onnx"):
        path = folder / f"m{formats.SUFFIXES[form]}"
        try:
            options = Options(half=True) if form == "safetensors" else Options(pixels="float")
            made = making.export(run, options, path, form)
        except ConfigError as error:
            row[form] = {"refused": str(error)}
            continue
        row["images"] = f"{' x '.join(map(str, made.metadata['output']['shape'][1:]))}"
        row[form] = {"largest": made.difference.largest, "mb": path.stat().st_size / 1e6, "ms": made.file_ms}
        row["run_ms"] = made.run_ms
        if made.loss is not None:
            row[form] |= {"mean": made.loss.mean, "most": made.loss.largest}
    return row


def line_of(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    if "as" in row:
        return f"| `{row['model']}` | as `{row['as']}` |{' |' * 7}"
    cells = [f"`{row['model']}`", row.get("images", "")]
    for form in ("torch", "onnx"):
        found = row[form]
        cells.append(found.get("refused") or f"{found['largest']:.1e}, {found['mb']:.1f} MB")
    half = row["safetensors"]
    cells.append(half.get("refused") or f"{half['mb']:.1f} MB, {half['mean']:.2g} / {half['most']:.2g}")
    times = [row["run_ms"], *(row[form].get("ms", float("nan")) for form in ("torch", "onnx"))]
    cells += [*(f"{ms:.1f}" for ms in times), f"{times[0] / times[2]:.1f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    from support import MODELS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--rows", type=Path, help="a file of the rows so far, one JSON object a line")
    given = parser.parse_args()
    kept = given.rows.read_text().splitlines() if given.rows and given.rows.is_file() else []
    rows = [json.loads(line) for line in kept]
    done = {row["model"] for row in rows}
    for name in given.models:
        if name in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            same = generator_of(composed(name, Path(folder)))
            first = next((row["model"] for row in rows if row.get("generator") == same), None)
            row = {"model": name, "as": first} if first else row_of(name, Path(folder))
        rows.append(row)
        print(line_of(row), file=sys.stderr, flush=True)
        if given.rows:
            with given.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print("| model | image | .pt2 | ONNX | float16: size, mean / largest change | ms: run | .pt2 | ONNX | run / ONNX |")
    print(f"|{'---|' * 9}")
    for row in sorted(rows, key=lambda one: one["model"]):
        print(line_of(row))


if __name__ == "__main__":
    main()
