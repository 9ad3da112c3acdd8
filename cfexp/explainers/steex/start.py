"""Where STEEX's search starts."""

from typing import NamedTuple

from torch import Tensor

from cfexp.models.sean.fast import PreparedLabelMaps


class Start(NamedTuple):
    """B queries, encoded and decoded again."""

    label_map: Tensor  # (B, H, W) int64
    prepared: PreparedLabelMaps  # with the noise that each query keeps
    codes: Tensor  # (B, R, D)
    reconstruction: Tensor  # (B, 3, H, W) in [-1, 1], decoded from them
    query_logits: Tensor  # (B, K), of the decision model on the query
    logits: Tensor  # (B, K), on the reconstruction
    refined: Tensor  # (B,) bool: the codes were fitted to the query's pixels, see `refine_codes`
