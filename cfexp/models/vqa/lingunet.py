"""The counterfactual generator g : (I, Q, A) -> I' (Pan, Goyal, Lee 2019): a LingUNet on question
and answer.
"""

import math
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError

Upsampling = Literal["bilinear", "nearest", "transposed"]


class LingUNet(nn.Module):
    """A U-Net whose skip connections are 1x1 convolutions with kernels made from text (Misra et al.
    2018, section 4.1).

        F_1 = enc_1(image),  F_j = enc_j(F_{j-1})             kernel 5, stride 2, each
        G_j = F_j * K_j,     K_j = normalise(W_j t_j)         t_j: the j-th slice of the text
        H_m = dec_m(G_m),    H_j = dec_j([G_j; H_{j+1}])      each twice the size

    The text kernels are normalised as a whole, and scaled by sqrt(channels) so that G_j keeps F_j's
    scale. Instance normalisation after every level but the innermost, as in the authors' code.
    Deviation: the decoder resizes and convolves (kernel 3), and its last level sees the image once
    more; `upsampling="transposed"` is the published transposed convolution (kernel 5, stride 2).
    One more convolution makes the result.

    condition_dim: size of the text. depth: the number m of levels. channels: of every F_j and H_j.
    text_channels: of every G_j. edit_scale: 2 computes the result at half the image's size and
    enlarges it.
    """

    def __init__(
        self,
        condition_dim: int,
        out_channels: int,
        depth: int = 4,
        channels: int = 32,
        text_channels: int = 16,
        slice_dim: int = 64,
        upsampling: Upsampling = "bilinear",
        edit_scale: int = 1,
    ) -> None:
        """Raises InputError for an unknown upsampling, or an edit_scale other than 1 and 2."""
        super().__init__()
        if upsampling not in ("bilinear", "nearest", "transposed"):
            raise InputError(
                f"upsampling must be bilinear, nearest or transposed, got {upsampling}"
            )
        if edit_scale not in (1, 2):
            raise InputError(f"edit_scale must be 1 or 2, got {edit_scale}")
        self.depth, self.channels, self.text_channels = depth, channels, text_channels
        self.upsampling, self.edit_scale = upsampling, edit_scale
        # The innermost level decodes G_m alone, the others G_j beside H_{j+1}, the last of them the
        # image too.
        decoded = [text_channels + channels * (level < depth - 1) for level in range(depth)]
        self.encoders = nn.ModuleList(
            nn.Conv2d(channels if level else 3, channels, 5, stride=2, padding=2)
            for level in range(depth)
        )
        self.slices = nn.Linear(condition_dim, depth * slice_dim)
        self.kernels = nn.ModuleList(
            nn.Linear(slice_dim, channels * text_channels) for _ in range(depth)
        )
        if upsampling == "transposed":
            self.decoders = nn.ModuleList(
                nn.ConvTranspose2d(width, channels, 5, stride=2, padding=2, output_padding=1)
                for width in decoded
            )
            self.result = nn.Conv2d(channels + 3, out_channels, 3, padding=1)
        else:
            decoded[0] += 3
            self.decoders = nn.ModuleList(
                nn.Conv2d(width, channels, 3, padding=1) for width in decoded
            )
            self.result = nn.Conv2d(channels, out_channels, 3, padding=1)
        # A small start: the first edits are nearly none.
        nn.init.normal_(self.result.weight, std=0.01)
        nn.init.constant_(self.result.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """(B, out_channels, H, W), unbounded, of image (B, 3, H, W) and condition (B,
        condition_dim).

        Raises InputError if H or W is no multiple of 2 ** depth.
        """
        if any(side % 2**self.depth for side in image.shape[2:]):
            size = "x".join(map(str, image.shape[2:]))
            problem = f"needs sides divisible by {2**self.depth}, got {size}"
            raise InputError(f"a generator of depth {self.depth} {problem}")
        # Channels last throughout: on a CPU a step of training takes two thirds of the time.
        image = image.contiguous(memory_format=torch.channels_last)
        levels = self._encode(image)
        texts = _activation(self.slices(condition)).chunk(self.depth, dim=1)
        decoded: Tensor | None = None
        for level in reversed(range(self.depth)):
            shape = (len(image), self.text_channels, self.channels)
            kernel = F.normalize(self.kernels[level](texts[level]), dim=1).view(shape) * math.sqrt(
                self.channels
            )
            filtered = torch.einsum("boi,bhwi->bhwo", kernel, levels[level].movedim(1, -1)).movedim(
                -1, 1
            )
            joined = filtered if decoded is None else torch.cat([filtered, decoded], dim=1)
            decoded = self._decode(level, joined, image)
        result: Tensor = self.result(decoded)
        return _enlarge(result, "bilinear") if self.edit_scale > 1 else result

    def _encode(self, image: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            features = _activation(encoder(levels[-1] if levels else image))
            innermost = level == self.depth - 1
            levels.append(features if innermost else _instance_norm(features))
        return levels

    def _decode(self, level: int, features: Tensor, image: Tensor) -> Tensor:
        """H_j from [G_j; H_{j+1}]; the last one, at the result's size, sees the image."""
        if level > 0:
            return _instance_norm(_activation(self._enlarged(level, features)))
        small = F.avg_pool2d(image, 2) if self.edit_scale == 2 else image
        if self.upsampling == "transposed":
            features = _activation(self.decoders[0](features))
            features = F.avg_pool2d(features, 2) if self.edit_scale == 2 else features
            return torch.cat([features, small], dim=1)
        features = features if self.edit_scale == 2 else _enlarge(features, self.upsampling)
        # The convolution of both joined, as a sum: joined, three channels more cost half as much
        # again.
        last = cast(nn.Conv2d, self.decoders[0])
        of_features, of_image = last.weight[:, :-3], last.weight[:, -3:]
        summed = F.conv2d(features, of_features, last.bias, padding=1)
        return _activation(summed + F.conv2d(small, of_image, padding=1))

    def _enlarged(self, level: int, features: Tensor) -> Tensor:
        if self.upsampling != "transposed":
            features = _enlarge(features, self.upsampling)
        enlarged: Tensor = self.decoders[level](features)
        return enlarged


class Edited(NamedTuple):
    """What the generator makes of B images."""

    image: Tensor  # (B, 3, H, W) in [-1, 1]
    mask: Tensor | None  # (B, 1, H, W) in [0, 1]: where it was edited; None without a mask
    color: Tensor | None  # (B, 3, H, W) in [-1, 1]: what was painted there; None without a mask
    mask_logits: Tensor | None  # (B, 1, H, W), unbounded: the mask before its sigmoid


class CounterfactualGenerator(nn.Module):
    """I' = g(I, Q, A): the image edited for a question and the answer that shall no longer hold.

    The condition is one fully connected layer over the VQA model's question vector beside its
    classifier's weight vector of the answer (both normalised: their scales differ), inside
    `LingUNet`. Without a mask the edit is residual, I' = clamp(I + 2 tanh(o)); with it (the paper's
    stated next step) I' = (1 - m) I + m tanh(o).

    blind: withhold question and answer, the control that shows what the language is good for.
    Further arguments are `LingUNet`'s.
    """

    def __init__(
        self,
        question_dim: int,
        answer_dim: int,
        mask: bool = False,
        blind: bool = False,
        depth: int = 4,
        channels: int = 32,
        text_channels: int = 16,
        upsampling: Upsampling = "bilinear",
        edit_scale: int = 1,
    ) -> None:
        super().__init__()
        self.mask, self.blind = mask, blind
        self.normalise_question = nn.LayerNorm(question_dim, elementwise_affine=False)
        self.normalise_answer = nn.LayerNorm(answer_dim, elementwise_affine=False)
        self.network = LingUNet(
            question_dim + answer_dim,
            out_channels=4 if mask else 3,
            depth=depth,
            channels=channels,
            text_channels=text_channels,
            upsampling=upsampling,
            edit_scale=edit_scale,
        )

    def forward(
        self, image: Tensor, question: Tensor, answer: Tensor, *, unconditioned: bool = False
    ) -> Edited:
        """Edit images (B, 3, H, W) in [-1, 1] for question vectors (B, question_dim), answer
        vectors (B, answer_dim).

        unconditioned: the warm-up's form, in which nothing of question and answer is seen.
        """
        condition = torch.cat(
            [self.normalise_question(question), self.normalise_answer(answer)], dim=1
        )
        if self.blind or unconditioned:
            condition = torch.zeros_like(condition)
        output = self.network(image, condition)
        # tanh is twice as steep here and the sigmoid four times: from the small start, colours are
        # near grey and masks near a quarter, and an optimizer of lr 1e-3 moves both within some
        # hundred steps.
        if not self.mask:
            return Edited((image + 2 * output.tanh()).clamp(-1, 1), None, None, None)
        mask_logits = 4 * output[:, 3:] - 1
        mask = torch.sigmoid(mask_logits)
        color = (2 * output[:, :3]).tanh()
        return Edited((1 - mask) * image + mask * color, mask, color, mask_logits)


def _instance_norm(features: Tensor) -> Tensor:
    """As `F.instance_norm`, which would leave channels-last."""
    return F.group_norm(features, features.shape[1])


def _activation(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2)


def _enlarge(features: Tensor, mode: str) -> Tensor:
    return F.interpolate(
        features, scale_factor=2, mode=mode, align_corners=False if mode == "bilinear" else None
    )
