"""Training photographs of which the objects asked about are given other colours, inside their true
masks: the answer is then known from the pixels, and no colour is rare.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.data.base import QueryDataModule
from cfexp.data.batch import VQABatch
from cfexp.errors import InputError
from cfexp.metrics.functional import nearest_color
from cfexp.training.augmentation import moved_grid
from cfexp.training.ranges import check_lengths, check_shares

# How much of the object's own contrast is kept where it becomes lighter or darker.
_CONTRAST = (0.4, 2.5)


class TruthMasks:
    """The data's masks of what questions ask about, each read once."""

    def __init__(self) -> None:
        self._known: dict[int, Tensor] = {}

    def __call__(self, batch: VQABatch, data: QueryDataModule) -> Tensor:
        """(B, S, S) float, 1 inside.

        Raises InputError where the data's files do not say where a question's object is.
        """
        return torch.stack([self._of(key, data) for key in batch.question_id.tolist()]).to(
            batch.image
        )

    def _of(self, key: int, data: QueryDataModule) -> Tensor:
        if key not in self._known:
            mask = data.truth_mask(key)
            if mask is None:
                needed = "scene graphs say what each question asks about (data.root)"
                raise InputError(
                    f"question_id {key} has no truth mask: needed are data whose {needed}"
                )
            self._known[key] = torch.from_numpy(mask)
        return self._known[key]


class Recoloring:
    """Augments a batch of colour questions; every draw is by torch's generator.

    share: of the questions, whose objects are painted anew: shifted in RGB to a colour of the
    palette, each as likely, with their own light and shade. The answer becomes the name of the
    median colour, as nearest_color reads it. jitter: the standard deviation of each channel around
    the palette's colour, in 0..1. flip: how likely a picture is mirrored. shift, scale: how far it
    is moved at most, as a share of its half side, and by how much it is enlarged or made smaller
    at most, as a logarithm. Rows of one image_id share the picture, and so all of this.
    """

    def __init__(
        self,
        share: float = 0.5,
        jitter: float = 0.08,
        flip: float = 0.5,
        shift: float = 0.12,
        scale: float = 0.15,
    ) -> None:
        """Raises InputError for a setting out of range."""
        check_shares(share=share, flip=flip)
        check_lengths(jitter=jitter, shift=shift, scale=scale)
        self.share, self.jitter, self.flip = share, jitter, flip
        self.shift, self.scale = shift, scale
        self.truth_masks = TruthMasks()

    def __call__(self, batch: VQABatch, data: QueryDataModule) -> tuple[VQABatch, Tensor]:
        """The batch with other pictures and answers, and its truth masks (B, S, S) in 0..1, moved
        as the pictures are.

        Raises InputError for data without a palette or without truth masks.
        """
        if not data.palette:
            raise InputError("recoloring needs data with a palette: scene graphs that name colours")
        names, mask = data.class_names, self.truth_masks(batch, data)
        palette = {name: rgb for name, rgb in data.palette.items() if name in names}
        distinct, picture = torch.unique(batch.image_id, return_inverse=True)
        first = [int((picture == number).nonzero()[0]) for number in range(len(distinct))]
        image, answer = batch.image[first], batch.answer.clone()
        for row in (torch.rand(len(answer)) < self.share).nonzero().flatten().tolist():
            inside = mask[row] > 0
            if inside.any():
                painted = self._painted(image[picture[row], :, inside], palette)
                image[picture[row], :, inside] = painted
                name = nearest_color((painted.T + 1) / 2, palette)
                answer[row] = names.index(name)
        grid = moved_grid(image, self.shift / 2, self.scale, self.flip)
        image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        moved = F.grid_sample(mask[:, None], grid[picture], align_corners=False)
        return batch._replace(image=image[picture], answer=answer), moved[:, 0]

    def _painted(self, pixels: Tensor, palette: dict[str, tuple[int, int, int]]) -> Tensor:
        """An object's pixels (3, N) in [-1, 1] around another colour."""
        chosen = list(palette.values())[int(torch.randint(len(palette), ()))]
        color = pixels.new_tensor(chosen) / 127.5 - 1 + 2 * self.jitter * torch.randn(3).to(pixels)
        median = pixels.median(1).values
        # What is lighter has more light and shade.
        contrast = ((color.mean() + 1.2) / (median.mean() + 1.2)).clamp(*_CONTRAST)
        return (color[:, None] + contrast * (pixels - median[:, None])).clamp(-1, 1)
