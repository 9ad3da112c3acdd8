"""The contract between explaining and everything after it."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor

from cfexp.data.base import QueryDataModule, data_of
from cfexp.declaration import Column, Declaration, Start
from cfexp.errors import InputError
from cfexp.explainers.contract import check_explanation
from cfexp.explainers.memory import (
    check_budget,
    is_out_of_memory,
    memory_at_hand,
    memory_taken,
    queries_that_fit,
)

_log = logging.getLogger(__name__)


class Explanation(NamedTuple):
    """What every explainer returns for a batch of B query images."""

    query: Tensor  # (B, 3, H, W) float in [-1, 1]
    # (B, 3, H, W) the query through the explainer with no edit: the floor of every metric.
    reconstruction: Tensor
    counterfactual: Tensor  # (B, 3, H, W) in [-1, 1]
    query_logits: Tensor  # (B, K) of the model that is explained, on the query
    counterfactual_logits: Tensor  # (B, K) on the counterfactual
    counter_class: Tensor  # (B,) int64, the class asked for; -1 = any but the original
    # What this explainer tells beyond that, each (B, ...): the columns that it declares,
    # `label_map` (B, H, W), and `candidates` (B, N, 3, H, W), further counterfactuals.
    extras: dict[str, Tensor]


# What `predict_step` adds to an explanation's extras, beside the columns that an explainer
# declares.
OF_EVERY_EXPLAINER = frozenset(
    {
        "key",
        "seconds",
        "stored_logits",
        "label_map",
        "candidates",
        "candidate_stored_logits",
    }
)


class Explainer(LightningModule):
    """Something that turns queries into explanations. A subclass implements `explain`, `logits` and
    `keys`.

    called, starts_from, columns, by_direction: what it declares of itself, see `Declaration`.
    """

    called: str = ""
    starts_from: Start = "query"
    columns: tuple[Column, ...] = ()
    by_direction: bool = False
    # no more queries of a batch than so many are explained at once; None = not known yet
    at_once: int | None = None
    # So many of a batch as fit into it are explained at once: bytes, "8GiB", "auto"; None = the
    # whole batch.
    memory_budget: str | int | None = None

    # whether a query's label map is part of it: that of the batch, or one that is predicted
    needs_label_map = False
    regions: list[str] | None = None  # the names of those that may change; None = all of the image
    counter_class: int | None = None  # what is asked for; None or -1 = another than the present one

    @property
    def declaration(self) -> Declaration:
        """What is stored in the run folder for everything that comes after; raises InputError for
        an explainer that does not say what it is called.
        """
        if not self.called:
            example = 'expected what people call the method, such as called = "PGD"'
            raise InputError(f"{type(self).__name__}.called is empty: {example}")
        return Declaration(self.called, self.starts_from, self.columns, self.by_direction)

    def explain(self, batch: Any) -> Explanation:
        """Explain a batch of B queries."""
        raise NotImplementedError

    def logits(self, image: Tensor, batch: Any) -> Tensor:
        """Logits (B, K) of the model that is explained, on other images (B, 3, H, W) for the same
        batch.
        """
        raise NotImplementedError

    def keys(self, batch: Any) -> Tensor:
        """(B,) int64: what tells each query of the data set from every other."""
        raise NotImplementedError

    def settle(self, data: QueryDataModule) -> None:
        """Look up in the data module what the settings name; raises InputError for what is not
        there.

        A Trainer's `setup` calls it, and so does who explains without one. A subclass goes on from
        here.
        """
        self._data = data

    def setup(self, stage: str) -> None:
        """Settle the settings; raises as `settle`."""
        self.settle(data_of(self))

    def class_name(self, index: int) -> str:
        """What class `index` of the model that is explained is called; the data set's name, unless
        overridden.
        """
        name: str = self._data.class_name(index)
        return name

    def ask_for(self, counter_class: str | int | None) -> None:
        """Choose what is asked for, by name or number; raises InputError where that cannot be
        chosen any more.
        """
        if counter_class != self.counter_class:
            problem = f"{type(self).__name__} asks for what it was made for"
            raise InputError(f"counter_class={counter_class!r}: {problem}")

    def let_change(self, regions: Sequence[str] | None, region_names: Sequence[str]) -> None:
        """Choose the regions that may change; raises InputError where none can be chosen."""
        if regions is not None:
            problem = f"{type(self).__name__} changes whole images, whatever is in them"
            raise InputError(f"regions={regions!r}: {problem}")

    def trained_state(self) -> dict[str, Tensor]:
        """The weights that a training leaves, by name: all but those that have a checkpoint of
        their own.
        """
        checkpoint: dict[str, Any] = {"state_dict": self.state_dict()}
        self.on_save_checkpoint(checkpoint)
        return dict(checkpoint["state_dict"])

    def explain_briefly(self, batch: Any) -> object:
        """Take as much memory as explaining a batch takes at its peak, in as little time;
        `explain`, by default.
        """
        return self.explain(batch)

    def queries_that_fit(self, batch: Any) -> int:
        """How many queries such as a batch's are explained at once: as many as `memory_budget`
        allows.

        Raises InputError for a budget that is too small for one.
        """
        if self.memory_budget is None:
            return sys.maxsize
        weights = [*self.parameters(), *self.buffers()]
        budget = check_budget(self.memory_budget) or memory_at_hand(weights, self.device)

        def taken(queries: int) -> int:
            few = queries_of(batch, [row % len(self.keys(batch)) for row in range(queries)])
            return memory_taken(lambda: self.explain_briefly(few), weights, self.device)

        fitting = queries_that_fit(taken, budget)
        _log.info("memory_budget=%s: up to %d queries at once", self.memory_budget, fitting)
        return fitting

    def predict_step(self, batch: Any, batch_idx: int) -> Explanation:
        """Explain, round the counterfactuals to 8 bit as they will be stored, and ask the model
        again.

        The extras gain `key` (B,) and `stored_logits` (B, K): success is what survives being
        written to disk; and `seconds` (B,), what `explain` took, shared alike among those that were
        explained at once. With `candidates` they gain `candidate_stored_logits` (B, N, K), too.

        Where memory ends, half as many are explained at once from there on. A batch is a named
        tuple.

        Raises InputError for an explanation that does not keep the contract: of other shapes, out
        of range, not finite, or with extras that the explainer does not declare.
        """
        count, done = len(self.keys(batch)), 0
        parts: list[Explanation] = []
        if self.at_once is None:
            self.at_once = self.queries_that_fit(batch)
        while done < count or not parts:
            rows = range(done, min(done + self.at_once, count))
            try:
                parts.append(
                    self._predict(batch if len(rows) == count else queries_of(batch, rows))
                )
                done += len(rows)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(rows) < 2 or not is_out_of_memory(error):
                    raise
            # Here, where the error no longer keeps what was allocated.
            self.at_once = len(rows) // 2
            _log.warning("out of memory: goes on with %d queries at once", self.at_once)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _predict(self, batch: Any) -> Explanation:
        start = time.perf_counter()
        explanation = self.explain(batch)
        if explanation.counterfactual.is_cuda:
            torch.cuda.synchronize()  # else the kernels would only have been sent off
        taken = time.perf_counter() - start
        key = self.keys(batch)
        kept = explanation._asdict()
        check_explanation(
            type(self).__name__,
            len(key),
            {name: kept[name] for name in ("query", "reconstruction", "counterfactual")},
            {name: kept[name] for name in ("query_logits", "counterfactual_logits")},
            explanation.counter_class,
            explanation.extras,
            self.columns,
            OF_EVERY_EXPLAINER,
        )
        seconds = torch.full((len(key),), taken / len(key), dtype=torch.float64)
        stored = eight_bit(explanation.counterfactual)
        stored_logits = self.logits(stored, batch)
        extras = {
            **explanation.extras,
            "key": key,
            "seconds": seconds,
            "stored_logits": stored_logits,
        }
        if "candidates" in extras:
            extras["candidates"] = eight_bit(extras["candidates"])
            logits = [self.logits(candidate, batch) for candidate in extras["candidates"].unbind(1)]
            extras["candidate_stored_logits"] = torch.stack(logits, dim=1)
        return explanation._replace(counterfactual=stored, extras=extras)


def queries_of(batch: Any, rows: Sequence[int]) -> Any:
    """Some queries of a batch, whose columns are tensors and tuples."""
    chosen = list(rows)
    columns = (
        column[chosen]
        if isinstance(column, Tensor)
        else tuple(column[row] for row in chosen if column)
        for column in batch
    )
    return type(batch)(*columns)


def _joined(parts: list[Explanation]) -> Explanation:
    names = [name for name in Explanation._fields if name != "extras"]
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    extras = {name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras}
    return Explanation(**columns, extras=extras)


def eight_bit(image: Tensor) -> Tensor:
    """Images in [-1, 1] on the 256 levels of a PNG, still in [-1, 1]."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
