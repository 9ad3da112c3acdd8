"""Time, memory and operations of a step in one of its forms, measured in a process of its own.

Every measurement has a process, so that its peak memory is its own. CPU time is the comparator to
trust on a busy machine, with one thread (waiting OpenMP threads spin, and that counts).
"""

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

from cfexp.benchmarks.forms import Size, build_networks, search_step, training_step
from cfexp.run.memory import keep_freed_memory


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
    step = search_step(form, size, batch, torch.float32, device, dtype)
    return _on_cpu(measure(step, repeats, device))


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
            features = torch.randn(batch, weight.shape[1], side, side)
            features = features.to(memory_format=torch.channels_last).requires_grad_()

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
    for name, form, dtype in (
        ("fast, bfloat16", "fast", torch.bfloat16),
        ("plain, compiled", "plain", None),
    ):
        try:
            step = search_step(form, size, batch, torch.float32, "cuda", dtype)
            if form == "plain":
                step = torch.compile(step)
            rows.append((name, _on_cpu(measure(step, repeats, "cuda"))))
        # A device or a toolchain that lacks something is no reason to lose the other rows.
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            rows.append((name, f"not measured: {reason}"))
    return rows


def _on_cpu(measured: Measured) -> Measured:
    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.cpu()

    return measured._replace(image=moved(measured.image), gradient=moved(measured.gradient))


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
