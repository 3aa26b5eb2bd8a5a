"""The losses of the deep attentional multimodal similarity model (DAMSM): how well captions and images go together.

Xu et al. 2017, AttnGAN, arXiv:1711.10485, section 3.2. Names are those of its equations: e are the codes of words and
ē those of sentences, v are the codes of an image's parts and v̄ that of the whole image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMAS = (5.0, 5.0, 10.0)
"""γ1, γ2 and γ3 of the paper; the authors' code has 4, 5 and 10."""


def attended(e: Tensor, v: Tensor, mask: Tensor, gamma1: float) -> tuple[Tensor, Tensor]:
    """Return what each word attends to: contexts [I, C, D, L], and its weights of the parts [I, C, L, h * w].

    For words e [C, D, L] of C captions, bool `mask` [C, L] where there is one, and parts v [I, D, h, w] of I images.
    """
    v = v.flatten(2)
    s = torch.einsum("cdl,ipd->iclp", e, v.transpose(1, 2))  # eq. 7
    s = s.masked_fill(~mask[None, :, :, None], -torch.inf).softmax(dim=2)  # eq. 8, over the words
    alpha = (gamma1 * s).softmax(dim=3)  # eq. 9, over the parts
    return torch.einsum("iclp,idp->icdl", alpha, v), alpha


def word_scores(e: Tensor, v: Tensor, mask: Tensor, gamma1: float, gamma2: float) -> Tensor:
    """Return R(image, caption) [I, C] of equation 10, for words e [C, D, L] with `mask` and parts v [I, D, h, w].

    It is the logarithm of the sum over the words, of which the paper then takes the root of γ2 and the code does not.
    """
    c, _ = attended(e, v, mask, gamma1)
    similar = F.cosine_similarity(c, e[None], dim=2)  # [I, C, L]
    return (gamma2 * similar).masked_fill(~mask, -torch.inf).logsumexp(dim=2)


def sentence_scores(e: Tensor, v: Tensor) -> Tensor:
    """Return the cosine of each image v̄ [I, D] and each sentence ē [C, D], [I, C] (eq. 13)."""
    return F.normalize(v, dim=1) @ F.normalize(e, dim=1).T


def matching(scores: Tensor, gamma3: float, alike: Tensor | None = None) -> Tensor:
    """Return the loss of scores [N, N] of N images, by rows, and their captions: eq. 11 and 12, in both directions.

    The caption of image i should be found among the N by the image, and the image by it. Pairs that are `alike`, bool
    [N, N], are no wrong ones and are left out; each image and its own caption stay.
    """
    logits = gamma3 * scores
    if alike is not None:
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        logits = logits.masked_fill(alike & ~own, -torch.inf)
    right = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)
