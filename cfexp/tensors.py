"""What the public functions of `losses` and `metrics` look at when they are called.

One rule: a tensor that does not fit raises ValueError, in one line that says which, what it must be
and what came; a setting of the user's (a period, an era) raises InputError, which is a ValueError,
too. Shapes and types cost nothing and are always looked at. Values are looked at by metrics alone:
on a GPU that waits, and losses are in every step.
"""

import torch
from torch import Tensor

# Images in [-1, 1] may pass it by the rounding of half precision.
IMAGE_RANGE = (-1.001, 1.001)
_KINDS = {
    "float": "of floats",
    "int64": "of int64",
    "integers": "of whole numbers",
    "bool": "of bool",
}


def check_shapes(**given: tuple[Tensor, str]) -> dict[str, int]:
    """Compare tensors with what they must be, such as query=(query, "B 3 H W"), mask=(mask, "B 1 H
    W bool").

    A letter is a size, the same wherever it stands, and at least 1; `...` any sizes; a kind at the
    end is float unless said: int64, integers, bool. Returns the sizes by letter. Raises ValueError
    for the first that does not fit.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, wanted) in given.items():
        *dims, kind = wanted.split() if wanted.split()[-1] in _KINDS else [*wanted.split(), "float"]
        if not isinstance(tensor, Tensor) or not _is_of(tensor, kind):
            came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name} must be a tensor {_KINDS[kind]}, got {came}")
        known, shape = dict(sizes), tuple(tensor.shape)
        fits = len(dims) == len(shape) and all(
            size == (int(dim) if dim.isdigit() else sizes.setdefault(dim, size))
            for dim, size in zip(dims, shape, strict=True)
        )
        if (not fits and dims != ["..."]) or 0 in shape:
            alike = [each for each, (_, other) in given.items() if other == wanted]
            if len(alike) > 1:
                shapes = " and ".join(str(tuple(given[each][0].shape)) for each in alike)
                raise ValueError(
                    f"{' and '.join(alike)} must have one shape ({', '.join(dims)}), got {shapes}"
                )
            asked = ", ".join(str(known.get(dim, dim)) for dim in dims)
            raise ValueError(f"{name} must have shape ({asked}), got {shape}")
    return sizes


def check_values(low: float = -torch.inf, high: float = torch.inf, **given: Tensor) -> None:
    """Raise ValueError for a tensor that holds NaN, infinity, or what is outside of low..high; none
    may be empty.
    """
    for name, tensor in given.items():
        least, most = torch.aminmax(tensor.detach())
        # NaN is neither.
        if not (low <= least and most <= high and bool(least.isfinite()) and bool(most.isfinite())):
            among = "finite" if low == -torch.inf else f"finite numbers in {low:.3g}..{high:.3g}"
            raise ValueError(f"{name} must be {among}, got {least:.3g}..{most:.3g}")


def _is_of(tensor: Tensor, kind: str) -> bool:
    if kind == "float":
        return tensor.is_floating_point()
    if kind == "integers":
        return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return tensor.dtype == {"int64": torch.int64, "bool": torch.bool}[kind]
