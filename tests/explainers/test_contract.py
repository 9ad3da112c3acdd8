"""What the author of a further explainer is told where it does not keep the contract."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.declaration import Column
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation
from cfexp.explainers.classifier import ClassifierExplainer

B, SIDE = 2, 8


class Bright(nn.Module):
    """Decides by the mean of the image, of any size."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((1, 2, 3))[:, None]


class Turn(ClassifierExplainer):
    """Turns each image over; `more` is what a test has it return otherwise."""

    called = "turn"
    columns = (Column("angle", "in degrees"), Column("moved", "of each", ("R",)))

    def __init__(self, **more: Any) -> None:
        super().__init__(decision_model=Bright())
        self.more = more

    def explain(self, batch: ImageBatch) -> Explanation:
        logits = self.exclusive(self.decide(batch.image))
        asked = torch.ones(len(logits), dtype=torch.int64)
        kept: dict[str, Any] = {"query": batch.image, "reconstruction": batch.image}
        kept |= {"counterfactual": -batch.image, "query_logits": logits}
        kept |= {"counterfactual_logits": -logits, "counter_class": asked, "extras": {}}
        return Explanation(**kept | self.more)


def batch() -> ImageBatch:
    names: dict[str, Any] = dict.fromkeys(ImageBatch._fields)
    image = torch.linspace(-1, 1, B * 3 * SIDE * SIDE).reshape(B, 3, SIDE, SIDE)
    return ImageBatch(**{**names, "image": image, "key": torch.arange(B)})


def test_what_keeps_the_contract_is_let_through() -> None:
    told = {"angle": torch.zeros(B), "moved": torch.zeros(B, 4)}
    found = Turn(extras=told).predict_step(batch(), 0)
    assert found.extras.keys() == {*told, "key", "seconds", "stored_logits"}


HALF = torch.zeros(B, 3, SIDE // 2, SIDE)
WHOLE = torch.zeros(B, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"counterfactual": HALF},
            "query and reconstruction and counterfactual must have one shape (B, 3, H, W), "
            "got (2, 3, 8, 8) and (2, 3, 8, 8) and (2, 3, 4, 8)",
        ),
        (
            {"counterfactual": WHOLE * torch.nan},
            "counterfactual must be finite numbers in -1..1, got nan..nan",
        ),
        (
            {"reconstruction": WHOLE + 255},
            "reconstruction must be finite numbers in -1..1, got 255..255",
        ),
        ({"query_logits": torch.full((B, 2), torch.nan)}, "query_logits must be finite"),
        ({"counter_class": torch.ones(B)}, "counter_class must be a tensor of whole numbers"),
        (
            {"extras": {"steps": torch.ones(B)}},
            "extras has 'steps', which is no declared column (angle, moved): add "
            "Column('steps', MEANING) to its `columns`",
        ),
        ({"extras": {"angle": torch.ones(1)}}, "extras['angle'] must be a tensor of 2 rows"),
        ({"extras": {"angle": 3}}, "extras['angle'] must be a tensor of 2 rows, got int"),
        ({"extras": {"moved": torch.ones(B)}}, "extras['moved'] is declared (B, R), got (2,)"),
        (
            {"extras": {"candidates": torch.zeros(B, 4, 3, SIDE, 1)}},
            "candidates must have shape (2, N, 3, 8, 8), got (2, 4, 3, 8, 1)",
        ),
    ],
)
def test_what_does_not_is_told_in_a_line_that_names_it(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Turn(**more).predict_step(batch(), 0)
    assert str(error.value).startswith(f"Turn.explain: {said}")


def test_fewer_explanations_than_queries() -> None:
    one = dict.fromkeys(("query", "reconstruction", "counterfactual"), WHOLE[:1])
    one |= {name: torch.zeros(1, 2) for name in ("query_logits", "counterfactual_logits")}
    with pytest.raises(InputError, match="2 queries were given, got 1 explanations"):
        Turn(**one, counter_class=torch.ones(1, dtype=torch.int64)).predict_step(batch(), 0)


def test_a_method_without_a_name() -> None:
    class Nameless(Turn):
        called = ""

    with pytest.raises(InputError, match=r"Nameless\.called is empty: expected what people call"):
        _ = Nameless().declaration
