from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder, to_pixels
from cfexp.explainers.base import Explainer, Explanation
from cfexp.explainers.steex.steex import STEEX
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.sean.sean import SEAN
from cfexp.run.callbacks import ExplanationWriter
from tests.image_parts import EightImages, batch_of, tiny_sean, trainer, unchanged, values_of

STEPS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def autoencoder() -> SEAN:
    """Untrained, and such that codes and noise count for a lot."""
    torch.manual_seed(0)
    network = tiny_sean().double()
    for name, parameter in network.named_parameters():
        if "parametrizations" in name:
            continue  # of spectral norm 1 already
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1.0 if "noise" in name else 10.0
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64) / fan_in**0.5
    return network


class Brightness(nn.Module):
    """Two heads: is the image red, is it light?"""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * torch.stack([images[:, 0].mean((1, 2)), images.mean((1, 2, 3))], dim=1)


class Light(Brightness):
    """The second head alone."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, 1:]


def steex(**settings: Any) -> STEEX:
    given = {
        "decision_model": Light(),
        "autoencoder": autoencoder(),
        "class_names": ["stop", "go"],
        **settings,
    }
    return STEEX(**{"num_steps": STEPS, "learning_rate": 0.1, **given})


def batch(data: EightImages, *rows: int) -> ImageBatch:
    return batch_of(data, *rows, dtype=torch.float64)


def test_the_contract(data: EightImages) -> None:
    explainer, queries = steex(), batch(data)
    found = explainer.explain(queries)
    assert found.query is queries.image
    for image in (found.reconstruction, found.counterfactual):
        assert image.shape == (8, 3, 16, 32)
        assert image.abs().max() <= 1
    for logits, image in (
        (found.query_logits, found.query),
        (found.counterfactual_logits, found.counterfactual),
    ):
        # Two classes that exclude each other, of one binary head.
        assert torch.equal(logits[:, 0], torch.zeros(8))
        torch.testing.assert_close(logits[:, 1], explainer.decision_model(image)[:, 0])
        torch.testing.assert_close(logits, explainer.logits(image, queries))
    assert torch.equal(found.counter_class, 1 - found.query_logits.argmax(1))
    shapes = {name: tuple(value.shape) for name, value in found.extras.items()}
    one_each = ("reconstruction_class", "code_distance", "flip_step", "evaluations")
    curves = {"decision_curve": (8, STEPS), "proximity_curve": (8, STEPS)}
    per_region = {"label_map": (8, 16, 32), "region_change": (8, 4)}
    codes = dict.fromkeys(("query_codes", "style_codes"), (8, 4, 8))
    assert shapes == {**dict.fromkeys(one_each, (8,)), **per_region, **codes, **curves}
    change = found.extras["style_codes"] - found.extras["query_codes"]
    torch.testing.assert_close(change.norm(dim=2), found.extras["region_change"])
    assert (found.extras["decision_curve"][:, -1] < found.extras["decision_curve"][:, 0]).all()
    torch.testing.assert_close(
        found.extras["region_change"].norm(dim=1), found.extras["code_distance"]
    )
    assert not any(value.requires_grad for value in (*found[:6], *found.extras.values()))
    assert torch.equal(explainer.keys(queries), torch.arange(8))
    assert [explainer.class_name(index) for index in (0, 1)] == ["stop", "go"]
    assert steex(class_names=None).class_name(1) == "1"


def test_the_reconstruction_is_the_autoencoders_own_with_the_querys_noise(
    data: EightImages,
) -> None:
    network, queries = autoencoder().eval(), batch(data)
    for noise, seeds in ((True, list(range(8))), (False, None)):
        found = steex(noise=noise, num_steps=0).explain(queries)
        with torch.no_grad():
            expected = network(queries.image, queries.label_map, seeds)
        torch.testing.assert_close(found.reconstruction, expected, atol=1e-9, rtol=0)
        # No step was taken: what is there is the floor.
        torch.testing.assert_close(found.counterfactual, found.reconstruction, atol=1e-12, rtol=0)
        assert (found.extras["code_distance"] == 0).all()


def test_a_query_is_explained_alike_alone_and_in_any_batch(data: EightImages) -> None:
    explainer = steex()
    together = explainer.explain(batch(data))
    for rows in ((5,), (6, 2, 5)):
        few = explainer.explain(batch(data, *rows))
        for column, whole in zip(_tensors(few), _tensors(together), strict=True):
            torch.testing.assert_close(column, whole[list(rows)], atol=1e-9, rtol=0)


def _tensors(found: Explanation) -> list[Tensor]:
    return [*found[:6], *(found.extras[name] for name in sorted(found.extras))]


def test_the_networks_stay_as_they_were(data: EightImages) -> None:
    model, network = SmoothClassifier(1, widths=(4, 8)).double(), autoencoder()
    model.train()
    before = [values_of(each) for each in (model, network)]
    explainer = steex(decision_model=model, autoencoder=network)
    explainer.explain(batch(data))
    assert unchanged(model, before[0])
    assert unchanged(network, before[1])
    assert not any(each.training for each in (*model.modules(), *network.modules()))


@pytest.mark.parametrize("regions", [["box"], ["road", "post"]])
def test_only_the_codes_of_targeted_regions_change(
    data: EightImages, tmp_path: Path, regions: list[str]
) -> None:
    (*_, found) = predict(steex(regions=regions).float(), data, tmp_path)
    for name, change in zip(data.region_names, found.extras["region_change"].T, strict=True):
        if name not in regions:
            assert (change == 0).all(), name
        elif name != "post":  # which images 6 and 7 of the last batch have, and have not
            assert (change > 0).all(), name
    if "post" in regions:
        assert (found.extras["region_change"][:, 3] > 0).tolist() == [False, True]


def predict(
    explainer: Explainer, data: EightImages, folder: Path, **settings: Any
) -> list[Explanation]:
    return cast(
        list[Explanation],
        trainer(folder, inference_mode=False, **settings).predict(explainer, datamodule=data),
    )


def test_an_unknown_region_is_refused_in_one_line(data: EightImages, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        predict(steex(regions=["box", "trafic_light"]), data, tmp_path)
    assert str(caught.value) == "regions: 'trafic_light' is none of sky, road, box, post"


def test_a_counter_class_is_asked_for_by_name(data: EightImages) -> None:
    found = steex(counter_class="go").explain(batch(data))
    assert found.counter_class.tolist() == [1] * 8
    with pytest.raises(
        InputError, match=r"counter_class='left' is none of the classes \['stop', 'go'\]"
    ):
        steex(counter_class="left")


def test_a_counter_class_is_asked_for_by_number(data: EightImages) -> None:
    by_number = steex(counter_class=1).explain(batch(data))
    by_name = steex(counter_class="go").explain(batch(data))
    assert torch.equal(by_number.counterfactual, by_name.counterfactual)
    with pytest.raises(
        InputError, match=r"^counter_class=2 is none of the classes 0\.\.1: \['stop', 'go'\]$"
    ):
        steex(counter_class=2)
    with pytest.raises(InputError, match=r"^counter_class=2 is none of the classes 0\.\.1$"):
        steex(counter_class=2, class_names=None).explain(batch(data))


def test_of_several_heads_the_chosen_one_is_explained(data: EightImages) -> None:
    model, queries = Brightness(), batch(data)
    found = steex(decision_model=model, head=1).explain(queries)
    torch.testing.assert_close(found.query_logits[:, 1], model(queries.image)[:, 1])
    assert torch.equal(found.counter_class, (model(queries.image)[:, 1] < 0).long())


def test_of_classes_that_exclude_each_other_the_second_most_probable_is_asked_for(
    data: EightImages,
) -> None:
    model, queries = SmoothClassifier(3, widths=(4, 8)).double(), batch(data)
    found = steex(decision_model=model, class_names=["a", "b", "c"]).explain(queries)
    assert torch.equal(found.query_logits, model(queries.image))
    assert torch.equal(found.counter_class, found.query_logits.argsort(1)[:, 1])


def test_a_decision_that_the_reconstruction_does_not_keep_is_marked(data: EightImages) -> None:
    queries = batch(data)
    grey = (
        tiny_sean().double()
    )  # as it is initialised, all it reconstructs is grey: neither light nor dark
    model = Brightness()
    found = steex(decision_model=model, autoencoder=grey, head=1, num_steps=2).explain(queries)
    seen = found.query_logits.argmax(1)
    reconstructed = (model(found.reconstruction)[:, 1] > 0).long()
    assert torch.equal(found.extras["reconstruction_class"], reconstructed)
    flipped = reconstructed != seen
    assert 0 < flipped.sum() < 8
    # Such a search was over before its first step.
    assert torch.equal(found.extras["flip_step"] == 0, flipped)


def test_layouts_may_be_predicted(data: EightImages) -> None:
    class AllBox(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (
                torch.eye(4, dtype=images.dtype)[2]
                .view(1, 4, 1, 1)
                .expand(len(images), -1, *images.shape[2:])
            )

    found = steex(segmenter=AllBox()).explain(batch(data))
    assert ((found.extras["region_change"] > 0) == torch.tensor([False, False, True, False])).all()


def test_predictions_are_written_with_all_that_they_tell_and_never_twice(
    data: EightImages, tmp_path: Path
) -> None:
    predict(steex().float(), data, tmp_path, callbacks=[ExplanationWriter()])
    run = RunFolder(tmp_path)
    records = run.records()
    assert [record["key"] for record in records] == list(range(8))
    assert [record["image_id"] for record in records] == [f"image{key}" for key in range(8)]
    for record in records:
        assert {"query_class", "counter_class", "stored_class", "success", "stored_success"} <= set(
            record
        )
        assert record["reconstruction_class"] in (0, 1)
        assert len(record["region_change"]) == 4
        assert len(record["decision_curve"]) == len(record["proximity_curve"]) == STEPS
        assert record["code_distance"] == pytest.approx(
            np.linalg.norm(record["region_change"]), rel=1e-5
        )
        assert record["answer_before"] == ("stop", "go")[record["query_class"]]
        assert record["counter_class"] == 1 - record["query_class"]
        assert record["has_truth_mask"] == (record["key"] != 3)
        assert record["labels"].keys() == {"go", "bright"}
    pixels = np.asarray(Image.open(run.picture("query", 6)))
    assert np.array_equal(pixels, to_pixels(batch_of(data, 6).image[0]))
    assert np.array_equal(np.asarray(Image.open(run.picture("truth_mask", 6))), data.box(6))
    label_map = run.label_map(6)
    assert label_map is not None
    assert np.array_equal(label_map, batch_of(data, 6).label_map[0].numpy())
    table = run.table.read_bytes()

    class Counted(STEEX):
        explained: tuple[int, ...] = ()

        def explain(self, batch: ImageBatch) -> Explanation:
            self.explained += tuple(batch.key.tolist())
            return super().explain(batch)

    again = Counted(SmoothClassifier(1, widths=(4, 8)), tiny_sean(), num_steps=1)
    try:
        data.leave_out(run.keys())
        predict(again, data, tmp_path, callbacks=[ExplanationWriter()])
        assert (again.explained, run.table.read_bytes()) == ((), table)
        data.leave_out({0, 1, 2, 4, 5, 7})
        predict(again, data, tmp_path / "other", callbacks=[ExplanationWriter()])
        assert again.explained == (3, 6)
        assert RunFolder(tmp_path / "other").keys() == {3, 6}
    finally:
        data.leave_out(())


def test_noise_redrawn_at_every_step_changes_the_curves_and_not_the_floor(
    data: EightImages,
) -> None:
    standing = {
        "learning_rate": 0.0,
        "num_steps": 4,
    }  # the codes stay, so that only the noise can make a difference
    kept, redrawn = (
        steex(resample_noise=each, **standing).explain(batch(data)) for each in (False, True)
    )
    curve = kept.extras["decision_curve"]
    assert torch.equal(curve, curve[:, :1].expand(-1, 4))
    steps = redrawn.extras["decision_curve"].diff(dim=1)
    assert (steps != 0).all()
    assert torch.equal(redrawn.reconstruction, kept.reconstruction)
    torch.testing.assert_close(
        redrawn.extras["decision_curve"][:, 0], curve[:, 0], atol=1e-12, rtol=0
    )
    with pytest.raises(InputError, match="resample_noise=true needs noise=true"):
        steex(noise=False, resample_noise=True)
    with pytest.raises(InputError, match="keep_outside must be true or false, got 'maybe'"):
        steex(keep_outside="maybe")


class AboveTheDark(Light):
    """Decides at the brightness that the untrained autoencoder gives every image."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 10.4


@pytest.mark.parametrize("asked", ["stop", "go"])
def test_candidates_differ_all_flip_and_leave_the_first_as_it_is(
    data: EightImages, asked: str
) -> None:
    settings = {
        "num_steps": 30,
        "proximity_weight": 0.0,
        "decision_model": AboveTheDark(),
        "counter_class": asked,
    }
    plain = steex(**settings).explain(batch(data))
    found = steex(num_candidates=3, **settings).explain(batch(data))
    further = set(found.extras) - set(plain.extras)
    assert further == {
        *("candidates", "candidate_code_distance", "candidate_flip_step", "candidate_cosine"),
        "candidate_pairwise_cosine",
    }
    for name in plain.extras:
        assert torch.equal(found.extras[name], plain.extras[name]), name
    assert torch.equal(found.counterfactual, plain.counterfactual)
    candidates = found.extras["candidates"]
    assert candidates.shape == (8, 2, 3, 16, 32)
    pairs = combinations((found.counterfactual, *candidates.unbind(1)), 2)
    different = [(one - other).abs().amax((1, 2, 3)) for one, other in pairs]
    assert (torch.stack(different) > 0.02).all()
    assert (found.extras["candidate_cosine"] < 0.95).all()
    # The nearest of those before is at least as near as their mean.
    assert (
        found.extras["candidate_pairwise_cosine"] <= found.extras["candidate_cosine"].amax(1)
    ).all()
    of_two = steex(num_candidates=2, **settings).explain(batch(data)).extras
    assert torch.equal(of_two["candidate_pairwise_cosine"], of_two["candidate_cosine"][:, 0])
    for image in candidates.unbind(1):
        assert torch.equal((AboveTheDark()(image)[:, 0] > 0).long(), found.counter_class)
    with pytest.raises(
        InputError, match="num_candidates must be a whole number of at least 1, got 0"
    ):
        steex(num_candidates=0)


def test_options_do_not_tie_a_query_to_its_batch(data: EightImages) -> None:
    explainer = steex(resample_noise=True, num_candidates=2)
    together, alone = explainer.explain(batch(data)), explainer.explain(batch(data, 5))
    for column, whole in zip(_tensors(alone), _tensors(together), strict=True):
        torch.testing.assert_close(column, whole[[5]], atol=1e-9, rtol=0)


def test_a_run_folder_holds_every_candidate_and_whether_it_succeeds(
    data: EightImages, tmp_path: Path
) -> None:
    explainer = steex(num_candidates=3, num_steps=2).float()
    (found, *_) = predict(explainer, data, tmp_path, callbacks=[ExplanationWriter()])
    run = RunFolder(tmp_path)
    records = run.records()
    successes = []
    for number in (1, 2):
        stored = run.images(f"candidate_{number}", range(8))
        torch.testing.assert_close(
            stored[:3], found.extras["candidates"][:, number - 1], atol=1e-6, rtol=0
        )
        decided = (Light()(stored)[:, 0] > 0).long().tolist()
        expected = [
            each == record["counter_class"] for each, record in zip(decided, records, strict=True)
        ]
        assert [record["candidate_stored_success"][number - 1] for record in records] == expected
        successes += expected
    assert {True, False} == set(successes)  # so short a search does not always arrive
    assert all(len(record["candidate_code_distance"]) == 2 for record in records)
