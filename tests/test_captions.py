"""Images with captions, and models that are told a caption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import run, small, write_images
from torch import Tensor

import gan_experiments as gx
from gan_experiments.assembly import build, encoders
from gan_experiments.captions import PADDING, UNKNOWN, Vocabulary, words_of
from gan_experiments.conditions import Captions, Embedded, restored
from gan_experiments.contracts import ConfigError
from gan_experiments.data.captioned import CaptionedDigits, CaptionedFolder, Told
from gan_experiments.data.digit_looks import captions, looks
from gan_experiments.models.gan_int_cls import GANINTCLS
from gan_experiments.networks.gan_int_cls import GANINTCLSDiscriminator, GANINTCLSGenerator
from gan_experiments.networks.text import BagOfWords, Text
from gan_experiments.verbs import run as training


def test_captions_become_tokens_and_back() -> None:
    assert words_of("A red-hot Apple, isn’t it?") == ["a", "red", "hot", "apple", "isn't", "it"]
    known = Vocabulary.of(["a red apple", "a green apple", "a pear"], length=3, least=1)
    assert known.words == ("a", "apple", "green", "pear", "red")  # the most frequent first, then by name
    tokens = known.encode(["red apple", "a blue apple that is cut off", ""])
    assert tokens.tolist() == [[6, 3, PADDING], [2, UNKNOWN, 3], [PADDING] * 3]
    assert known.decode(tokens) == ["red apple", "a ? apple", ""]
    assert known.unknown("a blue blue apple") == ["blue"]
    assert Vocabulary.of(["a b", "a c"], 2, least=2).words == ("a",)
    assert Vocabulary.of(["a b", "a c"], 2, most=2).words == ("a", "b")


def test_a_wrong_image_has_no_caption_of_these_words() -> None:
    """Nor is it of the same class, if there are classes."""
    said = [["one", "two"], ["two"], ["three", "one"], ["five"], ["four"]]
    told = Told.of(said, Vocabulary.of((c for some in said for c in some), 2))
    rows = torch.arange(5).repeat(40)
    places = told.drawn(rows, torch.Generator().manual_seed(0))
    spoken = [[c for some in said for c in some][place] for place in places.tolist()]
    assert all(caption in said[row] for caption, row in zip(spoken, rows.tolist(), strict=True))
    assert set(spoken[::5]) == {"one", "two"}  # each of an image's captions is drawn
    others = told.others(rows, places, None, torch.Generator().manual_seed(0)).tolist()
    assert not any(caption in said[row] for caption, row in zip(spoken, others, strict=True))
    labels = torch.tensor([0, 0, 1, 1, 1])
    found = told.others(rows, places, labels, torch.Generator().manual_seed(0))
    assert (labels[found] != labels[rows]).all()
    with pytest.raises(ConfigError, match=r"nearly all images are of the same class.*data\.classes=0"):
        told.others(rows, places, torch.zeros(5, dtype=torch.int64), torch.Generator())


def test_digits_are_described_as_they_are() -> None:
    """A slanted, thick, wide stroke is measured so."""
    image = torch.full((4, 1, 32, 32), -1.0)
    image[:2, 0, 6:26, 14:18] = 1  # an upright bar of 4 pixels
    image[1, 0, :, :] = -1
    for row in range(6, 26):
        image[1, 0, row, 24 - row // 2 : 28 - row // 2] = 1  # leans right by half a pixel a row
    image[2, 0, 6:26, 12:20] = 1  # 8 pixels
    image[3, 0, 12:20, 6:26] = 1  # lies
    measured = looks(image)
    assert measured["slant"][0] == pytest.approx(0, abs=1e-6)
    assert measured["slant"][1] == pytest.approx(0.5, abs=0.02)
    assert measured["thickness"][2] > 1.5 * measured["thickness"][0]
    assert measured["width"][3] == pytest.approx(1 / measured["width"][2])
    data = CaptionedDigits(batch_size=4, limit=400, captions=3)
    images = data.reference("train")
    grey = images.pixels.float() / 127.5 - 1
    said = captions(grey, images.labels, each=3)  # type: ignore[arg-type]
    thick = torch.tensor([any(word in some[0].split() for word in ("thick", "bold")) for some in said])
    thin = torch.tensor([any(word in some[0].split() for word in ("thin", "fine")) for some in said])
    values = looks(grey)["thickness"]
    assert 0.2 < thick.float().mean() < 0.4
    assert values[thick].mean() > values[~thick & ~thin].mean() > values[thin].mean()
    assert not any("a eight" in caption or "a 8" in caption for some in said for caption in some)
    assert len(data.reference("test")) == 40
    assert len(images) == 360


def test_a_batch_is_the_same_for_any_number_of_ranks() -> None:
    data = CaptionedDigits(batch_size=8, limit=200)
    whole, halves = data.stream().batch(3), [data.stream(rank, 2).batch(3) for rank in (0, 1)]
    assert whole.keys() == {"real", "caption", "wrong", "label"}
    for key, rows in whole.items():
        assert torch.equal(rows, torch.cat([half[key] for half in halves])), key
    assert not torch.equal(whole["caption"], data.stream().batch(4)["caption"])


def folder_with(tmp_path: Path, texts: dict[str, str]) -> Path:
    root = tmp_path / "set"
    for name in ("a", "b"):
        write_images(root / name, 4, seed=ord(name))
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-16") if "16" in text else text.encode())
    return root


def opened(tmp_path: Path, root: Path, **settings: Any) -> CaptionedFolder:
    data = CaptionedFolder(root, 32, **{"batch_size": 2, "cache": str(tmp_path / "cache"), **settings})
    data.setup()
    return data


def test_captions_of_any_layout_come_to_their_images(tmp_path: Path) -> None:
    """Texts beside the images, in another folder (CUB's text_c10), a table of rows or of columns, COCO's json."""
    beside = {f"{c}/{i}.txt": f"{c} {i}\n\nthe {i} of {c}\n" for c in "ab" for i in range(4)}
    root = folder_with(tmp_path, beside)
    expected = [[f"{c} {i}", f"the {i} of {c}"] for c in "ab" for i in range(4)]
    data = opened(tmp_path, root, classes=2)
    assert data.captions_of("train") == expected
    assert data.class_counts == [4, 4]
    assert "captions 16, 2 an image, of 2 to 4 words" in data.understood()[-1]
    texts = tmp_path / "text_c10"
    for name, text in beside.items():
        (root / name).unlink()
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        (texts / name).write_text(text)
    assert opened(tmp_path, root, captions=texts).captions_of("train") == expected
    rows = [f"{c}/{i}.png,{caption}" for c in "ab" for i in range(4) for caption in (f"{c} {i}", f"the {i} of {c}")]
    (tmp_path / "rows.csv").write_text("\n".join(["image,caption", *rows]))
    assert opened(tmp_path, root, captions=tmp_path / "rows.csv").captions_of("train") == expected
    lines = [{"file": f"{c}/{i}.png", "one": f"{c} {i}", "two": f"the {i} of {c}"} for c in "ab" for i in range(4)]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert opened(tmp_path, root, caption_columns=["one", "two"]).captions_of("train") == expected
    (root / "captions.jsonl").unlink()
    images = [{"id": i + 4 * (c == "b"), "file_name": f"{c}/{i}.png"} for c in "ab" for i in range(4)]
    said = [{"image_id": i, "caption": one} for i, some in enumerate(expected) for one in some]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": said}))
    data = opened(tmp_path, root, captions=tmp_path / "coco.json", limit=3, test_fraction=0.4)
    assert len(data.captions_of("train")) == 3
    held_out, every = data.captions_of("test"), [tuple(some) for some in expected]
    assert 0 < len(held_out) < 8
    assert not {tuple(some) for some in held_out} & {tuple(some) for some in data.captions_of("train")}
    assert {tuple(some) for some in held_out} < set(every)


def test_images_without_a_caption_are_left_out_and_counted(tmp_path: Path) -> None:
    """And odd texts are read, cut or refused."""
    many = " ".join(["word"] * 10_000)
    texts = {"a/0.txt": "one", "a/1.txt": " ... \n", "a/2.txt": many, "a/3.txt": "\u00fc 16", "b/0.txt": ""}
    data = opened(tmp_path, folder_with(tmp_path, texts), length=4)
    assert data.captions_of("train") == [["one"], [many], ["\u00fc 16"]]
    told = " ".join(data.understood())
    assert "5 without a caption left out: a/1.png, b/0.png, b/1.png, ..." in told
    assert "1 captions are longer than data.length=4 words and are cut off" in told
    empty = write_images(tmp_path / "empty", 2)
    with pytest.raises(ConfigError, match=r"none of its 2 files has a caption; write a text beside each"):
        opened(tmp_path, empty)
    for name, text, words in (
        ("x.csv", "image,label\na/0.png,1", r"one of captions are needed; it has image, label"),
        ("x.json", "[1]", r"a json of captions is COCO's, or"),
        ("x.json", "{", r"cannot be read"),
        ("gone.csv", None, r"there is no such file"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=words):
            opened(tmp_path, empty, captions=tmp_path / name)


def test_embeddings_take_the_place_of_an_encoder(tmp_path: Path) -> None:
    """Of several captions an image, averaged; drawn, found by their captions, kept, and told as they are."""
    texts = {f"{c}/{i}.txt": f"{c} {i}\nthe {i} of {c}" for c in "ab" for i in range(4)}
    root, place = folder_with(tmp_path, texts), tmp_path / "codes"
    codes = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(0))
    place.mkdir()
    for i in range(8):
        np.save(place / f"{'ab'[i // 4]}{i % 4}.npy", codes[i].numpy())
    for path in root.rglob("*.png"):  # found by their names alone, wherever they lie
        path.with_suffix(".txt").rename(path.with_name(f"{path.parent.name}{path.stem}.txt"))
        path.rename(path.with_name(f"{path.parent.name}{path.name}"))
    data = opened(tmp_path, root, embeddings=place, averaged=2, batch_size=8)
    assert "embeddings of 6 numbers, the mean of 2" in data.understood()[-1]
    assert data.shapes["caption"] == (6,)
    batch, told = data.stream().batch(1), data.told()
    assert told.codes is not None
    assert torch.equal(told.codes, codes.flatten(0, 1))
    means = torch.cat([codes, codes.mean(1, keepdim=True)], dim=1)  # of one caption drawn twice, or of both
    assert (torch.cdist(batch["caption"], means.flatten(0, 1)).amin(1) < 1e-5).all()
    single = opened(tmp_path, root, embeddings=place, batch_size=8).stream().batch(1)["caption"]
    assert (torch.cdist(single, codes.flatten(0, 1)).amin(1) < 1e-5).all()
    known = data.conditions
    assert isinstance(known, Embedded)
    assert torch.equal(known.of_words(["the 2 of b"])[0], codes[6, 1])
    assert known.titles(codes[:2, 0], 1) == ["a 0", "a 1"]
    again = restored(known.state())
    assert isinstance(again, Embedded)
    assert torch.equal(again.of_words(["A 3!"]), codes[3, :1])
    with pytest.raises(ConfigError, match=r"embeddings made elsewhere, and knows those of 16 captions, such as .a 0."):
        known.of_words(["a 9"])
    cfg = small(tmp_path / "run", "gan_int_cls", "data=captioned", f"data.root={root}", f"data.embeddings={place}")
    encoders.settle(cfg)
    assert cfg.model.generator.text_features == 6
    model: Any = build.build_model(cfg)
    assert torch.equal(model.encode(codes[0]).sentence, codes[0])


def test_what_is_no_embedding_is_one_line(tmp_path: Path) -> None:
    root, place = write_images(tmp_path / "set", 2), tmp_path / "codes"
    place.mkdir()
    for files, said in (
        ({}, r"data\.embeddings=.*codes holds no files"),
        ({"0": np.zeros(3), "1": np.zeros(4)}, r"1\.npy has 4 features, and 3 are needed"),
        ({"0": np.zeros((2, 3, 4)), "1": np.zeros(4)}, r"0\.npy is float64 of the shape \[2, 3, 4\]: give an \.npy"),
        ({"0": np.array([1, np.nan])}, r"0\.npy has values that are not finite"),
        ({"0": np.array(["a"])}, r"0\.npy is <U1 of the shape \[1\]"),
        ({"other": np.zeros(3)}, r"none of its 2 files has an embedding in data\.embeddings="),
        ({"0": np.zeros((3, 4))}, r"0\.png has 2 captions and 3 embeddings; give one for each"),
    ):
        for old in place.iterdir():
            old.unlink()
        for name, array in files.items():
            np.save(place / f"{name}.npy", array)
        (root / "captions.csv").write_text("image,caption\n0.png,one\n0.png,two\n")
        with pytest.raises(ConfigError, match=said):
            opened(tmp_path, root, embeddings=place)
    with pytest.raises(ConfigError, match=r"x\.npy is one array, and which row is of which image is not known"):
        opened(tmp_path, root, embeddings="x.npy")
    with pytest.raises(ConfigError, match=r"data\.averaged=4: words have no mean"):
        opened(tmp_path, root, averaged=4)


def test_the_words_of_a_bag_can_be_read_from_its_code() -> None:
    bag = BagOfWords(most_words=50, features=256)
    code = bag(torch.tensor([[2, 3, 4, 0], [2, 0, 0, 0], [0, 0, 0, 0]]))
    inside = code.sentence @ bag.vectors.T
    assert set(inside[0].topk(3).indices.tolist()) == {2, 3, 4}
    assert inside[1].argmax() == 2
    assert code.sentence[2].abs().max() == 0
    assert torch.equal(bag.vectors, BagOfWords(most_words=50, features=256).vectors)
    assert not any(parameter.requires_grad for parameter in bag.parameters())
    assert code.mask is not None
    assert code.mask.sum(1).tolist() == [3, 1, 0]


def test_the_networks_of_gan_int_cls_have_the_official_counts() -> None:
    """main_cls_int.lua with ngf 128, ndf 64, nt 128, without the convolutions' biases, which it keeps at zero."""
    generator, discriminator = GANINTCLSGenerator(), GANINTCLSDiscriminator()
    count = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    assert count == [18_905_472, 4_030_080]


class Indifferent(torch.nn.Module):
    """A discriminator that cannot tell: its logits are 0."""

    conditional = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Text] = []

    def forward(self, images: Tensor, text: Text) -> Tensor:
        self.seen.append(text)
        return images.flatten(1).sum(1) * self.weight


def model_of(folder: Path, **options: Any) -> tuple[GANINTCLS, Any]:
    cfg = small(folder, "gan_int_cls", "data.limit=100", *(f"model.{key}={value}" for key, value in options.items()))
    model: Any = build.build_model(cfg)
    data = build.make(cfg.data)
    data.setup("fit")
    model.data_conditions = data.conditions
    return model, data


@pytest.mark.parametrize("weight", [0.5, 0.2, 0.0])
def test_an_indifferent_discriminator_loses_two_logarithms_of_two(weight: float, tmp_path: Path) -> None:
    """Whatever the weight of wrong pairs; and the generator one, over captions and those between."""
    model, data = model_of(tmp_path, wrong_weight=weight)
    model.discriminator = Indifferent()
    model._rng = torch.Generator().manual_seed(0)
    batch = data.on_after_batch_transfer(data.stream().batch(0), 0)
    terms = model.discriminator_loss(model.player_update(batch))
    assert sum(terms.values()).item() == pytest.approx(2 * math.log(2))
    assert ("mismatch" in terms) == bool(weight)
    assert all(len(text) == 4 for text in model.discriminator.seen)
    assert len(model.discriminator.seen) == (3 if weight else 2)
    terms = model.generator_loss(model.player_update(batch, of_generator=True))
    assert sum(terms.values()).item() == pytest.approx(math.log(2))
    assert terms["interpolation"].item() == pytest.approx(math.log(2) / 3)
    text = model.discriminator.seen[-1]
    assert len(text) == 6  # the batch's four, and two between
    assert torch.allclose(text.sentence[4:], (text.sentence[[0, 2]] + text.sentence[[1, 3]]) / 2)


def test_the_wrong_image_goes_with_the_same_caption(tmp_path: Path) -> None:
    """It is the image that is exchanged, as in the authors' code, and the caption is used by the discriminator."""
    model, data = model_of(tmp_path)
    model._rng = torch.Generator().manual_seed(0)
    batch = data.on_after_batch_transfer(data.stream().batch(0), 0)
    seen: list[tuple[Tensor, Any]] = []
    logits = model.logits

    def watched(images: Tensor, label: Any = None) -> Tensor:
        seen.append((images, label))
        return logits(images, label)

    model.logits = watched  # type: ignore[method-assign]
    model.discriminator_loss(model.player_update(batch))
    assert torch.equal(seen[0][0], batch["wrong"])
    assert torch.equal(seen[0][1], batch["caption"])
    code = model.encode(batch["caption"])
    code.sentence.requires_grad_()
    model.discriminator(batch["real"], code).sum().backward()
    assert code.sentence.grad is not None
    assert code.sentence.grad.abs().sum() > 0


def test_a_run_knows_its_words(tmp_path: Path) -> None:
    """After a training, without the data: captions are read, unknown words named, sheets and files labelled."""
    training.run(small(tmp_path / "run", "gan_int_cls", "data.limit=100", "images=8", "callbacks=default"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)["gan_experiments"]
    again = restored(saved)
    assert isinstance(again, Captions)
    assert again.vocabulary.decode(again.vocabulary.encode(["a thick seven"])) == ["a thick seven"]
    words = ["sample", f"run={last}", "caption=[a thick seven,a thin purple two]", "n=8", "singles=true", "out=o"]
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the training's captions have no purple" in done.stdout + done.stderr
    lines = (tmp_path / "o" / "captions.txt").read_text().splitlines()
    assert [line.split("\t")[1] for line in lines] == ["a thick seven"] * 4 + ["a thin ? two"] * 4
    assert len(list((tmp_path / "o" / "images").glob("*.png"))) == 8
    opened = gx.load(last)
    drawn = opened.sample(2, seed=1, label="a thick seven")
    assert drawn.shape == (2, 32, 32, 1)
    assert (drawn == opened.sample(2, seed=1, label=["a thick seven"] * 2)).all()
    assert not (drawn == opened.sample(2, seed=1, label=["a thin two"] * 2)).all()
    with pytest.raises(ConfigError, match="label=purple: none of its words is known"):
        opened.sample(label="purple")
    done = run("export", f"run={last}", "format=safetensors", "out=e.safetensors", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    exported = gx.load(tmp_path / "e.safetensors")
    for words in ({}, {"label": "a thick seven"}):  # captions of the data, or one's own
        assert (exported.sample(9, seed=1, **words) == opened.sample(9, seed=1, **words)).all()
    (tmp_path / "said.txt").write_text("a seven\n\nan eight\n")
    done = run("sample", f"run={last}", "caption=said.txt", "n=4", "out=p", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for word, told in (
        ("caption=purple", "none of its words is known; this model has seen"),
        ("caption=nowhere.txt", "it cannot be read"),
        ("caption=' '", "it has no caption"),
        ("class=3", "this generator reads captions and knows no classes; type caption="),
    ):
        done = run("sample", f"run={last}", word, "out=q", folder=tmp_path)
        assert done.returncode == 2, word
        assert told in done.stdout + done.stderr, (word, done.stdout + done.stderr)
        assert not (tmp_path / "q").exists()
    few = ["metrics=digits", "metrics.num_fake=8", "metrics.num_real=8", "standing_statistics=1"]
    for verb, words in (("evaluate", few), ("usefulness", ["n=40", "steps=2", "seeds=1", "parts=[1]"])):
        done = run(verb, f"run={last}", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    done = run("evaluate", f"run={last}", *few, "by_class=true", folder=tmp_path)
    assert done.returncode == 2
    assert "by_class=true needs a generator with classes" in done.stdout + done.stderr
