"""docs/models/: a page for each file of conf/model/, as its docstrings and its config are now."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import MODELS, REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

import learning
import pages

WRITE = "python benchmarks/pages.py writes it anew"


def test_every_model_has_a_page_and_every_page_a_model() -> None:
    assert {path.stem for path in pages.DOCS.glob("*.md")} == {*MODELS, "README"}, WRITE


@pytest.mark.parametrize("model", MODELS)
def test_a_page_is_as_docstrings_config_and_results_have_it(model: str) -> None:
    assert (pages.DOCS / f"{model}.md").read_text() == pages.page(model, pages.measured()), WRITE


def test_the_list_is_as_the_configs_have_it() -> None:
    assert (pages.DOCS / "README.md").read_text() == pages.index(pages.measured()), WRITE


def test_the_table_of_all_results_is_as_they_are() -> None:
    assert pages.LEARNING.read_text() == pages.learning(pages.measured()), WRITE


def test_the_page_of_translations_is_as_they_are() -> None:
    assert pages.TRANSLATION.read_text() == pages.all_translated(pages.measured()), WRITE


def test_a_translation_has_its_rows_on_both_pages() -> None:
    scores = {"psnr": 20.0, "ssim": 0.5, "l1": 0.1, "lpips_squeeze": 0.25}
    result = {"model": "pix2pix", "data": "maps", "seed": 0, "minutes": 10.0, "cpu_minutes": 10.0, "images": 1_000}
    result |= {"rows": {"as it is": scores, "pix2pix": scores | {"lpips_squeeze": 0.125}}, "cases": 7}
    result |= {"titles": ["as it is", "pix2pix", "what it should be"], "command": "python run.py model=pix2pix"}
    result |= {"date": "2026-11-22", "machine": "one thread of a processor"}
    for text in (pages.page("pix2pix", [result]), pages.all_translated([result])):
        assert "| pix2pix | 0 | 1,000 | 10.0 | pix2pix | 20.00 | 0.500 | 0.100 | 0.125 |" in text
        assert "7 pairs. Measured 2026-11-22, one thread of a processor." in text
    assert "Not measured: cyclegan" in pages.all_translated([result])
    assert "| 0.250 -> 0.125 (10.0 CPU minutes) |" in pages.index([result])
    assert "pix2pix" not in pages.learning([result])


def test_of_several_machines_it_is_said_which_rows_each_has() -> None:
    known = {"model": "dcgan", "data": "digits", "minutes": 4.0, "date": "2026-11-22", "machine": "one"}
    other = known | {"model": "wgan", "minutes": 15.0, "date": "2026-11-23", "machine": "another"}
    assert pages.measured_on([known, known]) == "Measured 2026-11-22, one."
    told = "Measured 2026-11-22, one; wgan on digits for 15 minutes: 2026-11-23, another."
    assert pages.measured_on([other, known, known]) == told


def test_pictures_and_results_are_of_models_that_are_there() -> None:
    assert {path.name for path in pages.DOCS.glob("*.png")} == {pages.sheet_name(result) for result in pages.measured()}
    assert {result["model"] for result in pages.measured()} <= set(MODELS)


def test_papers_say_how_sure_their_numbers_are() -> None:
    sources = {result["source"] for results in pages.facts()["results"].values() for result in results}
    assert sources <= set(pages.SOURCES)
    assert "| 82.8% | from memory, **uncertain** |" in pages.page("dcgan", [])


def test_a_page_holds_the_formulas_of_both_players() -> None:
    text = pages.page("wgan_gp", [])
    assert "**Improved Training of Wasserstein GANs.** Ishaan Gulrajani" in text
    assert "one α for each pair" in text
    assert "-D(G(z))" in text
    assert "gp_weight: 10.0" in text
    assert "once in 5 batches" in text


def test_a_page_knows_which_loss_a_technique_replaces() -> None:
    players = {line.split("**")[1]: line for line in pages.page("improved_gan", []).splitlines() if "- **" in line}
    assert "feature_matching" in players["generator"]
    assert "feature_matching" not in players["discriminator"]
    assert "-log σ(D(G(z)))`" not in pages.page("improved_gan", [])
    assert "-log σ(D(G(z)))`" in pages.page("dcgan", [])


def test_the_list_of_papers_has_one_title_for_each() -> None:
    assert "Natural Image Synthesis.** Andrew Brock" in pages.page("biggan", [])
    assert "**Spectral Normalization for Generative Adversarial Networks.** Takeru" in pages.page("sngan", [])


def test_results_are_taken_with_their_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    docs.mkdir()
    monkeypatch.setattr(pages, "DOCS", docs)
    for data, fid, size in (("digits", 2.0, (10, 20)), ("emoji", 5.0, (20, 30))):
        take(out, data, fid, size)
        pages.take(out)
    take(out, "digits", 1.5, (10, 20))  # the same once more
    pages.take(out)
    results = pages.measured()
    assert [(result["data"], result["trained"]["fid"]) for result in results] == [("digits", 1.5), ("emoji", 5.0)]
    sizes = {path.name: Image.open(path).size for path in docs.glob("*.png")}
    assert sizes == {"dcgan-digits.png": (20, 10), "dcgan-emoji.png": (30, 20)}  # not enlarged
    text = pages.page("dcgan", results)
    assert "(dcgan-emoji.png)\n\n*emoji after 1,000 images*" in text
    assert "| digits | 0 | 1,000 | 5.0 | 60 -> 1.5 |" in text
    assert "2026-11-22, one thread of a processor" in text
    assert "digits 60 -> 1.5 (5.0 CPU minutes), emoji 60 -> 5 (5.0 CPU minutes)" in pages.index(results)
    table = pages.learning(results)
    assert "python benchmarks/learning.py --data emoji --minutes 5 --seeds 0" in table
    assert table.count("| dcgan | ") == 2
    missing = next(line for line in table.splitlines() if line.startswith("Not measured: "))
    assert "wgan_gp," in missing
    assert not {"dcgan,", "cyclegan,", "unrolled_gan,"} & set(missing.split())


def take(out: Path, data: str, fid: float, size: tuple[int, int]) -> None:
    """Leave what learning.py does, with a sheet of this height and width, three times enlarged."""
    folder = out / f"dcgan-{data}"
    folder.mkdir(parents=True, exist_ok=True)
    sheet = Image.fromarray(torch.randint(256, (*size, 3), dtype=torch.uint8).numpy())
    sheet.resize((3 * size[1], 3 * size[0]), Image.Resampling.NEAREST).save(folder / "1.png")
    scores = dict.fromkeys(learning.COLUMNS, 0.5)
    result = {"model": "dcgan", "data": data, "seed": 0, "minutes": 5.0, "cpu_minutes": 5.0, "images": 1_000}
    result |= {"command": "python run.py", "extractor": "digits", "sheet": f"dcgan-{data}/1.png"}
    result |= {"untrained": {**scores, "fid": 60.0}, "trained": {**scores, "fid": fid}}
    (folder / "cell.json").write_text(
        json.dumps(result | {"date": "2026-11-22", "machine": "one thread of a processor"})
    )
