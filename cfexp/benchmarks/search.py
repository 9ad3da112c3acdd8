"""Measure a step of STEEX's search in three forms that compute the same numbers with the same
weights.

published: as the released code goes about it: no parameter frozen, the label map's branch in every
step, the dense style convolution, a loop over images and regions. plain: frozen, the regions' codes
broadcast at once. fast: `FastSEAN`.

A full-size run takes about a quarter of an hour of a quiet core.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from cfexp.benchmarks.command import exit_code
from cfexp.benchmarks.forms import FORMS, TRAINING_FORMS, Size
from cfexp.benchmarks.measure import (
    Measured,
    alone,
    beside_convolutions,
    first_step,
    measure_compiled,
    measure_search,
    measure_training,
    relative,
)
from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.run.memory import keep_freed_memory

GIB = 2**30
# What is to be reached at full size on a CPU.
BESIDE = {"published": 10.0, "plain": 4.0}  # times the steps a second of these forms, at least
OF_CONVOLUTIONS, FURTHER_QUERY = 0.8, 0.6  # share of the rate; GiB at most
IN_BFLOAT16, TRAINING = 15.0, 3.0  # times the published form


def report(given: argparse.Namespace) -> bool:
    """Measure and print, row by row; returns whether what is to be reached is, as far as it was
    measured.
    """
    size = Size(given.size, given.base_channels, given.num_regions, given.style_dim)
    on = f"{given.threads} thread{'s' * (given.threads > 1)}"
    networks = f"{size.num_regions} regions, {size.base_channels} base channels, DenseNet121"
    machine = f"{given.device}, {on}, torch {torch.__version__}"
    print(f"{size.pixels}x{size.pixels}, {networks}, batch {given.batch}, {machine}")
    _report_agreement(given, size)
    goals = _report_search(given, size)
    if given.training:
        goals += _report_training(given, size)
    if size != Size() or given.device != "cpu":
        return True  # another size has other ratios
    print("\n" + "\n".join(f"{goal}: {'yes' if reached else 'no'}" for goal, reached in goals))
    return all(reached for _, reached in goals)


def _report_agreement(given: argparse.Namespace, size: Size) -> None:
    small = size._replace(pixels=min(given.float64_size, size.pixels))
    compared = "largest relative difference from the published form"
    print(f"\nfloat64 at {small.pixels}x{small.pixels}, {compared}")
    expected = alone(given.threads, first_step, "published", small, given.batch)
    for form in FORMS[1:]:
        image, gradient = map(
            relative, alone(given.threads, first_step, form, small, given.batch), expected
        )
        print(f"  {form:10} image {image:.1e}  gradient {gradient:.1e}")


def _report_search(given: argparse.Namespace, size: Size) -> list[tuple[str, bool]]:
    """What is to be reached, and whether it is; so too `_report_training`."""
    print(f"\n{'float32, a step of the search':71} peak    per further")
    print(f"{'':18}  CPU s    wall s   steps/s   x published   GFLOP    memory        query")
    rows: dict[str, Measured] = {}
    further: dict[str, float | None] = {}
    for form in given.forms:
        rows[form] = _measured(form, size, given, None)
        further[form] = _further(form, rows[form], size, given, None)
        _row(form, rows[form], rows[given.forms[0]], further[form])
    if "fast" not in rows:
        return []
    base, fast, more = rows[given.forms[0]], rows["fast"], further["fast"]
    goals = [
        (f"at least {times:.0f} x {form}", rows[form].cpu / fast.cpu >= times)
        for form, times in BESIDE.items()
        if form in rows
    ]
    little = more is not None and more <= FURTHER_QUERY
    goals.append((f"at most {FURTHER_QUERY} GiB for a further query", little))
    if given.bf16:
        mixed = _measured("fast", size, given, "bfloat16")
        _row("fast, bfloat16", mixed, base, _further("fast", mixed, size, given, "bfloat16"))
        _error(mixed, fast)
        if "published" in rows:
            reached = rows["published"].cpu / mixed.cpu >= IN_BFLOAT16
            goals.append((f"at least {IN_BFLOAT16:.0f} x published in bfloat16", reached))
    if given.device == "cuda":
        of_gpu = alone(given.threads, measure_compiled, size, given.batch, given.repeats)
        for name, compiled in of_gpu:
            if isinstance(compiled, str):
                print(f"  {name:17} {compiled}")
            else:
                _row(name, compiled, base, None)
                _error(compiled, fast)
        return goals
    ours, rate, fastest = alone(
        given.threads, beside_convolutions, size, given.batch, max(5, given.repeats)
    )
    print(f"\nin turns, a CPU-second: the fast form {ours:.1f} GFLOP, ", end="")
    print(f"3x3 convolutions alone {rate:.1f} (the generator's), {fastest:.1f} (the fastest)")
    share = ours / rate
    print(f"the fast form reaches {share:.0%} of the generator's own convolutions' rate")
    return [*goals, (f"at least {OF_CONVOLUTIONS:.0%} of that rate", share >= OF_CONVOLUTIONS)]


def _measured(form: str, size: Size, given: argparse.Namespace, mixed: str | None) -> Measured:
    """A step of the search in one form, in float32 or in `mixed` precision."""
    how = (size, given.batch, given.repeats, given.device, mixed)
    measured: Measured = alone(given.threads, measure_search, form, *how)
    return measured


def _report_training(given: argparse.Namespace, size: Size) -> list[tuple[str, bool]]:
    step = "a step of SEAN's training (generator and discriminator)"
    print(f"\nfloat32, {step}, batch {given.batch}")
    rows: dict[str, Measured] = {}
    for form in TRAINING_FORMS:
        rows[form] = alone(given.threads, measure_training, form, size, given.batch, given.repeats)
        _row(form, rows[form], rows["published"], None)
    reached = rows["published"].cpu / rows["ours"].cpu >= TRAINING
    return [(f"training at least {TRAINING:.0f} x published", reached)]


def _further(
    form: str, measured: Measured, size: Size, given: argparse.Namespace, mixed: str | None
) -> float | None:
    """GiB that another query takes; not measured for the published form, which would take as long
    again.
    """
    if form == "published" and not given.published_memory:
        return None
    more = alone(given.threads, measure_search, form, size, given.batch + 1, 1, given.device, mixed)
    return float(more.peak - measured.peak) / GIB


def _row(name: str, measured: Measured, base: Measured, further: float | None) -> None:
    ratio, rate = base.cpu / measured.cpu, 1 / measured.wall
    times = f"{measured.cpu:6.2f}  {measured.wall:8.2f}  {rate:8.3f}  {ratio:10.2f}"
    work = f"{measured.gflop:8.0f}  {measured.peak / GIB:5.2f} GiB"
    more = "" if further is None else f"  {further:6.2f} GiB"
    print(f"  {name:17} {times}  {work}{more}", flush=True)


def _error(measured: Measured, exact: Measured) -> None:
    assert measured.image is not None
    assert exact.image is not None
    assert measured.gradient is not None
    assert exact.gradient is not None
    difference = (measured.image - exact.image).abs()
    cosine = F.cosine_similarity(measured.gradient.flatten(), exact.gradient.flatten(), dim=0)
    of_image = f"image mean {difference.mean():.1e}, max {difference.max():.1e} of [-1, 1]"
    print(f"    its error: {of_image}; cosine of the gradient {cosine:.4f}", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(
        *("benchmarks.search", __doc__),
        "",
        "--size 64 --base-channels 8 --num-regions 5 --style-dim 16 --repeats 1",
        "--forms fast --bf16",
    )
    full = Size()
    add = parser.add_argument
    add("--size", type=int, default=full.pixels, help="pixels a side; a multiple of 32")
    of_last = "of the generator's last block"
    add("--base-channels", type=int, default=full.base_channels, help=of_last)
    add("--num-regions", type=int, default=full.num_regions, help="of the label map")
    add("--style-dim", type=int, default=full.style_dim, help="length of a region's code")
    add("--batch", type=int, default=1, help="queries searched at once")
    add("--repeats", type=int, default=3, help="timed steps, of which the median counts")
    add("--threads", type=int, default=1, help="of torch")
    small = "pixels a side of the comparison in float64"
    add("--float64-size", type=int, default=128, help=small)
    which = "which to time; the first is 1 x"
    add("--forms", nargs="+", choices=FORMS, default=FORMS, help=which)
    add("--bf16", action="store_true", help="also the fast form in bfloat16, with its error")
    add("--training", action="store_true", help="also a step of SEAN's training")
    further = "also the published form's for another query"
    add("--published-memory", action="store_true", help=further)
    on_gpu = "cuda adds bfloat16 and compiled rows"
    add("--device", choices=("cpu", "cuda"), default="cpu", help=on_gpu)
    given = parser.parse_args(arguments)
    if (
        given.size % 32
        or min(given.size, given.batch, given.repeats, given.threads) < 1
        or given.float64_size % 32
    ):
        raise InputError(
            "--size and --float64-size must be multiples of 32, and every number above 0"
        )
    if given.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this torch sees no CUDA device")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where a figure is not reached, 2 where the
    command line is wrong.
    """
    keep_freed_memory()  # for the processes of its own, too: it is read at a process' first tensor
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
