"""What explainers of image classifiers share: the decision that is explained, and the class that is
asked for.
"""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from cfexp import losses
from cfexp.data.batch import ImageBatch
from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.models.loading.pretrained import freeze


class ClassifierExplainer(Explainer):
    """Explains the decisions of a classifier, whose results are told by direction; a subclass
    implements `explain`.

    decision_model: images (B, 3, H, W) in [-1, 1] -> logits (B, K); explained, and frozen here.
    head: which of K binary heads is explained; None = the only one (K = 1), or K classes that
        exclude each other.
    class_names: of a head's decision below and above 0, or of the K classes.
    label: the label of the data set that the decision is about, if there is one: declared, for
        whoever scores.
    counter_class: what to ask for, by name or number; None = the other decision, or the second most
        probable class.
    """

    by_direction = True

    def __init__(
        self,
        decision_model: nn.Module,
        head: int | None = None,
        class_names: Sequence[str] | None = None,
        counter_class: str | int | None = None,
        label: str | None = None,
    ) -> None:
        """Raises InputError for a counter class that there is not."""
        super().__init__()
        self.decision_model = freeze(decision_model)
        self.head, self.label = head, label
        self.class_names = None if class_names is None else list(class_names)
        self.ask_for(counter_class)

    @property
    def declaration(self) -> Declaration:
        """As always, with the decision's names."""
        return super().declaration._replace(
            class_names=tuple(self.class_names or ()), label=self.label
        )

    def ask_for(self, counter_class: str | int | None) -> None:
        """Choose the counter class, as in the constructor; raises InputError where there is no such
        class.
        """
        names = self.class_names
        if isinstance(counter_class, str):
            if counter_class not in (names or []):
                raise InputError(f"counter_class={counter_class!r} is none of the classes {names}")
            assert names is not None
            counter_class = names.index(counter_class)
        if counter_class is not None:
            if isinstance(counter_class, bool) or not isinstance(counter_class, SupportsIndex):
                raise InputError(
                    f"counter_class must be a name or a whole number, got {counter_class!r}"
                )
            counter_class = operator.index(counter_class)
        if (
            counter_class is not None
            and names is not None
            and counter_class not in range(len(names))
        ):
            raise InputError(
                f"counter_class={counter_class} is none of the classes 0..{len(names) - 1}: {names}"
            )
        self.counter_class = counter_class

    def class_name(self, index: int) -> str:
        """What decision `index` is called."""
        return str(index) if self.class_names is None else self.class_names[index]

    @torch.no_grad()
    def logits(self, image: Tensor, batch: Any) -> Tensor:
        """Logits (B, 2) of a head, or (B, K), on other images."""
        return self.exclusive(self.decide(image))

    def keys(self, batch: ImageBatch) -> Tensor:
        """The places of the images in the part that is explained."""
        return batch.key

    def asked_for(self, query_logits: Tensor) -> Tensor:
        """(B,) int64, the class that is asked for of each query.

        query_logits: (B, K) of `decide`. Raises InputError for a counter class that the decision
        model does not have.
        """
        if self.counter_class is None:
            return counter_class_of(query_logits, self.head)
        if self.counter_class not in range(classes := self.exclusive(query_logits).shape[1]):
            raise InputError(
                f"counter_class={self.counter_class} is none of the classes 0..{classes - 1}"
            )
        return torch.full((len(query_logits),), self.counter_class, device=query_logits.device)

    def decide(self, image: Tensor) -> Tensor:
        """The decision model's logits (B, K), in the images' dtype: under autocast its own is
        another.
        """
        logits: Tensor = self.decision_model(image)
        return logits.to(image.dtype)

    def exclusive(self, logits: Tensor) -> Tensor:
        """The logits of classes that exclude each other: of a head 0 and its own."""
        return losses.exclusive_logits(logits, self.head)


def counter_class_of(logits: Tensor, head: int | None = None) -> Tensor:
    """(B,) int64: the class to ask for, from the query's own decision.

    A binary head's other side; of classes that exclude each other the second most probable.
    logits: (B, K). head: as in `losses.decision_loss`.
    """
    if head is None and logits.shape[1] > 1:
        return logits.topk(2, dim=1).indices[:, 1]
    return (logits[:, head or 0] < 0).long()
