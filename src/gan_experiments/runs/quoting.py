"""Quoting of the words of a command: for Hydra, which parses them, and for the shell, in which they are typed.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def quoted(text: object) -> str:
    """Return a text in quotes, as a value that Hydra reads unchanged."""
    escaped = str(text).replace("${", r"\${")  # it would be an interpolation
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", escaped)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def word(key: str, value: object) -> str:
    """Return `key=value` for Hydra, with quotes only if the value needs them."""
    if isinstance(value, (bool, int, float)):
        return f"{key}={value}"
    text = str(value)
    plain = text and "${" not in text and parsed(f"{key}={text}") == text
    return f"{key}={text if plain else quoted(text)}"


def value_of(word: str) -> str:
    """Return the value of a word of the command line, without its quotes for Hydra."""
    text = word.partition("=")[2]
    value = parsed(word) if text[:1] in ("'", '"') else None
    return value.replace(r"\${", "${") if isinstance(value, str) else text


verb: list[str] = []
"""The verb that was typed before the words of this command, if any."""


_python: ContextVar[str | None] = ContextVar("_python", default=None)


@contextlib.contextmanager
def in_python(arguments: str) -> Iterator[None]:
    """Inside the `with`, `command` returns a call of `gx.train`, with these arguments after the words."""
    before = _python.set(arguments)
    try:
        yield
    finally:
        _python.reset(before)


def command(*words: str) -> str:
    """Return the command that starts this program again with other words, as it is typed in a shell, or in Python."""
    if (arguments := _python.get()) is not None:
        return f"gx.train({', '.join(filter(None, [json.dumps([*words]), arguments]))})"
    script = sys.argv[0]
    program = ["python", script] if script.endswith(".py") else [script.rpartition("/")[2]]
    if script.endswith("__main__.py"):
        program = ["python", "-m", "gan_experiments"]
    return shlex.join([*program, *verb, *words])


def run_again(words: Sequence[str]) -> str:
    """Return the command that starts a run of these words, as it is typed in a shell."""
    return shlex.join(["gan-experiments", *words])


def of_verb(verb: str, **options: object) -> str:
    """Return the command of a verb with these options, as it is typed in a shell."""
    return shlex.join(["gan-experiments", verb, *(word(key, value) for key, value in options.items())])


def parsed(word: str) -> object:
    """Return the value of a word as Hydra reads it; None for one that it does not understand."""
    try:
        return OverridesParser.create().parse_override(word).value()
    except HydraException:
        return None
