from typing import Any

import pytest
import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.explainers.dive.search import LatentSearch, search_latents, squared_cosines
from cfexp.models.loading.pretrained import freeze
from tests.golden_dive import EXPLAINED, FACES, Patterns, close, golden


class Recorded:
    """The published search on the first two faces, and the codes that it decodes."""

    def __init__(self, **settings: Any) -> None:
        network, classifier, images = freeze(FACES.network()), Patterns(64, 64), FACES.images()[:2]
        mean, _ = network.encode(images)
        decided = classifier(network.decode(mean))[:, EXPLAINED] > 0  # of the reconstruction
        self.images, self.mean = images, mean
        self.decoded: list[Tensor] = []

        def decode(codes: Tensor) -> Tensor:
            self.decoded.append(codes.detach().view(2, 4, 16).clone())
            return network.decode(codes)

        self.found = search_latents(
            decode,
            classifier,
            mean,
            images,
            (~decided).long(),
            0.01 * golden()["initial_noise"],
            head=EXPLAINED,
            as_one_batch=True,
            **settings,
        )


@pytest.mark.parametrize("method", ["", "spectral_"])
def test_the_published_search_is_as_published(method: str) -> None:
    mask = golden()["mask_fisher_spectral"][0].bool() if method else None
    expected = {
        name: golden()[f"{method}search_{name}"]
        for name in ("losses", "codes", "logits", "image", "similarity")
    }
    whole = Recorded(mask=mask, num_steps=10, stop_share=None)
    close(torch.stack(whole.decoded[:10]), expected["codes"])
    found = whole.found
    columns = (
        *(found.total_curve.mean(0), found.decision_curve.mean(0)),
        *(found.reconstruction_curve.sum(0), found.diversity_curve.sum(0)),
        *(found.lasso_curve.sum(0), found.share_curve.mean(0)),
    )
    # The published code mixes float32 targets into the first two values, not into their gradient.
    tolerances = (1e-6, 1e-6, *[1e-10] * 4)
    for column, losses, tolerance in zip(columns, expected["losses"].T, tolerances, strict=True):
        close(column, losses, tolerance)
    if mask is None:
        close(whole.mean[:, None] + found.edits, golden()["search_codes_after"])
    # What is published of the tenth step is of before its update.
    nine = Recorded(mask=mask, num_steps=9, stop_share=None)
    close(nine.found.logits[..., EXPLAINED], expected["logits"])
    close(nine.found.images[:, 0], expected["image"], 1e-7)  # stored as float32
    of_query, of_found = (
        torch.nn.functional.avg_pool2d(each, 8).flatten(1)
        for each in (nine.images.repeat_interleave(4, 0), nine.found.images.flatten(0, 1))
    )
    close(torch.cosine_similarity(of_query, of_found).view(2, 4), expected["similarity"])


def test_the_published_search_stops_as_published() -> None:
    settings = {"learning_rate": 0.1, "lasso_weight": 0.1, "reconstruction_weight": 0.1}
    stopped = Recorded(num_steps=20, **settings)
    steps = int(golden()["stopped_steps"])
    assert stopped.found.evaluations.tolist() == [steps, steps]
    share = stopped.found.share_curve.mean(0)[steps - 1 : steps]
    close(share, golden()["stopped_success_rate"])
    close(stopped.decoded[steps - 1], golden()["stopped_codes"])
    # What suffices is kept: no step follows it.
    close(stopped.mean[:, None] + stopped.found.edits, golden()["stopped_codes"])


WEIGHT = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
CODES = torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)


def decode(codes: Tensor) -> Tensor:
    """Linear: latent d is column d of an image of two rows."""
    return codes[:, None, None].expand(-1, 3, 2, -1)


def decide(images: Tensor) -> Tensor:
    """Logistic in the code."""
    return (images[:, 0, 0] @ WEIGHT)[:, None] - 0.3


def search(**settings: Any) -> LatentSearch:
    plain = {"lasso_weight": 0.0, "diversity_weight": 0.0, "reconstruction_weight": 0.0}
    given: dict[str, Any] = {
        **plain,
        "query_code": CODES,
        "query": decode(CODES),
        "counter_class": torch.tensor([1, 0]),
        "start": torch.zeros(2, 3, 5, dtype=torch.float64),
        **settings,
    }
    return search_latents(decode, decide, **given)


def test_a_step_is_what_the_closed_form_says() -> None:
    """Adam's first step goes one learning rate down the sign of the gradient, of whatever size."""
    found = search(num_steps=1, learning_rate=0.1, stop_share=None)
    downhill = torch.stack([WEIGHT, -WEIGHT]).sign()[:, None].expand(2, 3, 5)
    torch.testing.assert_close(found.edits, 0.1 * downhill, atol=1e-6, rtol=0)
    logits = (CODES[:, None] + found.edits) @ WEIGHT - 0.3
    torch.testing.assert_close(found.logits[..., 0], logits)
    expected = torch.nn.functional.softplus(torch.tensor([-1, 1]) * (CODES @ WEIGHT - 0.3))
    torch.testing.assert_close(found.decision_curve[:, 0], expected)


def test_each_price_holds_back_what_it_is_for() -> None:
    free = search(num_steps=50, learning_rate=0.1, stop_share=None).edits
    start = torch.full((2, 3, 5), 0.05, dtype=torch.float64)
    sparse = search(
        lasso_weight=300.0, start=start, num_steps=200, learning_rate=1e-3, stop_share=None
    )
    assert sparse.edits.abs().max() < 2e-3  # as far as Adam's steps swing around 0
    near = search(reconstruction_weight=100.0, num_steps=50, learning_rate=0.01, stop_share=None)
    assert near.edits.abs().max() < 0.1 < free.abs().amax(2).min()
    torch.manual_seed(0)
    start = 0.01 * torch.randn(2, 3, 5, dtype=torch.float64)
    alike, apart = (
        squared_cosines(
            search(diversity_weight=each, start=start, num_steps=200, stop_share=None).edits
        )
        for each in (0.0, 100.0)
    )
    assert alike.min() > 4 > 0.1 > apart.max()  # of at most 6


def test_the_reconstruction_is_compared_with_the_query_by_channels() -> None:
    query = decode(CODES) + 0.25
    found = search(query=query, num_steps=1)
    torch.testing.assert_close(found.reconstruction_curve[:, 0], torch.tensor([2.25] * 2).double())


def test_masked_latents_stay_as_they_are() -> None:
    mask = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]).bool()
    torch.manual_seed(0)
    start = torch.randn(2, 3, 5, dtype=torch.float64)
    found = search(mask=mask, start=start, lasso_weight=1.0, diversity_weight=1.0)
    assert (found.edits[:, ~mask] == 0).all()
    assert (found.edits[:, mask] != 0).all()
    assert (found.diversity_curve == 0).all()  # as they share no latent
    # The size that the prices are divided by is that of what may move.
    first = found.decision_curve + (found.lasso_curve + found.diversity_curve) / 5
    torch.testing.assert_close(found.total_curve, first)


def test_no_query_depends_on_its_batch() -> None:
    torch.manual_seed(0)
    start = 0.01 * torch.randn(2, 3, 5, dtype=torch.float64)
    settings: dict[str, Any] = {"lasso_weight": 0.1, "diversity_weight": 1.0, "learning_rate": 0.1}
    together = search(start=start, **settings)
    assert together.evaluations[0] != together.evaluations[1]
    for row in ([0], [1], [1, 0]):
        alone = search(
            query_code=CODES[row],
            query=decode(CODES)[row],
            counter_class=torch.tensor([1, 0])[row],
            start=start[row],
            **settings,
        )
        for found, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(found, whole[row])


def test_a_query_stops_where_enough_of_its_explanations_succeed() -> None:
    start = torch.zeros(2, 3, 5, dtype=torch.float64)
    start[0, 0] = WEIGHT  # one of three succeeds from the beginning
    settings: dict[str, Any] = {"start": start, "learning_rate": 0.1, "num_steps": 30}
    soon, late, never, sure = (
        search(**settings, **each)
        for each in (
            *({"stop_share": 0.3}, {"stop_share": 1.0}, {"stop_share": None}),
            {"stop_margin": 2.0},
        )
    )
    assert soon.evaluations[0] == 1
    torch.testing.assert_close(soon.edits[0], start[0])  # no step was taken
    assert soon.evaluations[0] < late.evaluations[0] < sure.evaluations[0] < 30
    assert never.evaluations.tolist() == [30, 30]
    assert (late.logits[..., 0] * torch.tensor([[1], [-1]]) > 0).all()
    assert (sure.logits[..., 0] * torch.tensor([[1], [-1]]) > 2).all()
    assert late.flip_step[0, 0] == 0
    assert late.flip_step[0, 1] == late.flip_step[0, 2] == late.evaluations[0] - 1
    # Of a query that has stopped a curve stays at its last value.
    last = late.evaluations[0] - 1
    assert (late.decision_curve[0, last:] == late.decision_curve[0, last]).all()
    assert (late.share_curve[0, last:] == 1).all()


def test_without_a_step_the_start_is_decoded() -> None:
    found = search(num_steps=0)
    assert torch.equal(found.images, decode(CODES)[:, None].expand(-1, 3, -1, -1, -1))
    assert found.decision_curve.shape == (2, 0)
    assert found.evaluations.tolist() == [0, 0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"counter_class must have shape \(2,\), got \(3,\)"):
        search(counter_class=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"mask must be bool of shape \(3, 5\)"):
        search(mask=torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="each of the 3 explanations move something"):
        search(mask=torch.eye(3, 5).bool() & torch.tensor([[1], [1], [0]]).bool())
