import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.errors import InputError
from cfexp.explainers.dive.masks import fisher_information, latent_masks, spectral_partition
from tests.golden_dive import EXPLAINED, FACES, Patterns, close, golden


def published_fisher(head: int) -> Tensor:
    network, classifier = FACES.network(), Patterns(64, 64)
    mean, _ = network.encode(FACES.images())
    return fisher_information(
        lambda codes: classifier(network.decode(codes)), mean, head, published=True
    )


def as_sets(mask: Tensor) -> set[tuple[bool, ...]]:
    return {tuple(row) for row in mask.bool().tolist()}


def test_the_published_fisher_information_is_as_published() -> None:
    close(published_fisher(EXPLAINED), golden()["fisher"])
    network, classifier = FACES.network(), Patterns(64, 64)
    codes = network.encode(FACES.images())[0].detach().requires_grad_()
    logits = classifier(network.decode(codes))
    gradients = [
        torch.autograd.grad(each.sum(), codes, retain_graph=True)[0] for each in logits.unbind(1)
    ]
    traces = torch.stack([each.square().sum() for each in gradients])
    close(traces, golden()["fisher_trace"])


def test_the_published_masks_are_as_published() -> None:
    fisher = golden()["fisher"]
    clusters = F.one_hot(spectral_partition(fisher, 4, start=3), 4).T.bool()
    assert as_sets(clusters) == as_sets(golden()["mask_fisher_spectral"][0])
    assert as_sets(~clusters) == as_sets(golden()["mask_fisher_spectral_inv"][0])
    chunk = latent_masks("fisher", 4, 16, fisher=fisher, keep=False)
    assert chunk is not None
    assert torch.equal(chunk, golden()["mask_fisher_chunk"][0].bool())
    beyond = latent_masks("fisher_range", 4, 16, fisher=fisher)
    assert beyond is not None
    assert torch.equal(beyond, golden()["mask_fisher_range"][0].bool())
    assert latent_masks("none", 4, 16) is None
    assert golden()["mask_dive"].all()


@pytest.mark.parametrize("method", ["fisher", "fisher_spectral", "random"])
@pytest.mark.parametrize("copies", [1, 3, 4])
def test_each_latent_is_in_one_part(method: str, copies: int) -> None:
    torch.manual_seed(0)
    root = torch.randn(10, 10, dtype=torch.float64)
    parts = latent_masks(method, copies, 10, fisher=root @ root.T)
    assert parts is not None
    assert (parts.sum(0) == 1).all()
    if method != "fisher_spectral":
        assert int(parts.sum(1).max()) - int(parts.sum(1).min()) <= 1
    if copies > 1:
        others = latent_masks(method, copies, 10, fisher=root @ root.T, keep=False)
        assert others is not None
        assert torch.equal(others, ~parts)


def test_the_random_parts_are_those_of_their_seed() -> None:
    one, same, other = (latent_masks("random", 4, 32, seed=seed) for seed in (0, 0, 1))
    assert one is not None
    assert same is not None
    assert other is not None
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_clusters_are_those_of_blocks() -> None:
    """Of a matrix of three blocks, in another order, a block is a cluster."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    block = torch.arange(3).repeat_interleave(4)[order]
    fisher = (block[:, None] == block).double() + 0.01
    labels = spectral_partition(fisher, 3)
    assert all(len(set(labels[block == each].tolist())) == 1 for each in range(3))
    assert set(labels.tolist()) == {0, 1, 2}


def cut(fisher: Tensor, labels: Tensor) -> float:
    affinity = fisher - fisher.min()
    affinity = affinity.clone().fill_diagonal_(0)
    total = 0.0
    for label in set(labels.tolist()):
        inside = labels == label
        total += float(affinity[inside][:, ~inside].sum() / affinity[inside].sum())
    return total


def test_the_best_start_is_taken() -> None:
    fisher = golden()["fisher"]
    best = cut(fisher, spectral_partition(fisher, 4))
    cuts = [cut(fisher, spectral_partition(fisher, 4, start=start)) for start in range(16)]
    assert best == pytest.approx(min(cuts))
    assert max(cuts) > best + 1e-3


@pytest.mark.parametrize("head", [None, 1])
def test_the_information_is_the_expectation_over_the_decisions(head: int | None) -> None:
    """Of linear logits the gradient of log p(y) is known, of K classes and of one binary output."""
    torch.manual_seed(0)
    weight, codes = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for code in codes:
        logits = weight @ code
        rows = weight
        if head is not None:
            logits = torch.stack([torch.zeros(()).double(), logits[head]])
            rows = torch.stack([torch.zeros(4).double(), weight[head]])
        probability = logits.softmax(0)
        for each, row in zip(probability, rows, strict=True):
            gradient = row - probability @ rows
            expected += each * gradient.outer(gradient)
    found = fisher_information(lambda each: each @ weight.T, codes, head)
    torch.testing.assert_close(found, expected)


def test_what_cannot_be_parted_is_refused() -> None:
    with pytest.raises(InputError, match=r"explainer\.masks must be none or fisher"):
        latent_masks("fisher spectral inv", 4, 16)
    with pytest.raises(InputError, match="there are 3 latents for 4 explanations; lower"):
        latent_masks("random", 4, 3)
    with pytest.raises(InputError, match="no decision depends on any latent"):
        latent_masks("fisher_spectral", 2, 3, fisher=torch.zeros(3, 3))
