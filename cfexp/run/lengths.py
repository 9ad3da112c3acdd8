"""How long a training is, by the images that there are: for resolvers of conf/, which every command
registers, so that nothing heavy is imported here.
"""

import math


def epochs(steps: int, images: int | None, batch: int) -> int:
    """Whole epochs of at least so many steps; 1 where it is not known yet how many images."""
    return 1 if images is None else max(1, math.ceil(steps / max(images // batch, 1)))


def seldom(epochs_in_all: int) -> int:
    """Every how many epochs to validate: some ten times in all."""
    return max(1, epochs_in_all // 10)


def at_most(wanted: int, images: int | None) -> int:
    """A batch of so many images, or of all that there are to train on."""
    return wanted if images is None else max(2, min(wanted, images))
