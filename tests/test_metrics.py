"""The evaluator and its extractors, end to end on the embedded digits."""

import hashlib
import io
import json
import os
import signal
import threading
import urllib.error
import urllib.request
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as inception

from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.metrics import extractors, real_statistics
from gan_experiments.metrics.evaluator import SCORES, USUAL, Evaluator
from gan_experiments.metrics.extractors import DigitsExtractor, InceptionExtractor, fold_batch_norms
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.real_statistics import RealStatistics, alone
from gan_experiments.runs import configs

CONF = Path(__file__).parents[1] / "conf" / "metrics"


class Images:
    """Real images as the evaluator sees them, counting how often it looks."""

    def __init__(self, pixels, fingerprint="some digits", split="train"):
        self.pixels, self.fingerprint, self.split, self.looks = pixels, fingerprint, split, 0

    def __len__(self):
        return len(self.pixels)

    def images(self, start, stop):
        self.looks += 1
        return self.pixels[start:stop]


@pytest.fixture(scope="module")
def digits():
    """Shuffled real digits; the classifier has never seen the second of the two parts."""
    images = Digits().reference()
    held_out = torch.arange(len(images)) % 5 == 0
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # they lie by class
    seen, unseen = order[~held_out[order]], order[held_out[order]]
    return images.pixels[seen], images.pixels[unseen], images.labels[unseen]


def noise(index, n):
    """Images that are not digits."""
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(index)) * 2 - 1


def replay(pixels, batch_size):
    """A generator that gives these images, and the first again after the last."""
    floats = pixels / 127.5 - 1
    return lambda index, n: floats[(torch.arange(n) + index * batch_size) % len(floats)]


def evaluator(folder, **settings):
    return Evaluator(DigitsExtractor(), **{"num_fake": 250, "batch_size": 100, "cache": str(folder)} | settings)


def values(scores):
    return {name: (score.value, score.std) for name, score in scores.items()}


def test_real_digits_score_well(digits, tmp_path):
    seen, unseen, _ = digits
    scores = evaluator(tmp_path, num_fake=1000, kid_subsets=20).evaluate(
        replay(unseen, 100), Images(seen), "cpu", ema=False
    )
    assert list(scores) == [f"{name}_digits" for name in USUAL]
    assert scores["fid_digits"].value < 0.3
    assert scores["precision_digits"].value > 0.8
    assert scores["coverage_digits"].value > 0.6
    assert scores["memorised_digits"].value < 0.03
    assert abs(scores["kid_digits"].value) < 2 * scores["kid_digits"].std
    real = evaluator(tmp_path, num_fake=4000, scores=["is"]).evaluate(replay(seen, 100), Images(seen), "cpu", ema=False)
    assert 9.7 < real["is_digits"].value < 10


def test_worse_images_score_worse(digits, tmp_path):
    seen, unseen, labels = digits
    floats = unseen / 127.5 - 1
    fakes = {
        "real": floats,
        "a little noise": floats + 0.15 * torch.randn(floats.shape, generator=torch.Generator().manual_seed(0)),
        "one class missing": floats[labels != 3],
        "blurred": nn.functional.avg_pool2d(floats + 1, 3, 1, 1) - 1,
        "noise": noise(0, 800),
        "one image": floats[:1].expand(800, -1, -1, -1),
    }
    judge = evaluator(tmp_path, num_fake=800, batch_size=800, kid_subsets=20)
    real = Images(seen[:2000])
    found = {name: judge.evaluate(lambda i, n, x=x: x[:n], real, "cpu", ema=False) for name, x in fakes.items()}
    fids = [found[name]["fid_digits"].value for name in fakes]
    assert fids == sorted(fids), dict(zip(fakes, fids, strict=True))
    assert fids[1] > 1.5 * fids[0]
    assert fids[2] > 2 * fids[1]
    kids = [found[name]["kid_digits"].value for name in ("real", "one class missing", "blurred", "noise")]
    assert kids == sorted(kids)
    inception_scores = [found[name]["is_digits"].value for name in ("one image", "noise", "one class missing", "real")]
    assert inception_scores == sorted(inception_scores)
    of = {name: {key.removesuffix("_digits"): s.value for key, s in scores.items()} for name, scores in found.items()}
    assert of["noise"]["precision"] < 0.4 * of["real"]["precision"]
    assert of["one image"]["recall"] == 0
    assert of["blurred"]["recall"] < 0.6 * of["real"]["recall"]
    assert of["one image"]["coverage"] < 0.05
    assert of["one class missing"]["coverage"] < of["real"]["coverage"]
    assert all(scores["memorised"] < 0.03 for scores in of.values())
    copies = judge.evaluate(replay(seen, 800), real, "cpu", ema=False)
    assert copies["memorised_digits"].value == copies["precision_digits"].value == 1


def test_a_second_evaluation_reads_the_real_features_from_disk(digits, tmp_path):
    real = Images(digits[0][:300])
    first = evaluator(tmp_path).evaluate(noise, real, "cpu", ema=True)
    assert real.looks == 3
    [file] = (tmp_path / "features").iterdir()
    again = evaluator(tmp_path).evaluate(noise, real, "cpu", ema=True)
    assert real.looks == 3
    assert values(again) == values(first)
    file.write_bytes(file.read_bytes()[:1000])  # damaged: computed again
    assert values(evaluator(tmp_path).evaluate(noise, real, "cpu", ema=True)) == values(first)
    assert real.looks == 6


def test_a_score_that_is_added_needs_no_other_pass(digits, tmp_path):
    real = Images(digits[0][:300])
    whole = evaluator(tmp_path / "other").evaluate(noise, real, "cpu", ema=True)
    evaluator(tmp_path, scores=["fid"]).evaluate(noise, real, "cpu", ema=True)
    real.looks = 0
    for _ in range(2):
        assert values(evaluator(tmp_path).evaluate(noise, real, "cpu", ema=True)) == values(whole)
    assert real.looks == 0


ONE = Ranks(0, 1, torch.device("cpu"))


def test_what_a_killed_job_leaves_is_cleared_away(tmp_path):
    features = torch.randn(9, 3)
    path = tmp_path / "key.pt"

    def killed():
        with alone(tmp_path / "lock", ONE):
            (tmp_path / ".key.1-ab.unfinished.pt").write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)

    job = torch.multiprocessing.get_context("fork").Process(target=killed)
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    with alone(tmp_path / "lock", ONE):  # nobody holds it any more
        assert RealStatistics.load(path, ONE.device) is None
        RealStatistics.of(features).save(path)
    assert {p.name for p in tmp_path.iterdir()} == {"key.pt", "lock"}
    assert torch.equal(RealStatistics.load(path, ONE.device).features, features)


def test_a_job_waits_for_another_one_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(real_statistics, "PATIENCE", 0.05)
    lock = FileLock(tmp_path / "lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.3, lock.release).start()
    with caplog.at_level("INFO"), alone(tmp_path / "lock", ONE):
        assert not lock.is_locked
    assert caplog.text.count("waiting for another job") == 1


@pytest.mark.parametrize("change", ["fingerprint", "split", "num_real", "extractor"])
def test_other_real_features_are_not_taken_from_disk(digits, tmp_path, change):
    evaluator(tmp_path).evaluate(noise, Images(digits[0][:300]), "cpu", ema=True)
    other = Images(digits[0][:300], **({change: "other"} if change in ("fingerprint", "split") else {}))
    judge = evaluator(tmp_path, num_real=200 if change == "num_real" else None)
    if change == "extractor":
        judge.extractor.weights_hash = "other"
    judge.evaluate(noise, other, "cpu", ema=True)
    assert other.looks > 0
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_an_unwritable_cache_costs_a_warning_only(digits, tmp_path):
    (tmp_path / "features").write_text("in the way")
    with pytest.warns(UserWarning, match="not kept"):
        assert evaluator(tmp_path).evaluate(noise, Images(digits[0][:300]), "cpu", ema=True)


def test_num_real_draws_evenly(digits, tmp_path):
    in_order = Images(torch.cat([digits[0][:500], 255 - digits[0][:500]]))
    judge = evaluator(tmp_path, num_real=500, scores=["fid"])
    half = [i < 500 for i in judge._real_rows(in_order)]
    assert 0.4 < sum(half) / 500 < 0.6
    score = judge.evaluate(noise, in_order, "cpu", ema=True)["fid_digits"]
    assert score.passport["num_real"] == 500
    with pytest.raises(ConfigError, match=r"num_real=5000: the split .* type metrics\.num_real=1000"):
        evaluator(tmp_path, num_real=5000)._real_rows(in_order)


def test_the_passport(digits, tmp_path):
    real = Images(digits[0][:300], split="test")
    scores = evaluator(tmp_path).evaluate(noise, real, "cpu", ema=True, extra={"images": 12_800})
    fid, kid = json.loads(json.dumps([scores[name].to_dict() for name in ("fid_digits", "kid_digits")]))
    file = Path(extractors.__file__).with_name("digits_classifier.pt")
    assert fid["name"] == "fid_digits"
    assert fid["std"] is None
    passport = fid["passport"]
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(passport.pop("weights_hash"))
    assert "subsets of 250" in kid["passport"]["estimator"]
    libraries = ["torch", "torchvision", "torchmetrics", "torch-fidelity", "gan-experiments"]
    assert passport == {
        "extractor": "digits",
        "resize": "mean over channels, antialiased bilinear to 32x32",
        "quantisation": "uint8, to the nearest level",
        "num_fake": 250,
        "num_real": 300,
        "split": "test",
        "real_fingerprint": "some digits",
        "ema": True,
        "seed": 0,
        "versions": {library: version(library) for library in libraries},
        "estimator": "squared Frechet distance of Gaussians, unbiased covariances",
        "warnings": [],
        "images": 12_800,
    }


def test_few_images_still_score_with_a_warning(digits, tmp_path):
    scores = evaluator(tmp_path, num_fake=3).evaluate(noise, Images(digits[0][:300]), "cpu", ema=False)
    (warning,) = scores["fid_digits"].passport["warnings"]
    assert warning.startswith("300 real and 3 generated samples in 64 feature dimensions: biased upwards")
    assert warning.endswith("; kid is not")
    assert 30 < scores["fid_digits"].value < 70  # noise scores 48
    assert scores["is_digits"].value == pytest.approx(1)  # three parts of one image each


def test_images_that_are_not_finite_score_nan(digits, tmp_path):
    def broken(index, n):
        images = noise(index, n)
        images[0, 0, 3, 4] = torch.nan if index == 1 else 0
        return images

    scores = evaluator(tmp_path).evaluate(broken, Images(digits[0][:300]), "cpu", ema=False)
    assert all(score.value != score.value for score in scores.values())
    assert scores["is_digits"].passport["warnings"] == ["some fake images are not finite"]


def test_settings_of_the_training_change_nothing(digits, tmp_path):
    real = Images(digits[0][:300])
    plain = values(evaluator(tmp_path / "plain").evaluate(noise, real, "cpu", ema=True))
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    fixed = [noise(index, 100) for index in range(3)]
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            judge = evaluator(tmp_path / "odd")
            odd = values(judge.evaluate(lambda index, n: fixed[index][:n], real, "cpu", ema=True))
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.set_num_threads(threads)
    assert odd == plain
    assert torch.equal(rng, torch.get_rng_state())
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in judge.extractor.parameters())


def test_an_extractor_stays_in_evaluation_mode_and_asks_for_no_gradient(digits):
    extractor = DigitsExtractor()
    nn.ModuleList([extractor]).train()
    features, logits = extractor.extract(digits[0][:5])
    assert not extractor.training
    assert not extractor.net.training
    assert not features.requires_grad
    assert features.shape == (5, extractor.features)
    assert logits.shape == (5, extractor.classes)


def test_the_digits_extractor_takes_colour_and_other_sizes(digits):
    extractor, images = DigitsExtractor(), digits[1]
    features, logits = extractor.extract(images)
    colour, _ = extractor.extract(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(colour, features)
    _, large = extractor.extract(nn.functional.interpolate(images.float(), (64, 64), mode="bilinear").byte())
    assert (large.argmax(1) == logits.argmax(1)).float().mean() > 0.98


def test_the_digits_classifier_knows_digits_it_has_not_seen(digits):
    _, images, labels = digits
    _, logits = DigitsExtractor().extract(images)
    assert (logits.argmax(1) == labels).float().mean() >= 0.98


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"scores": ["fid", "lpips"]},
            f"metrics.scores=[fid,lpips]: type some of [{','.join(SCORES)}], or metrics=none",
        ),
        (
            {"scores": []},
            "metrics.scores=[]: type some of [fid,kid,is,precision,recall,density,coverage,memorised,accuracy,fvd,"
            "mind], or metrics=none",
        ),
        ({"num_fake": 1}, "metrics.num_fake=1 is too few: type metrics.num_fake=2 or more"),
        ({"batch_size": 0}, "metrics.batch_size=0 is too few: type metrics.batch_size=1 or more"),
    ],
)
def test_impossible_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError) as caught:
        evaluator(tmp_path, **settings)
    assert caught.value.faults == (message,)


def test_other_constants_are_in_the_passport(digits, tmp_path):
    real = Images(digits[0][:120], split="test")
    settings = {"kid_subsets": 3, "kid_subset_size": 50, "is_splits": 2, "manifold_k": 1, "density_k": 7}
    scores = evaluator(tmp_path, num_fake=100, **settings).evaluate(noise, real, "cpu", ema=False)
    told = {name.removesuffix("_digits"): score.passport["estimator"] for name, score in scores.items()}
    for name, words in {
        "kid": "3 subsets of 50",
        "is": "2 parts",
        "precision": "k=1",
        "recall": "k=1",
        "density": "k=7",
        "coverage": "k=7",
        "memorised": "1%",
    }.items():
        assert words in told[name]
    [doubt] = scores["memorised_digits"].passport["warnings"]
    assert doubt == "the images of the split test are not those that were trained on"


def test_too_few_real_images(digits, tmp_path):
    with pytest.raises(ConfigError, match="split train holds 1 image, and scores need two"):
        evaluator(tmp_path).evaluate(noise, Images(digits[0][:1]), "cpu", ema=False)


@pytest.mark.parametrize("part", ["_of_logits", "_of_features"])
def test_an_error_of_rank_0_is_raised(digits, tmp_path, monkeypatch, part):
    judge = evaluator(tmp_path)
    monkeypatch.setattr(judge, part, lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        judge.evaluate(noise, Images(digits[0][:300]), "cpu", ema=False)


def test_the_configs_compose(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path))
    judge = instantiate(configs.of_choice("metrics", "digits"))
    assert isinstance(judge.extractor, DigitsExtractor)
    assert (judge.num_fake, judge.cache) == (5000, tmp_path / "features")
    assert OmegaConf.load(CONF / "none.yaml") == {}
    config = configs.of_choice("metrics", "inception")
    config.extractor.weights = str(tmp_path / "nothing")
    with pytest.raises(Exception, match="is not a file"):
        instantiate(config)


# Several processes


def _rank(rank, folder, pixels):
    torch.set_num_threads(rank + 1)  # what a trainer leaves behind may differ
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = []
    for num_fake in (250, 60):  # two and a half chunks; one, with nothing for rank 1 to do
        judge = evaluator(folder / "together", num_fake=num_fake)
        scores = judge.evaluate(noise, Images(pixels), "cpu", rank=rank, world_size=2, ema=True)
        found.append({name: score.to_dict() for name, score in scores.items()})
    dist.barrier()  # now both at once, each by itself
    real = Images(pixels)
    alone = evaluator(folder / "race").evaluate(noise, real, "cpu", ema=True)
    found.append({name: score.to_dict() for name, score in alone.items()})
    dist.destroy_process_group()
    torch.save((found, real.looks), folder / f"found{rank}.pt")


def test_two_ranks_score_as_one_to_the_last_bit_and_share_a_cache(digits, tmp_path):
    pixels = digits[0][:330]
    one = [evaluator(tmp_path / "one", num_fake=n).evaluate(noise, Images(pixels), "cpu", ema=True) for n in (250, 60)]
    expected = [{name: score.to_dict() for name, score in scores.items()} for scores in [*one, one[0]]]
    torch.multiprocessing.spawn(_rank, (tmp_path, pixels), nprocs=2)  # a fork has no two threads
    found, looks = zip(*(torch.load(tmp_path / f"found{rank}.pt") for rank in range(2)), strict=True)
    assert list(found) == [expected, expected]
    assert sorted(looks) == [0, 4]  # one extracted the real features, the other waited
    assert len(list((tmp_path / "race" / "features").iterdir())) == 1


# Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the format of the FID Inception's weights, with random ones."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = inception.FeatureExtractorInceptionV3("random", ["2048"])
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    nn.init.uniform_(tensor, 0.8, 1.2)
                for tensor in (module.bias, module.running_mean):
                    nn.init.normal_(tensor, std=0.1)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


def test_inception_gives_torch_fidelitys_features_and_logits(weights):
    images = torch.randint(0, 256, (2, 3, 37, 41), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    ours = InceptionExtractor(str(weights))
    assert torch.equal(state, torch.get_rng_state())
    features, logits = ours.extract(images)
    theirs = inception.FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(weights))
    expected_features, expected_logits = theirs(images)
    assert expected_features.std() > 0.01
    torch.testing.assert_close(features, expected_features, rtol=1e-5, atol=1e-6 * expected_features.max().item())
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-6 * expected_logits.abs().max().item())
    assert (features.shape[1], logits.shape[1]) == (ours.features, ours.classes)
    grey, _ = ours.extract(images[:, :1])
    repeated, _ = ours.extract(images[:, :1].repeat(1, 3, 1, 1))
    torch.testing.assert_close(grey, repeated)


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (400, 301)])
def test_clean_is_pils_bicubic(weights, size):
    pixels = torch.randint(0, 256, (1, 1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor = InceptionExtractor(str(weights), "clean")
    seen = []
    extractor.body = nn.Sequential(Spy(seen), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2048))
    extractor.extract(pixels)
    picture = Image.fromarray(pixels[0, 0].float().numpy()).resize((299, 299), Image.Resampling.BICUBIC)
    expected = (torch.from_numpy(np.asarray(picture).clip(0, 255)) - 128) / 128
    torch.testing.assert_close(seen[0][0, 0], expected, rtol=0, atol=5e-5)  # 0.006 grey levels
    assert torch.equal(seen[0][0, 0], seen[0][0, 2])


class Spy(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        self.seen.append(x.clone())
        return x


def test_other_weights_do_not_make_the_published_score(weights, monkeypatch):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    extractor = InceptionExtractor(str(weights))
    assert (extractor.names("fid"), extractor.weights_hash) == (f"fid_inception_{sha256[:8]}", sha256[:16])
    assert InceptionExtractor(str(weights), "clean").names("fid") == f"fid_inception_{sha256[:8]}_clean"
    monkeypatch.setattr(extractors, "PUBLISHED_SHA256", sha256)
    extractor = InceptionExtractor(str(weights))
    names = [extractor.names(name) for name in ("fid", "kid", "is", "precision")]
    assert names == ["fid", "kid", "is", "precision_inception"]  # precision was published with VGG-16
    assert InceptionExtractor(str(weights), "clean").names("fid") == "fid_clean"


def test_inception_weights_in_torchs_cache_are_found(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / "weights-inception-2015-12-05-6726825d.pth"
    os.link(weights, path)
    assert extractors.find_inception_weights(None) == path


def test_without_weights_and_network_one_line_says_what_to_do(tmp_path, monkeypatch):
    def fail(*_, timeout):
        assert timeout <= 10
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(ConfigError) as caught:
        InceptionExtractor()
    [line] = caught.value.faults
    assert "\n" not in line
    for needed in (inception.URL_INCEPTION_V3, str(tmp_path), "metrics.extractor.weights=PATH", "metrics=none"):
        assert needed in line


def test_a_download_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"half of it"))
    with pytest.raises(ConfigError, match="sha256"):
        InceptionExtractor()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.setattr(extractors, "PUBLISHED_SHA256", hashlib.sha256(b"half of it").hexdigest())
    path = extractors.find_inception_weights(None)
    assert path.read_bytes() == b"half of it"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"no pickle", {"some": torch.zeros(2)}, Images(None)])
def test_a_file_that_is_no_inception(tmp_path, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match="does not hold torch-fidelity's Inception"):
        InceptionExtractor(str(path))


def test_folding_is_exact():
    torch.manual_seed(0)
    block = inception.BasicConv2d(3, 8, kernel_size=3).eval()
    nn.init.uniform_(block.bn.running_var, 0.1, 3)
    nn.init.normal_(block.bn.running_mean)
    net = nn.Sequential(block)
    x = torch.randn(4, 3, 9, 9)
    with torch.no_grad(), warnings.catch_warnings():
        before = net(x)
        fold_batch_norms(net)
        torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-6)
    assert not [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
