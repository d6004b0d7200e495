"""The convolution over neighbours: sums over the edges e of a receiver i, with sender j, of

    S_i[(l2, l1, m2, t, m1), c] = sum_e Y_e[l2 m2] R_e[(l2, l1, t), c] h_j[l1 m1, c],    R = x W,

for every pair (l1, l2) and each of its paths t.  On the CPU it is one compiled operator, which makes the radial
weights R for a few receivers at a time and stores nothing per edge and component, in the forward pass nor for its
derivatives.  Elsewhere it is a batched matrix product over neighbour lists padded to the longest one.
"""

from typing import List

import torch
from torch import Tensor

from ..communication import load_operators


def padded_convolution(
    x: Tensor, weight: Tensor, harmonics: Tensor, features: Tensor, sender: Tensor, first: Tensor, paths: List[int]
) -> Tensor:
    """`convolve` in plain torch, over neighbour lists padded to the longest one."""
    n, n_edges, c = first.shape[0] - 1, sender.shape[0], features.shape[2]
    counts = first[1:] - first[:-1]
    width = 1
    if n_edges > 0:
        width = int(counts.max().item())
    edges = torch.arange(n_edges, device=sender.device)
    receiver = torch.repeat_interleave(torch.arange(n, device=sender.device), counts)
    slot = receiver * width + edges - first[receiver]
    table = torch.zeros([n * width], dtype=torch.int64, device=sender.device).index_copy(0, slot, sender)
    radial = torch.matmul(x, weight)
    radial = torch.zeros([n * width, radial.shape[1]], dtype=x.dtype, device=x.device).index_copy(0, slot, radial)
    y = torch.zeros([n * width, harmonics.shape[1]], dtype=x.dtype, device=x.device).index_copy(0, slot, harmonics)
    y = y.reshape(n, width, harmonics.shape[1]).transpose(1, 2)
    sent = features.index_select(0, table)
    l_in, max_ell = int(features.shape[1] ** 0.5 + 0.5) - 1, int(harmonics.shape[1] ** 0.5 + 0.5) - 1
    # split, not slices: the derivative of a split is one concatenation
    weights = radial.split([p * c for p in paths], dim=1)
    by_l1 = sent.split([2 * ell + 1 for ell in range(l_in + 1)], dim=1)
    by_l2 = y.split([2 * ell + 1 for ell in range(max_ell + 1)], dim=1)
    blocks: List[Tensor] = []
    for index, n3 in enumerate(paths):
        l1, l2 = index % (l_in + 1), index // (l_in + 1)
        d1, d2 = 2 * l1 + 1, 2 * l2 + 1
        product = weights[index].reshape(n * width, n3, 1, c) * by_l1[l1].unsqueeze(1)
        summed = torch.bmm(by_l2[l2], product.reshape(n, width, n3 * d1 * c))
        blocks.append(summed.reshape(n, d2 * n3 * d1, c))
    return torch.cat(blocks, dim=1)


load_operators()
if not torch._C._dispatch_has_kernel("fixedpoint::convolve"):
    # nothing is compiled
    _python_library = torch.library.Library("fixedpoint", "FRAGMENT")
    _python_library.define(
        "convolve(Tensor radial, Tensor weight, Tensor harmonics, Tensor features, Tensor sender, Tensor first, "
        "int[] paths) -> Tensor"
    )
    _python_library.impl("convolve", padded_convolution, "CompositeImplicitAutograd")


def convolve(
    x: Tensor, weight: Tensor, harmonics: Tensor, features: Tensor, sender: Tensor, first: Tensor, paths: List[int]
) -> Tensor:
    """S ``(n, rows, C)`` of the equation above, differentiable to any order by its first four arguments.

    ``x`` ``(n_edges, H)``, ``weight`` ``(H, paths · C)``, ``harmonics`` ``(n_edges, (max_ell+1)²)``, ``features``
    ``(n_total, (l_in+1)², C)``; ``sender`` ``(n_edges,)`` and ``first`` ``(n+1,)`` as in `neighbours.Neighbours`;
    ``paths`` the number of paths of each (l1, l2), l2 the outer loop.
    """
    if x.is_cuda:
        return padded_convolution(x, weight, harmonics, features, sender, first, paths)
    return torch.ops.fixedpoint.convolve(x, weight, harmonics, features, sender, first, paths)
