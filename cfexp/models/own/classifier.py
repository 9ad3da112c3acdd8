"""A user's own classifier as the decision model: what its numbers mean, and whether a search can
use it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.classifier_files import (
    exported_classifier,
    onnx_classifier,
    torchscript_classifier,
    torchvision_classifier,
)
from cfexp.models.loading.pretrained import freeze

__all__ = [
    "OwnClassifier",
    "exported_classifier",
    "onnx_classifier",
    "torchscript_classifier",
    "torchvision_classifier",
]

# Of a probability: the logit of what rounds to 0 or 1 in float32 would be infinite, and have no
# gradient.
SMALLEST_PROBABILITY = 1e-7
# How far noise is moved along the gradient to see whether an output ever leaves 0..1, in the
# images' unit: a logit does so sooner or later, as images may be brighter than white here.
PUSHES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
MOST_OF_UNIT = 10.0  # a mean or deviation above this is of 0..255


class OwnClassifier(nn.Module):
    """Any network of images, as decision models are: images (B, 3, H, W) in [-1, 1] -> logits (B,
    K).

    network: RGB images, normalised -> (B, K), or (B,) where K is 1. mean, std: of RGB in [0, 1], by
    which its images are normalised; or value_range: what black and white are to it. input_size: (H,
    W) to which images are resized for it, differentiably; None = as they come. probabilities: it
    gives probabilities; their logits are taken, of a sigmoid with `output`, of a softmax without.
    output: which of K binary heads is explained, whose two sides class_names names; None = K
    classes that exclude each other, named in their order, or not at all (None). image_size: (H, W)
    of the images to be explained, on which the whole is tried once (see `check`); None = not yet.

    The network is frozen: evaluation mode, and no gradient but the images'. `notes` are what
    `check` found that a user should know, a line each; every door says them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        value_range: Sequence[float] | None = None,
        input_size: Sequence[int] | None = None,
        probabilities: bool = False,
        output: int | None = None,
        class_names: Sequence[str] | None = None,
        image_size: Sequence[int] | None = None,
    ) -> None:
        """Raises InputError for a normalisation that is not said, or twice, and as `check`."""
        super().__init__()
        self.network = freeze(network)
        scale, shift = normalisation(mean, std, value_range)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.input_size = None if input_size is None else size_of(input_size)
        self.probabilities, self.output = probabilities, output
        self.num_outputs = 0  # K; 0 = not asked yet
        self.one_by_one = False  # for networks that take one image only
        self.seem_probabilities = False  # though it is not said that they are
        self.notes: list[str] = []
        if isinstance(class_names, str) or len(set(class_names or ())) < len(class_names or ()):
            raise InputError(
                f"decision.class_names must be a list of different names, got {class_names}"
            )
        if image_size is not None:
            self.check(size_of(image_size), class_names)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1]."""
        outputs = self._as_given(images)
        if not self.probabilities:
            return outputs
        outputs = outputs.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return outputs.log() if self.output is None and outputs.shape[1] > 1 else outputs.logit()

    def _as_given(self, images: Tensor) -> Tensor:
        """What the network gives, (B, K), of images (B, 3, H, W) in [-1, 1]."""
        if self.input_size not in (None, tuple(images.shape[2:])):
            images = F.interpolate(images, self.input_size, mode="bilinear", antialias=True)
        images = images * self.scale + self.shift
        if self.one_by_one:
            return torch.cat([self._outputs(image) for image in torch.split(images, 1)])
        return self._outputs(images)

    @torch.enable_grad()
    def check(self, image_size: tuple[int, int], class_names: Sequence[str] | None) -> None:
        """Ask the network about noise of this size, and for the gradient; raises InputError where a
        search could not.

        A network that takes no batch of two is from then on asked image by image.
        """
        images = torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        images[1] = (
            images[1] / 4 - 0.5
        )  # of other statistics, by which batch norm in training mode is found out
        images.requires_grad_()
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        try:
            alone = self(images[:1]).detach()
            try:
                given = self._as_given(images)
            except Exception:  # whatever a network of others raises for two
                self.one_by_one = True
                given = self._as_given(images)
        except InputError:
            raise
        except Exception as error:  # or for an image that it cannot take
            asked = "x".join(map(str, (3, *(self.input_size or image_size))))
            reason = (str(error).strip() or type(error).__name__).splitlines()[
                -1
            ]  # TorchScript's trace comes first
            raise InputError(
                f"decision: the model cannot take an image of {asked} ({reason}); {self._remedy()}"
            ) from None
        for name, buffer in self.network.named_buffers():
            if not torch.equal(before[name].nan_to_num(), buffer.nan_to_num()):
                remedy = "it was saved in training mode; save it again after network.eval()"
                raise InputError(
                    f"decision: the model changes its own {name} when it is asked: {remedy}"
                )
        self._check_outputs(given.detach(), class_names)
        logits = self(images)
        if not torch.allclose(logits[:1].detach(), alone, rtol=1e-2, atol=1e-3):
            says = "says otherwise of an image asked about again"
            raise InputError(f"decision: the model {says}: was it saved in training mode?")
        gradient = self._gradient(images, logits)
        self._note_probabilities(images.detach(), given.detach(), gradient, class_names)
        if self.one_by_one:
            self.notes.append("decision: the model takes one image at a time, which is slower")

    def _remedy(self) -> str:
        """What to do where the network cannot take an image."""
        types = {tensor.dtype for tensor in self.network.parameters() if tensor.is_floating_point()}
        if other := types - {torch.float32}:
            return f"its weights are {', '.join(map(str, other))}: save it after network.float()"
        return "does decision.input_size=[height,width] say what it takes?"

    def _check_outputs(self, outputs: Tensor, class_names: Sequence[str] | None) -> None:
        """outputs: (2, K), as the network gives them."""
        self.num_outputs = count = outputs.shape[1]
        if not outputs.isfinite().all():
            raise InputError(
                "decision: the model gives NaN or infinity for noise; is its normalisation right?"
            )
        if self.output is not None and (
            type(self.output) is not int or not 0 <= self.output < count
        ):
            raise InputError(
                f"decision.output={self.output} is none of the model's outputs, 0..{count - 1}"
            )
        low, high = outputs.min().item(), outputs.max().item()
        if self.probabilities and (low < -SMALLEST_PROBABILITY or high > 1 + SMALLEST_PROBABILITY):
            problem = f"the model's outputs are no probabilities: {low:.3g}..{high:.3g} for noise"
            raise InputError(
                f"decision: {problem}; leave decision.probabilities=true out, they are logits"
            )
        named = None if class_names is None else len(class_names)
        needed = 2 if self.output is not None or count == 1 else count
        if named not in (None, needed):
            kind = (
                "the two sides of a binary output"
                if needed == 2 and count != 2
                else f"its {count} outputs"
            )
            hint = (
                ""
                if self.output is not None
                else " (one of several binary outputs: decision.output=NUMBER)"
            )
            raise InputError(
                f"decision.class_names must name {kind}, {needed} names, got {named}{hint}"
            )

    def _gradient(self, images: Tensor, logits: Tensor) -> Tensor:
        """That of what is explained, or of all classes, (2, 3, H, W); raises InputError where there
        is none.
        """
        # Of a softmax the plain sum is always 1; and any one class alone may be off.
        weights = torch.arange(1.0, logits.shape[1] + 1)
        asked_for = (
            (logits * weights).sum() if self.output is None else logits[:, self.output].sum()
        )
        nothing = "decision: no gradient reaches the image, so nothing can be searched"
        if not asked_for.requires_grad:
            without = "computes its outputs without (detach, no_grad, numpy, argmax, uint8)"
            saved = "saved after torch.jit.optimize_for_inference; save it as it was before that"
            raise InputError(f"{nothing}: the model {without}, is quantised, or was {saved}")
        try:
            gradient = torch.autograd.grad(asked_for, [images], allow_unused=True)[0]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"{nothing} ({reason}): is the model quantised, or made for inference only?"
            ) from None
        if gradient is None or not gradient.any():
            cause = "does it round or compare its image, or do its outputs saturate?"
            raise InputError(f"{nothing}: is the model quantised, {cause}")
        if not gradient.isfinite().all():
            raise InputError("decision: the gradient that reaches the image is not finite")
        return gradient

    def _note_probabilities(
        self, images: Tensor, outputs: Tensor, gradient: Tensor, class_names: Sequence[str] | None
    ) -> None:
        """Note outputs (2, K) that look like probabilities; raises InputError for one side that is
        never decided.
        """
        explained = outputs if self.output is None else outputs[:, self.output, None]
        if self.probabilities or not _within_unit(explained):
            return
        if explained.shape[1] > 1:
            remedy = "if they are probabilities, decision.probabilities=true"
            line = f"decision: the model's outputs all lie in 0..1; {remedy}"
            sums_to_1 = torch.allclose(explained.sum(1), torch.ones(2), atol=1e-3)
            several = (
                ""
                if sums_to_1
                else " (of several binary ones decision.output=NUMBER says which is explained)"
            )
            self.seem_probabilities = True
            self.notes.append(line + several)
            return
        with torch.no_grad():
            for push in (sign * size for size in PUSHES for sign in (-1, 1)):
                pushed = self._as_given(images + push * gradient.sign())[:, self.output or 0]
                if not _within_unit(pushed[pushed.isfinite()]):
                    return
        below = "one side" if class_names is None else repr(class_names[0])
        never = f"{below} (below 0) could never be decided"
        raise InputError(
            f"decision: the model's output lies in 0..1 whatever it is shown, so {never}; "
            "if it is a probability, give decision.probabilities=true"
        )

    def _outputs(self, images: Tensor) -> Tensor:
        """(B, K), as the network gives them."""
        outputs = self.network(images)
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"decision: the model must give one tensor, got {type(outputs).__name__}; wrap it"
            )
        if not outputs.is_floating_point():
            gives = f"{outputs.dtype}, no logits or probabilities"
            remedy = "have it give what it has before argmax, rounding or quantisation"
            raise InputError(f"decision: the model gives {gives}: {remedy}")
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        if outputs.ndim != 2 or len(outputs) != len(images) or outputs.shape[1] == 0:
            found = f"{outputs.dtype} {tuple(outputs.shape)}"
            raise InputError(
                f"decision: the model must give numbers (images, outputs), got {found}; wrap it"
            )
        return outputs


def normalisation(
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    value_range: Sequence[float] | None,
    whose: str = "decision",
) -> tuple[Tensor, Tensor]:
    """What images in [-1, 1] are multiplied by, and what is then added, (1 or 3, 1, 1) each.

    whose: the group of settings that messages name. Raises InputError for none of the two, or both.
    """
    if (mean is None) != (std is None) or (mean is None) == (value_range is None):
        of_rgb = f"{whose}.mean=[r,g,b] {whose}.std=[r,g,b], of RGB in [0, 1]"
        ways = f"{of_rgb}, or {whose}.value_range=[black,white]"
        raise InputError(f"{whose}: say how the model's images are normalised, in one way: {ways}")
    if value_range is not None:
        black, white = _pair(value_range)
        if not _are_finite(value_range) or black == white:
            problem = f"must be two different numbers, [black,white], got {[black, white]}"
            raise InputError(f"{whose}.value_range {problem}")
        return torch.tensor([(white - black) / 2])[:, None, None], torch.tensor(
            [(white + black) / 2]
        )[:, None, None]
    assert mean is not None
    assert std is not None
    given = f"got {list(mean)} and {list(std)}"
    if (
        len(mean) not in (1, 3)
        or len(std) not in (1, 3)
        or not _are_finite([*mean, *std])
        or min(std) <= 0
    ):
        raise InputError(f"{whose}.mean and {whose}.std must be 3 numbers, std above 0, {given}")
    if max(map(abs, [*mean, *std])) > MOST_OF_UNIT:
        problem = f"are of RGB in [0, 1], {given}; of 0..255 divide them by 255"
        raise InputError(f"{whose}.mean and {whose}.std {problem}")
    deviation = torch.tensor(list(std))[:, None, None]
    return 0.5 / deviation, (0.5 - torch.tensor(list(mean))[:, None, None]) / deviation


def _are_finite(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _within_unit(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def size_of(values: Sequence[Any]) -> tuple[int, int]:
    """Height and width, as a user gives them; raises InputError."""
    height, width = _pair(values)
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        problem = f"must be two whole numbers above 0, [height,width], got {[height, width]}"
        raise InputError(f"decision: a size {problem}")
    return height, width


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    if isinstance(values, str) or len(values) != 2:
        raise InputError(f"decision: expected two numbers, got {list(values)}")
    first, second = values
    return first, second
