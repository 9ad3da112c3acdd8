import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.classifiers import SmoothClassifier
from cfexp.training import classifier
from cfexp.training.classifier import ClassifierStage
from cfexp.training.region_swap import RegionSwap
from tests.image_parts import EightImages, batch_of, trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def stage(num_outputs: int = 2, **settings: object) -> ClassifierStage:
    torch.manual_seed(0)
    network = SmoothClassifier(num_outputs, widths=(8, 16, 16))
    given: dict[str, object] = {"optimizer": partial(torch.optim.Adam, lr=1e-2), **settings}
    return ClassifierStage(network, **given)  # type: ignore[arg-type]


def scores(module: ClassifierStage, data: EightImages, folder: Path) -> dict[str, float]:
    (found,) = trainer(folder).test(module, datamodule=data, verbose=False)
    return dict(found)


def test_it_overfits_eight_images(data: EightImages, tmp_path: Path) -> None:
    module = stage(warmup=0.1, cooldown=0.5)
    trainer(tmp_path, epochs=40).fit(module, datamodule=data)
    found = scores(module, data, tmp_path)
    assert [
        found[f"test/{name}"]
        for name in ("accuracy", "accuracy/go", "accuracy/bright", "balanced/go")
    ] == [100.0] * 4
    module.eval()
    with torch.no_grad():
        logits = module.network(batch_of(data).image)
    known = ~batch_of(data).labels.isnan()
    sure = torch.where(batch_of(data).labels > 0.5, logits, -logits)[known]
    assert (sure > 1).all()


def test_a_head_is_trained_on_the_label_of_its_name(data: EightImages, tmp_path: Path) -> None:
    module = stage(1, heads=["bright"])
    trainer(tmp_path, epochs=40).fit(module, datamodule=data)
    assert scores(module, data, tmp_path)["test/accuracy/bright"] == 100.0


def test_an_unknown_head_is_named(data: EightImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heads: 'forward' is none of the labels go, bright"):
        trainer(tmp_path).fit(stage(1, heads=["forward"]), datamodule=data)


def test_a_network_of_too_many_outputs_is_named(data: EightImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 outputs for 1 labels"):
        trainer(tmp_path).fit(stage(3, heads=["bright"]), datamodule=data)


def test_a_head_without_a_label_to_learn_from_is_named(
    data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = data.dataset("train")
    monkeypatch.setattr(dataset, "labels", dataset.labels * torch.tensor([1, torch.nan]))
    with pytest.raises(
        InputError, match="no image to train on has a known label 'bright'; where are the labels"
    ):
        trainer(tmp_path).fit(stage(), datamodule=data)
    trainer(tmp_path).fit(stage(1, heads=["go"]), datamodule=data)


@pytest.mark.parametrize(("value", "said"), [(0.0, "no"), (1.0, "yes")])
def test_a_label_of_one_value_only_is_no_training(
    value: float, said: str, data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = data.dataset("train")
    labels = dataset.labels.clone()
    labels[:, 1] = torch.where(labels[:, 1].isnan(), labels[:, 1], value)
    monkeypatch.setattr(dataset, "labels", labels)
    remedy = "leave it out of data.attributes, or name the other"
    line = f"label 'bright' is {said} in all 7 images to train on: .*; {remedy}"
    with pytest.raises(InputError, match=line):
        trainer(tmp_path).fit(stage(), datamodule=data)
    trainer(tmp_path).fit(stage(1, heads=["go"]), datamodule=data)


def test_a_test_on_one_value_only_has_no_balanced_accuracy(data: EightImages) -> None:
    scores = classifier.HeadScores()
    scores.update(torch.tensor([1.0, 0, 1]), torch.tensor([1.0, 1, torch.nan]))
    accuracy, majority, balanced = scores.compute().tolist()
    assert (accuracy, majority) == (pytest.approx(2 / 3), 1.0)
    assert balanced != balanced


def test_the_loss_is_the_mean_over_the_labels_that_are_known(data: EightImages) -> None:
    module, batch = stage(), batch_of(data)
    network = copy.deepcopy(module.network)
    go = network(batch.image).sigmoid()
    of_label = torch.where(batch.labels == 1, go, 1 - go)
    terms = [
        of_label[row, column] for row in range(8) for column in range(2) if (row, column) != (5, 1)
    ]
    torch.testing.assert_close(module.training_step(batch, 0), -torch.stack(terms).log().mean())


def test_a_batch_of_which_nothing_is_known_teaches_nothing(data: EightImages) -> None:
    module, batch = stage(), batch_of(data)
    loss = module.training_step(batch._replace(labels=torch.full_like(batch.labels, torch.nan)), 0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss == 0
    assert all(
        each.grad is not None and (each.grad == 0).all() for each in module.network.parameters()
    )


def test_the_accuracy_of_each_head_is_of_the_labels_that_are_known(
    data: EightImages, tmp_path: Path
) -> None:
    module = stage()
    # By hand, and such that no head is right everywhere.
    module.network = Remembered(
        torch.tensor([[1.0, 1], [1, 1], [1, 1], [-1, 1], [1, 1], [-1, 1], [-1, -1], [-1, -1]])
    )
    # go is right of 0, 2, 3, 4, 5, 7; bright of 0, 1, 4, 6, 7 among seven.
    found = scores(module, data, tmp_path)
    # Half of them say go; four of seven are not bright. Right of go: three of four either way; of
    # bright: all three that are, two of the four that are not.
    assert found == pytest.approx(
        {
            "test/accuracy": (100 * 6 / 8 + 100 * 5 / 7) / 2,
            "test/accuracy/go": 100 * 6 / 8,
            "test/accuracy/bright": 100 * 5 / 7,
            "test/majority": (50 + 100 * 4 / 7) / 2,
            "test/majority/go": 50,
            "test/majority/bright": 100 * 4 / 7,
            "test/balanced/go": 75,
            "test/balanced/bright": 100 * (1 + 2 / 4) / 2,
        }
    )
    # Nothing is left over from one pass to the next, nor from test to validation.
    assert scores(module, data, tmp_path) == found
    (validated,) = trainer(tmp_path, limit_val_batches=1).validate(
        module, datamodule=data, verbose=False
    )
    third = 100 * 2 / 3
    accuracies = {
        name: value for name, value in validated.items() if name.startswith("val/accuracy")
    }
    assert accuracies == pytest.approx(
        {"val/accuracy": third, "val/accuracy/go": third, "val/accuracy/bright": third}
    )


class Remembered(nn.Module):
    """Gives the eight images their logits, one after the other."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.seen = logits, 0

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.arange(self.seen, self.seen + len(images)) % len(self.logits)
        self.seen += len(images)
        return self.logits[rows]


class Blackout(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, -1.0)


def test_only_training_images_are_perturbed(data: EightImages, tmp_path: Path) -> None:
    module = stage(perturbation=Blackout())
    seen: list[Tensor] = []
    module.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    trainer(tmp_path).fit(module, datamodule=data)
    assert all((images == -1).all() for images in seen)
    seen.clear()
    scores(module, data, tmp_path)
    assert torch.equal(torch.cat(seen), batch_of(data).image)


def test_what_is_frozen_is_not_trained(data: EightImages, tmp_path: Path) -> None:
    module = stage()
    frozen = module.network.get_submodule("blocks.0.0").requires_grad_(False)
    before, free = frozen.weight.clone(), module.network.get_submodule("head.0").weight.clone()  # type: ignore[operator]
    trainer(tmp_path).fit(module, datamodule=data)
    assert torch.equal(frozen.weight, before)  # type: ignore[arg-type]
    assert not torch.equal(module.network.get_submodule("head.0").weight, free)  # type: ignore[arg-type]


def test_mixup_mixes_labels_as_it_mixes_images(data: EightImages) -> None:
    """The network is shown the mixtures, and what it should say of them is mixed alike."""
    module, batch = stage(mixup=1.0), batch_of(data)
    seen: list[Tensor] = []
    # A network that says what it sees: the logit of the mean of the first pixel of each image.
    batch = batch._replace(
        image=batch.labels[:, :1, None, None].nan_to_num().expand(-1, 3, 4, 4).clone()
    )
    batch = batch._replace(labels=batch.labels[:, :1].nan_to_num())
    module.network = nn.Sequential(Reader(seen))
    torch.manual_seed(0)
    loss = module.training_step(batch, 0)
    mixed = seen[0]
    assert ((mixed > 0.01) & (mixed < 0.99)).any()  # of images with other labels
    entropy = -(torch.xlogy(mixed, mixed) + torch.xlogy(1 - mixed, 1 - mixed))
    torch.testing.assert_close(
        loss, entropy.mean()
    )  # what the network says is what it is asked for


def test_only_the_regions_that_are_named_are_tinted_and_only_in_training(
    data: EightImages, tmp_path: Path
) -> None:
    module, batch = stage(recolored=["sky", "road"], dimmed=0.0), batch_of(data)
    seen: list[Tensor] = []
    module.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    trainer(tmp_path, epochs=4).fit(module, datamodule=data)
    changed = {"sky": 0, "road": 0}
    for image in torch.cat(seen):
        same = (image == batch.image).all(1)  # (8, H, W), with each of the originals
        # The box is never tinted: it tells which image this is.
        (row,) = [row for row in range(8) if same[row][batch.label_map[row] == 2].all()]
        assert same[row][batch.label_map[row] == 3].all()
        for region, name in enumerate(changed):
            changed[name] += not same[row][batch.label_map[row] == region].all()
    assert all(0 < times < len(torch.cat(seen)) for times in changed.values())
    seen.clear()
    scores(module, data, tmp_path)
    assert torch.equal(torch.cat(seen), batch.image)


def test_jitter_moves_what_is_trained_on_with_its_regions_and_nothing_else(
    data: EightImages,
) -> None:
    module, batch, seen = stage(jitter=0.2), batch_of(data), list[Tensor]()
    module.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    module.training_step(batch, 0)
    assert not torch.equal(seen[0], batch.image)
    with torch.no_grad():
        module.score(batch)
    assert torch.equal(seen[1], batch.image)


def test_a_centred_head_says_yes_as_often_as_its_labels_do(
    data: EightImages, tmp_path: Path
) -> None:
    logits, nan = torch.tensor([[1.0], [2.0], [3.0], [4.0], [9.0]]), float("nan")
    labels = torch.tensor([[0.0], [0.0], [0.0], [1.0], [nan]])
    assert ((logits - classifier.threshold(logits, labels)) > 0).sum() == 2  # 4, and the unknown 9
    assert classifier.threshold(logits, torch.full_like(labels, nan)) == 0
    with pytest.raises(InputError, match="SmoothClassifier has none"):
        stage(centred=True)
    torch.manual_seed(0)
    network = Shiftable()
    module = ClassifierStage(network, partial(torch.optim.SGD, lr=0.0), centred=True)
    trainer(tmp_path).fit(module, datamodule=data)
    said, labels = network(batch_of(data).image) > 0, batch_of(data).labels
    assert said[:, 0].sum() == (labels[:, 0] > 0.5).sum() == 4


class Shiftable(nn.Module):
    """Two logits of an image's mean colour, one far too high and one far too low."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.shift(torch.tensor([9.0, -9.0]))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.mean((2, 3)))
        return logits

    def shift(self, by: Tensor) -> None:
        with torch.no_grad():
            self.linear.bias.add_(by)


def test_the_other_regions_are_dimmed_each_as_a_whole_and_a_yes_fades_with_them(
    data: EightImages, tmp_path: Path
) -> None:
    module, batch = stage(recolored=["sky", "road"], faded=["box"]), batch_of(data)
    trainer(tmp_path).fit(module, datamodule=data)
    shares = []
    for _ in range(8):
        image, recolored, left = module._recolor(batch)
        assert torch.equal(recolored[:, 0], batch.label_map < 2)
        for row in range(8):
            box = batch.label_map[row] == 2
            before, after = batch.image[row][:, box] + 1, image[row][:, box] + 1
            share = float(after.sum() / before.sum())
            torch.testing.assert_close(after, share * before)
            assert float(left[row]) == pytest.approx(1 - classifier.FADES * (1 - share), abs=1e-5)
            shares.append(share)
    dimmed = [share for share in shares if share < 1 - 1e-5]
    assert all(classifier.LEAST_LIGHT <= share <= 1 + 1e-5 for share in shares)
    assert 0.25 < len(dimmed) / len(shares) < 0.75
    assert min(dimmed) < 0.4


@pytest.mark.parametrize(("recolored", "faded"), [(["tree"], []), (["sky"], ["tree"])])
def test_an_unknown_region_to_change_is_named(
    recolored: list[str], faded: list[str], data: EightImages, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match="recolored, faded: 'tree' is none of the regions sky, road, box, post"
    ):
        trainer(tmp_path).fit(stage(recolored=recolored, faded=faded), datamodule=data)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_an_adversary_moves_the_pixels_of_these_regions_and_no_others(
    mixup: float, data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "RECOLORED_SHARE", 0.0)  # no tint
    module, shown = stage(recolored=["sky"], recolored_adversary=0.1, mixup=mixup), []
    against = classifier._against

    def spied(loss: Callable[[Tensor], Tensor], image: Tensor, reach: Tensor) -> Tensor:
        moved = against(loss, image, reach)
        difference = (moved - image).abs()
        assert (difference <= reach + 1e-6).all()
        with torch.no_grad():
            # A batch has eight images of which some are moved far enough to tell.
            shown.append((reach, loss(moved) - loss(image)))
        return moved

    monkeypatch.setattr(classifier, "_against", spied)
    trainer(tmp_path, epochs=20).fit(module, datamodule=data)
    strengths = [float(reach.max()) for reach, _ in shown]
    assert strengths == sorted(strengths)
    assert 0 < strengths[0] < strengths[-1] == pytest.approx(0.1)
    sky = float((batch_of(data).label_map == 0).float().mean())
    shares = torch.tensor([float((reach > 0).float().mean()) for reach, _ in shown])
    assert (
        (shares <= sky + 0.1).all()
        if mixup
        else torch.allclose(shares.mean(), torch.tensor(sky), atol=0.05)
    )
    harder = torch.stack([more for _, more in shown])
    assert (harder > 0).float().mean() > 0.8


def test_an_adversary_of_the_whole_image_needs_no_regions(
    data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, reaches = stage(adversary=0.02), list[Tensor]()
    against = classifier._against

    def spied(loss: Callable[[Tensor], Tensor], image: Tensor, reach: Tensor) -> Tensor:
        reaches.append(reach)
        return against(loss, image, reach)

    monkeypatch.setattr(classifier, "_against", spied)
    trainer(tmp_path, epochs=20).fit(module, datamodule=data)
    assert all(float(reach.min()) == float(reach.max()) for reach in reaches)
    assert float(reaches[-1].max()) == pytest.approx(0.02)


def test_regions_are_swapped_in_training_but_not_of_what_an_adversary_moves(
    data: EightImages, tmp_path: Path
) -> None:
    class Adversary:
        def count(self, batch: ImageBatch) -> int:
            return 2

        def __call__(self, loss: object, batch: ImageBatch, *rest: object) -> Tensor:
            return batch.image[:2]

        def state(self) -> dict[str, object]:
            return {}

    seen: list[Tensor] = []
    module = stage(region_swap=RegionSwap(["sky", "road"], share=1.0), region_adversary=Adversary())
    module.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    trainer(tmp_path, epochs=1).fit(module, datamodule=data)
    (shown,) = (images for images in seen if len(images) == 10)
    batch = batch_of(data)
    known = {image.numpy().tobytes() for image in batch.image}
    assert [image.numpy().tobytes() in known for image in shown] == [False] * 8 + [True] * 2


class Reader(nn.Module):
    """Logits of the first pixel's value, as a probability."""

    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image[:, :1, 0, 0])
        return torch.logit(image[:, :1, 0, 0], eps=1e-6)
