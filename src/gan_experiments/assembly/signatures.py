"""Signatures of classes: the arguments of their constructors with their types, and a JSON Schema of these."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, get_type_hints

import torch
from hydra.utils import get_object

from gan_experiments import bounds
from gan_experiments.runs.configs import conf_dir

SPECIAL = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}
"""Keys of a node that are not arguments."""
TARGET = re.compile(r"_target_: *([\w.]+)")
LATER = r"\$\{|^\?\?\?$"  # interpolations, and values that the user must type
OPTIMIZERS = {  # bounds that torch's own signatures do not give
    "lr": bounds.Rate,
    "betas": tuple[bounds.BelowOne, bounds.BelowOne],
    "eps": bounds.NotNegative,
    "weight_decay": bounds.NotNegative,
    "momentum": bounds.NotNegative,
    "dampening": bounds.Finite,
    "alpha": bounds.BelowOne,
}


@contextmanager
def silent(name: str) -> Iterator[None]:
    """Disable a logger inside the `with`, for errors that are handled there."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@dataclass(frozen=True)
class Signature:
    """What a callable takes: `hints` are the arguments' types, `usual` their defaults, `required` those without one.

    `anything` is True if it takes any other keyword arguments too.
    """

    hints: dict[str, Any]
    usual: dict[str, Any]
    required: frozenset[str]
    anything: bool


@cache
def signature(target: Any) -> Signature:
    """Return the signature of a callable; the `**kwargs` of a class are taken to go to its parent."""
    classes = [c for c in inspect.getmro(target) if "__init__" in vars(c)] if inspect.isclass(target) else [None]
    hints: dict[str, Any] = {}
    usual: dict[str, Any] = {}
    required: set[str] = set()
    anything = True
    for owner in classes:
        function = target if owner is None else vars(owner)["__init__"]
        parameters = list(inspect.signature(function).parameters.values())[0 if owner is None else 1 :]
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name not in hints:
                hints[one.name] = _hint(one, function, target)
                if one.default is not one.empty:
                    usual[one.name] = one.default
                elif one.name != "networks":
                    required.add(one.name)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            anything = False
            break
    hints.pop("networks", None)
    return Signature(hints, usual, frozenset(required), anything)


def _hint(parameter: inspect.Parameter, function: Any, target: Any) -> Any:
    """Return the type of a parameter; Any if it cannot be determined."""
    if inspect.isclass(target) and issubclass(target, torch.optim.Optimizer) and parameter.name in OPTIMIZERS:
        return OPTIMIZERS[parameter.name]
    if parameter.annotation is parameter.empty:
        return Any
    stub = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        hint = get_type_hints(stub, vars(sys.modules[function.__module__]), include_extras=True)["it"]
    except Exception:  # a name imported only for the type checker, or an unknown one
        return Any
    return hint | None if parameter.default is None else hint


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema with which an editor completes and checks the configs, and a user's own config files.

    It has the arguments of each class that a config names by `_target_`, with their types and bounds. Any value may be
    an interpolation, `${...}`, or `???` for one that the user must type.
    """
    classes = sorted(set(TARGET.findall("\n".join(path.read_text() for path in sorted(conf_dir().rglob("*.yaml"))))))
    known = {name: schema for name in classes if (schema := _of_class(name))}
    chosen = [
        {
            "if": {"properties": {"_target_": {"const": name}}},
            "then": {"$ref": f"#/$defs/{name}"},
        }
        for name in known
    ]
    inside = {"if": {"type": "object"}, "then": {"$ref": "#"}, "else": {"items": {"$ref": "#/$defs/any"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configs of gan_experiments",
        "type": ["object", "null"],
        "properties": {"_target_": {"type": "string", "examples": list(known)}},
        "additionalProperties": {"$ref": "#/$defs/any"},
        "dependentSchemas": {"_target_": {"allOf": chosen}},
        "$defs": {"any": inside, **known},
    }


def _of_class(name: str) -> dict[str, Any] | None:
    """Return the schema of a node with this class as `_target_`; None if its package is not installed."""
    try:
        with silent("hydra.utils"):
            takes = signature(get_object(name))
    except Exception:
        return None
    arguments = {key: _of_value(hint, takes.usual.get(key)) for key, hint in takes.hints.items()}
    closed = {} if takes.anything else {"propertyNames": {"enum": [*arguments, *sorted(SPECIAL), "defaults"]}}
    return {"properties": arguments, **closed}


def _of_value(hint: Any, usual: Any) -> dict[str, Any]:
    """Return the schema of one argument."""
    default = {"default": usual} if isinstance(usual, (bool, int, float, str)) else {}
    return {**_or_later(bounds.schema(hint)), **default}


def _or_later(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also allows an interpolation for every value, and refers to the schemas of known nodes."""
    if "anyOf" in schema:
        return {"anyOf": [_or_later(option) for option in schema["anyOf"]]}
    if "_target_" in schema.get("what", ""):
        schema = {"$ref": "#"}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema = {**schema, key: _or_later(schema[key])}
    if "prefixItems" in schema:
        schema = {**schema, "prefixItems": [_or_later(item) for item in schema["prefixItems"]]}
    return {"anyOf": [schema, {"type": "string", "pattern": LATER}]} if schema else {}
