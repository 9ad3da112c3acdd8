"""The contract between explaining and everything after it."""

import time
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor


class Explanation(NamedTuple):
    """What every explainer returns for a batch of B query images."""

    query: Tensor  # (B, 3, H, W) float in [-1, 1]
    reconstruction: Tensor  # (B, 3, H, W) the query through the explainer with no edit: the floor of every metric
    counterfactual: Tensor  # (B, 3, H, W) in [-1, 1]
    query_logits: Tensor  # (B, K) of the model that is explained, on the query
    counterfactual_logits: Tensor  # (B, K) on the counterfactual
    counter_class: Tensor  # (B,) int64, the class asked for; -1 = any but the original
    # What this explainer tells beyond that, each (B, ...); `candidates` (B, N, 3, H, W) are further counterfactuals.
    extras: dict[str, Tensor]


class Explainer(LightningModule):
    """Something that turns queries into explanations. A subclass implements `explain` and `logits`."""

    def explain(self, batch: Any) -> Explanation:
        """Explain a batch of B queries."""
        raise NotImplementedError

    def logits(self, image: Tensor, batch: Any) -> Tensor:
        """Logits (B, K) of the model that is explained, on other images (B, 3, H, W) for the same batch."""
        raise NotImplementedError

    def keys(self, batch: Any) -> Tensor:
        """(B,) int64: what tells each query of the data set from every other."""
        raise NotImplementedError

    def class_name(self, index: int) -> str:
        """What class `index` of the model that is explained is called; the data set's name, unless overridden."""
        name: str = self.trainer.datamodule.class_name(index)  # type: ignore[attr-defined]
        return name

    def predict_step(self, batch: Any, batch_idx: int) -> Explanation:
        """Explain, round the counterfactuals to 8 bit as they will be stored, and ask the model again.

        The extras gain `key` (B,) and `stored_logits` (B, K): success is what survives being written to disk; and
        `seconds` (B,), what `explain` took, shared alike among the batch. With `candidates` they gain
        `candidate_stored_logits` (B, N, K), too.
        """
        start = time.perf_counter()
        explanation = self.explain(batch)
        if explanation.counterfactual.is_cuda:
            torch.cuda.synchronize()  # else the kernels would only have been sent off
        key = self.keys(batch)
        seconds = torch.full((len(key),), (time.perf_counter() - start) / len(key), dtype=torch.float64)
        stored = eight_bit(explanation.counterfactual)
        stored_logits = self.logits(stored, batch)
        extras = {**explanation.extras, "key": key, "seconds": seconds, "stored_logits": stored_logits}
        if "candidates" in extras:
            extras["candidates"] = eight_bit(extras["candidates"])
            logits = [self.logits(candidate, batch) for candidate in extras["candidates"].unbind(1)]
            extras["candidate_stored_logits"] = torch.stack(logits, dim=1)
        return explanation._replace(counterfactual=stored, extras=extras)


def eight_bit(image: Tensor) -> Tensor:
    """Images in [-1, 1] on the 256 levels of a PNG, still in [-1, 1]."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
