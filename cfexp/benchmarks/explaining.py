"""Measure the CPU-seconds that an experiment's explainer takes for its first test images, without
reading or writing files.

An explainer that is trained is timed with the weights that it starts a training from: they cost as
much. Exit code 1 where it takes longer than wanted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial

import torch
from omegaconf import DictConfig

from cfexp.benchmarks.command import exit_code
from cfexp.benchmarks.experiment import parsed, parser_of, prepared
from cfexp.explainers.base import Explainer
from cfexp.run.memory import keep_freed_memory


def report(given: argparse.Namespace) -> bool:
    """Measure and print; returns whether it is fast enough. Raises InputError as `parse`."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    explainer, data = prepared(
        given, Explainer, "has no explainer", "predict", partial(_choose, given=given)
    )
    explainer.eval()
    batches = list(data.predict_dataloader())
    explainer.predict_step(batches[0], 0)  # what is made once is not counted
    start = time.process_time()
    found = [explainer.predict_step(batch, number) for number, batch in enumerate(batches)]
    seconds = time.process_time() - start
    count = sum(len(each.query) for each in found)
    candidates = found[0].extras.get("candidates")
    each = "" if candidates is None else f" with {candidates.shape[1]} candidates each"
    print(f"{given.experiment}, {count} queries{each}, {given.batch} at a time, ", end="")
    print(f"{given.threads} threads, torch {torch.__version__}")
    print(f"  {seconds:.1f} CPU-seconds, {1000 * seconds / count:.1f} ms a query")
    reached: bool = seconds <= given.seconds
    print(f"  wanted at most {given.seconds:g}: {'yes' if reached else 'no'}")
    return reached


def _choose(config: DictConfig, given: argparse.Namespace) -> None:
    config.data.max_test_images, config.data.eval_batch_size = given.queries, given.batch


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = parser_of(
        *("explaining", __doc__, "pe_smile"),
        "+experiment=steex_driving --queries 32",
        "+experiment=dive_smile --queries 32",
    )
    add = parser.add_argument
    add("--queries", type=int, default=440, help="the first so many test images")
    add("--batch", type=int, default=32, help="explained at a time")
    add("--threads", type=int, default=1, help="of torch")
    add("--seconds", type=float, default=90.0, help="of CPU that all may take")
    return parsed(parser, arguments, "queries", "batch", "threads")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where it takes longer than wanted, 2 where the
    command line is wrong.
    """
    keep_freed_memory()
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
