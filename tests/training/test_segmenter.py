import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp import losses
from cfexp.models.segmenter import SmallSegmenter
from cfexp.training.segmenter import SegmenterStage, region_weights
from tests.image_parts import EightImages, batch_of, trainer

SKY = 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def stage(num_regions: int = 4, width: int = 4, **settings: object) -> SegmenterStage:
    torch.manual_seed(0)
    network = SmallSegmenter(num_regions, width=width, dilations=(1, 2))
    return SegmenterStage(network, partial(torch.optim.Adam, lr=1e-2), **settings)  # type: ignore[arg-type]


def scores(module: SegmenterStage, data: EightImages, folder: Path) -> dict[str, float]:
    (found,) = trainer(folder).test(module, datamodule=data, verbose=False)
    return dict(found)


def test_it_overfits_eight_images(data: EightImages, tmp_path: Path) -> None:
    # At half the width no ReLU is left for the post, a 64th of the pixels, in as many steps.
    module = stage(width=16, warmup=0.1, cooldown=0.5)
    trainer(tmp_path, epochs=80).fit(module, datamodule=data)
    found = scores(module, data, tmp_path)
    assert found["test/pixel_accuracy"] >= 99
    assert found["test/mean_iou"] >= 97


class Fixed(nn.Module):
    """Predicts the given label maps of the eight images, one after the other."""

    def __init__(self, label_map: Tensor, num_regions: int) -> None:
        super().__init__()
        self.label_map, self.num_regions, self.seen = label_map, num_regions, 0

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.arange(self.seen, self.seen + len(images)) % len(self.label_map)
        self.seen += len(images)
        return (
            nn.functional.one_hot(self.label_map[rows], self.num_regions)
            .permute(0, 3, 1, 2)
            .float()
        )


@pytest.mark.parametrize("ignored", [None, SKY])
def test_the_scores_are_those_of_a_count_by_hand(
    data: EightImages, tmp_path: Path, ignored: int | None
) -> None:
    truth = batch_of(data).label_map
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(truth.shape, generator=generator) < 0.2
    predicted = torch.where(wrong, torch.randint(0, 4, truth.shape, generator=generator), truth)
    module = stage(6, ignore_region=ignored)  # two regions more than occur
    module.network = Fixed(predicted, 6)
    counted = torch.ones_like(truth, dtype=torch.bool) if ignored is None else truth != ignored
    right = (predicted == truth)[counted].double().mean()
    overlaps = []
    for region in range(4):
        if region != ignored:
            ours, theirs = (predicted == region) & counted, (truth == region) & counted
            overlaps.append((ours & theirs).sum() / (ours | theirs).sum())
    expected = {
        "test/pixel_accuracy": 100 * float(right),
        "test/mean_iou": 100 * float(torch.stack(overlaps).mean()),
        "test/pixel_majority": 100 * float(truth[counted].bincount().max() / counted.sum()),
    }
    assert scores(module, data, tmp_path) == pytest.approx(expected)
    assert scores(module, data, tmp_path) == pytest.approx(expected)  # nothing is left over


def test_identical_layouts_score_100(data: EightImages, tmp_path: Path) -> None:
    module = stage()
    module.network = Fixed(batch_of(data).label_map, 4)
    found = scores(module, data, tmp_path)
    assert (found["test/pixel_accuracy"], found["test/mean_iou"]) == (100, 100)


def test_pixels_of_the_ignored_region_count_for_nothing(data: EightImages) -> None:
    module, batch = stage(ignore_region=SKY), batch_of(data)
    log_probability = copy.deepcopy(module.network)(batch.image).log_softmax(1)
    of_truth = log_probability.gather(1, batch.label_map[:, None])[:, 0]
    torch.testing.assert_close(
        module.training_step(batch, 0), -of_truth[batch.label_map != SKY].mean()
    )


def test_a_batch_without_a_known_pixel_teaches_nothing(data: EightImages) -> None:
    module, batch = stage(ignore_region=SKY), batch_of(data)
    loss = module.training_step(batch._replace(label_map=torch.full_like(batch.label_map, SKY)), 0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss == 0
    assert all(
        each.grad is not None and (each.grad == 0).all() for each in module.network.parameters()
    )


def test_every_pixel_counts_unless_a_region_is_ignored(data: EightImages) -> None:
    module, batch = stage(), batch_of(data)
    log_probability = copy.deepcopy(module.network)(batch.image).log_softmax(1)
    of_truth = log_probability.gather(1, batch.label_map[:, None])[:, 0]
    torch.testing.assert_close(module.training_step(batch, 0), -of_truth.mean())


def test_the_dice_loss_comes_on_top_and_images_are_lit_otherwise(data: EightImages) -> None:
    batch = batch_of(data)
    logits = stage().network(batch.image)
    plain = nn.functional.cross_entropy(logits, batch.label_map)
    both = stage(dice=0.5).training_step(batch, 0)
    torch.testing.assert_close(both, plain + 0.5 * losses.dice(logits, batch.label_map))
    assert stage(tint=0.2).training_step(batch, 0) != plain


def test_a_rare_region_counts_for_more_the_higher_the_power() -> None:
    label_map = torch.zeros(2, 4, 4, dtype=torch.int64)
    label_map[0, 0, :2], label_map[1, 0, 0] = 2, 1  # 2 of 31 pixels, and one that is ignored
    for power, weight in ((0.0, 1.0), (0.5, (31 / 2) ** 0.5), (1.0, 31 / 2)):
        weights = region_weights(label_map, 4, power, ignored=1)[label_map]
        assert weights[0, 0, 0] == pytest.approx(weight)
        assert weights[1, 0, 0] == 0
    assert weights[label_map == 0].sum() == pytest.approx(31, rel=1e-5)
    assert weights[label_map == 2].sum() == pytest.approx(31, rel=1e-5)


def test_what_is_rare_is_balanced_less_and_less(
    data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    powers = []

    def noted(label_map: Tensor, num_regions: int, power: float, ignored: int) -> Tensor:
        powers.append(power)
        return region_weights(label_map, num_regions, power, ignored)

    monkeypatch.setattr("cfexp.training.segmenter.region_weights", noted)
    trainer(tmp_path, epochs=4).fit(stage(balance=0.5), datamodule=data)
    steps = len(powers)
    assert powers == pytest.approx([0.5 * (1 - step / steps) for step in range(steps)])
