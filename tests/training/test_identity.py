from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.errors import InputError
from cfexp.models.classifiers import IdentityNetwork, SmallResNet
from cfexp.training.identity import IdentityStage, pairs
from tests.image_parts import EightImages, batch_of, trainer

PERSONS = (70, 12, 12, 70, 31, -1, 12, 31)


class EightFaces(EightImages):
    """The eight images as faces of three persons, and one whom nobody knows: a test of memory."""

    persons = PERSONS

    def records(self, part: Part) -> list[LabelMapRecord]:
        return [
            record._replace(identity=self.persons[k])
            for k, record in enumerate(super().records(part))
        ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightFaces:
    return EightFaces(tmp_path_factory.mktemp("eight"))


def stage(**settings: object) -> IdentityStage:
    torch.manual_seed(0)
    network = IdentityNetwork(SmallResNet(8, widths=(8, 16), grid=2))
    return IdentityStage(network, partial(torch.optim.Adam, lr=1e-2), **settings)  # type: ignore[arg-type]


def scores(module: IdentityStage, data: EightFaces, folder: Path) -> dict[str, float]:
    (found,) = trainer(folder).test(module, datamodule=data, verbose=False)
    return dict(found)


ALL_RIGHT = {
    "test/verification_auc": 100.0,
    "test/same_recognised": 100.0,
    "test/others_refused": 100.0,
}


def test_it_overfits_eight_images(data: EightFaces, tmp_path: Path) -> None:
    module = stage(warmup=0.1, cooldown=0.5)
    assert scores(module, data, tmp_path) != ALL_RIGHT
    trainer(tmp_path, epochs=100).fit(module, datamodule=data)
    assert scores(module, data, tmp_path) == ALL_RIGHT
    assert scores(module, data, tmp_path) == ALL_RIGHT  # nothing is left over


def test_the_loss_is_a_cosine_softmax_with_a_margin_over_who_is_known(
    data: EightFaces, tmp_path: Path
) -> None:
    module, batch = stage(scale=5.0, margin=0.3), batch_of(data)
    trainer(tmp_path, limit_train_batches=0).fit(module, datamodule=data)
    module.trainer = None  # of no use below
    assert module.centres is not None
    assert module.centres.shape == (3, 8)  # of 12, 31 and 70, in this order
    terms = []
    features = module.network(batch.image)
    for feature, person in zip(features, PERSONS, strict=True):
        if person >= 0:
            own = (12, 31, 70).index(person)
            cosines = [torch.dot(feature, centre) / centre.norm() for centre in module.centres]
            cosines[own] = cosines[own] - 0.3
            terms.append(-(5 * torch.stack(cosines)).log_softmax(0)[own])
    torch.testing.assert_close(module.training_step(batch, 0), torch.stack(terms).mean())
    nobody = batch._replace(identity=torch.full_like(batch.identity, -1))
    assert module.training_step(nobody, 0) == 0


def test_the_scores_are_those_of_a_count_by_hand(data: EightFaces, tmp_path: Path) -> None:
    module, batch = stage(threshold=0.2), batch_of(data)
    with torch.no_grad():
        features = module.network.eval()(batch.image)
    same: list[float] = []
    others: list[float] = []
    for one in range(8):
        for other in range(one + 1, 8):
            if PERSONS[one] >= 0 and PERSONS[other] >= 0:
                cosine = float(torch.dot(features[one], features[other]))
                (same if PERSONS[one] == PERSONS[other] else others).append(cosine)
    assert len(same) == 5
    ahead = sum(a > b for a in same for b in others) / (len(same) * len(others))
    expected = {
        "test/verification_auc": 100 * ahead,
        "test/same_recognised": 100 * sum(cosine > 0.2 for cosine in same) / len(same),
        "test/others_refused": 100 * sum(cosine <= 0.2 for cosine in others) / len(others),
    }
    assert scores(module, data, tmp_path) == pytest.approx(expected, rel=1e-4)


def test_pairs_of_identical_faces_are_one_person() -> None:
    features = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    cosine, same = pairs(torch.cat([features, features]), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert len(cosine) == 15
    torch.testing.assert_close(cosine[same], torch.ones(3))
    assert (cosine[~same] < 0.99).all()


def test_an_interrupted_training_goes_on_with_its_centres(data: EightFaces, tmp_path: Path) -> None:
    first, whole, resumed = stage(), stage(), stage()
    options = {"callbacks": [ModelCheckpoint(tmp_path, "last")], "enable_checkpointing": True}
    torch.manual_seed(0)
    trainer(tmp_path, epochs=2, **options).fit(first, datamodule=data)
    torch.manual_seed(0)
    trainer(tmp_path, epochs=4).fit(whole, datamodule=data)
    trainer(tmp_path, epochs=4).fit(
        resumed, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert isinstance(whole.centres, Tensor)
    torch.testing.assert_close(resumed.centres, whole.centres)
    assert not torch.equal(resumed.centres, first.centres)  # type: ignore[arg-type]  # it was fitted, too


def test_faces_of_nobody_are_refused(data: EightFaces, tmp_path: Path) -> None:
    unknown = EightFaces(data.place)
    unknown.persons = (-1,) * 7 + (3,)
    with pytest.raises(InputError, match="the training part names 1 persons"):
        trainer(tmp_path).fit(stage(), datamodule=unknown)
