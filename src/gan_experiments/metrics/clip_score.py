"""CLIP score: whether the images made of held-out captions show what these say, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Batch, Samples, Seed, Text
from gan_experiments.contracts import ConfigError
from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.extractors import plain_float32
from gan_experiments.metrics.measures.clip_score import CLIPScore
from gan_experiments.metrics.of_captions import CaptionEvaluator, HeldOutCaptions


class CLIPScoreEvaluator(CaptionEvaluator):
    """Evaluator of the CLIP score: one image is made of each of `num_fake` held-out captions.

    `clip` is a folder of a CLIP as Hugging Face's transformers saves it, or its name there, which is downloaded. The
    captions are read in their own words, without a prompt. `split`, `batch_size` and `seed` are as in the base.

    Raises ConfigError for an unknown score, without transformers, and for weights that are not to be had.
    """

    metric = CLIPScore

    def __init__(
        self,
        scores: Sequence[str] = CLIPScore.scores,
        clip: Text = "openai/clip-vit-base-patch32",
        num_fake: Samples = 2000,
        split: str | None = None,
        batch_size: Batch = 100,
        seed: Seed = 0,
    ) -> None:
        super().__init__(scores, num_fake, split, batch_size, seed)
        self.clip = clip
        self._model, self._processor = opened(clip)

    @override
    def judge(self, model: Any, device: torch.device | str) -> Any:
        return self._model.to(device)

    @override
    def features(self, judge: Any) -> int:
        return int(judge.config.projection_dim)

    @override
    def facts(self, judge: Any, real: HeldOutCaptions) -> dict[str, Any]:
        from gan_experiments.metrics.module_extractors import content_hash  # imports torch-fidelity

        return {"extractor": self.clip, "weights_hash": content_hash(judge)}

    @override
    def judged(self, judge: Any, images: Tensor, rows: Tensor, real: HeldOutCaptions, start: int) -> Tensor:
        pixels = to_uint8(images.cpu())[:, :3]
        pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] != 3 else pixels
        said = [real.said[row] for row in rows.tolist()]
        given = self._processor(text=said, images=[*pixels], return_tensors="pt", padding=True, truncation=True)
        with plain_float32(images.device):
            seen = judge(**given.to(images.device))
        finite = images.isfinite().flatten(1).all(1)
        return torch.cosine_similarity(seen.image_embeds, seen.text_embeds).where(finite, torch.nan)


def opened(clip: str) -> tuple[Any, Any]:
    """Return the CLIP of a folder or a name, in evaluation mode, and what prepares its input.

    Raises ConfigError without transformers, and for weights that are neither found nor downloaded.
    """
    try:
        from transformers import CLIPModel, CLIPProcessor
    except ImportError:
        why = "metrics=clip_score needs transformers, which is not installed"
        raise ConfigError(f"{why}: type pip install 'gan_experiments[clip]'") from None
    try:
        return CLIPModel.from_pretrained(clip).float().requires_grad_(False).eval(), CLIPProcessor.from_pretrained(clip)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"metrics.clip={clip}: no CLIP is there ({str(error).splitlines()[0][:120]}); download"
            " https://huggingface.co/openai/clip-vit-base-patch32 whole and type metrics.clip= its folder"
        ) from None
