"""Measure how many queries a second STEEX's search answers with one process and with several, of
one thread each.

The real command, `python -m cfexp.explain +experiment=steex_driving trainer=ddp trainer.devices=N`,
explains the same queries with each number of processes in turn, the one that is first changing each
time. A process's rate is that of its stored explanations after its first batch, so starting up,
which every run does once, does not count, and reading and writing do. The ratio is the median over
the repeats, so that what else the machine does counts for both alike; it says something only where
each process has a core of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cfexp.benchmarks.command import exit_code
from cfexp.command_parser import command_parser
from cfexp.errors import InputError

TO_REACH = 0.9  # of a process's rate, by each of several: 1.8 by two
WEIGHTS = Path(__file__).parents[1] / "weights"


def rate(folder: Path, processes: int, batch: int) -> float:
    """Queries a second of a finished run over keys 0, 1, ...: the sum over its processes, each
    after its first batch.

    Process r of k explained the keys r, r + k, ... in this order.
    """
    stored = {
        int(path.stem): path.stat().st_mtime
        for path in folder.glob("explanations/counterfactual/*.png")
    }
    total = 0.0
    for rank in range(processes):
        ends = [stored[key] for key in range(rank, len(stored), processes)]
        total += (len(ends) - batch) / (ends[-1] - ends[batch - 1])
    return total


def explain(processes: int, folder: Path, given: argparse.Namespace) -> float:
    """Explain by so many processes; returns the rate. Raises InputError where the command fails."""
    (decision,), (autoencoder,) = (
        WEIGHTS.glob(f"street_{name}-*") for name in ("decision", "autoencoder")
    )
    arguments = [
        *(
            "+experiment=steex_driving",
            f"checkpoints.decision={decision}",
            f"checkpoints.autoencoder={autoencoder}",
        ),
        *(
            "data.world.train_scenes=1",
            f"data.world.val_scenes={given.queries}",
            f"data.eval_batch_size={given.batch}",
        ),
        *(
            f"explainer.num_steps={given.steps}",
            "num_threads=1",
            f"cache_dir={folder.parent / 'cache'}",
        ),
        *(
            "trainer=ddp",
            f"trainer.devices={processes}",
            "trainer.accelerator=cpu",
            f"hydra.run.dir={folder}",
        ),
    ]
    command = [sys.executable, "-m", "cfexp.explain", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode != 0:
        raise InputError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return rate(folder, processes, given.batch)


def report(
    given: argparse.Namespace, measure: Callable[[int, Path, argparse.Namespace], float] = explain
) -> bool:
    """Measure and print; returns whether each process keeps `TO_REACH` of the rate of one alone."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    amount = f"{given.queries} queries of {given.steps} steps in batches of {given.batch}"
    print(f"STEEX on the embedded streets, {amount}, one thread a process, ", end="")
    print(f"{cores} cores, load {load:.1f} before the start, torch {torch.__version__}")
    rates: dict[int, list[float]] = {count: [] for count in (1, given.processes)}
    with tempfile.TemporaryDirectory(prefix="cfexp_benchmark_") as temporary:
        for repeat in range(given.repeats):
            for count in rates if repeat % 2 == 0 else reversed(rates):
                rates[count].append(measure(count, Path(temporary) / f"{count}-{repeat}", given))
    print("processes   queries a second   (of each repeat)")
    for count, found in rates.items():
        listed = ", ".join(f"{each:.3f}" for each in found)
        print(f"{count:9}   {statistics.median(found):16.3f}   ({listed})")
    ratios = [many / one for one, many in zip(*rates.values(), strict=True)]
    ratio, wanted = statistics.median(ratios), TO_REACH * given.processes
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"ratio {ratio:.2f} {spread}, wanted at least {wanted:.1f}: ", end="")
    print("yes" if ratio >= wanted else "no", flush=True)
    return bool(ratio >= wanted)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = command_parser(
        *("benchmarks.scaling", __doc__),
        "",
        "--processes 4",
        "--queries 8 --steps 10 --repeats 1",
    )
    parser.add_argument("--processes", type=int, default=2, help="to set beside one")
    parser.add_argument("--queries", type=int, default=48, help="explained in each run")
    parser.add_argument("--steps", type=int, default=100, help="of each search")
    parser.add_argument("--batch", type=int, default=1, help="queries searched at once")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, of which the median counts"
    )
    given = parser.parse_args(arguments)
    if min(given.steps, given.batch, given.repeats) < 1 or given.processes < 2:
        raise InputError("--processes must be at least 2, and every other number above 0")
    share = given.processes * given.batch
    if given.queries % share or given.queries < 2 * share:
        wanted = f"a multiple of {share}, two batches a process or more"
        raise InputError(f"--queries must be {wanted}, got {given.queries}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where the ratio is too low, 2 where something is
    wrong.
    """
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
