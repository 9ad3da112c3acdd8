"""The losses of the counterfactual generators, a function a term; every one returns a scalar, a mean over the batch."""

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


def region_weighted_l1(query: Tensor, reconstruction: Tensor, label_map: Tensor, num_regions: int) -> Tensor:
    """L1 of images (B, 3, H, W), in which each region of an image counts by the square root of its area.

    label_map: (B, H, W) int64 in 0..R - 1.
    """
    area = torch.zeros(len(query), num_regions, device=query.device)
    area.scatter_add_(1, label_map.flatten(1), torch.ones_like(label_map, dtype=area.dtype).flatten(1))
    weight = area.clamp(min=1).rsqrt().gather(1, label_map.flatten(1)).view(len(query), 1, *label_map.shape[1:])
    return ((reconstruction - query).abs() * weight / weight.mean((2, 3), keepdim=True)).mean()
