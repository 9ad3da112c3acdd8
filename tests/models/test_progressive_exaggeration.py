import pytest
import torch
from torch import nn

from cfexp.models.batch_norm import SyncBatchNorm, synchronise
from cfexp.models.progressive_exaggeration import (
    BinNorm,
    Discriminator,
    Generator,
    SpectralNorm,
)
from tests.image_parts import values_of


def images(count: int = 4) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(count, 3, 16, 32) * 2 - 1


def test_a_training_keeps_averages_of_what_is_not_generated_itself() -> None:
    generator = Generator((4, 8), 3, momentum=0.5)
    bins = torch.tensor([0, 1, 2, 1])
    before = values_of(generator)
    further = generator(images(), bins, batch_statistics=True)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    first = generator(images(), bins)
    # The same batch by the same statistics, which are kept.
    torch.testing.assert_close(first, further)
    assert any(
        not torch.equal(value, before[name])
        for name, value in generator.state_dict().items()
        if name.endswith("running_mean")
    )


@torch.no_grad()
def test_averages_of_many_batches_explain_as_the_batch_did() -> None:
    generator = Generator((4, 8), 3, momentum=0.2)
    bins = torch.tensor([0, 1, 2, 1])
    for _ in range(60):
        expected = generator(images(), bins)
    torch.testing.assert_close(generator.eval()(images(), bins), expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(
        generator(images(), bins, batch_statistics=True), expected, rtol=0, atol=1e-5
    )


def test_a_bin_has_its_own_scale_and_shift_and_shares_the_statistics() -> None:
    norm = BinNorm(2, 3, momentum=0.1)
    with torch.no_grad():
        norm.scale[1], norm.shift[1] = 2.0, 5.0
    features = torch.randn(6, 2, 4, 4)
    bins = torch.tensor([0, 1, 2, 0, 1, 2])
    expected = nn.functional.batch_norm(features, None, None, training=True, eps=1e-3)
    expected[bins == 1] = 2 * expected[bins == 1] + 5
    torch.testing.assert_close(norm(features, bins, batch_statistics=False), expected)


def test_its_statistics_can_be_those_of_several_processes() -> None:
    generator = Generator((4, 8), 3)
    synchronise(generator)
    assert sum(isinstance(layer, SyncBatchNorm) for layer in generator.modules()) == 6


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
def test_a_weight_has_the_spectral_norm_1_and_evaluation_keeps_its_vector(
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    norm = SpectralNorm(weight).double()
    for _ in range(200):
        norm(weight)
    normed = norm(weight).flatten(1)
    assert float(torch.linalg.matrix_norm(normed, 2)) == pytest.approx(1, rel=1e-6)
    kept = norm.left.clone()
    norm.eval()(weight)
    assert torch.equal(norm.left, kept)


def test_a_score_is_of_one_image_and_its_bin() -> None:
    discriminator = Discriminator((4, 8), 3).eval()
    bins = torch.tensor([0, 1, 2, 1])
    scores = discriminator(images(), bins)
    assert scores.shape == (4,)
    torch.testing.assert_close(discriminator(images()[1:2], bins[1:2]), scores[1:2])
    assert not torch.allclose(discriminator(images(), bins.flip(0)), scores)


def test_sides_are_multiples_of_the_halvings() -> None:
    made = Generator((4, 8, 8), 3).exaggerate(images(), torch.zeros(4, dtype=torch.int64))
    assert made.image.shape == (4, 3, 16, 32)
    assert made.code.shape == (4, 8, 4, 8)
    assert made.image.abs().max() <= 1
