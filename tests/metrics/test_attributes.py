import numpy as np
import pytest
import torch

from cfexp.metrics.attributes import attributes_changed, correlation_difference


def test_changes_are_counted_attribute_by_attribute() -> None:
    before = torch.tensor([[1.0, -1.0, 2.0, -0.1], [1.0, 1.0, 1.0, 1.0]])
    after = torch.tensor([[-1.0, -2.0, 3.0, 0.1], [1.0, 1.0, 1.0, 1.0]])
    assert attributes_changed(before, after).tolist() == [2, 0]
    assert attributes_changed(before, before).tolist() == [0, 0]
    assert attributes_changed(before, -before).tolist() == [4, 4]
    with pytest.raises(ValueError, match=r"one shape \(B, K\), got \(2, 4\) and \(2, 3\)"):
        attributes_changed(before, after[:, :3])


def test_changes_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 50, 7))
    # As a chain of comparisons, `b > 0 != a > 0` is `b > 0 and 0 != a and a > 0`: both there, not
    # one of them.
    expected = [
        sum((b > 0) != (a > 0) for b, a in zip(*rows, strict=True))
        for rows in zip(before, after, strict=True)
    ]
    chained = [
        sum(b > 0 != a > 0 for b, a in zip(*rows, strict=True))
        for rows in zip(before, after, strict=True)
    ]
    found = attributes_changed(torch.tensor(before), torch.tensor(after)).tolist()
    assert found == expected != chained


def test_correlation_difference_is_numpys() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((200, 5)) < 0.4
    labels[:, 1] |= labels[:, 0]
    before, after = rng.random((2, 80, 5)) < 0.5
    after[:, 3] = before[:, 3]  # never changes
    deltas = after.astype(float) - before
    expected = 0.0
    for column in range(5):
        of_changes = 0.0 if column == 3 else np.corrcoef(deltas[:, 2], deltas[:, column])[0, 1]
        expected += abs(np.corrcoef(labels[:, 2], labels[:, column])[0, 1] - of_changes)
    assert correlation_difference(labels, before, after, 2) == pytest.approx(expected)


def test_labels_give_the_correlations_of_differences_of_pairs() -> None:
    labels = (np.random.default_rng(2).random((40, 3)) < 0.3).astype(float)
    labels[:, 1] = labels[:, 0]
    differences = (labels[:, None] - labels[None]).reshape(-1, 3)
    none = np.zeros((4, 3))
    expected = sum(
        abs(np.corrcoef(differences[:, 0], differences[:, column])[0, 1]) for column in range(3)
    )
    assert correlation_difference(labels, none, none, 0) == pytest.approx(expected)


def test_attributes_that_change_as_they_go_together() -> None:
    labels = np.array([[0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 0]])
    assert correlation_difference(labels, labels, 1 - labels, 0) == pytest.approx(0)
    alone = np.stack([1 - labels[:, 0], labels[:, 1], labels[:, 2]], axis=1)
    assert correlation_difference(labels, labels, alone, 0) == pytest.approx(
        2
    )  # c = 1 and -1 for the other two
    with pytest.raises(ValueError, match=r"attribute must be in 0\.\.2, got 3"):
        correlation_difference(labels, labels, alone, 3)
    with pytest.raises(ValueError, match=r"\(M, K\) and \(N, K\), got \(4, 3\) and \(4, 2\)"):
        correlation_difference(labels, labels[:, :2], alone[:, :2], 0)
