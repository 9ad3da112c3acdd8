from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cfexp.data.base import Palette
from cfexp.data.batch import VQABatch
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError
from cfexp.metrics.functional import nearest_color
from cfexp.training.recoloring import Recoloring, TruthMasks
from cfexp.worlds.scenes import SceneParameters

STILL = {"flip": 0.0, "shift": 0.0, "scale": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VQADataModule:
    module = VQADataModule(
        world=SceneParameters(train_scenes=9, val_scenes=2, image_size=32, disagreement=0.0),
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        image_size=32,
        holdout_images=1,
        train_question_types=["what color"],
        group_by_image=True,
        images_per_batch=8,
    )
    module.prepare_data()
    module.setup("fit")
    return module


@pytest.fixture
def batch(data: VQADataModule) -> VQABatch:
    first: VQABatch = next(iter(data.train_dataloader()))
    return first


def test_objects_are_painted_inside_their_masks_and_the_answer_is_read_there(
    data: VQADataModule, batch: VQABatch
) -> None:
    torch.manual_seed(0)
    painted, mask = Recoloring(share=1.0, **STILL)(batch, data)
    assert data.palette is not None
    torch.testing.assert_close(mask, TruthMasks()(batch, data))
    assert (painted.answer != batch.answer).float().mean() > 0.5
    for row in range(len(batch.answer)):
        inside = mask[row] > 0
        of_object = (painted.image[row][:, inside].T + 1) / 2
        assert nearest_color(of_object, data.palette) == data.class_name(int(painted.answer[row]))
    some_object = torch.zeros_like(mask, dtype=torch.bool)
    for image_id in set(batch.image_id.tolist()):  # a picture's objects are painted in all its rows
        rows = batch.image_id == image_id
        some_object[rows] = (mask[rows] > 0).any(0)
        assert (painted.image[rows] == painted.image[rows][:1]).all()
    change = (painted.image - batch.image).abs().amax(1)
    assert change[~some_object].max() < 1e-5
    assert change[some_object].mean() > 0.1


def test_masks_move_as_the_pictures_do(data: VQADataModule, batch: VQABatch) -> None:
    torch.manual_seed(0)
    before = TruthMasks()(batch, data)
    marked = batch._replace(image=before[:, None].repeat(1, 3, 1, 1), image_id=batch.question_id)
    moved, mask = Recoloring(share=0.0)(marked, data)
    assert torch.equal(moved.answer, batch.answer)
    assert (mask - before).abs().mean() > 0.01
    # But where an object that touches the picture's border goes on beyond it.
    assert ((moved.image[:, 0] - mask).abs() > 1e-5).float().mean() < 0.005


def test_the_same_seed_draws_the_same(data: VQADataModule, batch: VQABatch) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(Recoloring()(batch, data)[0])
    assert torch.equal(drawn[0].image, drawn[1].image)
    assert torch.equal(drawn[0].answer, drawn[1].answer)


class _Photographs(VQADataModule):
    """Of which nobody says what is where."""

    palette: Palette | None = None

    def truth_mask(self, question_id: int) -> NDArray[np.bool_] | None:
        return None


def test_what_it_needs_is_said(tmp_path: Path, batch: VQABatch) -> None:
    photographs = _Photographs(root=str(tmp_path))
    with pytest.raises(InputError, match="needs data with a palette"):
        Recoloring()(batch, photographs)
    with pytest.raises(InputError, match="has no truth mask"):
        TruthMasks()(batch, photographs)
    with pytest.raises(InputError, match=r"share must be in 0\.\.1, got 2"):
        Recoloring(share=2)
    with pytest.raises(InputError, match="shift must be at least 0, got -1"):
        Recoloring(shift=-1)
