from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from cfexp.benchmarks.data import CASES, Pairs, compare, main
from cfexp.evaluation.run_folder import to_pixels

LOADING = {"batch_size": 4, "num_workers": 0, "seed": 0}
SIZES = {"celeba": (128, 128), "celebamask_hq": (256, 256)}


@pytest.mark.parametrize("name", SIZES)
def test_both_loaders_show_the_same_images(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path, 20, **LOADING)
    ours = torch.cat([batch.image for batch in case.ours(0)])
    plain = case.plain(tmp_path / "plain", 0)
    theirs = torch.cat([images for images, _ in plain])
    assert ours.shape[1:] == theirs.shape[1:] == (3, *SIZES[name])
    # Shuffled, and the incomplete last batch is left out: the images that both showed are the same
    # to the last bit.
    known, shown = ({image.tobytes() for image in to_pixels(images)} for images in (theirs, ours))
    assert len(known & shown) >= len(ours) - 3
    # And ours come with masks.
    assert all(len(batch.label_map.unique()) > 3 for batch in case.ours(0))


def test_the_ratio_is_of_pairs() -> None:
    assert Pairs(1.0, [10.0, 20.0, 40.0], [9.0, 20.0, 44.0]).ratio == 1.0


def test_epochs_alternate_and_are_measured_by_the_given_clock() -> None:
    now, order = 0.0, []

    def loader(name: str, seconds: float) -> Iterator[list[list[int]]]:
        nonlocal now
        order.append(name)
        now += seconds
        yield [[0, 0, 0, 0]]

    class Epochs:
        def __init__(self, name: str, seconds: float) -> None:
            self.made = partial(loader, name, seconds)

        def __iter__(self) -> Iterator[list[list[int]]]:
            return self.made()

    pairs = compare(Epochs("plain", 2), Epochs("ours", 4), 3, lambda: now)
    assert pairs == Pairs(1.0, [2.0] * 3, [1.0] * 3)
    assert order == ["plain", "ours", "plain", "ours", "ours", "plain", "plain", "ours"]
    order.clear()
    short = compare(
        Epochs("plain", 0.5), Epochs("ours", 0.25), 1, lambda: now
    )  # as many as last a second
    assert short == Pairs(16.0, [8.0], [16.0])
    assert order == ["plain", "ours"] + 2 * ["plain"] + 4 * ["ours"]


@pytest.mark.parametrize("arguments", [["--images", "10"], ["--batch", "0"], ["--workers", "-1"]])
def test_a_wrong_command_line_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--images", "40", "--batch", "8", "--repeats", "2"]) in (
        0,
        1,
    )  # how fast it is, is not a test's matter
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:-1]]
    rows = [first for first, *_ in lines if first != "drawing"]  # what the cache lacks
    assert rows == list(CASES)
