"""A user's own classifier as the decision model: how its file is opened, and what its numbers mean."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError

# Of a probability: the logit of what rounds to 0 or 1 in float32 would be infinite, and have no gradient.
SMALLEST_PROBABILITY = 1e-7


class OwnClassifier(nn.Module):
    """Any network of images, as decision models are: images (B, 3, H, W) in [-1, 1] -> logits (B, K).

    network: RGB images, normalised -> (B, K), or (B,) where K is 1.
    mean, std: of RGB in [0, 1], by which its images are normalised; or value_range: what black and white are to it.
    input_size: (H, W) to which images are resized for it, differentiably; None = as they come.
    probabilities: it gives probabilities; their logits are taken, of a sigmoid with `output`, of a softmax without.
    output: which of K binary heads is explained, whose two sides class_names names; None = K classes that exclude each
    other, named in their order, or not at all (None).
    image_size: (H, W) of the images to be explained, on which the whole is tried once (see `check`); None = not yet.
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
        self.network = network
        scale, shift = _normalisation(mean, std, value_range)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.input_size = None if input_size is None else _pair(input_size)
        self.probabilities, self.output = probabilities, output
        self.one_by_one = False  # for networks that take one image only
        self.seem_probabilities = False  # though it is not said that they are
        if image_size is not None:
            self.check(_pair(image_size), class_names)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1]."""
        if self.input_size not in (None, tuple(images.shape[2:])):
            images = F.interpolate(images, self.input_size, mode="bilinear", antialias=True)
        images = images * self.scale + self.shift
        outputs: Tensor
        if self.one_by_one:
            outputs = torch.cat([self._outputs(image) for image in torch.split(images, 1)])
        else:
            outputs = self._outputs(images)
        if not self.probabilities:
            return outputs
        outputs = outputs.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return outputs.log() if self.output is None and outputs.shape[1] > 1 else outputs.logit()

    @torch.enable_grad()
    def check(self, image_size: tuple[int, int], class_names: Sequence[str] | None) -> None:
        """Ask the network about noise of this size, and for the gradient; raises InputError where a search could not.

        A network that takes no batch of two is from then on asked image by image.
        """
        was_training = self.network.training
        self.eval()
        images = torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        images.requires_grad_()
        try:
            alone = self(images[:1]).detach()
            try:
                outputs = self(images)
            except Exception:  # whatever a network of others raises for two
                self.one_by_one = True
                outputs = self(images)
        except InputError:
            raise
        except Exception as error:  # or for an image that it cannot take
            asked = "x".join(map(str, (3, *(self.input_size or image_size))))
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]  # TorchScript's trace comes first
            remedy = "does decision.input_size=[height,width] say what it takes?"
            raise InputError(f"decision: the model cannot take an image of {asked} ({reason}); {remedy}") from None
        self._check_outputs(outputs.detach(), alone, class_names)
        self.seem_probabilities = not self.probabilities and bool(((outputs >= 0) & (outputs <= 1)).all())
        asked_for = outputs[:, self.output or 0].sum()
        gradient = torch.autograd.grad(asked_for, [images], allow_unused=True)[0] if asked_for.requires_grad else None
        if gradient is None or not gradient.any():
            raise InputError(
                "decision: no gradient reaches the image, so nothing can be searched; does the model round or detach?"
            )
        if not gradient.isfinite().all():
            raise InputError("decision: the gradient that reaches the image is not finite")
        self.network.train(was_training)

    def _check_outputs(self, outputs: Tensor, alone: Tensor, class_names: Sequence[str] | None) -> None:
        """outputs: (2, K). alone: (1, K), of the first image by itself."""
        count = outputs.shape[1]
        if not outputs.isfinite().all():
            raise InputError("decision: the model gives NaN or infinity for noise; is its normalisation right?")
        if not torch.allclose(outputs[:1], alone, rtol=1e-2, atol=1e-3):
            raise InputError(
                "decision: the model says otherwise of an image asked about again: was it saved in training mode?"
            )
        if self.output is not None and not 0 <= self.output < count:
            raise InputError(f"decision.output={self.output} is none of the model's outputs, 0..{count - 1}")
        named = None if class_names is None else len(class_names)
        needed = 2 if self.output is not None or count == 1 else count
        if named not in (None, needed):
            kind = "the two sides of a binary output" if needed == 2 and count != 2 else f"its {count} outputs"
            hint = "" if self.output is not None else " (one of several binary outputs: decision.output=NUMBER)"
            raise InputError(f"decision.class_names must name {kind}, {needed} names, got {named}{hint}")

    def _outputs(self, images: Tensor) -> Tensor:
        """(B, K), as the network gives them."""
        outputs = self.network(images)
        if not isinstance(outputs, Tensor):
            raise InputError(f"decision: the model must give one tensor, got {type(outputs).__name__}; wrap it")
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        if outputs.ndim != 2 or len(outputs) != len(images) or not outputs.is_floating_point():
            found = f"{outputs.dtype} {tuple(outputs.shape)}"
            raise InputError(f"decision: the model must give numbers (images, outputs), got {found}; wrap it")
        return outputs


class _Foreign(nn.Module):
    """A network that was saved with its code: it stays in the mode that it was saved in."""

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Whatever the network gives."""
        return self.network(images)

    def train(self, mode: bool = True) -> "_Foreign":
        """No mode reaches the network: an exported one refuses to be told."""
        self.training = mode
        return self


def torchvision_classifier(arch: str, num_outputs: int) -> nn.Module:
    """A classifier of torchvision.models with so many outputs, untrained; raises InputError for another arch."""
    if arch not in torchvision.models.list_models(torchvision.models):
        raise InputError(f"decision.arch={arch} is none of torchvision's classifiers, such as resnet50, densenet121")
    unused = {"init_weights": False} if arch in ("googlenet", "inception_v3") else {}  # they take minutes to draw
    network: nn.Module = getattr(torchvision.models, arch)(weights=None, num_classes=num_outputs, **unused)
    return network


def torchscript_classifier(path: str) -> nn.Module:
    """A TorchScript file, in evaluation mode. Its code is run: open none that you do not trust.

    Raises InputError for a file that is missing or is none.
    """
    load: Callable[[str], Any] = torch.jit.load  # which torch does not type
    network = _opened(path, "a TorchScript file (torch.jit.save)", lambda: load(path))
    return _Foreign(network.eval())


def exported_classifier(path: str) -> nn.Module:
    """A file of torch.export, in the mode in which it was exported. Its code is run: open none that you do not trust.

    Its tensors are read without unpickling objects. Raises InputError for a file that is missing or is none.
    """
    if Path(path).suffix != ".pt2":
        raise InputError(f"{path}: a file of torch.export must be called .pt2")
    with _tensors_only():
        program = _opened(path, "a file of torch.export.save", lambda: torch.export.load(path))
    return _Foreign(program.module())


def onnx_classifier(path: str) -> nn.Module:
    """An ONNX file as a torch network, which is differentiable, by onnx2torch.

    Raises InputError for a file that is missing, is none, or has an operator that cannot be converted, and where
    onnx2torch is not installed.
    """
    try:
        from onnx2torch import convert
    except ImportError:
        raise InputError("+decision=onnx needs onnx2torch: pip install 'cfexp[onnx]', or onnx2torch itself") from None
    network: nn.Module = _opened(path, "an ONNX file that onnx2torch can convert", lambda: convert(path))
    return network


def _opened(path: str, expected: str, load: Callable[[], Any]) -> Any:
    if not Path(path).is_file():
        raise InputError(f"decision.path={path}: no such file")
    try:
        return load()
    # A foreign or damaged file makes the readers raise nearly anything, in many lines.
    except Exception as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise InputError(f"decision.path={path} is not {expected}: {type(error).__name__}, {reason}") from None


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch.export reads pickled tensors with all that a pickle may do, and logs its failures: neither, within this."""
    name, disabled = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", logging.root.manager.disable
    before = os.environ.get(name)
    os.environ[name] = "1"
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, value_range: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """What images in [-1, 1] are multiplied by, and what is then added, (1 or 3, 1, 1) each."""
    if (mean is None) != (std is None) or (mean is None) == (value_range is None):
        ways = "decision.mean=[r,g,b] decision.std=[r,g,b], of RGB in [0, 1], or decision.value_range=[black,white]"
        raise InputError(f"decision: say how the model's images are normalised, in one way: {ways}")
    if value_range is not None:
        black, white = _pair(value_range)
        return torch.tensor([(white - black) / 2])[:, None, None], torch.tensor([(white + black) / 2])[:, None, None]
    assert mean is not None
    assert std is not None
    if len(mean) not in (1, 3) or len(std) not in (1, 3) or min(std) <= 0:
        raise InputError(
            f"decision.mean and decision.std must be 3 numbers, std above 0, got {list(mean)} and {list(std)}"
        )
    deviation = torch.tensor(list(std))[:, None, None]
    return 0.5 / deviation, (0.5 - torch.tensor(list(mean))[:, None, None]) / deviation


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    if len(values) != 2:
        raise InputError(f"decision: expected two numbers, got {list(values)}")
    first, second = values
    return first, second
