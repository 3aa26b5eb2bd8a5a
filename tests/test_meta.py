"""Networks on the meta device: shapes as torch finds them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gan_experiments.assembly.meta import Shapes


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_have_the_shape_that_torch_gives_them(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    choices = itertools.product((1, 3, (2, 5)), (1, 2, (2, 3)), (0, 1, (2, 0)), (1, 2), (1, 2), (7, 12))
    compared = 0
    for kernel, stride, padding, dilation, groups, side in choices:
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if transposed and stride == 2:
            how["output_padding"] = 1
        with torch.device("meta"), Shapes():
            light = kind(4, 6, kernel, **how)
        x = torch.empty(2, 4, side, side + 1)
        try:
            expected = kind(4, 6, kernel, **how)(x).shape
        except RuntimeError:  # the kernel is larger than the image
            with Shapes(), pytest.raises(RuntimeError):
                light(x.to("meta"))
            continue
        with Shapes():
            assert light(x.to("meta")).shape == expected, how
        compared += 1
    assert compared > 150


def test_what_does_not_fit_is_told_by_torch() -> None:
    layer = nn.Conv2d(4, 6, 3, device="meta")
    with Shapes(), pytest.raises(RuntimeError, match="channel"):
        layer(torch.empty(2, 3, 8, 8, device="meta"))
