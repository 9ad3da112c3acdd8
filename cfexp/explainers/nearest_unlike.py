"""The nearest unlike neighbour: the training image most like the query that the model decides
otherwise.

It is the oldest counterfactual (Dasarathy 1995, "Nearest unlike neighbor (NUN)"): a real image, but
of another scene.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cfexp.data.base import QueryDataModule
from cfexp.data.batch import ImageBatch
from cfexp.declaration import Column, Shown
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation
from cfexp.explainers.classifier import ClassifierExplainer
from cfexp.models.loading.pretrained import freeze

AT_ONCE = 64  # training images


class NearestUnlike(ClassifierExplainer):
    """Looks through the training images of the data module, by the l2 distance of their pixels or
    of an embedding.

    Args:
        embedding: images (B, 3, H, W) in [-1, 1] -> (B, D), frozen here; None = the pixels.
        max_train_images: look through the first so many; None = all.
        settings: see `ClassifierExplainer`.

    Raises:
        InputError: for fewer than one training image; and where none is decided as was asked for.

    """

    called = "nearest unlike"
    columns = (
        Column("neighbor", "the place of the training image in its part of the data"),
        Column(
            "neighbor_distance",
            "l2, of pixels in [-1, 1] or of the embedding",
            summary="mean",
            counted="queries",
            shown=Shown("distance", 2, panel="distance of the neighbour"),
        ),
    )

    def __init__(
        self,
        *,
        embedding: nn.Module | None = None,
        max_train_images: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if max_train_images is not None and max_train_images < 1:
            raise InputError(
                f"explainer.max_train_images must be at least 1, got {max_train_images}"
            )
        self.embedding, self.max_train_images = (
            None if embedding is None else freeze(embedding),
            max_train_images,
        )
        self._dataset: Any = None
        # (N,) int64, what the decision model says of each training image
        self._classes: Tensor | None = None

    def settle(self, data: QueryDataModule) -> None:
        """Take the training images of the data module; raises InputError for what is wrong with
        their files.
        """
        super().settle(data)
        self._dataset = data.dataset("train")

    def explain(self, batch: ImageBatch) -> Explanation:
        """One training image for each image of the batch."""
        logits = self.decide(batch.image)
        query_logits, counter_class = self.exclusive(logits), self.asked_for(logits)
        place, distance = self._nearest(self._seen(batch.image), counter_class)
        found = torch.cat([self._dataset[index].image for index in place.tolist()]).to(batch.image)
        return Explanation(
            query=batch.image,
            reconstruction=batch.image,
            counterfactual=found,
            query_logits=query_logits,
            counterfactual_logits=self.logits(found, batch),
            counter_class=counter_class,
            extras={"neighbor": place, "neighbor_distance": distance},
        )

    def _nearest(self, query: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Of B queries (B, D) the place and the distance, both (B,), of the nearest image of the
        class `wanted`.
        """
        if self._classes is None:
            self._classes = torch.cat(
                [self.logits(image, None).argmax(1) for image in self._train_images()]
            )
        if missing := set(wanted.tolist()) - set(self._classes.tolist()):
            asked = f"{self.class_name(missing.pop())!r}, which is asked for"
            raise InputError(f"none of the {len(self._classes)} training images is decided {asked}")
        distance = query.new_full((len(query),), torch.inf)
        place, start = torch.zeros_like(wanted), 0
        for image in self._train_images():
            unlike = self._classes[start : start + len(image)] != wanted[:, None]
            apart = torch.cdist(query, self._seen(image)).masked_fill(unlike, torch.inf)
            nearest, row = apart.min(1)
            place = torch.where(nearest < distance, start + row, place)
            distance, start = torch.minimum(distance, nearest), start + len(image)
        return place, distance

    def _seen(self, image: Tensor) -> Tensor:
        see: Callable[[Tensor], Tensor] = (
            torch.nn.Identity() if self.embedding is None else self.embedding
        )
        return see(image).flatten(1)

    def _train_images(self) -> Iterator[Tensor]:
        """The training images in their order, (N, 3, H, W) at a time."""
        count = min(len(self._dataset), self.max_train_images or len(self._dataset))
        for start in range(0, count, AT_ONCE):
            rows = range(start, min(start + AT_ONCE, count))
            yield torch.cat([self._dataset[row].image for row in rows]).to(self.device)
