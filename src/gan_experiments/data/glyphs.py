"""Characters drawn in several fonts: {"input", "target", "label"}, the data of zi2zi."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import BelowOne, Classes, Place, Positive, Resolution, Seed, Width, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import Shape
from gan_experiments.data.paired import Pairs
from gan_experiments.data.sources import BLOCK, Block, Settings, Source, spread
from gan_experiments.data.texts import decoded

log = logging.getLogger(__name__)

RANGES = {
    "latin": range(0x21, 0x250),  # with the accented letters of Europe
    "han": range(0x4E00, 0xA000),  # CJK Unified Ideographs
    "kana": range(0x3041, 0x30FF),
    "hangul": range(0xAC00, 0xD7A4),
}
_NOWHERE = "\U0010ffff"  # no font has it: draws the box of a missing glyph
_PROBE = 32  # pixels at which blank and missing glyphs are looked for


def _text(characters: str) -> str:
    """Return the characters themselves, or the content of the text file of that name; raise ConfigError without it."""
    file = Path(characters).expanduser()
    short = len(characters) < 256  # a name
    if short and file.is_file():
        return decoded(file.read_bytes(), f"data.characters={characters}")
    if characters.lower().endswith(".txt") or "/" in characters or os.sep in characters or (short and file.exists()):
        raise ConfigError(
            f"data.characters={characters}: there is no such text file; type data.characters={'|'.join(RANGES)}, "
            "a text file, or the characters themselves without / (those with one in a file)"
        )
    return characters


class Font:
    """A font file in `root` or at any path; "name.ttc:2" is its third face.

    Raises ConfigError if it is no font.
    """

    def __init__(self, path: str, root: Path = Path()) -> None:
        self.path = path
        file, colon, face = path.rpartition(":")
        given, self.face = (file, int(face)) if colon and face.isdigit() else (path, 0)
        self.file = next((place for place in (root / given, Path(given)) if place.is_file()), Path(given)).expanduser()
        try:
            self._probe = self._sized(_PROBE)
        except OSError as error:
            raise ConfigError(
                f"data.fonts: {path} is no font file ({error}): type data.fonts=[a.ttf,b.ttc:1]"
            ) from None
        missing = self._probe.getmask(_NOWHERE)
        self._missing = missing.size, bytes(missing)
        self.name = self.file.stem + (f"-{self.face}" if self.face else "")

    def has(self, character: str) -> bool:
        """Return True if the font draws a character, neither blank nor as the box of a missing glyph."""
        mask = self._probe.getmask(character)
        return mask.getbbox() is not None and (mask.size, bytes(mask)) != self._missing

    def draw(self, characters: Sequence[str], resolution: Shape, em: int) -> Tensor:
        """Draw characters of `em` pixels, black on white, to uint8 [n, 1, H, W], H and W as in `resolution`.

        The middle of the line, between ascender and descender, is that of the image, so characters keep their places.
        """
        font, (height, width) = self._sized(em), sides(resolution)
        glyphs = []
        for character in characters:
            image = Image.new("L", (width, height), 255)
            ImageDraw.Draw(image).text((width / 2, height / 2), character, 0, font, anchor="mm")
            glyphs.append(np.array(image))
        return torch.from_numpy(np.stack(glyphs))[:, None]

    def _sized(self, size: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(self.file), size, self.face, layout_engine=ImageFont.Layout.BASIC)


class GlyphPairs(Source):
    """Pairs of a character in the first font and in another one, whose number among the others is the label.

    Those of `characters` that some font lacks are left out. `scale` is the size of the em as a share of the image's
    shorter side.
    """

    def __init__(self, fonts: Sequence[Font], characters: Sequence[str], scale: float, limit: int | None) -> None:
        self.fonts, self.characters, self.scale, self.limit = fonts, characters, scale, limit
        self.name, self.where = "glyphs", f"data.fonts=[{','.join(Path(font.path).name for font in fonts)}]"
        self.class_names = [font.name for font in fonts[1:]]

    def __len__(self) -> int:
        return (len(self.fonts) - 1) * len(self.characters)

    def identity(self) -> list[object]:
        """List the font files, their faces and names, and the characters."""
        files = [(f.file.name, f.face, f.file.stat().st_size, f.file.stat().st_mtime_ns) for f in self.fonts]
        return [files, self.class_names, "".join(self.characters), self.scale, self.limit]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Draw the pairs; `threads` is not used, because threads may not share a font."""
        common = [c for c in self.characters if all(font.has(c) for font in self.fonts)]
        if not common:
            raise ConfigError(f"{self.where}: no character is in all of them, type data.characters={'|'.join(RANGES)}")
        common = [common[i] for i in spread(len(common), self.limit)]
        em = max(1, round(self.scale * min(settings.shape[1:])))
        channels = settings.channels // 2
        for label, font in enumerate(self.fonts[1:]):
            for start in range(0, len(common), BLOCK):
                part = common[start : start + BLOCK]
                both = [
                    f.draw(part, settings.resolution, em).expand(-1, channels, -1, -1) for f in (self.fonts[0], font)
                ]
                yield Block(torch.cat(both, dim=1), torch.full((len(part),), label), [])


class Glyphs(Pairs):
    """Characters in a source font, "input", and in a target font, "target", whose number is "label".

    `fonts` are files, or names in the folder `root`, the source first ("name.ttc:2" is the third face of a
    collection); null takes all of `root` by name. `characters` are one of RANGES, or the characters themselves, or a
    text file of them, see `read_text`; those that a font lacks or leaves blank are left out. `test_fraction` of them,
    drawn by `split_seed`, are the split "test", and are trained on in no font. `scale` is the size of the em as a share
    of the image's side. Raises ConfigError if there are fewer than two fonts, or no common characters.
    """

    provides = frozenset({"input", "target", "label"})
    splits = ("train", "test")

    def __init__(
        self,
        root: Place = "data/fonts",
        resolution: Resolution = 256,
        channels: Width = 1,
        fonts: Sequence[str] | None = None,
        classes: Classes = 1,
        characters: str = "han",
        scale: Positive = 150 / 256,
        test_fraction: BelowOne = 0.1,
        split_seed: Seed = 0,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, channels=channels, classes=classes, **settings)
        faults = []
        if not 0 < test_fraction < 1:
            faults.append(f"data.test_fraction={test_fraction}: a part is needed, type data.test_fraction=0.1")
        if not 0 < scale <= 1:
            faults.append(f"data.scale={scale}: a part of the image is needed, type data.scale=0.6")
        if self.flip:
            faults.append("data.flip=true, but a mirrored character is none: type data.flip=false")
        if self.fit != "crop":
            faults.append(f"data.fit={self.fit}: characters are drawn in the wanted shape; leave it out")
        if faults:
            raise ConfigError(*faults)
        self.root, self.fonts, self.characters, self.scale = root, fonts, characters, scale
        self.test_fraction, self.split_seed = test_fraction, split_seed

    def load_at(self, split: str, resolution: Shape) -> ImageArray:
        """Draw the characters of a split, or open their cache."""
        root = Path(self.root).expanduser()
        names = self.fonts
        if names is None:
            names = sorted(path.name for path in root.glob("*") if path.suffix.lower() in (".ttf", ".ttc", ".otf"))
        if len(names) < 2:
            raise ConfigError(
                f"data.fonts={self.fonts} with data.root={self.root} gives {len(names)} font files of the two or more "
                "that are needed: type data.fonts=[source.ttf,target.ttf]"
            )
        source = GlyphPairs([Font(name, root) for name in names], self._characters(split), self.scale, self.limit)
        source.name = f"glyphs-{split}"
        return cached(source, self._pair_settings(resolution), self.cache, split)

    @override
    def has(self, split: str) -> bool:
        return split in self.splits

    def _characters(self, split: str) -> list[str]:
        """Return the characters of a split, in their order; the choice does not depend on the fonts."""
        if self.characters in RANGES:
            every = [chr(code) for code in RANGES[self.characters]]
        else:
            every = [c for c in dict.fromkeys(_text(self.characters)) if not c.isspace()]
        order = np.random.default_rng(self.split_seed).permutation(len(every))
        test = set(order[: max(1, round(self.test_fraction * len(every)))].tolist())
        return [c for i, c in enumerate(every) if (i in test) == (split == "test")]
