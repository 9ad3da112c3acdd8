"""Somebody else's counterfactuals as explanations: a decision model is asked about them, and
nothing is changed.
"""

from typing import Any

import torch

from cfexp.data.base import QueryDataModule
from cfexp.data.batch import ImportedBatch
from cfexp.declaration import RECONSTRUCTION_CLASS, Column, Declaration, Shown, Start
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation
from cfexp.explainers.classifier import ClassifierExplainer

_REPORTED = (
    Column(
        "reported_success",
        "whether who made it counts it as a success (ACE's CCF); -1 = not known",
        summary="rate",
        counted="counterfactuals with a reported outcome",
        known_from=0,
        shown=Shown("% success\nas reported", sweep=False),
    ),
    Column(
        "outcome_agrees",
        "whether the decision model sees success or failure as it is reported; -1 = not known",
        summary="rate",
        counted="counterfactuals with a reported outcome",
        known_from=0,
        shown=Shown("% of these\nwe agree", sweep=False),
    ),
    Column(
        "decision_agrees",
        "whether the decision model decides the query as is reported; -1 = not known",
        summary="rate",
        counted="queries with a reported decision",
        known_from=0,
    ),
)
_PIXELS = "only 8-bit images were imported"
_WITHOUT = {
    "reconstruction": "no reconstructions were imported",
    "success_float": _PIXELS,
    "code_distance": "imported images come without codes",
    "regions_changed": "imported images come without label maps",
}


class Imported(ClassifierExplainer):
    """Takes what a data module of imported images gives, see `cfexp.data.imported`.

    method: what the one that made them is called. starts_from: what its edits started from; None =
    the reconstruction where there are any. The class that was asked for is what the images' maker
    says, else `counter_class`; else of two classes the other one, and of more any other.
    """

    called = "imported images"
    columns = (RECONSTRUCTION_CLASS, *_REPORTED)

    def __init__(
        self, *, method: str | None = None, starts_from: Start | None = None, **settings: Any
    ) -> None:
        """Raises InputError as `ClassifierExplainer`, and for another start."""
        super().__init__(**settings)
        if starts_from not in (None, "query", "reconstruction"):
            raise InputError(f"starts_from must be query or reconstruction, got {starts_from!r}")
        self.called, self._start = method or self.called, starts_from
        self._reconstructs = True

    def settle(self, data: QueryDataModule) -> None:
        """Declare what the data have; raises InputError for a start that they lack."""
        super().settle(data)
        self._reconstructs = bool(getattr(data, "has_reconstructions", False))
        if self._start == "reconstruction" and not self._reconstructs:
            raise InputError("starts_from=reconstruction: give reconstruction=DIR, too")
        self.starts_from = self._start or ("reconstruction" if self._reconstructs else "query")
        from_it = (RECONSTRUCTION_CLASS,) if self.starts_from == "reconstruction" else ()
        self.columns = (*from_it, *(_REPORTED if getattr(data, "has_reports", False) else ()))

    @property
    def declaration(self) -> Declaration:
        """As always, and what imported images lack."""
        lacks = dict(_WITHOUT)
        if self._reconstructs:
            del lacks["reconstruction"]
        return super().declaration._replace(without=lacks)

    @torch.no_grad()
    def explain(self, batch: ImportedBatch) -> Explanation:
        """The batch as it is, with what the decision model says of it.

        Raises InputError for a class asked for that the decision model does not have.
        """
        query_logits = self.logits(batch.image, batch)
        query_class, classes = query_logits.argmax(1), query_logits.shape[1]
        if self.counter_class is not None:
            usual = self.asked_for(self.decide(batch.image))
        else:
            usual = 1 - query_class if classes == 2 else torch.full_like(query_class, -1)
        if (most := int(batch.counter_class.max())) >= classes:
            problem = f"class {most} was asked for, the decision model knows 0..{classes - 1}"
            raise InputError(f"{problem}: who decides must know the classes of who made the images")
        asked = torch.where(batch.counter_class >= 0, batch.counter_class, usual)
        logits = self.logits(batch.counterfactual, batch)
        found = logits.argmax(1)
        success = torch.where(asked < 0, found != query_class, found == asked)
        told, decided = batch.reported_success, batch.reported_query_class
        extras = {
            "reconstruction_class": self.logits(batch.reconstruction, batch).argmax(1),
            "reported_success": told,
            "outcome_agrees": torch.where(told < 0, -1, (success == (told > 0)).long()),
            "decision_agrees": torch.where(decided < 0, -1, (query_class == decided).long()),
        }
        declared = {column.name for column in self.columns}
        if batch.candidates.shape[1]:
            extras["candidates"], declared = batch.candidates, declared | {"candidates"}
        return Explanation(
            query=batch.image,
            reconstruction=batch.reconstruction,
            counterfactual=batch.counterfactual,
            query_logits=query_logits,
            counterfactual_logits=logits,
            counter_class=asked,
            extras={name: values for name, values in extras.items() if name in declared},
        )
