"""Batch norm over the images of all ranks, on any kind of device."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_experiments.distributed import mean_over_ranks, world_size


class SyncBatchNorm(_BatchNorm):
    """Batch norm with the statistics of all ranks' batches, which are of equal size.

    `torch.nn.SyncBatchNorm` works on GPUs only and cannot be differentiated twice. This layer works on any device, can
    be differentiated twice, and gives the same result as one process with the whole batch. Its state is that of
    `nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # [N, C] or [N, C, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, ...] -> [N, C, ...]."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        mean = mean_over_ranks(wide.mean(axes))
        centred = wide - mean.view(shape)
        variance = mean_over_ranks(centred.square().mean(axes))
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size())
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (n / (n - 1))).to(self.running_var.dtype), share)


class OverAllRanks(LayerSync):
    """Lightning Trainer plugin that replaces every batch norm by `SyncBatchNorm`."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch norms below `model`, keeping their parameters and buffers."""
        for name, child in model.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                setattr(model, name, _synchronised(child))
            else:
                self.apply(child)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: in one process and in evaluation the layer is an ordinary batch norm."""
        return model


def _synchronised(norm: _BatchNorm) -> SyncBatchNorm:
    new = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
    return new
