import torch

from cfexp.explainers.classifier import counter_class_of


def test_the_counter_class_is_the_other_side_or_the_runner_up() -> None:
    logits = torch.tensor([[0.5, -2.0, 1.0], [-0.1, 3.0, 2.0]])
    assert counter_class_of(logits, head=0).tolist() == [0, 1]
    assert counter_class_of(logits[:, :1]).tolist() == [0, 1]
    assert counter_class_of(logits).tolist() == [0, 2]
