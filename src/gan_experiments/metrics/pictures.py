"""Pictures beside the scores: nearest real images, best and worst images, images by class, curves over a setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_experiments import drawing, files
from gan_experiments.kinds import Kind
from gan_experiments.metrics.evaluator import Evaluator, Measured, RealImages, Sample
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.neighbours import nearest, nearest_real, realism
from gan_experiments.provenance import Mark

PAIRS, SHOWN, ACROSS, ROWS = 32, 64, 12, 20
GAP = 4  # pixels on either side of a pair
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def write_sheets(
    measured: Measured,
    evaluator: Evaluator,
    sample: Sample,
    real: RealImages,
    folder: Path,
    labels: Tensor | None = None,
    mark: Mark | None = None,
) -> list[Path]:
    """Write the pictures of one evaluation, and return their paths.

    - `nearest.png`: fake images, each beside the nearest real image, sorted by distance: copies are at the top.
    - `best.png`, `worst.png`: the images of the highest and of the lowest realism score, the extreme one first.
    - `classes.png`: a row for each class, by `labels` if given, else by the extractor's prediction.

    `measured` is the result on rank 0 for `sample` and `real`. `labels`, int64 [num_fake], index the classes of `real`.
    `mark` is that of the fake images; None if no model of ours made them, or if none is wanted.
    """
    assert measured.fake is not None and measured.real is not None, "the features are on rank 0"  # noqa: PT018
    both = mark and replace(mark, composite=True)
    features, fake = measured.real.features, measured.fake
    k = min(evaluator.manifold_k, len(features) - 1)
    reach = measured.real.nearest if measured.real.knows(k) else nearest(features, k)
    grade = realism(features, fake, reach[:, k - 1]).nan_to_num(-1.0)

    def fakes(rows: Tensor) -> list[Tensor]:
        return [drawn(evaluator.kind, one) for one in pick(sample, rows, len(fake), evaluator.batch_size)]

    left, right, _ = nearest_pairs(measured, evaluator, sample, real)
    pairs = torch.stack([F.pad(left, (GAP, 0), value=1), F.pad(right, (0, GAP), value=1)], dim=1)
    written = [save(drawing.sheet(pairs), folder / "nearest.png", both)]
    for name, first in (("best", grade.argsort(descending=True)), ("worst", grade.argsort())):
        written.append(save(drawing.sheet(alike(fakes(first[:SHOWN]))[:, None]), folder / f"{name}.png", mark))

    seen = labels if labels is not None else measured.guesses
    if seen is not None:
        found, counts = seen.unique(return_counts=True)
        usual = found[counts.argsort(descending=True, stable=True)[:ROWS]].sort().values.tolist()
        rows = {c: (seen == c).nonzero()[:ACROSS, 0] for c in usual}
        cells = alike(fakes(torch.cat(list(rows.values())))).split([len(r) for r in rows.values()])
        known = getattr(real, "class_names", []) if labels is not None else []
        names = [known[c] if known else str(c) for c in usual]
        written.append(save_rows(list(cells), names, folder / "classes.png", mark))
    return written


def nearest_pairs(
    measured: Measured, evaluator: Evaluator, sample: Sample, real: RealImages, number: int = PAIRS
) -> tuple[Tensor, Tensor, list[float]]:
    """Return the fake images that are nearest to real ones, these, and the distances of their features, ascending.

    Images are float [n, C, H, W] in [-1, 1]; `measured` is the result on rank 0 for `sample` and `real`.
    """
    assert measured.fake is not None and measured.real is not None, "the features are on rank 0"  # noqa: PT018
    distance, which = nearest_real(measured.real.features, measured.fake)
    order = distance.argsort()[:number]
    rows = [measured.rows[i] for i in which[order].tolist()]
    fakes = pick(sample, order, len(measured.fake), evaluator.batch_size)
    both = [*fakes, *(real.images(row, row + 1)[0] for row in rows)]
    left, right = alike([drawn(evaluator.kind, one) for one in both]).chunk(2)
    return left, right, distance[order].tolist()


def drawn(kind: Kind, sample: Tensor) -> Tensor:
    """Return a sample [...] as a uint8 picture [1 or 3, h, w]."""
    return drawing.viewed(kind.pictures(sample[None]))[0]


def pick(sample: Sample, rows: Tensor, total: int, batch_size: int) -> list[Tensor]:
    """Return the samples [...] at these indices, made again; each chunk is made once."""
    made: dict[int, Tensor] = {}
    for index in dict.fromkeys((rows // batch_size).tolist()):
        start = index * batch_size
        chunk = sample(index, min(batch_size, total - start))
        made |= {row: chunk[row - start].cpu() for row in rows.tolist() if row // batch_size == index}
    return [made[row] for row in rows.tolist()]


def alike(pictures: Sequence[Tensor]) -> Tensor:
    """Resize images [C, H, W], uint8 or in [-1, 1], to the largest size, and stack: float [n, C, H, W] in [-1, 1].

    Grey images become RGB if there are RGB images among them.
    """
    floats = [p / 127.5 - 1 if p.dtype == torch.uint8 else p.float() for p in pictures]
    channels, height, width = (max(p.shape[axis] for p in floats) for axis in range(3))
    return torch.stack([_resized(p, height, width).expand(channels, -1, -1) for p in floats])


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    if picture.shape[1:] == (height, width):
        return picture
    return F.interpolate(picture[None], (height, width), mode="nearest")[0]


def save(image: Tensor, path: Path, mark: Mark | None) -> Path:
    """Write an image as PNG, with the mark of its making; return its path."""
    drawing.save_png(image, path, mark)
    return path


def save_rows(
    rows: Sequence[Tensor],
    names: Sequence[str],
    path: Path,
    mark: Mark | None,
    least: int = 32,
    columns: Sequence[str] = (),
) -> Path:
    """Write rows of images [n, C, H, W] in [-1, 1] with the names of rows and columns; return the path.

    Images less than `least` pixels wide are enlarged by an integer factor.
    """
    side = rows[0].shape[-1]
    factor = max(1, least // side)
    height, width = rows[0].shape[-2] * factor + 4, side * factor + 4
    font = ImageFont.load_default(14)
    margin = 12 + max(round(font.getlength(name)) for name in names)
    top = 22 if columns else 0
    canvas = Image.new("RGB", (margin + width * max(map(len, rows)), top + height * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    for x, name in enumerate(columns):
        draw.text((margin + x * width + width / 2, top / 2), name, "black", font, anchor="mm")
    for y, (row, name) in enumerate(zip(rows, names, strict=True)):
        draw.text((margin - 8, top + y * height + height / 2), name, "black", font, anchor="rm")
        for x, cell in enumerate(drawing.to_uint8(row).expand(-1, 3, -1, -1)):
            picture = Image.fromarray(cell.permute(1, 2, 0).numpy())
            large = picture.resize((width - 4, height - 4), Image.Resampling.NEAREST)
            canvas.paste(large, (margin + x * width, top + y * height + 2))
    from torchvision.transforms.functional import pil_to_tensor

    return save(pil_to_tensor(canvas), path, mark)


def write_curves(points: Sequence[tuple[float, dict[str, float]]], over: str, path: Path) -> Path:
    """Plot each score over a setting, from points (setting, scores), and precision against recall; return the path."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(points[0][1])
    both = [next((n for n in names if n.startswith(score)), "") for score in ("recall", "precision")]
    panels = len(names) + all(both)
    across = min(4, panels)
    down = -(-panels // across)
    figure = Figure(figsize=(3.4 * across, 2.7 * down), dpi=110, layout="constrained")
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    xs = [x for x, _ in points]
    for axes, name in zip(grid, names, strict=False):
        axes.plot(xs, [scores[name] for _, scores in points], "o-", color=COLOURS[0], markersize=3)
        axes.set_title(f"{name} {'↑' if higher_is_better(name) else '↓'}", fontsize=10, loc="left")
        axes.set_xlabel(over, fontsize=8)
    if all(both):
        axes = grid[len(names)]
        axes.plot(*([scores[name] for _, scores in points] for name in both), "o-", color=COLOURS[1], markersize=3)
        for x, scores in points:
            at = (scores[both[0]], scores[both[1]])
            axes.annotate(f"{x:g}", at, fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.set_title(f"precision against recall, over {over}", fontsize=10, loc="left")
        axes.set_xlabel("recall", fontsize=8)
        axes.set_ylabel("precision", fontsize=8)
    for axes in grid:
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for axes in grid[panels:]:
        axes.remove()
    with files.whole(path) as unfinished:
        figure.savefig(unfinished)
    return path
