"""The Coulomb operator of one structure as a matrix: for exact linear solves of small structures.

As a sum over waves: with P = [cos, -k sin] and M = [-sin, -k cos] over (q, d) of all atoms, ``(K, 4 n)``,

    A_n = P^T diag(w_n) P + M^T diag(w_n) M + own part;

by pairs: the pair tensors, put in their places.
"""

import torch
from torch import Tensor

from .operator import ElectrostaticCache


def dense_operators(cache: ElectrostaticCache, batch: Tensor, n_graphs: int, lo: int, hi: int) -> list[Tensor]:
    """A of every structure in receivers lo … hi-1, ``(n_g, hi-lo, 4, n_g, 4)``: raw field per density.

    With the cache's gradient; no structure may be on a mesh.
    """
    counts = torch.bincount(batch, minlength=n_graphs).tolist()
    by_waves = {w.begin: w for w in cache.waves}
    pair_structure = batch[cache.pair_i]
    matrices = []
    begin = 0
    for g, n in enumerate(counts):
        own = torch.diag_embed(cache.own[begin : begin + n, lo:hi])
        if begin in by_waves:
            w = by_waves[begin]
            cos, sin, kk = w.cos.t(), w.sin.t(), w.k.unsqueeze(1)
            p = torch.cat([cos.unsqueeze(2), -kk * sin.unsqueeze(2)], dim=2).reshape(-1, 4 * n)
            m = torch.cat([-sin.unsqueeze(2), -kk * cos.unsqueeze(2)], dim=2).reshape(-1, 4 * n)
            both = torch.cat([p, m])
            weights = torch.cat([w.filters, w.filters])[:, lo:hi]
            blocks = torch.stack([(both * column.unsqueeze(1)).t() @ both for column in weights.unbind(1)])
            matrix = blocks.reshape(hi - lo, n, 4, n, 4).permute(1, 0, 2, 3, 4)
        else:
            here = torch.nonzero(pair_structure == g).squeeze(1)
            i, j = cache.pair_i[here] - begin, cache.pair_j[here] - begin
            flat = cache.pair_tensors.new_zeros(n * n, hi - lo, 4, 4)
            flat = flat.index_copy(0, i * n + j, cache.pair_tensors[here, lo:hi])
            matrix = flat.reshape(n, n, hi - lo, 4, 4).permute(0, 2, 3, 1, 4)
        eye = torch.eye(n, dtype=own.dtype, device=own.device)
        matrices.append(matrix + torch.einsum("imab,ij->imajb", own, eye))
        begin += n
    return matrices
