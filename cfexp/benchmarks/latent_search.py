"""Measure what DiVE's search costs beside the sum of its parts: decoder and decision model, forward
and backward.

Search and parts take turns on the same images, so that both see the same machine; medians of the
repeats, in CPU-seconds. Weights are untrained: they cost as much. Exit code 1 where the search
costs more than 1.2 times its parts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cfexp.benchmarks.command import exit_code
from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.explainers.dive.search import search_latents
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.loading.pretrained import freeze
from cfexp.models.tcvae import TCVAE
from cfexp.run.memory import keep_freed_memory

AT_MOST = 1.2  # times its parts


def report(given: argparse.Namespace) -> bool:
    """Measure and print; returns whether the search costs little enough."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    decoder = TCVAE(
        *(given.size, given.size),
        channels_width=given.channels_width,
        code_dim=given.code_dim,
        mlp_width=1,
        mlp_depth=1,
        initial_std=None,
    )
    classifier = SmoothClassifier(1, widths=(16, 32, 64, 96), pooling="logsumexp")
    searched, parts = in_turns(freeze(decoder), freeze(classifier), given)
    share = searched / sum(parts.values())
    images = f"{given.queries} queries of {given.copies} explanations"
    print(f"{given.size}x{given.size}, {images}, {given.steps} steps, ", end="")
    print(f"{given.threads} threads, torch {torch.__version__}")
    for name, seconds in parts.items():
        print(f"  {name:28} {seconds:7.3f} CPU-seconds")
    print(f"  {'the search':28} {searched:7.3f} CPU-seconds, {share:.2f} times its parts")
    print(f"  at most {AT_MOST}: {'yes' if share <= AT_MOST else 'no'}")
    return share <= AT_MOST


def in_turns(
    decoder: TCVAE, classifier: nn.Module, given: argparse.Namespace
) -> tuple[float, dict[str, float]]:
    """CPU-seconds of a whole search, and of as many passes through each of its parts."""
    count = given.queries * given.copies
    codes = torch.randn(count, given.code_dim)
    start = 0.01 * torch.randn(given.queries, given.copies, given.code_dim)
    with torch.no_grad():
        images = decoder.decode(codes)
    counter_class = torch.ones(given.queries, dtype=torch.int64)

    def search() -> None:
        with parametrize.cached():
            search_latents(
                decoder.decode,
                classifier,
                codes[: given.queries],
                images[: given.queries],
                counter_class,
                start,
                num_steps=given.steps,
                stop_share=None,
            )

    def passes(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], None]:
        def run() -> None:
            with parametrize.cached():
                for _ in range(given.steps):
                    taken = inputs.detach().requires_grad_()
                    found = network(taken)
                    torch.autograd.grad(found, [taken], torch.ones_like(found))

        return run

    steps = {
        "decoder": passes(decoder.decode, codes),
        "decision model": passes(classifier, images),
    }
    rounds = [_seconds(search, *steps.values()) for _ in range(given.repeats + 1)][1:]
    whole, *parts = (statistics.median(column) for column in zip(*rounds, strict=True))
    return whole, dict(zip(steps, parts, strict=True))


def _seconds(*runs: Callable[[], None]) -> list[float]:
    taken = []
    for run in runs:
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return taken


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = command_parser(
        *("benchmarks.latent_search", __doc__),
        "",
        "--size 128 --code-dim 128",
        "--queries 1 --copies 1 --repeats 3",
    )
    numbers = {
        "size": (64, "pixels a side"),
        "channels-width": (1, "of the autoencoder (published: 4)"),
        "code-dim": (32, "latents (published: 128)"),
        "queries": (4, "searched at once"),
        "copies": (8, "explanations of each"),
        "steps": (5, "of a search"),
        "repeats": (5, "of which the median counts"),
        "threads": (1, "of torch"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    given = parser.parse_args(arguments)
    if min(vars(given).values()) < 1:
        raise InputError("all numbers must be above 0")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where the search costs more than wanted, 2 where
    the command line is wrong.
    """
    keep_freed_memory()
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
