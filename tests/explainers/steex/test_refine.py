from pathlib import Path

import pytest
import torch

from cfexp.errors import InputError
from cfexp.explainers.steex.refine import refine_codes
from tests.explainers.steex.test_search import linear_world, queries
from tests.explainers.steex.test_steex import batch, steex
from tests.image_parts import EightImages


def test_codes_are_fitted_each_by_itself_and_those_without_influence_stay() -> None:
    decode, _ = linear_world()
    codes, wanted = queries(), decode(queries() + 0.1)
    alone = torch.ones(3, 1, dtype=torch.float64)
    alone[2] = 0  # the last region is absent

    def of_present(codes: torch.Tensor) -> torch.Tensor:
        return decode(codes * alone)

    found = refine_codes(of_present, wanted, codes, 30, 0.03)
    before, after = ((of_present(z) - wanted).square().mean((1, 2, 3)) for z in (codes, found))
    assert (after < 0.7 * before).all()
    assert torch.equal(found[:, 2], codes[:, 2])
    one = refine_codes(of_present, wanted[1:2], codes[1:2], 30, 0.03)
    torch.testing.assert_close(one, found[1:2])
    assert torch.equal(refine_codes(of_present, wanted, codes, 0, 0.03), codes)


def test_only_queries_that_are_reconstructed_to_another_decision_are_refined(
    tmp_path: Path,
) -> None:
    queries = batch(EightImages(tmp_path))
    plain = steex(num_steps=0).explain(queries)
    lost = plain.extras["reconstruction_class"] != plain.query_logits.argmax(1)
    assert lost.any()
    assert not lost.all()
    assert "refined" not in plain.extras
    found = steex(num_steps=0, refine_steps=20).explain(queries)
    assert torch.equal(found.extras["refined"], lost)
    torch.testing.assert_close(found.reconstruction[~lost], plain.reconstruction[~lost])
    errors = [
        (each.reconstruction - each.query).square().mean((1, 2, 3)) for each in (plain, found)
    ]
    assert (errors[1] < errors[0])[lost].all()
    assert (found.extras["code_distance"] == 0).all()  # which is of what the search changed


def test_a_number_of_steps_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="refine_steps must be a whole number of at least 0"):
        steex(refine_steps=-1)
