"""AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks.

Tao Xu, Pengchuan Zhang, Qiuyuan Huang, Han Zhang, Zhe Gan, Xiaolei Huang, Xiaodong He, 2017. arXiv:1711.10485

The deep attentional multimodal similarity model of section 3.2, which is trained before the GAN.

Differs from the paper: the moments of Adam are kept, where the authors' code begins anew at each epoch; equation 10
lacks its root, as in that code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from gan_experiments import distributed
from gan_experiments.bounds import OneOf, Positive
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.module import AdversarialModule, evaluating
from gan_experiments.engine.phases import Phase
from gan_experiments.losses.damsm import GAMMAS, matching, sentence_scores, word_scores
from gan_experiments.networks.text import Text
from gan_experiments.runs import resume, trust

ALIKE = ("class", "caption", "none")
ENCODERS = ("text_encoder", "image_encoder")


def wide(codes: Tensor) -> Tensor:
    """Convert to float32 unless wider: in half precision a softmax of such scores keeps two digits."""
    return codes.to(torch.promote_types(codes.dtype, torch.float32))


def pair_terms(
    text: Text, parts: Tensor, whole: Tensor, alike: Tensor | None, gammas: Sequence[float] = GAMMAS
) -> dict[str, Tensor]:
    """Return the losses of N captions and the codes of their images, of words (eq. 11) and of sentences (eq. 12)."""
    assert text.words is not None
    assert text.mask is not None
    gamma1, gamma2, gamma3 = gammas
    words, sentence, parts, whole = map(wide, (text.words, text.sentence, parts, whole))
    with torch.autocast(whole.device.type, enabled=False):
        return {
            "words": matching(word_scores(words, parts, text.mask, gamma1, gamma2), gamma3, alike),
            "sentences": matching(sentence_scores(sentence, whole), gamma3, alike),
        }


def alike(batch: Batch, by: str) -> Tensor | None:
    """Return which images and captions of the batch of all ranks go together though they are no pair, bool [N, N].

    `by` "class" takes those of the same class, if there are classes, and "caption" those of the very same caption.
    """
    key = {"class": "label", "caption": "caption"}.get(by)
    if key is None or key not in batch:
        return None
    rows = distributed.gather_rows(batch[key])
    rows = rows.reshape(len(rows), -1)
    return (rows[:, None] == rows[None]).all(2)


class DAMSM(AdversarialModule):
    """A text encoder and an image encoder, trained to tell which captions and images of a batch go together.

    Pairs are those of the batch of all ranks. There is no generator: sheets show the images that are found by captions.

    Args:
        text_encoder: captions int64 [n, length] -> `Text` with words.
        image_encoder: images -> codes of parts [n, features, h, w] and of the whole, [n, features].
        alike: which pairs of a batch are not taken for wrong ones: of the same "class", as in the authors' code, of the
            same "caption", or "none".
        gammas: γ1, γ2 and γ3 of equations 9 to 12.
        clip_text: the largest norm of the gradient of the text encoder; None for no clipping.
        engine: the arguments of `AdversarialModule`.

    Raises ConfigError if the encoders have other numbers of features.
    """

    needs = frozenset({"real", "caption"})
    makes_images = False
    shows_inputs = True

    text_encoder: Any
    image_encoder: Any

    def __init__(
        self,
        text_encoder: nn.Module,
        image_encoder: nn.Module,
        alike: Annotated[str, OneOf(*ALIKE)] = "class",
        gammas: tuple[Positive, Positive, Positive] = GAMMAS,
        clip_text: Positive | None = 0.25,
        **engine: Any,
    ) -> None:
        super().__init__({"text_encoder": text_encoder, "image_encoder": image_encoder}, **engine)
        self.alike, self.gammas, self.clip_text = alike, tuple(gammas), clip_text
        here, there = (getattr(encoder, "features", 0) for encoder in (text_encoder, image_encoder))
        if here != there:
            raise ConfigError(
                f"model.image_encoder.features={there} and model.text_encoder.features={here}: give both the same"
            )

    @override
    def phases(self) -> list[Phase]:
        return [Phase("encoders", self._losses, (self.text_encoder, self.image_encoder))]

    @override
    def configure_optimizers(self) -> list[Optimizer]:
        if self.run.accumulate > 1:
            raise ConfigError(
                f"trainer.accumulate={self.run.accumulate}: captions are compared with all images of the batch; type"
                " trainer.accumulate=1, or a smaller data.batch_size"
            )
        return super().configure_optimizers()

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        drawing = {"draw": self.draw} if getattr(self.text_encoder, "drawn", False) else {}
        own: Text = self.text_encoder(batch["caption"], **drawing)
        assert own.words is not None
        assert own.mask is not None
        parts, whole = map(distributed.whole_batch, self.image_encoder(batch["real"]))
        sentence, words = distributed.whole_batch(own.sentence), distributed.whole_batch(own.words)
        text = Text(sentence, words, distributed.gather_rows(own.mask))
        found = sentence_scores(sentence, whole).argmax(1) == torch.arange(len(whole), device=self.device)
        self._remember("captions_found", found.float().mean())
        return pair_terms(text, parts, whole, alike(batch, self.alike), self.gammas)

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.clip_text is not None:
            torch.nn.utils.clip_grad_norm_(self.text_encoder.parameters(), self.clip_text)

    # ---------------------------------------------------------------- what it is for

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Text:
        """Encode captions int64 [n, length]."""
        with evaluating(self.text_encoder):
            text: Text = self.text_encoder(tokens.to(self.device))
        return text

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [n, C, H, W] in [-1, 1]: their parts [n, features, h, w], and the whole [n, features]."""
        with evaluating(self.image_encoder):
            parts, whole = self.image_encoder(images.to(self.device, self.image_encoder.whole.weight.dtype))
        return parts, whole

    def sampler(self, seed: int, ema: bool = True) -> Reader:
        """Return what R-precision asks for images of captions; here it has none, and takes the real ones."""
        return Reader(self)

    @override
    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        columns = self.conditions.columns(n) or 1
        return {"real": fixed["real"][:n], "label": fixed["caption"][:n:columns].repeat_interleave(columns, dim=0)[:n]}

    @override
    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 1, C, H, W]: in a row for each caption, the images that match it best, the best first."""
        images, n = inputs["real"], len(inputs["real"])
        columns = self.conditions.columns(n) or 1
        scores = sentence_scores(self.read(inputs["label"][::columns]).sentence, self.look(images)[1])  # [n, rows]
        best = scores.topk(columns, dim=0).indices.T.flatten()[:n].to(images.device)
        return images[best][:, None]

    @property
    @override
    def conditions(self) -> Any:
        return self.data_conditions


@dataclass(frozen=True)
class Reader:
    """A model that reads captions and images and makes none."""

    model: DAMSM


@dataclass(frozen=True)
class Encoders:
    """The encoders of a run: their configs by name, their weights by name, and the words that they read."""

    nodes: Mapping[str, Any]
    weights: Mapping[str, Mapping[str, Tensor]]
    words: tuple[str, ...]

    @classmethod
    def of_run(cls, given: str, key: str, trusted: Any = None) -> Encoders:
        """Return those of a run folder or a checkpoint; averages, where it has some.

        Raises ConfigError, which names the option `key`, if there is no such run, or if it has no encoders.
        """
        checkpoint = resume.load(resume.find(given, key), key)
        saved, state = checkpoint["gan_experiments"], checkpoint["state_dict"]
        nodes = {name: saved["config"]["model"].get(name) for name in ENCODERS}
        if not all(isinstance(node, dict) for node in nodes.values()):
            raise ConfigError(
                f"{key}={given}: that run has no encoders of captions and images; type a run of model=damsm"
            )
        trust.require(nodes, f"{key}={given}: its config", trusted)
        weights = {}
        for name in ENCODERS:
            prefix = f"averages.{name}.network."
            prefix = prefix if any(place.startswith(prefix) for place in state) else f"{name}."
            weights[name] = {k.removeprefix(prefix): value for k, value in state.items() if k.startswith(prefix)}
        return cls(nodes, weights, tuple(saved.get("captions", {}).get("words", ())))

    def require_words(self, conditions: Any, given: str, key: str) -> None:
        """Raise ConfigError if they read other words than captions of a data module's or model's `conditions`."""
        known = getattr(conditions, "vocabulary", None)
        if known is None or known.words != self.words:
            here = f"{len(known.words)} words, first {', '.join(known.words[:3])}" if known else "none"
            raise ConfigError(
                f"{key}={given}: it reads {len(self.words)} words, first {', '.join(self.words[:3])}, and the data have"
                f" {here}; train it on the same captions: type model=damsm with these data="
            )

    def made(self) -> DAMSM:
        """Make a model of them, in evaluation mode, which draws no random numbers."""
        with torch.random.fork_rng(devices=[]):
            text_encoder, image_encoder = (instantiate(self.nodes[name], _convert_="all") for name in ENCODERS)
        model = DAMSM(text_encoder, image_encoder, optimizers={})
        for name in ENCODERS:
            getattr(model, name).load_state_dict(self.weights[name])
        return model.requires_grad_(False).eval()
