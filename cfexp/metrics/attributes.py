"""What an oracle says of the attributes before and after an edit: how many changed, and which
change together.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cfexp.tensors import check_shapes, check_values


def attributes_changed(before: Tensor, after: Tensor) -> Tensor:
    """How many attributes the oracle sees otherwise after the edit: (B,) in 0..K, the mean of which
    is MNAC (Rodriguez et al. 2021; Jacob et al. 2022, section 4.1).

    before, after: logits (B, K); an attribute is there above 0. Raises ValueError for other shapes,
    NaN and infinity.
    """
    check_shapes(before=(before, "B K"), after=(after, "B K"))
    check_values(before=before, after=after)
    # Each decision by itself: `before > 0 != after > 0` would be a chain of comparisons, and count
    # something else.
    return ((before > 0) != (after > 0)).sum(1).to(torch.float64)


def correlation_difference(
    labels: ArrayLike, before: ArrayLike, after: ArrayLike, attribute: int
) -> float:
    """Correlation difference, CD (Jeanneret et al. 2022): in 0..2K, 0 where attributes change
    together with the one asked for exactly as they go together in the data.

    sum_a |c(q, a) - c'(q, a)|, with c the Pearson correlation of the labels (Jeanneret et al.
    correlate the differences of pairs of samples, which is the same number) and c' that of the
    changes from `before` to `after`, each -1, 0 or 1. A correlation with what never varies is taken
    as 0, as in their code.

    labels: (M, K) of 0 and 1; before, after: (N, K) of 0 and 1, as the oracle decides; attribute:
    q. Raises ValueError for other shapes and numbers, for no row, and for an attribute that is not
    there.
    """
    known, old, new = (np.asarray(each, dtype=np.float64) for each in (labels, before, after))
    if old.shape != new.shape:
        raise ValueError(
            f"before and after must have one shape (N, K), got {old.shape} and {new.shape}"
        )
    if known.ndim != 2 or old.ndim != 2 or known.shape[1] != old.shape[1]:
        raise ValueError(
            f"labels and decisions must be (M, K) and (N, K), got {known.shape} and {old.shape}"
        )
    for name, values in (("labels", known), ("before", old), ("after", new)):
        if values.size == 0 or not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"{name} must be 0 and 1, one row or more, got {values.shape} with other numbers"
            )
    changes = new - old
    if not 0 <= attribute < known.shape[1]:
        raise ValueError(f"attribute must be in 0..{known.shape[1] - 1}, got {attribute}")
    return float(np.abs(_correlations(known, attribute) - _correlations(changes, attribute)).sum())


def _correlations(values: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """Pearson's correlation of a column of (N, K) with each: (K,)."""
    centred = values - values.mean(0)
    length = np.sqrt(np.square(centred).sum(0))
    scale = length * length[column]
    correlations: NDArray[np.float64] = np.divide(
        centred.T @ centred[:, column], scale, out=np.zeros(values.shape[1]), where=scale > 0
    )
    return correlations
