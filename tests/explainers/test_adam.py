import torch

from cfexp.explainers.adam import adam


def test_steps_are_those_of_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    ours = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    theirs = torch.nn.Parameter(ours.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.03)
    moments = torch.zeros_like(ours), torch.zeros_like(ours)
    for step in range(1, 6):
        theirs.grad = torch.randn(4, 3, generator=draw, dtype=torch.float64)
        update, moments = adam(theirs.grad, moments, step, 0.03)
        ours = ours - update
        optimizer.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
