"""The KL divergence of a VAE in three parts, as beta-TCVAE weighs them (Chen et al., NeurIPS 2018,
"Isolating Sources of Disentanglement in Variational Autoencoders").
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cfexp.tensors import check_shapes


class KLParts(NamedTuple):
    """Scalars, in nats; their sum is an estimate of the KL divergence."""

    mutual_information: Tensor  # between an image and its code
    total_correlation: Tensor  # of the code's dimensions
    dimension_wise: Tensor  # KL of each dimension's aggregate from the standard normal, summed


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z | x) || N(0, 1)) of diagonal normals (B, D), summed over D, mean over the batch."""
    check_shapes(mean=(mean, "B D"), log_variance=(log_variance, "B D"))
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def kl_parts(
    codes: Tensor, mean: Tensor, log_variance: Tensor, dataset_size: int, *, published: bool = False
) -> KLParts:
    """The three parts, estimated from a batch by stratified sampling (Chen et al. 2018,
    appendix C).

    codes: (B, D), one of each image's q(z | x), of which mean and log_variance (B, D) are.
    dataset_size: N, of the images to train on.
    published: as DiVE's code has it, which errs twice: see `log_importance_weights`; and the joint
        density of a code is weighed once a dimension, where it should be once.

    Raises ValueError for a batch of one, which says nothing of an aggregate.
    """
    sizes = check_shapes(
        codes=(codes, "B D"), mean=(mean, "B D"), log_variance=(log_variance, "B D")
    )
    if sizes["B"] < 2:
        raise ValueError(f"codes must be of at least 2 images, got {tuple(codes.shape)}")
    # (B, B, D): the density of code i under the q of image j
    density = _log_normal(codes[:, None], mean, log_variance)
    weights = log_importance_weights(sizes["B"], dataset_size, published=published).to(codes)
    own = _log_normal(codes, mean, log_variance).sum(1)
    of_dimension = (density + weights[..., None]).logsumexp(1)
    if published:
        joint = (density + weights[..., None]).sum(2).logsumexp(1)
    else:
        joint = (density.sum(2) + weights).logsumexp(1)
    product = of_dimension.sum(1)
    prior = _log_normal(codes, torch.zeros_like(codes), torch.zeros_like(codes)).sum(1)
    parts = (own - joint, joint - product, product - prior)
    return KLParts(*(part.mean() for part in parts))


def log_importance_weights(batch: int, dataset_size: int, *, published: bool = False) -> Tensor:
    """(B, B) float64: how much image j of a batch counts in the aggregate that code i is seen in.

    Image i itself counts 1 / N; one other, for all the rest of the data, (N - M) / (N M), where M =
    B - 1; and the others 1 / M. A row's weights add up to 1.

    published: a slip puts the first two into whole columns, 0 and 1, whatever i is.
    """
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others, dtype=torch.float64)
    rest = (dataset_size - others) / (dataset_size * others)
    if published:
        weights[:, 0] = 1 / dataset_size
        weights[:, 1] = rest
        weights[others - 1, 0] = rest
    else:
        rows = torch.arange(batch)
        weights[rows, rows] = 1 / dataset_size
        weights[rows, (rows + 1) % batch] = rest
    return weights.log()


def annealed(beta: float, epoch: int, max_epochs: int, cycles: int = 4) -> float:
    """The beta of an epoch, as DiVE's code anneals it: each cycle rises from nothing over its
    first half, and stays.

    Its smallest share of beta is a thousandth of beta.
    """
    cycle = max(max_epochs // cycles, 1)
    return beta * max(1e-3 * beta, min(1.0, (epoch % cycle) / (cycle / 2)))


def _log_normal(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log density of a normal, element by element."""
    squares = (values - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + math.log(2 * math.pi))
