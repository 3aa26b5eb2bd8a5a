"""The base of the adversarial models, to which techniques can be added.

`Game` is the model's side of the interface between models and techniques, `models/technique.py` the technique's. A
model declares what it `offers` and what its discriminators compare. A technique declares what it `needs` and computes
its term from one comparison at a time.
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
    """An adversarial model of two players, the generator and the discriminator, each of one or more networks.

    A model calls `join_techniques` once its networks and its loss are set. It returns its phases through `joined`, or
    adds `lazy_phases` to them and calls `with_techniques` itself. It computes its generator's adversarial loss with
    `fooled`. Without techniques these methods change nothing.
    """

    offers: frozenset[str] = frozenset({"discriminator"})
    """What a technique can rely on in this model, keys of `technique.NEEDS`."""
    loss: AdversarialLoss
    techniques: Mapping[str, Technique]

    # ---------------------------------------------------------------- what a model writes

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return what each discriminator compares in its update, computed again at each call; see `compared`."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of what its discriminators compare")

    def updates(self, batch: Batch, player: str) -> Sequence[Update]:
        """Return the updates from which techniques compute their terms in a lazy phase of `player`.

        `joined` uses the generator's in its other phases too.
        """
        if player == "discriminator":
            return self.comparisons(batch)
        return [Update(self, player, self.networks_of(player))]

    def points_between(self) -> Iterator[str]:
        """Yield a fault if the discriminator cannot judge points between a real image and a fake."""
        yield from ()

    # ---------------------------------------------------------------- what a model may use

    def compared(self, batch: Batch) -> list[Comparison]:
        """Return the comparisons of this batch, computed once and shared by the losses and the techniques."""
        return self.once("compared", lambda: self.comparisons(batch))

    def shown(self, images: Tensor) -> Tensor:
        """Return what a discriminator is to see in place of images [n, C, H, W], real or fake."""
        for technique in self.techniques.values():
            images = technique.see(images, self)
        return images

    def selected(self, fake_logits: Logits) -> Any:
        """Return the logits that the generator's adversarial loss uses: all, unless a technique selects some."""
        for technique in self.techniques.values():
            fake_logits = technique.select(fake_logits, self)
        return fake_logits

    def fooled(self, fake_logits: Any, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's adversarial loss, a scalar."""
        return self.loss.generator(self.selected(fake_logits), real_logits)

    def networks_of(self, player: str) -> dict[str, nn.Module]:
        """Return the networks of a player by name; the names of the discriminator's begin with "discriminator"."""
        of_discriminator = player == "discriminator"
        names = (name for name in self.network_names if name.startswith("discriminator") == of_discriminator)
        return {name: getattr(self, name) for name in names}

    # ---------------------------------------------------------------- techniques

    def join_techniques(self, techniques: Mapping[str, Technique] | None, faults: Iterable[str] = ()) -> None:
        """Add techniques, by name. Raises ConfigError with the model's own faults and the techniques', a line each.

        A lazy term, which is computed at every k-th batch only, gets steps of its own. The constants of its player's
        optimizer are then corrected as in StyleGAN2 (arXiv:1912.04958, B).
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
        """Return a model's phases with the terms of the techniques added, and the phases of the lazy techniques."""
        if not self.techniques:
            return [*phases]
        return [replace(phase, loss=partial(self._with_terms, phase)) for phase in phases] + self.lazy_phases()

    def _with_terms(self, phase: Phase, batch: Batch) -> dict[str, Tensor]:
        terms = phase.loss(batch)
        of_discriminator = phase.player == "discriminator"
        updates = self.compared(batch) if of_discriminator else self.updates(batch, phase.player)
        return self.with_techniques({**terms}, updates)

    def lazy_phases(self) -> list[Phase]:
        """Return a phase for each player and each technique whose term is computed at every k-th batch only."""
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
        """Add the techniques' terms to those of a player's step; detach all of them if a technique skips the step."""
        player = updates[0].player
        for name, technique in self.techniques.items():
            if player in technique.players and technique.every == 1:
                terms[name] = _term(technique, updates)
        rests = [technique.rests(update) for technique in self.techniques.values() for update in updates]
        return {name: term.detach() for name, term in terms.items()} if any(rests) else terms

    def due(self, phase: Phase) -> bool:
        """Return True if the phase is carried out on this batch and no technique objects."""
        return super().due(phase) and all(technique.due(self, phase) for technique in self.techniques.values())

    def after_step(self, phase: Phase) -> None:
        """Call the `after_step` of each technique."""
        for technique in self.techniques.values():
            technique.after_step(self, phase)

    def numbers(self) -> dict[str, float]:
        """Return the numbers that the techniques report: `top_k/share`, ..."""
        told = {name: technique.numbers(self) for name, technique in self.techniques.items()}
        return {f"{name}/{key}": value for name, numbers in told.items() for key, value in numbers.items()}


def _term(technique: Technique, updates: Sequence[Update]) -> Tensor:
    return sum_of([technique.term(update) for update in updates])


class Update:
    """One update of a player, as techniques see it: the model, the player, and the networks that it trains."""

    def __init__(self, model: Game, player: str, networks: Mapping[str, nn.Module]) -> None:
        self.model: Any = model
        self.player, self.networks = player, networks

    @property
    def of_generator(self) -> bool:
        """Whether it is the generator's update."""
        return self.player == "generator"


class Comparison(Update):
    """The real images and fakes that one discriminator compares in its update, and its logits and features for them.

    Logits are computed on first access; they are [n], patches [n, 1, h, w], or a list of these, see `losses/logits.py`.

    Args:
        model: has the method `logits_and_features`, see `ImageToImage`.
        name: the discriminator's name.
        real: images [n, C, H, W].
        fake: images [n, C, H, W]; they are detached.
        given: images [n, C', H, W] that the discriminator sees with both, as channels in front of theirs. Techniques
            leave them unchanged: they take gradients with respect to `real` and `fake` and add noise to these alone.
    """

    def __init__(self, model: Game, name: str, real: Tensor, fake: Tensor, given: Tensor | None = None) -> None:
        super().__init__(model, "discriminator", {name: getattr(model, name)})
        self.name, self.real, self.fake, self.given = name, real, fake.detach(), given

    @property
    def real_logits(self) -> Any:
        """The discriminator's logits for the real images."""
        return self._real[0]

    @property
    def fake_logits(self) -> Any:
        """The discriminator's logits for the fakes."""
        return self._fake[0]

    @property
    def real_features(self) -> Tensor | None:
        """The discriminator's features [n, F] of the real images; None if it exposes none."""
        return self._real[1]

    @property
    def fake_features(self) -> Tensor | None:
        """The discriminator's features [n, F] of the fakes; None if it exposes none."""
        return self._fake[1]

    @property
    def real_parts(self) -> tuple[Tensor, ...]:
        """What the real images are made of, [n, ...] each, by which penalties differentiate: the images themselves."""
        return (self.real,)

    @property
    def fake_parts(self) -> tuple[Tensor, ...]:
        """The same of the fakes."""
        return (self.fake,)

    def of_parts(self, *parts: Tensor) -> Tensor:
        """Return the images [n, C, H, W] that are made of such parts."""
        (images,) = parts
        return images

    def judge_as_real(self, images: Tensor) -> Any:
        """Return the discriminator's logits for images [n, C, H, W] in place of the real ones."""
        return self._look(images)[0]

    def judge_as_fake(self, images: Tensor) -> Any:
        """Return the discriminator's logits for images [n, C, H, W] in place of the fakes."""
        return self._look(images)[0]

    @cached_property
    def _real(self) -> tuple[Any, Tensor | None]:
        return self._look(self.real)

    @cached_property
    def _fake(self) -> tuple[Any, Tensor | None]:
        return self._look(self.fake)

    def _look(self, images: Tensor) -> tuple[Any, Tensor | None]:
        return self.model.logits_and_features(self.networks[self.name], images, self.given)
