import torch

from cfexp.models.perturbation import RandomPatches


def test_patches_cover_rectangles_of_some_images_in_part() -> None:
    torch.manual_seed(0)
    image = torch.zeros(64, 3, 16, 24)
    covered = RandomPatches(share=0.5, count=1, largest=1.0, opacity=0.5)(image)
    changed = covered.ne(0).any(1)
    touched = changed.any(2).any(1)
    assert 16 <= touched.sum() <= 48  # half of 64, and rectangles may be too small to cover a pixel
    assert covered.abs().max() <= 0.5  # an opaque patch would reach 1
    for inside, picture in zip(changed[touched], covered[touched], strict=True):
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        box = picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.equal(box, box[:, :1, :1].expand_as(box))  # whole, and of one colour


def test_no_patches_leave_images_as_they_are() -> None:
    image = torch.rand(4, 3, 8, 8)
    assert torch.equal(RandomPatches(share=0.0)(image), image)
