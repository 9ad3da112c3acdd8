"""How fast a step of the STEEX search is, in three forms that compute the same numbers on the same
weights.

published: as the released code goes about it: no parameter frozen, the layout's branch in every
step, the dense style convolution, a loop over images and regions. plain: frozen, the regions' codes
broadcast at once. fast: `FastSEAN`.

Every measurement runs in a process of its own, so that its peak memory is its own. CPU time is the
comparator to trust on a busy machine, with one thread (waiting OpenMP threads spin, and that
counts). A full-size run takes about a quarter of an hour of a quiet core.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cfexp.benchmarks.command import exit_code
from cfexp.benchmarks.forms import (
    FORMS,
    TRAINING_FORMS,
    Size,
    build_networks,
    search_step,
    training_step,
)
from cfexp.errors import InputError
from cfexp.run.memory import keep_freed_memory

GIB = 2**30
# What is to be reached at full size on a CPU.
BESIDE = {"published": 10.0, "plain": 4.0}  # times the steps a second of these forms, at least
OF_CONVOLUTIONS, FURTHER_QUERY = 0.8, 0.6  # share of the rate; GiB at most
IN_BFLOAT16, TRAINING = 15.0, 3.0  # times the published form


def _packed_product(rows: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * rows[0] * rows[1] * out_shape[1]


# Of what torch itself does not count: the products of `PackedMatrix`, where this torch has them.
_OPERATION = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
PACKED = {} if _OPERATION is None else {_OPERATION: _packed_product}


class Measured(NamedTuple):
    """Of one form: medians over the repeats, of a step."""

    cpu: float  # seconds, over all threads
    wall: float  # seconds
    gflop: float
    peak: int  # bytes: of the process, or of the GPU
    image: Tensor | None = None
    gradient: Tensor | None = None


def measure(step: Callable[[], Any], repeats: int, device: str = "cpu") -> Measured:
    """Time, memory and operations of a step, after one step that is not timed."""
    counter = FlopCounterMode(display=False, custom_mapping=PACKED)
    with counter:
        first = step()
    image, gradient = first if isinstance(first, tuple) else (None, None)
    cpu, wall = [], []
    for _ in range(repeats):
        _synchronise(device)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        step()
        _synchronise(device)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak
    gflop = counter.get_total_flops() / 1e9
    return Measured(statistics.median(cpu), statistics.median(wall), gflop, peak, image, gradient)


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure_search(
    form: str, size: Size, batch: int, repeats: int, device: str, mixed: str | None
) -> Measured:
    """A step of the search in one form, in float32 or in `mixed` precision."""
    dtype = getattr(torch, mixed) if mixed else None
    measured = measure(
        search_step(form, size, batch, torch.float32, device, dtype), repeats, device
    )
    return measured._replace(image=_on_cpu(measured.image), gradient=_on_cpu(measured.gradient))


def measure_training(form: str, size: Size, batch: int, repeats: int) -> Measured:
    """A step of SEAN's training in one of `TRAINING_FORMS`."""
    return measure(training_step(form, size, batch), repeats)


def first_step(form: str, size: Size, batch: int) -> tuple[Tensor, Tensor]:
    """The image and the gradient by the codes in float64."""
    return search_step(form, size, batch, torch.float64)()


def beside_convolutions(size: Size, batch: int, repeats: int) -> tuple[float, float, float]:
    """GFLOP per CPU-second: of a step of the fast form, of the generator's 3x3 convolutions, of the
    fastest of them.

    Forward and the gradient by the input, channels_last, in float32: the floor of a step is little
    else. Steps and convolutions take turns, so that both see the same machine; medians of the
    repeats.
    """
    step = search_step("fast", size, batch, torch.float32)
    sean, _ = build_networks(size)
    sean.requires_grad_(False)
    steps: list[Callable[[], Any]] = [step]
    for block, stride in zip(sean.residual_blocks(), sean.strides, strict=True):
        for convolution in (block.conv_0, block.conv_1):
            weight = convolution.weight.to(memory_format=torch.channels_last)
            side = size.pixels // stride
            features = torch.randn(batch, weight.shape[1], side, side).to(
                memory_format=torch.channels_last
            )
            features.requires_grad_()

            def run(features: Tensor = features, weight: Tensor = weight) -> None:
                out = F.conv2d(features, weight, padding=1)
                torch.autograd.grad(out, [features], out.detach())

            steps.append(run)
    rounds = [[measure(run, 1) for run in steps] for _ in range(repeats)]
    gflop = [measured.gflop for measured in rounds[0]]
    seconds = [
        statistics.median(measured.cpu for measured in column)
        for column in zip(*rounds, strict=True)
    ]
    rates = [work / taken for work, taken in zip(gflop, seconds, strict=True)]
    return rates[0], sum(gflop[1:]) / sum(seconds[1:]), max(rates[1:])


def measure_compiled(size: Size, batch: int, repeats: int) -> list[tuple[str, Measured | str]]:
    """On a CUDA device: the plain form in bfloat16 and channels_last, compiled, and the fast form
    in a CUDA graph.
    """
    rows: list[tuple[str, Measured | str]] = []
    for name, form, mixed in (
        ("fast, bfloat16", "fast", "bfloat16"),
        ("plain, compiled", "plain", None),
    ):
        try:
            dtype = getattr(torch, mixed) if mixed else None
            step = search_step(form, size, batch, torch.float32, "cuda", dtype)
            if form == "plain":
                step = torch.compile(step)
            measured = measure(step, repeats, "cuda")
            rows.append(
                (
                    name,
                    measured._replace(
                        image=_on_cpu(measured.image), gradient=_on_cpu(measured.gradient)
                    ),
                )
            )
        # A device or a toolchain that lacks something is no reason to lose the other rows.
        except Exception as error:
            rows.append(
                (
                    name,
                    f"not measured: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                )
            )
    return rows


def _on_cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def alone(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process with so many threads."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=_set_up, initargs=(threads,)
    ) as pool:
        return pool.submit(function, *arguments).result()


def _set_up(threads: int) -> None:
    keep_freed_memory()  # as every command does; it holds for every form
    torch.set_num_threads(threads)


def relative(got: Tensor | None, expected: Tensor | None) -> float:
    """The largest difference, in units of the largest expected number."""
    assert got is not None
    assert expected is not None
    return float((got - expected).abs().max() / expected.abs().max())


def report(given: argparse.Namespace) -> bool:
    """Measure and print, row by row; returns whether what is to be reached is, as far as it was
    measured.
    """
    size = Size(given.size, given.base_channels, given.num_regions, given.style_dim)
    on = f"{given.threads} thread{'s' * (given.threads > 1)}"
    print(
        f"{size.pixels}x{size.pixels}, {size.num_regions} regions, {size.base_channels} base channels, ",
        end="",
    )
    print(f"DenseNet121, batch {given.batch}, {given.device}, {on}, torch {torch.__version__}")
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
    print(
        f"\nfloat64 at {small.pixels}x{small.pixels}, largest relative difference from the published form"
    )
    expected = alone(given.threads, first_step, "published", small, given.batch)
    for form in FORMS[1:]:
        image, gradient = alone(given.threads, first_step, form, small, given.batch)
        print(
            f"  {form:10} image {relative(image, expected[0]):.1e}  gradient {relative(gradient, expected[1]):.1e}"
        )


def _report_search(given: argparse.Namespace, size: Size) -> list[tuple[str, bool]]:
    """What is to be reached, and whether it is; so too `_report_training`."""
    print(
        "\nfloat32, a step of the search                                           peak    per further"
    )
    print(
        "                    CPU s    wall s   steps/s   x published   GFLOP    memory        query"
    )
    rows: dict[str, Measured] = {}
    further: dict[str, float | None] = {}
    for form in given.forms:
        rows[form] = alone(
            given.threads,
            measure_search,
            form,
            size,
            given.batch,
            given.repeats,
            given.device,
            None,
        )
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
    goals.append(
        (
            f"at most {FURTHER_QUERY} GiB for a further query",
            more is not None and more <= FURTHER_QUERY,
        )
    )
    if given.bf16:
        mixed = alone(
            given.threads,
            measure_search,
            "fast",
            size,
            given.batch,
            given.repeats,
            given.device,
            "bfloat16",
        )
        _row("fast, bfloat16", mixed, base, _further("fast", mixed, size, given, "bfloat16"))
        _error(mixed, fast)
        if "published" in rows:
            reached = rows["published"].cpu / mixed.cpu >= IN_BFLOAT16
            goals.append((f"at least {IN_BFLOAT16:.0f} x published in bfloat16", reached))
    if given.device == "cuda":
        for name, compiled in alone(
            given.threads, measure_compiled, size, given.batch, given.repeats
        ):
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


def _report_training(given: argparse.Namespace, size: Size) -> list[tuple[str, bool]]:
    print(
        f"\nfloat32, a step of SEAN's training (generator and discriminator), batch {given.batch}"
    )
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
    ratio = base.cpu / measured.cpu
    print(
        f"  {name:17} {measured.cpu:6.2f}  {measured.wall:8.2f}  {1 / measured.wall:8.3f}  {ratio:10.2f}  ",
        end="",
    )
    print(f"{measured.gflop:8.0f}  {measured.peak / GIB:5.2f} GiB", end="")
    print("" if further is None else f"  {further:6.2f} GiB", flush=True)


def _error(measured: Measured, exact: Measured) -> None:
    assert measured.image is not None
    assert exact.image is not None
    assert measured.gradient is not None
    assert exact.gradient is not None
    difference = (measured.image - exact.image).abs()
    cosine = F.cosine_similarity(measured.gradient.flatten(), exact.gradient.flatten(), dim=0)
    print(
        f"    its error: image mean {difference.mean():.1e}, max {difference.max():.1e} of [-1, 1]; ",
        end="",
    )
    print(f"cosine of the gradient {cosine:.4f}", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    description = __doc__.split("\n\n", 1)[0] if __doc__ else None
    parser = argparse.ArgumentParser(
        prog="python -m cfexp.benchmarks.search", description=description, formatter_class=formatter
    )
    full = Size()
    parser.add_argument(
        "--size", type=int, default=full.pixels, help="pixels a side; a multiple of 32"
    )
    parser.add_argument(
        "--base-channels",
        type=int,
        default=full.base_channels,
        help="of the generator's last block",
    )
    parser.add_argument("--num-regions", type=int, default=full.num_regions, help="of the layout")
    parser.add_argument(
        "--style-dim", type=int, default=full.style_dim, help="length of a region's code"
    )
    parser.add_argument("--batch", type=int, default=1, help="queries searched at once")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed steps, of which the median counts"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--float64-size", type=int, default=128, help="pixels a side of the comparison in float64"
    )
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=FORMS, help="which to time; the first is 1 x"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="also the fast form in bfloat16, with its error"
    )
    parser.add_argument("--training", action="store_true", help="also a step of SEAN's training")
    parser.add_argument(
        "--published-memory",
        action="store_true",
        help="also the published form's for another query",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda adds bfloat16 and compiled rows",
    )
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
