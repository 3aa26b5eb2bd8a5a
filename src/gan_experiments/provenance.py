"""What the metadata of a picture say of how it was made: by a trained model, by which one, from which seed.

The words are IPTC's digital source type, in XMP, which programs for photographs read, and fields of our own beside it.
Pixels are not touched. Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import filterfalse
from pathlib import Path
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from gan_experiments import __version__

KINDS = ("iptc", "none")
"""The values of the option `provenance=`."""
USUAL = "iptc"
MADE, COMPOSITE = (
    f"http://cv.iptc.org/newscodes/digitalsourcetype/{name}"
    for name in ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")
)
"""IPTC's digital source types of a picture that a model made, and of one in which there is a given picture too."""
IPTC, OURS = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "urn:gan_experiments:provenance#"
RDF, XMLNS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/2000/xmlns/"
XMP = "http://ns.adobe.com/xap/1.0/"
KEPT = (
    "http://purl.org/dc/elements/1.1/",
    "http://ns.adobe.com/xap/1.0/rights/",
    "http://ns.adobe.com/photoshop/1.0/",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    IPTC,
    "http://ns.useplus.org/ldf/xmp/1.0/",
    "http://creativecommons.org/ns#",
)
"""The namespaces of a photograph's XMP that its translation keeps: who made it, what it shows, who may use it.

The others say how its pixels lie in the file and how a program developed them, which is no longer so.
"""
LONGEST = 60_000
"""The largest size of a packet in bytes; a JPEG holds 65,502 in one piece."""
TEXT, KEYWORD = "gan_experiments", "XML:com.adobe.xmp"
"""The keywords of our fields and of XMP in PNG."""
_GIF = b"\x21\xff\x0bXMP DataXMP", b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


@dataclass(frozen=True)
class Mark:
    """How a picture was made.

    Args:
        model: what was trained, in a word.
        run: the name of the run, without the folders above.
        checkpoint: the SHA-256 of the checkpoint's file in hexadecimal digits; empty during a training.
        images_seen: the images that the model had seen; None if several models made parts of the picture.
        seed: of the noise, or of the training in its own sheets.
        label: the class that was asked for.
        composite: whether pictures that were given are part of it, as that which was translated.
    """

    model: str = ""
    run: str = ""
    checkpoint: str = ""
    images_seen: int | None = None
    seed: int | None = None
    label: str = ""
    composite: bool = False

    @property
    def source_type(self) -> str:
        """The address of IPTC's digital source type."""
        return COMPOSITE if self.composite else MADE

    def told(self) -> dict[str, str | int]:
        """Return what is known, by field."""
        found = {key: value for key, value in asdict(self).items() if key != "composite"}
        return {key: _clean(value) for key, value in found.items() if value not in ("", None)}

    def text(self) -> str:
        """Return the fields as JSON, with the source type and the version of this package."""
        return json.dumps({"digital_source_type": self.source_type, **self.told(), "software": _software()})


def together(marks: list[Mark]) -> Mark | None:
    """Return the mark of a picture made of others: what is the same in all of them; None of none."""
    if not marks:
        return None
    same = {
        key.name: getattr(marks[0], key.name)
        for key in fields(Mark)
        if len({getattr(mark, key.name) for mark in marks}) == 1
    }
    return Mark(**{**same, "composite": any(mark.composite for mark in marks)})


def packet(mark: Mark | None, photograph: str = "") -> bytes:
    """Return XMP, UTF-8, of a mark and of what is `kept` of a photograph's; empty if there is neither.

    If both together are too long, the photograph's is left out.
    """
    if mark is None and not photograph:
        return b""
    body = photograph or f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'
    if mark is not None:
        head, end, tail = body.rpartition("</rdf:RDF>")
        body = f"{head}{_description(mark)}{end}{tail}"
    whole = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="r"?>'.encode()
    return whole if len(whole) <= LONGEST or not photograph else packet(mark)


def _description(mark: Mark) -> str:
    ours = {"".join(word.capitalize() for word in key.split("_")): value for key, value in mark.told().items()}
    told = [("Iptc4xmpExt:DigitalSourceType", mark.source_type), ("xmp:CreatorTool", _software())]
    told += [(f"gan:{name}", str(value)) for name, value in ours.items()]
    spaces = f'xmlns:Iptc4xmpExt="{IPTC}" xmlns:xmp="{XMP}" xmlns:gan="{OURS}"'
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in told)
    return f'<rdf:Description rdf:about="" {spaces}>{inside}</rdf:Description>'


def kept(xmp: object) -> str | None:
    """Return what a translation keeps of a photograph's XMP: "" for nothing, None if it cannot be read.

    It is what is in KEPT, without the digital source type, which a translation has one of its own of.
    """
    try:
        document, rdf = _parsed(xmp)
    except (ValueError, ExpatError, RecursionError):
        return None
    left = 0
    for node in [*rdf.childNodes]:
        if (node.namespaceURI, node.localName) != (RDF, "Description"):
            rdf.removeChild(node)
            continue
        node.setAttribute("rdf:about", "")  # that of ours, as all must have the same
        told = [one for one in node.attributes.values() if one.namespaceURI not in (XMLNS, RDF)]
        for attribute in filterfalse(_stays, told):
            node.removeAttributeNode(attribute)
        for child in [*filterfalse(_stays, node.childNodes)]:
            node.removeChild(child)
        left += len(node.childNodes) + sum(map(_stays, told))
    return document.documentElement.toxml() if left else ""


def _stays(node: Any) -> bool:
    return node.namespaceURI in KEPT and (node.namespaceURI, node.localName) != (IPTC, "DigitalSourceType")


def _parsed(xmp: object) -> tuple[Any, Any]:
    """Return the document of an XMP packet and its element rdf:RDF. Raises ValueError or ExpatError if it is none."""
    if not isinstance(xmp, bytes | str):
        raise ValueError("no text")
    text = (xmp if isinstance(xmp, str) else xmp.decode()).strip("\0\ufeff \r\n\t")
    if len(text) > LONGEST or "<!" in text:  # which could define entities, and XMP must not
        raise ValueError("no XMP, or too long")
    document = minidom.parseString(text.encode())
    found = document.getElementsByTagNameNS(RDF, "RDF")
    if len(found) != 1 or found[0].tagName != "rdf:RDF":
        raise ValueError("no XMP")
    return document, found[0]


def options(kind: str, mark: Mark | None, photograph: str = "") -> dict[str, Any]:
    """Return Pillow's options that write a mark, and what is `kept` of a photograph's XMP, into a file of a format.

    They are empty for BMP, which cannot hold it, for TIFF, where it is a tag, and for GIF, see `into_gif`.
    """
    xmp = packet(mark, photograph)
    if kind == "PNG" and xmp:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for keyword, text in _texts(xmp, mark):
            info.add_itxt(keyword, text)
        return {"pnginfo": info}
    return {"xmp": xmp} if kind in ("JPEG", "WEBP") and xmp else {}


def chunks(mark: Mark | None, photograph: str = "") -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG, their names and contents, that hold the same."""
    if xmp := packet(mark, photograph):
        for keyword, text in _texts(xmp, mark):
            yield b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode()


def _texts(xmp: bytes, mark: Mark | None) -> Iterator[tuple[str, str]]:
    yield KEYWORD, xmp.decode()
    if mark is not None:
        yield TEXT, mark.text()


def into_gif(path: Path, mark: Mark | None) -> None:
    """Add a mark to a file that holds a GIF: as XMP, at its end."""
    if mark is None:
        return
    raw = path.read_bytes()
    assert raw[:3] == b"GIF"
    assert raw[-1:] == b";"
    path.write_bytes(raw[:-1] + _GIF[0] + packet(mark) + _GIF[1] + raw[-1:])


def read(path: Path) -> Mark | None:
    """Return the mark in a picture's file, or None if it has none. Raises OSError if it cannot be read."""
    from PIL import Image

    with Image.open(path) as image:
        xmp = image.info.get("xmp", b"")
        if image.format == "GIF":
            xmp = path.read_bytes().rpartition(_GIF[0])[2].partition(_GIF[1])[0]
    return of_xmp(xmp)


def of_xmp(xmp: bytes) -> Mark | None:
    """Return the mark in a packet of XMP, or None if it has none of ours."""
    try:
        document, _ = _parsed(xmp)
    except (ValueError, ExpatError, RecursionError):
        return None

    def value(space: str, name: str) -> str:
        found = document.getElementsByTagNameNS(space, name)
        return "".join(node.data for one in found for node in one.childNodes if node.nodeType == node.TEXT_NODE)

    source = value(IPTC, "DigitalSourceType")
    if source not in (MADE, COMPOSITE) or not document.getElementsByTagNameNS(OURS, "Model"):
        return None

    def number(name: str) -> int | None:
        text = value(OURS, name)
        return int(text) if text.isdecimal() else None

    return Mark(
        model=value(OURS, "Model"),
        run=value(OURS, "Run"),
        checkpoint=value(OURS, "Checkpoint"),
        images_seen=number("ImagesSeen"),
        seed=number("Seed"),
        label=value(OURS, "Label"),
        composite=source == COMPOSITE,
    )


def name_of(folder: Path) -> str:
    """Return the name of a run: that of its folder, with the date above it if there is one, and nothing above."""
    parent = folder.parent.name
    return f"{parent}/{folder.name}" if re.fullmatch(r"\d{4}-\d\d-\d\d", parent) else folder.name


def _software() -> str:
    return f"gan_experiments {__version__}"


def _clean(value: str | int) -> str | int:
    """Leave out of a text what XML cannot hold, and line breaks."""
    return value if isinstance(value, int) else "".join(filter(str.isprintable, value))
