"""What Progressive Exaggeration trains its two networks by (Singla et al., ICLR 2020), as pure
functions.

Where the paper and its released code disagree each function says so. K is the number of bins.
"""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses
from cfexp.models.progressive_exaggeration import Exaggerated
from cfexp.tensors import check_shapes

BinTarget = Literal["lower", "centre"]
BIN_TARGETS = get_args(BinTarget)


class Passes(NamedTuple):
    """What the generator makes in one step of B images, whose own bins are s, for bins t."""

    changed: Exaggerated  # G(x, t)
    cycle: Exaggerated  # G(G(x, t), s)
    own: Exaggerated  # G(x, s)


def log_odds(logits: Tensor, target_class: int) -> Tensor:
    """(B,) log p / (1 - p) of p = p(target_class), by logits (B, K) of exclusive classes."""
    check_shapes(logits=(logits, "B K"))
    others = torch.cat([logits[:, :target_class], logits[:, target_class + 1 :]], dim=1)
    return logits[:, target_class] - others.logsumexp(1)


def bins_of(odds: Tensor, num_bins: int) -> Tensor:
    """(B,) int64 in 0..K - 1: floor(K p), and K - 1 where p rounds to 1. odds: (B,) `log_odds`."""
    return (num_bins * odds.sigmoid()).long().clamp(max=num_bins - 1)


def asked_probability(bins: Tensor, num_bins: int, at: BinTarget = "lower") -> Tensor:
    """(B,) float64, the probability that bins t (B,) ask for: t / K (published) or (t + 1/2) / K.

    By the lower edge 0 is asked of the first bin and (K - 1) / K of the last.
    """
    return (bins.double() + (0.5 if at == "centre" else 0.0)) / num_bins


def decision_terms(
    changed_odds: Tensor, asked: Tensor, cycle_odds: Tensor, query_odds: Tensor
) -> dict[str, Tensor]:
    """The two cross-entropies, means over the batch, of `log_odds` and probabilities (B,).

    target_decision: of the changed image's decision with what is asked. cycle_decision: of the
    cycle's with the query's. The paper has divergences (KL), whose gradients are the same.
    """
    check_shapes(
        changed_odds=(changed_odds, "B"),
        asked=(asked, "B"),
        cycle_odds=(cycle_odds, "B"),
        query_odds=(query_odds, "B"),
    )
    return {
        "target_decision": F.binary_cross_entropy_with_logits(
            changed_odds, asked.to(changed_odds.dtype)
        ),
        "cycle_decision": F.binary_cross_entropy_with_logits(cycle_odds, query_odds.sigmoid()),
    }


def image_terms(query: Tensor, passes: Passes) -> dict[str, Tensor]:
    """What keeps the changed image close to the query (B, 3, H, W); means over all values.

    cycle: |x - G(G(x, t), s)|. code: the squared distance of the codes of (x, s) and of the changed
    image with s; of the released code alone. reconstruction: |x - G(x, s)|, of the paper alone.
    """
    check_shapes(query=(query, "B C H W"), image=(passes.changed.image, "B C H W"))
    return {
        "cycle": F.l1_loss(passes.cycle.image, query),
        "code": F.mse_loss(passes.cycle.code, passes.own.code),
        "reconstruction": F.l1_loss(passes.own.image, query),
    }


def critic_loss(query_scores: Tensor, changed_scores: Tensor) -> Tensor:
    """The discriminator's hinge, of the scores (B,) of (x, s) and of (G(x, t), t)."""
    return losses.hinge_discriminator([query_scores], [changed_scores])


def adversarial(changed_scores: Tensor) -> Tensor:
    """The generator's side of it: -mean D(G(x, t), t)."""
    return losses.hinge_generator([changed_scores])
