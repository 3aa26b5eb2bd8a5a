"""Text files of people, in the encodings that they have."""

from __future__ import annotations

import codecs
import logging

from gan_experiments.contracts import ConfigError

log = logging.getLogger(__name__)

_MARKS = {
    codecs.BOM_UTF8: "UTF-8-sig",
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order marks, and the encodings of files that begin with them."""


def decoded(raw: bytes, given: str) -> str:
    """Decode a text in the encoding of its byte order mark, else as UTF-8, else as GB18030 with a warning.

    GB18030 includes GBK and GB2312. Raises ConfigError, whose text begins with `given`, if it is none of these.
    """
    marked = next((encoding for mark, encoding in _MARKS.items() if raw.startswith(mark)), None)
    encodings = [marked] if marked else ["UTF-8", "GB18030"]
    for encoding in encodings if marked or b"\0" not in raw else []:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "GB18030":
            log.warning("%s is no UTF-8 and is read as GB18030: %s...", given, "".join(text.split())[:10])
        return text
    raise ConfigError(f"{given}: the file is no text in {' or '.join(encodings)}; save it as UTF-8")
