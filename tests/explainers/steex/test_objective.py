from dataclasses import replace

import pytest
import torch

from cfexp import losses
from cfexp.explainers.classifier import counter_class_of
from cfexp.explainers.steex.objective import Objective
from tests.explainers.steex.test_search import linear_world, queries


@pytest.mark.parametrize("head", [None, 1])
def test_a_margin_changes_what_is_minimised_and_not_the_loss_that_is_told(
    head: int | None,
) -> None:
    decode, decide = linear_world()
    codes = queries()
    logits = decide(decode(codes))
    counter_class = counter_class_of(logits, head)
    movable = torch.ones(*codes.shape[:2], 1, dtype=torch.bool)
    given = (decode, decide, codes, counter_class, movable, head, 0.05)
    plain = Objective(*given, losses.decision_loss, (), 1.0, None)
    value = plain(codes)
    asked = replace(plain, asked_margin=torch.full((4,), 2.0, dtype=codes.dtype))(codes)
    for told in (value.decision, value.asked, asked.decision):
        torch.testing.assert_close(told, losses.decision_loss(logits, counter_class, head))
    assert (asked.asked > value.asked).all()
    assert torch.equal(asked.margin, value.margin)
    # Both losses are softplus of a margin below 0; the slope of the farther one is the steeper.
    farther, nearer = (each.asked_gradient.flatten(1).norm(dim=1) for each in (asked, value))
    assert (farther > nearer).all()
    assert torch.equal(asked.rest_gradient, value.rest_gradient)
