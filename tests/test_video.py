"""Clips: moving digits, the kind of sample, MoCoGAN's networks against the official code, the scores of clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image
from support import compose, small, write_film
from torch import nn

from gan_experiments import films
from gan_experiments.assembly import build, check
from gan_experiments.augment.ada import ADA
from gan_experiments.augment.diffaugment import DiffAugment
from gan_experiments.callbacks import memorisation
from gan_experiments.contracts import ConfigError
from gan_experiments.data import stored
from gan_experiments.data.batches import to_float
from gan_experiments.data.clips import Clips, ClipSettings, frames_in, whole_film
from gan_experiments.data.moving_digits import MovingDigits
from gan_experiments.drawing import save_png, to_uint8
from gan_experiments.kinds import CLIP, FRAME_OF_CLIP, Clip
from gan_experiments.layers.clips import as_clips, as_frames
from gan_experiments.metrics.clip_extractors import MovingDigitsExtractor
from gan_experiments.metrics.likeness import psnr
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.request import Request
from gan_experiments.models.mocogan import FrameUpdate
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.few_frames import FewFramesDiscriminator
from gan_experiments.networks.mocogan import (
    MoCoGANGenerator,
    MoCoGANImageDiscriminator,
    MoCoGANVideoDiscriminator,
)
from gan_experiments.networks.stylegan2 import StyleGAN2Generator
from gan_experiments.networks.tgan import TGANDiscriminator, TGANGenerator
from gan_experiments.networks.vgan import VGANDiscriminator, VGANGenerator, VGANPredictor
from gan_experiments.provenance import Mark
from gan_experiments.techniques.weights import without_large_singular_values
from gan_experiments.verbs import sample

ONE = Ranks(0, 1, torch.device("cpu"))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# -------------------------------------------------------------------- data


def test_a_digit_sets_out_in_the_direction_of_its_class_and_bounces_off_the_edges() -> None:
    data = MovingDigits(64, clips=400, classes=8, length=48, speed=[0.02, 0.04])
    clips = data.reference()
    places = clips.places[:, 0]  # [N, T, 2], down and to the right
    room = 64 - clips.side
    assert places.min() >= 0
    assert places.max() <= room
    steps = places.diff(dim=1)
    assert (steps.norm(dim=2) <= 64 * 0.04 + 1e-4).all()
    angle = 2 * torch.pi * clips.labels / 8
    towards = torch.stack([angle.sin(), angle.cos()], dim=1)
    assert ((steps[:, 0] * towards).sum(1) >= 64 * 0.02 - 1e-3).all()
    turned = (steps[:, :-1] * steps[:, 1:] < -1e-4).any(1).any(1)
    assert turned.float().mean() > 0.9, "48 frames are long enough to meet an edge"
    assert clips.class_names[:3] == ["right", "down and right", "down"]


def test_a_frame_shows_the_digit_where_it_is() -> None:
    data = MovingDigits(32, clips=20)
    clips = data.reference()
    clips.places = clips.places.round()
    seen = clips.images(0, 20)
    for row in range(20):
        for time in (0, 9):
            down, right = clips.places[row, 0, time].int().tolist()
            frame = torch.zeros(32, 32)
            frame[down : down + 14, right : right + 14] = clips.shapes[clips.which[row, 0]]
            assert (frame * 255 - seen[row, 0, time].float()).abs().max() <= 0.51


def test_held_out_clips_are_of_other_digits_and_a_number_decides_which_there_are() -> None:
    data, same, other = (MovingDigits(32, clips=2000, drawn=drawn) for drawn in (0, 0, 1))
    shuffled = MovingDigits(32, clips=2000, seed=1)
    shapes = {split: data.reference(split).shapes.flatten(1) for split in ("train", "test")}
    assert len(shapes["train"]) == 4500
    both = torch.cat([*shapes.values()]).unique(dim=0)
    assert len(both) == len(shapes["train"].unique(dim=0)) + len(shapes["test"].unique(dim=0))
    assert len(data.reference("test")) == 200
    assert torch.equal(data.stream().batch(3)["real"], same.stream().batch(3)["real"])
    assert not torch.equal(data.stream().batch(3)["real"], shuffled.stream().batch(3)["real"])
    assert data.fingerprint == same.fingerprint == shuffled.fingerprint != other.fingerprint
    assert not torch.equal(data.reference().images(0, 4), other.reference().images(0, 4))


def test_two_digits_without_directions_of_their_own() -> None:
    data = MovingDigits(64, clips=10, digits=2, classes=0)
    assert data.provides == {"real"}
    assert data.reference().digit.shape == (10, 2)
    with pytest.raises(ConfigError, match=r"data.classes=3: digits set out in 4 directions or 8"):
        MovingDigits(classes=3)


def test_clips_are_cut_out_of_films_of_many_forms(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty frames give two clips of eight, whatever holds them; what is short or broken is left out and named."""
    root = tmp_path / "films"
    for name in ("a.gif", "b.apng", "c.webp"):
        write_film(root / "moving" / name, 20, seed=1)
    frames = frames_in(root / "moving" / "b.apng", ClipSettings(40, 3))
    films.save_mp4(frames, root / "coded" / "d.mp4", 10.0, None)
    for time, frame in enumerate(frames):
        save_png(frame, root / "stills" / "one" / f"{time:03d}.png", None)
    write_film(root / "moving" / "short.gif", 7)
    (root / "coded" / "broken.mp4").write_bytes(b"no film")
    data = Clips(str(root), 40, length=8, classes=3, cache=str(tmp_path / "cache"))
    clips = data.reference()
    assert clips.pixels.shape == (10, 3, 8, 40, 40)
    assert data.class_counts == [2, 6, 2]
    assert data.class_names == ["coded", "moving", "stills"]
    assert clips.skipped == 2
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "short.gif" in told
    assert "7 frames, and data.length=8 are needed" in told
    truth = frames[:8].transpose(0, 1)
    for row in (2, 6, 8):  # of GIF, whose colours are few, of WebP and of PNG
        assert (clips.pixels[row].int() - truth.int()).abs().float().mean() < (4 if row == 2 else 0.01)
    assert (clips.pixels[0].int() - truth.int()).abs().float().mean() < 12, "of the film, which is compressed"
    assert torch.equal(
        Clips(str(root), 40, length=8, classes=3, cache=str(tmp_path / "cache")).reference().pixels, clips.pixels
    )
    few = Clips(str(root), 20, length=4, stride=3, windows="first", cache=str(tmp_path / "cache")).reference()
    assert few.pixels.shape == (5, 3, 4, 20, 20)
    flipped = Clips(str(root), 40, length=8, flip=True, batch_size=10, cache=str(tmp_path / "cache"))
    batch = flipped.stream().batch(0)
    made = flipped.on_after_batch_transfer(dict(batch))["real"]
    plain = to_float(batch["real"])
    assert torch.equal(made, torch.where(batch["flip"].view(-1, 1, 1, 1, 1), plain.flip(-1), plain))
    assert batch["flip"].any()


def test_splits_are_folders_and_nothing_is_a_film(tmp_path: Path) -> None:
    for name, number in (("train", 3), ("test", 2)):
        for index in range(number):
            write_film(tmp_path / "films" / name / f"{index}.gif", 4, index)
    data = Clips(str(tmp_path / "films"), 16, length=4, cache=str(tmp_path / "cache"))
    assert (len(data.reference()), len(data.reference("test"))) == (3, 2)
    assert data.held_out().batch(1)["real"].shape == (1, 3, 4, 16, 16)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"data.root=\S+ holds no films: give a folder of films"):
        Clips(str(tmp_path / "none")).reference()
    with pytest.raises(ConfigError, match="is no folder"):
        Clips(str(tmp_path / "nowhere")).reference()


# -------------------------------------------------------------------- the kind


def test_a_clip_is_shown_as_a_strip_and_played_as_gif_and_mp4(tmp_path: Path) -> None:
    cells = torch.rand(6, 1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    strip = CLIP.sheet(cells[:1], smallest=8)
    assert strip.shape == (3, 36, 2 + 8 * 34)
    times = torch.linspace(0, 15, 8).round().long()
    assert torch.equal(strip[0, 2:34, 2:34], ((cells[0, 0, 0, times[0]] + 1) * 127.5 + 0.5).byte())
    kind = Clip(rate=5.0)
    mark = Mark(model="MoCoGAN", seed=7)
    for suffix in kind.plays:
        kind.play(cells, tmp_path / f"sheet{suffix}", mark)
    with Image.open(tmp_path / "sheet.gif") as gif:
        assert gif.n_frames == 16
        assert gif.info["duration"] == 200
    assert b'"seed": 7' in (tmp_path / "sheet.mp4").read_bytes()
    frames = torch.stack([*films.frames_of(tmp_path / "sheet.mp4")])
    assert frames.shape[0] == 16
    for suffix in (kind.suffix, *kind.others):
        kind.save(cells[0, 0], tmp_path / f"one{suffix}", mark)
    with Image.open(tmp_path / "one.gif") as gif:
        assert (gif.size, gif.n_frames) == ((32, 32), 16)
    again = torch.stack([*films.frames_of(tmp_path / "one.mp4")], dim=1)
    assert (again.int() - to_uint8(cells[0, 0]).int()).abs().float().mean() < 12, "compressed"
    assert b'"seed": 7' in (tmp_path / "one.mp4").read_bytes()


def test_copies_of_clips_are_found_and_their_pictures_are_strips() -> None:
    real = MovingDigits(16, clips=30).reference().images(0, 30)
    floats = CLIP.floats(real)
    assert torch.equal(floats, to_float(real))
    traits = CLIP.traits(floats)
    copies = memorisation.compared(CLIP.traits(0.5 * floats[:10] - 0.5), [traits], CLIP)[0]
    other = MovingDigits(16, clips=30, drawn=1).reference().images(0, 30)
    others = memorisation.compared(CLIP.traits(CLIP.floats(other)), [traits], CLIP)[0]
    assert CLIP.recognised
    assert copies.copies == 1
    assert others.copies is not None
    assert others.copies < 0.2
    pictures = CLIP.pictures(real)
    assert pictures.shape == (30, 1, 16, 4 * 17 - 1)
    assert torch.equal(pictures[:, :, :, 17:33], real[:, :, 5])
    assert torch.equal(CLIP.pictures(floats), pictures)
    shown = CLIP.data_sheet({"sample": floats[:2], "training": floats[2:4]}, ["", ""])
    assert shown.shape[2] > 2 * 8 * 32


def test_folders_of_films_are_scored_as_they_are(tmp_path: Path) -> None:
    write_film(tmp_path / "films" / "a.gif", 8)
    frames = frames_in(tmp_path / "films" / "a.gif", ClipSettings(40, 3))
    films.save_mp4(frames[:6], tmp_path / "films" / "b.mp4", 8.0, None)
    (tmp_path / "films" / "c.mp4").write_bytes(b"no film")
    found = stored.stored(str(tmp_path / "films"), "fake", Clip)
    assert isinstance(found, stored.StoredClips)
    assert len(found) == 2
    first, second = found.images(0, 2)
    assert (first.shape[:2], second.shape) == ((3, 8), (3, 6, 40, 40))
    assert torch.equal(first, whole_film(tmp_path / "films" / "a.gif").transpose(0, 1))
    seen = FRAME_OF_CLIP.viewed(first[None])
    assert seen.shape == (1, 3, *first.shape[2:])


def test_single_clips_are_written_as_gif_or_mp4() -> None:
    asked = OmegaConf.create({"singles": True, "format": "mp4"})
    assert sample._suffix(asked, CLIP) == ".mp4"
    with pytest.raises(ConfigError, match="format=glb: clips are saved as gif, mp4; type one of these"):
        sample._suffix(OmegaConf.create({"singles": True, "format": "glb"}), CLIP)


@pytest.mark.parametrize("augment", [DiffAugment(), ADA(p=1.0, policy="bgc")])
def test_all_frames_of_a_clip_are_augmented_alike(augment: nn.Module) -> None:
    still = torch.rand(3, 3, 1, 16, 16).expand(-1, -1, 5, -1, -1) * 2 - 1
    rng = torch.Generator().manual_seed(0)

    def draw(sampler, n, *shape, shared=False):
        return sampler((n, *shape), generator=rng)

    seen = augment.each(still, draw)
    assert seen.shape == still.shape
    assert not torch.allclose(seen, still, atol=0.05)
    assert torch.allclose(seen, seen[:, :, :1].expand_as(seen), atol=1e-5)


# -------------------------------------------------------------------- networks


def test_mocogan_has_the_official_numbers_of_parameters() -> None:
    """Counted of the authors' modules (github sergeytulyakov/mocogan, src/models.py)."""
    with torch.device("meta"):
        made = {
            "generator": MoCoGANGenerator(DCGANGenerator(66, 64, 3, 64), 50, 10, 16, classes=6),
            "without categories": MoCoGANGenerator(DCGANGenerator(60, 64, 3, 64), 50, 10, 16),
            "image": MoCoGANImageDiscriminator(64, 3),
            "image, whole": MoCoGANImageDiscriminator(64, 3, patches=False),
            "video": MoCoGANVideoDiscriminator(64, 16, 3, categories=6),
            "video without categories": MoCoGANVideoDiscriminator(64, 16, 3),
            "video patches": MoCoGANVideoDiscriminator(64, 16, 3, patches=True),
        }
    assert {name: parameters(network) for name, network in made.items()} == {
        "generator": 3_298_836,
        "without categories": 3_249_684,
        "image": 663_296,
        "image, whole": 2_765_568,
        "video": 11_253_504,
        "video without categories": 11_056_896,
        "video patches": 2_650_880,
    }
    assert parameters(made["generator"].recurrent) == 660


def filled(network: nn.Module) -> nn.Module:
    """Weights that a formula gives."""
    with torch.no_grad():
        for index, weight in enumerate(network.parameters()):
            wave = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + index)
            weight.copy_((0.15 * wave).view_as(weight) + (weight.ndim == 1))
    return network.double()


def test_mocogan_computes_what_the_official_code_does() -> None:
    """The numbers are those of the authors' modules, with the same weights and noise, run beside these."""
    generator = filled(MoCoGANGenerator(DCGANGenerator(10, 64, 1, 2), 4, 3, 16, classes=3))
    video = filled(MoCoGANVideoDiscriminator(64, 16, 1, width=2, categories=3))
    image = filled(MoCoGANImageDiscriminator(64, 1, width=2))
    z = torch.cos(torch.arange(2 * generator.latent_dim, dtype=torch.float64)).view(2, -1)
    label, times = torch.tensor([0, 2]), torch.tensor([3, 12])
    clips = generator(z, label)
    features = video.features(clips)
    loss = F.softplus(-video.head(features)).mean() + F.cross_entropy(video.categorise(features), label)
    loss = loss + F.softplus(-image(generator.frames(z, label, times))).mean()
    loss.backward()
    norms = [
        sum(weight.grad.square().sum() for weight in network.parameters()).sqrt().item()
        for network in (generator.recurrent, generator.images, video, image)
    ]
    assert clips.double().square().mean().item() == pytest.approx(OFFICIAL["clips"], rel=1e-9)
    assert loss.item() == pytest.approx(OFFICIAL["loss"], rel=1e-9)
    assert norms == pytest.approx(OFFICIAL["norms"], rel=1e-7)


OFFICIAL = {
    "clips": 0.15946922089391757,
    "loss": 1.8860054201874128,
    "norms": [4.432389503105363, 194.50734655547126, 73.94075835065156, 7.070613930560253],
}


def test_the_content_of_a_clip_is_the_same_in_all_frames_and_longer_noise_makes_longer_clips() -> None:
    generator = MoCoGANGenerator(DCGANGenerator(12, 16, 1, 4), 5, 3, 6, classes=4)
    z = torch.randn(3, generator.latent_dim + 2 * 3)
    codes = generator.codes(z, torch.tensor([0, 1, 3]))
    assert codes.shape == (3, 8, 12)
    assert torch.equal(codes[:, :, :9], codes[:, :1, :9].expand(-1, 8, -1))
    assert torch.equal(codes[:, 0, 5:9], torch.eye(4)[[0, 1, 3]])
    assert (codes[:, 1:, 9:] != codes[:, :-1, 9:]).all()
    assert generator(z, torch.tensor([0, 1, 3])).shape == (3, 1, 8, 16, 16)
    generator.eval()
    whole, some = (
        generator(z, torch.tensor([0, 1, 3])),
        generator.frames(z, torch.tensor([0, 1, 3]), torch.tensor([7, 0, 2])),
    )
    assert torch.allclose(some, whole[torch.arange(3), :, torch.tensor([7, 0, 2])], atol=1e-6)
    with pytest.raises(ConfigError, match=r"= 5 \+ 4 \+ 3 numbers; type model.generator.images.latent_dim=12"):
        MoCoGANGenerator(DCGANGenerator(11, 16, 1, 4), 5, 3, 6, classes=4)


def test_the_frames_of_a_style_generator_share_their_noise() -> None:
    images = StyleGAN2Generator(6, 16, 1, w_dim=8, channel_base=64, channel_max=8, mapping_layers=2)
    for name, weight in images.named_parameters():
        if name.endswith("strength"):
            nn.init.constant_(weight, 5.0)
    generator = MoCoGANGenerator(images, 4, 2, 5)
    z = torch.randn(2, 4)[:, None].expand(-1, 1, -1).flatten(1)
    z = torch.cat([z, torch.zeros(2, 12)], dim=1)
    nn.init.zeros_(generator.recurrent.weight_hh)
    nn.init.zeros_(generator.recurrent.bias_ih)
    nn.init.zeros_(generator.recurrent.bias_hh)
    rng = torch.Generator().manual_seed(0)
    clips = generator(z, None, lambda sampler, n, *shape, shared=False: sampler((n, *shape), generator=rng))
    assert torch.allclose(clips, clips[:, :, :1].expand_as(clips), atol=1e-5), "nothing moves, and no grain flickers"


def test_few_frames_are_seen_in_their_order_with_the_gaps_between_them() -> None:
    seen: list[torch.Tensor] = []

    class Looking(nn.Module):
        def features(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)

    clips = torch.arange(12.0)[None, None, :, None, None].expand(2, 1, -1, 4, 4)
    discriminator = FewFramesDiscriminator(Looking(), length=12, frames=3)
    discriminator.features(clips)
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0, 6, 11, 6 / 12, 5 / 12], abs=1e-6)
    rng = torch.Generator().manual_seed(1)
    discriminator.features(clips, lambda sampler, n, *shape: sampler((n, *shape), generator=rng))
    times, gaps = seen[1][:, :3, 0, 0], seen[1][:, 3:, 0, 0]
    assert (times.diff(dim=1) > 0).all()
    assert torch.allclose(times.diff(dim=1) / 12, gaps)
    whole = FewFramesDiscriminator(DCGANDiscriminator(16, 5, 4, classes=4, conditioning="auxiliary"), length=12)
    assert (whole.categories, whole(torch.rand(2, 1, 12, 16, 16)).shape) == (4, (2,))


# -------------------------------------------------------------------- the model


def test_categories_of_clips_that_are_made_without_any_are_refused(tmp_path: Path) -> None:
    (fault,) = check.faults(compose(tmp_path, "model=mocogan", "model.generator.classes=0"))
    assert fault.startswith("model.discriminator tells 4 categories and model.generator makes clips of none; type")


def test_mocogan_shows_its_frames_to_one_discriminator_and_clips_to_the_other(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "mocogan")
    model, data = build.build_model(cfg), build.make(cfg.data)
    batch = data.on_after_batch_transfer(data.stream().batch(0))
    model._rng = torch.Generator().manual_seed(0)
    update = model.player_update(batch)
    assert (update.real.shape, update.fake.shape) == ((2, 1, 16, 32, 32), (2, 1, 16, 32, 32))
    frames = update.frames
    assert isinstance(frames, FrameUpdate)
    assert (frames.real.shape, frames.fake.shape) == ((6, 1, 32, 32), (6, 1, 32, 32))
    of_clips = as_frames(batch["real"]).unflatten(0, (2, 16))
    for row, frame in enumerate(frames.real):
        assert (of_clips[row // 3] == frame).flatten(1).all(1).sum() == 1
    terms = model.discriminator_loss(update)
    assert set(terms) == {"adversarial", "adversarial_image", "category"}
    assert terms["adversarial_image"].item() == pytest.approx(
        (F.softplus(-frames.real_logits).mean() + F.softplus(frames.fake_logits).mean()).item()
    )
    model.generator_loss(model.player_update(batch, of_generator=True))["category"].backward()
    assert model.generator.recurrent.weight_hh.grad.abs().sum() > 0


def test_without_classes_nothing_is_told_of_categories(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "mocogan", "data.classes=0")
    model = build.build_model(cfg)
    assert model.needs == {"real"}
    assert model.categories == 0


# -------------------------------------------------------------------- scores


def test_the_classifier_of_moving_digits_knows_clips_it_has_not_seen() -> None:
    data = MovingDigits(32, clips=5000, classes=8)
    clips = data.reference("test")
    extractor = MovingDigitsExtractor()
    features, logits = extractor.extract(clips.images(0, 500))
    joint = logits.exp().unflatten(1, (8, 10))
    assert torch.allclose(joint.sum((1, 2)), torch.ones(500), atol=1e-4)
    direction, digit = joint.sum(2).argmax(1), joint.sum(1).argmax(1)
    assert (direction == clips.labels).double().mean() > 0.9
    assert (digit == clips.digit[:, 0]).double().mean() > 0.6
    assert 0.5 < features.square().mean() < 2
    assert (extractor.names("fvd"), extractor.names("precision")) == ("fvd_digits", "precision_moving_digits")
    large = as_clips(F.interpolate(as_frames(clips.images(0, 50).float()), 64).byte(), 16)
    again = extractor.extract(large)[1].exp().unflatten(1, (8, 10)).sum(2).argmax(1)
    assert (again == direction[:50]).double().mean() > 0.8, "clips of another size are resized"


def test_i3d_is_looked_for_and_missed_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metrics=i3d needs I3D's weights .*fetch https://\S+ as i3d_torchscript.pt"):
        build.make(compose(tmp_path, "data=moving_digits", "metrics=i3d").metrics.extractor)
    (tmp_path / "x.pt").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"is no TorchScript of I3D"):
        build.make(
            compose(
                tmp_path, "data=moving_digits", "metrics=i3d", f"metrics.extractor.weights={tmp_path}/x.pt"
            ).metrics.extractor
        )


# -------------------------------------------------------------------- two streams, and prediction


def test_vgan_and_tgan_have_the_official_numbers_of_parameters() -> None:
    """Of the layers of videogan's main.lua and main_conditional.lua, and of tgan's models/ (see docs/models)."""
    with torch.device("meta"):
        vgan, predictor, tgan = VGANGenerator(), VGANPredictor(), TGANGenerator()
        judges = VGANDiscriminator(), TGANDiscriminator()
    parts = [parameters(part) for part in (vgan.background, vgan.trunk, vgan.foreground, vgan.mask)]
    assert parts == [3_577_667, 12_651_328, 12_291, 4_097]
    assert parameters(predictor.encoder) == 11_021_696
    assert (parameters(tgan.temporal), parameters(tgan)) == (825_444, 4_448_135)
    assert [parameters(judge) for judge in judges] == [11_057_858, 11_032_385]


def test_a_mask_of_nothing_stands_still_and_one_of_all_is_the_foreground() -> None:
    generator = VGANGenerator(8, 16, 8, 1, 4)
    z = torch.randn(2, 8)
    streams = generator.streams(z)
    assert torch.equal(generator.eval()(z), generator.streams(z).clips)
    still = streams._replace(mask=torch.zeros_like(streams.mask)).clips
    assert torch.equal(still, streams.background[:, :, None].expand_as(still))
    assert torch.equal(streams._replace(mask=torch.ones_like(streams.mask)).clips, streams.foreground)
    with pytest.raises(ConfigError, match=r"needs a length that 4 divides; type data.length=8"):
        VGANGenerator(8, 16, 9, 1, 4)


def test_the_mask_costs_its_mean(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "vgan")
    model, data = build.build_model(cfg), build.make(cfg.data)
    model._rng = torch.Generator().manual_seed(0)
    update = model.player_update(data.on_after_batch_transfer(data.stream().batch(0)), of_generator=True)
    assert model.generator_loss(update)["mask"].item() == pytest.approx(0.1 * update.mask.mean().item())
    assert update.mask.shape == (2, 1, 16, 32, 32)


def test_singular_values_are_clipped_to_one_and_scales_to_the_deviation(tmp_path: Path) -> None:
    matrix = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    clipped = without_large_singular_values(matrix)
    before, after = torch.linalg.svdvals(matrix), torch.linalg.svdvals(clipped)
    assert torch.allclose(after, before.clamp(max=1), atol=1e-6)
    assert torch.allclose(without_large_singular_values(clipped), clipped, atol=1e-6)
    assert torch.allclose(without_large_singular_values(matrix / 100), matrix / 100, atol=1e-7)
    cfg = small(tmp_path / "run", "tgan", "technique.singular_value_clipping.interval=2")
    model = build.build_model(cfg)
    for layer in model.discriminator.modules():
        if getattr(layer, "weight", None) is not None and layer.weight.ndim > 1:
            nn.init.normal_(layer.weight)
        elif getattr(layer, "running_var", None) is not None:
            layer.running_var.copy_(torch.tensor(4.0))
            layer.weight.data.copy_(torch.linspace(-1, 5, len(layer.weight)))
    (phase,) = (phase for phase in model.phases() if phase.player == "discriminator")
    values = torch.linalg.svdvals(model.discriminator.last.weight.flatten(1))
    model.after_step(phase)
    assert torch.equal(torch.linalg.svdvals(model.discriminator.last.weight.flatten(1)), values), "at the second batch"
    model.batches = 1
    model.after_step(phase)
    for layer in model.discriminator.modules():
        if getattr(layer, "weight", None) is not None and layer.weight.ndim > 1:
            assert torch.linalg.svdvals(layer.weight.flatten(1)).max() <= 1 + 1e-5
        elif getattr(layer, "running_var", None) is not None:
            assert layer.weight.min().item() == pytest.approx(0.02)
            assert layer.weight.max().item() == pytest.approx(2.0)


def test_a_prediction_begins_with_what_is_given_and_is_scored_on_what_follows(tmp_path: Path) -> None:
    cfg = small(
        tmp_path / "run", "vgan_prediction", "model.generator.given=3", "data.clips=30", "model.future_weight=2"
    )
    model, data = build.build_model(cfg), build.make(cfg.data)
    batch = data.on_after_batch_transfer(data.stream().batch(0))
    made = model.translate(batch)
    assert torch.equal(made[:, :, :3], batch["real"][:, :, :3])
    others = {"real": batch["real"].clone()}
    others["real"][:, :, 3:] = 0
    assert torch.equal(model.translate(others), made), "it looks at no other frames"
    terms = model.generator_loss(batch)
    fake = model.predicted(batch)
    assert terms["future"].item() == pytest.approx(2 * F.l1_loss(fake[:, :, 3:], batch["real"][:, :, 3:]).item())
    item = data.held_out().batch(0)
    fakes, truth = model.sampler(0, ema=False).pair(item, 0)
    assert (fakes.shape, truth.shape) == ((13, 1, 32, 32), (13, 1, 32, 32))
    held, _ = model.sampler(0, ema=False).as_it_is(item, 0)
    assert torch.equal(held, item["real"][0, :, 2].expand(13, 1, 32, 32))
    judge = PairedEvaluator(num_fake=2)
    scores = judge.measure(model.sampler(0, ema=False), judge.real(data), Request("cpu", ema=False)).scores
    several = [psnr(to_uint8(a).double(), to_uint8(b).double()) for a, b in zip(fakes, truth, strict=True)]
    (one,) = judge._table(model.sampler(0, ema=False).pair, dataclasses.replace(data.held_out(), number=1), ONE)[0][
        "psnr"
    ]
    assert one == pytest.approx(sum(several) / 13)
    assert set(scores) == {"psnr", "ssim", "l1"}
    with pytest.raises(ConfigError, match="it has 2 frames, and this model goes on from 3"):
        model.predict(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
