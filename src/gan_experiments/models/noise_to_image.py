"""Training and sampling shared by all models that generate samples from noise.

A variant overrides what its paper does differently. Techniques (see `models/technique.py`) add to the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gan_experiments.augment.augmentation import Augmentation
from gan_experiments.bounds import OneOf, Rhythm
from gan_experiments.conditions import Classes, Conditions, class_number
from gan_experiments.contracts import LAWS, Batch, ConfigError
from gan_experiments.engine.module import evaluating
from gan_experiments.engine.phases import Phase
from gan_experiments.kinds import Image, Kind, kind_of
from gan_experiments.losses.adversarial import AdversarialLoss, RelativisticPaired
from gan_experiments.models import latents
from gan_experiments.models.game import Comparison, Game, Update
from gan_experiments.models.latents import Sampler, closed_walk
from gan_experiments.models.technique import NEEDS, Technique

FAKE_LABELS = (*LAWS, "batch")


class NoiseToImage(Game):
    """A generator [N, latent_dim] -> [N, C, H, W] in [-1, 1] and a discriminator images -> logits; high means real.

    Networks with `classes` take labels int64 [N] as their second argument, and batches must hold labels. Networks that
    are `drawn` take the argument `draw`, which draws the random numbers of their layers in training (dropout, noise). A
    generator that is `styled` has a `mapping` from z to w and takes the argument `truncation`, ψ, which truncates w.
    For other generators z is truncated.

    Args:
        generator: has the attribute `latent_dim`, and `classes` if it is conditional.
        discriminator: ends in logits, not in a sigmoid.
        loss: the adversarial loss of both players.
        augment: differentiable augmentation of everything that the discriminator sees; None for none.
        techniques: additions to the training, by name.
        n_critic: discriminator steps, each on a batch of its own, for each generator step.
        generator_batch: fakes in the generator's step for each real image of a batch.
        reuse_fakes: whether the generator's step uses the fakes that the discriminator was shown.
        fake_labels: the classes of fakes in training. "data" draws them in the proportions of the data, "uniform" with
            equal probabilities, and "batch" takes those of the real images.
        further: other networks of a variant, by name.
        engine: the arguments of `AdversarialModule`.

    Raises ConfigError if these do not go together.
    """

    offers = frozenset(NEEDS)
    condition = "label"
    """The key of a batch under which the conditions of the real images are, if the networks take conditions."""

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        augment: Augmentation | None = None,
        techniques: Mapping[str, Technique] | None = None,
        n_critic: Rhythm = 1,
        generator_batch: Annotated[int, Field(ge=1, le=64)] = 1,
        reuse_fakes: bool = False,
        fake_labels: Annotated[str, OneOf(*FAKE_LABELS)] = "data",
        further: Mapping[str, nn.Module] | None = None,
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator, **(further or {})}, **engine)
        self.loss = loss
        self.augment = augment or None  # augment=none is an empty config
        self.n_critic, self.generator_batch = n_critic, generator_batch
        self.reuse_fakes, self.fake_labels = reuse_fakes, fake_labels
        if self.conditional:
            self.needs = self.needs | {self.condition}
        self.join_techniques(techniques, self._faults())

    def _faults(self) -> Iterator[str]:
        """Yield what does not go together, a line each."""
        if self.fake_labels not in FAKE_LABELS:
            yield f"model.fake_labels={self.fake_labels}: type model.fake_labels= one of {', '.join(FAKE_LABELS)}"
        judged = int(getattr(self.discriminator, "classes", 0))
        if judged and not self.classes:
            yield (
                f"model.discriminator judges images of {judged} classes and model.generator makes images of none; type"
                " model.discriminator.conditioning=none, or take a conditional generator"
            )
        if self.has_classifier and not any(t.trains_classifier for t in self.techniques.values()):
            yield (
                "model.discriminator.conditioning=auxiliary: nothing trains its classifier; type"
                " technique=[auxiliary_classifier]"
            )
        if self.generator_batch != 1 and self.reuse_fakes:
            yield (
                f"model.generator_batch={self.generator_batch} and model.reuse_fakes=true: the generator's step has as"
                " many fakes as the discriminator's; type model.generator_batch=1, or model.reuse_fakes=false"
            )
        if self.generator_batch != 1 and isinstance(self.loss, RelativisticPaired):
            yield (
                f"model.generator_batch={self.generator_batch}: loss=relativistic_paired pairs each fake with a real"
                " image; type model.generator_batch=1, or loss=relativistic_average"
            )
        if self.augment and not isinstance(self.augment, Augmentation):
            yield f"augment._target_: {type(self.augment).__name__} is no Augmentation, see augment/augmentation.py"
        elif self.augment and not isinstance(self.kind, Image):
            yield f"augment: it is of images, and this model makes {self.kind.name}; type augment=none"
        elif self.augment and self.augment.needs_zero_at_chance and not self.loss.zero_is_chance:
            yield (
                f"augment=ada: {type(self.loss).__name__} gives logits whose sign does not tell how sure the"
                " discriminator is; type augment.target=null augment.p=0.2 for a fixed p, or augment=diffaugment"
            )

    def points_between(self) -> Iterator[str]:
        """Yield a fault if points between a real image and a fake would belong to two classes."""
        if getattr(self.discriminator, "classes", 0) and not self.has_classifier and self.fake_labels != "batch":
            yield (
                "points between a real image and a fake of another class have none that the discriminator could be"
                " told; type model.fake_labels=batch"
            )

    @property
    def has_classifier(self) -> bool:
        """Whether the discriminator has an auxiliary classifier and is itself told no classes (AC-GAN)."""
        discriminator = self.discriminator
        return hasattr(discriminator, "classify") and getattr(discriminator, "conditioning", "auxiliary") == "auxiliary"

    # ---------------------------------------------------------------- training

    def phases(self) -> list[Phase]:
        """Return the discriminator's phase, the generator's at every `n_critic`-th batch, and the lazy ones."""
        keeps = self.generator if self.reuse_fakes else ()
        return [
            Phase("discriminator", self._discriminator_update, self.discriminator, keeps=keeps),
            Phase("generator", self._generator_update, self.generator, every=self.n_critic),
            *self.lazy_phases(),
        ]

    def updates(self, batch: Batch, player: str) -> list[PlayerUpdate]:
        """Return one update, with fakes of its own, and those beside it."""
        update = self.player_update(batch, of_generator=player == "generator", own_fakes=True)
        return [update, *update.beside]

    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> PlayerUpdate:
        """Return one update; a variant that draws other fakes returns one of a class of its own."""
        return PlayerUpdate(self, batch, of_generator, own_fakes)

    def _discriminator_update(self, batch: Batch) -> dict[str, Tensor]:
        update = self.player_update(batch)
        return self.with_techniques(self.discriminator_loss(update), [update, *update.beside])

    def _generator_update(self, batch: Batch) -> dict[str, Tensor]:
        update = self.player_update(batch, of_generator=True)
        replaced = any(technique.replaces_generator_loss for technique in self.techniques.values())
        return self.with_techniques({} if replaced else self.generator_loss(update), [update, *update.beside])

    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Tell real from fake. They pass through the discriminator separately, so that batch norm does not mix them."""
        self.observe(real=update.real_logits, fake=update.fake_logits)
        return {"adversarial": self.loss.discriminator(update.real_logits, update.fake_logits)}

    def generator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Make the discriminator, as it is now, take fakes for real."""
        fake_logits = update.fake_logits  # first: both draw random numbers, always in this order
        return {"adversarial": self.fooled(fake_logits, update.real_logits if self.loss.needs_real_logits else None)}

    def on_train_start(self) -> None:
        """Set the reference batch of a discriminator with virtual batch norm, unless a checkpoint held it."""
        reference = getattr(self.discriminator, "reference", None)
        if reference is not None and reference.rows.isnan().any():
            if self.trainer.datamodule is None:  # type: ignore[attr-defined]
                raise ConfigError(
                    "the reference batch of virtual batch norm comes from a data module: fit(model, datamodule=...), or"
                    " call model.discriminator.set_reference(images) before"
                )
            fixed = self.trainer.datamodule.fixed(len(reference.rows))  # type: ignore[attr-defined]
            label = fixed[self.condition].to(self.device) if self.conditional else None
            self.discriminator.set_reference(fixed["real"].to(reference.rows), label)  # type: ignore[operator]

    def observe(self, **values: Tensor) -> None:
        """Log the logits, and show the augmentation those of the real images."""
        super().observe(**values)
        if self.augment:
            self.augment.observe(values["real"])

    def after_batch(self) -> None:
        """Let the augmentation adjust its strength."""
        super().after_batch()
        if self.augment:
            self.augment.adjust(self.batches)

    def numbers(self) -> dict[str, float]:
        """Return the numbers that the augmentation and the techniques report: `augment/p`, `top_k/share`, ..."""
        told = self.augment.numbers() if self.augment else {}
        return {f"augment/{key}": value for key, value in told.items()} | super().numbers()

    def real(self, batch: Batch) -> Tensor:
        """Return the real images [n, C, H, W] of a batch, as the discriminator is to see them."""
        return batch["real"]

    def noise(self, n: int) -> Tensor:
        """Draw z ~ N(0, 1) of shape [n, latent_dim], for use in the losses."""
        return self.draw(torch.randn, n, self.latent_dim)

    @property
    def latent_dim(self) -> int:
        """The number of components of z."""
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    @property
    def classes(self) -> int:
        """The number of classes that the generator is conditioned on, 0 for none."""
        return int(getattr(self.generator, "classes", 0))

    @property
    def conditional(self) -> bool:
        """Whether the generator is conditioned on something."""
        return self.classes > 0

    def told(self, label: Any) -> tuple[Any, ...]:
        """Return the further arguments of networks for conditions [n, ...], none for None."""
        return () if label is None else (label.to(self.device),)

    def told_discriminator(self, label: Any) -> tuple[Any, ...]:
        """Return the further arguments of the discriminator for conditions [n, ...]: those of the generator."""
        return self.told(label)

    @property
    def conditions(self) -> Conditions:
        """What the generator is conditioned on: the data's conditions, or its own classes if the data's are unknown."""
        known = self.data_conditions
        return known if self.classes and known.classes == self.classes else Classes(self.classes)

    @property
    def kind(self) -> Kind:
        """The kind of sample that the generator makes, as the data tell it (which bands, how many a second)."""
        own = kind_of(self.generator)
        return self.data_kind if isinstance(self.data_kind, type(own)) else own

    def generate(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images [n, C, H, W] from z [n, latent_dim], and from labels int64 [n] if there are classes."""
        return self.generator(z, *self.told(label), **self._drawing(self.generator))

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the discriminator's logits for images [n, C, H, W], augmented if the config asks for it."""
        return self.logits_and_features(images, label)[0]

    def logits_and_features(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the same logits, and the features [n, F] that they were computed from; None if none are exposed."""
        return self.judged_by(self.discriminator, images, label)

    def judged_by(
        self, discriminator: Any, images: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the logits and features of one of several discriminators."""
        seen = self.shown(self.with_augmentation(images))
        told = getattr(discriminator, "classes", 0) or getattr(discriminator, "conditional", False)
        inputs = (seen, *self.told_discriminator(label)) if told else (seen,)
        drawing = self._drawing(discriminator)
        if not hasattr(discriminator, "features"):
            return discriminator(*inputs, **drawing), None
        features = discriminator.features(*inputs, **drawing)
        return discriminator.head(features, *inputs[1:]), features

    def with_augmentation(self, images: Tensor) -> Tensor:
        """Return images [n, C, H, W] augmented, each by itself; the same without an augmentation."""
        return self.augment.each(images, self.draw) if self.augment else images

    def _drawing(self, network: nn.Module) -> dict[str, Any]:
        return {"draw": self.draw} if getattr(network, "drawn", False) else {}

    # ---------------------------------------------------------------- samples

    @torch.no_grad()
    def sample(
        self,
        z: Tensor,
        ema: bool = True,
        labels: Tensor | None = None,
        truncation: float | None = None,
        bounded: bool = True,
    ) -> Tensor:
        """Generate images [n, C, H, W] in [-1, 1] from z [n, latent_dim], in evaluation mode.

        With `ema` the generator has its averaged weights. A conditional generator needs `labels`, int64 [n].
        `truncation` is for w, in a generator that is `styled`; for others z is truncated already, see `fixed_noise`.
        Without `bounded`, values beyond the kind's bounds are kept.
        """
        generator = self.network("generator", ema)
        z = z.to(self.device, dtype=next(generator.parameters()).dtype)
        styling = {"truncation": truncation} if self.styled else {}
        with evaluating(generator):
            images = generator(z, *self.told(labels), **styling)
        return self.kind.bounded(images) if bounded else images

    @property
    def model_name(self) -> str:
        """The name of the variant's class, or of its generator where that alone tells it from others."""
        generator = type(self.generator).__name__.removesuffix("Generator")
        return generator if type(self) is NoiseToImage else super().model_name

    @property
    def styled(self) -> bool:
        """Whether the generator maps z to w first, and truncates w."""
        return bool(getattr(self.generator, "styled", False))

    def class_number(self, asked: object) -> int:
        """Return the label of a class given its name, or given its number if no class has that name.

        Raises ConfigError if there is no such class.
        """
        return class_number(asked, self.classes, self.class_names)

    def fixed_noise(self, n: int, seed: int, truncation: float | None = None) -> Tensor:
        """Draw z [n, latent_dim], which depends on the seed alone, not on the device.

        With `truncation` no |component| is larger than that: the truncation trick, Brock et al. 2019, arXiv:1809.11096,
        section 3.1. A generator that is `styled` truncates w instead and leaves z unchanged. Raises ConfigError unless
        `truncation` is above 0.
        """
        return latents.noise(n, self.latent_dim, seed, truncation, self.styled)

    def sampler(self, seed: int, ema: bool = True, truncation: float | None = None, law: str = "data") -> Sampler:
        """Return the source of the images that scores use; their classes are drawn by `law`, see `conditions`."""
        return Sampler(self, seed, ema, truncation, law)

    def walk(self, places: int, n: int, seed: int, steps: int = 20) -> Iterator[Tensor]:
        """Yield z [n, latent_dim] along n closed walks through `places` random places each, `steps` between two."""
        return closed_walk(self.fixed_noise(places * n, seed).view(places, n, -1), steps)

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """Return what every sample sheet of a run is made from: the same n latent vectors, and their labels."""
        inputs = {"z": self.fixed_noise(n, seed=self.run.seed)}
        label = self.conditions.of_sheet(n, self.run.seed)
        return inputs if label is None else {**inputs, "label": label}

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 1, C, H, W]: n cells of one image."""
        return self.sample(inputs["z"], ema, inputs.get("label"))[:, None]


class PlayerUpdate(Comparison):
    """The inputs of one player's update (real and fake images, labels, logits, features), computed on first access.

    Fakes carry gradients only in the generator's update. For n real images, the discriminator's update has n fakes and
    the generator's `generator_batch` times as many. If the model reuses fakes, all updates of a batch share them except
    those with `own_fakes`.
    """

    def __init__(self, model: NoiseToImage, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> None:
        player = "generator" if of_generator else "discriminator"
        Update.__init__(self, model, player, {player: getattr(model, player)})
        self.batch, self.name = batch, "discriminator"
        self.reuse_fakes = model.reuse_fakes and not own_fakes

    @property
    def beside(self) -> list[PlayerUpdate]:
        """The updates of further discriminators in the same step."""
        return []

    @cached_property
    def real(self) -> Tensor:  # type: ignore[override]
        """Real images [n, C, H, W]."""
        return self.model.real(self.batch)

    @cached_property
    def real_label(self) -> Tensor | None:
        """Their classes, int64 [n]; None without classes."""
        return self.batch[self.model.condition] if self.model.conditional else None

    @property
    def z(self) -> Tensor:
        """The noise [n, latent_dim] of the fakes."""
        return self._fakes[0]

    @property
    def fake_label(self) -> Tensor | None:
        """The classes of the fakes, int64 [n]; None without classes."""
        return self._fakes[1]

    @cached_property
    def fake(self) -> Tensor:  # type: ignore[override]
        """The fakes [n, C, H, W]."""
        return self._fakes[2] if self.of_generator else self._fakes[2].detach()

    def judge_as_real(self, images: Tensor) -> Tensor:
        """Return the discriminator's logits for images [n, C, H, W] with the labels of the real ones."""
        return self.model.logits(images, self.real_label)

    def judge_as_fake(self, images: Tensor) -> Tensor:
        """Return the discriminator's logits for images [n, C, H, W] with the labels of the fakes."""
        return self.model.logits(images, self.fake_label)

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor | None]:
        return self.model.logits_and_features(self.real, self.real_label)

    @cached_property
    def _fake(self) -> tuple[Tensor, Tensor | None]:
        return self.model.logits_and_features(self.fake, self.fake_label)

    @cached_property
    def _fakes(self) -> tuple[Tensor, Tensor | None, Tensor]:
        return self.model.once("fakes", self._make_fakes) if self.reuse_fakes else self._make_fakes()

    def inputs(self, n: int) -> tuple[Tensor, Tensor | None]:
        """Draw noise [n, latent_dim] for n new fakes, and their classes int64 [n]; None without classes."""
        model, z = self.model, self.model.noise(n)
        if model.conditional and model.fake_labels == "batch":
            labels = self.batch[model.condition]
            # In the order of the batch, so that each rank's fakes have its labels.
            return z, labels[torch.arange(n, device=labels.device) * len(labels) // n]
        return z, model.conditions(n, partial(model.draw, torch.rand), model.fake_labels)

    def _make_fakes(self) -> tuple[Tensor, Tensor | None, Tensor]:
        times = self.model.generator_batch if self.of_generator else 1
        z, label = self.inputs(times * len(self.batch["real"]))
        return z, label, self.model.generate(z, label)
