"""Divergences against SciPy's, and of equal distributions."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

from cfexp.metrics.divergences import binary_jensen_shannon, bounded_kl

BEFORE, AFTER = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) * 4


def test_jensen_shannon_is_scipys_in_bits() -> None:
    found = binary_jensen_shannon(BEFORE, AFTER).numpy()
    for row in range(5):
        for label in range(3):
            yes = [float(torch.sigmoid(each[row, label].double())) for each in (BEFORE, AFTER)]
            distance = jensenshannon(*([1 - each, each] for each in yes), base=2)
            assert found[row, label] == pytest.approx(distance**2, abs=1e-6)


def test_jensen_shannon_of_the_same_is_0_and_of_opposites_1() -> None:
    assert binary_jensen_shannon(BEFORE, BEFORE).abs().max() < 1e-12
    sure = torch.full((1, 1), 80.0)
    assert binary_jensen_shannon(sure, -sure).item() == pytest.approx(1)
    assert torch.equal(binary_jensen_shannon(BEFORE, AFTER), binary_jensen_shannon(AFTER, BEFORE))


def test_bounded_kl_is_scipys() -> None:
    asked = torch.from_numpy(softmax(AFTER.double().numpy(), axis=1))
    found = bounded_kl(asked, BEFORE).numpy()
    kl = entropy(asked.numpy(), softmax(BEFORE.double().numpy(), axis=1), axis=1)
    assert found == pytest.approx(1 - np.exp(-kl))
    assert bounded_kl(BEFORE.softmax(1), BEFORE).max() < 1e-6


def test_of_a_certain_class_it_is_what_lacks_of_its_probability() -> None:
    asked = torch.eye(3)[[0, 1, 2, 0, 1]]
    probability = (BEFORE.double().softmax(1) * asked).sum(1)
    assert bounded_kl(asked, BEFORE).numpy() == pytest.approx((1 - probability).numpy())


def test_what_they_refuse() -> None:
    with pytest.raises(ValueError, match="before and after must have one shape"):
        binary_jensen_shannon(BEFORE, AFTER[:, :2])
    with pytest.raises(ValueError, match="must be finite"):
        binary_jensen_shannon(BEFORE * torch.inf, AFTER)
    with pytest.raises(ValueError, match="asked must be probabilities that sum to 1"):
        bounded_kl(torch.full((5, 3), 0.5), BEFORE)
