"""The networks of a released Progressive Exaggeration (Singla et al. 2020), from the names and
layouts of its TensorFlow checkpoints to our modules.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cfexp.models.loading.state_dicts import fill_places, shape_of
from cfexp.models.progressive_exaggeration import BinNorm, Discriminator, Generator

# What a checkpoint holds beside the two networks: the classifier, the optimizers' numbers, and
# moving averages that the published graph never reads.
_UNUSED = re.compile(r"classifier/|.*(/Adam(_1)?|/ExponentialMovingAverage|beta[12]_power(_1)?)$")
_PARTS = {
    "bn1": "norm_0",
    "conv1": "conv_0",
    "bn2": "norm_1",
    "conv2": "conv_1",
    "identity": "shortcut",
}


def pe_from_released(
    variables: Mapping[str, NDArray[Any] | Tensor], num_bins: int = 10
) -> tuple[Generator, Discriminator]:
    """PE's generator and discriminator from the variables of a checkpoint, in evaluation mode.

    variables: by their published names, as TensorFlow lists them; kernels are (height, width, in,
        out). Every size is read off them, and what is of neither network is passed over.
    num_bins: of the decision, as many as the variables are for.

    The released generator kept no averages that it used: call it with `batch_statistics=True`.

    Raises InputError naming the variables that are missing, left over or misshaped.
    """
    tensors = {
        name: torch.as_tensor(np.asarray(array))
        for name, array in variables.items()
        if not _UNUSED.match(name)
    }
    encoder = _blocks(tensors, "generator/Encoder-ResBlock", 5)[::-1]  # numbered from the code
    decoder = [name.replace("Encoder-", "") for name in encoder[::-1]]
    judging = _blocks(tensors, "discriminator/ResBlock", 6)
    widths = [shape_of(tensors, "generator/conv1/W", (3, 3, 3, 64))[3]]
    widths += [_width(tensors, name) for name in encoder]
    generator = Generator(widths, num_bins)
    discriminator = Discriminator([_width(tensors, name) for name in judging[:-1]], num_bins)
    blocks = (
        *zip(encoder, generator.encoder, strict=True),
        *zip(decoder, generator.decoder, strict=True),
        *zip(
            judging,
            (discriminator.first, *discriminator.blocks, discriminator.last),
            strict=True,
        ),
    )
    layers: dict[str, nn.Module] = {
        f"{name}/{part}": layer
        for name, block in blocks
        for part, ours in _PARTS.items()
        if (layer := getattr(block, ours, None)) is not None
    }
    layers |= {
        "generator/BN1": generator.norm_in,
        "generator/conv1": generator.conv_in,
        "generator/BN": generator.norm_out,
        "generator/conv": generator.conv_out,
        "discriminator/dense": discriminator.dense,
    }
    places = dict(place for name, layer in layers.items() for place in _places(name, layer))
    ((_, matrix), (_, vector)) = _places("", discriminator.projection)
    places |= {"discriminator/V": matrix.T, "discriminator/embedu": vector}
    fill_places(places, tensors, "Progressive Exaggeration")
    return generator.eval(), discriminator.eval()


def _blocks(tensors: Mapping[str, Tensor], start: str, published: int) -> list[str]:
    """The names of the residual blocks that begin so, in the order of their numbers."""
    numbered = re.compile(rf"{start}\d+/")
    found = {match[0] for name in tensors if (match := numbered.match(name))}
    return [f"{start}{number}" for number in range(1, (len(found) or published) + 1)]


def _width(tensors: Mapping[str, Tensor], block: str) -> int:
    return shape_of(tensors, f"{block}/conv1/W", (3, 3, 64, 64))[3]


def _places(name: str, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Where the variables of one layer belong, in the published layouts."""
    if isinstance(layer, BinNorm):
        for kind, table in (("beta", layer.shift), ("gamma", layer.scale)):
            place = table.detach() if len(table) > 1 else table.detach()[0]
            yield f"{name}/{name.rpartition('/')[2]}{kind}", place
        return
    tensors = layer.state_dict()
    normed = "parametrizations.weight.original" in tensors
    weight = tensors["parametrizations.weight.original" if normed else "weight"]
    yield f"{name}/W", weight.permute(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    if "bias" in tensors:
        yield f"{name}/b", tensors["bias"]
    if normed:
        yield f"{name}/snu", tensors["parametrizations.weight.0.left"][None]
