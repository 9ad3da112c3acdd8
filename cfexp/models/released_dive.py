"""The autoencoder of a released DiVE (Rodriguez et al. 2021), from its published names to our
module.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cfexp.models.loading.state_dicts import fill_places, shape_of
from cfexp.models.tcvae import PLANS, TCVAE, UpBlock, halvings_of

_FIRST = "encoder.group0.block_0.conv0.weight"


def tcvae_from_released(state_dict: Mapping[str, Tensor], image_size: tuple[int, int]) -> TCVAE:
    """The beta-TCVAE of DiVE, or the VAE of xGEM+, from its checkpoint, in evaluation mode.

    Args:
        state_dict: published names; a leading `model.`, which wrapped checkpoints have, is passed
            over. Widths, depths and the code's size are read off the tensors.
        image_size: height and width, which they do not tell.

    Returns:
        A network with `encode(images) -> (mean, log_variance)` and `decode(codes) -> images`,
        images (B, 3, H, W) in [-1, 1].

    Raises:
        InputError: naming the keys that are missing, left over or misshaped; and for a size that
            no such network can have.

    """
    state_dict = _unwrapped(state_dict)
    height, width = image_size
    plan = PLANS[halvings_of(height, width)]
    bottleneck = shape_of(state_dict, "encoder.bn_out.weight", (512,))[0]
    channels_width = shape_of(state_dict, _FIRST, (64, 3, 3, 3))[0] // plan.encoder_channels[0]
    hidden, code_dim = shape_of(state_dict, "decoder.mlp.linear0.weight", (2048, 128))
    depth = len([key for key in state_dict if _is_hidden_layer(key)])
    # Every tensor is filled below, so none is initialised.
    with torch.device("meta"):
        network = TCVAE(
            *(height, width),
            channels_width=max(1, channels_width),
            code_dim=code_dim,
            mlp_width=max(1, hidden // bottleneck),
            mlp_depth=depth or 2,
        )
    network.to_empty(device="cpu")
    ours = network.state_dict()
    fill_places(
        {theirs: ours[name] for theirs, name in published_names(network).items()},
        state_dict,
        f"DiVE's autoencoder of {height}x{width} pixels",
    )
    return network.eval()


def size_for(state_dict: Mapping[str, Tensor]) -> tuple[int, int]:
    """A height and width that the network may be of: the tensors tell their product alone.

    It is the most square one; the tensors of another size with that product are the same.
    """
    state_dict = _unwrapped(state_dict)
    groups = {key.split(".")[1] for key in state_dict if key.startswith("encoder.group")}
    halvings = min(max(len(groups), min(PLANS)), max(PLANS))
    bottleneck = shape_of(state_dict, "encoder.bn_out.weight", (512,))[0]
    size = shape_of(state_dict, "encoder.mlp.linear0.weight", (2048, 8192))[1]
    cells = max(size // bottleneck, 1)
    high = next(high for high in range(math.isqrt(cells), 0, -1) if cells % high == 0)
    return high << halvings, cells // high << halvings


def _unwrapped(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    wrapped = len(state_dict) > 0 and all(key.startswith("model.") for key in state_dict)
    return (
        {key.removeprefix("model."): value for key, value in state_dict.items()}
        if wrapped
        else state_dict
    )


def published_names(network: TCVAE) -> dict[str, str]:
    """The published name of every tensor of a network, and ours."""
    modules = {
        "encoder.bn_out": "encoder_norm",
        "decoder.bn_out": "decoder_norm",
        "decoder.conv_out": "to_rgb",
        **_mlp_names("encoder.mlp", "encoder_mlp", network),
        **_mlp_names("decoder.mlp", "decoder_mlp", network),
    }
    places = {"encoder": "block_", "decoder": "block"}
    for part, block_name in places.items():
        group = block = -1
        for number, each in enumerate(network.get_submodule(part).children()):
            first = each.get_submodule("enlarge" if isinstance(each, UpBlock) else "shrink")
            starts = not isinstance(first, torch.nn.Identity)
            group, block = (group + 1, 0) if starts else (group, block + 1)
            theirs, own = f"{part}.group{group}.{block_name}{block}", f"{part}.{number}"
            skip = "conv_short" if part == "decoder" else "conv_reduce"
            names = {"bn0": "norm_0", "conv0": "conv_0", "bn1": "norm_1", "conv1": "conv_1"}
            for published, name in {**names, skip: "skip"}.items():
                modules[f"{theirs}.{published}"] = f"{own}.{name}"
    by_ours = {f"{own}.": f"{theirs}." for theirs, own in modules.items()}
    found = {}
    for name in network.state_dict():
        prefix = next(each for each in by_ours if name.startswith(each))
        rest = name.removeprefix(prefix)
        found[by_ours[prefix] + _PARAMETRIZED.get(rest, rest)] = name
    return found


# Spectral norm as the published network has it, W = weight_orig / (u . W v), in torch's
# parametrisation of today.
_PARAMETRIZED = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def _mlp_names(theirs: str, ours: str, network: TCVAE) -> dict[str, str]:
    """Of each layer of an MLP: a linear one, its norm and its activation, and the last linear."""
    last = len(list(network.get_submodule(ours).children())) - 1
    names = {f"{theirs}.linear_out": f"{ours}.{last}"}
    for number in range(last // 3):
        names[f"{theirs}.linear{number}"] = f"{ours}.{3 * number}"
        names[f"{theirs}.bn{number}"] = f"{ours}.{3 * number + 1}"
    return names


def _is_hidden_layer(key: str) -> bool:
    name = key.removeprefix("decoder.mlp.linear").removesuffix(".weight")
    return key.startswith("decoder.mlp.linear") and name.isdigit()
