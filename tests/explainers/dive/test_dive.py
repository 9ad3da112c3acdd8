from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.evaluation.report.table import Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.dive.dive import DiVE
from cfexp.explainers.dive.masks import fisher_information
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.tcvae import TCVAE
from cfexp.run.callbacks import ExplanationWriter
from tests.explainers.steex.test_steex import Brightness, Light, predict
from tests.image_parts import EightImages, batch_of, unchanged, values_of

SIZE, STEPS, COPIES, LATENTS = (32, 32), 6, 3, 8


class Square(EightImages):
    """The eight images at another size than their truth masks have."""

    def truth_mask(self, key: int) -> None:
        return None


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return Square(tmp_path_factory.mktemp("eight"), image_size=SIZE)


def autoencoder() -> TCVAE:
    """Untrained, and such that a code counts for a lot."""
    torch.manual_seed(0)
    network = TCVAE(*SIZE, channels_width=1, code_dim=LATENTS, mlp_width=1, initial_std=None)
    return network.double()


def dive(**settings: Any) -> DiVE:
    given = {
        "decision_model": Light(),
        "autoencoder": autoencoder(),
        "class_names": ["stop", "go"],
        "num_explanations": COPIES,
        "num_steps": STEPS,
        "learning_rate": 0.3,
        **settings,
    }
    return DiVE(**given)


def batch(data: EightImages, *rows: int) -> ImageBatch:
    return batch_of(data, *rows, dtype=torch.float64)


def test_the_contract(data: EightImages) -> None:
    explainer, queries = dive(), batch(data)
    found = explainer.explain(queries)
    assert found.query is queries.image
    torch.testing.assert_close(found.reconstruction, autoencoder().eval()(queries.image))
    for logits, image in (
        (found.query_logits, found.query),
        (found.counterfactual_logits, found.counterfactual),
    ):
        torch.testing.assert_close(logits[:, 1], explainer.decision_model(image)[:, 0])
    assert torch.equal(found.counter_class, 1 - found.query_logits.argmax(1))
    shapes = {name: tuple(value.shape) for name, value in found.extras.items()}
    curves = ("decision_curve", "reconstruction_curve", "diversity_curve", "lasso_curve")
    numbers = ("reconstruction_class", "code_l1", "flip_step", "evaluations", "answers")
    assert shapes == {
        **dict.fromkeys(curves, (8, STEPS)),
        **dict.fromkeys((*numbers, "candidate_pairwise_cosine"), (8,)),
        **dict.fromkeys(("candidate_code_l1", "candidate_flip_step"), (8, COPIES)),
        **dict.fromkeys(("query_codes", "codes"), (8, LATENTS)),
        "label_map": (8, *SIZE),
        "candidates": (8, COPIES, 3, *SIZE),
        "candidate_codes": (8, COPIES, LATENTS),
    }
    extras = found.extras
    decoded = explainer.autoencoder.decode(extras["codes"])
    torch.testing.assert_close(found.counterfactual, decoded)  # of the last update
    edit = extras["codes"] - extras["query_codes"]
    torch.testing.assert_close(edit.abs().sum(1), extras["code_l1"])
    assert torch.equal(extras["candidates"][:, 0], found.counterfactual)
    edits = (extras["candidate_codes"] - extras["query_codes"][:, None]).unbind(1)
    assert torch.equal(edits[0], edit)
    cosines = [torch.cosine_similarity(*pair) for pair in combinations(edits, 2)]
    torch.testing.assert_close(torch.stack(cosines).mean(0), extras["candidate_pairwise_cosine"])
    assert not any(value.requires_grad for value in (*found[:6], *extras.values()))


class Near(Light):
    """Is an image lighter than some are in the middle?"""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.middle = super().forward(images).median()

    def forward(self, images: Tensor) -> Tensor:
        return 10 * (super().forward(images) - self.middle)


def test_the_nearest_that_survives_being_stored_comes_first(data: EightImages) -> None:
    queries = batch(data)
    model = Near(autoencoder().eval()(queries.image))
    # Some of the explanations have the latents that it takes, and some have not.
    settings = {"masks": "random", "decision_of": "reconstruction", "learning_rate": 0.2}
    explainer = dive(decision_model=model, num_explanations=5, **settings)
    found = explainer.explain(queries)
    lengths, images = found.extras["candidate_code_l1"], found.extras["candidates"]
    logits = explainer.logits(eight_bit(images.flatten(0, 1)), queries).view(8, 5, 2)
    toward = (2 * found.counter_class - 1)[:, None] * logits[..., 1]
    assert torch.equal((toward > 0).sum(1), found.extras["answers"])
    assert not {*range(1, 5)}.isdisjoint(found.extras["answers"].tolist())
    for row in range(8):
        count = int(found.extras["answers"][row])
        assert (toward[row, :count] > 0).all()
        assert (lengths[row, :count].diff() >= 0).all()
        assert (toward[row, count:].diff() <= 0).all()


def test_a_query_is_explained_alike_alone_and_in_any_batch(data: EightImages) -> None:
    explainer = dive()
    together = explainer.explain(batch(data))
    for rows in ((5,), (6, 2, 5)):
        few = explainer.explain(batch(data, *rows))
        for column, whole in zip(_tensors(few), _tensors(together), strict=True):
            torch.testing.assert_close(column, whole[list(rows)], atol=1e-9, rtol=1e-7)


def _tensors(found: Explanation) -> list[Tensor]:
    return [*found[:6], *(found.extras[name] for name in sorted(found.extras))]


def test_as_one_batch_it_stops_together(data: EightImages) -> None:
    alone, together = (
        dive(as_one_batch=each, num_steps=4).explain(batch(data, 0, 2)).extras["evaluations"]
        for each in (False, True)
    )
    assert len(set(alone.tolist())) > 1
    assert len(set(together.tolist())) == 1


def test_the_networks_stay_as_they_were(data: EightImages) -> None:
    model, network = SmoothClassifier(1, widths=(4, 8)).double().train(), autoencoder()
    before = [values_of(each) for each in (model, network)]
    dive(decision_model=model, autoencoder=network).explain(batch(data))
    assert unchanged(model, before[0])
    assert unchanged(network, before[1])
    assert not any(each.training for each in (*model.modules(), *network.modules()))


class Contrary(nn.Module):
    """Says of a query the contrary of what it says of anything else, such as its reconstruction."""

    def __init__(self, queries: Tensor) -> None:
        super().__init__()
        self.queries = queries

    def forward(self, images: Tensor) -> Tensor:
        known = torch.cdist(images.flatten(1), self.queries.flatten(1)).amin(1) < 1e-6
        return torch.where(known, 1.0, -1.0)[:, None].double() + 0 * images.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("decision_of", ["query", "reconstruction"])
def test_whose_decision_is_to_be_another(data: EightImages, decision_of: str) -> None:
    queries = batch(data)
    explainer = dive(decision_model=Contrary(queries.image), decision_of=decision_of)
    found = explainer.explain(queries)
    assert found.query_logits.argmax(1).tolist() == [1] * 8
    assert found.extras["reconstruction_class"].tolist() == [0] * 8
    assert found.counter_class.tolist() == [int(decision_of == "reconstruction")] * 8


@pytest.mark.parametrize("published", [False, True])
def test_masks_come_of_the_training_images(data: EightImages, published: bool) -> None:
    model = Brightness()
    settings = {"decision_model": model, "head": 1, "max_fisher_images": 6}
    explainer = dive(masks="fisher", published_fisher=published, **settings)
    explainer.settle(data)
    network = autoencoder().eval()
    codes, log_variance = network.encode(batch(data, *range(6)).image)
    if not published:
        noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
        codes = codes + (log_variance / 2).exp() * noise
    expected = fisher_information(
        lambda codes: model(network.decode(codes)), codes, 1, published=published
    )
    torch.testing.assert_close(explainer.fisher(), expected.detach(), atol=0, rtol=1e-5)
    found = explainer.explain(batch(data)).extras
    assert (found["diversity_curve"] == 0).all()  # as no two explanations share a latent
    moved = (found["candidate_codes"] - found["query_codes"][:, None]).abs() > 1e-12
    assert (moved.sum((1, 2)) == LATENTS).all()
    mask = explainer.mask()
    assert mask is not None
    assert {tuple(row) for row in moved[0].tolist()} == {tuple(row) for row in mask.tolist()}


def test_of_more_explanations_the_first_start_alike(data: EightImages) -> None:
    settings = {"num_steps": 0, "diversity_weight": 0.0}
    few, more = (
        dive(num_explanations=each, **settings).explain(batch(data, 3)).extras for each in (2, 3)
    )
    codes = [each["candidate_codes"] for each in (few, more)]
    apart = torch.cdist(codes[0][0], codes[1][0])
    assert (apart.amin(1) < 1e-12).all()
    assert float((codes[0] - few["query_codes"][:, None]).std()) == pytest.approx(0.01, rel=0.5)


def test_a_run_is_scored_by_what_it_declares(data: EightImages, tmp_path: Path) -> None:
    explainer = dive(label="go").float()
    predict(explainer, data, tmp_path, callbacks=[ExplanationWriter()])
    run = RunFolder(tmp_path)
    assert (run.declaration.explainer, run.declaration.starts_from) == ("DiVE", "reconstruction")
    assert run.declaration.among_candidates
    assert run.picture(f"candidate_{COPIES}", 0).is_file()
    record = run.records()[0]
    assert sum(record["candidate_stored_success"]) == record["answers"]
    assert len(record["codes"]) == LATENTS
    scores = score_run(run)
    for metric in ("success_kept", "code_l1", "answers"):
        row = scores.find("all", metric)
        assert isinstance(row, Row)
        assert row.n > 0
    answers = scores.find("all", "answers")
    assert isinstance(answers, Row)
    assert 0 <= answers.value <= COPIES


def test_one_explanation_has_no_candidates(data: EightImages) -> None:
    extras = dive(num_explanations=1).explain(batch(data, 0)).extras
    assert not any(name.startswith("candidate") for name in extras)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_explanations": 0}, r"explainer\.num_explanations must be a whole number of at leas"),
        ({"num_steps": -1}, r"explainer\.num_steps must be a whole number of at least 0, got -1"),
        ({"num_steps": 1.5}, r"explainer\.num_steps must be a whole number"),
        ({"learning_rate": float("inf")}, r"explainer\.learning_rate must be a finite number"),
        ({"lasso_weight": -1}, r"explainer\.lasso_weight must be a finite number of at least 0"),
        ({"stop_share": 0}, r"explainer\.stop_share must be in 0\.\.1, got 0"),
        ({"masks": "chunks"}, r"explainer\.masks must be none or fisher or .*, got 'chunks'"),
        ({"decision_of": "f"}, r"explainer\.decision_of must be query or reconstruction, got 'f'"),
        ({"max_fisher_images": 0}, r"explainer\.max_fisher_images must be"),
        ({"autoencoder": nn.Linear(2, 2)}, r"checkpoints\.autoencoder is of a Linear: DiVE needs"),
        ({"counter_class": "left"}, r"counter_class='left' is none of the classes"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        dive(**settings)
    with pytest.raises(InputError, match="DiVE changes whole images"):
        dive().let_change(["box"], ["box"])
