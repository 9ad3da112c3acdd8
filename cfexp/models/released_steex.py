"""The four networks of a released STEEX pipeline (Jacob et al. 2022), from their published names to
our modules.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from cfexp.models.classifiers import DecisionModel, Oracle
from cfexp.models.loading.pretrained import read_state_dict
from cfexp.models.loading.state_dicts import fill_places, parameters_of, shape_of
from cfexp.models.sean.layers import RegionNorm, bias_of
from cfexp.models.sean.sean import SEAN
from cfexp.models.segmenter import Segmenter


def sean_from_released(state_dict: Mapping[str, Tensor]) -> SEAN:
    """SEAN, style encoder and generator, from its or STEEX's `latest_net_G.pth`, in evaluation
    mode.

    Every size is read off the tensors. Buffers and scalars that the published network holds but
    never uses must be there, and are dropped.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    num_regions, start = shape_of(state_dict, "fc.weight", (1024, 19, 3, 3))[1::-1]
    up_blocks = len({key.split(".")[0] for key in state_dict if key.startswith("up_")}) or 4
    encoder_channels = shape_of(state_dict, "Zencoder.model.1.weight", (32, 3, 3, 3))[0]
    style_dim = shape_of(state_dict, "Zencoder.model.14.weight", (512, 256, 3, 3))[0]
    spade_channels = shape_of(
        state_dict, "head_0.ace_0.Spade.mlp_shared.0.weight", (128, 19, 3, 3)
    )[0]
    base_channels = max(1, start // 2**up_blocks)
    # Every tensor is filled below, so none is initialised.
    with torch.device("meta"):
        network = SEAN(
            *(num_regions, base_channels, style_dim, encoder_channels),
            up_blocks=up_blocks,
            spade_channels=spade_channels,
        )
    network.to_empty(device="cpu")

    layers: dict[str, nn.Module] = {"fc": network.head, "conv_img": network.to_rgb}
    convolutions = [
        layer
        for layer in network.encoder.layers
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    layers |= {
        f"Zencoder.model.{number}": layer
        for number, layer in zip((1, 4, 7, 10, 14), convolutions, strict=True)
    }
    places = parameters_of(layers)
    names = ["head_0", "G_middle_0", "G_middle_1", *(f"up_{number}" for number in range(up_blocks))]
    for name, block in zip(names, network.blocks, strict=True):
        for key, layer in block.named_children():
            kind, suffix = key.split("_")
            find = _norm_places if kind == "norm" else _spectral_places
            places |= dict(find(f"{name}.{'ace' if kind == 'norm' else 'conv'}_{suffix}", layer))
    fill_places(places, state_dict, "SEAN's generator")
    return network.eval()


def _spectral_places(name: str, convolution: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The published spectral norm (weight_orig, _u, _v) in torch's parametrisation: W = weight_orig
    / (u . W v).
    """
    tensors = convolution.state_dict()
    if "bias" in tensors:
        yield f"{name}.bias", tensors["bias"]
    yield f"{name}.weight_orig", tensors["parametrizations.weight.original"]
    yield f"{name}.weight_u", tensors["parametrizations.weight.0._u"]
    yield f"{name}.weight_v", tensors["parametrizations.weight.0._v"]


def _norm_places(name: str, norm: nn.Module) -> Iterator[tuple[str, Tensor]]:
    assert isinstance(norm, RegionNorm)
    yield f"{name}.noise_var", norm.noise_scale.detach()
    for key, buffer in norm.batch_norm.state_dict().items():
        yield f"{name}.param_free_norm.{key}", buffer
        yield f"{name}.Spade.param_free_norm.{key}", buffer.clone()  # never used
    yield f"{name}.Spade.mlp_shared.0.weight", norm.spade_shared.weight.detach()
    yield f"{name}.Spade.mlp_shared.0.bias", bias_of(norm.spade_shared).detach()
    yield from _gamma_and_beta(f"{name}.Spade.mlp_", norm.spade)
    blending = (
        norm.blending.detach() if norm.styled else norm.noise_scale.new_empty(2)
    )  # without style never used
    yield f"{name}.blending_gamma", blending[:1]
    yield f"{name}.blending_beta", blending[1:]
    if norm.styled:
        yield from _gamma_and_beta(f"{name}.conv_", norm.style)
        for region in range(norm.num_regions):
            yield f"{name}.fc_mu{region}.weight", norm.mapping_weight.detach()[region]
            yield f"{name}.fc_mu{region}.bias", norm.mapping_bias.detach()[region]


def _gamma_and_beta(name: str, convolution: nn.Conv2d) -> Iterator[tuple[str, Tensor]]:
    for key, parameter in convolution.named_parameters():
        gamma, beta = parameter.detach().chunk(2)
        yield f"{name}gamma.{key}", gamma
        yield f"{name}beta.{key}", beta


def decision_from_released(state_dict: Mapping[str, Tensor]) -> DecisionModel:
    """STEEX's decision model, a DenseNet121, in evaluation mode: images (B, 3, H, W) in [-1, 1] to
    logits (B, K).

    K is 3 for faces (Male, Smiling, Young) and 4 for streets (forward, stop or slow, left, right).

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    model = DecisionModel("densenet121", shape_of(state_dict, "classifier.weight", (3, 1024))[0])
    places = {
        key if key.startswith("classifier.") else f"feat_extract.feat_extract.{key}": place
        for key, place in model.network.state_dict().items()
    }
    fill_places(places, state_dict, "the decision DenseNet121")
    return model.eval()


def segmenter_from_released(state_dict: Mapping[str, Tensor]) -> Segmenter:
    """STEEX's DeepLabV3, in evaluation mode; the backbone's depth and the number of regions are
    read off.

    The released one for streets has region 0 for what is unknown and the 19 classes behind it.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    # The third of four stages has 6 blocks in a ResNet50 and 23 in a ResNet101.
    is_small = (
        "backbone.layer3.5.conv1.weight" in state_dict
        and "backbone.layer3.6.conv1.weight" not in state_dict
    )
    num_regions = shape_of(state_dict, "classifier.4.weight", (19, 256, 1, 1))[0]
    segmenter = Segmenter(num_regions, "resnet50" if is_small else "resnet101")
    fill_places(segmenter.network.state_dict(), state_dict, "DeepLabV3")
    return segmenter.eval()


def oracle_from_released(state_dict: Mapping[str, Tensor]) -> Oracle:
    """The oracle of STEEX's MNAC, or VGGFace2's `resnet50_ft_dag.pth` with its 8631 identities, in
    evaluation mode.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    of_oracle = any(key.startswith("feat_extract.") for key in state_dict)
    prefix = "feat_extract." if of_oracle else ""
    head = shape_of(
        state_dict, "classifier.weight", (40, 2048) if of_oracle else (8631, 2048, 1, 1)
    )
    oracle = Oracle(head[0])
    classifier = oracle.classifier.weight.detach()
    places = {
        "classifier.weight": classifier if of_oracle else classifier[..., None, None],
        "classifier.bias": oracle.classifier.bias.detach(),
    }
    layers: dict[str, nn.Module] = {"conv1_7x7_s2": oracle.stem}
    for number, stage in enumerate(oracle.stages, start=2):
        for block_number, block in enumerate(stage.children(), start=1):
            for ours, layer in block.named_children():
                layers[f"conv{number}_{block_number}_{_CAFFE_NAMES[ours]}"] = layer
    for name, layer in layers.items():
        places[f"{prefix}{name}.weight"] = layer.state_dict()["0.weight"]
        for key, place in layer.get_submodule("1").state_dict().items():
            # Files from before torch 0.4.1 do not count batches.
            if key != "num_batches_tracked" or f"{prefix}{name}_bn.{key}" in state_dict:
                places[f"{prefix}{name}_bn.{key}"] = place
    fill_places(places, state_dict, "VGGFace2's ResNet50")
    return oracle.eval()


def vggface2_oracle(num_outputs: int = 40, weights: str | None = None) -> Oracle:
    """An oracle to train: VGGFace2's network, with a linear layer of its own behind it, as STEEX's.

    weights: its released file, `resnet50_ft_dag.pth` (or an oracle's, whose last layer is left out,
        too); None = a random start, or a file loaded later.

    Raises InputError for a file that is missing or does not fit.
    """
    if weights is None:
        return Oracle(num_outputs)
    oracle = oracle_from_released(read_state_dict(weights)).train()
    oracle.classifier = nn.Linear(oracle.classifier.in_features, num_outputs)
    return oracle


_CAFFE_NAMES = {
    "reduce": "1x1_reduce",
    "middle": "3x3",
    "increase": "1x1_increase",
    "project": "1x1_proj",
}
