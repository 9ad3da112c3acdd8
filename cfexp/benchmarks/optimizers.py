"""Compare the optimizers of STEEX's search on the same queries.

Every optimizer explains the same images, a few at a time and in turn, so that what else the machine
does counts for all alike. CPU seconds are those of all that `explain` does: encoding, preparing the
label maps, searching, decoding. Success is of the image as it is stored, in 8 bits. The embedded
worlds are drawn from another seed than the one that weights and settings were made on.

The first optimizer is the one that the others are held against. Exit code 1 where a figure is not
reached.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from cfexp import losses
from cfexp.benchmarks.command import exit_code
from cfexp.benchmarks.experiment import parsed, parser_of, prepared
from cfexp.explainers.base import Explanation, eight_bit, queries_of
from cfexp.explainers.steex.search import OPTIMIZERS
from cfexp.explainers.steex.steex import STEEX
from cfexp.run.memory import keep_freed_memory

COUNTS = (5, 10, 15, 20, 30, 40, 60, 80, 100)  # of evaluations, after which the objective is told
AS_GOOD = 1.01  # times the first optimizer's objective


class Searched(NamedTuple):
    """What an optimizer found for N queries."""

    seconds: float  # of CPU, for all of them
    curve: Tensor  # (N, T), the objective after each evaluation
    objective: Tensor  # (N,), at the end
    success: Tensor  # (N,) bool, of the stored image
    counter_class: Tensor  # (N,)
    distance: Tensor  # (N,) of the codes
    flip_step: Tensor  # (N,); -1 = never
    evaluations: Tensor  # (N,)


def search(explainer: STEEX, optimizer: str, batch: Any) -> Searched:
    """Explain a batch by one optimizer."""
    explainer.optimizer = optimizer
    start = time.process_time()
    found: Explanation = explainer.explain(batch)
    seconds = time.process_time() - start
    told, weight = found.extras, explainer.proximity_weight
    decision = losses.decision_loss(found.counterfactual_logits, found.counter_class)
    stored = explainer.logits(eight_bit(found.counterfactual), batch).argmax(1)
    return Searched(
        seconds=seconds,
        curve=told["decision_curve"] + weight * told["proximity_curve"],
        objective=decision + weight * told["code_distance"] ** 2,
        success=stored == found.counter_class,
        counter_class=found.counter_class,
        distance=told["code_distance"],
        flip_step=told["flip_step"],
        evaluations=told["evaluations"],
    )


def joined(parts: Sequence[Searched]) -> Searched:
    """The same of all queries."""
    seconds, *columns = zip(*parts, strict=True)
    return Searched(sum(seconds), *(torch.cat(column) for column in columns))


def report(given: argparse.Namespace) -> bool:
    """Measure and print; returns whether every optimizer after the first reaches its figures."""
    torch.set_num_threads(given.threads)
    explainer, data = _prepared(given)
    explainer.eval().to(given.device)
    found: dict[str, list[Searched]] = {name: [] for name in given.optimizers}
    with torch.no_grad():
        for number, batch in enumerate(track(_batches(data, given), "searching")):
            on_device = type(batch)(
                *(each.to(given.device) if isinstance(each, Tensor) else each for each in batch)
            )
            for name in found if number % 2 == 0 else reversed(found):
                found[name].append(search(explainer, name, on_device))
    results = {name: joined(parts) for name, parts in found.items()}
    first = results[given.optimizers[0]]
    count = len(first.objective)
    print(f"{given.experiment}, {count} queries, {given.batch} at a time, ", end="")
    print(f"{given.threads} threads, {given.device}, torch {torch.__version__}")
    _print_curves(results)
    reached = [_print_figures(name, each, first, given) for name, each in results.items()]
    return all(reached)


def _prepared(given: argparse.Namespace) -> tuple[STEEX, Any]:
    """The experiment's explainer, and the data set of its test images."""
    changed = partial(_choose, given=given)
    return prepared(given, STEEX, "does not search style codes", "predict", changed)


def _choose(config: DictConfig, given: argparse.Namespace) -> None:
    """The first test images, where they are drawn of another seed."""
    config.data.max_test_images = given.queries
    if config.data.get("root") is None and config.data.get("world") is not None:
        config.data.world.seed = given.world_seed


def _batches(data: Any, given: argparse.Namespace) -> list[Any]:
    batches = []
    for batch in data.predict_dataloader():
        rows = range(len(batch.image))
        batches += [
            queries_of(batch, rows[start : start + given.batch])
            for start in range(0, len(rows), given.batch)
        ]
    return batches


def _print_curves(results: dict[str, Searched]) -> None:
    length = next(iter(results.values())).curve.shape[1]
    counts = [count for count in COUNTS if count <= length]
    print(f"{'mean objective after':28}" + "".join(f"{count:>9}" for count in counts))
    for name, each in results.items():
        at = (f"{each.curve[:, count - 1].mean():9.3f}" for count in counts)
        print(f"  {name:26}{''.join(at)}")


def _print_figures(name: str, each: Searched, first: Searched, given: argparse.Namespace) -> bool:
    count = len(each.objective)
    as_good = 100 * (each.objective <= AS_GOOD * first.objective).double().mean().item()
    ratio = first.seconds / each.seconds
    flipped = each.flip_step[each.flip_step >= 0].double()
    print(
        f"{name}: {each.seconds / count:.3f} CPU seconds a query ({ratio:.2f} times fewer), ",
        end="",
    )
    print(
        f"{each.evaluations.double().mean():.1f} evaluations, first flip after {flipped.mean():.1f}"
    )
    print(
        f"  objective mean {each.objective.mean():.4f}, median {each.objective.median():.4f}; ",
        end="",
    )
    print(f"at most {AS_GOOD} of {given.optimizers[0]}'s: {as_good:.1f} %; ", end="")
    print(f"code distance {each.distance.mean():.3f}")
    shares = [100 * each.success.double().mean().item()]
    line = f"  success as stored: {shares[0]:.1f} % of {count}"
    for number in sorted(set(each.counter_class.tolist())):
        asked = each.counter_class == number
        shares.append(100 * each.success[asked].double().mean().item())
        line += f"; {number} asked for: {shares[-1]:.1f} % of {int(asked.sum())}"
    print(line)
    if each is first:
        return True
    reached = [
        ratio >= given.ratio,
        bool(each.objective.mean() <= first.objective.mean()),
        as_good >= given.as_good,
        min(shares) >= given.success,
        bool(each.success.sum() >= first.success.sum()),
    ]
    print(f"  wanted {given.ratio} times fewer CPU seconds, mean objective no higher, ", end="")
    print(f"{given.as_good} % as good, success {given.success} % and not below: ", end="")
    print("yes" if all(reached) else "no", flush=True)
    return all(reached)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = parser_of(
        *("optimizers", __doc__, "steex_driving"),
        "+experiment=steex_smile --queries 16",
        "+experiment=steex_driving --optimizers adam lbfgs",
    )
    add = parser.add_argument
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    add("--queries", type=int, default=64, help="the first so many test images")
    add("--batch", type=int, default=64, help="explained at a time")
    add("--world-seed", type=int, default=7, help="of an embedded world")
    add("--threads", type=int, default=1, help="of torch")
    add("--device", default="cpu", help="cpu or cuda")
    add("--ratio", type=float, default=4.0, help="how many times fewer CPU seconds to reach")
    add("--as-good", type=float, default=97.0, help="percent of the queries to be as good")
    add("--success", type=float, default=99.5, help="percent to reach in each direction")
    return parsed(parser, arguments, "queries", "batch", "threads")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where a figure is not reached, 2 where the
    command line is wrong.
    """
    keep_freed_memory()
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
