import torch

from cfexp.metrics.majority import MajorityShare


def test_the_share_of_the_most_frequent_value_of_each_group_and_of_all() -> None:
    share = MajorityShare(num_classes=3, num_groups=3)
    share.update(torch.tensor([0, 0, 1, -1]), torch.tensor([0, 0, 0, 0]))
    share.update(torch.tensor([1, 1, -1, -1, -1]), torch.tensor([2, 2, 2, 2, 2]))
    first, nothing, third, every = share.compute().tolist()
    assert first == 0.5
    assert nothing != nothing
    torch.testing.assert_close(
        torch.tensor([third, every]), torch.tensor([2 / 5, 3 / 9])
    )  # -1 is no value


def test_label_maps_are_values_of_one_group() -> None:
    share = MajorityShare(num_classes=4)
    share.update(torch.tensor([[[0, 1], [1, 1]]]))
    share.update(torch.tensor([[[3, 3], [1, 0]]]))
    assert share.compute().tolist() == [0.5, 0.5]
