"""Whether an explanation keeps the contract of `cfexp.explainers.base`: looked at once, where every
explainer passes, so that the author of a further one is told what was expected.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from cfexp.declaration import Column
from cfexp.errors import InputError
from cfexp.tensors import IMAGE_RANGE, check_shapes, check_values

_IMAGES, _LOGITS = "B 3 H W", "B K"


def check_explanation(
    explainer: str,
    count: int,
    images: Mapping[str, Tensor],
    logits: Mapping[str, Tensor],
    counter_class: Tensor,
    extras: Mapping[str, Tensor],
    columns: Sequence[Column],
    others: frozenset[str],
) -> None:
    """Look at what `explain` returned for `count` queries; one pass over its images.

    explainer: the name of its class. images: (B, 3, H, W) in [-1, 1], by name. logits: (B, K).
    columns: those that it declares; others: what every explainer may tell without declaring it.

    Raises InputError, in one line that names the class, what it returned and what was expected.
    """
    try:
        sizes = check_shapes(
            **{name: (image, _IMAGES) for name, image in images.items()},
            **{name: (values, _LOGITS) for name, values in logits.items()},
            counter_class=(counter_class, "B integers"),
        )
        if sizes["B"] != count:
            raise ValueError(f"{count} queries were given, got {sizes['B']} explanations")
        if "candidates" in extras:
            check_shapes(
                counterfactual=(images["counterfactual"], _IMAGES),
                candidates=(extras["candidates"], "B N 3 H W"),
            )
            images = {**images, "candidates": extras["candidates"]}
        low, high = IMAGE_RANGE
        check_values(low, high, **images)
        check_values(-math.inf, math.inf, **logits)
        _check_extras(count, extras, columns, others)
    except ValueError as error:
        raise InputError(f"{explainer}.explain: {error}") from None


def _check_extras(
    count: int, extras: Mapping[str, Tensor], columns: Sequence[Column], others: frozenset[str]
) -> None:
    declared = {column.name: column for column in columns}
    for name, values in extras.items():
        if name not in declared and name not in others:
            known = ", ".join(declared) or "none"
            raise ValueError(
                f"extras has {name!r}, which is no declared column ({known}): add "
                f"Column({name!r}, MEANING) to its `columns`"
            )
        if not isinstance(values, Tensor) or len(values.shape) == 0 or len(values) != count:
            came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"extras[{name!r}] must be a tensor of {count} rows, got {came}")
        if name in declared and values.ndim != 1 + len(declared[name].shape):
            shape = ", ".join(["B", *declared[name].shape])
            raise ValueError(f"extras[{name!r}] is declared ({shape}), got {tuple(values.shape)}")
