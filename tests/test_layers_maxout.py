import torch

from gan_experiments.layers.maxout import Maxout


def test_each_unit_is_the_greatest_of_its_own_pieces():
    layer = Maxout(2, units=2, pieces=3)
    layer.weight.data = torch.tensor([[1.0, 0], [0, 1], [-1, -1], [2, 0], [0, 2], [0, 0]])
    layer.bias.data = torch.tensor([0.0, 0, 0, 0, 0, -1])
    x = torch.tensor([[3.0, 5], [-1, -2]])
    # pieces of (3, 5): 3, 5, -8 and 6, 10, -1; of (-1, -2): -1, -2, 3 and -2, -4, -1
    assert layer(x).tolist() == [[5, 10], [3, -1]]
    # Pieces a stride apart instead of side by side would give max(3, -8, 10) and max(5, 6, -1).
    assert layer(x[:1]).tolist() != [[10, 6]]


def test_every_piece_has_weights_and_a_bias():
    with torch.device("meta"):
        layer = Maxout(784, 240, 5)
    assert sum(p.numel() for p in layer.parameters()) == 784 * 1200 + 1200
    assert layer(torch.empty(3, 784, device="meta")).shape == (3, 240)


def test_gradients_reach_the_greatest_piece_alone_and_twice():
    torch.manual_seed(0)
    layer = Maxout(3, 2, 4).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    layer(x[:1]).sum().backward()
    assert (layer.weight.grad.abs().sum(1) > 0).view(2, 4).sum(1).tolist() == [1, 1]
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), x)
