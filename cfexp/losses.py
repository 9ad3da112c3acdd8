"""The losses of the counterfactual generators, a function a term; every one returns a scalar, a mean over the batch."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def negated_cross_entropy(logits: Tensor, answer: Tensor) -> Tensor:
    """-CE(f(I', Q), A) (Pan, Goyal, Lee 2019): makes answer (B,) unlikely under logits (B, K).

    Unbounded below: it goes on pushing after the answer has changed.
    """
    return -F.cross_entropy(logits, answer)


def log_one_minus_probability(logits: Tensor, answer: Tensor) -> Tensor:
    """-log(1 - p_A), bounded below by 0, of logits (B, K) and answer (B,).

    Taken from the logits, since 1 - p written out has no gradient once p rounds to 1.
    """
    return (logits.logsumexp(1) - _others(logits, answer).logsumexp(1)).mean()


def flip_hinge(logits: Tensor, answer: Tensor, margin: float = 2.0) -> Tensor:
    """relu(l_A - max_{a != A} l_a + margin): no further push once another answer leads by the margin."""
    score = logits.gather(1, answer[:, None]).squeeze(1)
    return F.relu(score - _others(logits, answer).amax(1) + margin).mean()


def _others(logits: Tensor, answer: Tensor) -> Tensor:
    return logits.scatter(1, answer[:, None], -torch.inf)


def squared_l2(query: Tensor, counterfactual: Tensor) -> Tensor:
    """||I' - I||^2 of images (B, 3, H, W) in [-1, 1], scaled to [0, 1]: SUM over an image, mean over the batch."""
    return ((counterfactual - query) / 2).square().sum((1, 2, 3)).mean()


def mask_area(mask: Tensor) -> Tensor:
    """The minimal-edit loss on a mask (B, 1, H, W) in [0, 1]: the share of the image that is edited, 0..1."""
    return mask.mean()


def color_variation(color: Tensor, mask: Tensor) -> Tensor:
    """Total variation of what is painted, color (B, 3, H, W), where mask (B, 1, H, W) paints it: mean over the pixels.

    Without it an object is painted half in one colour and half in another: to the VQA model that is change enough. The
    mask is a constant here; how large it is, is `mask_area`'s business.
    """
    mask = mask.detach()
    down = (color[:, :, 1:] - color[:, :, :-1]).abs() * mask[:, :, 1:]
    right = (color[..., 1:] - color[..., :-1]).abs() * mask[..., 1:]
    return (down.sum() + right.sum()) / mask.numel()


def generator_adversarial(fake_logits: Tensor) -> Tensor:
    """BCE(D(I'), 1), the non-saturating generator loss (Goodfellow et al. 2014), on the discriminator's logits."""
    return F.softplus(-fake_logits).mean()


def discriminator_adversarial(real_logits: Tensor, fake_logits: Tensor, real_label: float = 0.9) -> Tensor:
    """BCE with a soft label for the real and 0 for the generated (one-sided, Salimans et al. 2016, section 3.4)."""
    labels = torch.full_like(real_logits, real_label)
    return F.binary_cross_entropy_with_logits(real_logits, labels) + F.softplus(fake_logits).mean()


def one_hot(label_map: Tensor, num_regions: int) -> Tensor:
    """(B, R, H, W) float of label maps (B, H, W) int64 in 0..R - 1."""
    return F.one_hot(label_map, num_regions).permute(0, 3, 1, 2).float()


def hinge_generator(fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """-mean D(I'), averaged over the scales: the generator's hinge loss (Lim and Ye 2017).

    fake: for each scale the discriminator's feature maps of generated images, the last one the scores.
    """
    return torch.stack([-scale[-1].mean() for scale in fake]).mean()


def hinge_discriminator(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """mean relu(1 - D(I)) + mean relu(1 + D(I')), averaged over the scales; arguments as for `hinge_generator`."""
    terms = [F.relu(1 - a[-1]).mean() + F.relu(1 + b[-1]).mean() for a, b in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between the discriminator's features of real and generated images (Wang et al. 2018, equation 4).

    Summed over all layers but the scores, averaged over the scales. The real ones are a constant.
    """
    scales = [
        torch.stack([F.l1_loss(b, a.detach()) for a, b in zip(of_real[:-1], of_fake[:-1], strict=True)]).sum()
        for of_real, of_fake in zip(real, fake, strict=True)
    ]
    return torch.stack(scales).mean()


def perceptual(
    features: Callable[[Tensor], Sequence[Tensor]],
    query: Tensor,
    reconstruction: Tensor,
    weights: Sequence[float] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0),
) -> Tensor:
    """Weighted L1 between the feature maps of two images (Wang et al. 2018); the defaults are those for VGG19.

    The last weights are used where there are fewer maps.
    """
    with torch.no_grad():
        wanted = features(query)
    found = features(reconstruction)
    used = list(weights)[-len(found) :]
    return torch.stack([w * F.l1_loss(b, a) for w, a, b in zip(used, wanted, found, strict=True)]).sum()


def region_weighted_l1(query: Tensor, reconstruction: Tensor, label_map: Tensor, num_regions: int) -> Tensor:
    """L1 of images (B, 3, H, W), in which each region of an image counts by the square root of its area.

    label_map: (B, H, W) int64 in 0..R - 1.
    """
    area = torch.zeros(len(query), num_regions, device=query.device)
    area.scatter_add_(1, label_map.flatten(1), torch.ones_like(label_map, dtype=area.dtype).flatten(1))
    weight = area.clamp(min=1).rsqrt().gather(1, label_map.flatten(1)).view(len(query), 1, *label_map.shape[1:])
    return ((reconstruction - query).abs() * weight / weight.mean((2, 3), keepdim=True)).mean()
