"""The doors of the pure functions: each public one refuses what it would only seem to take."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfexp import losses
from cfexp.metrics import functional
from cfexp.metrics.attributes import attributes_changed, correlation_difference
from cfexp.metrics.distances import frechet_distance, kernel_interval
from cfexp.metrics.gathered import FeatureDistance
from cfexp.metrics.lamps import read_lamps
from cfexp.metrics.transition import counterfactual_transition
from cfexp.tensors import check_shapes, check_values

IMAGE, LOGITS, CODES = torch.zeros(2, 3, 16, 16), torch.zeros(2, 4), torch.zeros(2, 5, 6)
ANSWER, MASK = torch.zeros(2, dtype=torch.int64), torch.ones(2, 1, 16, 16)
LABELS = torch.zeros(2, 16, 16, dtype=torch.int64)
FEATURES = [[torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)]]

# What each takes; and what of it must not be taken, though torch would repeat, cut or round it.
LOSSES: list[tuple[Callable[..., Tensor], tuple[Any, ...], list[tuple[int, Any]]]] = [
    (
        losses.negated_cross_entropy,
        (LOGITS, ANSWER),
        [(0, LOGITS[0]), (1, ANSWER.float()), (1, ANSWER[:1])],
    ),
    (losses.log_one_minus_probability, (LOGITS, ANSWER), [(0, LOGITS[:, :1]), (1, ANSWER.bool())]),
    (losses.flip_hinge, (LOGITS, ANSWER), [(0, LOGITS.long()), (1, ANSWER[:1])]),
    (losses.answers_alike, (LOGITS, ANSWER), [(0, LOGITS[:, :1]), (1, ANSWER.float())]),
    (
        losses.squared_l2,
        (IMAGE, IMAGE),
        [(0, IMAGE[:1]), (1, IMAGE[:, :1]), (0, IMAGE[:0]), (0, IMAGE.byte())],
    ),
    (losses.mask_area, (MASK,), [(0, MASK.bool()), (0, MASK[0])]),
    (losses.color_variation, (IMAGE, MASK), [(1, IMAGE), (1, MASK[:1]), (1, MASK.bool())]),
    (
        losses.outline_variation,
        (MASK, IMAGE),
        [(0, IMAGE), (0, MASK[:1]), (0, MASK.bool()), (1, IMAGE.byte())],
    ),
    (losses.generator_adversarial, (LOGITS,), [(0, LOGITS.long()), (0, LOGITS[:0])]),
    (losses.discriminator_adversarial, (LOGITS, LOGITS), [(0, LOGITS.long()), (1, LOGITS[:0])]),
    (
        losses.dice,
        (torch.zeros(2, 4, 16, 16), LABELS),
        [(0, LOGITS), (1, LABELS[:1]), (1, LABELS.float())],
    ),
    (
        losses.region_weighted_l1,
        (IMAGE, IMAGE, LABELS, 3),
        [(1, IMAGE[:1]), (2, LABELS[:1]), (2, LABELS.float())],
    ),
    (losses.region_weights, (LABELS, 3, 1.0), [(0, LABELS[0]), (0, LABELS.float())]),
    (
        losses.hinge_discriminator,
        ([LOGITS], [LOGITS]),
        [(0, []), (1, [LOGITS.long()]), (1, [LOGITS, LOGITS])],
    ),
    (losses.hinge_generator, ([LOGITS],), [(0, []), (0, [LOGITS[:0]])]),
    (
        losses.feature_matching,
        (FEATURES, FEATURES),
        [(0, []), (1, [[IMAGE[:, :1], LOGITS]]), (0, [[LOGITS]])],
    ),
    (
        losses.perceptual,
        (lambda x: [x], IMAGE, IMAGE, [1.0]),
        [(1, IMAGE[:1]), (3, [1.0, 2.0]), (2, IMAGE.byte())],
    ),
    (losses.exclusive_logits, (LOGITS, 1), [(0, LOGITS[0]), (1, 4), (1, -1)]),
    (
        losses.decision_loss,
        (LOGITS, ANSWER),
        [(1, ANSWER[:1]), (1, ANSWER.float()), (0, LOGITS[0])],
    ),
    (losses.decision_margin, (LOGITS, ANSWER), [(1, ANSWER[:1]), (1, ANSWER.int())]),
    (losses.proximity_loss, (CODES, CODES), [(0, CODES[0]), (1, CODES[:1]), (1, CODES[:, :, :1])]),
]
NAN, BRIGHT = torch.full_like(IMAGE, torch.nan), torch.full_like(IMAGE, 255.0)
OF_IMAGES = [
    (0, IMAGE[:1]),
    (1, IMAGE[:, :1]),
    (0, IMAGE[:0]),
    (0, IMAGE.byte()),
    (1, NAN),
    (0, BRIGHT),
    (0, np.zeros(3)),
]
METRICS: list[tuple[Callable[..., Any], tuple[Any, ...], list[tuple[int, Any]]]] = [
    *(
        (getattr(functional, name), (IMAGE, IMAGE), OF_IMAGES)
        for name in ("rms_change", "l2_distance", "l1_change", "changed_fraction", "psnr", "ssim")
    ),
    (
        functional.region_rms,
        (IMAGE, IMAGE, LABELS, 3),
        [*OF_IMAGES, (2, LABELS[:1]), (2, LABELS.float()), (2, LABELS - 1)],
    ),
    (
        functional.edit_locality,
        (IMAGE, IMAGE, MASK.bool()),
        [*OF_IMAGES, (2, MASK), (2, MASK.bool()[:1])],
    ),
    (functional.checkerboard_score, (IMAGE, IMAGE), [(0, IMAGE[:1]), (0, NAN), (0, IMAGE.byte())]),
    (functional.language_sensitivity, (IMAGE, IMAGE), [(0, IMAGE[:1]), (1, NAN)]),
    (
        functional.nearest_color,
        (torch.zeros(4, 3), {"red": (255, 0, 0)}),
        [
            (0, torch.zeros(4, 4)),
            (0, torch.full((4, 3), 255.0)),
            (0, torch.full((4, 3), torch.nan)),
        ],
    ),
    (functional.vqa_accuracy, ("yes", ["yes"] * 10), [(0, None), (1, "yes, yes"), (1, [1] * 10)]),
    (
        attributes_changed,
        (LOGITS, LOGITS),
        [(0, LOGITS[:1]), (1, torch.full_like(LOGITS, torch.nan)), (0, LOGITS > 0)],
    ),
    (
        correlation_difference,
        (np.eye(4), np.eye(4), np.eye(4), 0),
        [
            (1, np.eye(4)[:1]),
            (0, np.full((4, 4), np.nan)),
            (2, np.eye(4) * 3),
            (0, np.zeros((0, 4))),
            (3, 4),
        ],
    ),
    (
        frechet_distance,
        (np.eye(4), np.eye(4)),
        [(0, np.full((4, 4), np.inf)), (0, np.zeros((4, 0))), (1, np.eye(3))],
    ),
    (kernel_interval, (np.eye(4), np.eye(4), np.arange(4)), [(2, np.arange(5)), (1, np.eye(3))]),
    (
        read_lamps,
        (np.zeros((4, 4, 3), np.uint8), [np.ones((4, 4), bool)]),
        [(0, np.zeros((4, 4, 3))), (1, [np.ones((4, 4), int)]), (1, [np.ones((3, 4), bool)])],
    ),
    (
        counterfactual_transition,
        (IMAGE, IMAGE, lambda images: torch.zeros(len(images), 2)),
        [
            *OF_IMAGES,
            (2, lambda images: torch.zeros(len(images), 3)),
            (2, lambda images: torch.full((2, 2), 7.0)),
        ],
    ),
    (
        lambda *given: FeatureDistance(4).update([0, 1], *given),
        (LOGITS, LOGITS),
        [(0, LOGITS[:, :3]), (1, LOGITS[:1])],
    ),
]


@pytest.mark.parametrize(("function", "taken", "refused"), LOSSES + METRICS)
def test_what_does_not_fit_is_refused_in_one_line(
    function: Callable[..., Any], taken: tuple[Any, ...], refused: list[tuple[int, Any]]
) -> None:
    function(*taken)
    for place, other in refused:
        arguments = [
            other if number == place else argument for number, argument in enumerate(taken)
        ]
        with pytest.raises(ValueError) as raised:  # noqa: PT011  # each says something of its own
            function(*arguments)
        assert "\n" not in str(raised.value)


def test_every_loss_is_here() -> None:
    public = {
        f
        for name, f in inspect.getmembers(losses, inspect.isfunction)
        if f.__module__ == losses.__name__
    }
    assert {f for f in public if not f.__name__.startswith("_")} == {
        function for function, *_ in LOSSES
    }


def test_losses_look_at_no_value() -> None:
    """Of tensors without values: to look at one would make a GPU wait in every step."""
    on_meta: list[tuple[Callable[..., Tensor], tuple[Tensor, Tensor]]] = [
        (losses.decision_loss, (LOGITS, ANSWER)),
        (losses.decision_margin, (LOGITS, ANSWER)),
        (losses.proximity_loss, (CODES, CODES)),
        (losses.squared_l2, (IMAGE, IMAGE)),
        (losses.flip_hinge, (LOGITS, ANSWER)),
    ]
    for function, given in on_meta:
        assert function(*(each.to("meta") for each in given)).is_meta


def test_a_line_says_what_came() -> None:
    with pytest.raises(
        ValueError, match=r"^a and b must have one shape \(B, 3\), got \(2, 3\) and \(1, 3\)$"
    ):
        check_shapes(a=(torch.zeros(2, 3), "B 3"), b=(torch.zeros(1, 3), "B 3"))
    with pytest.raises(ValueError, match=r"^mask must have shape \(2, 1\), got \(2, 3\)$"):
        check_shapes(a=(torch.zeros(2, 3), "B 3"), mask=(torch.zeros(2, 3), "B 1"))
    with pytest.raises(ValueError, match=r"^a must be a tensor of floats, got list$"):
        check_shapes(a=([1.0], "B"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^a must be finite, got nan\.\.nan$"):
        check_values(a=torch.tensor([1.0, torch.nan]))
    with pytest.raises(ValueError, match=r"^a must be finite numbers in -1\.\.1, got 0\.\.2$"):
        check_values(-1, 1, a=torch.tensor([0.0, 2.0]))
