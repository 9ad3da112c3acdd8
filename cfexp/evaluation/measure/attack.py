"""Is it an explanation or an attack? Whether counterfactuals convince a second model and survive
what happens to pictures, beside those of a pixel-space attack of equal success.
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
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.disturbances import blur, jpeg
from cfexp.evaluation.measure.base import (
    Cell,
    Facts,
    Family,
    Measure,
    Members,
    Values,
    of_rows,
    rate,
)
from cfexp.evaluation.run_folder import Record, RunFolder, from_pixels, to_pixels
from cfexp.metrics.functional import edit_locality
from cfexp.pixel_attack import projected_gradient, success_margin

COUNTERFACTUAL, PGD, QUERY = KINDS = ("counterfactual", "pgd", "query")
TABLE, ASKED, NON_ADVERSARIAL = "attack", "queries asked about", "non_adversarial_rate"
BATCH = 32
# Of the queries, so many may be decided otherwise than the run says: another machine rounds
# otherwise.
MAX_DISAGREEMENT = 0.02


class Decide(Protocol):
    """A model's decisions about queries of a run."""

    def __call__(self, images: Tensor, records: Sequence[Record]) -> Tensor:
        """Logits (B, K) of classes that exclude each other, of images (B, 3, H, W) in [-1, 1] and
        their B records.
        """


class Attack(NamedTuple):
    """What is asked of a run, and by whom."""

    explained: Decide  # the model that the run explained
    second: (
        Decide | None
    )  # one that was trained independently, for the same decision; None = see `no_second`
    epsilons: Sequence[float] = (
        1,
        2,
        4,
        8,
        16,
        32,
    )  # of 255, ascending: the attack takes the first that suffices
    num_steps: int = 40
    jpeg_qualities: Sequence[int] = (75, 50)
    blur_sigmas: Sequence[float] = (1.0,)  # pixels
    max_queries: int = 200
    no_second: str = ""  # why there is none
    student: Decide | None = None  # distilled from the explained model; None = not asked

    @property
    def disturbances(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What pictures go through, by name."""
        return {
            **{
                f"jpeg_{quality}": partial(jpeg, quality=quality) for quality in self.jpeg_qualities
            },
            **{f"blur_{sigma:g}": partial(blur, sigma=sigma) for sigma in self.blur_sigmas},
        }


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
        found: NDArray[np.bool_] = (
            success_margin(logits, self.query_class, self.counter_class) > 0
        ).numpy()
        return found

    def is_kept(self, decide: Decide, images: Tensor) -> NDArray[np.bool_]:
        """(B,) whether a model decides images as the explained one decided the queries."""
        with torch.no_grad():
            kept: NDArray[np.bool_] = (
                decide(images, self.records).argmax(1) == self.query_class
            ).numpy()
        return kept


class _Made(NamedTuple):
    """What was made of the B queries of a batch, to be decided otherwise."""

    kind: str
    start: Tensor  # (B, 3, H, W), what was changed
    images: Tensor  # (B, 3, H, W), in 8 bit
    success: NDArray[np.bool_]  # (B,) of those
    in_float: NDArray[np.bool_]  # (B,) success before they were rounded


def measures(attack: Attack) -> Family:
    """The measures of the attack block, which are made of a run at once.

    Asked are the first `max_queries` of the headline group that there is anything to explain of.
    `OF` is `counterfactual` (as the run stored it) or `pgd` (the smallest epsilon whose 8-bit
    images succeed as often as the run's; all queries are attacked with it):

    attack_OF_success: 8-bit images that the explained model decides as was asked for; the others
    are of these alone:
    attack_OF_rounding: those decided so in float that are in 8 bit, too.
    attack_OF_transfer: the second model decides so, too, where it decides the query as the
    explained one does.
    attack_OF_non_adversarial_rate: the student of the explained model decides so, too, and not so
    about the query; see `cfexp.evaluation.measure.student`.
    attack_OF_jpeg_Q, attack_OF_blur_S: it is still decided so after JPEG of quality Q, a Gaussian
    blur of S pixels.
    attack_OF_inside: the share of the change, as squared pixels, in the true cause (causal regions,
    or the object asked about); attack_OF_mostly_inside: whether it is more than half. The change is
    from what the edit started from: see `Declaration`.
    attack_query_...: the same of the untouched query, whose decision should stay what it is.
    attack_pgd_epsilon: of 255 grey levels.

    Without a second model there is no `transfer`, and without a student no `non_adversarial_rate`.

    Raises InputError where the explained model decides the queries otherwise than the run says.
    """

    def of_run(facts: Facts) -> Iterator[Measure]:
        for name, found in _attack(facts.run, facts.records, facts.headline, attack).items():
            values = np.full(len(facts.records), np.nan)
            values[list(found)] = list(found.values())
            yield _measure(name, values)
        if attack.second is None:
            for kind in KINDS:
                yield _measure(f"attack_{kind}_transfer", None)._replace(missing=attack.no_second)

    return of_run


def _attack(
    run: RunFolder, records: Sequence[Record], member: Members, attack: Attack
) -> dict[str, dict[int, float]]:
    """By name of a measure, the value of each row that was asked about."""
    members = np.flatnonzero(member).tolist()
    rows = [row for row in members if has_something_to_explain(records[row])][: attack.max_queries]
    if not rows:
        return {}
    batches = [
        _read(run, records, rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)
    ]
    _check_model(batches, attack)
    explained = [_counterfactuals(run, batch) for batch in batches]
    epsilon, attacked = _attack_until(batches, attack, wanted=_success_rate(explained))
    found: dict[str, dict[int, float]] = {}
    for batch, *both in zip(batches, explained, attacked, strict=True):
        cause = _causes(run, batch)
        judged = [value for made in both for value in _judge(batch, made, cause, attack)]
        constant = ("attack_pgd_epsilon", np.full(len(batch.rows), epsilon))
        for name, values in (*judged, *_judge_queries(batch, attack), constant):
            found.setdefault(name, {}).update(zip(batch.rows, values, strict=True))
    return found


def _read(run: RunFolder, records: Sequence[Record], rows: list[int]) -> _Batch:
    chosen = [records[row] for row in rows]
    query = run.images("query", [record["key"] for record in chosen])
    classes = (
        torch.tensor([record[name] for record in chosen])
        for name in ("query_class", "counter_class")
    )
    return _Batch(rows, chosen, query, *classes)


def _counterfactuals(run: RunFolder, batch: _Batch) -> _Made:
    keys = [record["key"] for record in batch.records]
    success, in_float = (
        np.array([record[name] for record in batch.records], dtype=bool)
        for name in ("stored_success", "success")
    )
    if "success_float" in run.declaration.without:
        in_float = np.zeros_like(success)  # so that nothing is said of rounding
    start = (
        batch.query
        if run.declaration.starts_from == "query"
        else run.images("reconstruction", keys)
    )
    return _Made(COUNTERFACTUAL, start, run.images("counterfactual", keys), success, in_float)


def _success_rate(made: Sequence[_Made]) -> float:
    return float(np.concatenate([each.success for each in made]).mean())


def _check_model(batches: Sequence[_Batch], attack: Attack) -> None:
    same = np.concatenate([batch.is_kept(attack.explained, batch.query) for batch in batches])
    if (~same).mean() > MAX_DISAGREEMENT:
        problem = f"decides {(~same).sum()} of {len(same)} queries otherwise than the run says"
        remedy = "give the checkpoint of the model that the run explained"
        raise InputError(f"checkpoints.explained {problem}: {remedy}")


def _attack_until(
    batches: Sequence[_Batch], attack: Attack, wanted: float
) -> tuple[float, list[_Made]]:
    """The first epsilon whose 8-bit images succeed on a share `wanted` of the queries, or the last;
    and the images.
    """
    for epsilon in attack.epsilons:
        made = []
        for batch in track(batches, description=f"PGD, epsilon {epsilon:g}", transient=True):
            exact = projected_gradient(
                partial(attack.explained, records=batch.records),
                batch.query,
                batch.query_class,
                batch.counter_class,
                epsilon=epsilon,
                num_steps=attack.num_steps,
            )
            images = from_pixels(to_pixels(exact))
            success, in_float = (batch.succeeds(attack.explained, each) for each in (images, exact))
            made.append(_Made(PGD, batch.query, images, success, in_float))
        if _success_rate(made) >= wanted:
            break
    return epsilon, made


def _judge(
    batch: _Batch, made: _Made, cause: Tensor, attack: Attack
) -> Iterator[tuple[str, Values]]:
    start = f"attack_{made.kind}_"
    yield f"{start}success", rate(made.success)
    yield f"{start}rounding", rate(made.success, among=made.in_float)
    if attack.second is not None:
        alike = batch.is_kept(attack.second, batch.query)
        yield (
            f"{start}transfer",
            rate(batch.succeeds(attack.second, made.images), among=made.success & alike),
        )
    if attack.student is not None:
        before, after = (
            batch.succeeds(attack.student, each) for each in (batch.query, made.images)
        )
        yield f"{start}{NON_ADVERSARIAL}", rate(after & ~before, among=made.success)
    for name, disturb in attack.disturbances.items():
        survives = batch.succeeds(attack.explained, disturb(made.images))
        yield f"{start}{name}", rate(survives, among=made.success)
    share = 100 * edit_locality(made.start, made.images, cause).double().numpy()
    share[~made.success] = np.nan
    yield f"{start}inside", share
    yield f"{start}mostly_inside", rate(share > 50, among=~np.isnan(share))


def _judge_queries(batch: _Batch, attack: Attack) -> Iterator[tuple[str, Values]]:
    if attack.second is not None:
        yield f"attack_{QUERY}_transfer", rate(batch.is_kept(attack.second, batch.query))
    if attack.student is not None:
        yield (
            f"attack_{QUERY}_{NON_ADVERSARIAL}",
            rate(batch.is_kept(attack.student, batch.query)),
        )
    for name, disturb in attack.disturbances.items():
        yield f"attack_{QUERY}_{name}", rate(batch.is_kept(attack.explained, disturb(batch.query)))


def _causes(run: RunFolder, batch: _Batch) -> Tensor:
    """(B, 1, H, W) bool: where the true causes are; nowhere where they are not known."""
    masks = torch.zeros_like(batch.query[:, :1], dtype=torch.bool)
    regions = run.data.get("region_names", [])
    for row, record in enumerate(batch.records):
        label_map = run.label_map(record["key"])
        if record.get("truth") is not None and label_map is not None:
            causes = [regions.index(name) for name in record["truth"]["causal_regions"]]
            masks[row, 0] = torch.from_numpy(np.isin(label_map, causes))
        elif record.get("question") is not None and record.get("has_truth_mask"):
            masks[row] = run.masks([record["key"]])[0]
    return masks


def _measure(name: str, values: Values | None) -> Measure:
    """A measure of the block, by its name and its values (N,)."""
    kind, _, what = name.removeprefix("attack_").partition("_")
    of = None if values is None else partial(of_rows, values=values)
    cell = Cell(TABLE, what, kind)
    if what == "epsilon":
        return Measure(name, of, "of 255", ASKED, cell=cell)
    if kind == QUERY or what == "success":
        return Measure(name, of, "%", ASKED, kind="rate", cell=cell)
    counted = {
        "rounding": "successes in float",
        "transfer": "successes where both models decide the query alike",
        "inside": "successes with known causes",
        "mostly_inside": "successes with known causes",
    }
    return Measure(
        name,
        of,
        "%",
        counted.get(what, "successes"),
        "mean" if what == "inside" else "rate",
        cell=cell,
    )
