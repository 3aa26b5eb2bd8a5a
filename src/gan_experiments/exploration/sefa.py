"""Closed-form factorisation of the style layers: Shen & Zhou 2021, arXiv:2007.06600 (SeFa)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.bounds import Cells, Numbers
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.directions import Directions, write_sheets
from gan_experiments.exploration.latent_space import LatentSpace, numbers
from gan_experiments.layers.equalised import EqualisedLinear

STRENGTHS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)


class SeFa:
    """The `k` directions of w that change the styles of a range the most, and a sheet along each.

    A sheet has `rows` images, and columns for the `strengths`, in standard deviations of a component of w.
    """

    def __init__(
        self,
        k: Cells = 5,
        styles: str | int = "all",
        rows: Cells = 5,
        strengths: Numbers = STRENGTHS,
    ) -> None:
        self.k, self.rows, self.word, self.strengths = k, rows, styles, numbers("what.strengths", strengths)

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return (f"sefa-{self.word}.pt", f"sefa-{self.word}-?.png", f"sefa-{self.word}-??.png")

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write sefa-all.pt, and sefa-all-1.png to sefa-all-<k>.png, the strongest direction first; return 0.

        Raises ConfigError if the generator has no styles, or w fewer than `k` components.
        """
        generator.require_styles("sefa")
        first, after = generator.styles(self.word)
        if self.k > generator.dim:
            raise ConfigError(f"what.k={self.k}: w has {generator.dim} components; type what.k={generator.dim} or less")
        weights = [weight for style, weight in affines(generator) if first <= style < after]
        vectors, shares = sefa(weights, self.k)
        directions = Directions.of(
            generator, vectors, [str(1 + index) for index in range(self.k)], (first, after), along=False
        )
        stem = out / f"sefa-{self.word}"
        directions.write(stem.with_suffix(".pt"))
        print(f"their shares of what changes {len(weights)} layers: {', '.join(f'{share:.1%}' for share in shares)}")
        write_sheets(generator, directions, generator.latents(self.rows), None, self.strengths, stem)
        return 0


def sefa(weights: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Return the first k eigenvectors [k, dim] of AᵀA (eq. 8), and the share [k] of its trace that each has.

    A is the concatenation of the weights [outputs, dim]. The sign of an eigenvector makes the component that is largest
    in magnitude positive.
    """
    A = torch.cat([weight.detach().cpu().double() for weight in weights])
    values, vectors = torch.linalg.eigh(A.T @ A)
    strongest = vectors.flip(1).T[:k]
    signs = strongest.gather(1, strongest.abs().argmax(1, keepdim=True)).sign()
    return strongest * signs, values.flip(0)[:k] / values.sum()


@torch.no_grad()
def affines(generator: LatentSpace) -> list[tuple[int, Tensor]]:
    """Return the index of each style that the synthesis network reads, with the weight [outputs, w_dim] of its layer.

    The layers are those named `affine`. To find which style each reads, every w is filled with its index.
    """
    found: list[tuple[int, Tensor]] = []

    def note(layer: EqualisedLinear, inputs: tuple[Tensor, ...]) -> None:
        found.append((round(inputs[0].mean().item()), layer.weight * layer.scale))

    network = generator.network.synthesis
    layers = [m for name, m in network.named_modules() if name.rpartition(".")[2] == "affine"]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    numbered = torch.arange(generator.form[0]).to(generator.device, generator.dtype)[None, :, None]
    generator.images(numbered.expand(1, *generator.form).contiguous(), generator.labels(1))
    for hook in hooks:
        hook.remove()
    return found
