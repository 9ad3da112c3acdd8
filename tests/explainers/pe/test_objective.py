"""Against what the published graph computes, in float64; see tests/golden_pe.py."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfexp.explainers.pe import objective
from cfexp.explainers.pe.objective import Passes, asked_probability, bins_of, log_odds
from cfexp.losses import exclusive_logits
from cfexp.models.loading.pretrained import freeze
from cfexp.models.progressive_exaggeration import BinNorm, Discriminator, Exaggerated, Generator
from cfexp.models.released import pe_from_released
from tests.golden_pe import ClosedForm, assert_close, golden_pe, images, variables

WEIGHTS = {"cycle": 100.0, "code": 100.0, "reconstruction": 0.0}
MODEL = freeze(ClosedForm())


class Parts(NamedTuple):
    generator: Generator
    discriminator: Discriminator
    query: Tensor
    own: Tensor  # the bins
    target: Tensor


def parts() -> Parts:
    generator, discriminator = pe_from_released(variables())
    bins = (torch.from_numpy(golden_pe()[f"{name}_bin"]) for name in ("source", "target"))
    return Parts(generator.double(), discriminator.double(), images(0, 1, 2, 3), *bins)


def passes(given: Parts) -> Passes:
    def make(image: Tensor, bins: Tensor) -> Exaggerated:
        return given.generator.exaggerate(image, bins, batch_statistics=True)

    changed = make(given.query, given.target)
    return Passes(changed, make(changed.image, given.own), make(given.query, given.own))


def odds(image: Tensor, *, flows: bool = True) -> Tensor:
    return log_odds(exclusive_logits(MODEL(image if flows else image.detach()), 1), 1)


def terms(given: Parts, made: Passes, *, flows: bool = False) -> dict[str, Tensor]:
    found = objective.image_terms(given.query, made) | objective.decision_terms(
        odds(made.changed.image, flows=flows),
        asked_probability(given.target, 10),
        odds(made.cycle.image, flows=flows),
        odds(given.query),
    )
    scores = given.discriminator(made.changed.image, given.target)
    return found | {"adversarial": objective.adversarial(scores)}


def weighted(found: dict[str, Tensor]) -> Tensor:
    return torch.stack([WEIGHTS.get(name, 1.0) * term for name, term in found.items()]).sum()


@cache
def forward() -> tuple[Parts, Passes]:
    with torch.no_grad():
        given = parts()
        return given, passes(given)


def test_the_generator_makes_the_published_images_and_codes() -> None:
    _, made = forward()
    assert_close(made.changed.image, "counterfactual")
    assert_close(made.cycle.image[:2], "cycle")
    assert_close(made.own.image[:2], "reconstruction")
    for name, of in {"counterfactual": made.changed, "cycle": made.cycle}.items():
        assert_close(of.code, f"{name}_code")
    assert_close(made.own.code, "reconstruction_code")


@torch.no_grad()
def test_by_the_batchs_statistics_an_image_depends_on_those_beside_it() -> None:
    given, made = forward()
    two = given.generator(given.query[:2], given.target[:2], batch_statistics=True)
    assert_close(two[:1], "counterfactual_of_two")
    assert (two - made.changed.image[:2]).abs().max() > 0.1
    # Which is why the default is another.
    whole = given.generator(given.query, given.target)
    two = given.generator(given.query[:2], given.target[:2])
    torch.testing.assert_close(two, whole[:2], rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_published_sweep_over_ten_bins() -> None:
    given, _ = forward()
    bins = torch.arange(10).repeat(2)
    swept = given.generator(images(4, 5).repeat_interleave(10, 0), bins, batch_statistics=True)
    assert_close(MODEL(swept).sigmoid().view(2, 10, 2), "sweep_probability")
    assert_close(given.discriminator(swept, bins).view(2, 10), "sweep_critic")
    assert_close(swept.mean((2, 3)).view(2, 10, 3), "sweep_mean")
    assert_close(swept[9:10], "sweep_bin_9")


@torch.no_grad()
def test_the_discriminator_gives_the_published_scores_which_are_affine_in_the_bin() -> None:
    given, made = forward()
    assert_close(given.discriminator(given.query, given.own), "query_critic")
    assert_close(given.discriminator(made.changed.image, given.target), "counterfactual_critic")
    over_bins = given.discriminator(images(4).expand(10, -1, -1, -1), torch.arange(10))
    assert_close(over_bins, "critic_over_bins")
    assert over_bins.diff(n=2).abs().max() < 1e-12 * over_bins.abs().max()


@torch.no_grad()
def test_the_published_decisions_and_losses() -> None:
    given, made = forward()
    assert_close(MODEL(given.query).sigmoid(), "query_probability")
    assert_close(MODEL(made.changed.image).sigmoid(), "counterfactual_probability")
    assert_close(MODEL(made.cycle.image).sigmoid(), "cycle_probability")
    found = terms(given, made)
    assert_close(found["adversarial"], "adversarial")
    assert_close(found["cycle"], "cycle_l1")
    assert_close(found["code"], "code_l2")
    assert_close(found["target_decision"], "target_cross_entropy")
    assert_close(found["cycle_decision"], "cycle_cross_entropy")
    assert_close(weighted(found), "generator_loss")
    of_query = given.discriminator(given.query, given.own)
    of_changed = given.discriminator(made.changed.image, given.target)
    assert_close(objective.critic_loss(of_query, of_changed), "critic_loss")


@pytest.mark.parametrize("kind", ["", "_with_classifier", "decision"])
def test_the_generators_gradient_is_the_published_and_with_the_classifiers_the_papers(
    kind: str,
) -> None:
    given = parts()
    found = terms(given, passes(given), flows=bool(kind))
    name = f"generator_gradient_norms{kind}"
    if kind == "decision":
        found = {each: found[each] for each in ("target_decision", "cycle_decision")}
        name = "decision_gradient_norms"
    weighted(found).backward()  # type: ignore[no-untyped-call]
    assert_close(norms(given, "generator"), name)


def test_the_critics_gradient_is_the_published() -> None:
    given = parts()
    changed = passes(given).changed.image.detach()
    scores = given.discriminator(given.query, given.own), given.discriminator(changed, given.target)
    objective.critic_loss(*scores).backward()  # type: ignore[no-untyped-call]
    assert_close(norms(given, "critic"), "critic_gradient_norms")


def test_the_published_steps_of_the_generator() -> None:
    given = parts()
    optimizer = torch.optim.Adam(given.generator.parameters(), lr=2e-4, betas=(0.0, 0.9))
    rows = []
    for step in range(4):
        found = terms(given, passes(given))
        loss = weighted(found)
        rows.append(
            torch.stack([loss, *(found[name] for name in ("adversarial", "cycle", "code"))])
        )
        # In TensorFlow's form epsilon stands beside the average that is not corrected yet.
        optimizer.param_groups[0]["eps"] = 1e-8 / (1 - 0.9 ** (step + 1)) ** 0.5
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert_close(torch.stack(rows), "generator_steps", 1e-7)


def norms(given: Parts, network: str) -> Tensor:
    """Of the gradients, in the golden's order."""
    of = given.generator if network == "generator" else given.discriminator
    found = dict(published(of))
    keys = golden_pe()[f"{network}_gradient_keys"]
    assert len(found) == len(keys)
    return torch.stack([found[key] for key in keys])


def published(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The norms of the gradients by published names."""
    discriminator = isinstance(network, Discriminator)
    levels = 5
    for name, layer in network.named_modules():
        if not isinstance(layer, BinNorm | nn.Conv2d | nn.Linear):
            continue
        block, part = published_name(name, levels)
        path = f"{'discriminator' if discriminator else 'generator'}/{block}"
        path += f"/{part}" if part else ""
        if isinstance(layer, BinNorm):
            leaf = part or block
            yield f"{path}/{leaf}beta", norm(layer.shift)
            yield f"{path}/{leaf}gamma", norm(layer.scale)
        elif block == "V":
            yield "discriminator/V", norm(original(layer))
        else:
            yield f"{path}/W", norm(original(layer) if discriminator else layer.weight)
            assert layer.bias is not None
            yield f"{path}/b", norm(layer.bias)


def original(layer: nn.Module) -> Tensor:
    return layer.get_parameter("parametrizations.weight.original")


def published_name(name: str, levels: int) -> tuple[str, str]:
    alone = {"norm_in": "BN1", "conv_in": "conv1", "norm_out": "BN", "conv_out": "conv"}
    alone |= {"dense": "dense", "projection": "V"}
    if name in alone:
        return alone[name], ""
    *path, part = name.split(".")
    parts = {"norm_0": "bn1", "conv_0": "conv1", "norm_1": "bn2", "conv_1": "conv2"}
    where, number = path[0], int(path[1]) if len(path) > 1 else 0
    block = {
        "encoder": f"Encoder-ResBlock{levels - number}",
        "decoder": f"ResBlock{number + 1}",
        "first": "ResBlock1",
        "blocks": f"ResBlock{number + 2}",
        "last": f"ResBlock{levels + 1}",
    }[where]
    return block, parts.get(part, "identity")


def norm(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    found: Tensor = torch.linalg.vector_norm(parameter.grad)
    return found


def test_bins_are_tenths_of_the_probability_and_the_last_has_its_end() -> None:
    odds = torch.logit(torch.tensor([0.0, 0.05, 0.1001, 0.55, 0.999, 1.0], dtype=torch.float64))
    assert bins_of(odds, 10).tolist() == [0, 0, 1, 5, 9, 9]
    assert bins_of(odds, 4).tolist() == [0, 0, 0, 2, 3, 3]


def test_the_odds_of_a_class_are_those_of_its_probability() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64)
    for target in range(3):
        probability = logits.softmax(1)[:, target]
        torch.testing.assert_close(log_odds(logits, target), probability.logit())
    of_head = exclusive_logits(logits, 1)
    assert torch.equal(log_odds(of_head, 1), logits[:, 1])


def test_the_edge_or_the_centre_of_a_bin_is_asked_for() -> None:
    bins = torch.arange(10)
    np.testing.assert_allclose(asked_probability(bins, 10), np.arange(10) / 10)
    np.testing.assert_allclose(asked_probability(bins, 10, "centre"), (np.arange(10) + 0.5) / 10)
