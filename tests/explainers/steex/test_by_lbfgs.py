from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cfexp import losses
from cfexp.explainers.base import eight_bit
from cfexp.explainers.classifier import counter_class_of
from cfexp.explainers.steex import by_lbfgs, lbfgs
from cfexp.explainers.steex.objective import Objective, StyleSearch
from cfexp.explainers.steex.search import search_candidates, search_style_codes
from tests.explainers.steex.test_search import linear_world, queries

WEIGHT = 0.05


def search(codes: Tensor, **settings: object) -> StyleSearch:
    decode, decide = linear_world(codes.dtype)
    counter_class = counter_class_of(decide(decode(codes)), head=1)
    given = {"optimizer": "lbfgs", "head": 1, "proximity_weight": WEIGHT, **settings}
    return search_style_codes(decode, decide, codes, counter_class, **given)  # type: ignore[arg-type]


def narrowed(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """The decoder is the same for all; the count says who is asked for."""
    decode, _ = linear_world()

    def of_some(codes: Tensor) -> Tensor:
        assert len(codes) == len(rows)
        return decode(codes)

    return of_some


def total(found: StyleSearch) -> Tensor:
    return found.decision_curve[:, -1] + WEIGHT * found.proximity_curve[:, -1]


def test_it_arrives_where_adam_does_in_fewer_evaluations() -> None:
    adam = search(queries(), optimizer="adam", num_steps=2000, learning_rate=0.02)
    found = search(queries(), num_steps=60)
    assert (total(found) <= 1.01 * total(adam)).all()
    assert (found.evaluations < 30).all()
    decode, decide = linear_world()
    assert torch.equal(found.image, decode(found.style_codes))
    assert torch.equal(found.logits, decide(found.image))


def test_curves_fall_and_stay_where_a_query_is_done() -> None:
    found = search(queries(), num_steps=60)
    curve = found.decision_curve + WEIGHT * found.proximity_curve
    assert curve.shape == (4, 60)
    assert (curve.diff(dim=1) <= 1e-12).all()
    for row, count in enumerate(found.evaluations.tolist()):
        assert (curve[row, count - 1 :] == curve[row, count - 1]).all()
    assert (found.proximity_curve[:, 0] == 0).all()
    assert ((found.flip_step > 0) & (found.flip_step < found.evaluations)).all()


@pytest.mark.parametrize("at_once", [1, 2, 3, 16])
def test_a_query_is_explained_alike_whoever_leaves_or_waits(at_once: int) -> None:
    plain = search(queries(), num_steps=60)
    found = search(queries(), num_steps=60, narrowed=narrowed, at_once=at_once)
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_where_the_margin_is_linear_its_first_steps_arrive() -> None:
    assert (search(queries(), num_steps=60).evaluations <= 4).all()


@pytest.mark.parametrize("budget", [0, 1, 2])
def test_it_takes_no_more_evaluations_than_it_may(budget: int) -> None:
    found = search(queries(), num_steps=budget)
    assert (found.evaluations == budget).all()
    assert found.decision_curve.shape == (4, budget)
    assert torch.equal(found.style_codes, queries()) == (budget < 2)


def test_codes_outside_the_mask_stay_bit_for_bit() -> None:
    mask = torch.tensor([[True, False, False]] * 2 + [[False, False, True]] * 2)
    changed = (search(queries(), region_mask=mask).style_codes != queries()).any(2)
    assert torch.equal(changed, mask)


def test_early_stop_ends_a_query_once_its_decision_has_turned_by_the_margin() -> None:
    stopped = search(queries(), early_stop=True, stop_margin=0.5, proximity_weight=1e-4)
    through = search(queries(), proximity_weight=1e-4)
    assert (stopped.logits[:, 1].abs() >= 0.5).all()
    assert (stopped.evaluations < through.evaluations).all()


def test_where_the_stored_image_is_not_decided_as_asked_it_goes_on_until_it_is() -> None:
    codes = queries()
    decode, base = linear_world()
    counter_class = counter_class_of(base(decode(codes)), head=1)
    toward = (2 * counter_class - 1).double()

    def on_the_grid(images: Tensor) -> Tensor:
        return (
            (images.detach() - eight_bit(images.detach())).abs().amax((1, 2, 3)) < 1e-9
        ).double()

    def decide(images: Tensor) -> Tensor:  # a little less sure of what was stored
        logits = base(images)
        less = on_the_grid(images) * toward
        return torch.stack([logits[:, 0], logits[:, 1] - 1.5 * less], dim=1)

    def stored(found: StyleSearch) -> Tensor:
        return losses.decision_margin(decide(eight_bit(found.image)), counter_class, 1)

    settings = {"head": 1, "proximity_weight": 0.35}
    adam = search_style_codes(decode, decide, codes, counter_class, num_steps=1500, **settings)  # type: ignore[arg-type]
    only_in_float = (losses.decision_margin(adam.logits, counter_class, 1) > 0) & (
        stored(adam) <= 0
    )
    assert only_in_float.any()
    found = search_style_codes(decode, decide, codes, counter_class, optimizer="lbfgs", **settings)  # type: ignore[arg-type]
    assert (stored(found)[only_in_float] > 0).all()


def test_a_decision_of_several_classes_and_further_candidates() -> None:
    decode, _ = linear_world()
    draw = torch.Generator().manual_seed(2)
    weights = torch.randn(12, 5, generator=draw, dtype=torch.float64)

    def decide(images: Tensor) -> Tensor:
        return images.flatten(1) @ weights

    asked = counter_class_of(decide(decode(queries())))
    found = search_candidates(
        *(decode, decide, queries(), asked),
        num_candidates=2,
        seeds=torch.arange(4),
        proximity_weight=WEIGHT,
        optimizer="lbfgs",
        repulsion=0.5,
    )
    for candidate in found:
        assert torch.equal(decide(eight_bit(candidate.image)).argmax(1), asked)
    first, second = ((each.style_codes - queries()).flatten(1) for each in found)
    assert (torch.nn.functional.cosine_similarity(first, second) < 0.9).all()


def test_where_the_decision_does_not_turn_the_query_starts_again_with_adam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lbfgs, "FIRST_MOVE", 1e-9)  # so that a query is settled where it begins
    monkeypatch.setattr(lbfgs, "SHORTEST", 1e-6)
    for given in ({}, {"narrowed": narrowed}):
        found = search(queries(), num_steps=200, learning_rate=0.05, **given)
        again = found.evaluations > 2  # of some the start, once it is stored, is decided as asked
        assert again.any()
        # Adam's steps until it turned, and what it takes to see that nothing moves from there
        assert ((found.flip_step[again] > 1) & (found.flip_step[again] < 100)).all()
        assert (found.evaluations[again] < found.flip_step[again] + 8).all()
        assert found.decision_curve.isfinite().all()


def test_who_ends_without_the_decision_turned_starts_again_by_a_margin_and_then_without_it() -> (
    None
):
    start = queries()
    record = by_lbfgs._Record(start, 10)
    turned, stood = (
        torch.tensor([True, False, False, True]),
        start + torch.arange(4.0)[:, None, None],
    )
    record.codes, record.evaluations = stood.clone(), torch.ones(4, dtype=torch.int64)
    record._parts[2, :, 0] = torch.where(turned, 1.0, -1.0)
    decode, decide = linear_world()
    movable = torch.tensor([True, True, True, True])[:, None, None].expand(-1, 3, 1)
    given = (decode, decide, start, torch.zeros(4, dtype=torch.int64), movable, 1, WEIGHT)
    objective = Objective(*given, losses.decision_loss, (), 1.0, None)
    second, yes = by_lbfgs._SecondStart(objective, start, 2.0), torch.tensor([True] * 4)
    begins, here = second.of(torch.arange(4), yes, yes, record)
    assert torch.equal(begins, ~turned)
    assert torch.equal(here[1:3], start[1:3])
    assert second.asked.tolist() == [0, 2, 2, 0]
    record.codes = start + 1
    record._parts[2, 1, 0] = 0.5  # the margin turned the second
    begins, here = second.of(torch.arange(4), yes, ~yes, record)
    assert begins.tolist() == [False, True, False, False]
    assert torch.equal(here[1], start[1] + 1)
    assert second.asked.tolist() == [0, 0, 2, 0]
    assert not second.of(torch.arange(4), yes, yes, record)[0].any()  # nobody a third time
    second.undo(record)
    assert torch.equal(record.codes[2], stood[2])  # nothing turned it
    assert torch.equal(record.codes[1], start[1] + 1)


@pytest.mark.parametrize("budget", [3, 60, 200])
def test_a_query_that_starts_again_is_within_its_budget_and_waits_for_room(
    monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(lbfgs, "PATIENCE", 2)
    monkeypatch.setattr(lbfgs, "PROGRESS", 1e9)  # so that a query is settled after two steps
    asked_for: list[int] = []

    def counting(rows: Tensor) -> Callable[[Tensor], Tensor]:
        asked_for.append(len(rows))
        return narrowed(rows)

    given = {"num_steps": budget, "proximity_weight": 30.0, "learning_rate": 0.01}
    found = search(queries(), narrowed=counting, at_once=1, **given)
    assert (found.evaluations > 5).any() or budget == 3
    assert (found.evaluations <= budget).all()
    assert set(asked_for) == {1}  # also by Adam no more than may be computed at once
    for ours, theirs in zip(found, search(queries(), **given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_what_has_no_say_in_the_decision_is_left_after_a_first_look() -> None:
    decode, decide = linear_world()
    mask = torch.tensor([True, False, False])
    deaf = queries().clone()
    kept = deaf[:, :1].clone()

    def without(codes: Tensor) -> Tensor:  # the first region's codes are drawn as they were
        return decode(torch.cat([kept, codes[:, 1:]], dim=1))

    counter_class = counter_class_of(decide(decode(deaf)), head=1)
    given = {"head": 1, "proximity_weight": WEIGHT, "region_mask": mask}
    found = search_style_codes(
        without,
        decide,
        deaf,
        counter_class,
        optimizer="lbfgs",
        **given,  # type: ignore[arg-type]
    )
    assert (found.flip_step == -1).all()
    assert (found.evaluations <= by_lbfgs.FIRST_LOOK + 2).all()


def test_a_query_that_nothing_turns_is_told_as_it_stands() -> None:
    decode, base = linear_world()

    def decide(images: Tensor) -> Tensor:  # which nothing brings near the other decision
        return base(images).tanh() / 10 - 3

    codes = queries()
    asked = torch.ones(4, dtype=torch.int64)
    found = search_style_codes(
        *(decode, decide, codes, asked), head=1, optimizer="lbfgs", proximity_weight=WEIGHT
    )
    assert (found.flip_step == -1).all()
    torch.testing.assert_close(found.image, decode(found.style_codes))
    torch.testing.assert_close(found.logits, decide(found.image))
