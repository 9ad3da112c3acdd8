"""The pooled checkerboard score of groups of queries, of more pictures than fit into memory."""

import torch
from torch import Tensor

from cfexp.metrics.functional import MIN_SPECTRUM, ROUNDING, checkerboard_score

FOLDS = 10
# Both periods' score crop to multiples of themselves; so cropped, one spectrum does for both.
PERIODS = (2, 4)


class PooledCheckerboard:
    """Sums the power spectra of edits by group and by fold of images, and scores each group's mean
    spectrum.

    `update` after `update`, `score` gives what `checkerboard_score(..., pooled=True)` gives of all
    edits at once.
    """

    def __init__(self, num_groups: int) -> None:
        self.num_groups = num_groups
        self.size = (0, 0)
        self.power = torch.zeros(
            0
        )  # (groups, folds, H * (W / 2 + 1)): a real picture's spectrum is symmetric
        self.count = torch.zeros(num_groups, FOLDS)

    def update(self, edits: Tensor, members: Tensor, fold: Tensor) -> None:
        """Add B edits (B, C, H, W), counterfactual - query of images in [-1, 1].

        members: (groups, B) bool, the edits of each group; fold: (B,) int64 in 0..FOLDS - 1, one
        for each image.
        """
        height, width = (side - side % max(PERIODS) for side in edits.shape[-2:])
        if min(height, width) < MIN_SPECTRUM:
            return
        power = torch.fft.rfft2(edits[..., :height, :width]).abs().square().mean(1).flatten(1)
        if not len(self.power):
            self.size, self.power = (
                (height, width),
                power.new_zeros(self.num_groups, FOLDS, power.shape[1]),
            )
        in_fold = fold == torch.arange(FOLDS)[:, None]
        weights = (members[:, None] & in_fold).float()
        self.power += weights @ power
        self.count += (weights * (power.sum(1) > 0)).sum(2)

    def score(self, group: int, period: int) -> tuple[float, float, float, int]:
        """Score, 95 % interval (low, high) and number of edits of a group; NaN without an edit.

        The score is no mean over queries, so the interval is the jackknife's over the folds (Efron
        & Stein 1981); NaN if the edits lie in one fold, and where no fold's absence makes a
        difference.
        """
        count = self.count[group]
        # Leaving a fold out that holds no edit would only repeat the score.
        folds = count.nonzero().flatten().tolist()
        if not folds:
            return float("nan"), float("nan"), float("nan"), 0
        score = self._of(self.power[group].sum(0), period)
        if len(folds) < 2:
            return score, float("nan"), float("nan"), int(count.sum())
        others = [[other for other in folds if other != fold] for fold in folds]
        left = torch.tensor([self._of(self.power[group, kept].sum(0), period) for kept in others])
        half = 1.96 * float(left.var(correction=0) * (len(folds) - 1)) ** 0.5
        if half <= 10 * ROUNDING * score:  # a spectrum is a sum of many pictures', in float32
            half = float("nan")
        return score, max(score - half, 0.0), score + half, int(count.sum())

    def _of(self, power: Tensor, period: int) -> float:
        """The score of a spectrum: that of the picture that has it, with all phases zero."""
        amplitude = power.double().sqrt().view(1, 1, self.size[0], -1)
        picture = torch.fft.irfft2(amplitude, s=self.size)
        return float(
            checkerboard_score(torch.zeros_like(picture), picture, period=period, pooled=True)
        )
