"""Characters in several fonts: those of matplotlib, which are always there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from support import ready, require_exact

from gan_experiments.contracts import ConfigError
from gan_experiments.data.glyphs import Font, Glyphs

FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
SANS, SERIF, ROMAN = "DejaVuSans.ttf", "DejaVuSerif.ttf", "cmr10.ttf"  # cmr10 has no accented letters


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("glyphs")


def glyphs(cache: Path, *fonts: str, **settings: Any) -> Glyphs:
    fonts = fonts or (SANS, SERIF)
    given = {"resolution": 32, "characters": "latin", "batch_size": 8, "cache": str(cache), **settings}
    return Glyphs(str(FONTS), fonts=list(fonts), classes=len(fonts) - 1, **given)


def test_each_character_in_each_target_font(cache: Path) -> None:
    data = glyphs(cache, SANS, SERIF, "DejaVuSans-Bold.ttf", characters="ABCDEFGHIJ", test_fraction=0.2, batch_size=16)
    data.prepare_data()
    assert data.describe() == "Glyphs: 16 pairs 1x32x32, 2 classes"
    assert data.class_names == ["DejaVuSerif", "DejaVuSans-Bold"]
    assert data.provides == {"input", "target", "label"}
    batch = ready(data)
    assert batch.keys() == {"input", "target", "label"}
    assert batch["input"].shape == batch["target"].shape == (16, 1, 32, 32)
    assert batch["label"].bincount().tolist() == [8, 8]
    ink = -batch["target"].mean((1, 2, 3))
    assert ink[batch["label"] == 1].mean() > ink[batch["label"] == 0].mean() + 0.02  # bold
    pairs = data.pairs().pixels
    assert torch.equal(pairs[:8, 0], pairs[8:, 0])  # the same characters in the source font
    assert len(data.pairs("test")) == 4
    fixed = data.fixed(4)
    assert fixed["label"].tolist() == [0, 0, 1, 1]


def test_blank_and_missing_characters_are_left_out(cache: Path) -> None:
    sans, roman = Font(SANS, FONTS), Font(ROMAN, FONTS)
    for character, in_sans, in_roman in (("A", True, True), ("\u0416", True, False), ("\u4e2d", False, False)):
        assert (sans.has(character), roman.has(character)) == (in_sans, in_roman)
    assert not sans.has("\u00a0")  # there, but blank
    data = glyphs(cache, SANS, ROMAN, characters="A B\u0416C D\u4e2d", test_fraction=0.1)
    assert len(data.pairs()) == len(set(data._characters("train")) & set("ABCD")) >= 3
    assert data.pairs().pixels.flatten(2).min(2).values.max() < 128


def test_letters_keep_their_place_in_the_line(cache: Path) -> None:
    """A full stop lies low and a quotation mark high: not each glyph is centred, but the line."""
    stop, quote, box = Font(SANS, FONTS).draw('."M', 64, 48)[:, 0].float()
    rows = torch.arange(64.0)

    def middle(image: torch.Tensor) -> float:
        ink = (255 * 64 - image.sum(1)).clamp_min(0)
        return (ink * rows).sum().item() / ink.sum().item()

    assert middle(quote) < middle(box) - 8 < middle(box) + 8 < middle(stop)
    columns = torch.nonzero((box < 128).any(0))[:, 0]
    assert abs(columns.float().mean() - 31.5) < 2


def test_the_split_is_by_character_and_the_same_for_all_fonts(cache: Path) -> None:
    def characters(split: str, **settings: Any) -> list[str]:
        return glyphs(cache, **settings)._characters(split)

    train, test = characters("train"), characters("test")
    assert len(test) == round(0.1 * (len(train) + len(test)))
    assert not set(train) & set(test)
    assert characters("test", seed=5) == test
    assert characters("test", split_seed=5) != test
    one, other = glyphs(cache, limit=9), glyphs(cache, SANS, "DejaVuSans-Bold.ttf", limit=9)
    assert torch.equal(one.pairs("test").pixels[:, 0], other.pairs("test").pixels[:, 0])
    assert len(one.pairs()) == 9


def test_characters_from_a_file_and_fonts_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "characters.txt").write_text("abc\ndef ghij a")
    (tmp_path / "fonts").mkdir()
    for name in (SANS, SERIF):
        (tmp_path / "fonts" / name).symlink_to(FONTS / name)
    data = Glyphs(
        str(tmp_path / "fonts"),
        32,
        characters=str(tmp_path / "characters.txt"),
        channels=3,
        cache=str(tmp_path / "cache"),
        batch_size=2,
    )
    assert (len(data.pairs()), len(data.pairs("test"))) == (9, 1)
    assert ready(data)["input"].shape == (2, 3, 32, 32)
    absolute = glyphs(tmp_path, str(FONTS / SANS), f"{FONTS / SERIF}:0", characters="abcdefghij")
    assert len(absolute.pairs()) == 9


def test_ranks_and_going_on(cache: Path) -> None:
    require_exact(lambda **more: glyphs(cache, characters="ABCDEFGHIJKLMNOPQRSTUVW", **more))


def test_mistakes(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives 1 font files of the two or more.*type data\.fonts="):
        Glyphs(str(FONTS), fonts=[SANS], cache=str(cache)).setup()
    with pytest.raises(ConfigError, match=r"data\.fonts=None with data\.root=.* gives 0 font files"):
        Glyphs(str(tmp_path), cache=str(cache)).setup()
    with pytest.raises(ConfigError, match=r"data\.fonts: none\.ttf is no font file"):
        glyphs(cache, SANS, "none.ttf").setup()
    with pytest.raises(ConfigError, match=r"no character is in all of them.*latin\|han"):
        glyphs(cache, characters="\u4e2d\u4e2e\u4e2f").setup()
    for given, said in (
        ({"flip": True}, r"type data\.flip=false"),
        ({"test_fraction": 1.0}, r"type data\.test_fraction=0\.1"),
        ({"scale": 0.0}, r"type data\.scale=0\.6"),
    ):
        with pytest.raises(ConfigError, match=said):
            glyphs(cache, **given)
    data = Glyphs(str(FONTS), 32, fonts=[SANS, SERIF], classes=3, characters="abc", cache=str(cache))
    with pytest.raises(ConfigError, match=r"has 1 classes \(DejaVuSerif\): type data\.classes=1"):
        data.setup()


HAN = "\u4e00\u4e01\u4e03\u4e07\u4e08\u4e09\u4e0a\u4e0b \n\u4e0d\u4e0e"
TEXTS = {
    "utf-8": HAN.encode(),
    "utf-8-sig": HAN.encode("utf-8-sig"),
    "utf-16": HAN.encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + HAN.encode("utf-16-be"),
    "utf-32": HAN.encode("utf-32"),
    "gbk": HAN.encode("gbk"),
    "gb18030": HAN.encode("gb18030"),
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_text_files_of_any_usual_encoding(
    encoding: str, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "characters"
    file.write_bytes(TEXTS[encoding])
    data = glyphs(cache, characters=str(file))
    assert sorted(data._characters("train") + data._characters("test")) == list("".join(HAN.split()))
    said = [record.getMessage() for record in caplog.records]
    assert any("GB18030: \u4e00\u4e01\u4e03" in line for line in said) is (encoding in ("gbk", "gb18030"))


@pytest.mark.parametrize(
    "raw", [b"\x89PNG\r\n\x1a\n\0\0\0", b"\xff\xfe\xff", b"\xff\xff\xff", "AB".encode("utf-16-le")]
)
def test_a_file_that_is_no_text(raw: bytes, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "characters.txt").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"^data.characters=.*: the file is no text in UTF-.*; save it as UTF-8$"):
        glyphs(cache, characters=str(tmp_path / "characters.txt"))._characters("train")


@pytest.mark.parametrize("name", ["typo.txt", "TYPO.TXT", "data/typo", "~/typo", "."])
def test_a_file_that_is_not_there_is_no_list_of_letters(name: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such text file; type data\.characters=latin\|") as caught:
        glyphs(cache, characters=name)._characters("train")
    assert "\n" not in str(caught.value)
