"""Any network as an extractor: which layer, which weights, what is said where they do not fit."""

import io
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3
from torchvision.models import VGG16_Weights
from torchvision.transforms.functional import normalize

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.metrics import extractors, module_extractors
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.module_extractors import FidelityExtractor, ModuleExtractor, content_hash
from gan_experiments.runs import configs

CONF = Path(__file__).parents[1] / "conf" / "metrics"
PIXELS = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Three tokens of 8 of a grey image [N, 1, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Unflatten(1, (8, 8))
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.encode(x.flatten(1)).flatten(1))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def test_a_layer_of_torchvision(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "weights.pth")
    torch.save({"state_dict": resnet.state_dict()}, tmp_path / "nested.pth")
    config = OmegaConf.load(CONF / "torchvision.yaml").extractor
    config.merge_with({"name": "resnet18", "net": {"_target_": "torchvision.models.resnet18"}, "size": 64})
    hashes = set()
    for file in ("weights.pth", "nested.pth"):
        config.weights = str(tmp_path / file)
        extractor = instantiate(config)
        features, logits = extractor.extract(PIXELS)
        hashes.add(extractor.weights_hash)
    assert hashes == {content_hash(resnet)}
    assert (extractor.features, extractor.classes, extractor.names("fid")) == (512, 1000, "fid_resnet18")
    x = normalize(PIXELS / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(logits, resnet(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, resnet.fc(features), rtol=1e-4, atol=1e-4)
    large, _ = extractor.extract(torch.nn.functional.interpolate(PIXELS, (90, 70)))
    assert large.shape == features.shape


def test_maps_are_averaged_and_of_tokens_the_first_is_taken(resnet):
    extractor = ModuleExtractor(resnet, "maps", layer="layer3", size=64)
    assert extractor.extract(PIXELS[:, :1])[0].shape == (3, 256)
    assert extractor.classes == 0
    tokens = ModuleExtractor(Tokens(), "tokens", layer="encode", classes=True, size=8, mean=[0.0], std=[1.0])
    images = PIXELS[:, :1, :8, :8]
    torch.testing.assert_close(tokens.extract(images)[0], images[:, 0, 0] / 255)
    assert (tokens.features, tokens.classes) == (8, 5)


def test_a_layer_is_read_before_what_follows_works_in_place():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(inplace=True))
    features, _ = ModuleExtractor(net, "net", layer="1", size=8).extract(PIXELS)
    assert (features < 0).any()


def test_other_weights_have_another_hash(resnet):
    assert content_hash(torchvision.models.resnet18()) != content_hash(resnet)
    assert content_hash(resnet) == content_hash(resnet)


def test_what_does_not_fit_is_said_in_one_line(resnet, tmp_path):
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "none.pth").write_text("nothing")
    cases = [
        ({"layer": "avgpol"}, "metrics.extractor.layer=avgpol: net has no such layer, but conv1"),
        ({"weights": "nowhere"}, "metrics.extractor.weights=nowhere is not a file"),
        ({"weights": str(tmp_path / "other.pth")}, "does not hold the state dict of this ResNet"),
        ({"weights": str(tmp_path / "none.pth")}, "does not hold the state dict of this ResNet"),
    ]
    for settings, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            ModuleExtractor(resnet, "net", size=64, **settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"layer: net gives shape \[1, 3, 1, 8, 8\], not \[N, D\]"):
        ModuleExtractor(nn.Unflatten(1, (3, 1)), "net", size=8)
    encoder = ModuleExtractor(resnet, "net", layer="avgpool", size=64)
    with pytest.raises(ConfigError, match="'is' needs a classifier's logits, and net gives none"):
        Evaluator(encoder, ["is"])


class Fidelitys(nn.Module):
    """What torch-fidelity makes: colour uint8 images -> a tuple of features."""

    def __init__(self, name, features_list, feature_extractor_weights_path, verbose):
        super().__init__()
        assert (name, features_list, verbose) == ("vgg16", ["fc2_relu"], False)
        self.register_buffer("weights", torch.load(feature_extractor_weights_path)["weights"])

    def forward(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        return (images.float().mean(dim=(2, 3)) * self.weights,)


def test_an_extractor_of_torch_fidelity(tmp_path, monkeypatch):
    monkeypatch.setattr(module_extractors, "FeatureExtractorVGG16", Fidelitys)
    torch.save({"weights": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "vgg16.pth")
    extractor = FidelityExtractor("vgg16", str(tmp_path / "vgg16.pth"))
    features, logits = extractor.extract(PIXELS[:, :1])
    torch.testing.assert_close(features[:, 2], 3 * features[:, 0])
    assert (extractor.features, logits.shape, extractor.names("precision")) == (3, (3, 0), "precision_vgg16")
    torch.save(Tokens(), tmp_path / "code.pth")
    with pytest.raises(ConfigError, match="needs its weights"):
        FidelityExtractor("vgg16", str(tmp_path / "code.pth"))


class Malice:
    """A pickle that makes a file when it is opened."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vgg16", VGG16_Weights.IMAGENET1K_V1.url.rpartition("/")[2]),
        ("clip-vit-b-32", f"clip-vit-b-32-{feature_extractor_clip.MODEL_METADATA['clip-vit-b-32']['hash']}.pt"),
    ],
)
def test_a_file_in_torchs_cache_runs_nothing(name, file, tmp_path, monkeypatch):
    """Nor does one that is given."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / file
    torch.save(Malice(tmp_path / "marker"), cached)
    for given in (None, str(cached)):
        with pytest.raises(ConfigError, match=rf"metrics\.extractor\.(name={name}|weights=)"):
            FidelityExtractor(name, given)
    assert not (tmp_path / "marker").exists()


def fail(*_, **__):
    raise urllib.error.URLError("no network")


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_without_weights_and_network_one_line_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(feature_extractor_clip, "load_state_dict_from_url", fail)
    monkeypatch.setattr(torch.hub, "load", fail)
    with pytest.raises(ConfigError) as caught:
        FidelityExtractor(OmegaConf.load(CONF / f"{name}.yaml").extractor.name)
    [line] = caught.value.faults
    assert "\n" not in line
    for needed in ("weights", "no network", str(tmp_path)):
        assert needed in line


def test_unknown_names_and_files():
    with pytest.raises(ConfigError, match=r"name=dino: type dinov2-vit-s-14, .*vgg16"):
        FidelityExtractor("dino")
    with pytest.raises(ConfigError, match="weights=nowhere is not a file"):
        FidelityExtractor("vgg16", "nowhere")


def test_the_files_compose():
    for name in ("clip", "dinov2"):
        config = configs.of_choice("metrics", name)
        assert "is" not in config.scores
        assert io.StringIO(OmegaConf.to_yaml(config)).readline().startswith("_target_")


def test_a_package_that_is_missing_is_named():
    with pytest.raises(
        ConfigError, match=r"extractor\.net needs what is not installed: type pip install no_such_package"
    ):
        build.make(
            OmegaConf.create({"_target_": "builtins.dict", "extractor": {"net": {"_target_": "no_such_package.Net"}}})
        )


def test_the_address_of_the_inception_is_torch_fidelitys() -> None:
    assert extractors.URL_INCEPTION_V3 == feature_extractor_inceptionv3.URL_INCEPTION_V3
