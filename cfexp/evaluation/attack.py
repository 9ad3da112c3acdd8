"""Is it an explanation or an attack? Whether counterfactuals convince a second model and survive what happens to
pictures, beside those of a pixel-space attack of equal success.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from cfexp.errors import InputError
from cfexp.evaluation.disturbances import blur, jpeg, projected_gradient, success_margin
from cfexp.evaluation.run_folder import Record, RunFolder, from_pixels, to_pixels
from cfexp.metrics.functional import edit_locality

Values = NDArray[np.float64]
COUNTERFACTUAL, PGD, QUERY = KINDS = ("counterfactual", "pgd", "query")
BATCH = 32
# Of the queries, so many may be decided otherwise than the run says: another machine rounds otherwise.
MAX_DISAGREEMENT = 0.02


class Decide(Protocol):
    """A model's decisions about queries of a run."""

    def __call__(self, images: Tensor, records: Sequence[Record]) -> Tensor:
        """Logits (B, K) of classes that exclude each other, of images (B, 3, H, W) in [-1, 1] and their B records."""


class Attack(NamedTuple):
    """What is asked of a run, and by whom."""

    explained: Decide  # the model that the run explained
    second: Decide  # one that was trained independently, for the same decision
    epsilons: Sequence[float] = (1, 2, 4, 8, 16, 32)  # of 255, ascending: the attack takes the first that suffices
    num_steps: int = 40
    jpeg_qualities: Sequence[int] = (75, 50)
    blur_sigmas: Sequence[float] = (1.0,)  # pixels
    max_queries: int = 200

    @property
    def disturbances(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What pictures go through, by name."""
        return {
            **{f"jpeg_{quality}": partial(jpeg, quality=quality) for quality in self.jpeg_qualities},
            **{f"blur_{sigma:g}": partial(blur, sigma=sigma) for sigma in self.blur_sigmas},
        }


class Figure(NamedTuple):
    """A metric of the attack block: its unit, what it counts, whether each value is 0 or 100; and the values (N,)."""

    unit: str
    counted: str
    is_rate: bool
    values: Values


class _Batch(NamedTuple):
    """B queries of a run that are asked about."""

    rows: list[int]
    records: list[Record]
    query: Tensor  # (B, 3, H, W) in [-1, 1]
    query_class: Tensor  # (B,)
    counter_class: Tensor  # (B,)

    def succeeds(self, decide: Decide, images: Tensor) -> NDArray[np.bool_]:
        """(B,) whether a model decides images as was asked for."""
        with torch.no_grad():
            logits = decide(images, self.records)
        found: NDArray[np.bool_] = (success_margin(logits, self.query_class, self.counter_class) > 0).numpy()
        return found

    def is_kept(self, decide: Decide, images: Tensor) -> NDArray[np.bool_]:
        """(B,) whether a model decides images as the explained one decided the queries."""
        with torch.no_grad():
            kept: NDArray[np.bool_] = (decide(images, self.records).argmax(1) == self.query_class).numpy()
        return kept


def attack_figures(
    run: RunFolder, records: Sequence[Record], member: NDArray[np.bool_], attack: Attack
) -> dict[str, Figure]:
    """The metrics of the attack block, each (N,), NaN where one means nothing; by name.

    Asked are the first `max_queries` of the N records in `member` that there is anything to explain of. `OF` is
    `counterfactual` (as the run stored it) or `pgd` (the smallest epsilon whose 8-bit images succeed as often as the
    run's; all queries are attacked with it):

    attack_OF_success: 8-bit images that the explained model decides as was asked for; the others are of these alone:
    attack_OF_rounding: those decided so in float that are in 8 bit, too.
    attack_OF_transfer: the second model decides so, too, where it decides the query as the explained one does.
    attack_OF_jpeg_Q, attack_OF_blur_S: it is still decided so after JPEG of quality Q, a Gaussian blur of S pixels.
    attack_OF_inside: the share of the change, as squared pixels, in the true cause (causal regions, or the object asked
    about); attack_OF_mostly_inside: whether it is more than half. A search's change is from its reconstruction.
    attack_query_...: the same of the untouched query, whose decision should stay what it is.
    attack_pgd_epsilon: of 255 grey levels.

    Raises InputError where the explained model decides the queries otherwise than the run says.
    """
    members = np.flatnonzero(member).tolist()
    rows = [row for row in members if _has_something_to_explain(records[row])][: attack.max_queries]
    if not rows:
        return {}
    batches = [_read(run, records, rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    _check_model(batches, attack)
    wanted = float(np.mean([records[row]["stored_success"] for row in rows]))
    epsilon, attacked = _attack_until(batches, attack, wanted)
    found: dict[str, dict[int, float]] = {}
    for batch, (float_success, pixels) in zip(batches, attacked, strict=True):
        counterfactual = run.images("counterfactual", _keys(batch))
        is_search = batch.records[0].get("code_distance") is not None
        start = run.images("reconstruction", _keys(batch)) if is_search else batch.query
        cause = _causes(run, batch)
        stored = np.array([record["stored_success"] for record in batch.records])
        float_ones = np.array([record["success"] for record in batch.records])
        for name, values in (
            *_judge(batch, counterfactual, stored, float_ones, attack, COUNTERFACTUAL),
            *_inside(start, counterfactual, stored, cause, COUNTERFACTUAL),
            *_judge_attacked(batch, from_pixels(pixels), float_success, cause, attack),
            *_judge_query(batch, attack),
            ("attack_pgd_epsilon", np.full(len(batch.rows), epsilon)),
        ):
            found.setdefault(name, {}).update(zip(batch.rows, values, strict=True))
    return {name: _figure(name, values, len(records)) for name, values in found.items()}


def _has_something_to_explain(record: Record) -> bool:
    kept = record.get("reconstruction_class") in (None, record["query_class"])
    return kept and record["query_class"] != record["counter_class"]


def _read(run: RunFolder, records: Sequence[Record], rows: list[int]) -> _Batch:
    chosen = [records[row] for row in rows]
    query = run.images("query", [record["key"] for record in chosen])
    classes = (torch.tensor([record[name] for record in chosen]) for name in ("query_class", "counter_class"))
    return _Batch(rows, chosen, query, *classes)


def _keys(batch: _Batch) -> list[int]:
    return [record["key"] for record in batch.records]


def _check_model(batches: Sequence[_Batch], attack: Attack) -> None:
    same = np.concatenate([batch.is_kept(attack.explained, batch.query) for batch in batches])
    if (~same).mean() > MAX_DISAGREEMENT:
        problem = f"decides {(~same).sum()} of {len(same)} queries otherwise than the run says"
        raise InputError(f"checkpoints.explained {problem}: give the checkpoint of the model that the run explained")


def _attack_until(
    batches: Sequence[_Batch], attack: Attack, wanted: float
) -> tuple[float, list[tuple[NDArray[np.bool_], NDArray[np.uint8]]]]:
    """The epsilon that succeeds on a share `wanted`, or the last; of each batch success in float and 8-bit pictures."""
    for epsilon in attack.epsilons:
        attacked = []
        successes = []
        for batch in track(batches, description=f"PGD, epsilon {epsilon:g}", transient=True):
            images = projected_gradient(
                partial(attack.explained, records=batch.records),
                batch.query,
                batch.query_class,
                batch.counter_class,
                epsilon=epsilon,
                num_steps=attack.num_steps,
            )
            pixels = to_pixels(images)
            attacked.append((batch.succeeds(attack.explained, images), pixels))
            successes.append(batch.succeeds(attack.explained, from_pixels(pixels)))
        if np.concatenate(successes).mean() >= wanted:
            break
    return epsilon, attacked


def _judge(
    batch: _Batch, images: Tensor, success: NDArray[np.bool_], in_float: NDArray[np.bool_], attack: Attack, kind: str
) -> Iterator[tuple[str, Values]]:
    agrees = batch.is_kept(attack.second, batch.query)
    yield f"attack_{kind}_success", _rate(success)
    yield f"attack_{kind}_rounding", _rate(success, among=in_float)
    yield f"attack_{kind}_transfer", _rate(batch.succeeds(attack.second, images), among=success & agrees)
    for name, disturb in attack.disturbances.items():
        yield f"attack_{kind}_{name}", _rate(batch.succeeds(attack.explained, disturb(images)), among=success)


def _judge_attacked(
    batch: _Batch, images: Tensor, in_float: NDArray[np.bool_], cause: Tensor, attack: Attack
) -> Iterator[tuple[str, Values]]:
    success = batch.succeeds(attack.explained, images)
    yield from _judge(batch, images, success, in_float, attack, PGD)
    yield from _inside(batch.query, images, success, cause, PGD)


def _judge_query(batch: _Batch, attack: Attack) -> Iterator[tuple[str, Values]]:
    yield "attack_query_transfer", _rate(batch.is_kept(attack.second, batch.query))
    for name, disturb in attack.disturbances.items():
        yield f"attack_query_{name}", _rate(batch.is_kept(attack.explained, disturb(batch.query)))


def _inside(
    start: Tensor, images: Tensor, success: NDArray[np.bool_], cause: Tensor, kind: str
) -> Iterator[tuple[str, Values]]:
    share = np.where(success, 100 * edit_locality(start, images, cause).double().numpy(), np.nan)
    yield f"attack_{kind}_inside", share
    yield f"attack_{kind}_mostly_inside", _rate(share > 50, among=~np.isnan(share))


def _causes(run: RunFolder, batch: _Batch) -> Tensor:
    """(B, 1, H, W) bool: where the true causes are; nowhere where they are not known."""
    masks = torch.zeros_like(batch.query[:, :1], dtype=torch.bool)
    regions = run.data.get("region_names", [])
    for row, record in enumerate(batch.records):
        layout = run.layout(record["key"])
        if record.get("truth") is not None and layout is not None:
            causes = [regions.index(name) for name in record["truth"]["causal_regions"]]
            masks[row, 0] = torch.from_numpy(np.isin(layout, causes))
        elif record.get("question") is not None and record.get("has_truth_mask"):
            masks[row] = run.masks([record["key"]])[0]
    return masks


def _rate(happened: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> Values:
    return np.where(True if among is None else among, 100.0 * happened, np.nan)


def _figure(name: str, found: dict[int, float], count: int) -> Figure:
    values = np.full(count, np.nan)
    values[list(found)] = list(found.values())
    if name == "attack_pgd_epsilon":
        return Figure("of 255", "queries asked about", False, values)
    kind, _, what = name.removeprefix("attack_").partition("_")
    if kind == QUERY or what == "success":
        return Figure("%", "queries asked about", True, values)
    counted = {
        "rounding": "successes in float",
        "transfer": "successes where both models decide the query alike",
        "inside": "successes with known causes",
        "mostly_inside": "successes with known causes",
    }
    return Figure("%", counted.get(what, "successes"), what != "inside", values)
