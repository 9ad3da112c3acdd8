"""Measure what it costs to score a run, without the networks that the measures ask.

A run of so many explanations is written into a folder that is removed at the end, and scored by
every measure of images. In place of the networks stand projections of the pixels to as many
features, whose own time is measured and taken off; memory is what the process takes at its peak
beyond what it held before. CPU time is the comparator to trust on a busy machine, with one thread.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfexp.benchmarks.command import exit_code
from cfexp.command_parser import command_parser
from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.measure import networks, oracle, sets
from cfexp.evaluation.measure.base import Measures
from cfexp.evaluation.measure.known import standard_measures
from cfexp.evaluation.measure.sfid import sfid
from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.run.memory import keep_freed_memory

SECONDS, BYTES = 120, 10**9  # for 1,000 explanations of 64 pixels
FEATURES, ATTRIBUTES = 2048, 40  # Inception's, and CelebA's


class StandIns:
    """Projections of images in place of networks, with the CPU-seconds that they take."""

    def __init__(self, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._weights = torch.randn(3 * side * side, FEATURES, generator=generator) / side
        self.seconds = 0.0

    def features(self, images: Tensor) -> Tensor:
        """(B, 2048)."""
        return self._timed(lambda: torch.relu(images.flatten(1) @ self._weights))

    def attributes(self, images: Tensor) -> Tensor:
        """(B, 40) logits, and as many features."""
        return self._timed(lambda: images.flatten(1) @ self._weights[:, : 2 * ATTRIBUTES])

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """(B,)."""
        return self._timed(lambda: (first - second).abs().mean((1, 2, 3)))

    def decide(self, images: Tensor, _: Sequence[Record]) -> Tensor:
        """(B, 2) logits."""
        return self._timed(lambda: images.flatten(1) @ self._weights[:, :2])

    def _timed(self, ask: Callable[[], Tensor]) -> Tensor:
        begun = time.process_time()
        found = ask()
        self.seconds += time.process_time() - begun
        return found


def write_run(folder: Path, count: int, side: int) -> RunFolder:
    """A run of `count` explanations: coarse noise, and finer noise over a part of it."""
    rng, run = np.random.default_rng(0), RunFolder(folder)
    run.declare(
        Declaration(
            "drawn", "reconstruction", by_direction=True, class_names=("no", "yes"), label="0"
        )
    )
    with run.writer() as store:
        for key in range(count):
            coarse = rng.integers(0, 256, (-(-side // 8), -(-side // 8), 3), dtype=np.uint8)
            query = coarse.repeat(8, 0).repeat(8, 1)[:side, :side]
            made, floor = query.copy(), query // 2 + query // 2
            part = made[side // 2 :, side // 4 : -(side // 4)]
            part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
            query_class, success = key % 2, key % 8 > 0
            after = 1 - query_class if success else query_class
            record: Record = {"key": key, "image_id": key, "query_class": query_class}
            record |= {"counter_class": 1 - query_class, "reconstruction_class": query_class}
            record |= {"stored_class": after, "counterfactual_class": after}
            record |= {"success": success, "stored_success": success, "labels": {"0": query_class}}
            record |= {"stored_logits": [0.0, 2.0 * after - 1]}
            store.add(record, {"query": query, "reconstruction": floor, "counterfactual": made})
    run.finish()
    return run


def all_measures(asked: StandIns) -> list[Measures]:
    """The standard ones, and those that ask networks."""
    of = oracle.Oracle(asked.attributes, [str(at) for at in range(ATTRIBUTES)], asked.attributes)
    return [
        *standard_measures(),
        sets.fid(asked.features),
        sets.kid(asked.features),
        sfid(asked.features),
        networks.fva(asked.features),
        networks.face_similarity(asked.features),
        networks.similarity("s3", asked.features),
        networks.lpips(asked.distance),
        networks.cout(asked.decide),
        oracle.mnac(of),
        oracle.cd(of),
        oracle.oracle_score(of),
        oracle.label_variation(of),
        oracle.oracle_frechet(of),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 where it takes longer, or more memory, than is wanted."""
    parser = command_parser(
        *("benchmarks.scoring", __doc__),
        "",
        "--explanations 100",
        "--explanations 100 --side 128 --threads 2",
    )
    parser.add_argument("--explanations", type=int, default=1000, help="of the run")
    parser.add_argument("--side", type=int, default=64, help="of an image, in pixels")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of CPU, wanted at most")
    given = parser.parse_args(arguments)
    return exit_code(lambda: _run(given))


def _run(given: argparse.Namespace) -> bool:
    if min(given.explanations, given.side - 7, given.threads) < 1:
        raise InputError("--explanations and --threads must be above 0, --side at least 8")
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), given.explanations, given.side)
        asked = StandIns(given.side)
        before, begun = _peak(), time.process_time()
        scores = score_run(run, all_measures(asked))
        taken = time.process_time() - begun - asked.seconds
    grown = _peak() - before
    fits = taken <= given.seconds and grown <= BYTES
    print(
        f"{given.explanations} explanations of {given.side} pixels, {len(scores.rows)} numbers, "
        f"{given.threads} thread(s):\n{taken:.1f} CPU-seconds beside the networks' own, "
        f"{grown / 1e9:.2f} GB more than before (whole process {_peak() / 1e9:.2f} GB)\n"
        f"wanted at most {given.seconds:g} seconds and {BYTES / 1e9:g} GB: "
        f"{'yes' if fits else 'no'}"
    )
    return fits


def _peak() -> int:
    """Bytes that this process has held at most: Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
