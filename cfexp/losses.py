"""The losses of the counterfactual generators and of SEAN, a function a term.

Every one returns a scalar, a mean over the batch; those of a search, in which queries must not mix,
return (B,). Each raises ValueError for tensors of other shapes or types than it names; see
`cfexp.tensors`.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.tensors import check_shapes


def negated_cross_entropy(logits: Tensor, answer: Tensor) -> Tensor:
    """-CE(f(I', Q), A) (Pan, Goyal, Lee 2019): makes answer (B,) unlikely under logits (B, K).

    Unbounded below: it goes on pushing after the answer has changed.
    """
    check_shapes(logits=(logits, "B K"), answer=(answer, "B int64"))
    return -F.cross_entropy(logits, answer)


def log_one_minus_probability(logits: Tensor, answer: Tensor) -> Tensor:
    """-log(1 - p_A), bounded below by 0, of logits (B, K) and answer (B,).

    Taken from the logits, since 1 - p written out has no gradient once p rounds to 1.
    """
    _check_answers(logits, answer)
    return (logits.logsumexp(1) - _others(logits, answer).logsumexp(1)).mean()


def flip_hinge(logits: Tensor, answer: Tensor, margin: float = 2.0) -> Tensor:
    """relu(l_A - max_{a != A} l_a + margin): no further push once another answer leads by the
    margin.
    """
    _check_answers(logits, answer)
    score = logits.gather(1, answer[:, None]).squeeze(1)
    return F.relu(score - _others(logits, answer).amax(1) + margin).mean()


def answers_alike(logits: Tensor, answer: Tensor, temperature: float = 2.0) -> Tensor:
    """How alike are the other answers a != A of a batch: log K - H(mean of softmax(l_a /
    temperature)), in nats, of logits (B, K) and answer (B,); 0 where all K are as frequent.

    A temperature above 1 leaves a gradient where one answer leads.
    """
    _check_answers(logits, answer)
    shares = (_others(logits, answer) / temperature).softmax(1).mean(0)
    # The logarithm of nothing has no gradient.
    return math.log(logits.shape[1]) + (shares * shares.clamp(min=1e-9).log()).sum()


def _check_answers(logits: Tensor, answer: Tensor) -> None:
    """Of one answer alone there is no other."""
    sizes = check_shapes(logits=(logits, "B K"), answer=(answer, "B int64"))
    if sizes["K"] < 2:
        raise ValueError(f"logits must be of at least 2 answers, got {tuple(logits.shape)}")


def _others(logits: Tensor, answer: Tensor) -> Tensor:
    return logits.scatter(1, answer[:, None], -torch.inf)


def squared_l2(query: Tensor, counterfactual: Tensor, weight: Tensor | None = None) -> Tensor:
    """||I' - I||^2 of images (B, 3, H, W) in [-1, 1], scaled to [0, 1]: SUM over an image, mean
    over the batch.

    weight: (B,), how much each image counts; None = 1. So of the three losses that follow, too.
    """
    check_shapes(query=(query, "B C H W"), counterfactual=(counterfactual, "B C H W"))
    per_image = ((counterfactual - query) / 2).square().sum((1, 2, 3))
    return per_image.mean() if weight is None else (weight * per_image).mean()


def mask_area(mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """The minimal-edit loss on a mask (B, 1, H, W) in [0, 1]: the share of the image that is
    edited, 0..1.
    """
    check_shapes(mask=(mask, "B 1 H W"))
    return mask.mean() if weight is None else (weight * mask.mean((1, 2, 3))).mean()


def color_variation(color: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Total variation of what is painted, color (B, 3, H, W), where mask (B, 1, H, W) paints it:
    mean over the pixels.

    Without it an object is painted half in one colour and half in another: to the VQA model that is
    change enough. The mask is a constant here; how large it is, is `mask_area`'s business.
    """
    check_shapes(color=(color, "B C H W"), mask=(mask, "B 1 H W"))
    mask = mask.detach() if weight is None else mask.detach() * weight[:, None, None, None]
    down = (color[:, :, 1:] - color[:, :, :-1]).abs() * mask[:, :, 1:]
    right = (color[..., 1:] - color[..., :-1]).abs() * mask[..., 1:]
    return (down.sum() + right.sum()) / mask.numel()


def outline_variation(mask: Tensor, query: Tensor, weight: Tensor | None = None) -> Tensor:
    """Total variation of a mask (B, 1, H, W) in [0, 1] away from the edges of the query (B, 3, H,
    W) in [-1, 1]: mean over the pixels. Edge-aware smoothness, as Godard et al. 2017 have it of
    disparities (equation 3).

    Without it half an object is painted, or all but its rim: to the VQA model that is change
    enough, to a person it is not. The mask may end without a price where the object does; a step
    counts e^(-10 g) beside an edge of g.
    """
    check_shapes(mask=(mask, "B 1 H W"), query=(query, "B C H W"))
    total = torch.zeros((), device=mask.device)
    for dim in (2, 3):
        edge = query.diff(dim=dim).abs().mean(1, keepdim=True)
        # An edge counts one pixel to either side, too: the mask is blurred by its upsampling.
        edge = _largest_around(edge)
        steps = mask.diff(dim=dim).abs() * (-10 * edge).exp()
        total = total + (steps if weight is None else steps * weight[:, None, None, None]).sum()
    return total / mask.numel()


def _largest_around(values: Tensor) -> Tensor:
    """The largest of each 3x3 neighbourhood of values (B, 1, H, W) from 0 on; torch's pooling of
    one channel takes thirty times as long on a CPU.
    """
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2].maximum(padded[..., 1:-1]).maximum(padded[..., 2:])
    return rows[:, :, :-2].maximum(rows[:, :, 1:-1]).maximum(rows[:, :, 2:])


def generator_adversarial(fake_logits: Tensor) -> Tensor:
    """BCE(D(I'), 1), the non-saturating generator loss (Goodfellow et al. 2014), on the
    discriminator's logits.
    """
    check_shapes(fake_logits=(fake_logits, "..."))
    return F.softplus(-fake_logits).mean()


def discriminator_adversarial(
    real_logits: Tensor, fake_logits: Tensor, real_label: float = 0.9
) -> Tensor:
    """BCE with a soft label for the real and 0 for the generated (one-sided, Salimans et al. 2016,
    section 3.4).
    """
    check_shapes(real_logits=(real_logits, "..."), fake_logits=(fake_logits, "..."))
    labels = torch.full_like(real_logits, real_label)
    return F.binary_cross_entropy_with_logits(real_logits, labels) + F.softplus(fake_logits).mean()


def region_weighted_l1(
    query: Tensor, reconstruction: Tensor, label_map: Tensor, num_regions: int
) -> Tensor:
    """L1 of images (B, 3, H, W), in which each region of an image counts by the square root of its
    area.

    label_map: (B, H, W) int64 in 0..R - 1.
    """
    check_shapes(
        query=(query, "B C H W"),
        reconstruction=(reconstruction, "B C H W"),
        label_map=(label_map, "B H W int64"),
    )
    weights = region_weights(label_map, num_regions, power=0.5)
    return ((reconstruction - query).abs() * weights).sum() / query.numel()  # see `_mean_l1`


def region_weights(label_map: Tensor, num_regions: int, power: float) -> Tensor:
    """(B, 1, H, W), what each pixel counts, 1 on average over its image, so that a region counts by
    its area to the power of 1 - `power`: 1 has all regions count alike.

    label_map: (B, H, W) int64 in 0..num_regions - 1.
    """
    check_shapes(label_map=(label_map, "B H W int64"))
    flat = label_map.flatten(1)
    area = torch.zeros(len(flat), num_regions, device=flat.device)
    area.scatter_add_(1, flat, torch.ones_like(flat, dtype=area.dtype))
    weights = area.clamp(min=1).pow(-power).gather(1, flat).view(len(flat), 1, *label_map.shape[1:])
    return weights / weights.mean((2, 3), keepdim=True)


def dice(logits: Tensor, label_map: Tensor, ignored: int = -100) -> Tensor:
    """1 less the Dice coefficient of each region (Milletari et al. 2016), a mean over the regions
    that the batch's label maps (B, H, W) hold: 2 sum(p y) / (sum(p) + sum(y)), p the probability of
    logits (B, R, H, W). However small a region is, it counts as any other. Pixels whose number is
    `ignored` count for nothing.
    """
    check_shapes(logits=(logits, "B R H W"), label_map=(label_map, "B H W int64"))
    counts = (label_map != ignored)[:, None].to(logits.dtype)
    probability = logits.softmax(1) * counts
    truth = torch.zeros_like(probability)
    truth.scatter_(1, label_map.where(label_map != ignored, 0)[:, None], 1.0)
    truth = truth * counts
    both, area = (probability * truth).sum((0, 2, 3)), truth.sum((0, 2, 3))
    coefficient = (2 * both + 1) / (probability.sum((0, 2, 3)) + area + 1)  # 1: of a lone pixel
    there = (area > 0).to(logits.dtype)
    return ((1 - coefficient) * there).sum() / there.sum().clamp(min=1)


def hinge_discriminator(real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]) -> Tensor:
    """mean(relu(1 - D(I))) + mean(relu(1 + D(G))), mean over the scales (Lim and Ye 2017, as in
    SEAN).
    """
    _check_each("real_scores", real_scores)
    _check_each("fake_scores", fake_scores)
    scales = [
        F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        for real, fake in zip(real_scores, fake_scores, strict=True)
    ]
    return torch.stack(scales).mean()


def hinge_generator(fake_scores: Sequence[Tensor]) -> Tensor:
    """-mean(D(G)), mean over the scales: the generator's side of the hinge."""
    _check_each("fake_scores", fake_scores)
    return torch.stack([-score.mean() for score in fake_scores]).mean()


def feature_matching(
    real_features: Sequence[Sequence[Tensor]], fake_features: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Mean absolute difference of the discriminator's features, summed over the layers but the
    score, mean over scales.

    As in Wang et al. 2018 (pix2pixHD) and SEAN: each scale has a list of features whose last is the
    score. No gradient reaches the real ones.
    """
    if not real_features or min(map(len, real_features)) < 2:
        raise ValueError(
            "real_features must hold a scale or more, each with a layer or more before its score"
        )
    for real, fake in zip(real_features, fake_features, strict=True):
        _check_pairs("real_features", real[:-1], "fake_features", fake[:-1])
    scales = [
        torch.stack(
            [_mean_l1(f, r.detach()) for r, f in zip(real[:-1], fake[:-1], strict=True)]
        ).sum()
        for real, fake in zip(real_features, fake_features, strict=True)
    ]
    return torch.stack(scales).mean()


def perceptual(
    network: Callable[[Tensor], Sequence[Tensor]],
    generated: Tensor,
    real: Tensor,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Weighted sum of the mean absolute differences of a frozen network's feature maps (Johnson et
    al. 2016).

    network: images (B, 3, H, W) in [-1, 1] to feature maps. SEAN takes VGG19's at relu1_1 to
        relu5_1 with 1/32, 1/16, 1/8, 1/4, 1.
    weights: of each map; None = 1 each.

    Raises ValueError for other than one weight a map.
    """
    check_shapes(generated=(generated, "B C H W"), real=(real, "B C H W"))
    with torch.no_grad():
        expected = network(real)
    found = network(generated)
    _check_pairs("network(real)", expected, "network(generated)", found)
    weights = [1.0] * len(found) if weights is None else weights
    if len(weights) != len(found):
        raise ValueError(f"weights must be {len(found)}, one a feature map, got {len(weights)}")
    differences = [
        weight * _mean_l1(features, target.detach())
        for weight, features, target in zip(weights, found, expected, strict=True)
    ]
    return torch.stack(differences).sum()


def _mean_l1(one: Tensor, other: Tensor) -> Tensor:
    """`F.l1_loss`. By its own mean the gradient is laid out channels first, by its sum as the maps
    are: behind a channels_last network each step of the backward pass takes several times as long.
    """
    return F.l1_loss(one, other, reduction="sum") / one.numel()


def _check_each(name: str, scores: Sequence[Tensor]) -> None:
    if not scores:
        raise ValueError(f"{name} must hold a scale or more, got none")
    for number, score in enumerate(scores):
        check_shapes(**{f"{name}[{number}]": (score, "...")})


def _check_pairs(
    name: str, real: Sequence[Tensor], other_name: str, fake: Sequence[Tensor]
) -> None:
    """Of other shapes one would be repeated along the other."""
    for number, (one, other) in enumerate(zip(real, fake, strict=True)):
        if one.shape != other.shape:
            came = f"{tuple(one.shape)} and {tuple(other.shape)}"
            raise ValueError(
                f"{name}[{number}] and {other_name}[{number}] must have one shape, got {came}"
            )


def exclusive_logits(logits: Tensor, head: int | None = None) -> Tensor:
    """Logits of classes that exclude each other: of a binary head (B, 2), 0 and its logit; of K
    classes (B, K).

    logits: (B, K). head: as in `decision_loss`.
    """
    _check_head(logits, head)
    if head is None and logits.shape[1] > 1:
        return logits
    logit = logits[:, head or 0]
    return torch.stack([torch.zeros_like(logit), logit], dim=1)


def _check_head(logits: Tensor, head: int | None) -> None:
    sizes = check_shapes(logits=(logits, "B K"))
    if head is not None and not 0 <= head < sizes["K"]:
        raise ValueError(
            f"head must be one of the {sizes['K']} outputs, 0..{sizes['K'] - 1}, got {head}"
        )


def decision_loss(logits: Tensor, counter_class: Tensor, head: int | None = None) -> Tensor:
    """-log p(counter_class), (B,), the decision term of STEEX (Jacob et al. 2022, equation 4).

    logits: (B, K). counter_class: (B,) int64, 0 or 1 where a binary head decides, else 0..K - 1.
    head: which of K binary heads decides; None: the only one (K = 1), or K classes that exclude
    each other.

    Taken from the logits: written out, its gradient is NaN once the probability rounds to 0 or 1 (a
    logit of 17).
    """
    check_shapes(logits=(logits, "B K"), counter_class=(counter_class, "B int64"))
    _check_head(logits, head)
    if head is None and logits.shape[1] > 1:
        return F.cross_entropy(logits, counter_class, reduction="none")
    logit = logits[:, head or 0]
    return F.binary_cross_entropy_with_logits(
        logit, counter_class.to(logit.dtype), reduction="none"
    )


def decision_margin(logits: Tensor, counter_class: Tensor, head: int | None = None) -> Tensor:
    """By how much the decision is the counter class, (B,) in logits: positive once it is. Arguments
    as above.
    """
    check_shapes(logits=(logits, "B K"), counter_class=(counter_class, "B int64"))
    logits = exclusive_logits(logits, head)
    return logits.gather(1, counter_class[:, None]).squeeze(1) - _others(
        logits, counter_class
    ).amax(1)


def proximity_loss(style_codes: Tensor, query_codes: Tensor) -> Tensor:
    """sum_r ||z_r - z_r^0||^2 of style codes (B, R, D), (B,): the proximity term of STEEX (equation
    5).
    """
    check_shapes(style_codes=(style_codes, "B R D"), query_codes=(query_codes, "B R D"))
    return (style_codes - query_codes).square().sum((1, 2))
