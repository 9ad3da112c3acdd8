"""CPU-seconds that an experiment's explainer takes for its first test images, without reading or
writing any.

An explainer that is trained is timed with the weights that it starts a training from: they cost as
much. Exit code 1 where it takes longer than wanted.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import torch
from omegaconf import open_dict

from cfexp.benchmarks.command import exit_code
from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.run.building import build
from cfexp.run.library_config import composing_for_user, config_of
from cfexp.run.memory import keep_freed_memory
from cfexp.run.stages import provide_stages


def report(given: argparse.Namespace) -> bool:
    """Measure and print; returns whether it is fast enough. Raises InputError as `parse`."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    with composing_for_user():
        config = config_of(given.experiment, given.overrides)
        config.data.max_test_images = given.queries
        config.data.eval_batch_size = given.batch
        provide_stages(config)
        data = build(config.data, "data")
        data.prepare_data()
        data.setup("predict")
        with open_dict(config):
            config.facts = data.facts
        explainer: Explainer = build(config.explainer, "explainer")
    explainer.settle(data)
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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m cfexp.benchmarks.explaining",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m cfexp.benchmarks.explaining +experiment=pe_smile",
    )
    add = parser.add_argument
    add(
        "overrides", nargs="+", metavar="+experiment=NAME", help="and settings, as of cfexp.explain"
    )
    add("--queries", type=int, default=440, help="the first so many test images (440)")
    add("--batch", type=int, default=32, help="explained at a time (32)")
    add("--threads", type=int, default=1, help="of torch (1)")
    add("--seconds", type=float, default=90.0, help="of CPU that all may take (90)")
    given = parser.parse_args(arguments)
    named = [each for each in given.overrides if each.startswith("+experiment=")]
    if len(named) != 1:
        raise InputError("give one +experiment=NAME, for example +experiment=pe_smile")
    if min(given.queries, given.batch, given.threads) < 1:
        raise InputError("--queries, --batch and --threads must be above 0")
    given.experiment = named[0].removeprefix("+experiment=")
    given.overrides.remove(named[0])
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where it takes longer than wanted, 2 where the
    command line is wrong.
    """
    keep_freed_memory()
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
