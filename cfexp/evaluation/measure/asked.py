"""How near the decision model's probabilities come to what was asked for."""

import numpy as np
import torch

from cfexp.evaluation.measure.base import SUCCESSES, Chunk, Facts, Measure, Values
from cfexp.metrics.divergences import bounded_kl

LOGITS = "stored_logits"


def bkl() -> Measure:
    """BKL: 1 - exp(-KL) of the stored counterfactual's probabilities from the class asked for,
    which is asked for with certainty; see `bounded_kl`.
    """

    def apart(chunk: Chunk) -> Values:
        found = np.full(len(chunk.records), np.nan)
        for row, record in enumerate(chunk.records):
            logits, asked = record.get(LOGITS), record.get("counter_class", -1)
            if logits is not None and asked >= 0:
                wanted = torch.eye(len(logits))[asked][None]
                found[row] = float(bounded_kl(wanted, torch.tensor(logits)[None]))
        return found

    def is_told(facts: Facts) -> bool:
        asks = any(record.get("counter_class", -1) >= 0 for record in facts.records)
        return asks and facts.some_have(LOGITS)

    counted = "queries with logits and a class asked for"
    return Measure("bkl", apart, counted=counted, needs=is_told, also=(SUCCESSES,))
