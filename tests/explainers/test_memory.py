from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.explainers import memory
from cfexp.explainers.base import Explanation
from cfexp.explainers.memory import check_budget, is_out_of_memory, memory_taken, queries_that_fit
from cfexp.explainers.steex.steex import STEEX
from cfexp.models.classifiers import SmoothClassifier
from tests.image_parts import EightImages, batch_of, tiny_sean

MIB = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def steex(**settings: Any) -> STEEX:
    torch.manual_seed(0)
    model, autoencoder = SmoothClassifier(1, widths=(4, 8)).double(), tiny_sean().double()
    return STEEX(model, autoencoder, num_steps=2, **{"num_candidates": 2, **settings})


def batch(data: EightImages, *rows: int) -> ImageBatch:
    return batch_of(data, *rows, dtype=torch.float64)


def counted(explainer: STEEX, most: int, error: BaseException) -> list[int]:
    """How many queries each call explains; the error where they are more than `most`."""
    sizes: list[int] = []
    explain = explainer.explain

    def limited(batch: ImageBatch) -> Explanation:
        sizes.append(len(batch.key))
        if len(batch.key) > most:
            raise error
        return explain(batch)

    explainer.explain = limited  # type: ignore[method-assign]
    return sizes


def columns(found: Explanation) -> dict[str, Tensor]:
    return {**found._asdict(), **found.extras, "extras": torch.empty(0), "seconds": torch.empty(0)}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. "
            "DefaultCPUAllocator: can't allocate memory: you ..."
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 96 bytes."),
    ],
    ids=lambda error: str(error)[:20],
)
def test_out_of_memory_halves_the_batch_and_changes_no_result(
    data: EightImages, error: Exception
) -> None:
    whole = steex().predict_step(batch(data), 0)
    explainer = steex()
    sizes = counted(explainer, 3, error)
    found = explainer.predict_step(batch(data), 0)
    assert sizes == [8, 4, 2, 2, 2, 2]
    explainer.predict_step(batch(data, 0, 1, 2), 1)
    assert sizes[6:] == [2, 1]  # it is remembered
    assert found.extras["key"].tolist() == list(range(8))
    expected = columns(whole)
    assert columns(found).keys() == expected.keys()
    for name, column in columns(found).items():
        torch.testing.assert_close(column, expected[name], atol=1e-9, rtol=0, msg=name)


def test_what_halving_does_not_mend_is_raised(data: EightImages) -> None:
    for most, error in ((0, MemoryError()), (3, RuntimeError("another matter"))):
        explainer = steex()
        sizes = counted(explainer, most, error)
        with pytest.raises(type(error)):
            explainer.predict_step(batch(data), 0)
        assert sizes == ([8, 4, 2, 1] if most == 0 else [8])


def test_a_budget_of_memory_decides_how_many_queries_are_searched_at_once(
    data: EightImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = steex()
    explainer.predict_step(batch(data), 0)  # the generator is folded
    weights = [*explainer.parameters(), *explainer.buffers()]

    def needed(*rows: int) -> int:
        return memory_taken(
            lambda: explainer.explain_briefly(batch(data, *rows)), weights, torch.device("cpu")
        )

    one, three, eight = needed(0), needed(0, 1, 2), needed(*range(8))
    assert one < three < eight
    each = (eight - one) / 7
    assert three - one == pytest.approx(2 * each, rel=0.2)  # so two tell of all
    budgeted = steex(memory_budget=int(one + 2.5 * each))
    for call in range(2):
        found = budgeted.predict_step(batch(data), call)
        assert (budgeted.at_once, found.extras["key"].tolist()) == (3, list(range(8)))
    assert found.extras["decision_curve"].shape == (8, 2)  # and the search is what it was
    assert "candidates" in found.extras
    monkeypatch.setattr(
        memory, "_free_on_the_machine", lambda: int((2.5 * each + one) / memory.AUTO_SHARE)
    )
    automatic = steex(memory_budget="auto")
    automatic.predict_step(batch(data, 0), 0)  # of a smaller batch, too
    assert automatic.at_once in (3, 4)  # the weights come on top
    with pytest.raises(
        InputError, match=r"^explainer\.memory_budget: a single query takes \d+ MiB$"
    ):
        steex(memory_budget=1000).predict_step(batch(data), 0)


def test_what_autograd_keeps_is_measured() -> None:
    """Of a chain of exponentials autograd keeps each one's result; of sums, nothing."""

    def chain(function: Callable[[Tensor], Tensor]) -> int:
        start = torch.zeros(MIB // 4, requires_grad=True)

        def run() -> None:
            value = start
            for _ in range(10):
                value = function(value)
            value.sum().backward()  # type: ignore[no-untyped-call]  # torch's own

        return memory_taken(run, [start], torch.device("cpu"))

    kept, passed = (
        (chain(each) - MIB) / memory.CPU_FACTOR / MIB
        for each in (torch.exp, lambda value: value + 1)
    )
    assert 10 <= kept <= 14
    assert passed <= 4


def test_two_measurements_tell_how_many_fit() -> None:
    def measure(queries: int) -> int:
        return 100 + 50 * queries

    assert [queries_that_fit(measure, budget) for budget in (150, 199, 200, 1099, 1100)] == [
        1,
        1,
        2,
        19,
        20,
    ]
    with pytest.raises(InputError, match="a single query takes 0 MiB"):
        queries_that_fit(measure, 149)


def test_budgets() -> None:
    amounts: dict[str | int, int] = {
        "8GiB": 8 * 2**30,
        "500MB": 500_000_000,
        "1.5 KiB": 1536,
        "123": 123,
        2048: 2048,
    }
    assert {budget: check_budget(budget) for budget in amounts} == amounts
    assert check_budget(None) is check_budget("auto") is None
    for wrong in ("8 gigs", "0", "-1GiB", "iB", "", "much", True):
        with pytest.raises(
            InputError,
            match=r"^explainer\.memory_budget must be such as 8GiB or 500MB, auto or null",
        ):
            check_budget(wrong)


def test_what_is_free_is_known_here() -> None:
    if not Path("/proc/meminfo").is_file():
        pytest.skip("needs Linux")
    assert 0 < memory._free_on_the_machine() < 2**50


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))
