import math
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as of_torch

from cfexp.training.tcvae_losses import annealed, kl_divergence, kl_parts, log_importance_weights
from tests.golden_dive import FACES, close, golden

SIZE = 162_770  # CelebA's images to train on


def test_the_published_parts_are_as_published() -> None:
    expected = golden()
    mean, log_variance = FACES.network().encode(FACES.images())
    codes = mean + (log_variance / 2).exp() * expected["noise"]
    weights = log_importance_weights(6, SIZE, published=True)
    close(weights, expected["importance_log_weights"])
    parts = kl_parts(codes, mean, log_variance, SIZE, published=True)
    close(parts.mutual_information, expected["mutual_information"])
    close(parts.total_correlation, expected["total_correlation"])
    close(parts.dimension_wise, expected["dimension_wise_kl"])
    close(kl_divergence(mean, log_variance), expected["kl"])


def test_beta_is_annealed_as_published() -> None:
    found = [annealed(0.001, epoch, 400) for epoch in range(400)]
    close(torch.tensor(found, dtype=torch.float64), golden()["beta_by_epoch"])


def test_one_rise_takes_the_first_half_of_the_training() -> None:
    found = [annealed(2.0, epoch, 4, cycles=1) for epoch in range(4)]
    assert found == pytest.approx([2 * 2e-3, 1, 2, 2])
    assert annealed(2.0, 0, 1) == pytest.approx(4e-3)  # an epoch is a cycle at least


def test_the_kl_is_that_of_normals() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3).double()
    expected = of_torch(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_the_weights_of_a_row_are_those_of_all_images(batch: int) -> None:
    weights = log_importance_weights(batch, 100).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(batch, dtype=torch.float64))
    torch.testing.assert_close(weights.diagonal(), torch.full_like(weights[0], 1 / 100))
    assert ((weights - (101 - batch) / (100 * (batch - 1))).abs() < 1e-12).sum() >= batch


def test_over_all_batches_the_aggregate_is_that_of_all_images() -> None:
    """Of N = 5 images 3 are in a batch: in the mean over all such batches, of an image's own."""
    torch.manual_seed(0)
    density = torch.rand(5, dtype=torch.float64)
    batches = [(0, *others) for others in permutations(range(1, 5), 2)]
    weights = log_importance_weights(3, 5).exp()[0]
    found = torch.stack([weights @ density[list(batch)] for batch in batches]).mean()
    torch.testing.assert_close(found, density.mean())


@pytest.mark.parametrize("published", [False, True])
def test_the_parts_are_by_hand_what_the_weights_say(published: bool) -> None:
    torch.manual_seed(0)
    mean, log_variance, noise = torch.randn(3, 4, 2).double()
    codes = mean + (log_variance / 2).exp() * noise
    weights = log_importance_weights(4, 50, published=published).exp()
    rows: list[list[float]] = [[], [], []]
    for i in range(4):
        q = [
            [_density(codes[i, d], mean[j, d], log_variance[j, d]) for d in (0, 1)]
            for j in range(4)
        ]
        w = [float(each) ** (2 if published else 1) for each in weights[i]]
        joint = sum(w[j] * q[j][0] * q[j][1] for j in range(4))
        single = [sum(float(weights[i, j]) * q[j][d] for j in range(4)) for d in (0, 1)]
        zero = torch.tensor(0.0)
        prior = _density(codes[i, 0], zero, zero) * _density(codes[i, 1], zero, zero)
        rows[0].append(math.log(q[i][0] * q[i][1] / joint))
        rows[1].append(math.log(joint / (single[0] * single[1])))
        rows[2].append(math.log(single[0] * single[1] / prior))
    found = kl_parts(codes, mean, log_variance, 50, published=published)
    assert [float(each) for each in found] == pytest.approx([sum(row) / 4 for row in rows])


def _density(value: Tensor, mean: Tensor, log_variance: Tensor) -> float:
    variance = math.exp(float(log_variance))
    square = float(value - mean) ** 2 / variance
    return math.exp(-square / 2) / math.sqrt(2 * math.pi * variance)


def test_a_batch_of_one_is_refused() -> None:
    one = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="at least 2 images"):
        kl_parts(one, one, one, 10)
    with pytest.raises(ValueError, match="must have one shape"):
        kl_parts(torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(2, 2), 10)
