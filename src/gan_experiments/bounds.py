"""Types with bounds for the values that a user types, and the line that says what a value should have been.

Classes use the types below in their signatures, where `assembly/check.py` reads them. OPTIONS holds the types of the
verbs' options. The types are strict: true and false are not numbers, a text is neither, and infinity and NaN are never
allowed.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

MOST = 10**12
"""The upper bound of numbers that have no tighter one."""

Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Finite = Annotated[float, Field(ge=-MOST, le=MOST)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
NotNegative = Annotated[float, Field(ge=0, le=MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
PartOf = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(ge=0)]  # a learning rate
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of NumPy's seeds

Width = Annotated[int, Field(ge=1, le=2**17)]  # channels, features, pixels of a side
_PAIR = Field(min_length=2, max_length=2, json_schema_extra={"what": "a pair of them [height,width]"})
Resolution = Width | Annotated[Sequence[Width], _PAIR]  # the side of squares, or height and width
Depth = Annotated[int, Field(ge=1, le=1000)]  # layers or blocks, built one by one in a loop
Few = Annotated[int, Field(ge=0, le=1000)]
Classes = Annotated[int, Field(ge=0, le=10**6)]
Batch = Annotated[int, Field(ge=1, le=10**5)]  # a batch size outside the training
Workers = Annotated[int, Field(ge=0, le=256)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Rhythm = Annotated[int, Field(ge=1, le=10**6)]  # an interval in batches
Cells = Annotated[int, Field(ge=1, le=4096)]  # images on a sheet
Samples = Annotated[int, Field(ge=1, le=10**7)]  # drawn, held in memory, scored
Scored = Annotated[int, Field(ge=2, le=10**7)]

Numbers = Annotated[Sequence[Finite], Field(min_length=1, max_length=1000)]
Place = Annotated[str, Field(min_length=1, json_schema_extra={"what": "a path"})]
Text = Annotated[str, Field(min_length=1)]


MaxTime = Annotated[
    str,
    Field(
        pattern=r"^\d{1,4}:[0-2]?\d:[0-5]?\d:[0-5]?\d$",
        json_schema_extra={"what": "days:hours:minutes:seconds (00:08:00:00 is 8 hours)"},
    ),
]
"""The longest time of a training."""


@dataclass(frozen=True)
class OneOf:
    """In `Annotated[str, OneOf("a", "b")]`: one of these words."""

    words: tuple[str | int, ...]

    def __init__(self, *words: str | int) -> None:
        object.__setattr__(self, "words", words)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_no_truth, core_schema.literal_schema(list(self.words)))


def _no_truth(value: object) -> object:
    if isinstance(value, bool):  # which are 1 and 0 to Python
        raise ValueError("true or false")
    return value


def _is_node(value: dict[str, Any]) -> dict[str, Any]:
    if value and "_target_" not in value:
        raise ValueError("no _target_")
    return value


Node = Annotated[
    dict[str, Any],
    AfterValidator(_is_node),
    Field(json_schema_extra={"what": "a node with a _target_"}),
]
"""The config of an argument that is an object: its `_target_` and arguments, or empty for none."""
Made = Annotated[Node, Field(min_length=1)]
"""A node that cannot be left empty."""

Crop = Annotated[str, OneOf("centre", "random")]
"""Which piece is cut out of an image of another shape than the wanted one."""
Fit = Annotated[str, OneOf("crop", "pad", "stretch")]
"""How an image gets the wanted shape."""
Existing = Annotated[str, OneOf("refuse", "keep", "replace")]
_COMMON: dict[str, Any] = {"seed": Seed, "ema": bool, "out": Place | None, "device": Text}
_MARKS: dict[str, Any] = {"provenance": Annotated[str, OneOf("iptc", "none")]}
_SERVICE: dict[str, Any] = {
    "host": Text,
    "port": Annotated[int, Field(ge=0, le=65535)],
    "batch_size": Annotated[int, Field(ge=1, le=1024)] | None,
    "wait": Annotated[float, Field(ge=0, le=10_000)],
    "queue": Annotated[int, Field(ge=1, le=10**6)],
    "max_n": Cells,
    "max_pixels": Count,
    "max_bytes": Annotated[int, Field(ge=1000, le=10**10)],
    "body_seconds": Annotated[float, Field(ge=0.1, le=3600)],
    "request_seconds": Annotated[float, Field(ge=0.1, le=86_400)],
    "connections": Annotated[int, Field(ge=1, le=65_536)],
    "threads": Threads | None,
    "tile": Annotated[int, Field(ge=1, le=2**17)] | None,
}
_CAMERA = Annotated[Sequence[Finite], Field(min_length=2, max_length=2)] | None  # yaw and pitch in degrees
_TRUNCATION = Positive | None
_LABEL = int | str | None
OPTIONS: dict[str, dict[str, Any]] = {
    "run": {
        "images": Count,
        "seed": Seed,
        "ckpt": str | None,
        "resume": bool,
        "check": bool,
        "output": Place,
        **_MARKS,
        "trainer.num_nodes": Annotated[int, Field(ge=1, le=2**16)],
        "trainer.strategy": Node | None,
        "trainer.channels_last": bool | Annotated[str, OneOf("auto")],
        **dict.fromkeys(("trainer.tf32", "trainer.cudnn_benchmark"), bool | Annotated[str, OneOf("auto")]),
        "trainer.chosen": str | None,
        "trainer.compile": Sequence[Text],
        "trainer.accumulate": Rhythm,
        "trainer.sync_batchnorm": bool,
        "trainer.log_every": Rhythm,
        "trainer.max_time": MaxTime | None,
        "trainer.extra": Mapping[str, Any],
        "logger": Mapping[str, Made],
        "callbacks": Mapping[str, Mapping[str, Any]],
        "technique": Mapping[str, Made],
        "augment": Node,
        "metrics": Node,
        "loss": Node,
        "perceptual": Node,
        "data": Made,
        "model": Made,
        "model.pretrained": Place | None,
    },
    "sample": _COMMON
    | _MARKS
    | {
        "run": Place,
        "n": Annotated[int, Field(ge=1, le=10**6)],
        "class": _LABEL,
        "caption": Text | Sequence[Text] | None,
        "truncation": _TRUNCATION,
        "singles": bool,
        "format": Text | None,
        "depth": Annotated[int, OneOf(8, 16)],
        "labels": Annotated[str, OneOf("data", "uniform")] | None,
        "camera": _CAMERA,
        "cameras": Place | None,
        "interpolation": Annotated[int, Field(ge=0, le=1000)],
    },
    "evaluate": _COMMON
    | _MARKS
    | {
        "compile": bool,
        "run": Place | Sequence[Place] | None,
        "checkpoints": bool,
        "fake": Place | None,
        "real": Place | None,
        "n": Annotated[int, Field(ge=2, le=10**7)] | None,
        "truncation": _TRUNCATION | Sequence[Positive],
        "standing_statistics": Annotated[int, Field(ge=0, le=10**5)],
        "labels": Annotated[str, OneOf("data", "uniform")] | None,
        "by_class": bool,
        "bootstrap": Annotated[int, Field(ge=0, le=10**5)],
        "path_length": Annotated[int, Field(ge=0, le=10**7)],
        "path_length_in": Annotated[str, OneOf("z", "w")],
        "path_length_at": Annotated[str, OneOf("full", "end")],
        "lpips_net": Annotated[str, OneOf("vgg", "alex", "squeeze")],
        "lpips_weights": Place | None,
        "pictures": bool,
        "to": str | int | None,
        "max_pixels": Count | None,
        "metrics": Node | None,
        "data": Node | None,
    },
    "translate": _COMMON
    | _MARKS
    | {
        "compile": bool,
        "run": Place,
        "images": Place | int | Sequence[Place | int],
        "to": str | int | None,
        "grey": bool,
        "mask": Place | None,
        "hole": Annotated[str, OneOf("white", "black")],
        "max_pixels": Count | None,
        "label": Whole | None,
        "tile": Annotated[int, Field(ge=1, le=2**17)] | None,
        "sheet": Annotated[int, Field(ge=0, le=4096)],
    },
    "explore": _COMMON
    | _MARKS
    | {
        "run": Place,
        "class": _LABEL,
        "caption": Text | None,
        "camera": _CAMERA,
        "truncation": Finite | None,
        "what": Node | None,
        "metrics": Node | None,
        "data": Node | None,
        "perceptual": Node | None,
    },
    "compare": {"runs": Place | Sequence[Place | int] | None, "out": Place | None},
    "export": {
        "run": Place,
        "format": Annotated[str, OneOf("onnx", "torch", "safetensors")],
        "out": Place | None,
        "ema": bool,
        "half": bool,
        "pixels": Annotated[str, OneOf("uint8", "float")],
        "layout": Annotated[str, OneOf("nhwc", "nchw")],
        "truncation": _TRUNCATION | Annotated[str, OneOf("input")],
        "to": str | int | None,
        "size": Resolution | None,
        "noise": Annotated[str, OneOf("input", "seeded")] | None,
        "seed": Seed,
        "licence": Text | None,
    },
    "interpolate": {"a": Place, "b": Place, "alpha": Share, "out": Place | None},
    "convert": {"weights": Place, "out": Place | None},
    "serve": {"compile": bool, "run": Place | Sequence[Place], **_SERVICE, **_MARKS, "ema": bool, "device": Text},
    "demo": {
        "run": Place | Sequence[Place],
        **{key: _SERVICE[key] for key in ("host", "port", "max_n", "max_pixels", "max_bytes", "threads", "tile")},
        **_MARKS,
        "ema": bool,
        "device": Text,
    },
    "usefulness": _COMMON
    | {
        "run": Place | None,
        "fake": Place | None,
        "real": Place | None,
        "test": Place | None,
        "max_pixels": Count | None,
        "data.resolution": Resolution | None,
        "data.channels": Annotated[int, OneOf(1, 3)] | None,
        "data.classes": Annotated[int, Field(ge=0, le=10**6)] | None,
        "data.attribute": str | None,
        "n": Samples | None,
        "parts": Sequence[PartOf],
        "fake_share": Share,
        "steps": Annotated[int, Field(ge=1, le=10**7)],
        "batch_size": Annotated[int, Field(ge=2, le=10**5)],
        "seeds": Annotated[int, Field(ge=1, le=1000)],
    },
}
"""The options of each verb with their types. The type of a config group is that of its content."""
for _options in OPTIONS.values():
    _options |= {"existing": Existing, "trust": Place | Sequence[Place] | None}


def fault(key: str, value: Any, hint: Any, usual: Any = None) -> str | None:
    """Return one line that says why the type hint does not allow a key's plain value; None if it does.

    `usual` is a value to propose if the type hint allows it.
    """
    if fits(value, hint):
        return None
    inside = _of_each(hint)
    if isinstance(value, dict) and inside is not None:
        return next(filter(None, (fault(f"{key}.{name}", item, inside) for name, item in value.items())), None)
    example = next((typed for typed in _examples(value, usual, hint) if fits(typed, hint)), None)
    advice = f"; type for example {key}={shown(example)}" if example is not None else ""
    most = f" and at most {MOST:,}" if isinstance(value, (int, float)) and MOST < abs(value) < math.inf else ""
    return f"{key}={shown(value)}: {needed(hint)}{most} is needed{advice}"


def fits(value: Any, hint: Any) -> bool:
    """Return True if a type hint allows a plain value, as a config holds it."""
    try:
        _adapter(hint).validate_json(json.dumps(value))
    except (ValidationError, TypeError, ValueError):
        return False
    return True


def needed(hint: Any) -> str:
    """Return in words what a type hint allows."""
    return _words(schema(hint))


def schema(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of the values that a type hint allows."""
    return _adapter(hint).json_schema()


def _of_each(hint: Any) -> Any:
    """Return the type of a mapping's values; None if the hint allows no mapping, or any values."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(filter(None, map(_of_each, get_args(hint))), None)
    return get_args(hint)[1] if get_origin(hint) is collections.abc.Mapping and get_args(hint)[1] is not Any else None


@cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(_plain(hint), config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))


def _plain(hint: Any) -> Any:
    """Return a type hint as it applies to a config: a node for each object, Any for unknown types."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[_plain(arguments[0]), *hint.__metadata__]
    if origin in (Union, types.UnionType):
        return Union[tuple(_plain(argument) for argument in arguments)]  # noqa: UP007
    if origin in (list, tuple, dict, collections.abc.Sequence, collections.abc.Mapping):
        return origin[tuple(argument if argument is ... else _plain(argument) for argument in arguments)]
    if origin is Literal or hint in (int, float, str, bool, None, type(None), Any):
        return hint
    if origin is collections.abc.Callable or _is_object(hint):
        return Node
    return Any


def _is_object(hint: Any) -> bool:
    """Return True if a config makes objects of this type by a `_target_`: types of this package and of torch."""
    return isinstance(hint, type) and hint.__module__.split(".")[0] in ("gan_experiments", "torch")


def _examples(value: Any, usual: Any, hint: Any) -> list[Any]:
    """Return values that may have been meant, the likeliest first."""
    found: list[Any] = []
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        found.append(int(value))
    if isinstance(value, str):
        word = value.strip().lower()
        found += [{"true": True, "yes": True, "on": True, "1": True}.get(word)]
        found += [{"false": False, "no": False, "off": False, "0": False}.get(word)]
        for number in (int, float):
            with contextlib.suppress(ValueError):
                found.append(number(word))
    elif isinstance(value, int) and not isinstance(value, bool):
        found += [{0: False, 1: True}.get(value), f"./{value}"]
    found += [usual, *_of_schema(schema(hint))]
    return [one for one in found if one is not None]


def _of_schema(schema: dict[str, Any]) -> list[Any]:
    if "anyOf" in schema:
        return [one for option in schema["anyOf"] for one in _of_schema(option)]
    if "const" in schema or "enum" in schema:
        return [schema.get("const", *schema.get("enum", [None])[:1])]
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", MOST)
    if schema.get("type") == "integer":
        return [min(max(least or 0, 64), most), least or 0]
    if schema.get("type") == "number":
        return [1.0, 0.5]
    return [False] if schema.get("type") == "boolean" else []


def _words(schema: dict[str, Any]) -> str:  # noqa: PLR0911
    if "what" in schema:
        return str(schema["what"])
    if "anyOf" in schema:
        options = dict.fromkeys(_words(option) for option in schema["anyOf"])
        return ", or ".join([*(o for o in options if o != "null"), *(o for o in options if o == "null")])
    if "const" in schema or "enum" in schema:
        words = [shown(word) for word in schema.get("enum", [schema.get("const")])]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "array":
        parts = [_words(part) for part in schema.get("prefixItems", [])]
        if parts:
            return f"a list [{', '.join(parts)}]"
        return f"a list, each {_words(schema['items'])}" if schema.get("items") else "a list"
    if kind == "object":
        inside = schema.get("additionalProperties")
        return f"a group, each {_words(inside)}" if isinstance(inside, dict) and inside else "a group of keys"
    return {"boolean": "true or false", "string": "text", "null": "null"}.get(str(kind), "something else")


def _range(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    least, most = (None if abs(bound or 0) == MOST else bound for bound in (least, most))
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    said = [f"of {least:,} or more"] if least is not None else []
    said += [f"{word} {bound:,}" for word, bound in (("above", above), ("below", below)) if bound is not None]
    said += [f"at most {most:,}"] if most is not None else []
    return f" {' and '.join(said)}" if said else ""


def sides(resolution: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a `Resolution`, in pixels."""
    if isinstance(resolution, int):
        return resolution, resolution
    height, width = resolution
    return height, width


def settled(resolution: int | Sequence[int]) -> int | tuple[int, int]:
    """Return a `Resolution` in the one form that each shape has: an int for squares, a pair for others."""
    height, width = sides(resolution)
    return height if height == width else (height, width)


def shown(value: Any) -> str:
    """Return a value as it is typed on the command line, cut to 80 characters."""
    if isinstance(value, dict):
        text = "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, (list, tuple)):
        text = f"[{','.join(shown(item) for item in value)}]"
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
