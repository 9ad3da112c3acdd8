"""Batch normalisation by two processes beside torch's own of the whole batch."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from cfexp.models.batch_norm import SyncBatchNorm, desynchronise, synchronise

SHARES = (slice(0, 3), slice(3, 8))  # of 8 images


def network(momentum: float | None) -> nn.Sequential:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(4, momentum=momentum, affine=False)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), plain, nn.Tanh(), nn.BatchNorm2d(4, momentum=momentum)
    ).double()


def images() -> Tensor:
    return 5 + torch.randn(
        8, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def trained(module: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """What two steps on a batch leave: output, gradients and running statistics."""
    batch = batch.clone().requires_grad_()
    for _ in range(2):
        module.zero_grad()
        batch.grad = None
        out = module(batch)
        out.pow(3).sum().backward()
    found = {"out": out.detach(), "input gradient": batch.grad, **module.state_dict()}
    return found | {
        f"gradient of {name}": parameter.grad for name, parameter in module.named_parameters()
    }


def process(rank: int, folder: str, momentum: float | None) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    synced = network(momentum)
    synchronise(synced)
    torch.save(trained(synced, images()[SHARES[rank]]), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_are_one_batch(momentum: float | None, tmp_path: Path) -> None:
    spawn(partial(process), (str(tmp_path), momentum), nprocs=2)  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, expected in trained(network(momentum), images()).items():
        halves = [each[name] for each in found]
        if name in ("out", "input gradient"):
            got = torch.cat(halves)
        elif name.startswith("gradient"):
            got = torch.stack(halves).sum(0)  # which DDP does
        else:
            assert torch.equal(*halves), name
            got = halves[0]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, msg=name)


def test_alone_it_is_torchs_and_it_becomes_what_it_was() -> None:
    synced = network(0.1)
    synchronise(synced)
    assert [type(each) for each in synced if hasattr(each, "momentum")] == [
        SyncBatchNorm,
        SyncBatchNorm,
    ]
    assert torch.equal(trained(synced, images())["out"], trained(network(0.1), images())["out"])
    desynchronise(synced)
    assert repr(synced) == repr(network(0.1))
    assert synced.state_dict().keys() == network(0.1).state_dict().keys()
    assert not any(hasattr(each, "kind") for each in synced)
