"""The page of `demo`: what it asks for exists, nothing comes from elsewhere, edits are those of the latent space."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from support import REPOSITORY, run, small
from test_service import Answer, Toy, ask

from gan_experiments import provenance
from gan_experiments.assembly import build
from gan_experiments.captions import Vocabulary
from gan_experiments.conditions import Cameras, Captions
from gan_experiments.contracts import ConfigError
from gan_experiments.data.posed import cameras_around
from gan_experiments.exploration.directions import Directions
from gan_experiments.inference.contract import Generates
from gan_experiments.inference.run import Run
from gan_experiments.service import demo
from gan_experiments.service.app import make_app
from gan_experiments.service.settings import Settings
from gan_experiments.verbs import demo as verb

PAGE = REPOSITORY / "src" / "gan_experiments" / "service" / "page"
HTML, SCRIPT, STYLE = ((PAGE / name).read_text() for name in ("index.html", "page.js", "page.css"))


class Page(HTMLParser):
    """The elements of the page: their tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(HTML)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


ELEMENTS = Page().found
IDS = {found["id"] for _, found in ELEMENTS if found.get("id")}


def opened(model: str, folder: Path, gain: float) -> Run:
    """A small run with new weights, so much larger that its images have some contrast, as if it was trained."""
    cfg = small(folder, model)
    torch.manual_seed(0)
    module = build.build_model(cfg)
    for weights in module.parameters():
        if weights.ndim > 1:
            weights.data.mul_(gain)
    module.class_names = [f"c{label}" for label in range(getattr(module, "classes", 0))]
    return Run(module.eval(), cfg, folder)


def answers(model: Generates, *requests: tuple[Any, ...], **settings: Any) -> list[Answer]:
    """The answers to some requests, one after the other, of a service with the page."""

    async def main() -> list[Answer]:
        app = make_app({model.name: model}, Settings(batch_size=2, **settings), page=True)
        async with app.router.lifespan_context(app):
            return [await ask(app, *given) for given in requests]

    return asyncio.run(main())


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return opened("stylegan2", tmp_path_factory.mktemp("styled") / "run", 1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return opened("cdcgan", tmp_path_factory.mktemp("plain") / "run", 12)


# ------------------------------------------------------------------------ the files


def test_every_address_that_the_page_names_is_answered() -> None:
    paths = set(make_app({"toy": Toy()}, page=True).openapi()["paths"])
    asked = set(re.findall(r"""(?:ask|post|fetch)\(["'`](/[\w./]*)""", SCRIPT))
    assert asked == {"/models", "/latents", "/sample", "/edit", "/translate"}
    linked = {found.get(key) for _, found in ELEMENTS for key in ("href", "src") if found.get(key)}
    linked -= {"data:,"}
    assert linked == {"/page.css", "/page.js", "/docs"}
    assert asked <= paths
    assert [answer.status for answer in answers(Toy(), *((path,) for path in linked))] == [200] * 3
    without = make_app({"toy": Toy()})
    assert not {"/latents", "/edit"} & set(without.openapi()["paths"])
    assert asyncio.run(ask(without, "/page.js")).status == 404


def test_the_page_needs_nothing_from_elsewhere() -> None:
    for text in (HTML, SCRIPT, STYLE):
        assert not re.search(r"https?:|//\w+\.|url\(|@import|import\(|eval\(|innerHTML|\son\w+=|style=", text)
    assert not re.search(r"<script(?![^>]* src=)|<style", HTML)  # what the policy of the service refuses
    assert (set(demo.FILES.values())) == {path.name for path in PAGE.iterdir()}
    built = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "src/gan_experiments" in built["packages"]  # with all its files


def test_every_element_that_the_script_names_is_there_and_the_other_way_round() -> None:
    named = {name for one in ("at", "on") for name in re.findall(rf"""\b{one}\(["']([\w-]+)["']""", SCRIPT)}
    assert named <= IDS
    labels = {found["for"] for _, found in ELEMENTS if found.get("for")}
    described = {word for _, found in ELEMENTS for word in (found.get("aria-labelledby") or "").split()}
    assert labels | described <= IDS
    listed = set(re.findall(r"for \(const id of (\[.*?\])\)", SCRIPT))
    listed = {name for one in listed for name in re.findall(r'"(\w+)"', one)}
    unused = IDS - named - labels - described - listed
    assert not unused, "nothing reads these"


def test_every_field_has_a_label_that_is_read_aloud() -> None:
    labelled = {found["for"] for tag, found in ELEMENTS if tag == "label" and found.get("for")}
    inside = {"model", "directions-file"}  # of a label
    for tag, found in ELEMENTS:
        if tag in ("input", "select"):
            assert found["id"] in labelled | inside
        if tag == "img":
            assert "alt" in found
        if tag in ("section", "main") and not found.get("hidden"):
            assert tag == "main" or found.get("aria-label") or found.get("aria-labelledby")
    assert ("html", {"lang": "en"}) in ELEMENTS


def test_colours_can_be_told_apart_light_and_dark() -> None:
    """By at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((.*?)\);", STYLE))
    both = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "panel")]
    for ink, ground in [*both, ("fault", "panel"), ("on-accent", "accent")]:
        for one, other in zip(pairs[ink].split(", "), pairs[ground].split(", "), strict=True):
            low, high = sorted((_luminance(one), _luminance(other)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground, one, other)


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_page_is_sent_with_a_policy_and_without_the_token() -> None:
    requests = [(path,) for path in demo.FILES] + [("/latents",)]
    *files, latents = answers(Toy(), *requests, token="0123456789abcdef")
    for answer, name in zip(files, demo.FILES.values(), strict=True):
        assert answer.status == 200
        assert answer.body == (PAGE / name).read_bytes()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert latents.status == 401


# ------------------------------------------------------------------------ edits


def picture(answer: Answer) -> np.ndarray:
    assert answer.status == 200, answer.body
    return np.asarray(Image.open(io.BytesIO(answer.body))).astype(int)


def edits(model: Run, *asked: dict[str, Any]) -> list[Answer]:
    return answers(model, *(("/edit", {"seed": 3, "n": 2, **one}) for one in asked))


@pytest.mark.parametrize("name", ["styled", "plain"])
@pytest.mark.parametrize("truncation", [None, 0.7])
def test_an_image_that_nothing_edits_is_the_drawn_one(name: str, truncation: float | None, request: Any) -> None:
    model = request.getfixturevalue(name)
    words = {"seed": 3, "n": 2, "truncation": truncation}
    drawn, *rows = answers(
        model,
        ("/sample", {**words, "format": "json"}),
        *(("/edit", {**words, "row": row}) for row in range(2)),
    )
    for coded, row in zip(json.loads(drawn.body)["images"], rows, strict=True):
        wanted = np.asarray(Image.open(io.BytesIO(base64.b64decode(coded)))).astype(int)
        assert np.abs(picture(row) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["styled", "plain"])
def test_the_way_leads_from_one_seed_to_the_other(name: str, request: Any) -> None:
    model = request.getfixturevalue(name)
    ways = [{"share": share, "other": 9} for share in (0, 0.5, 1)]
    told = edits(model, *({"label": "c1", **asked} for asked in (*ways, {}, {"seed": 9})))
    start, middle, end, one, other = map(picture, told)
    assert np.abs(start - one).max() <= 1
    assert np.abs(end - other).max() <= 1
    assert np.abs(middle - one).max() > 1
    assert np.abs(middle - other).max() > 1


def test_styles_and_directions_change_the_image_as_explore_has_it(styled: Run) -> None:
    (told,) = answers(styled, ("/latents",))
    found = json.loads(told.body)[styled.name]
    assert "coarse" in found["styles"]
    names = found["directions"]["sefa-all"]
    bare, mixed, moved, back = map(
        picture,
        edits(
            styled,
            {},
            {"styles": "coarse", "other": 9},
            {"file": "sefa-all", "strengths": {names[0]: 6.0}},
            {"file": "sefa-all", "strengths": {names[0]: 0.0}},
        ),
    )
    assert np.abs(mixed - bare).max() > 1
    assert np.abs(moved - bare).max() > 1
    assert np.array_equal(back, bare)


def test_directions_of_explore_are_found_in_the_run_folder(plain: Run) -> None:
    vectors = torch.eye(plain.facts.latent_dim)[:2]
    directions = Directions("z", vectors, torch.ones(2), ["round", "thin"], None)
    path = plain.folder / "explored" / "00000008" / "attributes.pt"
    directions.write(path)
    (path.parent / "projected.pt").write_bytes(b"damaged")
    bare, moved = edits(plain, {}, {"file": "attributes", "strengths": {"thin": 3.0}})
    z = plain.noise(2, 3)[:1]
    z[0, 1] += 3
    wanted = plain.draw(z, plain.labels(2, 3)[:1])[0]  # type: ignore[index]
    assert np.abs(picture(moved) - wanted.squeeze(0).numpy()).max() <= 1
    assert np.abs(picture(moved) - picture(bare)).max() > 1
    path.unlink()


def test_scenes_are_seen_from_where_is_asked(tmp_path: Path) -> None:
    model = opened("eg3d", tmp_path / "run", 3)
    model.model.data_conditions = Cameras(cameras_around(30).float())
    model = Run(model.model, model.cfg, model.folder)
    asked = {"seed": 3, "n": 2, "camera": [30, 15.5]}
    told, drawn, edited, usual, *refused = answers(
        model,
        ("/models",),
        ("/sample", {**asked, "format": "json"}),
        ("/edit", {**asked, "row": 1}),
        ("/sample", {"seed": 3, "n": 2, "format": "json"}),
        ("/sample", {**asked, "label": 1}),
        ("/sample", {**asked, "camera": [30, 95]}),
        ("/sample", {**asked, "camera": [30]}),
    )
    assert len(json.loads(told.body)["models"][0]["cameras"]) == 24
    drawn, usual = json.loads(drawn.body), json.loads(usual.body)
    assert drawn["labels"] == ["yaw 30° pitch 16°"] * 2
    assert len({*usual["labels"]}) == 2 or usual["labels"] != drawn["labels"]
    wanted = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["images"][1])))).astype(int)
    assert np.abs(picture(edited) - wanted).max() <= 1
    assert provenance.of_xmp(Image.open(io.BytesIO(edited.body)).info["xmp"]).label == "yaw 30° pitch 16°"
    assert [answer.status for answer in refused] == [422] * 3
    assert "this model is told cameras and knows no classes" in json.loads(refused[0].body)["error"]
    assert "pitch above the horizon, below 90" in json.loads(refused[1].body)["error"]
    seen = model.sample(2, 3, label=[30, 15.5], form="tensor")
    assert np.abs(seen[1].permute(1, 2, 0).numpy() - wanted).max() <= 1


def test_a_camera_is_for_models_that_are_told_one(plain: Run) -> None:
    (answer,) = answers(plain, ("/sample", {"camera": [30, 15]}))
    assert (answer.status, json.loads(answer.body)["error"]) == (
        422,
        "camera: this model is told no camera; leave it out",
    )


def test_captions_are_drawn_edited_and_marked(tmp_path: Path) -> None:
    model = opened("gan_int_cls", tmp_path / "run", 12)
    words = Vocabulary(("a", "thick", "thin", "seven"), 4)
    model.model.data_conditions = Captions(words.encode(["a thin seven", "a thick seven"]), words)
    model = Run(model.model, model.cfg, model.folder)
    asked = {"seed": 3, "n": 2, "label": "a thick purple seven"}
    told, drawn, edited, unknown, usual = answers(
        model,
        ("/models",),
        ("/sample", {**asked, "format": "json"}),
        ("/edit", {**asked, "row": 1}),
        ("/edit", {**asked, "label": "purple"}),
        ("/edit", {"seed": 3}),
    )
    assert json.loads(told.body)["models"][0]["words"] == list(words.words)
    drawn = json.loads(drawn.body)
    assert drawn["labels"] == ["a thick ? seven"] * 2
    wanted = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["images"][1])))).astype(int)
    assert np.abs(picture(edited) - wanted).max() <= 1
    mark = provenance.of_xmp(Image.open(io.BytesIO(edited.body)).info["xmp"])
    assert mark is not None
    assert mark.label == "a thick ? seven"
    assert (unknown.status, usual.status) == (422, 200)
    assert "label=purple: none of its words is known" in unknown.error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"row": 2}, "row=2: of n=2 images the last one is row=1"),
        ({"file": "none", "strengths": {"a": 1.0}}, "there is no direction a in file=none"),
        ({"strengths": {"a": 99.0}}, "less than or equal to 20"),
        ({"share": 1.5}, "less than or equal to 1"),
        ({"styles": "purple"}, "styles=purple"),
        ({"label": "cat"}, "label=cat"),
        ({"nonsense": 1}, "nothing reads this key"),
    ],
)
def test_wrong_edits_are_refused_in_one_line(words: dict[str, Any], said: str, styled: Run) -> None:
    (answer,) = edits(styled, words)
    assert answer.status == 422
    assert said in answer.error


def test_exported_files_are_drawn_from_and_not_edited() -> None:
    latents, edit = answers(Toy(), ("/latents",), ("/edit", {"seed": 1}))
    assert latents.body == b"{}"
    assert edit.status == 422
    assert "only trained runs" in edit.error


@pytest.mark.parametrize("kind", provenance.KINDS)
def test_pictures_of_the_page_are_marked(kind: str, plain: Run) -> None:
    async def main() -> list[Answer]:
        app = make_app({plain.name: plain}, Settings(batch_size=2), page=True, provenance=kind)
        async with app.router.lifespan_context(app):
            words = {"seed": 3, "label": "c2"}
            return [await ask(app, path, words) for path in ("/edit", "/sample")]

    for answer in asyncio.run(main()):
        mark = provenance.of_xmp(Image.open(io.BytesIO(answer.body)).info.get("xmp", b""))
        assert (mark is None) == (kind == "none")
        if mark is not None:
            assert (mark.model, mark.seed, mark.label, mark.composite) == (plain.facts.model, 3, "c2", False)


# ------------------------------------------------------------------------ the verb


def test_demo_has_the_options_of_serve_that_a_person_at_a_page_needs() -> None:
    here, there = (OmegaConf.load(REPOSITORY / "conf" / f"{name}.yaml") for name in ("demo", "serve"))
    assert set(here) <= set(there)
    assert here.host == "127.0.0.1"
    assert all(here[key] == there[key] for key in here if key not in ("run", "defaults"))


def test_demo_on_all_addresses_needs_a_token(tmp_path: Path) -> None:
    done = run("run=nowhere", "host=0.0.0.0", verb="demo", folder=tmp_path)
    assert done.returncode == 2
    assert "GAN_EXPERIMENTS_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert verb.demo.__doc__
    with pytest.raises(ConfigError, match="points"):
        make_app({"toy": Toy(kind="points")}, page=True)
