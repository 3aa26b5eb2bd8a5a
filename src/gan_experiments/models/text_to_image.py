"""Training and sampling shared by all models that generate images from noise and a caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Place
from gan_experiments.captions import PADDING, Vocabulary
from gan_experiments.conditions import Captions, Conditions
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import evaluating
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.networks.text import Text

CAPTION = "caption"
"""The key of captions in a batch, and the name of that input in an exported file."""


class TextToImage(NoiseToImage):
    """A generator and a discriminator that are told a caption, encoded by a frozen `text_encoder`.

    Conditions are tokens int64 [N, length], under "caption" in a batch; networks get the `Text` that the encoder makes
    of them. Fakes in training have the captions of the real images. Without a `text_encoder` networks are told nothing.
    `encoders_of` is the run that the encoder comes from, if it was trained before. `NoiseToImage` has the other
    arguments.
    """

    condition = CAPTION

    def __init__(
        self,
        text_encoder: nn.Module | None,
        fake_labels: str = "batch",
        encoders_of: Place | None = None,
        further: Mapping[str, nn.Module] | None = None,
        **options: Any,
    ) -> None:
        frozen = {} if text_encoder is None else {"text_encoder": text_encoder.requires_grad_(False)}
        super().__init__(fake_labels=fake_labels, further={**frozen, **(further or {})}, **options)
        self.encoders_of = encoders_of

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.fake_labels == "uniform":
            yield "model.fake_labels=uniform: captions are drawn as the data have them; type batch or data"

    @property
    @override
    def conditional(self) -> bool:
        return "text_encoder" in self.network_names

    @override
    def told(self, label: Tensor | Text | None) -> tuple[Text, ...]:
        """Return the `Text` of tokens int64 [n, length]; a `Text` is returned as it is."""
        if not self.conditional:
            return ()
        if label is None:
            raise ConfigError("this generator makes images of captions, and was given none")
        return (label if isinstance(label, Text) else self.encode(label),)

    @torch.no_grad()
    def encode(self, tokens: Tensor) -> Text:
        """Encode captions, tokens int64 [n, length] or embeddings [n, features], by the frozen text encoder."""
        encoder: Any = self.text_encoder
        if tokens.is_floating_point():  # embeddings, which have no encoder here
            tokens = tokens.to(next(self.generator.parameters()).dtype)
        with evaluating(encoder):
            return encoder(tokens.to(self.device))

    @property
    @override
    def conditions(self) -> Conditions:
        if not self.conditional:
            return Conditions()
        known = self.data_conditions
        return known if isinstance(known, Captions) else Captions(torch.tensor([[PADDING]]), Vocabulary((), 1))
