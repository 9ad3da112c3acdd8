"""What becomes of samples whose files cannot be read (`data.on_bad_sample`): an error, or counted
and left out.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cfexp.data.batch import ImageParcel
from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.errors import InputError

OnBadSample = Literal["raise", "skip"]
BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)
_log = logging.getLogger(__name__)


class BadSamples:
    """Which of `count` samples could not be read so far, in all worker processes."""

    def __init__(self, count: int, on_bad_sample: OnBadSample) -> None:
        self.on_bad_sample = on_bad_sample
        self._bad = torch.zeros(count, dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return int(self._bad.sum())

    @property
    def all(self) -> bool:
        """Whether there is none that could be read."""
        return bool(self._bad.all())

    def meet(self, row: int, error: InputError) -> None:
        """Raise the error, or where bad samples are skipped say it once and remember the sample."""
        if self.on_bad_sample == "raise":
            raise error
        if not self._bad[row]:
            _log.warning("skipped: %s", error)
        self._bad[row] = True

    def good(self, rows: Sequence[int] | Tensor) -> Tensor:
        """(B,) bool of (B,) samples."""
        return ~self._bad[rows]


class SkippingLoader(DataLoader[BatchT_co]):
    """A DataLoader that passes over batches none of whose samples can be read: they come empty.

    Raises InputError where no sample of the whole data set can be read.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches that have a sample, which are named tuples of tensors."""
        empty = shown = 0
        for batch in super().__iter__():
            if len(batch[0]):
                shown += 1
                yield batch.unpack() if isinstance(batch, ImageParcel) else batch
            else:
                empty += 1
        if empty and not shown and self.dataset.all_bad:  # type: ignore[attr-defined]
            problem = f"no sample of {empty} batches can be read (data.on_bad_sample=skip)"
            raise InputError(f"{problem}; python -m cfexp.doctor says why")


class _Readable(Protocol[BatchT]):
    """A data set that marks the items that cannot be read."""

    def __len__(self) -> int: ...

    def __getitems__(self, items: Sequence[int]) -> list[BatchT]: ...

    def good(self, items: Sequence[int]) -> Tensor: ...


class Replacing(Dataset[BatchT]):
    """The items of `whole`, as a training takes them: in place of one that cannot be read comes the
    next that can.

    So no batch of a training is smaller than the others: batch normalisation takes no single image.
    What comes in place of an item depends on the files alone, so a training that goes on sees what
    an undisturbed one does.
    """

    def __init__(self, whole: _Readable[BatchT]) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, item: int) -> BatchT:
        """One item; raises InputError as `__getitems__`."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[BatchT]:
        """Several items; raises InputError where none of the data set can be read."""
        found, good = self.whole.__getitems__(items), self.whole.good(items)
        if good.all():
            return found
        return self.whole.__getitems__(
            [
                item if fine else self._next_good(item)
                for item, fine in zip(items, good.tolist(), strict=True)
            ]
        )

    def _next_good(self, item: int) -> int:
        """The first item after this one, in a circle, that can be read; a mirrored one in place of
        a mirrored one.
        """
        turn, place = divmod(item, len(self))
        for step in range(1, len(self)):
            other = (place + step) % len(self) + turn * len(self)
            self.whole.__getitems__([other])
            if self.whole.good([other]).all():
                return other
        raise InputError(
            f"no image to train on can be read (data.on_bad_sample=skip); {OFFICIAL_REMEDY}"
        )


class _Skipping(Protocol):
    def __len__(self) -> int: ...

    @property
    def bad_samples(self) -> int: ...


def log_skipped(datasets: Mapping[Any, _Skipping], said: dict[Any, int]) -> None:
    """Say how many images of each part were left out, if any were and that was not said last."""
    for part, dataset in datasets.items():
        if dataset.bad_samples and dataset.bad_samples != said.get(part):
            said[part] = dataset.bad_samples
            instead = "; in training the next one came in place of each" if part == "train" else ""
            _log.warning(
                "%d images of the %s part were skipped: they cannot be read%s",
                dataset.bad_samples,
                part,
                instead,
            )


def check_on_bad_sample(value: object) -> None:
    """Raise InputError unless it is one of the two."""
    if value not in get_args(OnBadSample):
        raise InputError(f"data.on_bad_sample must be raise or skip, got {value!r}")
