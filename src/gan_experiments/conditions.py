"""What generated samples are conditioned on, drawn in the proportions of the data."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from gan_experiments import cameras as camera_poses
from gan_experiments.captions import Vocabulary, words_of
from gan_experiments.contracts import AS_THE_DATA, UNIFORM, ConfigError

log = logging.getLogger(__name__)

Draws: TypeAlias = "int | Callable[[int], Tensor]"
"""A seed, or a function that draws n numbers in [0, 1).

In a training the function is the model's `draw`, which gives each rank its part of one draw for all ranks.
"""


class Conditions:
    """The conditions of a data module, drawn by calling the object. This base is unconditional: calls return None.

    A data module has them as `data.conditions`. Training, scores, sheets, health and `sample` draw from them and pass
    what they drew to the generator unchanged. Each other kind of condition is a subclass.
    """

    classes: int = 0
    """The number of classes; 0 if the conditions are not classes or there are none."""
    counts: tuple[int, ...] = ()
    """The number of samples of each class in the data; empty if unknown. Saved in the checkpoint."""

    def __call__(self, count: int, draws: Draws, law: str = "data") -> Tensor | None:
        """Draw `count` conditions, [count, ...], with a seed or with `draws(count)`.

        `law` is one of `contracts.LAWS`: "data" for the proportions of the data, "uniform" for equal probabilities.
        """
        return None

    @property
    def even(self) -> bool:
        """Whether both laws are the same: no condition is more frequent than another."""
        return True

    @property
    def known(self) -> bool:
        """Whether the proportions of the data are known."""
        return False

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, in plain types and tensors, for `restored`."""
        return {"class_counts": []}

    def columns(self, n: int) -> int | None:
        """Return the number of columns of a sheet of n samples; None to make the sheet about square."""
        return None

    def of_sheet(self, n: int, seed: int) -> Tensor | None:
        """Return the conditions [n, ...] of a sheet of n samples, in rows of `columns(n)`."""
        return self(n, seed)

    def titles(self, conditions: Tensor | None, columns: int | None) -> list[str]:
        """Return what stands above each row of a sheet of these conditions, `columns` in a row; empty for nothing."""
        return []

    def passport(self, law: str) -> dict[str, str]:
        """Return a score's passport entries for samples drawn by `law`; empty if both laws are the same."""
        return {}


@dataclass(frozen=True)
class Classes(Conditions):
    """Classes, int64 [count], drawn in proportion to `counts`; uniformly if `counts` is empty."""

    classes: int = 0
    counts: tuple[int, ...] = ()

    def __call__(self, count: int, draws: Draws, law: str = "data") -> Tensor | None:
        """Draw classes int64 [count]; None if there are no classes."""
        if not self.classes:
            return None
        counts = self.counts if law == "data" else ()
        if callable(draws):
            return classes_at(draws(count), self.classes, counts)
        generator = torch.Generator().manual_seed(draws)
        if _even(counts):
            return torch.randint(self.classes, (count,), generator=generator)
        return classes_at(torch.rand(count, generator=generator, dtype=torch.float64), self.classes, counts)

    @property
    def known(self) -> bool:
        """Whether `counts` are given."""
        return bool(self.counts)

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"class_counts": list(self.counts)}

    @property
    def even(self) -> bool:
        """Whether the classes are equally frequent, or their frequencies are unknown."""
        return _even(self.counts)

    def columns(self, n: int) -> int | None:
        """Return the same number of columns for each class, at least one; None if not all classes fit."""
        if not 0 < self.classes <= n:
            return None
        return self.classes * max(1, round(math.sqrt(n) / self.classes))

    def of_sheet(self, n: int, seed: int) -> Tensor | None:
        """Return the classes int64 [n] of a sheet: 0, 1, 2, ... repeated if all classes fit, else drawn."""
        return self(n, seed) if self.columns(n) is None else torch.arange(n) % self.classes

    def passport(self, law: str) -> dict[str, str]:
        """Return the law in words; empty if both laws are known to be the same."""
        if not self.classes or (self.counts and self.even):
            return {}
        return {"labels": AS_THE_DATA if self.counts and law == "data" else UNIFORM}


ACROSS = 8
"""Samples of a condition in a row of a sheet."""


@dataclass(frozen=True, eq=False)
class Rows(Conditions):
    """Conditions taken from `rows` [N, ...] of the data.

    A seed shuffles the rows; each comes once before any is repeated. A function draws them with replacement. Each row
    of a sheet shows samples of one condition.
    """

    rows: Tensor

    SAVED: ClassVar[int] = 1000
    """The number of conditions that a checkpoint keeps, to draw from without the data."""

    @property
    def known(self) -> bool:
        """Always True."""
        return True

    def columns(self, n: int) -> int:
        """Return the number of samples of each condition on a sheet: 8, or fewer on a small one."""
        return next((columns for columns in (ACROSS, 4, 2) if n >= 2 * columns), 1)

    def of_sheet(self, n: int, seed: int) -> Tensor:
        """Return the conditions of a sheet, one for each row."""
        columns = self.columns(n)
        drawn = self(-(-n // columns), seed)
        assert drawn is not None
        return drawn.repeat_interleave(columns, dim=0)[:n]

    def saved_rows(self, most: int = SAVED) -> Tensor:
        """Return the places of at most so many rows, evenly spread, int64; by default those that a checkpoint keeps."""
        number = min(len(self.rows), most)
        return torch.arange(number) * len(self.rows) // number

    def __call__(self, count: int, draws: Draws, law: str = "data") -> Tensor | None:
        """Draw rows [count, ...]; raises ConfigError for the law "uniform"."""
        if law != "data":
            raise ConfigError(f"labels={law}: these conditions are drawn as the data have them; leave it out")
        if callable(draws):
            places = (draws(count) * len(self.rows)).long()
            return self.rows.to(places.device)[places]
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(draws))
        return self.rows[order][torch.arange(count) % len(self.rows)]


def number_of(name: str, names: Sequence[str], words: str) -> int:
    """Return the label of a class by its name. Warn if the name is also the label of another class.

    `words` are what the user typed, for the warning.
    """
    number = names.index(name)
    if name.isdigit() and int(name) != number and int(name) < len(names):
        other = names[int(name)]
        log.warning("%s is the class of that name, number %d; number %s is the class %s", words, number, name, other)
    return number


def class_number(asked: object, classes: int, names: Sequence[str], key: str = "class") -> int:
    """Return the label of a class given its name, or given its number if no class has that name.

    Raises ConfigError, which names the option `key`, if there is no such class.
    """
    if not classes:
        raise ConfigError(f"{key}={asked}: this generator knows no classes; leave it out")
    if str(asked) in names:
        return number_of(str(asked), names, f"{key}={asked}")
    if type(asked) is int and 0 <= asked < classes:
        return asked
    some = f", or a name: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""
    raise ConfigError(f"{key}={asked}: type a number of 0 to {classes - 1}{some}")


@dataclass(frozen=True, eq=False)
class Captions(Rows):
    """Captions of the data, as tokens int64 [N, length]; `vocabulary` says which words these are.

    `rows` are those of all captions of all images, so each image is drawn as often as it has captions.
    """

    vocabulary: Vocabulary

    def titles(self, conditions: Tensor | None, columns: int | None) -> list[str]:
        """Return the captions of the rows."""
        return [] if conditions is None else self.vocabulary.decode(conditions[::columns])

    def of_words(self, captions: Sequence[str], key: str = "caption") -> Tensor:
        """Return the tokens int64 [n, length] of captions; warn of words that the vocabulary lacks.

        Raises ConfigError, which names the option `key`, for a caption of such words alone.
        """
        known = self.vocabulary
        for caption in captions:
            unknown = known.unknown(caption)
            if len(unknown) == len(set(words_of(caption))):
                some = ", ".join(known.words[:12])
                raise ConfigError(f"{key}={caption}: none of its words is known; this model has seen {some}, ...")
            if unknown:
                log.warning("%s=%s: the training's captions have no %s", key, caption, ", ".join(unknown))
        return known.encode(captions)

    def state(self) -> dict[str, Any]:
        """Return the vocabulary and some captions, evenly spread."""
        rows = self.rows[self.saved_rows()]
        told = {"words": list(self.vocabulary.words), "length": self.vocabulary.length, "rows": rows.to(torch.int32)}
        return {**super().state(), "captions": told}


@dataclass(frozen=True, eq=False)
class Embedded(Captions):
    """Embeddings of captions that another program made, float [N, features]; `tokens` int64 [N, length] name them.

    A caption is known if the data have it: of the embeddings of its rows the mean is taken.
    """

    tokens: Tensor

    def titles(self, conditions: Tensor | None, columns: int | None) -> list[str]:
        """Return the captions whose embeddings are nearest to those of the rows."""
        if conditions is None:
            return []
        nearest = torch.cdist(conditions[::columns].float().cpu(), self.rows).argmin(1)
        return self.vocabulary.decode(self.tokens[nearest])

    def of_words(self, captions: Sequence[str], key: str = "caption") -> Tensor:
        """Return the embeddings float [n, features] of captions of the data.

        Raises ConfigError, which names the option `key`, for other captions: what made the embeddings is not here.
        """
        found = []
        for caption, tokens in zip(captions, self.vocabulary.encode(captions), strict=True):
            rows = (self.tokens == tokens).all(1)
            if not rows.any():
                some = '", "'.join(self.vocabulary.decode(self.tokens[:3]))
                raise ConfigError(
                    f"{key}={caption}: this model was trained on embeddings made elsewhere, and knows those of"
                    f' {len(self.rows):,} captions, such as "{some}"; type one of them, or {key}= an .npy of embeddings'
                )
            found.append(self.rows[rows].mean(0))
        return torch.stack(found)

    def state(self) -> dict[str, Any]:
        """Return the vocabulary and some captions with their embeddings, evenly spread."""
        places = self.saved_rows()
        told = Captions(self.tokens[places], self.vocabulary).state()
        return {**told, "captions": {**told["captions"], "embeddings": self.rows[places]}}


@dataclass(frozen=True, eq=False)
class Cameras(Rows):
    """Cameras of the data, float [N, 25]: poses and intrinsics as in `cameras.py`."""

    def titles(self, conditions: Tensor | None, columns: int | None) -> list[str]:
        """Return from where the cameras of the rows look: yaw and pitch in degrees."""
        return [] if conditions is None else camera_poses.titled(conditions[::columns])

    def of_angles(self, yaw: Tensor, pitch: Tensor) -> Tensor:
        """Return cameras [n, 25] at angles [n] in radians, as far away and as wide as those of the data are."""
        return camera_poses.turned_to(self.rows, yaw, pitch)

    def state(self) -> dict[str, Any]:
        """Return some cameras, evenly spread."""
        return {**super().state(), "cameras": self.rows[self.saved_rows()].float()}

    def passport(self, law: str) -> dict[str, str]:
        """Return that the cameras are drawn from those of the data."""
        return {"cameras": AS_THE_DATA}


FRONTAL = Cameras(
    camera_poses.joined(
        camera_poses.on_sphere(torch.zeros(1), torch.zeros(1), camera_poses.RADIUS),
        camera_poses.intrinsics_of(camera_poses.FIELD),
    )
)
"""The conditions of a model whose data are unknown: one camera in front, as far away and as wide as EG3D's are."""


def require_same_words(model: Conditions, data: Conditions) -> None:
    """Raise ConfigError if a model's captions have another vocabulary than those of the data."""
    words, others = ((known.vocabulary.words if isinstance(known, Captions) else ()) for known in (model, data))
    if words != others:
        raise ConfigError(
            f"the model reads {len(words)} words, first {', '.join(words[:3])}, and the data have {len(others)}, first"
            f" {', '.join(others[:3])}: leave out data=, or give those that it was trained on"
        )


def restored(saved: Mapping[str, Any]) -> Conditions:
    """Return the conditions of which a checkpoint keeps the `state`."""
    if (cameras := saved.get("cameras")) is not None:
        return Cameras(torch.as_tensor(cameras, dtype=torch.float32))
    if captions := saved.get("captions"):
        words = Vocabulary(tuple(captions["words"]), int(captions["length"]))
        tokens = torch.as_tensor(captions["rows"], dtype=torch.int64)
        if "embeddings" in captions:
            return Embedded(torch.as_tensor(captions["embeddings"], dtype=torch.float32), words, tokens)
        return Captions(tokens, words)
    counts = saved.get("class_counts") or ()
    return Classes(len(counts), tuple(counts)) if counts else Conditions()


def classes_at(places: Tensor, classes: int, counts: Sequence[int] = ()) -> Tensor:
    """Map places [n] in [0, 1) to classes int64 [n].

    Each class takes a part of [0, 1) in proportion to its count; without `counts` all parts are equal.
    """
    if _even(counts):
        return (places * classes).long().clamp_(max=classes - 1)
    bounds = torch.tensor(counts, dtype=torch.float64).cumsum(0)[:-1] / sum(counts)
    return torch.bucketize(places, bounds.to(places), right=True)


def _even(counts: Sequence[int]) -> bool:
    return len(set(counts)) < 2
