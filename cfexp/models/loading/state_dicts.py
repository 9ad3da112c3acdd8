"""Filling a network of ours from a state dict whose names and shapes are another's, with every
tensor accounted for.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from cfexp.models.loading.pretrained import check_fit


def shape_of(
    state_dict: Mapping[str, Tensor], key: str, published: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape of a tensor from which to read sizes; if it is absent or no such tensor, the
    published one.

    `fill_places` then reports that with everything else that is wrong.
    """
    tensor = state_dict.get(key)
    return published if tensor is None or tensor.ndim != len(published) else tuple(tensor.shape)


def parameters_of(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The parameters of some layers, to be written to, as `layer.parameter`."""
    return {
        f"{name}.{key}": parameter.detach()
        for name, layer in layers.items()
        for key, parameter in layer.named_parameters()
    }


def fill_places(
    places: Mapping[str, Tensor],
    state_dict: Mapping[str, Tensor],
    network: str,
    name: str = "the state dict",
) -> None:
    """Copy each tensor of a state dict to its place, a view into one of our parameters; raises as
    `check_fit`.
    """
    check_fit({key: place.shape for key, place in places.items()}, state_dict, name, network)
    for key, place in places.items():
        place.copy_(state_dict[key])
