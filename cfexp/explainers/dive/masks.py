"""Which latents each of DiVE's explanations may move: by what the decision depends on (Rodriguez et
al. 2021, section 3.2).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses
from cfexp.errors import InputError

METHODS = "none", "fisher", "fisher_spectral", "fisher_range", "random"
BY_FISHER = "fisher", "fisher_spectral", "fisher_range"
ROUNDS = 30  # of Yu and Shi's iteration, which ends after a few


def latent_masks(
    method: str,
    copies: int,
    code_dim: int,
    *,
    fisher: Tensor | None = None,
    keep: bool = True,
    seed: int = 0,
) -> Tensor | None:
    """(N, D) bool, which latents explanation j may move; None = all.

    method: how the D latents are parted into N: "fisher", by their place in a sorted diagonal of
        the Fisher information; "fisher_spectral", into clusters of latents that the decision
        depends on together; "random", by chance. "fisher_range" parts nothing: explanation j must
        do without the j latents that the decision depends on most, whatever `keep` says. "none".
    fisher: (D, D), see `fisher_information`.
    keep: explanation j may move its own part alone, as the paper has it; False: all but its part,
        as published for "fisher" (there fisher_chunk), "random" and fisher_spectral_inv.
    seed: of "random".

    Raises InputError for an unknown method, for fewer latents than parts, and for a part that is
    empty.
    """
    if method not in METHODS:
        raise InputError(f"explainer.masks must be {' or '.join(METHODS)}, got {method!r}")
    if method == "none":
        return None
    if copies > code_dim:
        problem = f"there are {code_dim} latents for {copies} explanations"
        raise InputError(f"explainer.masks={method}: {problem}; lower explainer.num_explanations")
    if method == "random":
        order = torch.randperm(code_dim, generator=torch.Generator().manual_seed(seed))
        return _parts(order, copies) == keep
    assert fisher is not None
    if method == "fisher_spectral":
        labels = spectral_partition(fisher, copies)
        parts = F.one_hot(labels, copies).T.bool()
        if not parts.any(1).all():
            problem = "the latents do not fall into so many clusters"
            raise InputError(
                f"explainer.masks={method}: {problem}; lower explainer.num_explanations"
            )
        return parts == keep
    order = fisher.diagonal().argsort(descending=True, stable=True)
    if method == "fisher":
        return _parts(order, copies) == keep
    rank = order.argsort()
    return rank >= torch.arange(copies, device=rank.device)[:, None]


def _parts(order: Tensor, copies: int) -> Tensor:
    """(N, D) bool: the first part of an order (D,) of the latents, the second ... Where N does not
    divide D the first are larger by one.
    """
    parts = torch.zeros(copies, len(order), dtype=torch.bool, device=order.device)
    for row, part in zip(parts, order.tensor_split(copies), strict=True):
        row[part] = True
    return parts


@torch.enable_grad()
def fisher_information(
    decide: Callable[[Tensor], Tensor],
    codes: Tensor,
    head: int | None = None,
    *,
    published: bool = False,
) -> Tensor:
    """The sum over the codes of E_y[grad log p(y | z) grad log p(y | z)^T] (D, D), equation
    8.

    decide: codes (B, D) to the decision model's logits (B, K) on what is decoded from them.
    head: see `losses.decision_loss`.
    published: the gradients of the logits themselves, in which the published code forgets how
        probable y is, so that a decision that is certain counts as much as an open one.
    """
    codes = codes.detach().requires_grad_()
    logits = losses.exclusive_logits(decide(codes), head)
    odds = logits[:, 1:] - logits[:, :1]
    gradients = torch.stack(
        [
            torch.autograd.grad(each.sum(), [codes], retain_graph=number + 1 < odds.shape[1])[0]
            for number, each in enumerate(odds.unbind(1))
        ],
        dim=1,
    )  # (B, K - 1, D)
    if published:
        return torch.einsum("bkd,bke->de", gradients, gradients)
    probability = logits.detach().softmax(1)[:, 1:]
    covariance = probability.diag_embed() - probability[:, :, None] * probability[:, None]
    return torch.einsum("bkd,bkl,ble->de", gradients, covariance, gradients)


def spectral_partition(fisher: Tensor, parts: int, start: int | None = None) -> Tensor:
    """(D,) int64 in 0..N - 1: clusters of latents between which a matrix (D, D) has large entries,
    by normalised cuts (Shi and Malik 2000), discretised as by Yu and Shi 2003.

    The entries are shifted and scaled to [0, 1] first, as published.

    start: the latent whose row the discretisation starts from; None: whichever leads to the best
        normalised cut. The published code takes one by chance.

    Raises InputError for a matrix without entries that differ.
    """
    affinity = fisher - fisher.min()
    if not (largest := affinity.max()) > 0:
        raise InputError("explainer.masks=fisher_spectral: no decision depends on any latent")
    affinity = affinity / largest
    affinity.fill_diagonal_(0)
    degree = affinity.sum(1).clamp(min=1e-12)
    scale = degree.rsqrt()
    laplacian = torch.eye(len(fisher)).to(fisher) - affinity * scale[:, None] * scale
    embedding = torch.linalg.eigh(laplacian).eigenvectors[:, :parts] * scale[:, None]
    embedding = embedding * len(fisher) ** 0.5 / embedding.norm(dim=0)
    embedding = embedding * torch.where(embedding[0] > 0, -1, 1)
    embedding = F.normalize(embedding, dim=1)
    starts = range(len(fisher)) if start is None else [start]
    found = [_discretised(embedding, each) for each in starts]
    return min(found, key=lambda labels: _normalised_cut(affinity, labels, parts))


def _discretised(embedding: Tensor, start: int) -> Tensor:
    """Labels (D,) of rows (D, N) of length 1: the nearest to a rotation of theirs, a local
    optimum.
    """
    columns = [embedding[start]]
    seen = torch.zeros(len(embedding)).to(embedding)
    for _ in range(embedding.shape[1] - 1):
        seen = seen + (embedding @ columns[-1]).abs()
        columns.append(embedding[seen.argmin()])
    rotation, last = torch.stack(columns, dim=1), torch.inf
    labels = (embedding @ rotation).argmax(1)
    for _ in range(ROUNDS):
        labels = (embedding @ rotation).argmax(1)
        one_hot = F.one_hot(labels, embedding.shape[1]).to(embedding)
        left, values, right = torch.linalg.svd(one_hot.T @ embedding)
        cut = float(2 * (len(embedding) - values.sum()))
        if abs(cut - last) < torch.finfo(embedding.dtype).eps:
            break
        rotation, last = right.mT @ left.mT, cut
    return labels


def _normalised_cut(affinity: Tensor, labels: Tensor, parts: int) -> float:
    """What leaves each cluster, as a share of what its latents have in all; infinite where one is
    empty.
    """
    member = F.one_hot(labels, parts).to(affinity)
    if not member.any(0).all():
        return torch.inf
    volume = (affinity.sum(1) @ member).clamp(min=1e-12)
    within = (member.T @ affinity @ member).diagonal()
    return float((1 - within / volume).sum())
