"""Scores of pairs against other ways to compute them, and folders and archives of pairs."""

import hashlib
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hydra.utils import instantiate
from numpy.lib.stride_tricks import sliding_window_view
from omegaconf import OmegaConf
from PIL import Image
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.likeness import luma, psnr, ssim
from gan_experiments.metrics.paired import PairedEvaluator, pairs_of

CONF = Path(__file__).parents[1] / "conf" / "metrics"


def image(seed=0, channels=3, height=24, width=31):
    """Smooth noise, as an image is."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 6, 6, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].to(torch.uint8)


def noisy(real, sigma=10, seed=0):
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(seed)) * sigma
    return (real + noise).round().clamp(0, 255).to(torch.uint8)


def direct_ssim(x, y):
    """Wang et al. 2004, equations 13 to 16, place by place."""
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (sliding_window_view(z.astype(np.float64), (11, 11)) for z in (x, y))
    mean = lambda z: (window * z).sum(axis=(2, 3))  # noqa: E731
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean((a - mean_a[..., None, None]) ** 2), mean((b - mean_b[..., None, None]) ** 2)
    cov = mean((a - mean_a[..., None, None]) * (b - mean_b[..., None, None]))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    fraction = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return (fraction / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def test_ssim_against_its_definition_and_torchmetrics():
    real = image()
    fake = noisy(real, 30)
    expected = np.mean([direct_ssim(x, y) for x, y in zip(fake.numpy(), real.numpy(), strict=True)])
    assert 0.3 < expected < 0.9
    x, y = fake.double(), real.double()
    assert ssim(x, y) == pytest.approx(expected, abs=1e-12)
    _, places = structural_similarity_index_measure(x[None], y[None], data_range=255.0, return_full_image=True)
    assert ssim(x, y) == pytest.approx(places[..., 5:-5, 5:-5].mean().item(), abs=1e-12)
    assert ssim(y, y) == 1
    black, white = torch.zeros(1, 11, 11).double(), torch.full((1, 11, 11), 255).double()
    assert ssim(black, white) == pytest.approx(0.01**2 / (1 + 0.01**2))


def test_psnr_of_known_errors():
    x = torch.full((3, 4, 4), 100.0).double()
    assert psnr(x, x + 1) == pytest.approx(20 * math.log10(255))  # 48.13 dB
    assert psnr(x * 0, x * 0 + 255) == pytest.approx(0)
    half = x.clone()
    half[:, :2] += 10
    assert psnr(half, x) == pytest.approx(10 * math.log10(255**2 / 50))
    assert psnr(x, x) == 100


def test_luma_is_matlabs():
    colours = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]).double()
    found = luma(colours.T.view(3, 1, 5)).flatten()
    assert found.round().tolist() == [235, 16, 81, 145, 41]  # rgb2ycbcr of uint8
    torch.testing.assert_close(found[2], torch.tensor(16 + 65.481).double())


def test_means_over_pairs_of_any_size(tmp_path):
    reals = [image(0), image(1, height=40, width=20), image(2, height=60, width=60)]
    pairs = [(noisy(real, 5 * i + 3), real) for i, real in enumerate(reals)]
    found = PairedEvaluator(["ssim", "l1", "psnr"]).evaluate(iter(pairs), {"ema": True})
    assert list(found) == ["ssim", "l1", "psnr"]
    floats = [(fake.double().numpy(), real.double().numpy()) for fake, real in pairs]
    psnrs = [10 * np.log10(255**2 / ((x - y) ** 2).mean()) for x, y in floats]
    assert found["psnr"].value == pytest.approx(np.mean(psnrs), abs=1e-10)
    assert found["psnr"].std == pytest.approx(np.std(psnrs), abs=1e-10)
    assert found["l1"].value == pytest.approx(np.mean([np.abs(x - y).mean() for x, y in floats]) / 255)
    assert found["ssim"].value == pytest.approx(np.mean([ssim(x.double(), y.double()) for x, y in pairs]))
    alone = PairedEvaluator(["psnr"]).evaluate(pairs[:1])["psnr"]
    assert (alone.value, alone.std) == (pytest.approx(psnrs[0]), 0)


def test_luma_and_border():
    real = image(height=40, width=36)
    fake = noisy(real)
    fake[:, :4] = fake[:, -4:] = fake[:, :, :4] = fake[:, :, -4:] = 0  # nothing of the border counts
    inner = [z[:, 4:-4, 4:-4] for z in (fake, real)]
    cropped = PairedEvaluator(crop_border=4).evaluate([(fake, real)])
    assert {k: s.value for k, s in cropped.items()} == {
        k: s.value for k, s in PairedEvaluator().evaluate([inner]).items()
    }
    found = PairedEvaluator(y_channel=True, crop_border=4).evaluate([(fake, real)])
    assert list(found) == ["psnr_y", "ssim_y", "l1"]
    x, y = (z.double().numpy() for z in inner)
    light = [16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255 for r, g, b in (x, y)]
    assert found["psnr_y"].value == pytest.approx(10 * np.log10(255**2 / ((light[0] - light[1]) ** 2).mean()))
    assert found["ssim_y"].value == pytest.approx(direct_ssim(*light), abs=1e-12)
    assert found["l1"].value == cropped["l1"].value
    grey = PairedEvaluator(y_channel=True).evaluate([(fake[:1], real[:1])])  # there is no colour to convert
    assert grey["psnr_y"].value == PairedEvaluator().evaluate([(fake[:1], real[:1])])["psnr"].value


def test_passports():
    real = image()
    pairs = [(noisy(real), real), (real[:1], real[:1])]
    found = PairedEvaluator(y_channel=True, crop_border=2).evaluate(pairs, {"ema": False, "split": "test"})
    passport = found["psnr_y"].passport
    assert json.loads(json.dumps(passport)) == passport
    assert (passport["crop_border"], passport["num_pairs"], passport["data_range"]) == (2, 2, 255)
    assert (passport["ema"], passport["split"]) == (False, "test")
    assert passport["channel"] == "grey and Y of BT.601, 16..235, not rounded"
    assert found["l1"].passport["channel"] == "grey and RGB"
    assert passport["warnings"] == ["1 of 2 pairs are identical or nearly so, and count 100 dB"]
    assert "sigma 1.5" in found["ssim_y"].passport["estimator"]
    assert passport["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    content = hashlib.sha256()
    for _, y in pairs:
        content.update(f"{tuple(y.shape)}".encode() + y.numpy().tobytes())
    assert passport["real_fingerprint"] == content.hexdigest()[:32]
    other = PairedEvaluator().evaluate([(y, x) for x, y in pairs])["l1"]
    assert other.passport["real_fingerprint"] != passport["real_fingerprint"]
    assert other.value == PairedEvaluator().evaluate(pairs)["l1"].value
    told = PairedEvaluator().evaluate(pairs, {"real_fingerprint": "the digits"})
    assert told["l1"].passport["real_fingerprint"] == "the digits"


@pytest.fixture
def alexnet(tmp_path):
    torch.manual_seed(0)
    state = torchvision.models.alexnet().features.state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, tmp_path / "alexnet.pth")
    return str(tmp_path / "alexnet.pth")


def test_lpips(alexnet):
    judge = PairedEvaluator(["lpips", "l1"], crop_border=3, lpips_weights=alexnet)
    real = image(height=40, width=37)
    with torch.autocast("cpu", torch.bfloat16):
        [found, _] = judge.evaluate([(noisy(real, 30), real)]).values()
    x, y = (z[None, :, 3:-3, 3:-3] / 127.5 - 1 for z in (noisy(real, 30), real))
    assert found.name == "lpips_alex"
    assert found.value == pytest.approx(judge.lpips(x, y).item(), rel=1e-6)
    assert found.passport["weights_hash"] == hashlib.sha256(Path(alexnet).read_bytes()).hexdigest()[:16]
    assert found.passport["warnings"] == ["the network's weights are not those that are published"]
    with pytest.raises(ConfigError, match=r"too few for lpips_alex: .* is 37 or more"):
        judge.evaluate([(real[:, :36], real[:, :36])])
    with torch.no_grad():
        judge.lpips.net.lin0.model[1].weight.fill_(math.nan)
    with pytest.raises(ConfigError, match="pair one: lpips_alex is nan"):
        judge.evaluate([("one", real, real)])


def test_the_config():
    judge = instantiate(OmegaConf.load(CONF / "paired.yaml"))
    real = image()
    assert list(judge.evaluate([(noisy(real), real)])) == ["psnr", "ssim", "l1"]


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    real = image()
    small = real[:, :18]
    cases = [
        ({}, [], "there are no pairs"),
        ({}, [(real, real), (real, real[:, 1:])], r"pair 1: .* \[3, 24, 31\] .* \[3, 23, 31\]"),
        ({}, [("cat/7", real, real[:1])], "pair cat/7: the fake image is"),
        ({}, [(real.float(), real)], r"pair 0: the fake image is float32 \[3, 24, 31\]"),
        ({}, [(real, real[None])], r"pair 0: the real image is uint8 \[1, 3, 24, 31\]"),
        ({"crop_border": 4}, [(small, small)], "18x31 pixels, 4 off each side, .* ssim: .* 19 or more"),
        ({"crop_border": 9, "scores": ["psnr"]}, [(small, small)], "too few for psnr: .* 19 or more"),
    ]
    for settings, pairs, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            PairedEvaluator(**settings).evaluate(pairs)
        assert "\n" not in str(caught.value)
    assert PairedEvaluator(["ssim"], crop_border=4).evaluate([(real[:, :19], real[:, :19])])["ssim"].value == 1
    with pytest.raises(ConfigError) as caught:
        PairedEvaluator(["fid"], crop_border=-1)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match=r"metrics.lpips_weights=nowhere is not a file"):
        PairedEvaluator(["lpips"], lpips_weights="nowhere")


def write(folder, name, pixels, mode=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels.permute(1, 2, 0).squeeze(-1).numpy()
    (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(path)


def archive(folder, path, below=""):
    with zipfile.ZipFile(path, "w") as file:
        for name in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.write(name, below + name.relative_to(folder).as_posix())
    return path


def test_pairs_of_folders_and_archives(tmp_path):
    fake, real = tmp_path / "fake", tmp_path / "real"
    pictures = {"cat/1": image(1), "cat/2": image(2, 3, 50, 12), "dog/1": image(3, 1)}
    for name, pixels in pictures.items():
        write(real, f"{name}.png", pixels)
        write(fake, f"{name}.bmp", noisy(pixels))
    (real / "list.txt").write_text("no image")
    for pair in (
        (fake, real),
        (archive(fake, tmp_path / "fake.zip", "some/photos/"), archive(real, tmp_path / "real.zip")),
    ):
        found = list(pairs_of(*pair))
        assert [name for name, _, _ in found] == list(pictures)
        for name, x, y in found:
            assert torch.equal(y, pictures[name])
            assert torch.equal(x, noisy(pictures[name]))
    scores = PairedEvaluator(["psnr"]).evaluate(pairs_of(fake, real))
    expected = [psnr(noisy(p).double(), p.double()) for p in pictures.values()]
    assert scores["psnr"].value == pytest.approx(np.mean(expected))


def test_kinds_of_images(tmp_path):
    fake, real = tmp_path / "fake", tmp_path / "real"
    colour, grey = image(1), image(2, 1)
    write(fake, "a.png", colour)
    write(real, "a.png", grey)  # one grey, one not
    write(fake, "b.png", grey, "LA")
    write(real, "b.png", grey)
    Image.fromarray(grey[0].numpy().astype(np.uint16) * 257).save(fake / "c.png")  # 16 bits
    write(real, "c.png", grey)
    turned = Image.fromarray(colour.permute(1, 2, 0).numpy()).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(fake / "d.png", exif=exif)
    write(real, "d.png", colour)
    found = {name: (x, y) for name, x, y in pairs_of(fake, real)}
    assert torch.equal(found["a"][1], grey.expand(3, -1, -1))
    for name, pixels in (("b", grey), ("c", grey), ("d", colour)):
        assert torch.equal(found[name][0], pixels)
        assert torch.equal(found[name][1], pixels)


def test_pairs_that_do_not_match(tmp_path):
    fake, real = tmp_path / "fake", tmp_path / "real"
    for i in range(5):
        write(fake, f"{i}.png", image(i))
    for name in ("4.png", "z/0.png"):
        write(real, name, image())
    with pytest.raises(ConfigError) as caught:
        pairs_of(fake, real)
    one, other = caught.value.faults
    assert f"fake={fake}: 4 of 5 images have no partner (0, 1, 2, ...)" in one
    assert f"real={real}: 1 of 2 images have no partner (z/0)" in other
    write(fake, "4.bmp", image())
    with pytest.raises(ConfigError, match=r"4.bmp and 4.png differ in the suffix alone"):
        pairs_of(fake, real)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"real=.*text holds no images"):
        pairs_of(real, tmp_path / "text")
    with pytest.raises(ConfigError, match=r"fake=nowhere does not exist"):
        pairs_of("nowhere", real)
    (real / "4.png").write_bytes((real / "4.png").read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"fake=.*: 4.png cannot be decoded"):
        list(pairs_of(real, real))
