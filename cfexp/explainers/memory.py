"""How many queries fit into memory at once: by a budget that is given, and by what torch says of
its end.
"""

import re
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cfexp.errors import InputError

_UNITS = {"": 1, "B": 1, **{f"{k}B": 1000**n for n, k in enumerate("KMGT", 1)}}
_UNITS |= {f"{k}iB": 1024**n for n, k in enumerate("KMGT", 1)}
# Of what is free, under `auto`: the rest is for what others allocate later, and for what no
# measurement foresees.
AUTO_SHARE = 0.8
# Of a process's peak and its tensors': 20 and 14 MiB a query, with SEAN on images of 64 x 128.
CPU_FACTOR = 1.5


def check_budget(budget: str | int | None) -> int | None:
    """A budget such as "8GiB", "500MB" or a number of bytes, in bytes; None of `auto` and of None.

    Raises InputError for anything else.
    """
    if budget is None or budget == "auto":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?i?B)?", str(budget))
    amount = (
        int(float(match[1]) * _UNITS[match[2] or ""]) if match and (match[2] or "") in _UNITS else 0
    )
    if amount < 1:
        raise InputError(
            f"explainer.memory_budget must be such as 8GiB or 500MB, auto or null, got {budget!r}"
        )
    return amount


def queries_that_fit(measure: Callable[[int], int], budget: int) -> int:
    """How many queries fit into a budget of bytes, by what 1 and 2 of them take.

    Raises InputError for a budget in which not one does.
    """
    if (one := measure(1)) > budget:
        raise InputError(f"explainer.memory_budget: a single query takes {one / 2**20:.0f} MiB")
    return 1 + (budget - one) // max(measure(2) - one, 1)


def memory_taken(run: Callable[[], object], weights: Sequence[Tensor], device: torch.device) -> int:
    """Bytes that `run` needs at its peak, with the weights.

    On a GPU what torch's allocator has given out. On a CPU the tensors, times what convolutions
    take for themselves.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    with _Tensors(weights) as tensors:
        run()
    return _bytes_of(weights) + int(CPU_FACTOR * tensors.most)


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Follows the bytes of all tensors that are made, but for `known` ones; `most` at the peak."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if (
                isinstance(tensor, Tensor)
                and (storage := tensor.untyped_storage())._cdata not in self._seen
            ):
                self._seen.add(storage._cdata)
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return found

    def _forget(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self._now -= size


def memory_at_hand(weights: Sequence[Tensor], device: torch.device) -> int:
    """Bytes that `auto` allows: what the weights hold, and a share of what the device has free."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    else:
        held, free = _bytes_of(weights), _free_on_the_machine()
    return held + int(AUTO_SHARE * free)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in said)


def _bytes_of(weights: Sequence[Tensor]) -> int:
    return sum(weight.nbytes for weight in weights)


def _free_on_the_machine() -> int:
    """Bytes of memory that a process may still take: by Linux, and by its container's limit."""
    free = []
    with suppress(OSError, AttributeError):
        said = re.search(
            r"^MemAvailable: +(\d+) kB",
            Path("/proc/meminfo").read_text(encoding="ascii"),
            re.MULTILINE,
        )
        free.append(int(said[1]) * 1024)  # type: ignore[index]  # suppressed: an older Linux
    with suppress(OSError, ValueError):  # no such limit, or none at all: `max`
        most, now = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii")
            for name in ("max", "current")
        )
        free.append(int(most) - int(now))
    if not free:
        raise InputError(
            "explainer.memory_budget=auto: this system does not tell what is free; give an amount"
        )
    return max(min(free), 0)
