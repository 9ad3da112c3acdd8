"""A VQA model of Hugging Face's in a folder: a tiny ViLT with random weights, written as its
library writes it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cfexp.errors import InputError
from cfexp.models.own.hugging_face_vqa import HuggingFaceVQA, hugging_face_answers
from cfexp.models.own.vqa import OwnVQAModel

transformers: Any = pytest.importorskip("transformers")
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "what",
    "color",
    "is",
    "it",
    "the",
    "thing",
    "in",
    "middle",
    "?",
    "how",
]


def write_vilt(folder: Path) -> Path:
    """Model, tokenizer and image processor, of images with 32 pixels a side and three answers."""
    folder.mkdir()
    answers = {0: "red", 1: "blue", 2: "2"}
    config = transformers.ViltConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        max_position_embeddings=12,
        id2label=answers,
        label2id={answer: number for number, answer in answers.items()},
    )
    torch.manual_seed(0)
    transformers.ViltForQuestionAnswering(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViltImageProcessor",
        "size": {"shortest_edge": 40},
        "size_divisor": 32,
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_normalize": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vilt(tmp_path_factory.mktemp("hugging_face") / "vilt")


def test_it_is_a_vqa_model_by_the_contract(folder: Path) -> None:
    network = HuggingFaceVQA(str(folder))
    model = OwnVQAModel(network, image_size=48)
    assert (model.answers, model.notes) == (["red", "blue", "2"], [])
    assert hugging_face_answers(str(folder)) == model.answers
    assert model.question_dim == 16
    assert model.answer_embeddings.shape == (3, 32)
    asked = model.ask(torch.zeros(2, 1), torch.ones(2), ["What color is it?", "how many"])
    assert model.decide(torch.rand(2, 3, 32, 32), asked).shape == (2, 3)


def test_images_are_prepared_as_the_library_prepares_them(folder: Path) -> None:
    network = HuggingFaceVQA(str(folder))
    pixels = torch.randint(
        0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    images = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
    tokens = network._tokenizer(["what color is it ?"], return_tensors="pt")
    theirs = network.model(
        pixel_values=images, **tokens
    ).logits  # ViLT's mean and deviation make of RGB [-1, 1]
    torch.testing.assert_close(network(images, ["What color is it?"]), theirs)


def test_what_is_no_such_folder_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        HuggingFaceVQA(str(tmp_path))
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(
        InputError, match=r"^decision\.path=.* holds no model that answers questions \("
    ):
        HuggingFaceVQA(str(tmp_path))
