"""Which output of a user's own classifier is which is said, and what labelled images say to it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfexp.run.composing import compose
from cfexp.run.library_config import composing_for_user
from cfexp.run.output_names import better_order, told_of_outputs
from cfexp.run.own_data import fill_in_from_data
from tests.data.own.own_writer import write_own


class Colours(nn.Module):
    """How red and how green an image is, in [0, 1]; or of one output how green."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.alone = alone

    def forward(self, image: Tensor) -> Tensor:
        both = 30 * image.amax((2, 3))
        return both[:, 1:2] - both[:, 0:1] if self.alone else both[:, :2]


def told(root: Path, *more: str, label: str = "state", alone: bool = False) -> list[str]:
    path = root.parent / "model.pt"
    torch.jit.script(Colours(alone)).save(path)  # type: ignore[no-untyped-call]
    given = ["+experiment=own_pgd", "+decision=torchscript", f"decision.path={path}"]
    settings = [f"data.root={root}", f"cache_dir={root.parent}/cache", f"decision.label={label}"]
    with composing_for_user():
        config = compose("explain", [*given, *settings, "decision.value_range=[0,1]", *more])
        fill_in_from_data(config, say=False)
        return told_of_outputs(config)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_own(tmp_path_factory.mktemp("own") / "set", maps=False)
    lines = (root / "labels.csv").read_text().splitlines()
    of_images = [f"{line},{line.split(',')[1] == 'green':d}" for line in lines[1:]]
    (root / "labels.csv").write_text("\n".join([f"{lines[0]},lush", *of_images]) + "\n")
    return root


def test_names_in_the_data_sets_order_of_a_model_of_another_are_told(root: Path) -> None:
    which, warning = told(root)
    assert which == (
        "decision: output 0 is 'green', 1 is 'red' (decision.class_names=[...] says otherwise)"
    )
    assert warning == (
        "warning: of 12 labelled images 0 are decided as labelled, 12 would be by "
        "'decision.class_names=[red,green]': is that the order of the model's outputs?"
    )
    assert len(told(root, "decision.class_names=[red,green]")) == 1


def test_sides_and_names_that_are_none_of_the_labels_are_told(root: Path) -> None:
    assert told(root, alone=True, label="lush") == [
        "decision: the output below 0 is 'not lush', above 0 'lush' "
        "(decision.class_names=[...] says otherwise)"
    ]
    swapped = told(
        root,
        "decision.class_names=[stop,go]",
        "data.classes=[lush,not lush]",
        label="lush",
        alone=True,
    )
    assert swapped[1:] == [
        "note: the decision's classes stop, go are none of the label's: lush, not lush; nothing "
        "can be said of right and wrong decisions"
    ]


def test_free_words_of_a_yes_or_no_are_told_by_the_labels_own_name(root: Path) -> None:
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("lush", "ripe"))
    lines = (root / "labels.csv").read_text().splitlines()
    inverted = [f"{line[:-1]}{1 - int(line[-1])}" for line in lines[1:]]
    (root / "labels.csv").write_text("\n".join([lines[0], *inverted]) + "\n")
    given = "decision.class_names=[stop,go]"
    (_, warning) = told(root, given, label="ripe", alone=True)
    assert "12 would be by 'decision.class_names=[ripe," in warning
    assert len(told(root, "decision.class_names=[ripe,'not ripe']", label="ripe", alone=True)) == 1


def test_an_order_is_better_only_if_clearly() -> None:
    turned = np.roll(np.eye(5, dtype=np.int64) * 4, 1, axis=0)
    order = better_order(turned)
    assert order is not None
    assert turned[order, range(5)].sum() == 20
    assert better_order(np.array([[0, 6], [6, 0]])) == [1, 0]
    assert better_order(np.array([[14, 18], [18, 14]])) is None  # a coin
    assert better_order(np.array([[0, 2], [2, 0]])) is None  # four images
    assert better_order(np.array([[9, 3], [0, 0]])) is None
