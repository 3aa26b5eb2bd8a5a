"""What techniques can join: models whose discriminators tell real images from fakes.

`Game` is one side of the agreement between models and techniques, `models/technique.py` the other. A model says what it
`offers` and what its discriminators compare, a technique what it `needs` and what it does with one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.engine.optimizers import corrected_for_lazy_steps
from gan_experiments.engine.phases import Phase
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.logits import Logits, sum_of
from gan_experiments.models.technique import NEEDS, Technique

PLAYERS = ("discriminator", "generator")


class Game(AdversarialModule):
    """Two players, each of one network or several: the discriminators, and what they judge the work of.

    A model calls `join_techniques` when its networks and its loss are there. It returns its phases by way of `joined`,
    or adds `lazy_phases` and calls `with_techniques` itself. Its generator's adversarial loss is `fooled`. Without
    techniques all of these change nothing.
    """

    offers: frozenset[str] = frozenset({"discriminator"})
    """What a technique finds here, keys of `technique.NEEDS`."""
    loss: AdversarialLoss
    techniques: Mapping[str, Technique]

    # ---------------------------------------------------------------- what a model writes

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """What each discriminator tells apart in its step, computed anew at each call; see `compared`."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of what its discriminators compare")

    def updates(self, batch: Batch, player: str) -> Sequence[Update]:
        """What techniques look at in a step of a player that is theirs alone."""
        if player == "discriminator":
            return self.comparisons(batch)
        return [Update(self, player, self.networks_of(player))]

    def points_between(self) -> Iterator[str]:
        """A fault, where points between a real image and a fake could not be judged."""
        yield from ()

    # ---------------------------------------------------------------- what a model may use

    def compared(self, batch: Batch) -> list[Comparison]:
        """The comparisons of this batch, the same for its losses and for the techniques."""
        return self.once("compared", lambda: self.comparisons(batch))

    def shown(self, images: Tensor) -> Tensor:
        """What a discriminator is to see in place of images [n, C, H, W], real or fake."""
        for technique in self.techniques.values():
            images = technique.see(images, self)
        return images

    def selected(self, fake_logits: Logits) -> Any:
        """The logits that the generator's adversarial loss is to look at: all, unless a technique chooses."""
        for technique in self.techniques.values():
            fake_logits = technique.select(fake_logits, self)
        return fake_logits

    def fooled(self, fake_logits: Any, real_logits: Tensor | None = None) -> Tensor:
        """The generator's adversarial loss, a scalar."""
        return self.loss.generator(self.selected(fake_logits), real_logits)

    def networks_of(self, player: str) -> dict[str, nn.Module]:
        """The networks of a player by name; the discriminator's are those whose names begin so."""
        of_discriminator = player == "discriminator"
        names = (name for name in self.network_names if name.startswith("discriminator") == of_discriminator)
        return {name: getattr(self, name) for name in names}

    # ---------------------------------------------------------------- techniques

    def join_techniques(self, techniques: Mapping[str, Technique] | None, faults: Iterable[str] = ()) -> None:
        """Take in techniques, by name. Raises ConfigError with the model's own faults and with theirs, a line each.

        A term that comes every k-th batch only gets steps of its own, and its player's optimizer the constants that
        StyleGAN2 corrects them by (arXiv:1912.04958, B).
        """
        self.techniques = nn.ModuleDict(techniques or {})  # type: ignore[assignment]
        found = [*faults]
        for name, technique in self.techniques.items():
            lacking = [reason for need, reason in NEEDS.items() if need in technique.needs - self.offers]
            if lacking:
                found.append(f"technique={name}: {lacking[0]}; leave it out")
                continue
            try:
                technique.join(self)
            except ConfigError as error:
                found += [f"technique={name}: {fault}" for fault in error.faults]
        if found:
            raise ConfigError(*found)
        for player in PLAYERS:
            further = sum(1 / technique.every for _, technique in self._lazy(player))
            if further and player in self.make_optimizer:
                lazy = {phase.name for phase in self.lazy_phases()}
                phases = [phase for phase in self.phases() if phase.player == player and phase.name not in lazy]
                steps = sum(1 / phase.every for phase in phases)
                self.make_optimizer[player] = corrected_for_lazy_steps(
                    self.make_optimizer[player], steps / (steps + further)
                )

    def joined(self, *phases: Phase) -> list[Phase]:
        """The phases of a model, with the terms of the techniques, and with the phases of lazy ones."""
        if not self.techniques:
            return [*phases]
        return [replace(phase, loss=partial(self._with_terms, phase)) for phase in phases] + self.lazy_phases()

    def _with_terms(self, phase: Phase, batch: Batch) -> dict[str, Tensor]:
        terms = phase.loss(batch)
        of_discriminator = phase.player == "discriminator"
        updates = self.compared(batch) if of_discriminator else self.updates(batch, phase.player)
        return self.with_techniques({**terms}, updates)

    def lazy_phases(self) -> list[Phase]:
        """A phase for each technique whose term comes every k-th batch only."""
        return [
            Phase(
                f"{player}_{name}",
                partial(self._lazy_term, name, technique, player),
                tuple(self.networks_of(player).values()),
                technique.every,
                optimizer=player,
            )
            for player in PLAYERS
            for name, technique in self._lazy(player)
        ]

    def _lazy(self, player: str) -> list[tuple[str, Technique]]:
        return [(name, t) for name, t in self.techniques.items() if player in t.players and t.every > 1]

    def _lazy_term(self, name: str, technique: Technique, player: str, batch: Batch) -> dict[str, Tensor]:
        return {name: technique.every * _term(technique, self.updates(batch, player))}

    def with_techniques(self, terms: dict[str, Tensor], updates: Sequence[Update]) -> dict[str, Tensor]:
        """Add the techniques' terms to those of a player's step; none has a gradient where the player is to rest."""
        player = updates[0].player
        for name, technique in self.techniques.items():
            if player in technique.players and technique.every == 1:
                terms[name] = _term(technique, updates)
        rests = [technique.rests(update) for technique in self.techniques.values() for update in updates]
        return {name: term.detach() for name, term in terms.items()} if any(rests) else terms

    def due(self, phase: Phase) -> bool:
        """Where no technique objects."""
        return super().due(phase) and all(technique.due(self, phase) for technique in self.techniques.values())

    def after_step(self, phase: Phase) -> None:
        """Let the techniques do what they have to."""
        for technique in self.techniques.values():
            technique.after_step(self, phase)

    def numbers(self) -> dict[str, float]:
        """What the techniques say of themselves: `top_k/share`, ..."""
        told = {name: technique.numbers(self) for name, technique in self.techniques.items()}
        return {f"{name}/{key}": value for name, numbers in told.items() for key, value in numbers.items()}


def _term(technique: Technique, updates: Sequence[Update]) -> Tensor:
    return sum_of([technique.term(update) for update in updates])


class Update:
    """One step of a player, as techniques see it: the model, the player, and the networks that the step moves."""

    def __init__(self, model: Game, player: str, networks: Mapping[str, nn.Module]) -> None:
        self.model: Any = model
        self.player, self.networks = player, networks

    @property
    def of_generator(self) -> bool:
        """Whether it is the generator's."""
        return self.player == "generator"


class Comparison(Update):
    """What one discriminator tells apart in its step, real images and fakes, and what it says of them.

    Logits are computed on first access; they are [n], patches [n, 1, h, w], or a list of these, see `losses/logits.py`.

    Args:
        model: has the method `logits_and_features`, see `ImageToImage`.
        name: the discriminator's.
        real: images [n, C, H, W].
        fake: images [n, C, H, W], in which no gradient ends here.
        given: images [n, C', H, W] that the discriminator sees beside both, in the channels before theirs. Techniques
            leave them as they are: gradients are taken of, and noise is put on, `real` and `fake` alone.
    """

    def __init__(self, model: Game, name: str, real: Tensor, fake: Tensor, given: Tensor | None = None) -> None:
        super().__init__(model, "discriminator", {name: getattr(model, name)})
        self.name, self.real, self.fake, self.given = name, real, fake.detach(), given

    @property
    def real_logits(self) -> Any:
        """What the discriminator says of the real images."""
        return self._real[0]

    @property
    def fake_logits(self) -> Any:
        """What the discriminator says of the fakes."""
        return self._fake[0]

    @property
    def real_features(self) -> Tensor | None:
        """The discriminator's features [n, F] of the real images; None where it shows none."""
        return self._real[1]

    @property
    def fake_features(self) -> Tensor | None:
        """The discriminator's features [n, F] of the fakes; None where it shows none."""
        return self._fake[1]

    def judge_as_real(self, images: Tensor) -> Any:
        """The discriminator's logits for images [n, C, H, W] in place of the real ones."""
        return self._look(images)[0]

    def judge_as_fake(self, images: Tensor) -> Any:
        """The discriminator's logits for images [n, C, H, W] in place of the fakes."""
        return self._look(images)[0]

    @cached_property
    def _real(self) -> tuple[Any, Tensor | None]:
        return self._look(self.real)

    @cached_property
    def _fake(self) -> tuple[Any, Tensor | None]:
        return self._look(self.fake)

    def _look(self, images: Tensor) -> tuple[Any, Tensor | None]:
        return self.model.logits_and_features(self.networks[self.name], images, self.given)
