from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.base import Explainer, Explanation
from cfexp.run.callbacks import ExplanationWriter, ImageGrid, decisions

COUNT, SIDE = 10, 16


class Batch(NamedTuple):
    image: Tensor  # (B, 3, H, W)
    image_id: Tensor  # (B,)
    key: Tensor  # (B,)


class Levels(LightningDataModule):
    """Grey pictures, of level 10 * key; two keys an image."""

    def batches(self) -> DataLoader[Batch]:
        key = torch.arange(COUNT)
        image = (10 * key / 127.5 - 1)[:, None, None, None].expand(-1, 3, SIDE, SIDE)
        rows = [Batch(image[row], key[row] // 2, key[row]) for row in range(COUNT)]
        return DataLoader(rows, batch_size=4)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.batches()

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.batches()

    def describe(self, key: int) -> dict[str, Any]:
        return {"image_id": key // 2, "question": f"Question {key}?", "answers": ["dark"] * 10}

    def class_name(self, index: int) -> str:
        return ("dark", "bright")[index]

    def truth_mask(self, key: int) -> NDArray[np.bool_] | None:
        return None if key == 3 else np.eye(SIDE, dtype=bool)


class Brightener(Explainer):
    """Adds 44.4 levels; the model it explains says bright from level 74.2 on."""

    called = "brightener"

    def __init__(self, fails_at: int | None = None, log: Path | None = None) -> None:
        super().__init__()
        self.fails_at, self.log_folder = fails_at, log

    def explain(self, batch: Batch) -> Explanation:
        if self.fails_at is not None and self.fails_at in batch.key:
            raise RuntimeError("killed")
        if self.log_folder is not None:
            (self.log_folder / f"rank {self.global_rank}").touch()
        counterfactual = batch.image + 44.4 / 127.5
        return Explanation(
            query=batch.image,
            reconstruction=(batch.image - 1 / 127.5).clamp(-1, 1),
            counterfactual=counterfactual,
            query_logits=self.logits(batch.image, batch),
            counterfactual_logits=self.logits(counterfactual, batch),
            counter_class=torch.full_like(batch.key, -1),
            extras={},
        )

    def logits(self, image: Tensor, batch: Batch) -> Tensor:
        level = (image.mean((1, 2, 3)) + 1) * 127.5
        return torch.stack((torch.zeros_like(level), level - 74.2), dim=1)

    def keys(self, batch: Batch) -> Tensor:
        return batch.key

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass


class Album(Logger):
    """A logger that takes images."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[str, Sequence[Any], int | None]] = []

    @property
    def name(self) -> str:
        return "album"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None) -> None:
        self.images.append((key, images, step))


def trainer(path: Path, *callbacks: Any, **settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=path,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, **settings},
    )


def predict(path: Path, explainer: Explainer, **settings: Any) -> RunFolder:
    trainer(path, ExplanationWriter(), **settings).predict(
        explainer, Levels(), return_predictions=False
    )
    return RunFolder(path)


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    """The records, less what no two runs have in common."""
    return [
        {name: value for name, value in known.items() if name != "seconds"}
        for known in run.records()
    ]


def test_what_is_stored_of_each_query(tmp_path: Path) -> None:
    run = predict(tmp_path, Brightener())
    assert (tmp_path / "explanations.parquet").exists()
    records = run.records()
    assert [known["key"] for known in records] == list(range(COUNT))
    # Key 3 goes from 30 to 74.4, which is bright, and on disk 74, which is not.
    levels = {"query": 30, "counterfactual": 74.4, "stored": 74}
    assert 0 < records[3]["seconds"] == records[0]["seconds"] < 5  # of one batch
    assert records[3] == {
        "image_id": 1,
        "question": "Question 3?",
        "answers": ["dark"] * 10,
        "key": 3,
        "counter_class": -1,
        "query_class": 0,
        "counterfactual_class": 1,
        "stored_class": 0,
        **{
            f"{name}_logits": pytest.approx([0, level - 74.2], abs=1e-4)
            for name, level in levels.items()
        },
        **{
            f"{name}_probability": pytest.approx(1 / (1 + np.exp(level - 74.2)), abs=1e-4)
            for name, level in levels.items()
        },
        "pixel_distance": pytest.approx(44 / 255 * (3 * SIDE**2) ** 0.5, rel=1e-4),
        "seconds": records[3]["seconds"],
        "success": True,
        "stored_success": False,
        "answer_before": "dark",
        "answer_after": "dark",
        "has_truth_mask": False,
    }
    assert [known["answer_after"] for known in records] == ["dark"] * 4 + ["bright"] * 6
    assert [known["stored_success"] for known in records] == [False] * 4 + [True] * 4 + [False] * 2
    assert [known["success"] for known in records] == [False] * 3 + [True] * 5 + [False] * 2


def test_the_pictures(tmp_path: Path) -> None:
    run = predict(tmp_path, Brightener())
    keys = list(range(1, COUNT))
    levels = {
        name: ((run.images(name, keys)[:, 0, 3, 4] + 1) * 127.5).round().int().tolist()
        for name in ("query", "reconstruction", "counterfactual")
    }
    assert levels["query"] == [10 * key for key in keys]
    assert levels["reconstruction"] == [10 * key - 1 for key in keys]
    assert levels["counterfactual"] == [10 * key + 44 for key in keys]
    assert torch.equal(run.masks([0, 4])[1, 0], torch.eye(SIDE, dtype=torch.bool))
    assert not (tmp_path / "explanations/truth_mask/3.png").exists()


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        predict(tmp_path, Brightener(fails_at=5))
    run = RunFolder(tmp_path)
    assert run.keys() == {0, 1, 2, 3}
    before = [run.picture("query", key).stat().st_mtime_ns for key in range(4)]
    path = tmp_path / "explanations/records-0.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    predict(tmp_path, Brightener())
    assert run.keys() == set(range(COUNT))
    after = [run.picture("query", key).stat().st_mtime_ns for key in range(4)]
    assert after[:3] == before[:3]
    assert after[3] > before[3]
    assert timeless(run) == timeless(predict(tmp_path / "undisturbed", Brightener()))


# Of a command, test_ddp.py::test_two_processes_explain_what_one_explains has the same, and is fast.
@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    run = predict(tmp_path / "two", Brightener(log=tmp_path), strategy="ddp_spawn", devices=2)
    assert {path.name for path in tmp_path.glob("rank *")} == {"rank 0", "rank 1"}
    assert timeless(run) == timeless(predict(tmp_path / "one", Brightener()))


def explanation(
    query: list[list[float]], float_: list[list[float]], stored: list[list[float]], counter: int
) -> Any:
    count = len(query)
    image = torch.zeros(count, 3, 2, 2)
    return Explanation(
        *(image, image, image),
        torch.tensor(query),
        torch.tensor(float_),
        counter_class=torch.full((count,), counter),
        extras={"stored_logits": torch.tensor(stored), "key": torch.arange(count)},
    )


@pytest.mark.parametrize(
    ("counter", "success", "stored_success"),
    [
        (-1, [False, True, True], [True, False, True]),
        (2, [False, False, True], [False, False, True]),
    ],
)
def test_success(counter: int, success: list[bool], stored_success: list[bool]) -> None:
    a, b, c = [3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]
    found = decisions(explanation([a, a, a], [a, b, c], [b, a, c], counter))
    assert [known["success"] for known in found] == success
    assert [known["stored_success"] for known in found] == stored_success
    assert [known["stored_class"] for known in found] == [1, 0, 2]


def test_of_many_logits_the_highest_are_stored() -> None:
    logits = [[2.0, *(0.1 * place for place in range(16))]]
    [known] = decisions(explanation(logits, [[0.0] * 17], logits, -1))
    assert not [name for name in known if name.endswith("_logits") and "top" not in name]
    assert known["query_top_classes"] == known["stored_top_classes"] == [0, 16, 15, 14, 13]
    assert known["query_top_logits"] == pytest.approx([2, 1.5, 1.4, 1.3, 1.2])
    assert known["query_probability"] == pytest.approx(np.exp(2) / np.exp(logits[0]).sum())
    assert known["counterfactual_probability"] == pytest.approx(1 / 17)


def test_image_grid(tmp_path: Path) -> None:
    album = Album()
    trainer(tmp_path, ImageGrid(num_images=3), logger=album).validate(
        Brightener(), Levels(), verbose=False
    )
    [(key, [grid], step)] = album.images
    assert (key, step) == ("val/counterfactuals", 0)
    stored = Image.open(tmp_path / "grids/epoch_000.png")
    assert stored.tobytes() == grid.tobytes()
    # Keys 0 and 1 are of one image, as are 2 and 3: of the four in the first batch, 0 and 2, and
    # then 1.
    assert [int(level) for level in np.asarray(stored)[80, 80::166, 0]] == [0, 10, 20]


def test_no_grid_in_other_epochs(tmp_path: Path) -> None:
    grid, other = ImageGrid(every_n_epochs=2), trainer(tmp_path, logger=Album())
    other.callbacks.append(grid)  # type: ignore[attr-defined]
    other.fit_loop.epoch_progress.current.completed = 1
    other.validate(Brightener(), Levels(), verbose=False)
    assert not (tmp_path / "grids").exists()
