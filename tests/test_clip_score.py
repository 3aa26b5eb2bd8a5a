"""CLIP score, by a CLIP of a few weights that is made here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.clip_score import CLIPScoreEvaluator
from gan_experiments.metrics.measures.clip_score import CLIPScore
from gan_experiments.metrics.of_captions import HeldOutCaptions
from gan_experiments.metrics.request import Request


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP for images of 32 pixels and words of letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    both = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {**both, "vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = {**both, "image_size": 32, "patch_size": 16}
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        )
        for weights in model.parameters():
            weights.data.normal_()
    model.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_the_score_is_the_mean_of_positive_cosines() -> None:
    metric = CLIPScore()
    metric.update(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, -1.0]]))
    assert metric.compute().item() == pytest.approx(30)  # (0.6 + 0) / 2
    metric.update(torch.tensor([[math.nan, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert math.isnan(metric.compute().item())


def test_images_are_judged_with_their_own_captions(clip: Path) -> None:
    """As transformers does by hand; and the order of the batches makes no difference."""
    said = ["a thick seven", "a thin two", "nine", "a wide four", "one"]
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    made = SimpleNamespace(makes_images=True, conditions=None)
    sample: Any = SimpleNamespace(model=made, told=lambda index, tokens: images[tokens[:, 0]])
    real = HeldOutCaptions(torch.arange(5)[:, None], torch.arange(5), None, None, "f", "test", said)

    def of(batch_size: int, **changed: Any) -> Any:
        evaluator = CLIPScoreEvaluator(clip=str(clip), num_fake=5, batch_size=batch_size)
        evaluator._told = True
        return evaluator.measure(changed.get("sample", sample), real, Request("cpu", ema=True)).scores["clip_score"]

    model, processor = transformers.CLIPModel.from_pretrained(clip), transformers.CLIPProcessor.from_pretrained(clip)
    pixels = ((images + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
    seen = model(**processor(text=said, images=[*pixels], return_tensors="pt", padding=True))
    cosines = (seen.image_embeds * seen.text_embeds).sum(1)  # both are normed
    assert cosines.std() > 0.01
    score = of(5)
    assert score.value == pytest.approx(100 * cosines.clamp_min(0).mean().item(), abs=1e-4)
    assert of(2).value == pytest.approx(score.value, abs=1e-4)
    assert score.passport["extractor"] == str(clip)
    assert len(score.passport["weights_hash"]) == 16
    broken = SimpleNamespace(model=made, told=lambda index, tokens: images[tokens[:, 0]] * math.nan)
    assert math.isnan(of(5, sample=broken).value)


def test_what_is_no_clip_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for given in (str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(ConfigError, match=r"metrics\.clip=.*: no CLIP is there .* type metrics\.clip= its folder"):
            CLIPScoreEvaluator(clip=given)
