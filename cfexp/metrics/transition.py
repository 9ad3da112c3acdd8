"""COUT: whether the decision turns with the few pixels that an edit changed most."""

from collections.abc import Callable

import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.tensors import IMAGE_RANGE, check_shapes, check_values


@torch.no_grad()
def counterfactual_transition(
    query: Tensor,
    counterfactual: Tensor,
    probabilities: Callable[[Tensor], Tensor],
    *,
    steps: int = 50,
) -> Tensor:
    """Counterfactual transition, COUT (Khorram & Fuxin 2022, section 3.4): (B,) in [-1, 1], the
    higher the better.

    Pixels of the counterfactual replace the query's, those with the largest change (summed over
    channels) first, in `steps` equal parts. COUT is the area under the probability of the class
    asked for less that of the original class, by the trapezoidal rule over the share of pixels. The
    published code takes the last part for a full one, and so passes 1 where the number of pixels is
    no multiple of `steps`; this does not. Without an edit it is the difference of the two
    probabilities, about -1.

    query, counterfactual: (B, C, H, W) in [-1, 1]; probabilities: images -> (B, 2), of the original
    class and of the other one. Raises InputError for fewer steps than one, ValueError for other
    shapes, ranges, NaN and infinity.
    """
    check_shapes(query=(query, "B C H W"), counterfactual=(counterfactual, "B C H W"))
    check_values(*IMAGE_RANGE, query=query, counterfactual=counterfactual)
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    change = (counterfactual - query).abs().sum(1).flatten(1)
    pixels = change.shape[1]
    # The place of each pixel in the order; of equal ones the first in the picture comes first.
    rank = change.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    bounds = [pixels * step // steps for step in range(steps + 1)]
    heights = []
    for bound in bounds:
        replaced = (rank < bound).view(len(query), 1, *query.shape[2:])
        found = probabilities(torch.where(replaced, counterfactual, query))
        check_shapes(query=(query, "B C H W"), probabilities=(found, "B 2"))
        check_values(-0.001, 1.001, probabilities=found)
        heights.append((found[:, 1] - found[:, 0]).double())
    shares = torch.tensor(bounds, dtype=torch.float64, device=query.device) / pixels
    return torch.trapezoid(torch.stack(heights, dim=1), shares, dim=1)
