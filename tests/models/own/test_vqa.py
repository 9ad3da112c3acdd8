"""A VQA model of one's own: what is asked of it, what it may leave out, and what is refused."""

import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.own.vqa import HASHED, OwnVQAModel, hashed_text


class ByColor(nn.Module):
    """Answers by the mean colour; "is" asks for another answer than any other word."""

    answers = ("red", "green", "blue")

    def __init__(self, gain: float = 4.0) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(gain * torch.eye(3))

    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        shift = torch.tensor([[float("color" in question), 0.0, 0.0] for question in questions])
        logits: Tensor = self.layer(images.mean((2, 3))) + shift.to(images)
        return logits


class WithEncodings(ByColor):
    answer_vectors = torch.arange(6.0).reshape(3, 2)

    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(question))] for question in questions])


def test_a_model_without_encodings_has_hashed_ones() -> None:
    model = OwnVQAModel(ByColor(), image_size=16)
    assert (model.notes, model.question_dim, tuple(model.answer_embeddings.shape)) == (
        [],
        HASHED,
        (3, HASHED),
    )
    asked = model.ask(torch.zeros(2, 1), torch.ones(2), ["What color is it?", "Is it?"])
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model.decide(image, asked), ByColor()(image, asked.text))
    assert not model.train().network.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(InputError, match="reads questions as text"):
        model.ask(torch.zeros(2, 1), torch.ones(2), ())


def test_a_models_own_encodings_are_taken() -> None:
    model = OwnVQAModel(WithEncodings(), image_size=16)
    assert model.question_dim == 1
    assert torch.equal(model.answer_embeddings, WithEncodings.answer_vectors)
    assert model.ask(torch.zeros(1, 1), torch.ones(1), ["four"]).vector.tolist() == [[4.0]]


def test_hashed_texts_are_the_same_everywhere_and_alike_where_words_are() -> None:
    vectors = hashed_text(
        ["what color is it", "What color is it?", "what color is that", "how many are there", ""]
    )
    assert vectors.shape == (5, HASHED)
    assert vectors[0, :8].tolist() == pytest.approx(
        [each / 7**0.5 for each in (-7, 1, 1, -3, 3, 3, 3, -1)]
    )
    assert torch.equal(vectors[0], vectors[1])
    near, far = (
        torch.cosine_similarity(vectors[0], other, dim=0) for other in (vectors[2], vectors[3])
    )
    assert near > 0.4 > 0.2 > far.abs()
    assert vectors.std() == pytest.approx(1, abs=0.15)


class Constant(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images * 0, questions)


class Detached(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images.detach(), questions)


class Random(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images, questions) + torch.rand(1)


class OneColumn(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images, questions)[:, 0]


class Nameless(ByColor):
    answers = ("red", "red", "blue")


class Deaf(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images, ["" for _ in questions])


class Broken(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        raise ValueError("cannot\ndo this")


class Undefined(ByColor):
    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        return super().forward(images, questions) / 0


class OddVectors(ByColor):
    answer_vectors = torch.zeros(2, 4)


class OddQuestions(ByColor):
    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        return torch.zeros(4)


@pytest.mark.parametrize(
    ("network", "line"),
    [
        (Constant(), "decision: the model says exactly the same of two different images"),
        (Detached(), "decision: no gradient reaches the image, so nothing can be explained: "),
        (Random(), "decision: the model says otherwise of an image asked about again"),
        (
            OneColumn(),
            "decision: the model must give float logits (2, 3), a column an answer, "
            "got torch.float32 (2,)",
        ),
        (Nameless(), "decision: Nameless.answers must be at least two different strings"),
        (
            nn.Identity(),
            "decision: Identity.answers must be at least two different strings, got None",
        ),
        (
            Broken(),
            "decision: the model cannot be asked about images (2, 3, 16, 16) and 2 questions "
            "(do this)",
        ),
        (Undefined(), "decision: the model gives NaN or infinity"),
        (OddVectors(), "decision: answer_vectors must be a tensor (3, E), got (2, 4)"),
        (OddQuestions(), "decision: encode_questions must give a tensor (2, D), got (4,)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_explained_is_one_line(network: nn.Module, line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(line)}"):
        OwnVQAModel(network, image_size=16)


def test_a_model_that_does_not_hear_the_question_is_noted() -> None:
    assert OwnVQAModel(Deaf(), image_size=16).notes == [
        "decision: the model says exactly the same to two different questions about an image"
    ]
