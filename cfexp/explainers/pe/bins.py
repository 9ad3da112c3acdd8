"""What the explained model says of the training images: computed once, and kept by what determines
it.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfexp.whole_files import whole_file

_log = logging.getLogger(__name__)
FEW = 20  # images: of a bin with fewer the discriminator learns nothing


def train_odds(
    data: Any, odds_of: Callable[[Tensor], Tensor], model: nn.Module, which: str, cache_dir: Path
) -> Tensor:
    """(N,) float32, the log odds of each training image in its fixed order; -inf of one that cannot
    be read.

    data: a data module of images. odds_of: images (B, 3, H, W) -> (B,) by the frozen `model`.
    which: what else determines them, such as the class. They are kept under `cache_dir`, by the
    model's weights and the data.
    """
    records = data.dataset("train").records
    said = [which, data.fingerprint, data.image_size, [record.image_id for record in records]]
    path = cache_dir.expanduser() / "pe_bins" / f"{_hash_of(model, repr(said))}.npy"
    if (kept := _kept(path, len(records))) is not None:
        return kept
    _log.info("the explained model is asked about %d training images (once)", len(records))
    device = next(model.parameters(), torch.empty(0)).device
    odds = torch.full((len(records),), -torch.inf)
    with torch.no_grad():
        for batch in data.in_order("train"):
            odds[batch.key] = odds_of(batch.image.to(device)).float().cpu()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, odds.numpy())
    return odds


def say_few(bins: Tensor, num_bins: int) -> None:
    """Say which of K bins have few of the N training images, whose bins are given (N,)."""
    counts = torch.bincount(bins, minlength=num_bins).tolist()
    if few := [number for number, count in enumerate(counts) if count < FEW]:
        listed = ", ".join(map(str, counts))
        _log.info(
            "bins %s have fewer than %d training images (of all bins: %s): what they ask for is "
            "learned by the explained model's gradient alone",
            *(", ".join(map(str, few)), FEW, listed),
        )


def _hash_of(model: nn.Module, said: str) -> str:
    digest = hashlib.sha256(said.encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):  # a module may keep more in it
            digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _kept(path: Path, count: int) -> Tensor | None:
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged
        return None
    return torch.from_numpy(kept) if kept.shape == (count,) and kept.dtype == np.float32 else None
