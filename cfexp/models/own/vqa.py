"""A VQA model of a user's own as the decision model: what it must be, and whether an explainer can
use it.

The contract. A module `network` with

    answers                        K different strings, what its outputs stand for
    network(images, questions)     images (B, 3, H, W) in [-1, 1], RGB, and B strings -> logits
                                   (B, K) of answers that exclude each other, in float,
                                   differentiable in the images

and, if it has them, for generators that are told the question and the answer:

    encode_questions(questions)    B strings -> (B, D) float
    answer_vectors                 (K, E) float, one for each answer

Without the last two, texts are told apart by `hashed_text`: deterministic on every machine, and
alike where words are.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze

HASHED = 256  # the size of a hashed text: the bits of SHA-256
_ASKED = ("what color is the thing in the middle?", "how many people are there?")  # of the check


class Question(NamedTuple):
    """B questions, as a VQA model reads them."""

    vector: Tensor  # (B, D), what generators are told of them
    text: tuple[str, ...]  # B strings; empty where nobody knows them


def hashed_text(texts: Sequence[str]) -> Tensor:
    """Vectors (B, 256) of texts: of each word and each pair of words the bits of its SHA-256 as 1
    and -1, averaged.

    Words are runs of letters and digits, in lower case; averaged means divided by the square root
    of their number, so that every component has a variance of about 1.
    """
    return torch.stack([_hashed(text) for text in texts]) if texts else torch.zeros(0, HASHED)


class OwnVQAModel(nn.Module):
    """A network of a user's own in the form that explainers ask: see this module's docstring.

    network: as there; frozen here. image_size: the side of the images to be explained, on which the
    whole is tried once (see `check`); None = not yet. `notes` are what `check` found that a user
    should know, a line each.
    """

    answer_embeddings: Tensor

    def __init__(self, network: nn.Module, image_size: int | None = None) -> None:
        """Raises InputError as `answers_of` and `check`."""
        super().__init__()
        self.network, self.answers = freeze(network), answers_of(network)
        self.notes: list[str] = []
        vectors = getattr(network, "answer_vectors", None)
        vectors = hashed_text(self.answers) if vectors is None else vectors
        if (
            not isinstance(vectors, Tensor)
            or vectors.ndim != 2
            or len(vectors) != len(self.answers)
        ):
            found = (
                f"{tuple(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
            )
            raise InputError(
                f"decision: answer_vectors must be a tensor ({len(self.answers)}, E), got {found}"
            )
        self.register_buffer(
            "answer_embeddings", vectors.detach().float().clone(), persistent=False
        )
        self.question_dim = self._vectors(_ASKED).shape[1]
        if image_size is not None:
            self.check(image_size)

    def ask(self, question: Tensor, question_length: Tensor, text: Sequence[str]) -> Question:
        """The questions of a batch; of its word ids (B, T) and lengths (B,) nothing is used, as the
        network reads text.

        Raises InputError where the text is not known.
        """
        if len(text) != len(question):
            raise InputError(
                "a VQA model of one's own reads questions as text, which this batch does not have"
            )
        return Question(self._vectors(text).to(self.answer_embeddings), tuple(text))

    def decide(self, image: Tensor, question: Question) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1] for B questions."""
        return self._outputs(image, question.text)

    def train(self, mode: bool = True) -> "OwnVQAModel":
        """It stays in evaluation mode."""
        return super().train(False)

    @torch.enable_grad()
    def check(self, image_size: int) -> None:
        """Ask the network about noise of this size; raises InputError where an explainer could not
        use what it says.
        """
        images = (
            torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)) * 2
            - 1
        )
        images[1] = (
            images[1] / 4 - 0.5
        )  # of other statistics, by which batch norm in training mode is found out
        images.requires_grad_()
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        try:
            logits = self._outputs(images, _ASKED)
            alone = self._outputs(images[:1], _ASKED[:1]).detach()
            same_question = self._outputs(images, _ASKED[:1] * 2).detach()
        except InputError:
            raise
        except Exception as error:  # whatever a network of others raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            asked = f"images (2, 3, {image_size}, {image_size}) and 2 questions"
            raise InputError(
                f"decision: the model cannot be asked about {asked} ({reason})"
            ) from None
        changed = [
            name
            for name, each in self.network.named_buffers()
            if not torch.equal(before[name], each)
        ]
        if changed or not torch.allclose(logits[:1].detach(), alone, rtol=1e-2, atol=1e-3):
            says = "says otherwise of an image asked about again, or changes when it is asked"
            cause = "is a part of it in training mode, or does it draw random numbers?"
            raise InputError(f"decision: the model {says}: {cause}")
        if torch.equal(same_question[0], same_question[1]):
            says = "says exactly the same of two different images"
            raise InputError(f"decision: the model {says}: it does not see them")
        if torch.equal(same_question[1], logits[1].detach()):
            says = "says exactly the same to two different questions about an image"
            self.notes.append(f"decision: the model {says}")
        self._check_gradient(images, logits)

    def _check_gradient(self, images: Tensor, logits: Tensor) -> None:
        nothing = "decision: no gradient reaches the image, so nothing can be explained"
        if not logits.requires_grad:
            without = "computes its logits without (detach, no_grad, numpy, PIL, uint8)"
            raise InputError(f"{nothing}: the model {without}")
        (gradient,) = torch.autograd.grad(
            logits[:, 0].sum() - logits[:, -1].sum(), [images], allow_unused=True
        )
        if gradient is None or not gradient.any():
            raise InputError(f"{nothing}: does the model round or compare its image?")
        if not gradient.isfinite().all():
            raise InputError("decision: the gradient that reaches the image is not finite")

    def _vectors(self, questions: Sequence[str]) -> Tensor:
        encode = getattr(self.network, "encode_questions", None)
        if encode is None:
            return hashed_text(questions)
        found = encode(list(questions))
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(questions):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"decision: encode_questions must give a tensor ({len(questions)}, D), got {shape}"
            )
        return found.detach()

    def _outputs(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        outputs = self.network(images, list(questions))
        wanted = (len(images), len(self.answers))
        if (
            not isinstance(outputs, Tensor)
            or not outputs.is_floating_point()
            or tuple(outputs.shape) != wanted
        ):
            found = (
                f"{outputs.dtype} {tuple(outputs.shape)}"
                if isinstance(outputs, Tensor)
                else type(outputs).__name__
            )
            expected = f"float logits {wanted}, a column an answer"
            raise InputError(f"decision: the model must give {expected}, got {found}")
        if not outputs.isfinite().all():
            raise InputError("decision: the model gives NaN or infinity")
        return outputs


class StandIn(nn.Module):
    """In place of a model of a user's own, where only the sizes of other networks are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.question_dim = HASHED
        self.register_buffer("answer_embeddings", torch.zeros(4, HASHED), persistent=False)

    def decide(self, image: Tensor, question: Question) -> Tensor:
        """Logits (B, 4)."""
        return image.flatten(1)[:, :4]


def answers_of(network: Any) -> list[str]:
    """What the outputs of a network stand for; raises InputError where it does not say, or not in
    different strings.
    """
    answers = getattr(network, "answers", None)
    listed = [] if answers is None or isinstance(answers, str) else list(answers)
    if (
        len(listed) < 2
        or len(set(listed)) < len(listed)
        or not all(isinstance(each, str) for each in listed)
    ):
        name = type(network).__name__
        problem = f"must be at least two different strings, got {str(answers)[:60]}"
        raise InputError(f"decision: {name}.answers {problem}")
    return cast(list[str], listed)


def _hashed(text: str) -> Tensor:
    words = re.findall(r"\w+", text.lower())
    parts = [*words, *(f"{first} {second}" for first, second in pairwise(words))] or [""]
    digests = b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
    bits = (
        torch.tensor(list(digests), dtype=torch.uint8).reshape(len(parts), -1, 1) >> torch.arange(8)
        & 1
    )
    signs = bits.flatten(1).float() * 2 - 1
    return signs.sum(0) / torch.tensor(float(len(parts))).sqrt()
