"""One step of the search, and one of SEAN's training, in the published form and in ours, on the
same weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp import losses
from cfexp.models.classifiers import DecisionModel
from cfexp.models.discriminators import MultiscaleDiscriminator
from cfexp.models.feature_networks import VGG19Features
from cfexp.models.sean.fast import FastSEAN
from cfexp.models.sean.layers import RegionNorm
from cfexp.models.sean.sean import SEAN

FORMS = ("published", "plain", "fast")
TRAINING_FORMS = ("published", "ours, drawn twice", "ours")
Step = Callable[[], tuple[Tensor, Tensor]]


class Size(NamedTuple):
    """What is measured: full size is 256 pixels, 64 base channels, 19 regions."""

    pixels: int = 256
    base_channels: int = 64
    num_regions: int = 19
    style_dim: int = 512


def build_networks(size: Size) -> tuple[SEAN, DecisionModel]:
    """SEAN and a DenseNet121 from seed 0, in evaluation mode: random, but with features of a
    plausible scale.
    """
    torch.manual_seed(0)
    sean = SEAN(size.num_regions, size.base_channels, size.style_dim)
    for name, parameter in sean.named_parameters():
        if parameter.ndim > 1 and "parametrizations" not in name:
            fan_in = parameter.shape[-1] if parameter.ndim == 3 else parameter[0].numel()
            nn.init.normal_(parameter, std=fan_in**-0.5)
    return sean.eval(), DecisionModel("densenet121", 3).eval()


def draw_label_maps(batch: int, size: Size) -> Tensor:
    """Label maps (B, H, W): ellipses before a horizon, with about as much boundary as a face or a
    street.
    """
    y, x = torch.meshgrid(*[torch.linspace(0, 1, size.pixels)] * 2, indexing="ij")
    maps = []
    for number in range(batch):
        generator = torch.Generator().manual_seed(number)
        label_map = (y > 0.6).long()
        for ellipse in range(2, 3 * size.num_regions // 2):
            down, right, height, width = torch.rand(4, generator=generator).tolist()
            inside = ((y - down) / (0.02 + height / 5)) ** 2 + (
                (x - right) / (0.02 + width / 5)
            ) ** 2 < 1
            label_map[inside] = ellipse % size.num_regions
        maps.append(label_map)
    return torch.stack(maps)


def draw_codes(batch: int, size: Size) -> Tensor:
    """Style codes (B, R, D) in [-1, 1]."""
    shape = (size.num_regions, size.style_dim)
    drawn = [
        torch.rand(shape, generator=torch.Generator().manual_seed(number))
        for number in range(batch)
    ]
    return torch.stack(drawn) * 2 - 1


def search_step(
    form: str,
    size: Size,
    batch: int,
    dtype: torch.dtype,
    device: str = "cpu",
    mixed: torch.dtype | None = None,
) -> Step:
    """A step of the search in one of `FORMS`, that returns the image and the gradient by the codes.

    mixed: of features and convolutions (fast form only), for instance torch.bfloat16.
    """
    sean, decision_model = build_networks(size)
    sean.to(device, dtype)
    decision_model.to(device, dtype)
    label_maps, codes = (
        draw_label_maps(batch, size).to(device),
        draw_codes(batch, size).to(device, dtype),
    )
    query_codes = codes.clone()
    codes = (codes + 0.01).requires_grad_()  # as after a step: the proximity has a gradient
    optimizer = torch.optim.Adam([codes], lr=0.01)
    counter_class = torch.ones(batch, dtype=torch.int64, device=device)
    if form != "published":
        sean.requires_grad_(False)
        decision_model.requires_grad_(False)
    decode: Callable[[Tensor], Tensor]
    if form == "fast":
        fast = FastSEAN(sean, mixed)
        decision_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `STEEX` does
        prepared = fast.prepare(label_maps)
        decode = lambda codes: fast.decode(codes, prepared)  # noqa: E731
    elif form == "plain":
        decode = lambda codes: sean.decode(codes, label_maps, dense=True)  # noqa: E731
    else:
        decode = lambda codes: published_decode(sean, codes, label_maps)  # noqa: E731

    def step() -> tuple[Tensor, Tensor]:
        image = decode(
            codes.view_as(codes)
        )  # the operation counter cannot have a leaf go into a module
        with torch.autocast(device, mixed, enabled=mixed is not None):
            logits = decision_model(image).to(dtype)
        loss = losses.decision_loss(logits, counter_class, head=1) + 0.3 * losses.proximity_loss(
            codes, query_codes
        )
        if (
            form == "published"
        ):  # which also fills the gradient of every weight, and never empties it
            codes.grad = None
            loss.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        else:
            (codes.grad,) = torch.autograd.grad(loss.sum(), [codes])
        gradient = codes.grad
        assert gradient is not None
        optimizer.step()
        return image.detach(), gradient

    return step


def published_decode(sean: SEAN, style_codes: Tensor, label_maps: Tensor) -> Tensor:
    """`SEAN.decode` as the published code goes about it: everything anew in every step, and one
    region at a time.
    """
    one_hot = F.one_hot(label_maps, sean.num_regions).permute(0, 3, 1, 2).to(style_codes.dtype)
    features = sean.head(F.interpolate(one_hot, scale_factor=1 / sean.strides[0], mode="nearest"))
    stride = sean.strides[0]
    for block, next_stride in zip(sean.residual_blocks(), sean.strides, strict=True):
        if next_stride != stride:
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
        stride = next_stride
        skip = features
        if block.norm_s is not None and block.conv_s is not None:
            skip = block.conv_s(_published_norm(block.norm_s, features, style_codes, one_hot))
        middle = F.leaky_relu(_published_norm(block.norm_0, features, style_codes, one_hot), 0.2)
        middle = F.leaky_relu(
            _published_norm(block.norm_1, block.conv_0(middle), style_codes, one_hot), 0.2
        )
        features = skip + block.conv_1(middle)
    return torch.tanh(sean.to_rgb(F.leaky_relu(features, 0.2)))


def _published_norm(
    norm: RegionNorm, features: Tensor, style_codes: Tensor, one_hot: Tensor
) -> Tensor:
    batch, _, height, width = features.shape
    noise = torch.randn(batch, 1, height, width, device=features.device, dtype=features.dtype)
    features = norm.batch_norm(features + norm.noise_scale[:, None, None] * noise)
    small = F.interpolate(one_hot, (height, width), mode="nearest")
    maps = norm.spade(F.relu(norm.spade_shared(small)))
    if norm.styled:
        maps = norm.blend(maps, norm.style(_broadcast(norm, style_codes, small)))
    gamma, beta = maps.chunk(2, dim=1)
    plain: Tensor = features * (1 + gamma) + beta
    return plain


def _broadcast(norm: RegionNorm, style_codes: Tensor, one_hot: Tensor) -> Tensor:
    """Each pixel's mapped code, by a loop over images and regions."""
    batch, _, height, width = one_hot.shape
    broadcast = one_hot.new_zeros(batch, style_codes.shape[2], height, width)
    for image in range(batch):
        for region in range(norm.num_regions):
            mask = one_hot[image, region].bool()
            area = int(mask.sum())
            if area > 0:
                weight, bias = norm.mapping_weight[region], norm.mapping_bias[region]
                mapped = F.relu(F.linear(style_codes[image, region], weight, bias))
                broadcast[image].masked_scatter_(mask, mapped[:, None].expand(-1, area))
    return broadcast


def training_step(form: str, size: Size, batch: int) -> Callable[[], float]:
    """A step of SEAN's training in one of `TRAINING_FORMS`, that returns the generator's loss.

    Generator and discriminator, with all losses; the perceptual network is a VGG19 with random
    weights, which cost as much as trained ones. As published the discriminator is shown another
    image, by the generator's new weights; ours, as `AutoencoderStage` does, the one that the
    generator was judged by, unless it is drawn twice.
    """
    sean, _ = build_networks(size)
    sean.train()
    discriminator = MultiscaleDiscriminator(size.num_regions)
    vgg = VGG19Features().eval().requires_grad_(False)
    label_maps = draw_label_maps(batch, size)
    images = (
        torch.rand(batch, 3, *label_maps.shape[1:], generator=torch.Generator().manual_seed(0)) * 2
        - 1
    )
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=lr, betas=(0.0, 0.9))
        for network, lr in ((sean, 1e-4), (discriminator, 4e-4))
    ]

    def reconstruct() -> Tensor:
        codes = sean.encode(images, label_maps)
        if form == "published":
            return published_decode(sean, codes, label_maps)
        return sean.decode(codes, label_maps)

    def judge(generated: Tensor) -> list[list[tuple[Tensor, ...]]]:
        features = discriminator(torch.cat([generated, images]), label_maps.repeat(2, 1, 1))
        return [[layer.chunk(2) for layer in scale] for scale in features]

    def step() -> float:
        if form != "published":  # what the generator is judged by takes no gradients of its own
            discriminator.requires_grad_(False)
        generated = reconstruct()
        features = judge(generated)
        fake, real = ([[layer[side] for layer in scale] for scale in features] for side in (0, 1))
        loss = losses.hinge_generator([scale[-1] for scale in fake]) + 10 * losses.feature_matching(
            real, fake
        )
        loss = loss + 10 * losses.perceptual(vgg, generated, images, VGG19Features.WEIGHTS)
        _descend(optimizers[0], loss)
        discriminator.requires_grad_(True)
        if form != "ours":
            with torch.no_grad():
                generated = reconstruct()
        features = judge(generated.detach())
        fake_scores, real_scores = ([scale[-1][side] for scale in features] for side in (0, 1))
        _descend(optimizers[1], losses.hinge_discriminator(real_scores, fake_scores))
        return loss.item()

    return step


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
